//! Settings that change while requests run: whole or not at all, and no request notices.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use crate::support::{Answer, Client, FakeOrigin, Gate, Gateway, Reply, Request, get, until};

const RELOADS: usize = 100;
const BROKEN_EVERY: usize = 5;
const CLIENTS: usize = 4;

async fn reload(gateway: &Gateway) -> Answer {
    gateway.call(Request::new("POST", "/reload")).await
}

fn named(name: &str) -> String {
    format!("[cache]\nname = \"{name}\"\n")
}

/// The cache's name in an answer.
fn name_in(answer: &Answer) -> String {
    let status = answer.cache_status();
    status.split(';').next().unwrap_or_default().to_owned()
}

/// What the clients share.
#[derive(Default)]
struct Load {
    is_over: AtomicBool,
    answered: AtomicU64,
}

/// Asks until the load is over, on one connection or on a new one each time; the names that the cache had meanwhile.
async fn ask(client: Client, load: Arc<Load>, keeps_connection: bool) -> BTreeSet<String> {
    let mut kept = client.connect().await;
    let mut names = BTreeSet::new();
    for turn in 0.. {
        if load.is_over.load(Ordering::Relaxed) {
            break;
        }
        let target = if turn % 3 == 0 { "/passed" } else { "/kept" };
        let answer = if keeps_connection {
            kept.send(&get(target)).await
        } else {
            client.get(target).await
        };
        assert_eq!(answer.status, 200, "{answer:#?}");
        assert_eq!(answer.text(), &target[1..]);
        names.insert(name_in(&answer));
        load.answered.fetch_add(1, Ordering::Relaxed);
    }
    names
}

fn assert_refused(answer: &Answer) {
    assert_eq!(answer.status, 422, "{answer:#?}");
    let problems = answer.json()["problems"].to_string();
    for told in [
        "gateway.toml:2:1: cache.naem: no such setting; did you mean `name`?",
        "gateway.toml:4:16: limits.read_timeout",
    ] {
        assert!(problems.contains(told), "{problems}");
    }
}

#[tokio::test]
async fn a_hundred_reloads_under_load_of_which_one_in_five_is_broken_fail_no_request() {
    let origin = FakeOrigin::start(|received| {
        if received.target.starts_with("/kept") {
            Reply::fresh("kept")
        } else {
            Reply::new(200, "passed").header("Cache-Control", "no-store")
        }
    })
    .await;
    let gateway = Gateway::with(&[&origin], &named("first")).await;
    let load = Arc::<Load>::default();
    let clients: Vec<_> = (0..CLIENTS)
        .map(|number| tokio::spawn(ask(gateway.client(), Arc::clone(&load), number % 2 == 0)))
        .collect();
    for turn in 1..=RELOADS {
        let is_broken = turn % BROKEN_EVERY == 0;
        gateway.write_settings(&if is_broken {
            "[cache]\nnaem = \"broken\"\n[limits]\nread_timeout = 5\n".to_owned()
        } else {
            named(&format!("turn-{turn}"))
        });
        let before = load.answered.load(Ordering::Relaxed);
        let answer = reload(&gateway).await;
        if is_broken {
            assert_refused(&answer);
        } else {
            assert_eq!(answer.status, 200, "{answer:#?}");
            assert_eq!(answer.json()["changed"], serde_json::json!(["cache.name"]));
        }
        // Under load: between two reloads requests are answered.
        until("a request is answered", || async {
            load.answered.load(Ordering::Relaxed) > before
        })
        .await;
    }
    load.is_over.store(true, Ordering::Relaxed);
    let mut names = 0;
    for client in clients {
        names += client.await.expect("no request failed").len();
    }
    assert!(
        names > RELOADS / 2,
        "the settings really changed under the clients: {names}"
    );
    let settings = gateway.status().await["settings"].clone();
    assert_eq!(
        settings["generation"],
        RELOADS - RELOADS / BROKEN_EVERY,
        "{settings}"
    );
    let after = gateway.client().get("/kept").await;
    assert_eq!(
        name_in(&after),
        format!("turn-{}", RELOADS - 1),
        "the last good one is in force"
    );
}

#[tokio::test]
async fn a_signal_and_a_changed_file_are_taken_over_and_a_broken_file_is_told_in_the_status() {
    let origin = FakeOrigin::start(|_| Reply::fresh("page")).await;
    let gateway = Gateway::with(&[&origin], &named("first")).await;
    let is_named = |name: &'static str| {
        let gateway = &gateway;
        move || async move { name_in(&gateway.client().get("/page").await) == name }
    };
    gateway.write_settings(&named("by-signal"));
    gateway.signal("HUP");
    until("the signal is followed", is_named("by-signal")).await;
    gateway.write_settings(&named("by-look"));
    until("the changed file is found", is_named("by-look")).await;
    let settings = gateway.status().await["settings"].clone();
    assert_eq!(
        settings["last_reload"]["trigger"], "file_change",
        "{settings}"
    );
    gateway.write_settings("[cache]\nname = 7\n");
    until("the broken file is told", || async {
        let settings = gateway.status().await["settings"].clone();
        let problems = settings["last_reload"]["problems"].to_string();
        problems.contains("cache.name: expected a text in quotes")
    })
    .await;
    assert!(
        is_named("by-look")().await,
        "the settings of before are in force"
    );
    assert!(
        gateway.said().contains("settings not taken over"),
        "{}",
        gateway.said()
    );
}

#[tokio::test]
async fn a_request_ends_with_the_settings_that_it_began_with() {
    let gate = Gate::closed();
    let held = gate.clone();
    let origin = FakeOrigin::start(move |_| Reply::fresh("page").held(&held)).await;
    let gateway = Gateway::with(&[&origin], &named("before")).await;
    let client = gateway.client();
    let begun = tokio::spawn(async move { client.get("/page").await });
    gate.reached(1).await;
    gateway.write_settings(&named("after"));
    assert_eq!(reload(&gateway).await.status, 200);
    gate.open();
    assert_eq!(name_in(&begun.await.expect("an answer")), "before");
    assert_eq!(name_in(&gateway.client().get("/page").await), "after");
}

#[tokio::test]
async fn origins_come_and_go_and_what_is_cached_stays() {
    let one = FakeOrigin::start(|_| Reply::fresh("one")).await;
    let two = FakeOrigin::start(|_| Reply::fresh("two")).await;
    let nodes = |origin: &FakeOrigin| format!("[upstream]\nnodes = [\"{}\"]\n", origin.address());
    let gateway = Gateway::start(&[], Some(nodes(&one))).await;
    assert_eq!(gateway.client().get("/kept").await.text(), "one");
    gateway.write_settings(&nodes(&two));
    let answer = reload(&gateway).await;
    assert_eq!(
        answer.json()["changed"],
        serde_json::json!(["upstream.nodes"]),
        "{answer:#?}"
    );
    assert_eq!(gateway.client().get("/new").await.text(), "two");
    let kept = gateway.client().get("/kept").await;
    assert!(kept.is_hit() && kept.text() == "one", "{kept:#?}");
    let status = gateway.status().await;
    assert_eq!(
        status["nodes"].as_array().map(Vec::len),
        Some(1),
        "{status}"
    );
    // A name that nobody knows: nothing changes, not even what would have been fine.
    gateway.write_settings(
        "[upstream]\nnodes = [\"no-such-host.invalid:80\"]\n[cache]\nname = \"x\"\n",
    );
    let answer = reload(&gateway).await;
    assert_problem_like(&answer, "no-such-host.invalid");
    assert_eq!(gateway.client().get("/newer").await.text(), "two");
}

#[track_caller]
fn assert_problem_like(answer: &Answer, text: &str) {
    assert_eq!(answer.status, 422, "{answer:#?}");
    assert!(
        answer.json()["problems"].to_string().contains(text),
        "{answer:#?}"
    );
}

#[tokio::test]
async fn what_needs_a_new_process_is_named_and_stays() {
    let origin = FakeOrigin::start(|_| Reply::fresh("page")).await;
    let gateway = Gateway::with(&[&origin], "[cache]\nbudget = \"8MiB\"\n").await;
    gateway.write_settings("threads = 2\n[cache]\nbudget = \"16MiB\"\nname = \"edge\"\n");
    let report = reload(&gateway).await.json();
    assert_eq!(
        report["changed"],
        serde_json::json!(["cache.name"]),
        "{report}"
    );
    let needed = serde_json::json!(["cache.budget", "threads"]);
    assert_eq!(report["needs_upgrade"], needed, "{report}");
    let status = gateway.status().await;
    assert_eq!(status["settings"]["needs_upgrade"], needed, "{status}");
    assert_eq!(status["cache"]["budget_bytes"], 8 << 20, "{status}");
}

#[tokio::test]
async fn tokens_are_read_again() {
    let origin = FakeOrigin::start(|_| Reply::fresh("page")).await;
    let directory = tempfile::tempdir().expect("a directory");
    let file = directory.path().join("tokens");
    std::fs::write(&file, "first\n").expect("a file");
    let gateway = Gateway::with(
        &[&origin],
        &format!("[auth]\nrequired = true\ntokens_file = {file:?}\n"),
    )
    .await;
    let ask = |token: &str| {
        let request = get("/page").header("Authorization", &format!("Bearer {token}"));
        let client = gateway.client();
        async move { client.send(&request).await.status }
    };
    assert_eq!((ask("first").await, ask("second").await), (200, 401));
    std::fs::write(&file, "second\n").expect("a file");
    until("the changed tokens are found", || async {
        ask("second").await == 200
    })
    .await;
    assert_eq!(ask("first").await, 401);
}

#[tokio::test]
async fn a_gateway_from_flags_has_nothing_to_read_again() {
    let origin = FakeOrigin::start(|_| Reply::fresh("page")).await;
    let gateway = Gateway::general(&[&origin]).await;
    let answer = reload(&gateway).await;
    assert_eq!(answer.status, 409, "{answer:#?}");
    let anybody = gateway.admin().send(&Request::new("POST", "/reload")).await;
    assert_eq!(anybody.status, 401, "{anybody:#?}");
}

#[tokio::test]
async fn a_node_that_moves_up_in_the_list_stays_drained() {
    let origins = [
        FakeOrigin::start(|_| Reply::fresh("one")).await,
        FakeOrigin::start(|_| Reply::fresh("two")).await,
        FakeOrigin::start(|_| Reply::fresh("three")).await,
    ];
    let addresses: Vec<_> = origins
        .iter()
        .map(|one| one.address().to_string())
        .collect();
    let nodes = |addresses: &[String]| format!("upstream.nodes = {addresses:?}\n");
    let gateway = Gateway::start(&[], Some(nodes(&addresses))).await;
    let drain = format!("/nodes/{}/drain", addresses[1]);
    let answer = gateway.call(Request::new("POST", &drain).body("")).await;
    assert_eq!(answer.status, 200, "{answer:#?}");
    gateway.write_settings(&nodes(&addresses[1..]));
    let answer = reload(&gateway).await;
    assert_eq!(answer.status, 200, "{answer:#?}");
    let status = gateway.status().await;
    let told: Vec<_> = status["nodes"]
        .as_array()
        .expect("nodes")
        .iter()
        .map(|node| (node["address"].clone(), node["drained"].clone()))
        .collect();
    assert_eq!(
        told,
        [
            (addresses[1].clone().into(), true.into()),
            (addresses[2].clone().into(), false.into())
        ]
    );
    for at in 0..6 {
        let answer = gateway.client().get(&format!("/{at}")).await;
        assert_eq!(answer.text(), "three");
    }
}
