//! Sections 5.1, 5.3 and 5.5 of the contract: questions.

use serde_json::json;

use crate::support::{TestApp, fixture, question};

async fn app() -> TestApp {
    TestApp::start(&[fixture::QUESTIONS_WITH_ANSWERS]).await
}

#[tokio::test]
async fn a_page_of_questions_has_every_unreported_answer_ascending_by_id() {
    let app = app().await;
    let answer = app.get("/qa/questions?product_id=5").await;
    answer.assert_cached_under(&["product-5-questions"]);
    let text = answer.text();
    assert!(
        text.starts_with(r#"{"product_id":"5","results":[{"question_id":53,"#),
        "{text}"
    );
    let page = answer.json();
    assert_eq!(page.as_object().unwrap().len(), 2, "no page, no count");
    assert_eq!(
        page["results"][3],
        json!({
            "question_id": 50, "question_body": "Why?", "question_date": "2019-01-17T00:00:00.000Z",
            "asker_name": "jbilas", "question_helpfulness": 4, "reported": false,
            "answers": {
                "71": { "id": 71, "body": "best", "date": "2010-01-01T00:00:00.000Z", "answerer_name": "a",
                        "helpfulness": 7, "photos": ["https://example.com/3.jpg"] },
                "72": { "id": 72, "body": "tie", "date": "2019-11-29T00:00:00.000Z", "answerer_name": "a",
                        "helpfulness": 2, "photos": [] },
                "75": { "id": 75, "body": "Because.", "date": "2019-11-28T01:02:03.004Z", "answerer_name": "metslover",
                        "helpfulness": 2, "photos": ["https://example.com/1.jpg", "https://example.com/4.jpg"] }
            }
        })
    );
    let keys: Vec<_> = [r#""71":"#, r#""72":"#, r#""75":"#]
        .map(|key| text.find(key).unwrap())
        .into();
    assert!(keys.is_sorted(), "{text}");
    assert_eq!(page["results"][1]["answers"], json!({}));
}

#[tokio::test]
async fn questions_are_ordered_by_helpfulness_then_date_then_id() {
    let app = app().await;
    let answer = app.get("/qa/questions?product_id=5").await;
    assert_eq!(answer.ids("question_id"), [53, 52, 51, 50]);
}

#[tokio::test]
async fn reported_questions_and_answers_and_email_addresses_are_never_sent() {
    let app = app().await;
    let text = app
        .get("/qa/questions?product_id=5&count=100")
        .await
        .text()
        .to_owned();
    for secret in [
        "gmail.com",
        "a@b.c",
        "email",
        "of a reported",
        "reported.jpg",
        r#""reported":true"#,
    ] {
        assert!(!text.contains(secret), "{secret} in {text}");
    }
}

#[tokio::test]
async fn a_page_has_the_answers_of_its_own_questions_only() {
    let app = app().await;
    let answer = app.get("/qa/questions?product_id=5&count=1").await;
    assert_eq!(answer.ids("question_id"), [53]);
    assert_eq!(
        answer.json()["results"][0]["answers"]["70"]["body"],
        "Some."
    );
    let last = app.get("/qa/questions?product_id=5&count=3&page=2").await;
    assert_eq!(last.ids("question_id"), [50]);
    assert_eq!(
        last.json()["results"][0]["answers"]
            .as_object()
            .unwrap()
            .len(),
        3
    );
}

#[tokio::test]
async fn questions_of_an_unknown_product_are_an_empty_page() {
    let app = app().await;
    for id in ["777", "99999999999"] {
        let answer = app.get(&format!("/qa/questions?product_id={id}")).await;
        answer.assert_cached_under(&[&format!("product-{id}-questions")]);
        assert_eq!(
            answer.text(),
            format!(r#"{{"product_id":"{id}","results":[]}}"#)
        );
    }
}

#[tokio::test]
async fn a_new_question_is_there_on_the_next_read() {
    let app = app().await;
    let created = app.post("/qa/questions", &question()).await;
    created.assert_created("/qa/questions/");
    created.assert_invalidates(&["product-5-questions"]);
    let page = app
        .get("/qa/questions?product_id=5&page=2&count=4")
        .await
        .json();
    let new = &page["results"][0];
    assert_eq!(new["question_body"], "Is it warm?");
    assert_eq!(new["asker_name"], "maria");
    assert_eq!(new["question_helpfulness"], 0);
    assert_eq!(new["reported"], false);
    assert_eq!(new["answers"], json!({}));
}

#[tokio::test]
async fn the_location_of_a_new_question_is_the_base_for_puts() {
    let app = app().await;
    let created = app.post("/qa/questions", &question()).await;
    let location = created.field("location").to_owned();
    assert_eq!(app.put(&format!("{location}/helpful")).await.status, 204);
    let page = app.get("/qa/questions?product_id=5&count=100").await;
    assert!(
        page.text().contains(r#""question_helpfulness":1,"#),
        "{}",
        page.text()
    );
}

#[tokio::test]
async fn a_question_about_an_unknown_product_is_refused_while_products_are_loaded() {
    let app = app().await;
    for id in [json!(777), json!("99999999999")] {
        let mut body = question();
        body["product_id"] = id;
        let refused = app.post("/qa/questions", &body).await;
        refused.assert_text_error(422, "Error: Question body contains invalid entries");
    }
    app.sql("delete from shop.products").await;
    let mut body = question();
    body["product_id"] = json!(777);
    app.post("/qa/questions", &body)
        .await
        .assert_created("/qa/questions/");
}

#[tokio::test]
async fn a_vote_and_a_report_act_on_one_question() {
    let app = app().await;
    for (action, expected) in [
        ("helpful", [53, 50, 52, 51].as_slice()),
        ("report", &[53, 52, 51]),
    ] {
        let answer = app.put(&format!("/qa/questions/50/{action}")).await;
        assert_eq!(answer.status, 204);
        answer.assert_invalidates(&["product-5-questions"]);
        assert_eq!(
            app.get("/qa/questions?product_id=5")
                .await
                .ids("question_id"),
            expected
        );
    }
    // Reported again: nothing changes, the group is named all the same.
    app.put("/qa/questions/50/report")
        .await
        .assert_invalidates(&["product-5-questions"]);
    app.put("/qa/questions/50/helpful")
        .await
        .assert_invalidates(&["product-5-questions"]);
}

#[tokio::test]
async fn a_put_on_an_unknown_question_is_204() {
    let app = app().await;
    for id in ["777", "99999999999"] {
        for action in ["helpful", "report"] {
            let answer = app.put(&format!("/qa/questions/{id}/{action}")).await;
            assert_eq!(answer.status, 204);
            answer.assert_invalidates(&[]);
        }
    }
}

#[tokio::test]
async fn a_malformed_question_id_is_404_text() {
    let app = app().await;
    for id in ["hello", "0", "05", "%00", "%ff", "null"] {
        let text = "Error: invalid question id provided";
        app.get(&format!("/qa/questions/{id}/answers"))
            .await
            .assert_text_error(404, text);
        app.put(&format!("/qa/questions/{id}/helpful"))
            .await
            .assert_text_error(404, text);
        app.put(&format!("/qa/questions/{id}/report/"))
            .await
            .assert_text_error(404, text);
        // Before anything is said about the body.
        let post = app
            .send("POST", &format!("/qa/questions/{id}/answers"), &[], "{")
            .await;
        post.assert_text_error(404, text);
    }
}
