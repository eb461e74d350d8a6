//! A gateway that is told to stop finishes what it has begun.

use std::time::{Duration, Instant};

use crate::support::{FakeOrigin, Gate, Gateway, Reply, get, until};

/// Grace and what a loaded machine adds.
const SOON: Duration = Duration::from_secs(6);

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
    let mut status = None;
    while status.is_none() {
        assert!(
            began.elapsed() < SOON,
            "still running after {:?}: {}",
            began.elapsed(),
            gateway.said()
        );
        tokio::time::sleep(Duration::from_millis(10)).await;
        status = gateway.exited();
    }
    assert!(status.unwrap().success(), "{status:?}: {}", gateway.said());
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
    while gateway.exited().is_none() {
        assert!(
            began.elapsed() < SOON,
            "still running after {:?}: {}",
            began.elapsed(),
            gateway.said()
        );
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    drop(idle);
}
