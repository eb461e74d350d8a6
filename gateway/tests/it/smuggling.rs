//! Nothing ambiguous goes further: what two readers could read in two ways is refused, and the connection closed.

use crate::support::{FakeOrigin, Gateway, Reply, get};

async fn origin() -> FakeOrigin {
    FakeOrigin::start(|request| Reply::fresh(request.target.clone())).await
}

/// Each is answered 400, its connection closed, and no origin sees anything.
async fn assert_refused(cases: &[&str]) {
    let origin = origin().await;
    let gateway = Gateway::general(&[&origin]).await;
    for bytes in cases {
        let raw = gateway.client().raw(bytes).await;
        assert_eq!(raw.status(), Some(400), "{bytes:?}: {raw:#?}");
        assert!(
            raw.closed,
            "the connection stays open after {bytes:?}: {raw:#?}"
        );
        assert_eq!(
            origin.count(),
            0,
            "{bytes:?} reached the origin: {:#?}",
            origin.requests()
        );
    }
}

#[tokio::test]
async fn ambiguous_lengths_are_refused() {
    assert_refused(&[
        "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\nContent-Length: 5\r\n\r\n0\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\nhello",
        "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\nContent-Length: 5\r\n\r\nhello",
        "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5, 5\r\n\r\nhello",
        "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: +5\r\n\r\nhello",
        "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: -5\r\n\r\nhello",
        "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 0x5\r\n\r\nhello",
        "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5.0\r\n\r\nhello",
        "POST / HTTP/1.1\r\nHost: a\r\nContent-Length:\r\n\r\nhello",
        "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 99999999999999999999999\r\n\r\nhello",
    ])
    .await;
}

#[tokio::test]
async fn odd_transfer_codings_are_refused() {
    assert_refused(&[
        "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: gzip\r\n\r\n0\r\n\r\n",
        "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked, identity\r\n\r\n0\r\n\r\n",
        "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked, chunked\r\n\r\n0\r\n\r\n",
        "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: xchunked\r\n\r\n0\r\n\r\n",
        "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: \"chunked\"\r\n\r\n0\r\n\r\n",
        "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding:\r\n\r\n0\r\n\r\n",
        "POST / HTTP/1.0\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n",
    ])
    .await;
}

#[tokio::test]
async fn a_missing_repeated_or_odd_host_is_refused() {
    assert_refused(&[
        "GET / HTTP/1.1\r\n\r\n",
        "GET / HTTP/1.0\r\n\r\n",
        "GET / HTTP/1.1\r\nHost:\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: a\r\nHost: a\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: a, b\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: a b\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: user@a\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: a/b\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: a?b\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: a:port\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: a:99999\r\n\r\n",
        "GET http://b/ HTTP/1.1\r\nHost: a\r\n\r\n",
        "GET http://user@a/ HTTP/1.1\r\nHost: a\r\n\r\n",
    ])
    .await;
}

#[tokio::test]
async fn methods_that_are_not_for_an_origin_are_refused() {
    let origin = origin().await;
    let gateway = Gateway::general(&[&origin]).await;
    for request in [
        "TRACE / HTTP/1.1\r\nHost: a\r\n\r\n",
        "CONNECT a:80 HTTP/1.1\r\nHost: a:80\r\n\r\n",
    ] {
        let raw = gateway.client().raw(request).await;
        assert_eq!(
            (raw.status(), raw.closed),
            (Some(405), true),
            "{request:?}: {raw:#?}"
        );
    }
    assert_eq!(origin.count(), 0);
}

#[tokio::test]
async fn malformed_requests_are_refused() {
    assert_refused(&[
        "GET / HTTP/1.1\r\nHost: a\r\nX-Folded: one\r\n two\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: a\r\n Folded: first\r\n\r\n",
        "GET / HTTP/1.1\r\nHost : a\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: a\r\nX\0: b\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: a\r\nX: b\0c\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: a\r\nX: b\rc\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: a\r\n: empty\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: a\r\nno colon\r\n\r\n",
        "GET / HTTP/9.9\r\nHost: a\r\n\r\n",
        "GET /\r\nHost: a\r\n\r\n",
        "GET /a b HTTP/1.1\r\nHost: a\r\n\r\n",
        "GET /a?b=c d HTTP/1.1\r\nHost: a\r\n\r\n",
        "GET /a HTTP/1.1 HTTP/1.1\r\nHost: a\r\n\r\n",
        "GET  /a HTTP/1.1\r\nHost: a\r\n\r\n",
        "GET /a  HTTP/1.1\r\nHost: a\r\n\r\n",
        // Line feeds and carriage returns alone.
        "GET / HTTP/1.1\nHost: a\n\n",
        "GET / HTTP/1.1\nHost: a\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: a\nX: b\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: a\n\r\n",
        "GET / HTTP/1.1\r\nHost: a\r\n\n",
        "GET / HTTP/1.1\r\nHost: a\r\rX: b\r\n\r\n",
        "GET\r\n\r\n",
        "nonsense\r\n\r\n",
        "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        "\x16\x03\x01\x02\x00\x01\x00\x01\r\n\r\n",
    ])
    .await;
}

#[tokio::test]
async fn a_malformed_body_is_never_taken_for_a_whole_one() {
    let origin = origin().await;
    let gateway = Gateway::with(
        &[&origin],
        "[upstream]\nread_timeout = \"1s\"\n[limits]\nread_timeout = \"1s\"",
    )
    .await;
    for body in [
        "zz\r\nhello\r\n0\r\n\r\n",
        "5 \r\nhello\r\n0\r\n\r\n-",
        "5\r\nhelloX\r\n0\r\n\r\n",
        "-5\r\nhello\r\n0\r\n\r\n",
        "0x5\r\nhello\r\n0\r\n\r\n",
        "fffffffffffffffff\r\nhello",
    ] {
        for method in ["GET", "POST"] {
            let before = origin.count();
            let request = format!(
                "{method} /odd HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n{body}"
            );
            let raw = gateway.client().raw(&request).await;
            let refused = raw.status().is_none_or(|status| status >= 400);
            let seen = origin.requests().split_off(before);
            if method == "GET" && !refused {
                assert!(
                    seen.iter().all(|received| received.body.is_empty()),
                    "{request:?}: {seen:#?}"
                );
            } else if refused {
                assert!(
                    seen.iter()
                        .all(|received| !received.whole || received.method == "GET"),
                    "{request:?}: {seen:#?}"
                );
            } else {
                assert!(
                    seen.iter()
                        .all(|received| received.whole && received.body == "hello"),
                    "{request:?}: {seen:#?}"
                );
            }
            assert!(raw.closed || !refused, "{request:?}: {raw:#?}");
        }
    }
}

#[tokio::test]
async fn what_stands_behind_a_request_is_never_served_as_another_ones_answer() {
    let origin = origin().await;
    let gateway = Gateway::general(&[&origin]).await;
    let hidden = "GET /hidden HTTP/1.1\r\nHost: a\r\n\r\n";
    let length = hidden.len();
    gateway.client().get("/page").await;
    for request in [
        // The body of a hit, of a miss, of a preflight, of a refusal: each looks like a request.
        format!(
            "GET /page HTTP/1.1\r\nHost: shop.test\r\nContent-Length: {length}\r\n\r\n{hidden}"
        ),
        format!("GET /cold HTTP/1.1\r\nHost: a\r\nContent-Length: {length}\r\n\r\n{hidden}"),
        format!(
            "HEAD /page HTTP/1.1\r\nHost: shop.test\r\nContent-Length: {length}\r\n\r\n{hidden}"
        ),
        format!("POST /write HTTP/1.1\r\nHost: a\r\nContent-Length: {length}\r\n\r\n{hidden}"),
        format!("GET /../x HTTP/1.1\r\nHost: a\r\nContent-Length: {length}\r\n\r\n{hidden}"),
        format!("OPTIONS /page HTTP/1.1\r\nHost: a\r\nContent-Length: {length}\r\n\r\n{hidden}"),
        format!(
            "GET /page HTTP/1.1\r\nHost: shop.test\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nContent-Length: {length}\r\n\r\n{hidden}"
        ),
    ] {
        gateway.client().raw(&request).await;
        assert_eq!(origin.hits("/hidden"), 0, "{request:?}");
    }
    assert!(
        origin.requests().iter().all(|received| received.whole),
        "{:#?}",
        origin.requests()
    );
}

#[tokio::test]
async fn a_second_request_in_the_same_packet_gets_its_own_answer_or_none() {
    let origin = origin().await;
    let gateway = Gateway::general(&[&origin]).await;
    for target in ["/one", "/two"] {
        gateway.client().get(target).await;
    }
    let mut connection = gateway.client().connect().await;
    connection.write_bytes(b"GET /one HTTP/1.1\r\nHost: shop.test\r\n\r\nGET /two HTTP/1.1\r\nHost: shop.test\r\n\r\n").await;
    assert_eq!(connection.answer(&get("/one")).await.text(), "/one");
    assert!(connection.is_closed().await, "pipelining is off");
}

/// Where such a body ends may be doubted, and an answer that does not need the body does not settle it.
#[tokio::test]
async fn an_answer_without_the_body_ends_the_connection_and_nothing_behind_it_is_served() {
    let origin = origin().await;
    let settings = "[cors]\n[limits]\nclient_rate = 1\nclient_burst = 3";
    let gateway = Gateway::with(&[&origin], settings).await;
    let body = "Transfer-Encoding: chunked\r\n\r\n5\nhello\n0\n\nGET /hidden HTTP/1.1\r\nHost: shop.test\r\n\r\n";
    let mut seen = Vec::new();
    // At last this client sends too much.
    while !seen.contains(&429) {
        let line = ["OPTIONS /", "POST /%zz", "POST /"][seen.len() % 3];
        let request = format!("{line} HTTP/1.1\r\nHost: shop.test\r\n{body}");
        let raw = gateway.client().raw(&request).await;
        assert!(raw.closed, "{line}: {raw:#?}");
        seen.push(raw.status().expect("an answer"));
        assert!(seen.len() < 60, "{seen:?}");
    }
    assert_eq!(seen[..3], [204, 400, 400]);
    assert_eq!(origin.count(), 0);
}

#[tokio::test]
async fn an_upgrade_is_not_passed_on() {
    let origin = FakeOrigin::start(|request| match request.header("upgrade") {
        Some(_) => Reply::new(101, ""),
        None => Reply::new(200, "plain"),
    })
    .await;
    let gateway = Gateway::general(&[&origin]).await;
    for protocol in ["websocket", "h2c", "other"] {
        let request = get("/page")
            .header("Connection", "Upgrade")
            .header("Upgrade", protocol);
        let answer = gateway.client().send(&request).await;
        assert_eq!(
            (answer.status, answer.text()),
            (200, "plain"),
            "{protocol}: {answer:#?}"
        );
    }
}

#[tokio::test]
async fn tolerated_spellings_reach_the_origin_in_one_clear_form() {
    let origin = origin().await;
    let gateway = Gateway::general(&[&origin]).await;
    for request in [
        "\r\nGET /page HTTP/1.1\r\nHost: a\r\n\r\n",
        "GET /page HTTP/1.1\r\nhOsT:   a  \r\n\r\n",
        "GET http://a/page HTTP/1.1\r\nHost: a\r\n\r\n",
        "GET /page HTTP/1.0\r\nHost: a\r\n\r\n",
    ] {
        let raw = gateway.client().raw(request).await;
        assert_eq!(raw.status(), Some(200), "{request:?}: {raw:#?}");
    }
    for received in origin.requests() {
        assert_eq!(
            (received.method.as_str(), received.target.as_str()),
            ("GET", "/page")
        );
        assert_eq!(
            (received.header("host"), received.whole),
            (Some("a"), true),
            "{received:#?}"
        );
    }
    assert_eq!(origin.count(), 1, "all of them are one key");
}
