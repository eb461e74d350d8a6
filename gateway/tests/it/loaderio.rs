//! A load-test service finds the token that was configured.

use crate::support::{FakeOrigin, Gateway, Reply, Request};

const TOKEN: &str = "loaderio-0123456789abcdef0123456789abcdef";

async fn verified(origin: &FakeOrigin) -> Gateway {
    let tokens = format!("loaderio_tokens = [\"{TOKEN}\", \"loaderio-ff\"]");
    Gateway::shop_with(&[origin], &[("loaderio_tokens = []", &tokens)]).await
}

#[tokio::test]
async fn the_token_is_told_at_its_four_paths() {
    let origin = FakeOrigin::start(|_| Reply::new(404, "no")).await;
    let gateway = verified(&origin).await;
    let mut connection = gateway.client().connect().await;
    for ending in ["", "/", ".txt", ".html"] {
        let target = format!("/{TOKEN}{ending}");
        let answer = connection.send(&Request::new("GET", &target)).await;
        assert_eq!((answer.status, answer.text()), (200, TOKEN), "{target}");
        assert_eq!(
            answer.header("content-type"),
            Some("text/plain; charset=utf-8")
        );
        assert!(
            answer
                .header("cache-control")
                .unwrap_or_default()
                .contains("no-store")
        );
        let head = connection.send(&Request::new("HEAD", &target)).await;
        assert_eq!(
            (head.status, head.header("content-length")),
            (200, Some("41")),
            "{target}"
        );
    }
    assert_eq!(
        gateway.client().get("/loaderio-ff/").await.text(),
        "loaderio-ff"
    );
    assert_eq!(origin.count(), 0);
}

#[tokio::test]
async fn any_other_token_is_the_origins_business() {
    let origin = FakeOrigin::start(|_| Reply::new(404, "no")).await;
    let gateway = verified(&origin).await;
    for target in [
        "/loaderio-0123",
        "/loaderio-fff",
        "/loaderio-ff.htm",
        "/loaderio-ff.txt/",
        "/x/loaderio-ff",
        "/loaderio-",
    ] {
        assert_eq!(gateway.client().get(target).await.text(), "no", "{target}");
    }
    let posted = gateway.client().post("/loaderio-ff", "{}").await;
    assert_eq!(posted.text(), "no", "only reads are answered");
    assert_eq!(origin.count(), 7);
}
