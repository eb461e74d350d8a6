//! The answers of handlers.

use axum::{body::Body, response::Response};
use http::{
    HeaderName, HeaderValue, StatusCode,
    header::{CONTENT_LENGTH, CONTENT_TYPE, ETAG, LOCATION},
};
use serde::Serialize;
use sha2::{Digest, Sha256};
use utoipa::ToSchema;

use crate::{
    cache_policy::{CachePolicy, Change},
    error::{Error, Result},
    idempotency::Created,
};

/// The media type of every JSON answer.
pub const JSON: HeaderValue = HeaderValue::from_static("application/json; charset=utf-8");
/// The media type of every text answer.
pub const TEXT: HeaderValue = HeaderValue::from_static("text/plain; charset=utf-8");
/// Says that the answer is the one that was given before.
pub const IDEMPOTENCY_REPLAYED: HeaderName = HeaderName::from_static("idempotency-replayed");

/// A photo of a review or an answer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, ToSchema)]
pub struct Photo {
    /// The photo's id.
    pub id: i32,
    /// Where it is.
    pub url: String,
}

/// Answers 200 with a JSON body, and a strong validator if the answer may be stored.
pub fn json(policy: CachePolicy, value: &impl Serialize) -> Result<Response> {
    let mut body = Vec::with_capacity(2048);
    serde_json::to_writer(&mut body, value)
        .map_err(|error| Error::Internal(error.to_string().into()))?;
    let etag = policy.is_public().then(|| etag(&body));
    let mut response = Response::new(Body::empty());
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, JSON);
    headers.insert(CONTENT_LENGTH, body.len().into());
    if let Some(etag) = etag {
        headers.insert(ETAG, etag);
    }
    *response.body_mut() = Body::from(body);
    response.extensions_mut().insert(policy);
    Ok(response)
}

/// Answers 201 to a write that committed, now or the first time it was sent.
pub fn created(created: Created) -> Response {
    let mut response = Response::new(Body::from("Created"));
    *response.status_mut() = StatusCode::CREATED;
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, TEXT);
    if let Some(location) = created
        .location
        .and_then(|path| HeaderValue::try_from(path).ok())
    {
        headers.insert(LOCATION, location);
    }
    if created.is_replay {
        headers.insert(IDEMPOTENCY_REPLAYED, HeaderValue::from_static("true"));
    }
    let policy = CachePolicy::Invalidates(created.change);
    response.extensions_mut().insert(policy);
    response
}

/// Answers 204 to a change; no groups if there was no such row.
pub fn changed(change: Option<Change>) -> Response {
    let mut response = Response::new(Body::empty());
    *response.status_mut() = StatusCode::NO_CONTENT;
    let policy = CachePolicy::Invalidates(change.unwrap_or_default());
    response.extensions_mut().insert(policy);
    response
}

/// A strong validator of these bytes: the first half of their SHA-256.
pub fn etag(body: &[u8]) -> HeaderValue {
    const HEX: &[u8; 16] = b"0123456789abcdef";
    let digest = Sha256::digest(body);
    let mut text = [b'"'; 34];
    for (pair, byte) in text[1..33].chunks_exact_mut(2).zip(digest) {
        pair[0] = HEX[usize::from(byte >> 4)];
        pair[1] = HEX[usize::from(byte & 15)];
    }
    HeaderValue::from_bytes(&text).unwrap_or(HeaderValue::from_static("\"\""))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_etag_is_quoted_hexadecimal_and_follows_the_bytes() {
        // The published digest of the empty input.
        assert_eq!(etag(b""), "\"e3b0c44298fc1c149afbf4c8996fb924\"");
        assert_ne!(etag(b"a"), etag(b"b"));
    }
}
