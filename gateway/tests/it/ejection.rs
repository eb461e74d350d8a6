//! An origin that fails is left alone for a while, and no more is tried again than the budget allows.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use serde_json::Value;

use crate::support::{FakeOrigin, Gate, Gateway, Reply, free_address, until};

fn unkept(status: u16, body: &'static str) -> Reply {
    Reply::new(status, body).header("Cache-Control", "no-store")
}

async fn node(gateway: &Gateway, address: std::net::SocketAddr) -> Value {
    let status = gateway.status().await;
    let mut nodes = status["nodes"].as_array().expect("nodes").iter();
    let found = nodes.find(|node| node["address"] == address.to_string());
    found.expect("the node").clone()
}

#[tokio::test]
async fn an_origin_that_mostly_errs_is_passed_over_and_let_in_again() {
    let heals = Arc::new(AtomicBool::new(false));
    let healed = Arc::clone(&heals);
    let ill = FakeOrigin::start(move |_| match healed.load(Ordering::SeqCst) {
        true => unkept(200, "healed"),
        false => unkept(500, "ill"),
    })
    .await;
    let well = FakeOrigin::start(|_| unkept(200, "well")).await;
    let settings = "[upstream.ejection]\nrequests_min = 5\nbase = \"300ms\"\nmax = \"300ms\"";
    let gateway = Gateway::with(&[&ill, &well], settings).await;
    until("it is passed over", || async {
        gateway.client().get("/").await;
        node(&gateway, ill.address()).await["ejected"] == true
    })
    .await;
    assert!(ill.count() >= 5, "{} answers are no judgement", ill.count());
    let asked = ill.count();
    while node(&gateway, ill.address()).await["ejected"] == true {
        if gateway.client().get("/").await.text() != "well" {
            break; // its time out ended between the two looks
        }
    }
    assert!(ill.count() <= asked + 1);
    heals.store(true, Ordering::SeqCst);
    until("it serves again", || async {
        gateway.client().get("/").await.text() == "healed"
    })
    .await;
}

#[tokio::test]
async fn an_origin_that_hangs_is_passed_over_although_it_takes_connections() {
    let never = Gate::closed();
    let held = never.clone();
    let hung = FakeOrigin::start(move |_| unkept(200, "late").held(&held)).await;
    let well = FakeOrigin::start(|_| unkept(200, "well")).await;
    let settings =
        "[upstream]\nread_timeout = \"100ms\"\n[upstream.ejection]\nbase = \"1m\"\nmax = \"1m\"";
    let gateway = Gateway::with(&[&hung, &well], settings).await;
    until("it is passed over", || async {
        gateway.client().get("/").await;
        node(&gateway, hung.address()).await["ejected"] == true
    })
    .await;
    assert_eq!(hung.count(), 3, "three late answers in a row");
    for _ in 0..20 {
        assert_eq!(gateway.client().get("/").await.text(), "well");
    }
    assert_eq!(node(&gateway, hung.address()).await["ejections"], 1);
}

#[tokio::test]
async fn no_more_is_tried_again_than_the_budget_allows() {
    let broken = FakeOrigin::start(|_| Reply::hang_up()).await;
    let well = FakeOrigin::start(|_| unkept(200, "well")).await;
    let settings = "[upstream]\nin_flight_max = 2\nretry_percent = 10\n\
                    [upstream.ejection]\nrequests_min = 100000\nfailures_in_a_row = 100000";
    let gateway = Gateway::with(&[&broken, &well], settings).await;
    let mut failed = 0;
    for _ in 0..60 {
        failed += u64::from(gateway.client().get("/").await.status == 502);
    }
    let balance = gateway.status().await["balance"].clone();
    let retries = balance["retries"].as_u64().expect("a number");
    // Two at first, and a tenth of the sixty.
    assert!((6..=8).contains(&retries), "{balance}");
    assert_eq!(balance["retries_refused"], failed, "{balance}");
    assert_eq!(broken.count() + well.count(), 60 + retries as usize);
}

#[tokio::test]
async fn a_name_stands_for_its_addresses() {
    let origin = FakeOrigin::start(|_| unkept(200, "named")).await;
    let name = format!("localhost:{}", origin.address().port());
    let nodes = format!("[upstream]\nnodes = [\"{name}\"]\nresolve_interval = \"1s\"");
    let gateway = Gateway::start(&[], Some(nodes)).await;
    until("it serves", || async {
        gateway.client().get("/").await.text() == "named"
    })
    .await;
    assert_eq!(node(&gateway, origin.address()).await["name"], name);
    let unknown = format!(
        "[upstream]\nnodes = [\"no-such-host.invalid:80\"]\n[admin]\nlisten = \"{}\"",
        free_address()
    );
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("gateway.toml");
    std::fs::write(&file, unknown).unwrap();
    let output = std::process::Command::new(env!("CARGO_BIN_EXE_gateway"))
        .args(["run", "--config"])
        .arg(&file)
        .args(["--listen", &free_address().to_string()])
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(
        !output.status.success() && said.contains("no-such-host.invalid:80"),
        "{said}"
    );
}
