//! Interim answers (1xx) are never stored; the final one counts.

use crate::support::{FakeOrigin, Gateway, Reply, Request, assert_hit, get};

#[tokio::test]
async fn an_interim_answer_is_neither_kept_nor_taken_for_the_final_one() {
    for status in [100, 102, 103] {
        let origin = FakeOrigin::start(move |_| {
            Reply::fresh("body").after_interim(status, "Cache-Control", "no-store")
        })
        .await;
        let gateway = Gateway::general(&[&origin]).await;
        for round in 0..2 {
            let answer = gateway.client().get("/page").await;
            assert_eq!((answer.status, answer.text()), (200, "body"));
            assert_eq!(answer.header("cache-control"), Some("max-age=3600"));
            assert_eq!(answer.is_hit(), round == 1, "{status}: {answer:#?}");
        }
    }
}

#[tokio::test]
async fn where_nothing_is_kept_an_interim_answer_passes_with_its_own_fields_only() {
    let origin = FakeOrigin::start(|_| {
        Reply::new(200, "body")
            .header("Cache-Control", "no-store")
            .after_interim(103, "Link", "</style.css>; rel=preload")
    })
    .await;
    let gateway = Gateway::with(&[&origin], "http.cache_unmatched = false").await;
    let mut connection = gateway.client().connect().await;
    connection.write(&get("/page")).await;
    let interim = connection.answer_head().await;
    assert!(interim.start.contains(" 103 "), "{interim:?}");
    assert_eq!(interim.header("link"), Some("</style.css>; rel=preload"));
    for name in ["cache-status", "date", "x-request-id"] {
        assert_eq!(interim.header(name), None, "{interim:?}");
    }
    let last = connection.answer_head().await;
    assert!(last.start.contains(" 200 "), "{last:?}");
    assert_eq!(last.header("link"), None, "{last:?}");
}

#[tokio::test]
async fn an_interim_answer_to_a_write_invalidates_nothing() {
    let origin = FakeOrigin::start(|request| match request.method.as_str() {
        "GET" => Reply::fresh("body"),
        _ => Reply::new(500, "failed").after_interim(103, "Location", "/page"),
    })
    .await;
    let gateway = Gateway::general(&[&origin]).await;
    gateway.client().get("/page").await;
    let answer = gateway
        .client()
        .send(&Request::new("POST", "/other").body("x"))
        .await;
    assert_eq!(answer.status, 500, "{answer:#?}");
    assert_hit(&gateway.client().get("/page").await);
}
