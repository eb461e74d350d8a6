//! Whether a client that already has a response needs it again (RFC 9110 13, RFC 9111 4.3.2).

use http::HeaderMap;
use http::header::{DATE, ETAG, IF_MODIFIED_SINCE, IF_NONE_MATCH, LAST_MODIFIED};

use super::time::date;

/// Whether a stored 200 with these headers answers the request with 304.
///
/// For GET and HEAD and a stored 200 only: a condition on any other response is ignored (RFC 9110 13.2.1). `If-None-Match`
/// wins over `If-Modified-Since`, even when it cannot be read.
pub fn not_modified(request: &HeaderMap, stored: &HeaderMap) -> bool {
    if request.contains_key(IF_NONE_MATCH) {
        let etag = stored
            .get(ETAG)
            .map(|value| opaque(value.as_bytes().trim_ascii()));
        return request
            .get_all(IF_NONE_MATCH)
            .iter()
            .flat_map(|line| entity_tags(line.as_bytes()))
            .any(|tag| tag == b"*" || etag == Some(opaque(tag)));
    }
    let Some(since) = date(request, &IF_MODIFIED_SINCE).date() else {
        return false;
    };
    // Without Last-Modified the time of the response itself stands in (RFC 9111 4.3.2).
    let modified = date(stored, &LAST_MODIFIED)
        .date()
        .or_else(|| date(stored, &DATE).date());
    modified.is_some_and(|modified| modified <= since)
}

/// An entity tag without its mark of weakness: validation of a cached response compares weakly (RFC 9110 13.1.2).
pub(super) fn opaque(tag: &[u8]) -> &[u8] {
    tag.strip_prefix(b"W/").unwrap_or(tag)
}

/// Splits a list of entity tags at the commas outside quotes; a tag has no escapes (RFC 9110 8.8.3).
pub(super) fn entity_tags(list: &[u8]) -> impl Iterator<Item = &[u8]> {
    let mut is_quoted = false;
    list.split(move |byte| {
        is_quoted ^= *byte == b'"';
        *byte == b',' && !is_quoted
    })
    .map(<[u8]>::trim_ascii)
    .filter(|tag| !tag.is_empty())
}

#[cfg(test)]
mod tests;
