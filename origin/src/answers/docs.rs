//! Answers in the API's description.

use http::HeaderMap;
use serde_json::json;

use super::model::{AnswerPage, NewAnswer};
use crate::{
    cache_policy::CachePolicy,
    describe::{Operation, Shape},
    error::Error,
    id::Id,
    page::Page,
};

/// The groups of a change to an answer.
const GROUPS: [&str; 2] = ["question-37-answers", "product-2-questions"];

/// `GET /qa/questions/{question_id}/answers`
pub fn list() -> Operation {
    let shape = Shape::of::<AnswerPage<'_>>();
    let example = json!({ "question": "37", "page": 1, "count": 5, "results": [{
        "answer_id": 68, "body": "We are selling it here without any markup.", "date": "2018-08-18T00:00:00.000Z",
        "answerer_name": "Seller", "helpfulness": 4, "photos": [{ "id": 7, "url": "https://example.com/68.jpg" }],
    }] });
    let policy = CachePolicy::Answers(Id::Row(37));
    Operation::read(
        "listAnswers",
        "A page of a question's answers",
        policy,
        shape,
        &example,
    )
    .about(
        "The most helpful first, of equally helpful ones the oldest. Reported answers are left \
         out. A question that is unknown has none.",
    )
    .paged(Page::ROWS_MAX)
}

/// `POST /qa/questions/{question_id}/answers`
pub fn create() -> Operation {
    let words = [
        ("body", "The answer itself."),
        ("name", "Who answers."),
        ("email", "Who answers; never shown."),
        (
            "photos",
            "Where the photos are, as texts or as objects with a `url`; empty ones are dropped.",
        ),
    ];
    let example = json!({
        "body": "It is.", "name": "maria", "email": "maria@example.com", "photos": ["https://example.com/1.jpg"],
    });
    Operation::create::<NewAnswer>("createAnswer", "Answer a question", &words, &example)
        .created(Some("/qa/answers/6879307"), &GROUPS, HeaderMap::new())
        .or(Error::UnknownQuestion(Id::Row(99_999_999)))
}

/// `PUT /qa/answers/{answer_id}/helpful`
pub fn mark_helpful() -> Operation {
    Operation::change(
        "markAnswerHelpful",
        "Say that an answer was helpful",
        &GROUPS,
    )
    .about("Adds one, whoever asks.")
}

/// `PUT /qa/answers/{answer_id}/report`
pub fn report() -> Operation {
    Operation::change("reportAnswer", "Report an answer", &GROUPS)
        .about("Takes it off all lists for good.")
}
