//! What an origin gets of odd requests: framed in one way, whole, and without what belongs to the client's connection. The
//! bytes that are forwarded are judged, not the answers.

use crate::support::{FakeOrigin, Gateway, Received, Reply};

/// Fields that end with a connection, or that could change what the next reader makes of the message.
const NEVER: [&str; 8] = [
    "keep-alive",
    "proxy-connection",
    "proxy-authorization",
    "te",
    "trailer",
    "upgrade",
    "http2-settings",
    "x-secret",
];

#[track_caller]
fn assert_clear(request: &str, received: &Received, body: &str) {
    assert!(received.whole, "{request:?}: {received:#?}");
    assert_eq!(received.body, body, "{request:?}: {received:#?}");
    for name in NEVER {
        assert!(
            received.header(name).is_none(),
            "{name} of {request:?}: {received:#?}"
        );
    }
    let count = |name: &str| {
        let fields = received.headers.iter();
        fields.filter(|(field, _)| field == name).count()
    };
    assert_eq!(count("host"), 1, "{request:?}: {received:#?}");
    assert!(
        count("content-length") + count("transfer-encoding") <= 1,
        "{request:?}: {received:#?}"
    );
    let coding = received.header("transfer-encoding");
    assert!(
        coding.is_none_or(|coding| coding == "chunked"),
        "{request:?}: {received:#?}"
    );
    for (name, value) in &received.headers {
        assert!(
            !value.contains(['\r', '\n', '\0']) && !name.contains(char::is_whitespace),
            "{request:?}: {received:#?}"
        );
    }
}

#[tokio::test]
async fn an_origin_gets_odd_requests_in_one_clear_form_or_not_at_all() {
    let origin =
        FakeOrigin::start(|_| Reply::new(200, "ok").header("Cache-Control", "no-store")).await;
    let settings = "[upstream]\nread_timeout = \"1s\"\n[limits]\nread_timeout = \"1s\"";
    let gateway = Gateway::with(&[&origin], settings).await;
    let chunked = "Transfer-Encoding: chunked\r\n\r\n";
    let mut forwarded = 0;
    for (request, body) in [
        // What `Connection` names ends here, whatever it is.
        ("GET / HTTP/1.1\r\nHost: a\r\nConnection: x-secret\r\nX-Secret: 1\r\n\r\n".to_owned(), ""),
        ("GET / HTTP/1.1\r\nHost: a\r\nConnection: X-SECRET , keep-alive,,\r\nX-Secret: 1\r\nKeep-Alive: timeout=5\r\n\r\n".to_owned(), ""),
        ("GET / HTTP/1.1\r\nHost: a\r\nConnection: keep-alive\r\nConnection: x-secret\r\nX-Secret: 1\r\n\r\n".to_owned(), ""),
        ("GET / HTTP/1.1\r\nHost: a\r\nConnection: host\r\n\r\n".to_owned(), ""),
        ("POST / HTTP/1.1\r\nHost: a\r\nConnection: content-length\r\nContent-Length: 5\r\n\r\nhello".to_owned(), "hello"),
        (format!("POST / HTTP/1.1\r\nHost: a\r\nConnection: transfer-encoding\r\n{chunked}5\r\nhello\r\n0\r\n\r\n"), "hello"),
        ("GET / HTTP/1.1\r\nHost: a\r\nConnection: x-forwarded-for, x-request-id\r\n\r\n".to_owned(), ""),
        ("GET / HTTP/1.1\r\nHost: a\r\nProxy-Connection: keep-alive\r\nProxy-Authorization: Basic eDp5\r\n\r\n".to_owned(), ""),
        // Upgrades.
        ("GET / HTTP/1.1\r\nHost: a\r\nConnection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABkAAQAAP__\r\n\r\n".to_owned(), ""),
        ("GET / HTTP/1.1\r\nHost: a\r\nUpgrade: websocket\r\nSec-WebSocket-Key: x\r\n\r\n".to_owned(), ""),
        ("POST / HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nContent-Length: 5\r\n\r\nhello".to_owned(), "hello"),
        // Trailers, and what announces them.
        (format!("POST / HTTP/1.1\r\nHost: a\r\nTE: trailers\r\nTrailer: X-Secret\r\n{chunked}5\r\nhello\r\n0\r\nX-Secret: 1\r\n\r\n"), "hello"),
        (format!("POST / HTTP/1.1\r\nHost: a\r\n{chunked}5\r\nhello\r\n0\r\nContent-Length: 50\r\nHost: b\r\n\r\n"), "hello"),
        (format!("GET / HTTP/1.1\r\nHost: a\r\n{chunked}5\r\nhello\r\n0\r\nX-Secret: 1\r\n\r\n"), ""),
        // Spellings of chunks.
        (format!("POST / HTTP/1.1\r\nHost: a\r\n{chunked}5;name=value\r\nhello\r\n0;last\r\n\r\n"), "hello"),
        (format!("POST / HTTP/1.1\r\nHost: a\r\n{chunked}5;a=\"\\r\\n0\"\r\nhello\r\n0\r\n\r\n"), "hello"),
        (format!("POST / HTTP/1.1\r\nHost: a\r\n{chunked}0005\r\nhello\r\n000\r\n\r\n"), "hello"),
        (format!("POST / HTTP/1.1\r\nHost: a\r\n{chunked}5\nhello\n0\n\n"), "hello"),
        (format!("POST / HTTP/1.1\r\nHost: a\r\n{chunked}5;\nhello\r\n0\r\n\r\n"), "hello"),
        (format!("POST / HTTP/1.1\r\nHost: a\r\n{chunked}\r\nhello\r\n0\r\n\r\n"), "hello"),
        // Expectations.
        ("POST / HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nContent-Length: 5\r\n\r\nhello".to_owned(), "hello"),
        ("GET / HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\n\r\n".to_owned(), ""),
        ("POST / HTTP/1.1\r\nHost: a\r\nExpect: something-else\r\nContent-Length: 5\r\n\r\nhello".to_owned(), "hello"),
        // Bodies where none belongs.
        ("HEAD / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nhello".to_owned(), ""),
        ("GET / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nhello".to_owned(), ""),
        ("DELETE / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nhello".to_owned(), "hello"),
        ("POST / HTTP/1.0\r\nHost: a\r\nContent-Length: 5\r\n\r\nhello".to_owned(), "hello"),
        // Hosts and targets in other spellings.
        ("GET http://a/ HTTP/1.1\r\nHost: a\r\n\r\n".to_owned(), ""),
        ("GET / HTTP/1.1\r\nHost: A:80\r\n\r\n".to_owned(), ""),
        ("GET /%0d%0aX-Secret:%201 HTTP/1.1\r\nHost: a\r\n\r\n".to_owned(), ""),
        ("GET /?x=%0d%0aX-Secret:%201 HTTP/1.1\r\nHost: a\r\n\r\n".to_owned(), ""),
    ] {
        let before = origin.count();
        let raw = gateway.client().raw(&request).await;
        let received = origin.requests().split_off(before);
        assert!(received.len() <= 1, "{request:?} became {received:#?}");
        match received.first() {
            Some(received) if received.whole => {
                assert_clear(&request, received, body);
                forwarded += 1;
            }
            // A body that turned out to be broken after its header had gone on: it is never taken for a whole one.
            Some(_) => assert!(raw.closed, "{request:?}: {raw:#?}"),
            None => {
                let status = raw.status();
                let refused = status.is_none_or(|status| (400..500).contains(&status));
                assert!(refused && raw.closed, "{request:?}: {raw:#?}");
            }
        }
    }
    assert!(
        forwarded >= 20,
        "only {forwarded} reached the origin: the table judges too little"
    );
}
