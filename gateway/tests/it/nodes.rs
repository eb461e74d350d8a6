//! Origins that operators add and remove while requests run.

use std::net::SocketAddr;
use std::process::Command;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::support::{
    Answer, FakeOrigin, FakeTail, Gate, Gateway, Reply, Request, assert_problem, free_address,
    until,
};

fn unkept(body: &'static str) -> Reply {
    Reply::new(200, body).header("Cache-Control", "no-store")
}

async fn add(gateway: &Gateway, node: Value) -> Answer {
    let request = Request::new("POST", "/nodes").header("Content-Type", "application/json");
    gateway.call(request.body(node.to_string())).await
}

async fn remove(gateway: &Gateway, node: impl ToString) -> Answer {
    let target = format!("/nodes/{}", node.to_string());
    gateway.call(Request::new("DELETE", &target)).await
}

/// Address and source of every node that an answer tells of.
fn told(answer: &Answer) -> Vec<(String, String)> {
    assert_eq!(answer.status, 200, "{answer:#?}");
    sources(&answer.json())
}

fn sources(nodes: &Value) -> Vec<(String, String)> {
    let word = |value: &Value| value.as_str().expect("a text").to_owned();
    let nodes = nodes.as_array().expect("nodes").iter();
    nodes
        .map(|node| (word(&node["address"]), word(&node["source"])))
        .collect()
}

fn configured(address: SocketAddr) -> (String, String) {
    (address.to_string(), "configured".to_owned())
}

fn added(address: SocketAddr) -> (String, String) {
    (address.to_string(), "added".to_owned())
}

async fn reload(gateway: &Gateway, nodes: &[SocketAddr]) -> Value {
    let nodes: Vec<_> = nodes.iter().map(ToString::to_string).collect();
    gateway.write_settings(&format!("upstream.nodes = {nodes:?}\n"));
    let answer = gateway.call(Request::new("POST", "/reload")).await;
    assert_eq!(answer.status, 200, "{answer:#?}");
    answer.json()
}

#[tokio::test]
async fn an_added_origin_gets_requests_and_is_on_record() {
    let one = FakeOrigin::start(|_| unkept("one")).await;
    let two = FakeOrigin::start(|_| unkept("two")).await;
    let gateway = Gateway::with(&[&one], "[upstream]\nslow_start = \"0s\"").await;
    assert_eq!(gateway.client().get("/").await.text(), "one");
    let node = json!({ "address": two.address().to_string(), "weight": 3 });
    let answer = add(&gateway, node).await;
    let expected = [configured(one.address()), added(two.address())];
    assert_eq!(told(&answer), expected);
    assert_eq!(answer.json()[1]["weight"], 3);
    for at in 0..40 {
        gateway.client().get(&format!("/{at}")).await;
    }
    let count = two.count();
    assert!((28..=32).contains(&count), "three of four, not {count}");
    let audit = "\"/nodes\"";
    let said = gateway.said();
    let line = said.lines().find(|line| line.contains(audit));
    let line = line.expect("an audit line");
    let subject = format!("subject=\"{}\"", two.address());
    assert!(
        line.contains(&subject) && line.contains("status=200"),
        "{line}"
    );
}

#[tokio::test]
async fn an_added_origin_is_checked_at_its_private_listener() {
    let one = FakeOrigin::start(|_| unkept("one")).await;
    let two = FakeOrigin::start(|_| unkept("two")).await;
    let settings = "[upstream.health]\ninterval = \"20ms\"";
    let gateway = Gateway::with(&[&one], settings).await;
    let (public, private) = (two.address().to_string(), free_address().to_string());
    let answer = add(&gateway, json!({ "address": public, "private": private })).await;
    assert_eq!(answer.status, 200, "{answer:#?}");
    until("nobody is found there", || async {
        gateway.status().await["nodes"][1]["healthy"] == false
    })
    .await;
    for _ in 0..10 {
        assert_eq!(gateway.client().get("/").await.text(), "one");
    }
}

#[tokio::test]
async fn what_is_no_origin_is_refused_and_changes_nothing() {
    let one = FakeOrigin::start(|_| unkept("one")).await;
    let gateway = Gateway::general(&[&one]).await;
    let known = one.address().to_string();
    let (own, other) = (gateway.public.to_string(), free_address().to_string());
    for (node, status) in [
        (json!({ "address": known }), 409),
        (json!({ "address": "10.0.0.9" }), 400),
        (json!({ "address": "" }), 400),
        (json!({ "address": "a b:80" }), 400),
        (json!({ "address": own }), 400),
        (json!({ "address": other, "private": "x" }), 400),
        (json!({ "address": other, "weight": 0 }), 422),
        (json!({ "address": other, "weight": 1001 }), 422),
        (json!({ "address": other, "wait": 1 }), 422),
        (json!({ "weight": 1 }), 422),
        (json!({ "address": "no-such-host.invalid:80" }), 422),
    ] {
        let answer = add(&gateway, node.clone()).await;
        assert_eq!(answer.status, status, "{node}: {answer:#?}");
        let kind = answer.header("content-type");
        assert_eq!(kind, Some("application/problem+json"), "{node}");
    }
    for (node, status) in [
        (other.as_str(), 404),
        ("10.0.0.9", 400),
        (known.as_str(), 409),
        (&format!("{known}?last=maybe"), 400),
        (&format!("{known}?least=true"), 400),
    ] {
        let answer = remove(&gateway, node).await;
        assert_eq!(answer.status, status, "{node}: {answer:#?}");
    }
    let nodes = gateway.status().await["nodes"].clone();
    assert_eq!(sources(&nodes), [configured(one.address())]);
}

#[tokio::test]
async fn a_removed_origin_gets_no_new_request_and_ends_those_that_it_has() {
    let gate = Gate::closed();
    let held = gate.clone();
    let going = FakeOrigin::start(move |_| unkept("going").held_after_header(&held)).await;
    let staying = FakeOrigin::start(|_| unkept("staying")).await;
    let gateway = Gateway::general(&[&going]).await;
    let client = gateway.client();
    let begun = tokio::spawn(async move { client.get("/begun").await });
    gate.reached(1).await;
    add(
        &gateway,
        json!({ "address": staying.address().to_string() }),
    )
    .await;
    let answer = remove(&gateway, going.address()).await;
    assert_eq!(told(&answer), [added(staying.address())]);
    for _ in 0..20 {
        assert_eq!(client.get("/").await.text(), "staying");
    }
    gate.open();
    let begun = begun.await.expect("an answer");
    assert_eq!((begun.text(), begun.whole), ("going", true), "{begun:#?}");
    assert_eq!(going.count(), 1);
    assert_eq!(remove(&gateway, going.address()).await.status, 404);
}

#[tokio::test]
async fn the_last_origin_goes_only_if_that_is_asked_for_and_then_clients_are_told_at_once() {
    let one = FakeOrigin::start(|request| match request.target.as_str() {
        "/kept" => Reply::fresh("kept"),
        _ => unkept("one"),
    })
    .await;
    let gateway = Gateway::general(&[&one]).await;
    gateway.client().get("/kept").await;
    let refused = remove(&gateway, one.address()).await;
    assert_eq!(refused.status, 409, "{refused:#?}");
    assert!(refused.text().contains("?last=true"), "{refused:#?}");
    assert_eq!(gateway.client().get("/").await.text(), "one");
    let answer = remove(&gateway, format!("{}?last=true", one.address())).await;
    assert_eq!(told(&answer), []);
    let began = Instant::now();
    let answer = gateway.client().get("/").await;
    assert!(began.elapsed() < Duration::from_millis(500));
    assert_problem(&answer, 503);
    assert_eq!(answer.header("retry-after"), Some("1"));
    assert!(gateway.client().get("/kept").await.is_hit());
    let node = json!({ "address": one.address().to_string() });
    let back = add(&gateway, node).await;
    assert_eq!(told(&back), [configured(one.address())], "as configured");
    assert_eq!(gateway.client().get("/").await.text(), "one");
}

#[tokio::test]
async fn a_reload_keeps_what_is_added_and_removed_and_says_so() {
    let origins = [
        FakeOrigin::start(|_| unkept("one")).await,
        FakeOrigin::start(|_| unkept("two")).await,
        FakeOrigin::start(|_| unkept("three")).await,
    ];
    let [one, two, three] = origins.each_ref().map(FakeOrigin::address);
    let settings = format!("upstream.nodes = [\"{one}\", \"{two}\"]\n");
    let gateway = Gateway::start(&[], Some(settings)).await;
    add(&gateway, json!({ "address": three.to_string() })).await;
    remove(&gateway, one).await;
    let other = free_address();
    let report = reload(&gateway, &[one, two, other]).await;
    assert_eq!(
        report["nodes_added"],
        json!([three.to_string()]),
        "{report}"
    );
    assert_eq!(
        report["nodes_removed"],
        json!([one.to_string()]),
        "{report}"
    );
    let status = gateway.status().await;
    let expected = [configured(two), configured(other), added(three)];
    assert_eq!(sources(&status["nodes"]), expected);
    assert_eq!(status["settings"]["nodes_added"], report["nodes_added"]);
    assert_eq!(status["settings"]["nodes_removed"], report["nodes_removed"]);
    // Named by the file: the file's from then on, and gone with it.
    let report = reload(&gateway, &[two, three]).await;
    assert_eq!(report["nodes_added"], json!([]), "{report}");
    assert_eq!(report["nodes_removed"], json!([]), "{report}");
    reload(&gateway, &[one, two]).await;
    let status = gateway.status().await;
    let expected = [configured(one), configured(two)];
    assert_eq!(sources(&status["nodes"]), expected);
}

#[tokio::test]
async fn the_stream_of_an_added_origin_may_be_followed() {
    let origin = FakeOrigin::start(|_| unkept("page")).await;
    let (first, second) = (FakeTail::start("a").await, FakeTail::start("b").await);
    let settings = format!(
        "[upstream]\nnodes = [{{ address = \"{}\", private = \"{}\" }}]\n[coherence]\n",
        origin.address(),
        first.address()
    );
    let gateway = Gateway::start(&[], Some(settings)).await;
    let is_followed = |address: SocketAddr| {
        let gateway = &gateway;
        async move {
            let coherence = gateway.status().await["coherence"].clone();
            coherence["following"] == address.to_string()
        }
    };
    until("the first is followed", || is_followed(first.address())).await;
    let private = second.address().to_string();
    let address = free_address().to_string();
    let answer = add(&gateway, json!({ "address": address, "private": private })).await;
    assert_eq!(answer.status, 200, "{answer:#?}");
    let one = first.address();
    first.stop().await;
    until("the added one is followed", || {
        is_followed(second.address())
    })
    .await;
    assert_ne!(one, second.address());
}

#[tokio::test]
async fn the_program_adds_and_removes_origins() {
    let one = FakeOrigin::start(|_| unkept("one")).await;
    let two = FakeOrigin::start(|_| unkept("two")).await;
    let gateway = Gateway::general(&[&one]).await;
    let operate = |arguments: &[&str]| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_gateway"));
        command.arg("node").args(arguments);
        command.args(["--admin", &gateway.admin.to_string(), "--admin-token-file"]);
        command.arg(gateway.token_file());
        command.output().expect("the built gateway")
    };
    let node = two.address().to_string();
    let output = operate(&["add", &node, "--weight", "2", "--private", &node]);
    let out = String::from_utf8_lossy(&output.stdout).into_owned();
    let line = out.lines().find(|line| line.starts_with(&node));
    let words: Vec<_> = line.expect("its line").split_whitespace().collect();
    assert_eq!((words[1], words[5]), ("2", "added"), "{out}");
    let output = operate(&["remove", &node]);
    let out = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success() && !out.contains(&node), "{out}");
    let last = one.address().to_string();
    let refused = operate(&["remove", &last]);
    let said = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert!(!refused.status.success() && said.contains("409"), "{said}");
    assert!(operate(&["remove", &last, "--last"]).status.success());
    assert_eq!(gateway.status().await["nodes"], json!([]));
}
