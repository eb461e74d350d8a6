//! The encrypted listener: HTTP/1.1 and HTTP/2, a certificate that changes, and clients that mean harm.

use std::net::SocketAddr;
use std::path::Path;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::{Duration, Instant};

use bytes::Bytes;
use http_body_util::{BodyExt, Empty, Full};
use hyper::body::{Frame, SizeHint};
use hyper_util::rt::{TokioExecutor, TokioIo};
use rcgen::{CertifiedKey, generate_simple_self_signed};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tokio_rustls::rustls::crypto::ring;
use tokio_rustls::rustls::pki_types::{CertificateDer, ServerName};
use tokio_rustls::rustls::{ClientConfig, RootCertStore};

use crate::support::{
    DEADLINE, FakeOrigin, Gateway, Reply, Request, free_address, get, serves, until,
};

/// Resets that a hostile client sends, and how long it may take to send them.
const RESETS: usize = 100_000;
const RESETS_AT_ONCE: usize = 500;
/// What those may cost.
const MEMORY_MAX: usize = 50 << 20;
const RECOVERY_MAX: Duration = Duration::from_secs(2);

pub(crate) struct Encrypted {
    pub(crate) gateway: Gateway,
    listen: SocketAddr,
    files: tempfile::TempDir,
    pub(crate) certificate: CertificateDer<'static>,
}

/// A body of which a byte comes at each tick, or only one; whether one has come; and the length that is announced.
struct Unfinished(Option<tokio::time::Interval>, bool, Option<u64>);

impl Unfinished {
    fn stopped() -> Self {
        Self(None, false, None)
    }

    fn dripping() -> Self {
        Self(
            Some(tokio::time::interval(Duration::from_millis(50))),
            false,
            None,
        )
    }

    fn announced(mut self, length: u64) -> Self {
        self.2 = Some(length);
        self
    }
}

impl hyper::body::Body for Unfinished {
    type Data = Bytes;
    type Error = std::convert::Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
        let piece = || Poll::Ready(Some(Ok(Frame::data(Bytes::from_static(b"x")))));
        let has_begun = std::mem::replace(&mut self.1, true);
        match &mut self.0 {
            Some(ticks) => {
                ready!(ticks.poll_tick(cx));
                piece()
            }
            None if has_begun => Poll::Pending,
            None => piece(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        self.2.map_or_else(SizeHint::default, SizeHint::with_exact)
    }
}

/// Writes a new certificate; returns it.
fn certify(directory: &Path) -> CertificateDer<'static> {
    let made = generate_simple_self_signed(vec!["shop.test".to_owned()]).expect("a certificate");
    let CertifiedKey { cert, signing_key } = made;
    std::fs::write(directory.join("key.pem"), signing_key.serialize_pem()).expect("a file");
    std::fs::write(directory.join("chain.pem"), cert.pem()).expect("a file");
    cert.der().clone()
}

impl Encrypted {
    pub(crate) async fn start(origin: &FakeOrigin, more: &str) -> Self {
        let files = tempfile::tempdir().expect("a directory");
        let certificate = certify(files.path());
        let listen = free_address();
        let settings = format!(
            "[tls]\nlisten = \"{listen}\"\ncertificate_file = {:?}\nkey_file = {:?}\n{more}",
            files.path().join("chain.pem"),
            files.path().join("key.pem"),
        );
        let gateway = Gateway::with(&[origin], &settings).await;
        // The other listeners answer by now. Each opens on its own.
        until("the encrypted listener is open", || async {
            serves(listen).await
        })
        .await;
        Self {
            gateway,
            listen,
            files,
            certificate,
        }
    }

    /// A connection that trusts this certificate only, and offers these protocols.
    pub(crate) async fn connect(
        &self,
        certificate: &CertificateDer<'static>,
        protocols: &[&str],
    ) -> std::io::Result<TlsStream<TcpStream>> {
        let mut roots = RootCertStore::empty();
        roots.add(certificate.clone()).expect("a certificate");
        let provider = Arc::new(ring::default_provider());
        let mut config = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .expect("protocol versions")
            .with_root_certificates(roots)
            .with_no_client_auth();
        config.alpn_protocols = protocols
            .iter()
            .map(|name| name.as_bytes().to_vec())
            .collect();
        let name = ServerName::try_from("shop.test").expect("a name");
        let stream = TcpStream::connect(self.listen).await?;
        TlsConnector::from(Arc::new(config))
            .connect(name, stream)
            .await
    }

    /// Status, body and the cache's word of a GET over HTTP/2.
    pub(crate) async fn get2(&self, path: &str) -> (u16, String, String) {
        let stream = self
            .connect(&self.certificate, &["h2"])
            .await
            .expect("a connection");
        let (mut sender, connection) =
            hyper::client::conn::http2::handshake(TokioExecutor::new(), TokioIo::new(stream))
                .await
                .expect("a handshake");
        tokio::spawn(connection);
        let request = http::Request::get(format!("https://shop.test{path}"))
            .body(Empty::<Bytes>::new())
            .expect("a request");
        let answer = sender.send_request(request).await.expect("an answer");
        let status = answer.status().as_u16();
        let cache = answer.headers().get("cache-status").cloned();
        let body = answer
            .into_body()
            .collect()
            .await
            .expect("a body")
            .to_bytes();
        let cache = cache.map(|cache| cache.to_str().expect("text").to_owned());
        (
            status,
            String::from_utf8_lossy(&body).into_owned(),
            cache.unwrap_or_default(),
        )
    }

    /// The status that a request over HTTP/2 gets with this body.
    async fn status_with<B>(&self, method: &str, body: B) -> u16
    where
        B: hyper::body::Body<Data = Bytes, Error = std::convert::Infallible>
            + Send
            + Unpin
            + 'static,
    {
        let stream = self.connect(&self.certificate, &["h2"]).await;
        let stream = TokioIo::new(stream.expect("a connection"));
        let handshake = hyper::client::conn::http2::handshake(TokioExecutor::new(), stream).await;
        let (mut sender, connection) = handshake.expect("a handshake");
        tokio::spawn(connection);
        let request = http::Request::builder()
            .method(method)
            .uri("https://shop.test/page")
            .body(body)
            .expect("a request");
        let answer = tokio::time::timeout(DEADLINE, sender.send_request(request)).await;
        answer
            .expect("an answer in time")
            .expect("an answer")
            .status()
            .as_u16()
    }

    /// The answer to plain bytes over HTTP/1.1, to its end.
    async fn get1(&self, path: &str) -> String {
        let stream = self.connect(&self.certificate, &["http/1.1"]).await;
        let mut stream = stream.expect("a connection");
        let request =
            format!("GET {path} HTTP/1.1\r\nHost: shop.test\r\nConnection: close\r\n\r\n");
        stream
            .write_all(request.as_bytes())
            .await
            .expect("a connection");
        let mut answer = Vec::new();
        // How it closes is another matter.
        let _ = stream.read_to_end(&mut answer).await;
        String::from_utf8_lossy(&answer).into_owned()
    }
}

#[tokio::test]
async fn both_versions_are_served_from_one_cache_and_the_origin_is_told_https() {
    let origin = FakeOrigin::start(|_| Reply::fresh("page")).await;
    let site = Encrypted::start(&origin, "").await;
    let (status, body, cache) = site.get2("/page?a=1").await;
    assert_eq!((status, body.as_str()), (200, "page"), "{cache}");
    let (_, _, cache) = site.get2("/page?a=1").await;
    assert!(cache.contains("; hit"), "{cache}");
    let answer = site.get1("/page?a=1").await;
    assert!(
        answer.starts_with("HTTP/1.1 200") && answer.ends_with("page"),
        "{answer}"
    );
    assert!(answer.contains("; hit"), "{answer}");
    assert_eq!(origin.count(), 1);
    assert_eq!(origin.last().header("x-forwarded-proto"), Some("https"));
    assert_eq!(origin.last().header("x-forwarded-host"), Some("shop.test"));
}

#[tokio::test]
async fn a_way_to_another_machine_is_refused_over_http2_too() {
    let origin = FakeOrigin::start(|_| Reply::fresh("page")).await;
    let site = Encrypted::start(&origin, "").await;
    let stream = site.connect(&site.certificate, &["h2"]).await;
    let stream = TokioIo::new(stream.expect("a connection"));
    let handshake = hyper::client::conn::http2::handshake(TokioExecutor::new(), stream).await;
    let (mut sender, connection) = handshake.expect("a handshake");
    tokio::spawn(connection);
    let request = http::Request::connect("shop.test:443").body(Empty::<Bytes>::new());
    let sent = sender.send_request(request.expect("a request"));
    let answer = tokio::time::timeout(DEADLINE, sent).await;
    let answer = answer.expect("an answer in time").expect("an answer");
    assert_eq!(answer.status(), 405);
    assert!(answer.headers().contains_key("allow"), "{answer:?}");
    assert_eq!(origin.count(), 0);
}

#[tokio::test]
async fn plain_requests_are_sent_to_the_encrypted_listener() {
    let origin = FakeOrigin::start(|_| Reply::fresh("page")).await;
    let site = Encrypted::start(&origin, "public_port = 8443\n").await;
    for (method, target, host, location) in [
        (
            "GET",
            "/page?a=1",
            "shop.test",
            "https://shop.test:8443/page?a=1",
        ),
        (
            "POST",
            "/cart",
            "shop.test:8080",
            "https://shop.test:8443/cart",
        ),
        ("HEAD", "/", "[::1]:80", "https://[::1]:8443/"),
    ] {
        let request = Request::new(method, target).body("").header("Host", host);
        let answer = site.gateway.client().send(&request).await;
        assert_eq!(answer.status, 308, "{answer:#?}");
        assert_eq!(answer.header("location"), Some(location), "{answer:#?}");
        assert!(
            answer
                .header("cache-control")
                .is_some_and(|value| value.contains("no-store"))
        );
    }
    assert_eq!(origin.count(), 0, "nothing plain reaches the origin");
}

#[tokio::test]
async fn a_changed_certificate_is_served_without_a_restart_and_a_broken_one_is_not() {
    let origin = FakeOrigin::start(|_| Reply::fresh("page")).await;
    let site = Encrypted::start(&origin, "").await;
    let mut kept = site
        .connect(&site.certificate, &["http/1.1"])
        .await
        .expect("a connection");
    let next = certify(site.files.path());
    until("the new certificate is served", || async {
        site.connect(&next, &["h2"]).await.is_ok()
    })
    .await;
    assert!(
        site.connect(&site.certificate, &["h2"]).await.is_err(),
        "the old one is gone"
    );
    // A connection of before goes on.
    kept.write_all(b"GET /page HTTP/1.1\r\nHost: shop.test\r\n\r\n")
        .await
        .expect("a connection");
    let mut start = [0; 12];
    kept.read_exact(&mut start).await.expect("an answer");
    assert_eq!(&start, b"HTTP/1.1 200");
    std::fs::write(site.files.path().join("chain.pem"), "no certificate").expect("a file");
    until("the broken file is told", || async {
        let status = site.gateway.status().await;
        status["settings"]["last_reload"]["problems"]
            .to_string()
            .contains("tls.certificate_file")
    })
    .await;
    assert!(
        site.connect(&next, &["h2"]).await.is_ok(),
        "the one of before is served"
    );
}

#[tokio::test]
async fn without_http2_nobody_is_offered_it() {
    let origin = FakeOrigin::start(|_| Reply::fresh("page")).await;
    let site = Encrypted::start(&origin, "http2 = false\n").await;
    let stream = site
        .connect(&site.certificate, &["h2", "http/1.1"])
        .await
        .expect("a connection");
    assert_ne!(stream.get_ref().1.alpn_protocol(), Some(&b"h2"[..]));
    assert!(site.get1("/page").await.starts_with("HTTP/1.1 200"));
    // The plain listener knows no HTTP/2 in any case.
    let raw = site
        .gateway
        .client()
        .raw("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n")
        .await;
    assert!(
        raw.closed
            && raw
                .status()
                .is_none_or(|status| (400..500).contains(&status)),
        "{raw:?}"
    );
}

#[tokio::test]
async fn a_body_over_http2_that_stops_or_drips_is_told_so_and_not_held_against_its_origin() {
    let origin = FakeOrigin::start(|_| Reply::fresh("page")).await;
    let rates = "[limits]\nread_rate_min = \"1KiB\"\nrate_slack = \"300ms\"\n";
    let site = Encrypted::start(&origin, rates).await;
    for body in [Unfinished::stopped(), Unfinished::dripping()] {
        assert_eq!(site.status_with("GET", body).await, 408);
    }
    assert_eq!(
        origin.count(),
        0,
        "a read is not begun before its body has come"
    );
    let dripping = Unfinished::dripping();
    assert_eq!(site.status_with("POST", dripping).await, 408);
    let hasty = format!("{rates}[upstream]\nread_timeout = \"400ms\"\n");
    let hasty = Encrypted::start(&origin, &hasty).await;
    for _ in 0..4 {
        let stopped = Unfinished::stopped();
        assert_eq!(hasty.status_with("POST", stopped).await, 408);
    }
    for gateway in [&site.gateway, &hasty.gateway] {
        let status = gateway.status().await;
        let node = &status["nodes"][0];
        assert_eq!(
            (&node["failures"], &node["ejected"]),
            (&0.into(), &false.into()),
            "{node}"
        );
        until("nothing is in flight", || async {
            gateway.in_flight().await == [0]
        })
        .await;
    }
}

#[tokio::test]
async fn a_small_body_over_http2_is_taken_in_before_an_origin_is_asked() {
    let origin = FakeOrigin::start(|_| Reply::fresh("page")).await;
    let rates = "[limits]\nread_rate_min = \"1KiB\"\nrate_slack = \"300ms\"\n";
    let site = Encrypted::start(&origin, rates).await;
    for body in [Unfinished::stopped(), Unfinished::dripping()] {
        assert_eq!(site.status_with("POST", body.announced(1024)).await, 408);
    }
    assert_eq!(origin.count(), 0);
    for length in [1, 1024, 64 * 1024, 100_000] {
        let body: Bytes = (0..=250).cycle().take(length).collect();
        let status = site.status_with("POST", Full::new(body.clone())).await;
        assert_eq!(status, 200, "{length}");
        let received = origin.last();
        assert!(received.whole && received.body == body, "{length}");
    }
    assert_eq!(origin.count(), 4);
}

/// A frame of HTTP/2 (RFC 9113 section 4.1).
pub(crate) fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len())
        .expect("a short frame")
        .to_be_bytes();
    let mut frame = length[1..].to_vec();
    frame.extend([kind, flags]);
    frame.extend(stream.to_be_bytes());
    frame.extend(payload);
    frame
}

pub(crate) const HEADERS: u8 = 1;
const RST_STREAM: u8 = 3;
const SETTINGS: u8 = 4;
pub(crate) const CONTINUATION: u8 = 9;
pub(crate) const END_STREAM: u8 = 1;
pub(crate) const END_HEADERS: u8 = 4;

/// GET of `/reset` at shop.test, by HPACK: three names of the static table, and the host as a literal (RFC 7541).
pub(crate) fn header_block() -> Vec<u8> {
    let mut block = vec![0x82, 0x87, 0x04, 6];
    block.extend(b"/reset");
    block.extend([0x01, 9]);
    block.extend(b"shop.test");
    block
}

pub(crate) fn opening() -> Vec<u8> {
    let mut bytes = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec();
    bytes.extend(frame(SETTINGS, 0, 0, &[]));
    bytes
}

#[tokio::test]
async fn a_hundred_thousand_resets_leave_the_gateway_as_it_was() {
    let origin =
        FakeOrigin::start(|_| Reply::new(200, "page").header("Cache-Control", "no-store")).await;
    let site = Encrypted::start(&origin, "").await;
    site.get2("/warm").await;
    let (before, began) = (site.gateway.resident_bytes(), Instant::now());
    let (mut sent, mut connections) = (0, 0);
    while sent < RESETS {
        let stream = site
            .connect(&site.certificate, &["h2"])
            .await
            .expect("a connection");
        connections += 1;
        let (mut reader, mut writer) = tokio::io::split(stream);
        let drain = tokio::spawn(async move {
            let mut answers = vec![0; 16 * 1024];
            while reader
                .read(&mut answers)
                .await
                .is_ok_and(|length| length > 0)
            {}
        });
        let mut bytes = opening();
        let mut number = 1;
        while sent < RESETS {
            for _ in 0..RESETS_AT_ONCE {
                bytes.extend(frame(
                    HEADERS,
                    END_STREAM | END_HEADERS,
                    number,
                    &header_block(),
                ));
                bytes.extend(frame(RST_STREAM, 0, number, &8_u32.to_be_bytes()));
                number += 2;
            }
            // The gateway may end the connection: then the next one goes on.
            if drain.is_finished() || writer.write_all(&bytes).await.is_err() {
                break;
            }
            sent += RESETS_AT_ONCE;
            bytes.clear();
        }
        drain.abort();
    }
    let (attack, ended) = (began.elapsed(), Instant::now());
    let (status, body, _) = site.get2("/after").await;
    assert_eq!((status, body.as_str()), (200, "page"));
    until("nothing is left in flight", || async {
        site.gateway
            .in_flight()
            .await
            .iter()
            .all(|count| *count == 0)
    })
    .await;
    let recovery = ended.elapsed();
    let grown = site.gateway.resident_bytes().saturating_sub(before);
    println!(
        "{RESETS} resets on {connections} connections in {attack:?}; answered and idle after {recovery:?}; {} KiB more",
        grown / 1024
    );
    assert!(recovery < RECOVERY_MAX, "{recovery:?}");
    assert!(grown < MEMORY_MAX, "{grown} bytes more");
}

#[tokio::test]
async fn a_header_without_end_is_cut_off() {
    let origin = FakeOrigin::start(|_| Reply::fresh("page")).await;
    let site = Encrypted::start(&origin, "").await;
    let before = site.gateway.resident_bytes();
    let mut stream = site
        .connect(&site.certificate, &["h2"])
        .await
        .expect("a connection");
    let mut bytes = opening();
    bytes.extend(frame(HEADERS, END_STREAM, 1, &header_block()));
    stream.write_all(&bytes).await.expect("a connection");
    // Literal fields of 1 KiB each, and never END_HEADERS.
    let mut field = vec![0x00, 1, b'x', 0x7f, 0x81, 0x07];
    field.extend([b'a'; 1024]);
    let piece = frame(CONTINUATION, 0, 1, &field);
    let mut sent = 0;
    while stream.write_all(&piece).await.is_ok() {
        sent += piece.len();
        assert!(sent < 64 << 20, "the gateway takes it all");
        tokio::task::yield_now().await;
    }
    let grown = site.gateway.resident_bytes().saturating_sub(before);
    assert!(grown < MEMORY_MAX, "{grown} bytes more after {sent}");
    assert_eq!(site.get2("/page").await.0, 200);
    let status = site.gateway.call(get("/status")).await;
    assert_eq!(status.status, 200);
}

/// Whether the gateway closes a connection within the time that tests wait.
async fn is_closed(stream: &mut (impl tokio::io::AsyncRead + Unpin)) -> bool {
    let mut room = [0; 1024];
    let end = tokio::time::timeout(DEADLINE, async {
        while stream.read(&mut room).await.is_ok_and(|length| length > 0) {}
    });
    end.await.is_ok()
}

async fn connections(gateway: &Gateway) -> u64 {
    let status = gateway.status().await;
    status["connections"].as_u64().expect("a number")
}

#[tokio::test]
async fn who_never_ends_a_handshake_or_begins_http2_has_a_headers_time_and_a_place() {
    let origin = FakeOrigin::start(|_| Reply::fresh("page")).await;
    let limits = "[limits]\nheader_timeout = \"2s\"\nconnections_max = 3\n";
    let site = Encrypted::start(&origin, limits).await;
    until("no connection is left of the start", || async {
        connections(&site.gateway).await == 0
    })
    .await;
    // Nothing at all, half a greeting, and a handshake that HTTP/2 does not follow.
    let mut silent = TcpStream::connect(site.listen).await.expect("a connection");
    let mut half = TcpStream::connect(site.listen).await.expect("a connection");
    half.write_all(&[0x16, 0x03, 0x01, 0x01, 0x00, 0x01])
        .await
        .expect("a connection");
    // Who looked whether the listener is open may only now be let in, and gone again.
    let mut mute = loop {
        if let Ok(connected) = site.connect(&site.certificate, &["h2"]).await {
            break connected;
        }
    };
    mute.write_all(b"PRI * HTTP/2.0\r\n")
        .await
        .expect("a connection");
    until("each has a place", || async {
        connections(&site.gateway).await == 3
    })
    .await;
    assert!(site.connect(&site.certificate, &["h2"]).await.is_err());
    assert!(is_closed(&mut silent).await && is_closed(&mut half).await);
    assert!(is_closed(&mut mute).await);
    until("their places are free", || async {
        connections(&site.gateway).await == 0
    })
    .await;
    assert_eq!(site.get2("/page").await.0, 200);
    assert!(site.get1("/page").await.starts_with("HTTP/1.1 200"));
}
