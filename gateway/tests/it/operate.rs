//! Operating a running gateway: by call and by command line, read-only or not, and every change on record.

use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Command, Output};

use serde_json::{Value, json};

use crate::support::{FakeOrigin, Gateway, Reply, Request, get, until};

/// Runs the program's client against a gateway.
fn operate(gateway: &Gateway, arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_gateway"))
        .args(arguments)
        .args(["--admin", &gateway.admin.to_string(), "--admin-token-file"])
        .arg(gateway.token_file())
        .output()
        .expect("the built gateway")
}

fn out(output: &Output) -> String {
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    String::from_utf8_lossy(&output.stdout).into_owned()
}

fn private_file(path: &Path, text: &str) {
    std::fs::write(path, text).expect("a file");
    let mode = std::fs::Permissions::from_mode(0o600);
    std::fs::set_permissions(path, mode).expect("a file of one's own");
}

async fn two_origins() -> (FakeOrigin, FakeOrigin) {
    let one = FakeOrigin::start(|_| Reply::new(200, "one").header("Cache-Control", "no-store"));
    let two = FakeOrigin::start(|_| Reply::new(200, "two").header("Cache-Control", "no-store"));
    (one.await, two.await)
}

/// The member of a node, by its address.
fn of_node(nodes: &Value, address: SocketAddr, member: &str) -> Value {
    let nodes = nodes.as_array().expect("nodes");
    let node = nodes
        .iter()
        .find(|node| node["address"] == address.to_string());
    node.expect("the node")[member].clone()
}

#[tokio::test]
async fn the_token_for_reading_reads_and_changes_nothing() {
    let origin = FakeOrigin::start(|_| Reply::fresh("page")).await;
    let directory = tempfile::tempdir().expect("a directory");
    let file = directory.path().join("read");
    private_file(&file, "only-reads\n");
    let gateway = Gateway::with(
        &[&origin],
        &format!("[admin]\nread_token_file = {file:?}\n"),
    )
    .await;
    let call = |method: &str, path: &str| {
        let request = Request::new(method, path).body("{\"all\":true}");
        let request = request.header("Authorization", "Bearer only-reads");
        let admin = gateway.admin();
        async move { admin.send(&request).await.status }
    };
    gateway.client().get("/page").await;
    for path in [
        "/status",
        "/metrics",
        "/nodes",
        "/log",
        "/openapi.json",
        "/explain?url=/page",
    ] {
        assert_eq!(call("GET", path).await, 200, "{path}");
    }
    for path in [
        "/purge",
        "/reload",
        "/upgrade",
        "/nodes",
        "/nodes/x/drain",
        "/nodes/x/enable",
        "/nodes/x/weight",
    ] {
        assert_eq!(call("POST", path).await, 403, "{path}");
    }
    assert_eq!(call("PUT", "/log").await, 403);
    assert_eq!(call("DELETE", "/nodes/x").await, 403);
    assert!(
        gateway.client().get("/page").await.is_hit(),
        "nothing was purged"
    );
    assert_eq!(
        gateway.call(get("/status")).await.status,
        200,
        "the other token does all"
    );
}

#[tokio::test]
async fn tokens_may_stand_in_the_environment() {
    let origin = FakeOrigin::start(|_| Reply::fresh("page")).await;
    let settings = "[admin]\ntoken_env = \"GATEWAY_TEST_TOKEN\"\n";
    let directory = tempfile::tempdir().expect("a directory");
    let file = directory.path().join("g.toml");
    std::fs::write(
        &file,
        format!("upstream.nodes = [\"{}\"]\n{settings}", origin.address()),
    )
    .expect("a file");
    let check = |value: &str| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_gateway"));
        command
            .arg("check")
            .arg(&file)
            .env("GATEWAY_TEST_TOKEN", value);
        command.output().expect("the built gateway")
    };
    assert!(check("planted-secret").status.success());
    let unset = check("");
    let said = String::from_utf8_lossy(&unset.stdout).into_owned();
    assert!(
        said.contains("admin.token_env: no variable GATEWAY_TEST_TOKEN"),
        "{said}"
    );
    let admin = crate::support::free_address();
    let mut child = Command::new(env!("CARGO_BIN_EXE_gateway"))
        .args([
            "run",
            "--listen",
            &crate::support::free_address().to_string(),
        ])
        .args(["--admin", &admin.to_string(), "--config"])
        .arg(&file)
        .env("GATEWAY_TEST_TOKEN", "planted-secret")
        .stderr(std::process::Stdio::piped())
        .spawn()
        .expect("the built gateway");
    until("the admin listener answers", || async {
        tokio::net::TcpStream::connect(admin).await.is_ok()
    })
    .await;
    let client = crate::support::Client::new(admin);
    let request = get("/status").header("Authorization", "Bearer planted-secret");
    assert_eq!(client.send(&request).await.status, 200);
    child.kill().expect("a child");
    let said = child.wait_with_output().expect("a child").stderr;
    assert!(
        !String::from_utf8_lossy(&said).contains("planted-secret"),
        "never printed"
    );
}

#[tokio::test]
async fn an_origin_is_drained_enabled_and_weighed_by_call() {
    let (one, two) = two_origins().await;
    let gateway = Gateway::general(&[&one, &two]).await;
    let order = |node: String, order: &str, body: &str| {
        let request = Request::new("POST", &format!("/nodes/{node}/{order}"));
        let request = request
            .header("Content-Type", "application/json")
            .body(body);
        let gateway = &gateway;
        async move { gateway.call(request).await }
    };
    let node = one.address().to_string();
    let nodes = order(node.clone(), "drain", "").await.json();
    assert_eq!(of_node(&nodes, one.address(), "drained"), true, "{nodes}");
    for turn in 0..10 {
        assert_eq!(
            gateway.client().get(&format!("/{turn}")).await.text(),
            "two"
        );
    }
    let nodes = order(node.clone(), "enable", "").await.json();
    assert_eq!(of_node(&nodes, one.address(), "drained"), false, "{nodes}");
    let nodes = order(node.clone(), "weight", "{\"weight\":7}").await.json();
    assert_eq!(of_node(&nodes, one.address(), "weight"), 7, "{nodes}");
    assert_eq!(of_node(&nodes, two.address(), "weight"), 1, "{nodes}");
    for (node, word, body, status) in [
        (node.clone(), "weight", "{\"weight\":0}", 422),
        (node.clone(), "weight", "{\"wait\":1}", 422),
        (node, "weight", "", 422),
        ("10.9.9.9:1".to_owned(), "drain", "", 404),
    ] {
        let answer = order(node, word, body).await;
        assert_eq!(answer.status, status, "{answer:#?}");
    }
}

#[tokio::test]
async fn what_is_logged_changes_while_it_runs_and_every_change_is_on_record() {
    let origin = FakeOrigin::start(|_| Reply::fresh("page")).await;
    let gateway = Gateway::general(&[&origin]).await;
    let set = |filter: &str| {
        let request = Request::new("PUT", "/log").header("Content-Type", "application/json");
        let request = request.body(json!({ "filter": filter }).to_string());
        let gateway = &gateway;
        async move { gateway.call(request).await.status }
    };
    assert_eq!(set("gateway=loud").await, 422);
    assert_eq!(set("off").await, 200);
    assert_eq!(gateway.call(get("/log")).await.json()["filter"], "off");
    gateway.purge(json!({ "all": true })).await;
    let before = gateway.said();
    assert!(!before.contains("purge urls="), "info is off: {before}");
    let changes: Vec<_> = before
        .lines()
        .filter(|line| line.contains("gateway::audit"))
        .collect();
    assert_eq!(changes.len(), 3, "{before}");
    for (line, call) in changes.iter().zip(["/log", "/log", "/purge"]) {
        assert!(
            line.contains(call) && line.contains("peer=127.0.0.1:"),
            "{line}"
        );
    }
    assert!(
        changes[0].contains("status=422") && changes[2].contains("status=200"),
        "{before}"
    );
    assert!(!gateway.said().contains(&gateway.token()));
}

#[tokio::test]
async fn the_calls_are_described_by_their_code() {
    let origin = FakeOrigin::start(|_| Reply::fresh("page")).await;
    let gateway = Gateway::general(&[&origin]).await;
    let document = gateway.call(get("/openapi.json")).await.json();
    assert_eq!(
        document["openapi"].as_str().map(|version| &version[..3]),
        Some("3.1")
    );
    for (path, method) in [
        ("/status", "get"),
        ("/metrics", "get"),
        ("/explain", "get"),
        ("/purge", "post"),
        ("/nodes", "get"),
        ("/nodes", "post"),
        ("/nodes/{node}", "delete"),
        ("/nodes/{node}/drain", "post"),
        ("/nodes/{node}/enable", "post"),
        ("/nodes/{node}/weight", "post"),
        ("/log", "get"),
        ("/log", "put"),
        ("/reload", "post"),
        ("/upgrade", "post"),
        ("/openapi.json", "get"),
    ] {
        let call = &document["paths"][path][method];
        assert!(
            call["responses"]["200"].is_object(),
            "{method} {path}: {document:#}"
        );
    }
    assert_eq!(
        document["components"]["securitySchemes"]["token"]["scheme"],
        "bearer"
    );
    let told = &document["components"]["schemas"]["CoherenceStatus"]["properties"];
    assert!(told["delay"].is_object(), "{document:#}");
}

#[tokio::test]
async fn the_program_is_the_client_of_a_running_one() {
    let (one, two) = two_origins().await;
    let origins = format!(
        "[upstream]\nnodes = [\"{}\", \"{}\"]\n",
        one.address(),
        two.address()
    );
    let gateway = Gateway::start(&[], Some(origins)).await;
    let status: Value =
        serde_json::from_str(&out(&operate(&gateway, &["status", "--json"]))).expect("JSON");
    assert_eq!(status["pid"], gateway.pid(), "{status}");
    let told = out(&operate(&gateway, &["status"]));
    assert!(told.contains("cache.budget_bytes"), "{told}");
    assert!(!told.contains("following"), "{told}");

    let node = one.address().to_string();
    let told = out(&operate(&gateway, &["node", "drain", &node]));
    let line = told
        .lines()
        .find(|line| line.starts_with(&node))
        .expect("the node's line");
    assert!(line.ends_with("drained"), "{told}");
    out(&operate(&gateway, &["node", "enable", &node]));
    let told = out(&operate(
        &gateway,
        &["node", "weight", &node, "5", "--json"],
    ));
    let nodes: Value = serde_json::from_str(&told).expect("JSON");
    assert_eq!(of_node(&nodes, one.address(), "weight"), 5, "{nodes}");
    let told = out(&operate(&gateway, &["node", "list"]));
    assert_eq!(told.lines().count(), 3, "{told}");

    let told = out(&operate(
        &gateway,
        &["purge", "--all", "--dry-run", "--json"],
    ));
    let purged: Value = serde_json::from_str(&told).expect("JSON");
    assert_eq!(purged["objects"], 0, "{purged}");
    assert!(out(&operate(&gateway, &["log-level"])).contains("gateway=info"));
    out(&operate(&gateway, &["log-level", "warn"]));
    assert!(out(&operate(&gateway, &["log-level"])).contains("warn"));

    out(&operate(&gateway, &["reload"]));
    gateway.write_settings("[cache]\nbudgte = 1\n");
    let refused = operate(&gateway, &["reload"]);
    let said = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert_eq!(refused.status.code(), Some(1));
    assert!(
        said.contains("2:1: cache.budgte: no such setting; did you mean `budget`?"),
        "{said}"
    );
}

#[test]
fn completions_are_printed_for_every_shell() {
    for shell in ["bash", "zsh", "fish"] {
        let output = Command::new(env!("CARGO_BIN_EXE_gateway"))
            .args(["completions", shell])
            .output();
        let text = out(&output.expect("the built gateway"));
        assert!(
            text.contains("log-level") && text.contains("gateway"),
            "{shell}"
        );
    }
}
