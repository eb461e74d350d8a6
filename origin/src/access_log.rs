//! One line for each request, on standard output, beside the log's own lines.
//!
//! Lines are gathered in memory and written a few times a second: a call of the system for each would cost more than
//! the rest of a small request. If nobody reads standard output, memory stays bounded and lines are lost, and counted.

use std::{
    future::Future,
    io,
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use chrono::{DateTime, Utc};
use prometheus::IntCounter;
use serde::Serialize;
use tokio::{
    io::{AsyncWrite, AsyncWriteExt as _},
    sync::Notify,
};

use crate::date::Date;

/// What the filter of the log calls these lines.
pub const TARGET: &str = "origin::access";
/// Bytes of lines that may wait to be written.
const PENDING_BYTES_MAX: usize = 1024 * 1024;
/// With so many bytes waiting the writer does not wait any longer.
const WAKE_BYTES: usize = PENDING_BYTES_MAX / 2;
/// How long a line may wait.
const WRITE_EVERY: Duration = Duration::from_millis(100);

/// What is told of a request.
#[derive(Debug, Serialize)]
pub struct Line<'a> {
    timestamp: Date,
    level: &'static str,
    target: &'static str,
    /// The name it has in every log it passes.
    #[serde(rename = "request.id")]
    pub id: &'a str,
    /// Its method.
    #[serde(rename = "request.method")]
    pub method: &'a str,
    /// The pattern of its path, `none` if it has none.
    #[serde(rename = "request.route")]
    pub route: &'a str,
    /// Its path without the query, if it has a route and only numbers for parameters: anything else may be a token.
    #[serde(rename = "request.path", skip_serializing_if = "Option::is_none")]
    pub path: Option<&'a str>,
    /// The status of its answer.
    #[serde(rename = "response.status")]
    pub status: u16,
    /// The bytes of the answer's body, if known.
    #[serde(rename = "response.bytes", skip_serializing_if = "Option::is_none")]
    pub bytes: Option<u64>,
    /// From its head to its answer, in microseconds.
    pub took_us: u64,
    /// Why it failed, for operators.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
}

impl<'a> Line<'a> {
    /// A line about a request that was answered `now`, without an error.
    pub fn new(now: DateTime<Utc>, id: &'a str, method: &'a str, status: u16) -> Self {
        Self {
            timestamp: Date(now),
            level: "INFO",
            target: TARGET,
            id,
            method,
            route: "none",
            path: None,
            status,
            bytes: None,
            took_us: 0,
            error: None,
        }
    }
}

/// Lines that wait to be written.
#[derive(Debug)]
pub struct AccessLog {
    pending: Mutex<Vec<u8>>,
    lost: IntCounter,
    /// Wakes the writer before its time.
    is_half_full: Notify,
}

async fn write(out: &mut (impl AsyncWrite + Unpin), lines: &[u8]) -> io::Result<()> {
    out.write_all(lines).await?;
    out.flush().await
}

impl AccessLog {
    /// An empty log; `lost` counts the lines that found no room.
    pub fn new(lost: IntCounter) -> Self {
        Self {
            pending: Mutex::default(),
            lost,
            is_half_full: Notify::new(),
        }
    }

    /// Adds a line, if the log's filter lets such lines through.
    pub fn add(&self, line: &Line<'_>) {
        let mut pending = self.pending();
        let begin = pending.len();
        if begin < PENDING_BYTES_MAX && serde_json::to_writer(&mut *pending, line).is_ok() {
            pending.push(b'\n');
            if begin < WAKE_BYTES && pending.len() >= WAKE_BYTES {
                self.is_half_full.notify_one();
            }
        } else {
            pending.truncate(begin);
            self.lost.inc();
        }
    }

    /// Writes lines a few times a second, sooner if they are many, until `ending`; then those that are left. Lines that
    /// cannot be written are gone; the next ones are tried again.
    pub async fn write_to(
        &self,
        out: &mut (impl AsyncWrite + Unpin),
        ending: impl Future<Output = ()>,
    ) {
        let mut ticks = tokio::time::interval(WRITE_EVERY);
        ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        let mut lines = Vec::new();
        let (mut is_ending, mut has_failed) = (false, false);
        tokio::pin!(ending);
        while !is_ending {
            tokio::select! {
                _ = ticks.tick() => {}
                () = self.is_half_full.notified() => {}
                () = &mut ending => is_ending = true,
            }
            std::mem::swap(&mut lines, &mut *self.pending());
            let written = write(out, &lines).await;
            lines.clear();
            if let Err(error) = &written
                && !has_failed
            {
                tracing::warn!(%error, "lines about requests cannot be written");
            }
            has_failed = written.is_err();
        }
    }

    fn pending(&self) -> MutexGuard<'_, Vec<u8>> {
        self.pending.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn log() -> AccessLog {
        AccessLog::new(IntCounter::new("lost", "lines").expect("a counter"))
    }

    fn line(id: &str) -> Line<'_> {
        Line {
            error: Some("a \"quote\"\r\nand \u{1b}[31m".to_owned()),
            ..Line::new(DateTime::UNIX_EPOCH, id, "GET", 200)
        }
    }

    #[tokio::test]
    async fn a_request_is_one_line_of_json_whatever_it_holds() {
        let log = log();
        log.add(&line("a"));
        log.add(&line("b"));
        let mut out = Vec::new();
        log.write_to(&mut out, async {}).await;
        let text = String::from_utf8(out).expect("text");
        let lines: Vec<serde_json::Value> = text
            .lines()
            .map(|line| serde_json::from_str(line).expect("JSON"))
            .collect();
        assert_eq!(lines.len(), 2);
        assert_eq!(lines[0]["request.id"], "a");
        assert_eq!(lines[0]["timestamp"], "1970-01-01T00:00:00.000Z");
        assert_eq!(lines[1]["error"], "a \"quote\"\r\nand \u{1b}[31m");
        assert!(!text.contains('\u{1b}'), "{text}");
    }

    #[tokio::test]
    async fn lines_that_nobody_reads_are_lost_and_counted() {
        let log = log();
        let id = "x".repeat(100);
        for _ in 0..PENDING_BYTES_MAX / 100 {
            log.add(&line(&id));
        }
        assert!(log.lost.get() > 0);
        let mut out = Vec::new();
        log.write_to(&mut out, async {}).await;
        assert!(out.len() < PENDING_BYTES_MAX + 1024, "{}", out.len());
        assert!(out.ends_with(b"}\n"));
    }
}
