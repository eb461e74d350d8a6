//! Heads prepared for a write: what an entry always says, and what each answer says anew.

use std::io::Write;
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use http::header::{
    ACCEPT_RANGES, AGE, CONNECTION, CONTENT_ENCODING, CONTENT_LENGTH, DATE, ETAG,
    TRANSFER_ENCODING, VARY,
};
use http::{HeaderName, HeaderValue, StatusCode};
use httpdate::HttpDate;

use crate::policy::encoding;
use crate::policy::vary::Coding;
use crate::store::Object;

/// The fields of one answer: far more than they ever need.
const VARIABLE_BYTES_MAX: usize = 512;
/// The bytes of a date such as `Sun, 06 Nov 1994 08:49:37 GMT`.
const DATE_BYTES: usize = 29;

/// What the gateway does to every stored head.
#[derive(Debug, Clone)]
pub struct Finish {
    /// The cache's entry in `Cache-Status` up to the time to live, as in `gateway; hit; ttl=`.
    pub cache_status: String,
    /// Fields that stay between origin and gateway.
    pub strip: Vec<HeaderName>,
    /// Fields that every answer gets.
    pub every: Vec<(HeaderName, HeaderValue)>,
}

/// Whether an entry has a date that goes out as it is (RFC 9110 section 6.6.1): one of the preferred form. Else it is the present.
pub(super) fn is_dated(object: &Object) -> bool {
    let date = object.head.headers.get(DATE);
    date.is_some_and(|date| date.len() == DATE_BYTES)
}

/// Age, date if it is the present, name and cache status of one answer, and the end of its head; on the stack.
pub struct Variable {
    bytes: [u8; VARIABLE_BYTES_MAX],
    length: usize,
}

impl Variable {
    pub(super) fn as_bytes(&self) -> &[u8] {
        &self.bytes[..self.length]
    }
}

impl Finish {
    /// The head of one representation but for its variable fields; `None` for a status that is not answered here.
    pub(super) fn prepare(&self, object: &Object, coding: Coding, length: usize) -> Option<Bytes> {
        if object.head.status != StatusCode::OK {
            return None;
        }
        let headers = &object.head.headers;
        // With ranges of its own an answer is framed by the normal path.
        if headers.contains_key(ACCEPT_RANGES) {
            return None;
        }
        let mut head = Vec::with_capacity(512);
        head.extend_from_slice(b"HTTP/1.1 200 OK\r\n");
        let vary = encoding::vary(headers).filter(|_| object.is_encodable());
        for (name, value) in headers {
            if self.is_left_out(name)
                || (*name == VARY && vary.is_some())
                || (*name == DATE && !is_dated(object))
            {
                continue;
            }
            if *name == ETAG {
                push(
                    &mut head,
                    name,
                    encoding::entity_tag(value, coding).as_bytes(),
                );
            } else {
                push(&mut head, name, value.as_bytes());
            }
        }
        if let Some(vary) = vary {
            push(&mut head, &VARY, vary.as_bytes());
        }
        if coding == Coding::Identity {
            push(&mut head, &ACCEPT_RANGES, b"bytes");
        } else {
            push(&mut head, &CONTENT_ENCODING, coding.as_str().as_bytes());
        }
        for (name, value) in &self.every {
            push(&mut head, name, value.as_bytes());
        }
        push(&mut head, &CONTENT_LENGTH, length.to_string().as_bytes());
        push(&mut head, &CONNECTION, b"keep-alive");
        head.shrink_to_fit();
        Some(head.into())
    }

    /// Those that are set anew, and those that nobody outside is told.
    fn is_left_out(&self, name: &HeaderName) -> bool {
        [AGE, CONTENT_LENGTH, TRANSFER_ENCODING, CONNECTION].contains(name)
            || self.strip.contains(name)
            || self.every.iter().any(|(every, _)| every == name)
            || name.as_str() == "x-request-id"
    }

    /// The fields of one answer, as far as they fit.
    pub(super) fn variable(
        &self,
        age: Duration,
        left: Duration,
        id: &str,
        date: Option<SystemTime>,
    ) -> Option<Variable> {
        let mut bytes = [0; VARIABLE_BYTES_MAX];
        let mut rest = &mut bytes[..];
        if let Some(date) = date {
            write!(rest, "date: {}\r\n", HttpDate::from(date)).ok()?;
        }
        write!(
            rest,
            "age: {}\r\nx-request-id: {id}\r\ncache-status: {}{}\r\n\r\n",
            age.as_secs(),
            self.cache_status,
            left.as_secs()
        )
        .ok()?;
        let length = VARIABLE_BYTES_MAX - rest.len();
        Some(Variable { bytes, length })
    }
}

fn push(head: &mut Vec<u8>, name: &HeaderName, value: &[u8]) {
    head.extend_from_slice(name.as_str().as_bytes());
    head.extend_from_slice(b": ");
    head.extend_from_slice(value);
    head.extend_from_slice(b"\r\n");
}
