//! A blocking HTTP/1.1 client on one connection, which it opens when it needs one.

use std::hash::{DefaultHasher, Hash, Hasher};
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};

use crate::answer::{self, HEAD_BYTES_MAX, Head};

/// A connection that was idle for this long may have been closed: it is looked at before it is used.
const TRUSTED_FOR: Duration = Duration::from_millis(500);
const READ_BYTES: usize = 16 * 1024;

/// Sends one request at a time.
#[derive(Debug)]
pub struct Client {
    address: SocketAddr,
    timeout: Duration,
    connection: Option<(TcpStream, Instant)>,
    buffer: Vec<u8>,
    /// Where in the buffer the last answer's body begins.
    body: usize,
}

/// What came back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Reply {
    /// The status code.
    pub status: u16,
    /// Whether it says when to try again.
    pub has_retry_after: bool,
    /// Whether the gateway answered from its cache.
    pub is_hit: bool,
    /// Tells bodies apart.
    pub digest: u64,
}

impl Client {
    /// A client of one server; an answer that stops coming for `timeout` is none.
    pub fn new(address: SocketAddr, timeout: Duration) -> Self {
        Self {
            address,
            timeout,
            connection: None,
            buffer: Vec::with_capacity(READ_BYTES),
            body: 0,
        }
    }

    /// Sends a request and reads its answer whole.
    ///
    /// # Errors
    /// No answer, or half of one: whether a request that writes has done so is not known then.
    pub fn exchange(&mut self, request: &[u8]) -> Result<Reply> {
        self.answer(request)
    }

    /// Sends a request and reads its answer whole, with its body as text.
    ///
    /// # Errors
    /// As those of [`exchange`](Self::exchange).
    pub fn text(&mut self, request: &[u8]) -> Result<(Reply, String)> {
        let reply = self.answer(request)?;
        Ok((reply, String::from_utf8_lossy(self.body()).into()))
    }

    /// The body of the last answer that came whole.
    pub fn body(&self) -> &[u8] {
        &self.buffer[self.body..]
    }

    /// A field of the last answer that came whole.
    pub fn field(&self, name: &str) -> Option<&str> {
        let head = Head::parse(&self.buffer[..self.body]).ok()?;
        head.field(name)
    }

    fn answer(&mut self, request: &[u8]) -> Result<Reply> {
        self.body = 0;
        let mut stream = self.connected()?;
        stream.write_all(request).context("sending")?;
        self.buffer.clear();
        let body = loop {
            if let Some(end) = answer::head_end(&self.buffer) {
                break end;
            }
            ensure!(
                self.buffer.len() < HEAD_BYTES_MAX,
                "the answer's head is too long"
            );
            self.read_more(&mut stream)?;
        };
        let (status, length) = {
            let head = Head::parse(&self.buffer[..body])?;
            (head.status, head.length)
        };
        while length.map_or_else(
            || !answer::is_last_chunk(&self.buffer),
            |length| self.buffer.len() < body + length,
        ) {
            self.read_more(&mut stream)?;
        }
        let head = Head::parse(&self.buffer[..body])?;
        let has = |name: &str, part: &str| head.field(name).is_some_and(|v| v.contains(part));
        let mut hasher = DefaultHasher::new();
        self.buffer[body..].hash(&mut hasher);
        let reply = Reply {
            status,
            has_retry_after: head.field("retry-after").is_some(),
            is_hit: has("cache-status", "; hit"),
            digest: hasher.finish(),
        };
        if !has("connection", "close") {
            self.connection = Some((stream, Instant::now()));
        }
        self.body = body;
        Ok(reply)
    }

    /// The connection, which is put back when an answer has come whole.
    fn connected(&mut self) -> Result<TcpStream> {
        if let Some((stream, used_at)) = self.connection.take()
            && (used_at.elapsed() < TRUSTED_FOR || is_open(&stream)?)
        {
            return Ok(stream);
        }
        let stream =
            TcpStream::connect_timeout(&self.address, self.timeout).context("connecting")?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(self.timeout))?;
        stream.set_write_timeout(Some(self.timeout))?;
        Ok(stream)
    }

    fn read_more(&mut self, stream: &mut TcpStream) -> Result<()> {
        let filled = self.buffer.len();
        self.buffer.resize(filled + READ_BYTES, 0);
        let read = stream.read(&mut self.buffer[filled..]);
        self.buffer
            .truncate(filled + read.as_ref().copied().unwrap_or_default());
        if read.context("reading")? == 0 {
            bail!("the connection was closed before an answer, or in the middle of it");
        }
        Ok(())
    }
}

/// Whether the other side has neither closed nor said anything that nobody asked for.
fn is_open(stream: &TcpStream) -> Result<bool> {
    stream.set_nonblocking(true)?;
    let nothing = stream
        .peek(&mut [0])
        .is_err_and(|error| error.kind() == std::io::ErrorKind::WouldBlock);
    stream.set_nonblocking(false)?;
    Ok(nothing)
}
