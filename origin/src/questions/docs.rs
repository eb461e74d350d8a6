//! Questions in the API's description.

use http::HeaderMap;
use serde_json::json;
use utoipa::openapi::{Object, ObjectBuilder, Type};

use super::model::{NewQuestion, Questions};
use crate::{
    cache_policy::CachePolicy,
    describe::{Operation, Shape},
    error::{Entity, Error, FieldError},
    id::Id,
    page::Page,
};

/// `GET /qa/questions`
pub fn list() -> Operation {
    let shape = Shape::of::<Questions<'_>>();
    let example = json!({ "product_id": "2", "results": [{
        "question_id": 37, "question_body": "Why is this product cheaper here than other sites?",
        "question_date": "2018-10-18T00:00:00.000Z", "asker_name": "williamsmith", "question_helpfulness": 4,
        "reported": false,
        "answers": { "68": {
            "id": 68, "body": "We are selling it here without any markup.", "date": "2018-08-18T00:00:00.000Z",
            "answerer_name": "Seller", "helpfulness": 4, "photos": ["https://example.com/68.jpg"],
        } },
    }] });
    let policy = CachePolicy::Questions(Id::Row(2));
    Operation::read(
        "listQuestions",
        "A page of a product's questions, with all answers",
        policy,
        shape,
        &example,
    )
    .about(
        "The most helpful first, of equally helpful ones the newest. Reported questions and \
         answers are left out. A product that is unknown has none.",
    )
    .of_product()
    .paged(Page::ROWS_MAX)
}

/// `POST /qa/questions`
pub fn create() -> Operation {
    let words = [
        ("product_id", "The product's id; of a product that exists."),
        ("body", "The question itself."),
        ("name", "Who asks."),
        ("email", "Who asks; never shown."),
    ];
    let example = json!({ "product_id": 2, "body": "Is it warm?", "name": "maria", "email": "maria@example.com" });
    let unknown = FieldError::new("product_id", "is no product");
    Operation::create::<NewQuestion>("createQuestion", "Ask a question", &words, &example)
        .created(
            Some("/qa/questions/3518964"),
            &["product-2-questions"],
            HeaderMap::new(),
        )
        .or(Error::InvalidBody(Entity::Question, vec![unknown]))
}

/// `PUT /qa/questions/{question_id}/helpful`
pub fn mark_helpful() -> Operation {
    Operation::change(
        "markQuestionHelpful",
        "Say that a question was helpful",
        &["product-2-questions"],
    )
    .about("Adds one, whoever asks.")
}

/// `PUT /qa/questions/{question_id}/report`
pub fn report() -> Operation {
    Operation::change(
        "reportQuestion",
        "Report a question",
        &["product-2-questions"],
    )
    .about("Takes it off the list for good.")
}

/// The schema of what is never true.
pub fn never() -> Object {
    ObjectBuilder::new()
        .schema_type(Type::Boolean)
        .enum_values(Some([false]))
        .description(Some("Always false: a reported question is not sent."))
        .build()
}
