//! What a 304 changes in the stored response that it validates (RFC 9111 3.2, 4.3.4).

use std::time::SystemTime;

use http::header::{
    CONTENT_ENCODING, CONTENT_LENGTH, CONTENT_RANGE, DATE, ETAG, LAST_MODIFIED, VARY,
};
use http::{HeaderMap, HeaderName};

use super::conditional::opaque;
use super::storable::bound_to_connection;
use super::time::http_date;

/// Why a 304 may be used for this one answer, but not to update what is stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unfit {
    /// It carries the validator of another representation than the stored one (RFC 9111 4.3.4).
    Validator,
    /// It varies on other fields, so it cannot be known which requests the stored response answers.
    Vary,
}

impl Unfit {
    /// A short name, for `Cache-Status`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Validator => "validator-changed",
            Self::Vary => "vary-changed",
        }
    }
}

/// Fields that describe the stored bytes, which a 304 does not replace.
const OF_CONTENT: [HeaderName; 4] = [
    CONTENT_LENGTH,
    CONTENT_ENCODING,
    CONTENT_RANGE,
    HeaderName::from_static("content-md5"),
];

/// The stored fields with those of a 304 that arrived at `received` put in their place.
///
/// # Errors
/// The 304 is about another response than the stored one, which then is of no more use: each validation would end like this one.
pub fn freshened(
    stored: &HeaderMap,
    validation: &HeaderMap,
    received: SystemTime,
) -> Result<HeaderMap, Unfit> {
    if !is_same_representation(stored, validation) {
        return Err(Unfit::Validator);
    }
    if validation.contains_key(VARY) && !stored.get_all(VARY).iter().eq(validation.get_all(VARY)) {
        return Err(Unfit::Vary);
    }
    let bound = bound_to_connection(validation);
    let mut merged = stored.clone();
    for name in validation.keys() {
        if OF_CONTENT.contains(name) || bound.contains(name) {
            continue;
        }
        let mut values = validation.get_all(name).iter();
        if let Some(first) = values.next() {
            merged.insert(name.clone(), first.clone());
        }
        for value in values {
            merged.append(name.clone(), value.clone());
        }
    }
    if !validation.contains_key(DATE) {
        merged.insert(DATE, http_date(received));
    }
    Ok(merged)
}

/// Whether the validators of a 304, if it has any, are those of the stored response. A strong one must be the very same.
fn is_same_representation(stored: &HeaderMap, validation: &HeaderMap) -> bool {
    let tag = |headers: &HeaderMap| {
        let value = headers.get(ETAG)?;
        Some(value.as_bytes().trim_ascii().to_vec())
    };
    match (tag(stored), tag(validation)) {
        (Some(stored), Some(sent)) if sent.starts_with(b"W/") => opaque(&stored) == opaque(&sent),
        (Some(stored), Some(sent)) => stored == sent,
        (None, Some(sent)) => sent.starts_with(b"W/"),
        (_, None) => {
            let sent = validation.get(LAST_MODIFIED);
            sent.is_none() || stored.get(LAST_MODIFIED) == sent
        }
    }
}

#[cfg(test)]
mod tests;
