//! A gateway that is told to stop finishes what it has begun.

use std::process::ExitStatus;
use std::time::{Duration, Instant};

use crate::support::{FakeOrigin, Gate, Gateway, Reply, get, until};

/// Grace and what a loaded machine adds.
const SOON: Duration = Duration::from_secs(6);

/// Polls until the process has ended, which it must before long.
async fn ends_soon(gateway: &mut Gateway, began: Instant) -> ExitStatus {
    loop {
        if let Some(status) = gateway.exited() {
            return status;
        }
        let after = began.elapsed();
        assert!(after < SOON, "runs after {after:?}: {}", gateway.said());
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

#[tokio::test]
async fn requests_in_flight_are_answered_and_the_process_ends_soon() {
    let gate = Gate::closed();
    let held = gate.clone();
    let origin = FakeOrigin::start(move |_| Reply::new(200, "finished").held(&held)).await;
    let mut gateway = Gateway::general(&[&origin]).await;
    let client = gateway.client();
    let asking: Vec<_> = (0..5)
        .map(|number| tokio::spawn(async move { client.get(&format!("/page/{number}")).await }))
        .collect();
    gate.reached(5).await;
    let began = Instant::now();
    gateway.terminate();
    let public = gateway.public;
    until("nobody new is let in", || async {
        tokio::net::TcpStream::connect(public).await.is_err()
    })
    .await;
    gate.open();
    for answer in asking {
        let answer = answer.await.unwrap();
        assert_eq!((answer.status, answer.text()), (200, "finished"));
    }
    let status = ends_soon(&mut gateway, began).await;
    assert!(status.success(), "{status:?}: {}", gateway.said());
}

#[tokio::test]
async fn an_idle_connection_and_a_stuck_origin_do_not_keep_the_process() {
    let never = Gate::closed();
    let held = never.clone();
    let origin = FakeOrigin::start(move |_| Reply::new(200, "never").held(&held)).await;
    let mut gateway = Gateway::general(&[&origin]).await;
    let idle = gateway.client().connect().await;
    let mut stuck = gateway.client().connect().await;
    stuck.write(&get("/page")).await;
    never.reached(1).await;
    let began = Instant::now();
    gateway.terminate();
    ends_soon(&mut gateway, began).await;
    drop(idle);
}
