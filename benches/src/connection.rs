//! One HTTP/1.1 connection for what is scripted: requests as bytes, answers with their bodies.

use std::net::SocketAddr;

use anyhow::{Context, Result, bail, ensure};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::answer::{self, HEAD_BYTES_MAX, Head};

/// A connection that is kept open from request to request.
#[derive(Debug)]
pub struct Connection {
    stream: TcpStream,
    buffer: Vec<u8>,
}

/// What came back.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answer {
    /// The status code.
    pub status: u16,
    /// The value of `Cache-Status`.
    pub cache_status: String,
    /// The body as text.
    pub body: String,
}

impl Answer {
    /// Whether it came from the cache.
    pub fn is_hit(&self) -> bool {
        self.cache_status.contains("; hit")
    }
}

impl Connection {
    /// Connects.
    ///
    /// # Errors
    /// Nobody listens.
    pub async fn open(address: SocketAddr) -> Result<Self> {
        let stream = TcpStream::connect(address).await.context("connecting")?;
        stream.set_nodelay(true)?;
        Ok(Self {
            stream,
            buffer: Vec::new(),
        })
    }

    /// Sends a request; its answer is read by [`answer`](Self::answer).
    ///
    /// # Errors
    /// The connection is gone.
    pub async fn send(&mut self, request: &[u8]) -> Result<()> {
        Ok(self.stream.write_all(request).await?)
    }

    /// Reads an answer of known length whole.
    ///
    /// # Errors
    /// No answer, half of one, or one without a length.
    pub async fn answer(&mut self) -> Result<Answer> {
        self.buffer.clear();
        let start = loop {
            if let Some(end) = answer::head_end(&self.buffer) {
                break end;
            }
            ensure!(
                self.buffer.len() < HEAD_BYTES_MAX,
                "the answer's head is too long"
            );
            self.read_more().await?;
        };
        let head = Head::parse(&self.buffer[..start])?;
        let (status, length) = (head.status, head.length.context("an answer in chunks")?);
        let cache_status = head.field("cache-status").unwrap_or_default().to_owned();
        while self.buffer.len() < start + length {
            self.read_more().await?;
        }
        Ok(Answer {
            status,
            cache_status,
            body: String::from_utf8_lossy(&self.buffer[start..start + length]).into(),
        })
    }

    /// Sends a request and reads its answer.
    ///
    /// # Errors
    /// As those of the two halves.
    pub async fn exchange(&mut self, request: &[u8]) -> Result<Answer> {
        self.send(request).await?;
        self.answer().await
    }

    async fn read_more(&mut self) -> Result<()> {
        if self.stream.read_buf(&mut self.buffer).await? == 0 {
            bail!("the connection was closed in the middle of an answer");
        }
        Ok(())
    }
}
