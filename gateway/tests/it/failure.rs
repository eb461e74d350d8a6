//! What clients get when origins fail: a problem document, soon, and never somebody else's bytes.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use tokio::net::{TcpListener, TcpSocket, TcpStream};

use crate::support::{
    FakeOrigin, Gate, Gateway, Reply, Request, assert_hit, assert_problem, free_address, get, until,
};

/// A machine that is gone: who connects to it hears nothing.
struct Vanished {
    address: SocketAddr,
    _listener: TcpListener,
    _waiting: Vec<TcpStream>,
}

impl Vanished {
    async fn new() -> Self {
        let socket = TcpSocket::new_v4().expect("a socket");
        socket
            .bind(SocketAddr::from(([127, 0, 0, 1], 0)))
            .expect("a port");
        let listener = socket.listen(1).expect("a listener");
        let address = listener.local_addr().expect("an address");
        let mut waiting = Vec::new();
        // Nobody accepts: once the few places are taken, the system drops what comes.
        while let Ok(connection) =
            tokio::time::timeout(Duration::from_millis(200), TcpStream::connect(address)).await
        {
            waiting.push(connection.expect("a connection"));
        }
        Self {
            address,
            _listener: listener,
            _waiting: waiting,
        }
    }
}

#[tokio::test]
async fn where_no_machine_is_found_clients_are_told_at_once_when_to_come_back() {
    let (one, two) = (Vanished::new().await, Vanished::new().await);
    let settings = "[upstream]\nconnect_timeout = \"400ms\"\n[upstream.health]\ninterval = \"100ms\"\ntimeout = \"400ms\"\n";
    let gateway = Gateway::start(&[one.address, two.address], Some(settings.to_owned())).await;
    // Before the checks have found out: it was not reached, so anything may be tried again.
    let early = gateway.client().post("/page", "{}").await;
    assert_problem(&early, 503);
    assert_eq!(early.header("retry-after"), Some("1"));
    until("checks have failed", || async {
        let status = gateway.status().await;
        let nodes = status["nodes"].as_array().expect("nodes");
        nodes.iter().all(|node| node["healthy"] == false)
    })
    .await;
    for request in [get("/page"), Request::new("POST", "/page").body("{}")] {
        let began = Instant::now();
        let answer = gateway.client().send(&request).await;
        let took = began.elapsed();
        assert_problem(&answer, 503);
        assert_eq!(answer.header("retry-after"), Some("1"), "{answer:#?}");
        assert!(took < Duration::from_millis(100), "{took:?}");
    }
}

#[tokio::test]
async fn with_all_origins_down_clients_are_told_when_to_come_back() {
    let gateway = Gateway::start(&[free_address(), free_address()], None).await;
    for request in [
        get("/page"),
        Request::new("POST", "/page").body("{}"),
        Request::new("HEAD", "/page"),
    ] {
        let began = Instant::now();
        let answer = gateway.client().send(&request).await;
        assert_eq!(
            (answer.status, answer.header("retry-after")),
            (503, Some("1")),
            "{answer:#?}"
        );
        assert!(
            began.elapsed() < Duration::from_secs(1),
            "{:?}",
            began.elapsed()
        );
    }
    let answer = gateway.client().get("/page").await;
    assert_problem(&answer, 503);
    assert_eq!(answer.json()["type"], "/problems/unavailable");
    let said = answer.text();
    assert!(
        !said.contains("127.0.0.1") && !said.to_lowercase().contains("pingora"),
        "no internals: {said}"
    );
}

#[tokio::test]
async fn a_connection_that_breaks_before_the_answer_is_a_bad_gateway() {
    let origin = FakeOrigin::start(|_| Reply::hang_up()).await;
    let gateway = Gateway::general(&[&origin]).await;
    assert_problem(&gateway.client().get("/page").await, 502);
    assert_problem(&gateway.client().post("/page", "{}").await, 502);
}

#[tokio::test]
async fn an_answer_that_is_no_http_is_a_bad_gateway() {
    let origin = FakeOrigin::start(|_| Reply::fresh("x").header("bad name", "y\u{0}z")).await;
    let gateway = Gateway::general(&[&origin]).await;
    let answer = gateway.client().get("/page").await;
    assert_problem(&answer, 502);
    assert_eq!(gateway.status().await["cache"]["objects"], 0);
}

#[tokio::test]
async fn an_answer_that_does_not_come_is_a_gateway_timeout() {
    let never = Gate::closed();
    let origin = FakeOrigin::start(move |_| Reply::fresh("too late").held(&never)).await;
    let gateway = Gateway::with(&[&origin], "[upstream]\nread_timeout = \"150ms\"").await;
    let answer = gateway.client().get("/page").await;
    assert_problem(&answer, 504);
    assert_eq!(answer.json()["type"], "/problems/timeout");
    assert_eq!(origin.count(), 1, "a slow origin is not asked again");
    assert_problem(&gateway.client().post("/page", "{}").await, 504);
    assert_eq!(origin.count(), 2);
}

#[tokio::test]
async fn an_answer_that_breaks_off_breaks_off_for_its_client_and_not_for_the_next() {
    let origin = FakeOrigin::start(|request| match request.target.as_str() {
        "/broken" => Reply::new(200, "x".repeat(100_000))
            .header("Cache-Control", "no-store")
            .broken_after(50_000),
        _ => Reply::fresh("whole"),
    })
    .await;
    let gateway = Gateway::general(&[&origin]).await;
    let broken = gateway.client().get("/broken").await;
    assert!(
        !broken.whole,
        "{} of 100000 bytes look whole",
        broken.body.len()
    );
    assert_eq!(origin.count(), 1, "what has begun is not begun again");
    assert_eq!(gateway.client().get("/page").await.text(), "whole");
    assert_hit(&gateway.client().get("/page").await);
}

#[tokio::test]
async fn an_early_answer_to_an_unfinished_body_reaches_its_client() {
    let origin = FakeOrigin::start(|_| Reply::new(413, "too much").closing()).await;
    let gateway = Gateway::general(&[&origin]).await;
    let answer = gateway.client().post("/upload", &"x".repeat(300_000)).await;
    assert_eq!((answer.status, answer.text()), (413, "too much"));
}

#[tokio::test]
async fn an_origins_own_error_is_passed_on_as_it_is() {
    let origin = FakeOrigin::start(|_| {
        Reply::new(503, "its own words")
            .header("Retry-After", "7")
            .header("Cache-Control", "private, no-store")
    })
    .await;
    let gateway = Gateway::general(&[&origin]).await;
    let answer = gateway.client().get("/page").await;
    assert_eq!(
        (answer.status, answer.text(), answer.header("retry-after")),
        (503, "its own words", Some("7"))
    );
}

#[tokio::test]
async fn a_gateway_that_cannot_start_says_why_and_ends() {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    for (arguments, expected) in [
        (
            vec!["run", "--listen", &address, "--upstream", "127.0.0.1:1"],
            "binding the public listener",
        ),
        (vec!["run", "--listen", "127.0.0.1:1"], "upstream.nodes"),
        (
            vec!["run", "--config", "/does/not/exist.toml"],
            "/does/not/exist.toml",
        ),
    ] {
        let output = std::process::Command::new(env!("CARGO_BIN_EXE_gateway"))
            .args(&arguments)
            .output()
            .unwrap();
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(
            !output.status.success() && said.contains(expected),
            "{arguments:?}: {said}"
        );
    }
}
