//! Sections 5.2, 5.4 and 5.5 of the contract: answers.

use serde_json::json;

use crate::support::{TestApp, answer, fixture};

async fn app() -> TestApp {
    TestApp::start(&[fixture::QUESTIONS_WITH_ANSWERS]).await
}

#[tokio::test]
async fn a_page_of_answers_has_the_contracts_fields_and_types() {
    let app = app().await;
    let page = app.get("/qa/questions/50/answers").await;
    page.assert_cached_under(&["question-50-answers"]);
    assert_eq!(
        page.json(),
        json!({
            "question": "50", "page": 1, "count": 5, "results": [
                { "answer_id": 71, "body": "best", "date": "2010-01-01T00:00:00.000Z", "answerer_name": "a",
                  "helpfulness": 7, "photos": [{ "id": 3, "url": "https://example.com/3.jpg" }] },
                { "answer_id": 72, "body": "tie", "date": "2019-11-29T00:00:00.000Z", "answerer_name": "a",
                  "helpfulness": 2, "photos": [] },
                { "answer_id": 75, "body": "Because.", "date": "2019-11-28T01:02:03.004Z", "answerer_name": "metslover",
                  "helpfulness": 2, "photos": [{ "id": 1, "url": "https://example.com/1.jpg" },
                                               { "id": 4, "url": "https://example.com/4.jpg" }] }
            ]
        })
    );
}

#[tokio::test]
async fn answers_are_ordered_by_helpfulness_then_ascending_id() {
    let app = app().await;
    assert_eq!(
        app.get("/qa/questions/50/answers").await.ids("answer_id"),
        [71, 72, 75]
    );
}

#[tokio::test]
async fn the_page_of_answers_counts_from_one() {
    let app = app().await;
    let page = app.get("/qa/questions/50/answers?page=2&count=2").await;
    assert_eq!(page.json()["page"], 2);
    assert_eq!(page.json()["count"], 2);
    assert_eq!(page.ids("answer_id"), [75]);
}

#[tokio::test]
async fn answers_of_an_unknown_question_are_an_empty_page() {
    let app = app().await;
    for id in ["777", "99999999999"] {
        let page = app.get(&format!("/qa/questions/{id}/answers")).await;
        page.assert_cached_under(&[&format!("question-{id}-answers")]);
        assert_eq!(
            page.text(),
            format!(r#"{{"question":"{id}","page":1,"count":5,"results":[]}}"#)
        );
    }
}

#[tokio::test]
async fn a_reported_question_still_lists_its_answers() {
    let app = app().await;
    assert_eq!(
        app.get("/qa/questions/54/answers").await.ids("answer_id"),
        [74]
    );
}

#[tokio::test]
async fn reported_answers_and_email_addresses_are_never_sent() {
    let app = app().await;
    let text = app
        .get("/qa/questions/50/answers?count=100")
        .await
        .text()
        .to_owned();
    for secret in ["gmail.com", "a@b.c", "email", "reported"] {
        assert!(!text.contains(secret), "{secret} in {text}");
    }
}

#[tokio::test]
async fn a_new_answer_is_there_on_the_next_read_of_both_lists() {
    let app = app().await;
    let mut body = answer();
    body["photos"] = json!(["https://example.com/1", { "url": "https://example.com/2", "id": 9 }, "", { "url": "" }]);
    let created = app.post("/qa/questions/51/answers", &body).await;
    created.assert_created("/qa/answers/");
    created.assert_invalidates(&["question-51-answers", "product-5-questions"]);

    let page = app.get("/qa/questions/51/answers").await.json();
    let new = &page["results"][0];
    assert_eq!(new["body"], "It is.");
    assert_eq!(new["answerer_name"], "maria");
    assert_eq!(new["helpfulness"], 0);
    let urls: Vec<_> = new["photos"]
        .as_array()
        .unwrap()
        .iter()
        .map(|photo| photo["url"].clone())
        .collect();
    assert_eq!(
        urls,
        [
            json!("https://example.com/1"),
            json!("https://example.com/2")
        ]
    );

    let id = new["answer_id"].to_string();
    let questions = app.get("/qa/questions?product_id=5").await.json();
    assert_eq!(
        questions["results"][2]["answers"][&id]["photos"],
        json!(urls)
    );
}

#[tokio::test]
async fn an_answer_to_an_unknown_question_is_a_problem_after_the_body_is_checked() {
    let app = app().await;
    for id in ["777", "99999999999"] {
        let path = format!("/qa/questions/{id}/answers");
        app.post(&path, &answer())
            .await
            .assert_problem(404, "unknown-question");
        let invalid = app.post(&path, &json!({})).await;
        invalid.assert_text_error(422, "Error: Answer body contains invalid entries");
    }
    assert_eq!(app.outbox().await, Vec::<Vec<String>>::new());
}

#[tokio::test]
async fn a_vote_and_a_report_act_on_one_answer() {
    let app = app().await;
    let groups = ["question-50-answers", "product-5-questions"];
    for _ in 0..6 {
        let vote = app.put("/qa/answers/75/helpful").await;
        assert_eq!(vote.status, 204);
        vote.assert_invalidates(&groups);
    }
    assert_eq!(
        app.get("/qa/questions/50/answers").await.ids("answer_id"),
        [75, 71, 72]
    );
    for _ in 0..2 {
        app.put("/qa/answers/75/report")
            .await
            .assert_invalidates(&groups);
    }
    assert_eq!(
        app.get("/qa/questions/50/answers").await.ids("answer_id"),
        [71, 72]
    );
    assert!(
        !app.get("/qa/questions?product_id=5")
            .await
            .text()
            .contains("Because.")
    );
    // For a reported row too.
    app.put("/qa/answers/75/helpful")
        .await
        .assert_invalidates(&groups);
}

#[tokio::test]
async fn a_put_on_an_unknown_answer_is_204_and_on_a_malformed_one_404() {
    let app = app().await;
    for action in ["helpful", "report"] {
        for id in ["777", "99999999999"] {
            let answer = app.put(&format!("/qa/answers/{id}/{action}")).await;
            assert_eq!(answer.status, 204);
            answer.assert_invalidates(&[]);
        }
        for id in ["hello", "0", "05", "%00", "%ff"] {
            let answer = app.put(&format!("/qa/answers/{id}/{action}/")).await;
            answer.assert_text_error(404, "Error: invalid answer id provided");
        }
    }
}
