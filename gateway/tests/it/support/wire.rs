//! HTTP/1.1 on a socket, as plainly as can be: both the origin and the client read with this.

use std::io;

use bytes::{Buf, Bytes, BytesMut};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

/// A start line and its fields, names in lower case.
#[derive(Debug, Clone, Default)]
pub(crate) struct Head {
    pub(crate) start: String,
    pub(crate) headers: Vec<(String, String)>,
}

impl Head {
    fn parse(bytes: &[u8]) -> Self {
        let text = String::from_utf8_lossy(bytes);
        let mut lines = text.split("\r\n");
        let start = lines.next().unwrap_or_default().to_owned();
        let headers = lines
            .filter_map(|line| line.split_once(':'))
            .map(|(name, value)| (name.to_ascii_lowercase(), value.trim().to_owned()))
            .collect();
        Self { start, headers }
    }

    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        find(&self.headers, name)
    }
}

/// The first value of a field.
pub(crate) fn find<'h>(headers: &'h [(String, String)], name: &str) -> Option<&'h str> {
    headers
        .iter()
        .find(|(known, _)| known == name)
        .map(|(_, value)| value.as_str())
}

/// How far a body goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Extent {
    Length(usize),
    Chunked,
    ToEnd,
}

/// A socket and what was read from it too far.
pub(crate) struct Wire {
    stream: TcpStream,
    held: BytesMut,
}

impl Wire {
    pub(crate) fn new(stream: TcpStream) -> Self {
        Self {
            stream,
            held: BytesMut::new(),
        }
    }

    pub(crate) async fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.stream.write_all(bytes).await
    }

    /// Closes with a reset, so that the peer learns of it at once.
    pub(crate) fn reset(self) {
        let _ = self.stream.set_zero_linger();
    }

    /// False at the end of the stream.
    async fn fill(&mut self) -> io::Result<bool> {
        Ok(self.stream.read_buf(&mut self.held).await? > 0)
    }

    /// The next head; `None` when the peer closed instead.
    pub(crate) async fn head(&mut self) -> io::Result<Option<Head>> {
        loop {
            if let Some(end) = self.held.windows(4).position(|bytes| bytes == b"\r\n\r\n") {
                let head = Head::parse(&self.held[..end]);
                self.held.advance(end + 4);
                return Ok(Some(head));
            }
            if !self.fill().await? {
                return Ok(None);
            }
        }
    }

    /// A body, and whether it came whole.
    pub(crate) async fn body(&mut self, extent: Extent) -> (Bytes, bool) {
        let mut body = BytesMut::new();
        let whole = match extent {
            Extent::Length(length) => self.take(length, &mut body).await,
            Extent::Chunked => self.chunks(&mut body).await,
            Extent::ToEnd => loop {
                body.extend_from_slice(&self.held.split());
                match self.fill().await {
                    Ok(true) => {}
                    Ok(false) => break true,
                    Err(_) => break false,
                }
            },
        };
        (body.freeze(), whole)
    }

    async fn take(&mut self, length: usize, into: &mut BytesMut) -> bool {
        while self.held.len() < length {
            if !self.fill().await.unwrap_or(false) {
                into.extend_from_slice(&self.held.split());
                return false;
            }
        }
        into.extend_from_slice(&self.held.split_to(length));
        true
    }

    async fn chunks(&mut self, into: &mut BytesMut) -> bool {
        loop {
            let Some(line) = self.line().await else {
                return false;
            };
            let digits = line.split(';').next().unwrap_or_default().trim();
            let Ok(size) = usize::from_str_radix(digits, 16) else {
                return false;
            };
            if size > 0 && !self.take(size, into).await {
                return false;
            }
            if self.line().await.is_none() {
                return false;
            }
            if size == 0 {
                return true;
            }
        }
    }

    async fn line(&mut self) -> Option<String> {
        loop {
            if let Some(end) = self.held.windows(2).position(|bytes| bytes == b"\r\n") {
                let line = String::from_utf8_lossy(&self.held[..end]).into_owned();
                self.held.advance(end + 2);
                return Some(line);
            }
            if !self.fill().await.ok()? {
                return None;
            }
        }
    }

    /// Whether the peer closes the connection, having sent nothing more.
    pub(crate) async fn is_closed(&mut self) -> bool {
        self.held.is_empty() && !self.fill().await.unwrap_or(false)
    }
}
