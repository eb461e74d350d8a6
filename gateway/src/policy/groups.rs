//! Tags of a response, by which it can be purged: `Cache-Groups` (RFC 9875), `Surrogate-Key` and `Cache-Tag`.
//!
//! The three fields share one namespace, and a tag is compared byte by byte. A response whose tags cannot all be read is not
//! stored: it could never be purged by the one that was lost.

use http::{HeaderMap, HeaderName};
use sfv::{List, ListEntry, Parser};

use super::directives::joined;

/// `Cache-Groups`: the groups of a response.
pub const CACHE_GROUPS: HeaderName = HeaderName::from_static("cache-groups");
/// `Cache-Group-Invalidation`: the groups a write made out of date.
pub const CACHE_GROUP_INVALIDATION: HeaderName =
    HeaderName::from_static("cache-group-invalidation");
/// `Surrogate-Key`: tags separated by spaces.
pub const SURROGATE_KEY: HeaderName = HeaderName::from_static("surrogate-key");
/// `Cache-Tag`: tags separated by commas.
pub const CACHE_TAG: HeaderName = HeaderName::from_static("cache-tag");

/// Groups one write may name; more than any write touches, and a bound on the work of one answer.
pub const INVALIDATED_MAX: usize = 4096;

/// Bounds on the tags of one response.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TagLimits {
    /// Tags of one response at most.
    pub tags_max: usize,
    /// Bytes of one tag at most.
    pub tag_bytes_max: usize,
}

impl Default for TagLimits {
    /// Twice the count and four times the length that RFC 9875 2 asks caches to handle at least.
    fn default() -> Self {
        Self {
            tags_max: 64,
            tag_bytes_max: 128,
        }
    }
}

/// Why the tags of a response cannot be used.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum BadTags {
    /// A group field is not a list of strings, or a tag holds a byte outside visible ASCII.
    #[error("a group field is malformed")]
    Malformed,
    /// More tags than the limit.
    #[error("more tags than the limit")]
    TooMany,
    /// A tag longer than the limit.
    #[error("a tag longer than the limit")]
    TooLong,
}

/// The tags of a response in all three fields, sorted and without repeats.
///
/// # Errors
/// The response must then not be stored.
pub fn tags(response: &HeaderMap, limits: &TagLimits) -> Result<Vec<Box<str>>, BadTags> {
    let mut found = groups(response, &CACHE_GROUPS)?;
    separated(
        response,
        &SURROGATE_KEY,
        |byte| matches!(byte, b' ' | b'\t'),
        &mut found,
    )?;
    separated(response, &CACHE_TAG, |byte| byte == b',', &mut found)?;
    found.sort_unstable();
    found.dedup();
    if found.len() > limits.tags_max {
        return Err(BadTags::TooMany);
    }
    if found.iter().any(|tag| tag.len() > limits.tag_bytes_max) {
        return Err(BadTags::TooLong);
    }
    Ok(found)
}

/// The groups a write's answer invalidates, sorted and without repeats.
///
/// Longer groups than `limits` allows are left out: no stored response can carry them.
///
/// # Errors
/// It is then unknown what the write changed: only an invalidation of everything keeps readers right.
pub fn invalidated(response: &HeaderMap, limits: &TagLimits) -> Result<Vec<Box<str>>, BadTags> {
    let mut found = groups(response, &CACHE_GROUP_INVALIDATION)?;
    found.retain(|tag| tag.len() <= limits.tag_bytes_max);
    found.sort_unstable();
    found.dedup();
    if found.len() > INVALIDATED_MAX {
        return Err(BadTags::TooMany);
    }
    Ok(found)
}

/// Reads a structured list of strings; parameters are ignored, every other type is an error.
fn groups(headers: &HeaderMap, field: &HeaderName) -> Result<Vec<Box<str>>, BadTags> {
    let Some(text) = joined(headers, field) else {
        return Ok(Vec::new());
    };
    let list: List = Parser::new(&text).parse().map_err(|_| BadTags::Malformed)?;
    list.iter()
        .map(|member| match member {
            ListEntry::Item(item) => {
                let text = item.bare_item.as_string().ok_or(BadTags::Malformed)?;
                Ok(Box::from(text.as_str()))
            }
            ListEntry::InnerList(_) => Err(BadTags::Malformed),
        })
        .collect()
}

fn separated(
    headers: &HeaderMap,
    field: &HeaderName,
    is_separator: impl Fn(u8) -> bool,
    found: &mut Vec<Box<str>>,
) -> Result<(), BadTags> {
    for line in headers.get_all(field) {
        let line = line.to_str().map_err(|_| BadTags::Malformed)?;
        for tag in line.as_bytes().split(|byte| is_separator(*byte)) {
            let tag = tag.trim_ascii();
            if tag
                .iter()
                .any(|byte| !byte.is_ascii_graphic() && *byte != b' ')
            {
                return Err(BadTags::Malformed);
            }
            if !tag.is_empty() {
                found.push(String::from_utf8_lossy(tag).into());
            }
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests;
