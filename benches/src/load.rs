//! A closed-loop HTTP/1.1 load generator: some connections, each sending its next request when its last is answered.
//!
//! Written small so that it costs little beside what it measures; both share the machine's processors.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use hdrhistogram::Histogram;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::answer::{self, HEAD_BYTES_MAX, Head};

/// Latencies are told apart up to this.
const LATENCY_US_MAX: u64 = 60_000_000;

/// What to send, where, and for how long.
#[derive(Clone)]
pub struct Load {
    /// The server.
    pub address: SocketAddr,
    /// Requests as bytes, used in turn; each connection begins at another one.
    pub requests: Arc<Vec<Vec<u8>>>,
    /// Connections at once.
    pub connections: usize,
    /// How long.
    pub duration: Duration,
}

/// What came back.
#[derive(Clone)]
pub struct Measured {
    /// Answers with a 2xx status.
    pub answers: u64,
    /// Other answers.
    pub failures: u64,
    /// How long it took.
    pub elapsed: Duration,
    /// Microseconds from the last byte sent to the last byte received.
    pub latency_us: Histogram<u64>,
}

impl Measured {
    /// Good answers a second.
    pub fn rate(&self) -> f64 {
        self.answers as f64 / self.elapsed.as_secs_f64()
    }
}

/// A GET request as bytes.
pub fn get(path: &str) -> Vec<u8> {
    format!("GET {path} HTTP/1.1\r\nHost: bench\r\n\r\n").into_bytes()
}

/// A PUT request without a body as bytes.
pub fn put(path: &str) -> Vec<u8> {
    format!("PUT {path} HTTP/1.1\r\nHost: bench\r\nContent-Length: 0\r\n\r\n").into_bytes()
}

/// A POST request with a JSON body as bytes.
pub fn post(path: &str, json: &str) -> Vec<u8> {
    format!(
        "POST {path} HTTP/1.1\r\nHost: bench\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n{json}",
        json.len()
    )
    .into_bytes()
}

/// Runs the load and adds up what its connections saw.
///
/// # Errors
/// A connection that cannot be made, or that breaks.
pub async fn run(load: &Load) -> Result<Measured> {
    ensure!(!load.requests.is_empty(), "a load needs a request to send");
    let started = Instant::now();
    let connections: Vec<_> = (0..load.connections)
        .map(|number| tokio::spawn(connection(load.clone(), number, started + load.duration)))
        .collect();
    let mut total = Measured {
        answers: 0,
        failures: 0,
        elapsed: Duration::ZERO,
        latency_us: Histogram::new_with_max(LATENCY_US_MAX, 3)?,
    };
    for connection in connections {
        let (answers, failures, latency_us) = connection.await??;
        total.answers += answers;
        total.failures += failures;
        total.latency_us.add(latency_us)?;
    }
    total.elapsed = started.elapsed();
    Ok(total)
}

async fn connection(
    load: Load,
    number: usize,
    until: Instant,
) -> Result<(u64, u64, Histogram<u64>)> {
    let stream = TcpStream::connect(load.address)
        .await
        .context("connecting")?;
    stream.set_nodelay(true)?;
    let mut client = Client {
        stream,
        buffer: Vec::with_capacity(HEAD_BYTES_MAX),
    };
    let mut latency_us = Histogram::new_with_max(LATENCY_US_MAX, 3)?;
    let (mut answers, mut failures) = (0, 0);
    let spread = load.requests.len() / load.connections.max(1);
    for turn in (number * spread)..usize::MAX {
        let sent = Instant::now();
        if sent >= until {
            break;
        }
        let status = client
            .exchange(&load.requests[turn % load.requests.len()])
            .await?;
        latency_us.saturating_record(sent.elapsed().as_micros() as u64);
        if (200..300).contains(&status) {
            answers += 1;
        } else {
            failures += 1;
        }
    }
    Ok((answers, failures, latency_us))
}

struct Client {
    stream: TcpStream,
    buffer: Vec<u8>,
}

impl Client {
    /// Sends one request and reads its answer whole; returns the status.
    async fn exchange(&mut self, request: &[u8]) -> Result<u16> {
        self.stream.write_all(request).await?;
        self.buffer.clear();
        let end = self.read_head().await?;
        let Head { status, length, .. } = Head::parse(&self.buffer[..end])?;
        match length {
            Some(length) => self.read_to(end + length).await?,
            None => {
                while !answer::is_last_chunk(&self.buffer) {
                    self.read_more().await?;
                }
            }
        }
        Ok(status)
    }

    async fn read_head(&mut self) -> Result<usize> {
        loop {
            if let Some(end) = answer::head_end(&self.buffer) {
                return Ok(end);
            }
            ensure!(
                self.buffer.len() < HEAD_BYTES_MAX,
                "the answer's head is too long"
            );
            self.read_more().await?;
        }
    }

    async fn read_to(&mut self, length: usize) -> Result<()> {
        while self.buffer.len() < length {
            self.read_more().await?;
        }
        Ok(())
    }

    async fn read_more(&mut self) -> Result<()> {
        if self.stream.read_buf(&mut self.buffer).await? == 0 {
            bail!("the connection was closed in the middle of an answer");
        }
        Ok(())
    }
}
