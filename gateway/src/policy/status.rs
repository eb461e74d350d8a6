//! `Cache-Status` (RFC 9211): what this cache did for a request, for whoever looks into it.

use std::fmt::Write as _;

use http::HeaderValue;

/// One cache's entry in `Cache-Status`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CacheStatus<'a> {
    /// The cache's name.
    pub cache: &'a str,
    /// Whether the cache answered, or why it asked the origin.
    pub outcome: Outcome,
    /// The origin's status, when it differs from the response's.
    pub fwd_status: Option<u16>,
    /// Freshness left in seconds; negative when stale.
    pub ttl: Option<i64>,
    /// Whether the response was kept.
    pub stored: bool,
    /// Whether the request shared another's fetch.
    pub collapsed: bool,
    /// The cache key.
    pub key: Option<&'a str>,
    /// Anything else worth telling.
    pub detail: Option<&'a str>,
}

/// Whether the cache answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// It did.
    Hit,
    /// It asked the origin, for this reason.
    Forward(Forward),
}

/// Why the origin was asked (RFC 9211 2.2).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Forward {
    /// The cache was not to be used for this request.
    Bypass,
    /// The method is not cached.
    Method,
    /// Nothing was stored under the key.
    UriMiss,
    /// Nothing was stored for these request headers.
    VaryMiss,
    /// Nothing was stored, and it is not known which of the two.
    Miss,
    /// The request's own directives forbade the stored response.
    Request,
    /// The stored response was stale.
    Stale,
    /// Only a part of the response was stored.
    Partial,
}

impl Forward {
    /// Its name in the field.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Bypass => "bypass",
            Self::Method => "method",
            Self::UriMiss => "uri-miss",
            Self::VaryMiss => "vary-miss",
            Self::Miss => "miss",
            Self::Request => "request",
            Self::Stale => "stale",
            Self::Partial => "partial",
        }
    }
}

impl<'a> CacheStatus<'a> {
    /// An entry with nothing but its outcome.
    pub fn new(cache: &'a str, outcome: Outcome) -> Self {
        Self {
            cache,
            outcome,
            fwd_status: None,
            ttl: None,
            stored: false,
            collapsed: false,
            key: None,
            detail: None,
        }
    }

    /// The field's value. Characters that no structured field may hold are left out of names and details.
    pub fn to_value(&self) -> HeaderValue {
        let mut text = String::with_capacity(64);
        push_item(&mut text, self.cache);
        match self.outcome {
            Outcome::Hit => text.push_str("; hit"),
            Outcome::Forward(reason) => {
                text.push_str("; fwd=");
                text.push_str(reason.as_str());
            }
        }
        if let Some(status) = self.fwd_status {
            // Writing to a String cannot fail.
            let _ = write!(text, "; fwd-status={status}");
        }
        if let Some(ttl) = self.ttl {
            let _ = write!(text, "; ttl={}", ttl.clamp(-INTEGER_MAX, INTEGER_MAX));
        }
        if self.stored {
            text.push_str("; stored");
        }
        if self.collapsed {
            text.push_str("; collapsed");
        }
        if let Some(key) = self.key {
            text.push_str("; key=");
            push_string(&mut text, key);
        }
        if let Some(detail) = self.detail {
            text.push_str("; detail=");
            push_item(&mut text, detail);
        }
        HeaderValue::try_from(text).unwrap_or_else(|_| HeaderValue::from_static("gateway"))
    }
}

/// The largest integer of a structured field (RFC 9651 3.3.1).
const INTEGER_MAX: i64 = 999_999_999_999_999;

/// Writes a token where the text is one, else a string.
fn push_item(out: &mut String, text: &str) {
    let mut bytes = text.bytes();
    let is_start = bytes
        .next()
        .is_some_and(|byte| byte.is_ascii_alphabetic() || byte == b'*');
    let is_rest = |byte: u8| super::directives::is_token_byte(byte) || matches!(byte, b':' | b'/');
    if is_start && bytes.all(is_rest) {
        out.push_str(text);
    } else {
        push_string(out, text);
    }
}

fn push_string(out: &mut String, text: &str) {
    out.push('"');
    for character in text
        .chars()
        .filter(|character| matches!(character, ' '..='~'))
    {
        if matches!(character, '"' | '\\') {
            out.push('\\');
        }
        out.push(character);
    }
    out.push('"');
}

#[cfg(test)]
mod tests;
