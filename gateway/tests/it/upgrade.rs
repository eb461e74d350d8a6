//! A new process takes over while requests run, and the service manager is told.

use std::os::unix::net::UnixDatagram;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use serde_json::{Value, json};

use crate::support::{
    Client, DEADLINE, FakeOrigin, Gate, Gateway, Reply, Request, expire, free_address, get, until,
};

const UPGRADES: usize = 3;

/// Asks until it is told to stop; returns how many requests were answered, all of them with 200.
async fn ask(client: Client, keeps: bool, stop: Arc<AtomicBool>, asked: Arc<AtomicU64>) -> u64 {
    let mut answered = 0;
    let mut connection = client.connect().await;
    while !stop.load(Ordering::Relaxed) {
        let target = if answered % 4 == 0 {
            "/passed"
        } else {
            "/kept"
        };
        let answer = connection.send(&get(target)).await;
        assert_eq!(
            (answer.status, answer.text()),
            (200, &target[1..]),
            "{answer:#?}"
        );
        answered += 1;
        asked.fetch_add(1, Ordering::Relaxed);
        let is_told_to_leave = answer
            .header("connection")
            .is_some_and(|value| value.eq_ignore_ascii_case("close"));
        if !keeps || is_told_to_leave {
            connection = client.connect().await;
        }
    }
    answered
}

#[tokio::test]
async fn upgrades_under_load_fail_no_request_with_and_without_kept_connections() {
    let origin = FakeOrigin::start(|received| {
        if received.target == "/kept" {
            Reply::fresh("kept")
        } else {
            Reply::new(200, "passed").header("Cache-Control", "no-store")
        }
    })
    .await;
    let mut gateway = Gateway::with(&[&origin], "[cache]\nbudget = \"8MiB\"\n").await;
    let (stop, asked) = (
        Arc::new(AtomicBool::new(false)),
        Arc::<AtomicU64>::default(),
    );
    let clients: Vec<_> = [true, true, false, false]
        .into_iter()
        .map(|keeps| {
            let (stop, asked) = (Arc::clone(&stop), Arc::clone(&asked));
            tokio::spawn(ask(gateway.client(), keeps, stop, asked))
        })
        .collect();
    let mut pids = vec![gateway.pid()];
    for _ in 0..UPGRADES {
        let before = asked.load(Ordering::Relaxed);
        until("requests run", || async {
            asked.load(Ordering::Relaxed) > before + 20
        })
        .await;
        gateway.upgrade().await;
        pids.push(gateway.pid());
    }
    let before = asked.load(Ordering::Relaxed);
    until("requests run", || async {
        asked.load(Ordering::Relaxed) > before + 20
    })
    .await;
    stop.store(true, Ordering::Relaxed);
    for client in clients {
        assert!(client.await.expect("no request failed") > 0);
    }
    pids.dedup();
    assert_eq!(pids.len(), UPGRADES + 1, "{pids:?}");
    assert_eq!(gateway.status().await["pid"], gateway.pid());
}

#[tokio::test]
async fn a_request_that_has_begun_is_answered_by_the_process_of_before() {
    let gate = Gate::closed();
    let held = gate.clone();
    let origin = FakeOrigin::start(move |_| Reply::new(200, "slow").held(&held)).await;
    let gateway = Gateway::with(&[&origin], "[limits]\nshutdown_grace = \"1s\"\n").await;
    let client = gateway.client();
    let slow = tokio::spawn(async move { client.get("/slow").await });
    gate.reached(1).await;
    gateway.signal("QUIT");
    let old = gateway.pid();
    until("the new process answers", || async {
        let answer = gateway.call(get("/status")).await;
        answer.status == 200 && answer.json()["pid"] != old
    })
    .await;
    let new = gateway.status().await["pid"].to_string();
    // Longer than a stop would wait: an upgrade is no reason to drop a request.
    expire(Duration::from_millis(1_500)).await;
    gate.open();
    assert_eq!(slow.await.expect("an answer").text(), "slow");
    let killed = Command::new("kill").arg(new).status();
    assert!(killed.expect("the kill program").success());
}

#[tokio::test]
async fn a_write_that_ends_in_the_process_of_before_takes_out_what_the_new_one_keeps() {
    let gate = Gate::closed();
    let held = gate.clone();
    let origin = FakeOrigin::start(move |received| match received.method.as_str() {
        "POST" => Reply::new(200, "written")
            .header("Cache-Group-Invalidation", "\"g\"")
            .held(&held),
        _ => Reply::fresh("page").header("Cache-Groups", "\"g\""),
    })
    .await;
    let gateway = Gateway::with(&[&origin], "[limits]\nshutdown_grace = \"20s\"\n").await;
    let client = gateway.client();
    let write = tokio::spawn(async move { client.post("/target", "{}").await });
    gate.reached(1).await;
    let answer = gateway.call(Request::new("POST", "/upgrade")).await;
    assert_eq!(answer.status, 200, "{answer:#?}");
    let new = answer.json()["pid"].to_string();
    // For a moment both take connections; the process of before gives no hits.
    for target in ["/grouped", "/target"] {
        until("the new process keeps it", || async {
            client.get(target).await.is_hit()
        })
        .await;
    }
    gate.open();
    let written = write.await.expect("an answer");
    let reads = [client.get("/grouped").await, client.get("/target").await];
    let killed = Command::new("kill").arg(new).status();
    assert!(killed.expect("the kill program").success());
    assert_eq!(written.text(), "written");
    assert!(reads.iter().all(|read| !read.is_hit()), "{reads:#?}");
}

#[tokio::test]
async fn the_process_of_before_gives_no_hits_once_the_new_one_may_take_writes() {
    let written = Arc::<AtomicU64>::default();
    let state = Arc::clone(&written);
    let origin = FakeOrigin::start(move |received| {
        if received.method == "POST" {
            state.fetch_add(1, Ordering::Relaxed);
        }
        Reply::fresh(state.load(Ordering::Relaxed).to_string())
    })
    .await;
    // A kept connection may bring one more request for half of it.
    let gateway = Gateway::with(&[&origin], "[limits]\nshutdown_grace = \"20s\"\n").await;
    let mut kept = gateway.client().connect().await;
    for _ in 0..2 {
        assert_eq!(kept.send(&get("/page")).await.text(), "0");
    }
    assert!(kept.send(&get("/page")).await.is_hit());
    let answer = gateway.call(Request::new("POST", "/upgrade")).await;
    assert_eq!(answer.status, 200, "{answer:#?}");
    let new = answer.json()["pid"].to_string();
    assert_eq!(gateway.client().post("/page", "{}").await.status, 200);
    let last = kept.send(&get("/page")).await;
    let killed = Command::new("kill").arg(new).status();
    assert!(killed.expect("the kill program").success());
    assert_eq!(last.text(), "1", "{last:#?}");
    assert!(
        last.cache_status().ends_with("detail=handed-over"),
        "{last:#?}"
    );
    assert_eq!(
        last.header("connection"),
        Some("close"),
        "it is the old one's"
    );
}

#[tokio::test]
async fn settings_that_need_a_new_process_are_taken_over_by_it() {
    let origin = FakeOrigin::start(|_| Reply::fresh("page")).await;
    let mut gateway = Gateway::with(&[&origin], "[cache]\nbudget = \"8MiB\"\n").await;
    gateway.write_settings("threads = 2\n[cache]\nbudget = \"16MiB\"\n");
    gateway.upgrade().await;
    let status = gateway.status().await;
    assert_eq!(status["cache"]["budget_bytes"], 16 << 20, "{status}");
    assert_eq!(gateway.client().get("/page").await.text(), "page");
}

#[tokio::test]
async fn a_new_process_that_cannot_start_changes_nothing() {
    let origin = FakeOrigin::start(|_| Reply::fresh("page")).await;
    let mut gateway = Gateway::with(&[&origin], "").await;
    gateway.client().get("/page").await;
    gateway.write_settings("[cache]\nbudgte = \"16MiB\"\n");
    let answer = gateway.call(Request::new("POST", "/upgrade")).await;
    assert_eq!(answer.status, 409, "{answer:#?}");
    assert!(
        gateway.client().get("/page").await.is_hit(),
        "the cache is the same"
    );
    gateway.write_settings("");
    gateway.upgrade().await;
    assert_eq!(gateway.client().get("/page").await.text(), "page");
}

#[tokio::test]
async fn the_service_manager_is_told_of_readiness_reloads_upgrades_and_the_end() {
    let directory = tempfile::tempdir().expect("a directory");
    let (socket, settings) = (
        directory.path().join("notify"),
        directory.path().join("g.toml"),
    );
    let manager = UnixDatagram::bind(&socket).expect("a socket");
    manager.set_read_timeout(Some(DEADLINE)).expect("a socket");
    let told = |expected: &str| {
        let mut state = [0; 64];
        let length = manager.recv(&mut state).expect("a state in time");
        let state = String::from_utf8_lossy(&state[..length]).into_owned();
        assert!(
            state.starts_with(expected),
            "{state} where {expected} was due"
        );
        state
    };
    std::fs::write(&settings, "upstream.nodes = [\"127.0.0.1:9\"]\n").expect("a file");
    let mut child = Command::new(env!("CARGO_BIN_EXE_gateway"))
        .args(["run", "--listen", &free_address().to_string(), "--config"])
        .arg(&settings)
        .env("NOTIFY_SOCKET", &socket)
        .stderr(Stdio::null())
        .spawn()
        .expect("the built gateway");
    let signal = |name: &str, pid: &str| {
        let sent = Command::new("kill").args([name, pid]).status();
        assert!(sent.expect("the kill program").success());
    };
    let first = child.id().to_string();
    told("READY=1");
    signal("-HUP", &first);
    told("RELOADING=1");
    told("READY=1");
    signal("-QUIT", &first);
    told("READY=1"); // the new process
    let main = told("MAINPID=");
    let second = main.trim_start_matches("MAINPID=").to_owned();
    assert_ne!(second, first);
    assert!(child.wait().expect("a child").success());
    signal("-TERM", &second);
    told("STOPPING=1");
}

/// Address, weight, source and whether it is drained of every node.
async fn nodes(gateway: &Gateway) -> Vec<(String, u64, String, bool)> {
    let status = gateway.status().await;
    let nodes = status["nodes"].as_array().expect("nodes").iter();
    let text = |value: &Value| value.as_str().expect("a text").to_owned();
    nodes
        .map(|node| {
            let weight = node["weight"].as_u64().expect("a weight");
            let drained = node["drained"] == true;
            (
                text(&node["address"]),
                weight,
                text(&node["source"]),
                drained,
            )
        })
        .collect()
}

async fn order(gateway: &Gateway, method: &str, target: &str, body: Value) {
    let call = Request::new(method, target).header("Content-Type", "application/json");
    let answer = gateway.call(call.body(body.to_string())).await;
    assert_eq!(answer.status, 200, "{method} {target}: {answer:#?}");
}

#[tokio::test]
async fn what_operators_ordered_about_origins_outlives_upgrades() {
    let unkept = |_: &_| Reply::new(200, "page").header("Cache-Control", "no-store");
    let mut origins = Vec::new();
    for _ in 0..4 {
        origins.push(FakeOrigin::start(unkept).await);
    }
    let at: Vec<_> = origins
        .iter()
        .map(|origin| origin.address().to_string())
        .collect();
    let mut gateway = Gateway::general(&[&origins[0], &origins[1], &origins[2]]).await;
    order(
        &gateway,
        "POST",
        &format!("/nodes/{}/drain", at[0]),
        json!({}),
    )
    .await;
    order(
        &gateway,
        "POST",
        &format!("/nodes/{}/weight", at[1]),
        json!({"weight": 7}),
    )
    .await;
    order(&gateway, "DELETE", &format!("/nodes/{}", at[2]), json!({})).await;
    order(
        &gateway,
        "POST",
        "/nodes",
        json!({"address": at[3], "weight": 2}),
    )
    .await;
    let ordered = [
        (at[0].clone(), 1, "configured".to_owned(), true),
        (at[1].clone(), 7, "configured".to_owned(), false),
        (at[3].clone(), 2, "added".to_owned(), false),
    ];
    for _ in 0..2 {
        gateway.upgrade().await;
        assert_eq!(nodes(&gateway).await, ordered);
        let settings = gateway.status().await["settings"].clone();
        assert_eq!(settings["nodes_added"], json!([at[3]]), "{settings}");
        assert_eq!(settings["nodes_removed"], json!([at[2]]), "{settings}");
        for _ in 0..20 {
            assert_eq!(gateway.client().get("/").await.status, 200);
        }
    }
    let counts: Vec<_> = origins.iter().map(FakeOrigin::count).collect();
    assert_eq!((counts[0], counts[2]), (0, 0), "{counts:?}");
    assert!(counts[1] > 0 && counts[3] > 0, "{counts:?}");
    order(
        &gateway,
        "POST",
        &format!("/nodes/{}/enable", at[0]),
        json!({}),
    )
    .await;
    gateway.upgrade().await;
    assert!(nodes(&gateway).await.iter().all(|node| !node.3));
}

#[tokio::test]
async fn a_file_that_has_changed_says_which_origins_there_are_and_how_they_are_weighed() {
    let addresses = [free_address(), free_address(), free_address()].map(|at| at.to_string());
    let [one, two, three] = &addresses;
    let mut gateway = Gateway::start(
        &[],
        Some(format!("upstream.nodes = [\"{one}\", \"{two}\"]\n")),
    )
    .await;
    order(
        &gateway,
        "POST",
        &format!("/nodes/{one}/weight"),
        json!({"weight": 7}),
    )
    .await;
    order(&gateway, "POST", &format!("/nodes/{one}/drain"), json!({})).await;
    order(&gateway, "POST", &format!("/nodes/{two}/drain"), json!({})).await;
    // Not by a reload: the file is read by the new process.
    gateway.write_settings(&format!(
        "upstream.nodes = [{{ address = \"{one}\", weight = 3 }}, \"{three}\"]\n"
    ));
    gateway.upgrade().await;
    let expected = [
        (one.clone(), 3, "configured".to_owned(), true),
        (three.clone(), 1, "configured".to_owned(), false),
    ];
    assert_eq!(nodes(&gateway).await, expected);
}
