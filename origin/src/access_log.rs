//! What is told of each request: one line, beside the log's own lines.

use std::io::{self, Write as _};

use chrono::{DateTime, Utc};
use serde::Serialize;

use crate::date::Date;

/// What the filter of the log calls these lines.
pub const TARGET: &str = "origin::access";

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

    /// Writes it as JSON, with its end.
    ///
    /// # Errors
    /// If it cannot be written.
    pub fn write(&self, out: &mut Vec<u8>) -> io::Result<()> {
        serde_json::to_writer(&mut *out, self)?;
        out.write_all(b"\n")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_is_one_line_of_json_whatever_it_holds() {
        let line = |id| Line {
            error: Some("a \"quote\"\r\nand \u{1b}[31m".to_owned()),
            ..Line::new(DateTime::UNIX_EPOCH, id, "GET", 200)
        };
        let mut out = Vec::new();
        line("a").write(&mut out).expect("written");
        line("b").write(&mut out).expect("written");
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
}
