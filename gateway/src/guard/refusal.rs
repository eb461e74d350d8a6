//! Answers that are written without a session: to one connection too many, and to what is no request.

use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http::{HeaderName, HeaderValue, StatusCode};
use pingora::protocols::Stream;
use tokio::io::AsyncWriteExt;

use crate::error::Problem;

/// How long a refused connection is given to take its refusal.
const TIMEOUT: Duration = Duration::from_millis(200);

/// The whole answers, ready to be sent.
pub(super) struct Refusals {
    /// To one connection too many.
    pub(super) full: Bytes,
    /// To a request line that could be read in two ways.
    pub(super) request_line: Bytes,
    /// To a line of the header that ends in another way than lines do.
    pub(super) line_end: Bytes,
    /// To a request line that does not end.
    pub(super) target_size: Bytes,
    /// To a header that does not end.
    pub(super) header_size: Bytes,
}

impl Refusals {
    /// `fields` go on each.
    pub(super) fn new(fields: &[(HeaderName, HeaderValue)]) -> Self {
        let refusal = |status, detail| refusal(&Problem::new(status, detail), fields);
        Self {
            full: refusal(
                StatusCode::SERVICE_UNAVAILABLE,
                "The gateway has no connection left.",
            ),
            request_line: refusal(StatusCode::BAD_REQUEST, "The request line is ambiguous."),
            line_end: refusal(
                StatusCode::BAD_REQUEST,
                "A line of the header ends without CR and LF.",
            ),
            target_size: refusal(StatusCode::URI_TOO_LONG, "The request target is too long."),
            header_size: refusal(
                StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE,
                "The request header is too large.",
            ),
        }
    }
}

fn refusal(problem: &Problem, fields: &[(HeaderName, HeaderValue)]) -> Bytes {
    let json = problem.to_json();
    let mut answer = BytesMut::new();
    let mut line = |text: &str| {
        answer.extend_from_slice(text.as_bytes());
        answer.extend_from_slice(b"\r\n");
    };
    line(&format!("HTTP/1.1 {}", problem.status)); // with its reason phrase
    if let Some(seconds) = problem.retry_after() {
        line(&format!("Retry-After: {seconds}"));
    }
    line("Connection: close");
    line("Cache-Control: private, no-store");
    line("Content-Type: application/problem+json");
    line(&format!("Content-Length: {}", json.len()));
    for (name, value) in fields {
        answer.extend_from_slice(name.as_str().as_bytes());
        answer.extend_from_slice(b": ");
        answer.extend_from_slice(value.as_bytes());
        answer.extend_from_slice(b"\r\n");
    }
    answer.extend_from_slice(b"\r\n");
    answer.extend_from_slice(json.as_bytes());
    answer.freeze()
}

/// Sends it, if the client takes it soon.
pub(super) async fn refuse(mut stream: Stream, refusal: &[u8]) {
    let answer = async {
        stream.write_all(refusal).await?;
        stream.flush().await
    };
    if let Ok(Err(error)) = tokio::time::timeout(TIMEOUT, answer).await {
        tracing::debug!(%error, "a refused connection was gone before its refusal");
    }
}
