//! Whole answers, head and body as they came, over one connection at a time.

use std::net::SocketAddr;

use anyhow::{Context, Result, ensure};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::answer::{Head, head_end};

/// One connection to a server, made again when the server has closed it.
pub struct Exchange {
    address: SocketAddr,
    stream: Option<TcpStream>,
    buffer: Vec<u8>,
}

/// An answer with its body.
#[derive(Debug, Clone)]
pub struct Whole {
    /// The status code.
    pub status: u16,
    /// The body as it came.
    pub body: Vec<u8>,
    head: Vec<u8>,
}

impl Whole {
    /// The value of a field.
    ///
    /// # Errors
    /// The head is none.
    pub fn field(&self, name: &str) -> Result<Option<&str>> {
        Ok(Head::parse(&self.head)?.field(name))
    }

    /// Whether the cache answered.
    ///
    /// # Errors
    /// The head is none.
    pub fn is_hit(&self) -> Result<bool> {
        let status = self.field("cache-status")?.unwrap_or_default();
        Ok(status.contains("; hit"))
    }
}

impl Exchange {
    /// For one server.
    pub fn new(address: SocketAddr) -> Self {
        Self {
            address,
            stream: None,
            buffer: Vec::new(),
        }
    }

    /// Sends a request without waiting for its answer.
    ///
    /// # Errors
    /// No connection.
    pub async fn send(&mut self, request: &[u8]) -> Result<()> {
        let stream = match &mut self.stream {
            Some(stream) => stream,
            empty @ None => {
                let stream = TcpStream::connect(self.address).await;
                let stream = stream.context("connecting")?;
                stream.set_nodelay(true)?;
                empty.insert(stream)
            }
        };
        stream.write_all(request).await.context("sending")
    }

    /// Reads the answer to what was sent; `head_only` for one to HEAD.
    ///
    /// # Errors
    /// No answer, half of one, or one without a length.
    pub async fn receive(&mut self, head_only: bool) -> Result<Whole> {
        let end = loop {
            if let Some(end) = head_end(&self.buffer) {
                break end;
            }
            self.read_more().await?;
        };
        let head = self.buffer[..end].to_vec();
        let parsed = Head::parse(&head)?;
        let length = if head_only {
            0
        } else {
            parsed.length.context("an answer in chunks")?
        };
        while self.buffer.len() < end + length {
            self.read_more().await?;
        }
        let rest = self.buffer.split_off(end + length);
        let body = self.buffer.split_off(end);
        ensure!(rest.is_empty(), "more than an answer came");
        self.buffer.clear();
        if parsed.field("connection") == Some("close") {
            self.stream = None;
        }
        Ok(Whole {
            status: parsed.status,
            body,
            head,
        })
    }

    /// Sends a request as bytes, one of those with a body in their answer, and reads that.
    ///
    /// # Errors
    /// As those of [`send`](Self::send) and [`receive`](Self::receive).
    pub async fn exchange(&mut self, request: &[u8]) -> Result<Whole> {
        self.send(request).await?;
        self.receive(false).await
    }

    /// Makes a request, sends it and reads its answer.
    ///
    /// # Errors
    /// As those of [`send`](Self::send) and [`receive`](Self::receive).
    pub async fn whole(&mut self, method: &str, target: &str, fields: &str) -> Result<Whole> {
        let request = format!("{method} {target} HTTP/1.1\r\nHost: bench\r\n{fields}\r\n");
        self.send(request.as_bytes()).await?;
        let answer = self.receive(method == "HEAD").await;
        answer.with_context(|| format!("{method} {target} {fields:?}"))
    }

    async fn read_more(&mut self) -> Result<()> {
        let stream = self.stream.as_mut().context("nothing was sent")?;
        let read = stream.read_buf(&mut self.buffer).await.context("reading")?;
        ensure!(read > 0, "the connection was closed before an answer");
        Ok(())
    }
}
