//! The operators' listener: for who knows the token, and nobody else.

use std::os::unix::fs::PermissionsExt;

use crate::support::{FakeOrigin, Gateway, Reply, Request, get, until};

const CALLS: [(&str, &str); 4] = [
    ("POST", "/purge"),
    ("GET", "/explain?url=/"),
    ("GET", "/status"),
    ("GET", "/metrics"),
];

#[tokio::test]
async fn without_the_token_every_call_is_refused() {
    let origin = FakeOrigin::start(|_| Reply::fresh("page")).await;
    let gateway = Gateway::general(&[&origin]).await;
    gateway.client().get("/page").await;
    let token = gateway.token();
    let wrong = [
        "Bearer wrong".to_owned(),
        "Bearer".to_owned(),
        format!("Basic {token}"),
        format!("Bearer {token}x"),
        format!("Bearer {}", &token[1..]),
    ];
    for (method, path) in CALLS {
        let call = Request::new(method, path).body(r#"{"all":true}"#);
        let mut attempts = vec![call.clone()];
        attempts.extend(
            wrong
                .iter()
                .map(|value| call.clone().header("Authorization", value)),
        );
        attempts.push(
            call.header("Authorization", &token)
                .header("Authorization", "another"),
        );
        for attempt in attempts {
            let answer = gateway.admin().send(&attempt).await;
            assert_eq!(answer.status, 401, "{attempt:?}: {answer:#?}");
            assert_eq!(answer.header("www-authenticate"), Some("Bearer"));
        }
    }
    assert_eq!(
        gateway.status().await["cache"]["objects"],
        1,
        "nothing was purged"
    );
}

#[tokio::test]
async fn the_token_is_made_in_a_file_that_only_its_owner_can_read() {
    let origin = FakeOrigin::start(|_| Reply::fresh("page")).await;
    let gateway = Gateway::general(&[&origin]).await;
    let mode = std::fs::metadata(gateway.token_file())
        .unwrap()
        .permissions()
        .mode();
    assert_eq!(mode & 0o777, 0o600);
    assert!(
        gateway.token().len() >= 32,
        "long enough to resist guessing"
    );
    assert!(
        !gateway.said().contains(&gateway.token()),
        "the token is not logged"
    );
}

#[tokio::test]
async fn operators_calls_are_nothing_special_in_public() {
    let origin = FakeOrigin::start(|_| {
        Reply::new(404, "the origin's own").header("Cache-Control", "no-store")
    })
    .await;
    let gateway = Gateway::general(&[&origin]).await;
    let bearer = format!("Bearer {}", gateway.token());
    let admin_host = gateway.admin.to_string();
    for (method, path) in
        CALLS
            .into_iter()
            .chain([("GET", "/healthz"), ("GET", "/nodes"), ("GET", "/")])
    {
        for host in ["shop.test", admin_host.as_str()] {
            let call = Request::new(method, path)
                .body("{}")
                .header("Authorization", &bearer)
                .header("Host", host);
            let answer = gateway.client().send(&call).await;
            assert_eq!(
                (answer.status, answer.text()),
                (404, "the origin's own"),
                "{method} {path}"
            );
        }
    }
    assert_eq!(origin.count(), 14, "every one of them went to the origin");
}

#[tokio::test]
async fn the_status_tells_the_cache_and_every_node() {
    let one = FakeOrigin::start(|_| Reply::fresh("page")).await;
    let two = FakeOrigin::start(|_| Reply::fresh("page")).await;
    let gateway = Gateway::with(&[&one, &two], "[cache]\nbudget = \"8MiB\"").await;
    gateway.client().get("/page").await;
    gateway.client().get("/page").await;
    until("both requests are counted", || async {
        gateway.status().await["requests"]["hit"] == 1
    })
    .await;
    let status = gateway.status().await;
    assert_eq!(status["cache"]["budget_bytes"], 8 << 20, "{status}");
    assert_eq!(status["cache"]["objects"], 1, "{status}");
    assert!(
        status["cache"]["used_bytes"].as_u64().unwrap() > 4,
        "{status}"
    );
    assert_eq!(
        (&status["requests"]["hit"], &status["requests"]["miss"]),
        (&1.into(), &1.into()),
        "{status}"
    );
    let addresses: Vec<_> = status["nodes"]
        .as_array()
        .unwrap()
        .iter()
        .map(|node| node["address"].clone())
        .collect();
    assert_eq!(
        addresses,
        [one.address().to_string(), two.address().to_string()]
    );
    for node in status["nodes"].as_array().unwrap() {
        assert_eq!(
            (&node["in_flight"], &node["healthy"]),
            (&0.into(), &true.into()),
            "{status}"
        );
    }
}

#[tokio::test]
async fn metrics_are_in_the_text_form_that_collectors_read() {
    let origin = FakeOrigin::start(|_| Reply::fresh("page")).await;
    let gateway = Gateway::general(&[&origin]).await;
    gateway.client().get("/page").await;
    gateway.client().get("/page").await;
    // A request is counted after its answer has left.
    for line in [
        "gateway_requests_total{cache=\"hit\"} 1",
        "gateway_requests_total{cache=\"miss\"} 1",
        "gateway_responses_total{status=\"2xx\"} 2",
        "gateway_request_duration_seconds_count 2",
    ] {
        until(line, || async {
            let answer = gateway.call(get("/metrics")).await;
            assert_eq!(
                answer.header("content-type"),
                Some("text/plain; version=0.0.4")
            );
            answer.text().lines().any(|known| known == line)
        })
        .await;
    }
}

#[tokio::test]
async fn health_is_told_to_anybody_and_unknown_calls_do_not_exist() {
    let origin = FakeOrigin::start(|_| Reply::fresh("page")).await;
    let gateway = Gateway::general(&[&origin]).await;
    assert_eq!(gateway.admin().get("/healthz").await.text(), "ok");
    assert_eq!(gateway.call(get("/nothing")).await.status, 404);
    assert_eq!(gateway.call(get("/purge")).await.status, 405);
}

#[tokio::test]
async fn a_token_file_that_others_could_have_planted_is_refused_by_name() {
    use std::os::unix::fs::PermissionsExt;
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("token");
    std::fs::write(&file, "known\n").unwrap();
    std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o666)).unwrap();
    let output = std::process::Command::new(env!("CARGO_BIN_EXE_gateway"))
        .args([
            "run",
            "--listen",
            "127.0.0.1:0",
            "--upstream",
            "127.0.0.1:9",
        ])
        .args(["--admin", "127.0.0.1:0", "--admin-token-file"])
        .arg(&file)
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(!output.status.success());
    assert!(
        said.contains("mode 0600") && said.contains(file.to_str().unwrap()),
        "{said}"
    );
}

#[tokio::test]
async fn every_call_that_is_described_is_refused_without_the_token() {
    let origin = FakeOrigin::start(|_| Reply::fresh("page")).await;
    let gateway = Gateway::general(&[&origin]).await;
    let document = gateway.call(get("/openapi.json")).await.json();
    let mut calls = Vec::new();
    for (path, methods) in document["paths"].as_object().expect("paths") {
        let path = path.replace("{node}", &origin.address().to_string());
        assert!(!path.contains('{'), "{path}");
        for method in methods.as_object().expect("methods").keys() {
            calls.push((method.to_uppercase(), path.clone()));
        }
    }
    assert!(calls.len() >= 15, "{calls:?}");
    for (method, path) in calls {
        let call = Request::new(&method, &path).body("{}");
        for call in [call.clone(), call.header("Authorization", "Bearer wrong")] {
            let answer = gateway.admin().send(&call).await;
            assert_eq!(answer.status, 401, "{call:?}: {answer:#?}");
        }
    }
    let status = gateway.status().await;
    assert_eq!(status["pid"], gateway.pid(), "nobody took over");
    assert_eq!(status["nodes"][0]["drained"], false);
}
