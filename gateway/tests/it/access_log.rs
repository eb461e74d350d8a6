//! The access log, and the metrics by route and origin.

use std::{
    path::Path,
    sync::atomic::{AtomicUsize, Ordering},
};

use serde_json::Value;

use crate::support::{FakeOrigin, Gateway, Reply, Request, get, until};

fn settings(path: &Path, more: &str) -> String {
    format!(
        "[access_log]\npath = {path:?}\n{more}\n[[route]]\npath = \"/items/{{id}}\"\nquery = [{{ name = \"page\" }}]\n"
    )
}

fn lines(path: &Path) -> Vec<Value> {
    let text = std::fs::read_to_string(path).unwrap_or_default();
    text.lines()
        .map(|line| serde_json::from_str(line).expect("a line of JSON"))
        .collect()
}

async fn lines_are(path: &Path, count: usize) -> Vec<Value> {
    until("the lines are written", || async {
        lines(path).len() >= count
    })
    .await;
    let lines = lines(path);
    assert_eq!(lines.len(), count, "{lines:#?}");
    lines
}

#[tokio::test]
async fn each_request_is_one_line_without_queries_and_tokens() {
    let origin = FakeOrigin::start(|_| Reply::fresh("item")).await;
    let directory = tempfile::tempdir().expect("a directory");
    let log = directory.path().join("access.log");
    let gateway = Gateway::with(&[&origin], &settings(&log, "")).await;
    let request = get("/items/7?page=1&token=query-secret")
        .header("X-Api-Key", "header-secret")
        .header("User-Agent", "a \"quoted\" \u{7}agent");
    // A bell is no character of a field: the request is refused, and logged or not, never a line of its own making.
    let _ = gateway.client().send(&request).await;
    let request = get("/items/7?page=1&token=query-secret")
        .header("X-Api-Key", "header-secret")
        .header("User-Agent", "a \"quoted\" agent");
    let first = gateway.client().send(&request).await;
    gateway.client().send(&request).await;
    gateway.client().get("/elsewhere%0d%0a").await;
    until("the requests are written down", || async {
        lines(&log)
            .iter()
            .any(|line| line["path"] == "/elsewhere%0D%0A")
    })
    .await;
    let lines = lines(&log);
    let items: Vec<_> = lines
        .iter()
        .filter(|line| line["user_agent"] == "a \"quoted\" agent")
        .collect();
    assert_eq!(items.len(), 2, "{lines:#?}");
    assert_eq!(
        items[0]["id"].as_str(),
        first.header("x-request-id"),
        "{lines:#?}"
    );
    assert_eq!(
        (&items[0]["cache"], &items[1]["cache"]),
        (&"miss".into(), &"hit".into())
    );
    assert_eq!(items[0]["route"], "/items/{id}");
    assert_eq!(items[0]["path"], "/items/7");
    assert_eq!(items[0]["node"], origin.address().to_string());
    assert_eq!(
        (&items[1]["status"], &items[1]["bytes"]),
        (&200.into(), &4.into()),
        "{lines:#?}"
    );
    assert!(items[1]["node"].is_null(), "a hit asks nobody: {lines:#?}");
    let text = std::fs::read_to_string(&log).expect("the log");
    assert!(!text.contains("secret"), "{text}");
}

#[tokio::test]
async fn a_sample_is_logged_and_every_failure() {
    let origin = FakeOrigin::start(|received| {
        let status = if received.target.starts_with("/items/bad") {
            500
        } else {
            200
        };
        Reply::new(status, "item").header("Cache-Control", "no-store")
    })
    .await;
    let directory = tempfile::tempdir().expect("a directory");
    let log = directory.path().join("access.log");
    let gateway = Gateway::with(&[&origin], &settings(&log, "sample_percent = 25")).await;
    for number in 0..20 {
        gateway.client().get(&format!("/items/{number}")).await;
    }
    lines_are(&log, 5).await;
    gateway.write_settings(&settings(&log, "sample_percent = 0"));
    assert_eq!(
        gateway.call(Request::new("POST", "/reload")).await.status,
        200
    );
    gateway.client().get("/items/1").await;
    gateway.client().get("/items/bad").await;
    let lines = lines_are(&log, 6).await;
    assert_eq!(lines[5]["status"], 500);
}

#[tokio::test]
async fn a_stop_loses_no_line_and_a_moved_log_goes_on_in_a_new_file() {
    let origin = FakeOrigin::start(|_| Reply::fresh("item")).await;
    let directory = tempfile::tempdir().expect("a directory");
    let log = directory.path().join("access.log");
    let mut gateway = Gateway::with(&[&origin], &settings(&log, "")).await;
    gateway.client().get("/items/1").await;
    lines_are(&log, 1).await;
    let old = directory.path().join("old.log");
    std::fs::rename(&log, &old).expect("a rename");
    let asked = AtomicUsize::new(1);
    let ask = async || {
        gateway.client().get("/items/1").await;
        asked.fetch_add(1, Ordering::Relaxed);
    };
    until("a new file is there", || async {
        ask().await;
        !lines(&log).is_empty()
    })
    .await;
    for _ in 0..50 {
        ask().await;
    }
    gateway.terminate();
    until("the process has ended", || {
        let ended = gateway.exited().is_some();
        async move { ended }
    })
    .await;
    let written = lines(&log).len() + lines(&old).len();
    assert_eq!(written, asked.into_inner());
}

#[tokio::test]
async fn metrics_tell_routes_origins_and_the_cache() {
    let origin = FakeOrigin::start(|_| Reply::fresh("item")).await;
    let directory = tempfile::tempdir().expect("a directory");
    let gateway = Gateway::with(
        &[&origin],
        &settings(&directory.path().join("access.log"), ""),
    )
    .await;
    gateway.client().get("/items/1").await;
    gateway.client().get("/items/1").await;
    gateway.client().get("/items/2").await;
    gateway.client().get("/unknown").await;
    let node = origin.address();
    for line in [
        "gateway_route_requests_total{cache=\"hit\",route=\"/items/{id}\",status=\"2xx\"} 1"
            .to_owned(),
        "gateway_route_requests_total{cache=\"miss\",route=\"/items/{id}\",status=\"2xx\"} 2"
            .to_owned(),
        "gateway_route_requests_total{cache=\"bypass\",route=\"none\",status=\"2xx\"} 1".to_owned(),
        format!("gateway_node_requests_total{{node=\"{node}\"}} 3"),
        format!("gateway_node_in_flight{{node=\"{node}\"}} 0"),
        format!("gateway_node_healthy{{node=\"{node}\"}} 1"),
        "gateway_cache_objects 2".to_owned(),
        "gateway_queue_waiting 0".to_owned(),
        "gateway_retries_total 0".to_owned(),
        "gateway_access_log_lost_total 0".to_owned(),
    ] {
        until(&line, || async {
            let answer = gateway.call(get("/metrics")).await;
            answer.text().lines().any(|known| known == line)
        })
        .await;
    }
}

#[tokio::test]
async fn a_token_in_a_path_of_old_is_in_no_line() {
    let origin = FakeOrigin::start(|_| Reply::new(200, "cart")).await;
    let directory = tempfile::tempdir().expect("a directory");
    let (log, tokens) = (
        directory.path().join("access.log"),
        directory.path().join("tokens"),
    );
    std::fs::write(&tokens, "known-token-of-sixteen\n").expect("a file");
    let rules =
        "[http]\nrewrites = [{ from = \"/cart/{token}\", to = \"/cart?user_token={token}\" }]\n";
    let auth = format!("[auth]\nrequired = true\ntokens_file = {tokens:?}\n");
    let settings = format!("[access_log]\npath = {log:?}\n{rules}{auth}");
    let gateway = Gateway::with(&[&origin], &settings).await;
    let request = get("/cart/path-secret");
    assert_eq!(gateway.client().send(&request).await.status, 401);
    let request = request.header("Authorization", "known-token-of-sixteen");
    assert_eq!(gateway.client().send(&request).await.status, 200);
    assert_eq!(origin.last().target, "/cart?user_token=path-secret");
    for line in lines_are(&log, 2).await {
        assert_eq!(line["path"], "/cart", "{line}");
        assert!(!line.to_string().contains("secret"), "{line}");
    }
}
