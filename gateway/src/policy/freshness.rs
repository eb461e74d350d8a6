//! How old a response is and how long it stays fresh (RFC 9111 4.2).

use std::time::{Duration, SystemTime};

use http::HeaderMap;
use http::header::{AGE, DATE, EXPIRES, LAST_MODIFIED};

use super::directives::Directives;
use super::time::{DateField, date, delta};

/// The share of the time since `Last-Modified` that a heuristic grants: one tenth (RFC 9111 4.2.2).
const HEURISTIC_DIVISOR: u32 = 10;

/// Where a lifetime comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Source {
    /// A targeted field such as `CDN-Cache-Control`.
    Targeted,
    /// `s-maxage`.
    SharedMaxAge,
    /// `max-age`.
    MaxAge,
    /// `Expires`.
    Expires,
    /// A share of the time since `Last-Modified`.
    Heuristic,
    /// Nothing: kept only to be validated at each use.
    Unknown,
}

/// What is left of a stored response's freshness.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Left {
    /// Fresh for this much longer.
    Fresh(Duration),
    /// Stale for this long; zero at the very moment it became stale.
    Stale(Duration),
}

impl Left {
    /// What is left of `fresh` after a response was kept for `kept`.
    pub fn after(fresh: Duration, kept: Duration) -> Self {
        match fresh.checked_sub(kept) {
            Some(left) if !left.is_zero() => Self::Fresh(left),
            _ => Self::Stale(kept.saturating_sub(fresh)),
        }
    }
}

/// The corrected initial age of a response (RFC 9111 4.2.3).
///
/// A clock that was set back between the two times counts as no delay, a `Date` in the future as no age.
pub fn initial_age(
    response: &HeaderMap,
    request_time: SystemTime,
    response_time: SystemTime,
) -> Duration {
    let delay = response_time
        .duration_since(request_time)
        .unwrap_or_default();
    let apparent = date(response, &DATE).date().map_or(Duration::ZERO, |date| {
        whole_seconds(response_time.duration_since(date))
    });
    apparent.max(age_value(response) + delay)
}

/// `Date` has no fractions, so the fraction of our clock would be an age that nobody measured.
fn whole_seconds(span: Result<Duration, std::time::SystemTimeError>) -> Duration {
    Duration::from_secs(span.unwrap_or_default().as_secs())
}

/// The `Age` field: its first member counts, and one that is no number counts as missing (RFC 9111 5.1). Parameters behind the
/// number are ignored, as in any structured item (RFC 9651 3.3): what is stated to be old is not taken for new.
fn age_value(response: &HeaderMap) -> Duration {
    let Some(line) = response.get(AGE) else {
        return Duration::ZERO;
    };
    let number = line
        .as_bytes()
        .split(|byte| matches!(byte, b',' | b';'))
        .next()
        .unwrap_or_default();
    delta(number.trim_ascii()).unwrap_or_default()
}

/// The lifetime the origin stated, and where (RFC 9111 4.2.1); none when it stated nothing.
pub fn explicit_lifetime(
    directives: &Directives,
    is_targeted: bool,
    response: &HeaderMap,
    response_time: SystemTime,
) -> Option<(Duration, Source)> {
    if let Some(lifetime) = directives.s_maxage {
        return Some((lifetime, Source::SharedMaxAge));
    }
    if let Some(lifetime) = directives.max_age {
        let source = if is_targeted {
            Source::Targeted
        } else {
            Source::MaxAge
        };
        return Some((lifetime, source));
    }
    // A targeted field stands for Cache-Control and Expires together (RFC 9213 2.1).
    if is_targeted {
        return None;
    }
    match date(response, &EXPIRES) {
        DateField::Absent => None,
        // An invalid date, above all "0", is a date in the past (RFC 9111 5.3).
        DateField::Invalid => Some((Duration::ZERO, Source::Expires)),
        DateField::At(expires) => {
            let from = date(response, &DATE).date().unwrap_or(response_time);
            Some((
                expires.duration_since(from).unwrap_or_default(),
                Source::Expires,
            ))
        }
    }
}

/// A tenth of the time since `Last-Modified`, at most `longest`; none without a usable date.
pub fn heuristic_lifetime(
    response: &HeaderMap,
    response_time: SystemTime,
    longest: Duration,
) -> Option<Duration> {
    let modified = date(response, &LAST_MODIFIED).date()?;
    let from = date(response, &DATE).date().unwrap_or(response_time);
    let unchanged = from.duration_since(modified).ok()?;
    Some((unchanged / HEURISTIC_DIVISOR).min(longest))
}

#[cfg(test)]
mod tests;
