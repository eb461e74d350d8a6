//! One HTTP/2 connection: it ends after its share of requests, no header comes for ever, and no
//! stream waits for ever for a client that takes little.

use std::time::{Duration, Instant};

use bytes::Bytes;
use http_body_util::{BodyExt, Empty};
use hyper::body::Incoming;
use hyper::client::conn::http2::{Builder, SendRequest};
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::guard::cuts;
use crate::support::{DEADLINE, FakeOrigin, Gate, Reply, until};
use crate::tls::{END_HEADERS, END_STREAM, Encrypted, HEADERS, frame, header_block, opening};

/// Between two looks of a client that takes its time.
const PAUSE: Duration = Duration::from_millis(50);

/// Rates that a test can wait for: a piece has a second and a bit at most, or three seconds.
const RATES: &str = "[limits]\nwrite_rate_min = \"16KiB\"\nrate_slack = \"300ms\"\n";
const SLOWER: &str = "[limits]\nwrite_rate_min = \"8KiB\"\nrate_slack = \"1s\"\n";

type Client = SendRequest<Empty<Bytes>>;

/// A connection that lets so many bytes of a stream be under way, and whether it has ended.
async fn connect(site: &Encrypted, window: u32) -> (Client, tokio::task::JoinHandle<bool>) {
    let stream = site.connect(&site.certificate, &["h2"]).await;
    let stream = TokioIo::new(stream.expect("a connection"));
    let handshake = Builder::new(TokioExecutor::new())
        .initial_stream_window_size(window)
        .handshake(stream)
        .await;
    let (client, connection) = handshake.expect("a handshake");
    (client, tokio::spawn(async { connection.await.is_ok() }))
}

async fn ask(client: &mut Client, path: &str) -> hyper::Result<http::Response<Incoming>> {
    let request = http::Request::get(format!("https://shop.test{path}")).body(Empty::new());
    let sent = client.send_request(request.expect("a request"));
    tokio::time::timeout(DEADLINE, sent)
        .await
        .expect("an answer in time")
}

async fn text(answer: http::Response<Incoming>) -> String {
    let body = answer.into_body().collect();
    let body = tokio::time::timeout(DEADLINE, body).await;
    let body = body.expect("a body in time").expect("a body").to_bytes();
    String::from_utf8_lossy(&body).into_owned()
}

/// Takes an answer at a rate, in bytes a second, however they come; how many came, and whether those were all.
async fn take_slowly(answer: http::Response<Incoming>, rate: usize) -> (usize, bool) {
    let (mut body, mut taken) = (answer.into_body(), 0);
    let began = tokio::time::Instant::now();
    loop {
        assert!(began.elapsed() < 2 * DEADLINE, "{taken} bytes taken");
        let due = Duration::from_secs_f64(taken as f64 / rate as f64);
        tokio::time::sleep_until(began + due).await;
        match body.frame().await {
            Some(Ok(frame)) => taken += frame.into_data().map_or(0, |data| data.len()),
            Some(Err(_)) => return (taken, false),
            None => return (taken, true),
        }
    }
}

#[tokio::test]
async fn a_connection_ends_after_its_share_of_requests_and_what_is_under_way_is_answered() {
    let gate = Gate::closed();
    let held = gate.clone();
    let origin = FakeOrigin::start(move |request| match request.target.as_str() {
        "/held" => Reply::fresh("late").held(&held),
        _ => Reply::fresh("page"),
    })
    .await;
    let site = Encrypted::start(&origin, "[limits]\nkeepalive_requests_max = 3\n").await;
    let (mut client, connection) = connect(&site, 65_535).await;
    let mut other = client.clone();
    let late = tokio::spawn(async move {
        let answer = ask(&mut other, "/held").await.expect("an answer");
        text(answer).await
    });
    gate.reached(1).await;
    for _ in 0..2 {
        let answer = ask(&mut client, "/page").await.expect("an answer");
        assert_eq!(text(answer).await, "page");
    }
    until("no more requests are taken", || async {
        ask(&mut client.clone(), "/page").await.is_err()
    })
    .await;
    gate.open();
    assert_eq!(late.await.expect("a task"), "late");
    let ended = tokio::time::timeout(DEADLINE, connection).await;
    assert!(ended.expect("an end in time").expect("a task"), "an error");
}

/// A connection on which a test writes frames itself, and reads nothing of what they say; done once the gateway has closed it.
async fn raw(
    site: &Encrypted,
) -> (
    impl tokio::io::AsyncWrite + Unpin,
    tokio::task::JoinHandle<()>,
) {
    let stream = site.connect(&site.certificate, &["h2"]).await;
    let (mut reader, mut writer) = tokio::io::split(stream.expect("a connection"));
    writer.write_all(&opening()).await.expect("a connection");
    let closed = tokio::spawn(async move {
        let mut room = vec![0; 16 * 1024];
        while reader.read(&mut room).await.is_ok_and(|length| length > 0) {}
    });
    (writer, closed)
}

fn request(stream: u32) -> Vec<u8> {
    frame(HEADERS, END_STREAM | END_HEADERS, stream, &header_block())
}

async fn uncached() -> FakeOrigin {
    FakeOrigin::start(|_| Reply::new(200, "page").header("Cache-Control", "no-store")).await
}

#[tokio::test]
async fn who_sends_on_after_the_end_was_announced_is_cut_off_soon() {
    let origin = uncached().await;
    let limits = "http2_streams_max = 2\n[limits]\nkeepalive_requests_max = 3\n";
    let site = Encrypted::start(&origin, limits).await;
    let (mut writer, closed) = raw(&site).await;
    let began = Instant::now();
    for stream in (1..).step_by(2) {
        if closed.is_finished() || writer.write_all(&request(stream)).await.is_err() {
            break;
        }
        tokio::time::sleep(PAUSE / 2).await;
        assert!(began.elapsed() < DEADLINE, "never cut");
    }
    // Three, and twice as many more as may be under way.
    let answered = origin.count();
    assert!((3..=7).contains(&answered), "{answered} requests");
}

#[tokio::test]
async fn who_stays_after_the_end_was_announced_has_the_time_of_an_idle_connection() {
    let origin = uncached().await;
    let limits = "[limits]\nkeepalive_requests_max = 1\nkeepalive_timeout = \"1s\"\n";
    let site = Encrypted::start(&origin, limits).await;
    let (mut writer, closed) = raw(&site).await;
    let began = Instant::now();
    writer.write_all(&request(1)).await.expect("a connection");
    let closed = tokio::time::timeout(DEADLINE, closed).await;
    closed.expect("an end in time").expect("a task");
    assert!(
        began.elapsed() >= Duration::from_millis(900),
        "{:?}",
        began.elapsed()
    );
    assert_eq!(origin.count(), 1);
}

#[tokio::test]
async fn a_header_that_drips_beside_a_request_is_cut_off_and_a_slow_request_is_not() {
    let gate = Gate::closed();
    let held = gate.clone();
    let origin = FakeOrigin::start(move |_| {
        Reply::new(200, "late")
            .header("Cache-Control", "no-store")
            .held(&held)
    })
    .await;
    let site = Encrypted::start(&origin, "[limits]\nheader_timeout = \"2s\"\n").await;
    let (mut client, _connection) = connect(&site, 65_535).await;
    let slow = tokio::spawn(async move {
        let answer = ask(&mut client, "/slow").await.expect("an answer");
        text(answer).await
    });
    let (mut writer, closed) = raw(&site).await;
    writer.write_all(&request(1)).await.expect("a connection");
    gate.reached(2).await;
    let began = Instant::now();
    let header = frame(HEADERS, END_STREAM | END_HEADERS, 3, &[0; 1_000]);
    for byte in header {
        if closed.is_finished() || writer.write_all(&[byte]).await.is_err() {
            break;
        }
        tokio::time::sleep(PAUSE).await;
        assert!(began.elapsed() < DEADLINE, "never cut");
    }
    assert!(
        began.elapsed() >= Duration::from_secs(2),
        "{:?}",
        began.elapsed()
    );
    assert_eq!(cuts(&site.gateway, "header-late").await, 1);
    gate.open();
    assert_eq!(slow.await.expect("a task"), "late");
}

#[tokio::test]
async fn a_stream_whose_client_takes_next_to_nothing_is_reset_and_its_connection_goes_on() {
    let large = Bytes::from(vec![b'x'; 300_000]);
    let origin = FakeOrigin::start(move |request| match request.target.as_str() {
        "/kept" => Reply::fresh(large.clone()),
        "/passed" => Reply::new(200, large.clone()).header("Cache-Control", "no-store"),
        _ => Reply::fresh("page"),
    })
    .await;
    let site = Encrypted::start(&origin, RATES).await;
    let (mut client, _connection) = connect(&site, 16).await;
    // Of a fill, of what is kept, and of what never is.
    for path in ["/kept", "/kept", "/passed"] {
        let began = Instant::now();
        let answer = ask(&mut client, path).await.expect("an answer");
        let (taken, was_all) = take_slowly(answer, 300).await;
        assert!(!was_all && taken < 10_000, "{path}: {taken} bytes");
        assert!(began.elapsed() < DEADLINE, "{path}: {:?}", began.elapsed());
        let answer = ask(&mut client, "/page").await.expect("an answer");
        assert_eq!(text(answer).await, "page", "after {path}");
    }
    until("nothing is in flight", || async {
        site.gateway.in_flight().await == [0]
    })
    .await;
}

#[tokio::test]
async fn a_slow_client_above_the_rate_gets_all_and_one_whose_origin_is_slow_is_not_cut_off() {
    const LARGE: usize = 400_000;
    const RATE: usize = 80_000;
    let (gate, large) = (Gate::closed(), Bytes::from(vec![b'x'; LARGE]));
    let held = gate.clone();
    let origin = FakeOrigin::start(move |request| match request.target.as_str() {
        "/kept" => Reply::fresh(large.clone()),
        "/passed" => Reply::new(200, large.clone()).header("Cache-Control", "no-store"),
        _ => Reply::fresh("late").held_after_header(&held),
    })
    .await;
    let settings = format!("{SLOWER}[upstream]\nread_timeout = \"1m\"\n");
    let site = Encrypted::start(&origin, &settings).await;
    site.get2("/kept").await;
    let (mut client, _connection) = connect(&site, 8 * 1024).await;
    let late = ask(&mut client, "/late").await.expect("an answer");
    let kept = ask(&mut client, "/kept").await.expect("an answer");
    let passed = ask(&mut client, "/passed").await.expect("an answer");
    let began = Instant::now();
    let taken = tokio::join!(take_slowly(kept, RATE), take_slowly(passed, RATE));
    assert_eq!(taken, ((LARGE, true), (LARGE, true)));
    // Longer than one piece of them may take.
    assert!(
        began.elapsed() > Duration::from_secs(3),
        "{:?}",
        began.elapsed()
    );
    gate.open();
    assert_eq!(text(late).await, "late");
}
