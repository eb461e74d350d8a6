//! Which stored responses get encoded representations beside their own, and what tells these apart (RFC 9110 8.4, 12.5.3).

use http::header::{
    CACHE_CONTROL, CONTENT_ENCODING, CONTENT_LENGTH, CONTENT_RANGE, CONTENT_TYPE, ETAG, VARY,
};
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode};

use super::conditional::entity_tags;
use super::directives::{Directives, members};
use super::vary::Coding;

/// What is encoded, and how.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct EncodingRules {
    /// The codings that are made, the preferred one first; none means that nothing is encoded.
    pub codings: Vec<Coding>,
    /// Bytes from which a body is worth it.
    pub bytes_min: usize,
    /// The targeted fields, which may say `no-transform` as `Cache-Control` may.
    pub targeted: Vec<HeaderName>,
}

/// Fields that say something about the very bytes of one representation.
static BOUND_TO_BYTES: [HeaderName; 4] = [
    HeaderName::from_static("content-digest"),
    HeaderName::from_static("repr-digest"),
    HeaderName::from_static("digest"),
    HeaderName::from_static("content-md5"),
];

/// Media types beside `text/*`, `*+json` and `*+xml` that shrink.
const COMPRESSIBLE: [&str; 11] = [
    "application/json",
    "application/xml",
    "application/javascript",
    "application/x-javascript",
    "application/x-ndjson",
    "application/wasm",
    "application/graphql",
    "application/vnd.ms-fontobject",
    "font/ttf",
    "font/otf",
    "image/bmp",
];

impl EncodingRules {
    /// Whether a stored response may be given in another coding than its own.
    ///
    /// A response without a length may; whether its body is long enough is seen when it is there.
    pub fn allows(&self, status: StatusCode, headers: &HeaderMap) -> bool {
        let long_enough = headers
            .get(CONTENT_LENGTH)
            .and_then(|length| length.to_str().ok()?.parse::<usize>().ok())
            .is_none_or(|length| length >= self.bytes_min);
        !self.codings.is_empty()
            && status == StatusCode::OK
            && long_enough
            && headers.get(CONTENT_TYPE).is_some_and(is_compressible)
            && !headers.contains_key(CONTENT_ENCODING)
            && !headers.contains_key(CONTENT_RANGE)
            && !BOUND_TO_BYTES.iter().any(|name| headers.contains_key(name))
            && !self.forbids(headers)
    }

    fn forbids(&self, headers: &HeaderMap) -> bool {
        Directives::from_cache_control(headers).no_transform
            || Directives::from_targeted(headers, &self.targeted)
                .is_some_and(|directives| directives.no_transform)
    }
}

fn is_compressible(value: &HeaderValue) -> bool {
    let Ok(value) = value.to_str() else {
        return false;
    };
    let media_type = value.split(';').next().unwrap_or_default().trim();
    let media_type = media_type.to_ascii_lowercase();
    // An event stream is read as it comes; it is no document.
    (media_type.starts_with("text/") && media_type != "text/event-stream")
        || media_type.ends_with("+json")
        || media_type.ends_with("+xml")
        || COMPRESSIBLE.contains(&media_type.as_str())
}

/// Whether a request forbids to change what the origin said (RFC 9111 5.2.1.6).
pub fn is_forbidden_by(request: &HeaderMap) -> bool {
    let lines = request.get_all(CACHE_CONTROL);
    lines
        .iter()
        .flat_map(|line| members(line.as_bytes()))
        .any(|member| member.name.eq_ignore_ascii_case(b"no-transform"))
}

/// The entity tag of an encoded representation: a strong one gets a suffix, as the bytes are others; a weak one holds for
/// every coding (RFC 9110 8.8.3.3). The origin's own representation keeps its own.
pub fn entity_tag(own: &HeaderValue, coding: Coding) -> HeaderValue {
    let strong = own
        .as_bytes()
        .strip_suffix(b"\"")
        .filter(|tag| tag.starts_with(b"\"") && coding != Coding::Identity);
    let suffixed = strong.map(|tag| [tag, b"-", coding.as_str().as_bytes(), b"\""].concat());
    suffixed
        .and_then(|tag| HeaderValue::from_bytes(&tag).ok())
        .unwrap_or_else(|| own.clone())
}

/// A list of entity tags in the origin's terms: without the suffixes of these codings. `None` when there are none in it.
pub fn own_entity_tags(list: &HeaderValue, codings: &[Coding]) -> Option<HeaderValue> {
    let own = |tag: &[u8]| {
        let tag = tag
            .strip_suffix(b"\"")
            .filter(|tag| tag.starts_with(b"\""))?;
        codings
            .iter()
            .filter_map(|coding| {
                tag.strip_suffix(coding.as_str().as_bytes())?
                    .strip_suffix(b"-")
            })
            .next()
            .map(|tag| [tag, b"\""].concat())
    };
    let mut tags = Vec::new();
    let mut is_changed = false;
    for tag in entity_tags(list.as_bytes()) {
        let own = own(tag);
        is_changed |= own.is_some();
        tags.push(own.unwrap_or_else(|| tag.to_vec()));
    }
    is_changed
        .then(|| HeaderValue::from_bytes(&tags.join(&b", "[..])).ok())
        .flatten()
}

/// The fields of a stored response as conditions on its encoded representation see them.
pub fn validators(own: &HeaderMap, coding: Coding) -> HeaderMap {
    let mut headers = own.clone();
    if let Some(tag) = own.get(ETAG) {
        headers.insert(ETAG, entity_tag(tag, coding));
    }
    headers
}

/// The `Vary` of a response whose coding was chosen here; `None` when it says so already.
pub fn vary(headers: &HeaderMap) -> Option<HeaderValue> {
    let mut stated = Vec::new();
    for line in headers.get_all(VARY) {
        for name in line.as_bytes().split(|byte| *byte == b',') {
            let name = name.trim_ascii();
            if name == b"*" || name.eq_ignore_ascii_case(b"accept-encoding") {
                return None;
            }
            if !name.is_empty() {
                stated.extend_from_slice(name);
                stated.extend_from_slice(b", ");
            }
        }
    }
    stated.extend_from_slice(b"Accept-Encoding");
    HeaderValue::from_bytes(&stated).ok()
}

#[cfg(test)]
mod tests;
