//! A client that sends exactly what a test says.

use std::fmt::Write as _;
use std::net::SocketAddr;

use bytes::Bytes;
use tokio::net::TcpStream;
use tokio::time::timeout;

use super::DEADLINE;
use super::wire::{Extent, Head, Wire, find};

/// The host that requests name unless they name another.
const HOST: &str = "shop.test";

/// A request under construction.
#[derive(Debug, Clone)]
pub(crate) struct Request {
    method: String,
    target: String,
    headers: Vec<(String, String)>,
    body: Option<Vec<u8>>,
}

/// A GET of this target.
pub(crate) fn get(target: &str) -> Request {
    Request::new("GET", target)
}

impl Request {
    pub(crate) fn new(method: &str, target: &str) -> Self {
        Self {
            method: method.to_owned(),
            target: target.to_owned(),
            headers: Vec::new(),
            body: None,
        }
    }

    pub(crate) fn header(mut self, name: &str, value: &str) -> Self {
        self.headers.push((name.to_owned(), value.to_owned()));
        self
    }

    /// A body, announced by its length.
    pub(crate) fn body(mut self, body: impl Into<Vec<u8>>) -> Self {
        self.body = Some(body.into());
        self
    }

    fn to_bytes(&self) -> Vec<u8> {
        let mut text = format!("{} {} HTTP/1.1\r\n", self.method, self.target);
        if !self
            .headers
            .iter()
            .any(|(name, _)| name.eq_ignore_ascii_case("host"))
        {
            let _ = write!(text, "Host: {HOST}\r\n");
        }
        for (name, value) in &self.headers {
            let _ = write!(text, "{name}: {value}\r\n");
        }
        if let Some(body) = &self.body {
            let _ = write!(text, "Content-Length: {}\r\n", body.len());
        }
        text.push_str("\r\n");
        let mut bytes = text.into_bytes();
        bytes.extend_from_slice(self.body.as_deref().unwrap_or_default());
        bytes
    }
}

/// What came back.
#[derive(Debug, Clone)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) headers: Vec<(String, String)>,
    pub(crate) body: Bytes,
    /// The body came whole.
    pub(crate) whole: bool,
}

impl Answer {
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        find(&self.headers, name)
    }

    pub(crate) fn cache_status(&self) -> &str {
        self.header("cache-status").unwrap_or_default()
    }

    pub(crate) fn is_hit(&self) -> bool {
        self.cache_status().contains("; hit")
    }

    pub(crate) fn text(&self) -> &str {
        std::str::from_utf8(&self.body).expect("a body of text")
    }

    pub(crate) fn json(&self) -> serde_json::Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|error| panic!("{error}: {self:#?}"))
    }
}

/// Where a gateway listens.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Client {
    address: SocketAddr,
}

impl Client {
    pub(crate) fn new(address: SocketAddr) -> Self {
        Self { address }
    }

    /// One request on a connection of its own.
    pub(crate) async fn send(&self, request: &Request) -> Answer {
        self.connect().await.send(request).await
    }

    pub(crate) async fn get(&self, target: &str) -> Answer {
        self.send(&get(target)).await
    }

    pub(crate) async fn post(&self, target: &str, body: &str) -> Answer {
        self.send(&Request::new("POST", target).body(body)).await
    }

    pub(crate) async fn put(&self, target: &str) -> Answer {
        self.send(&Request::new("PUT", target).body("")).await
    }

    pub(crate) async fn options(&self, target: &str) -> Answer {
        self.send(&Request::new("OPTIONS", target)).await
    }

    pub(crate) async fn connect(&self) -> Connection {
        let stream = TcpStream::connect(self.address)
            .await
            .expect("the gateway accepts connections");
        stream.set_nodelay(true).expect("a socket");
        Connection {
            wire: Wire::new(stream),
        }
    }

    /// Bytes as they are; every answer until the connection ends or goes quiet after the first.
    pub(crate) async fn raw(&self, bytes: impl AsRef<[u8]>) -> Raw {
        let mut connection = self.connect().await;
        // The gateway may refuse and close while more is on its way.
        let _ = connection.wire.write(bytes.as_ref()).await;
        let method = if bytes.as_ref().starts_with(b"HEAD ") {
            "HEAD"
        } else {
            "GET"
        };
        let answer = timeout(DEADLINE, connection.read(method))
            .await
            .expect("an answer or the end in time");
        let closed = match &answer {
            Some(_) => timeout(DEADLINE / 4, connection.wire.is_closed())
                .await
                .unwrap_or(false),
            None => true,
        };
        Raw { answer, closed }
    }
}

/// What came back for plain bytes.
#[derive(Debug)]
pub(crate) struct Raw {
    pub(crate) answer: Option<Answer>,
    /// The gateway closed the connection and sent nothing more.
    pub(crate) closed: bool,
}

impl Raw {
    pub(crate) fn status(&self) -> Option<u16> {
        self.answer.as_ref().map(|answer| answer.status)
    }
}

/// One connection to a gateway.
pub(crate) struct Connection {
    wire: Wire,
}

impl Connection {
    pub(crate) async fn send(&mut self, request: &Request) -> Answer {
        self.write(request).await;
        self.answer(request).await
    }

    /// Sends a request and does not wait for its answer.
    pub(crate) async fn write(&mut self, request: &Request) {
        self.wire
            .write(&request.to_bytes())
            .await
            .expect("the gateway reads the request");
    }

    pub(crate) async fn write_bytes(&mut self, bytes: &[u8]) {
        self.wire
            .write(bytes)
            .await
            .expect("the gateway reads the bytes");
    }

    /// Sends bytes to a gateway that may have closed the connection.
    pub(crate) async fn try_write(&mut self, bytes: &[u8]) -> std::io::Result<()> {
        self.wire.write(bytes).await
    }

    /// Whether the gateway refused the connection without being asked anything: with 503, or by closing it.
    pub(crate) async fn is_refused(&mut self) -> bool {
        match timeout(DEADLINE / 100, self.read("GET")).await {
            Ok(answer) => answer.is_none_or(|answer| answer.status == 503),
            Err(_) => false,
        }
    }

    pub(crate) async fn answer(&mut self, request: &Request) -> Answer {
        let read = timeout(DEADLINE, self.read(&request.method)).await;
        let answer = read.unwrap_or_else(|_| panic!("no answer in time to {request:?}"));
        answer.unwrap_or_else(|| panic!("the connection closed without an answer to {request:?}"))
    }

    /// Only the head of an answer; its body is still to come.
    pub(crate) async fn answer_head(&mut self) -> Head {
        let head = timeout(DEADLINE, self.wire.head())
            .await
            .expect("a head in time");
        head.expect("a connection").expect("a head")
    }

    pub(crate) async fn is_closed(&mut self) -> bool {
        timeout(DEADLINE, self.wire.is_closed())
            .await
            .expect("the connection to close in time")
    }

    pub(crate) fn abort(self) {
        self.wire.reset();
    }

    async fn read(&mut self, method: &str) -> Option<Answer> {
        let (head, status) = loop {
            let head = self.wire.head().await.ok()??;
            let status: u16 = head.start.split(' ').nth(1)?.parse().ok()?;
            if status >= 200 {
                break (head, status);
            }
        };
        let length = head
            .header("content-length")
            .and_then(|length| length.parse().ok());
        let extent = if method == "HEAD" || status == 204 || status == 304 {
            Extent::Length(0)
        } else if head.header("transfer-encoding").is_some() {
            Extent::Chunked
        } else {
            length.map_or(Extent::ToEnd, Extent::Length)
        };
        let (body, whole) = self.wire.body(extent).await;
        Some(Answer {
            status,
            headers: head.headers,
            body,
            whole,
        })
    }
}
