//! A kept connection ends just when a request goes out on it: what may be sent once more is, and nobody is blamed.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use parking_lot::Mutex;
use serde_json::Value;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use crate::support::{FakeOrigin, Gateway, Received, Reply, Request, assert_problem, until};

const ANSWER: &[u8] =
    b"HTTP/1.1 200 OK\r\nCache-Control: no-store\r\nContent-Length: 4\r\n\r\npage";

/// Answers the first request of each connection and ends it at the second.
fn once_each(body: &'static str) -> impl Fn(&Received) -> Reply + Send + Sync + 'static {
    let seen = Mutex::new(Vec::new());
    move |request| {
        let mut seen = seen.lock();
        if seen.contains(&request.connection) {
            return Reply::hang_up();
        }
        seen.push(request.connection);
        Reply::new(200, body).header("Cache-Control", "no-store")
    }
}

/// Returns when so many requests have ended: what can be kept of their connections is.
async fn ended(gateway: &Gateway, requests: u64) {
    until("the requests have ended", || async {
        let status = gateway.status().await;
        let counts = status["requests"].as_object().expect("counts");
        counts.values().filter_map(Value::as_u64).sum::<u64>() == requests
    })
    .await;
}

async fn only_node(gateway: &Gateway) -> Value {
    gateway.status().await["nodes"][0].clone()
}

/// What an origin does at the second request of its first connection.
#[derive(Clone, Copy)]
enum Second {
    /// Closes before it has read it: the connection is reset.
    Reset,
    /// Writes this, then closes.
    Write(&'static [u8]),
}

/// An origin on plain sockets that serves every connection but for the second request of the first. Where it is, and how many
/// requests came to it.
async fn origin(second: Second) -> (SocketAddr, Arc<AtomicUsize>) {
    let listener = TcpListener::bind(("127.0.0.1", 0)).await.expect("a port");
    let address = listener.local_addr().expect("an address");
    let (count, is_first) = (Arc::<AtomicUsize>::default(), AtomicBool::new(true));
    let counted = Arc::clone(&count);
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            // A health check says nothing: it is not the first that is served.
            let mut stream = stream;
            let counted = Arc::clone(&counted);
            if !answer(&mut stream, &counted).await {
                continue;
            }
            if is_first.swap(false, Ordering::SeqCst) {
                tokio::spawn(async move {
                    let _ = stream.readable().await;
                    counted.fetch_add(1, Ordering::SeqCst);
                    if let Second::Write(bytes) = second {
                        let _ = stream.read(&mut [0; 4096]).await;
                        let _ = stream.write_all(bytes).await;
                    }
                });
            }
        }
    });
    (address, count)
}

/// Answers one request, if one comes.
async fn answer(stream: &mut TcpStream, counted: &AtomicUsize) -> bool {
    if !matches!(stream.read(&mut [0; 4096]).await, Ok(1..)) {
        return false;
    }
    counted.fetch_add(1, Ordering::SeqCst);
    stream.write_all(ANSWER).await.is_ok()
}

#[tokio::test]
async fn a_read_that_meets_the_end_of_a_kept_connection_is_sent_once_more_to_the_only_origin() {
    for method in ["GET", "HEAD"] {
        let origin = FakeOrigin::start(once_each("page")).await;
        let gateway = Gateway::general(&[&origin]).await;
        for asked in 1..=20 {
            let read = Request::new(method, "/page");
            let answer = gateway.client().send(&read).await;
            assert_eq!(answer.status, 200, "{asked}: {answer:#?}");
            ended(&gateway, asked).await;
        }
        // Every other one met it: the connection of a second sending is not used again.
        assert_eq!(origin.count(), 30);
        let balance = gateway.status().await["balance"].clone();
        assert_eq!(balance["retries"], 10, "{balance}");
        let node = only_node(&gateway).await;
        assert_eq!(
            (&node["failures"], &node["ejections"]),
            (&0.into(), &0.into()),
            "{node}"
        );
    }
}

#[tokio::test]
async fn so_is_one_whose_kept_connection_is_reset() {
    let (address, count) = origin(Second::Reset).await;
    let gateway = Gateway::start(&[address], None).await;
    for asked in 1..=2 {
        let answer = gateway.client().get("/page").await;
        assert_eq!((answer.status, answer.text()), (200, "page"), "{answer:#?}");
        ended(&gateway, asked).await;
    }
    assert_eq!(count.load(Ordering::SeqCst), 3);
    assert_eq!(only_node(&gateway).await["failures"], 0);
}

#[tokio::test]
async fn what_can_be_kept_is_kept_from_the_second_sending() {
    let seen = AtomicUsize::new(0);
    let origin = FakeOrigin::start(move |_| match seen.fetch_add(1, Ordering::SeqCst) {
        0 => Reply::new(200, "first").header("Cache-Control", "no-store"),
        1 => Reply::hang_up(),
        _ => Reply::fresh("page"),
    })
    .await;
    let gateway = Gateway::general(&[&origin]).await;
    assert_eq!(gateway.client().get("/first").await.text(), "first");
    ended(&gateway, 1).await;
    assert_eq!(gateway.client().get("/page").await.text(), "page");
    assert!(gateway.client().get("/page").await.is_hit());
    assert_eq!(origin.hits("/page"), 2);
}

#[tokio::test]
async fn it_goes_to_another_origin_if_there_is_one_and_meets_no_other_kept_connection() {
    let (one, two) = (
        FakeOrigin::start(once_each("one")).await,
        FakeOrigin::start(once_each("two")).await,
    );
    let gateway = Gateway::general(&[&one, &two]).await;
    for asked in 1..=2 {
        gateway.client().get("/first").await;
        ended(&gateway, asked).await;
    }
    // Both keep a connection that ends with the next request.
    assert_eq!((one.count(), two.count()), (1, 1));
    let answer = gateway.client().get("/then").await;
    assert_eq!(answer.status, 200, "{answer:#?}");
    assert_eq!((one.hits("/then"), two.hits("/then")), (1, 1));
}

#[tokio::test]
async fn a_write_that_meets_the_end_of_a_kept_connection_is_seen_once_and_nobody_is_blamed() {
    let script = |request: &Received| match request.method.as_str() {
        "GET" => Reply::new(200, "page").header("Cache-Control", "no-store"),
        _ => Reply::hang_up(),
    };
    let strict = "[upstream.ejection]\nfailures_in_a_row = 1\nbase = \"1m\"\nmax = \"1m\"";
    for method in ["POST", "PUT", "PATCH", "DELETE"] {
        let origin = FakeOrigin::start(script).await;
        let gateway = Gateway::with(&[&origin], strict).await;
        for round in 0..5 {
            assert_eq!(gateway.client().get("/page").await.status, 200);
            ended(&gateway, round * 2 + 1).await;
            let before = origin.hits("/write");
            let write = Request::new(method, "/write").body("1");
            assert_problem(&gateway.client().send(&write).await, 502);
            assert_eq!(origin.hits("/write"), before + 1, "{method}");
            ended(&gateway, round * 2 + 2).await;
        }
        let node = only_node(&gateway).await;
        assert_eq!(
            (&node["failures"], &node["ejected"]),
            (&0.into(), &false.into()),
            "{node}"
        );
    }
}

#[tokio::test]
async fn a_failure_of_the_second_sending_is_a_failure() {
    let seen = AtomicUsize::new(0);
    let origin = FakeOrigin::start(move |_| match seen.fetch_add(1, Ordering::SeqCst) {
        0 => Reply::new(200, "page").header("Cache-Control", "no-store"),
        _ => Reply::hang_up(),
    })
    .await;
    let gateway = Gateway::general(&[&origin]).await;
    assert_eq!(gateway.client().get("/page").await.status, 200);
    ended(&gateway, 1).await;
    assert_problem(&gateway.client().get("/page").await, 502);
    assert_eq!(origin.count(), 3, "sent twice");
    let node = only_node(&gateway).await;
    assert_eq!(
        node["failures"], 1,
        "the end is not counted, the failure is: {node}"
    );
}

#[tokio::test]
async fn without_a_budget_nothing_is_sent_once_more() {
    let origin = FakeOrigin::start(once_each("page")).await;
    let gateway = Gateway::with(&[&origin], "[upstream]\nretry_percent = 0").await;
    assert_eq!(gateway.client().get("/page").await.status, 200);
    ended(&gateway, 1).await;
    assert_problem(&gateway.client().get("/page").await, 502);
    assert_eq!(origin.count(), 2);
    let status = gateway.status().await;
    assert_eq!(status["balance"]["retries_refused"], 1, "{status}");
}

#[tokio::test]
async fn where_something_of_an_answer_has_come_nothing_is_sent_once_more() {
    let begun: [&[u8]; 2] = [
        b"HTTP/1.1 20",
        b"HTTP/1.1 103 Early Hints\r\nLink: </style.css>; rel=preload\r\n\r\n",
    ];
    for begun in begun {
        let (address, count) = origin(Second::Write(begun)).await;
        let gateway = Gateway::start(&[address], None).await;
        assert_eq!(gateway.client().get("/page").await.status, 200);
        ended(&gateway, 1).await;
        assert_problem(&gateway.client().get("/page").await, 502);
        assert_eq!(count.load(Ordering::SeqCst), 2);
        assert_eq!(only_node(&gateway).await["failures"], 1);
    }
}
