//! The answer to one connection too many, written without a session.

use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http::{HeaderName, HeaderValue, StatusCode};
use pingora::protocols::Stream;
use tokio::io::AsyncWriteExt;

use crate::error::Problem;

/// How long a refused connection is given to take its refusal.
const TIMEOUT: Duration = Duration::from_millis(200);

/// The whole answer; `fields` go on it too.
pub(super) fn refusal(fields: &[(HeaderName, HeaderValue)]) -> Bytes {
    let problem = Problem::new(
        StatusCode::SERVICE_UNAVAILABLE,
        "The gateway has no connection left.",
    );
    let json = problem.to_json();
    let mut answer = BytesMut::from(
        "HTTP/1.1 503 Service Unavailable\r\nRetry-After: 1\r\nConnection: close\r\n",
    );
    answer.extend_from_slice(
        b"Cache-Control: private, no-store\r\nContent-Type: application/problem+json\r\n",
    );
    for (name, value) in fields {
        answer.extend_from_slice(name.as_str().as_bytes());
        answer.extend_from_slice(b": ");
        answer.extend_from_slice(value.as_bytes());
        answer.extend_from_slice(b"\r\n");
    }
    answer.extend_from_slice(format!("Content-Length: {}\r\n\r\n{json}", json.len()).as_bytes());
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
