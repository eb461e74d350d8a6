//! Whether a `Range` is honoured; cutting is done where the body is (RFC 9110 14.2, 13.1.5).

use http::header::{DATE, ETAG, IF_RANGE, LAST_MODIFIED, RANGE};
use http::{HeaderMap, Method};
use std::time::Duration;

use super::time::date;

/// Ranges of one request at most. Somebody who asks for more gets the whole, which costs less than so many parts.
pub const RANGES_MAX: usize = 16;

/// A date is a strong validator if the response was made this much later (RFC 9110 8.8.2.2).
const STRONG_AFTER: Duration = Duration::from_secs(1);

/// Whether the `Range` of a request applies to a stored 200 with these fields; if not, the whole answers it.
///
/// Only GET has ranges. `If-Range` must be the stored entity tag, both strong, or exactly the stored date, which must be
/// strong. Ranges that overlap, or go back, or are more than [`RANGES_MAX`] are not worth their work and are ignored.
pub fn applies(method: &Method, request: &HeaderMap, stored: &HeaderMap) -> bool {
    if method != Method::GET || !if_range_holds(request, stored) {
        return false;
    }
    let mut lines = request.get_all(RANGE).iter();
    match (lines.next(), lines.next()) {
        (Some(line), None) => is_reasonable(line.as_bytes()),
        // A repeated Range is no range.
        _ => false,
    }
}

fn if_range_holds(request: &HeaderMap, stored: &HeaderMap) -> bool {
    let mut conditions = request.get_all(IF_RANGE).iter();
    let Some(condition) = conditions.next() else {
        return true;
    };
    if conditions.next().is_some() {
        return false;
    }
    let condition = condition.as_bytes().trim_ascii();
    if condition.ends_with(b"\"") {
        // A weak tag does not start with a quote: it never holds.
        return condition.starts_with(b"\"")
            && stored
                .get(ETAG)
                .is_some_and(|tag| tag.as_bytes().trim_ascii() == condition);
    }
    let Some(wanted) = date(request, &IF_RANGE).date() else {
        return false;
    };
    let modified = date(stored, &LAST_MODIFIED).date();
    let made = date(stored, &DATE).date();
    modified == Some(wanted)
        && made.is_some_and(|made| {
            made.duration_since(wanted)
                .is_ok_and(|since| since >= STRONG_AFTER)
        })
}

/// Whether the ranges ascend and do not overlap, as far as that shows without the length of the body.
///
/// A line that is no range of bytes passes: whoever cuts decides on it.
fn is_reasonable(line: &[u8]) -> bool {
    let Some((unit, set)) = split_once(line, b'=') else {
        return true;
    };
    if !unit.trim_ascii().eq_ignore_ascii_case(b"bytes") {
        return true;
    }
    let mut next_free = Some(0_u64); // none: an open range has taken everything
    let mut suffixes = 0;
    let ranges = || set.split(|byte| *byte == b',');
    if ranges().count() > RANGES_MAX {
        return false;
    }
    for range in ranges() {
        let Some((first, last)) = split_once(range.trim_ascii(), b'-') else {
            return true;
        };
        if first.is_empty() {
            if number(last) == Some(0) {
                return false; // nothing at all
            }
            suffixes += 1;
            continue;
        }
        let (Some(first), Some(free)) = (number(first), next_free) else {
            return false;
        };
        if first < free || suffixes > 0 {
            return false;
        }
        next_free = number(last).map(|last| last.saturating_add(1));
    }
    suffixes <= 1
}

fn split_once(text: &[u8], at: u8) -> Option<(&[u8], &[u8])> {
    let middle = text.iter().position(|byte| *byte == at)?;
    Some((&text[..middle], &text[middle + 1..]))
}

fn number(digits: &[u8]) -> Option<u64> {
    std::str::from_utf8(digits).ok()?.trim().parse().ok()
}

#[cfg(test)]
mod tests;
