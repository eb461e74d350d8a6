//! Section 6.3 of the contract: interactions.

use serde_json::json;

use crate::support::{TestApp, interaction};

#[tokio::test]
async fn an_interaction_is_stored_as_sent_beside_the_servers_time() {
    let app = TestApp::start(&[]).await;
    let created = app.post("/interactions", &interaction()).await;
    created.assert_created("");
    created.assert_invalidates(&[]);
    let stored: String = app
        .value("select concat_ws('|', element, widget, time, created_at > now() - interval '1 minute') from service.interactions")
        .await;
    assert_eq!(stored, "<button>Buy</button>|overview|12:34|t");
}

#[tokio::test]
async fn time_may_be_any_text_or_a_number() {
    let app = TestApp::start(&[]).await;
    for (sent, stored) in [
        ("1637459000123", "1637459000123"),
        ("1.5e3", "1.5e3"),
        ("\"yesterday\"", "yesterday"),
        ("\"2021-11-21T02:17:00+01:00\"", "2021-11-21T02:17:00+01:00"),
    ] {
        let body = format!(r#"{{"element":"e","widget":"w","time":{sent}}}"#);
        app.send("POST", "/interactions", &[], body)
            .await
            .assert_created("");
        let last: String = app
            .value("select time from service.interactions order by id desc limit 1")
            .await;
        assert_eq!(last, stored);
    }
}

#[tokio::test]
async fn an_invalid_interaction_is_422_text() {
    let app = TestApp::start(&[]).await;
    for name in ["element", "widget", "time"] {
        for bad in [
            json!(""),
            json!(null),
            json!(true),
            json!([]),
            json!({}),
            json!("\u{0}"),
        ] {
            let mut body = interaction();
            body[name] = bad;
            let refused = app.post("/interactions", &body).await;
            refused.assert_text_error(422, "Error: Interaction body contains invalid entries");
        }
        let mut body = interaction();
        body.as_object_mut().unwrap().remove(name);
        let refused = app.post("/interactions", &body).await;
        refused.assert_text_error(422, "Error: Interaction body contains invalid entries");
    }
    assert_eq!(app.count("service.interactions").await, 0);
}

#[tokio::test]
async fn an_interaction_of_64_kib_is_taken_and_one_byte_more_is_too_large() {
    let app = TestApp::start(&[]).await;
    let frame = r#"{"widget":"w","time":"t","element":""}"#.len();
    for (size, status) in [(64 * 1024, 201), (64 * 1024 + 1, 413)] {
        let body = format!(
            r#"{{"widget":"w","time":"t","element":"{}"}}"#,
            "e".repeat(size - frame)
        );
        assert_eq!(body.len(), size);
        let answer = app.send("POST", "/interactions", &[], body).await;
        assert_eq!(answer.status.as_u16(), status);
        if status == 413 {
            answer.assert_problem(413, "too-large");
        }
    }
}
