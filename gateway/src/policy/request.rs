//! Whether a request may be answered from the cache, and what it demands of a stored response.
//!
//! The policy, by setting `cache.client_directives`: with `ignore`, `Cache-Control` and `Pragma` of a request do nothing, so a
//! client cannot make the cache ask the origin; with `obey`, RFC 9111 5.2.1 holds. Cookies and `Authorization` never
//! keep a request from a stored response: what may be stored is decided by [`super::storable`].

use std::time::Duration;

use http::header::{CACHE_CONTROL, IF_MATCH, IF_UNMODIFIED_SINCE, PRAGMA};
use http::{HeaderMap, Method};

use super::directives::{Argument, members};
use super::freshness::Left;
use crate::config::ClientDirectives;

/// What a request demands of a stored response (RFC 9111 5.2.1).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Demand {
    /// `no-cache`: validate first.
    pub no_cache: bool,
    /// `no-store`: keep nothing of this exchange.
    pub no_store: bool,
    /// `only-if-cached`: 504 rather than asking the origin.
    pub only_if_cached: bool,
    /// `max-age`.
    pub max_age: Option<Duration>,
    /// `min-fresh`.
    pub min_fresh: Option<Duration>,
    /// `max-stale`; without a value any staleness will do.
    pub max_stale: Option<Duration>,
}

/// Why a request goes past the cache.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Bypass {
    /// Neither GET nor HEAD.
    Method,
    /// `If-Match` or `If-Unmodified-Since`: conditions on the current state, which only the origin knows.
    Precondition,
    /// Its own `no-store`: neither answered from what is kept nor kept.
    NoStore,
    /// It names a write that has not been heard of here.
    Unseen,
    /// Nobody vouches for what is kept, and nothing else may answer.
    Unproven,
    /// Another process answers by now, and this one does not hear what is written there.
    HandedOver,
}

impl Bypass {
    /// A short name, for `Cache-Status` and metrics.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Method => "method",
            Self::Precondition => "precondition",
            Self::NoStore => "request-no-store",
            Self::Unseen => "token",
            Self::Unproven => "no-lease",
            Self::HandedOver => "handed-over",
        }
    }
}

/// Reads a request: past the cache for the named reason, or what it demands of a stored response.
///
/// # Errors
/// The reason why the cache is not used, neither for the answer nor to keep it.
pub fn read(
    method: &Method,
    headers: &HeaderMap,
    directives: ClientDirectives,
) -> Result<Demand, Bypass> {
    if method != Method::GET && method != Method::HEAD {
        return Err(Bypass::Method);
    }
    if headers.contains_key(IF_MATCH) || headers.contains_key(IF_UNMODIFIED_SINCE) {
        return Err(Bypass::Precondition);
    }
    Ok(match directives {
        ClientDirectives::Ignore => Demand::default(),
        ClientDirectives::Obey => Demand::from_headers(headers),
    })
}

/// Whether a request says `no-store`.
pub(super) fn has_no_store(request: &HeaderMap) -> bool {
    Demand::from_headers(request).no_store
}

impl Demand {
    fn from_headers(headers: &HeaderMap) -> Self {
        let mut demand = Self::default();
        for line in headers.get_all(CACHE_CONTROL) {
            for member in members(line.as_bytes()) {
                demand.apply(member.name, &member.argument);
            }
        }
        // Pragma counts only for clients that know nothing newer (RFC 9111 5.4).
        if !headers.contains_key(CACHE_CONTROL) {
            let lines = headers.get_all(PRAGMA);
            demand.no_cache = lines
                .iter()
                .flat_map(|line| members(line.as_bytes()))
                .any(|member| member.name.eq_ignore_ascii_case(b"no-cache"));
        }
        demand
    }

    fn apply(&mut self, name: &[u8], argument: &Argument<'_>) {
        let is = |other: &str| name.eq_ignore_ascii_case(other.as_bytes());
        if is("no-cache") {
            self.no_cache = true;
        } else if is("no-store") {
            self.no_store = true;
        } else if is("only-if-cached") {
            self.only_if_cached = true;
        } else if is("max-age") {
            // An unusable limit is taken as the strictest one.
            let stated = argument.seconds().unwrap_or_default();
            self.max_age = Some(self.max_age.map_or(stated, |known| known.min(stated)));
        } else if is("min-fresh") {
            let stated = argument.seconds().unwrap_or(super::time::DELTA_MAX);
            self.min_fresh = Some(self.min_fresh.map_or(stated, |known| known.max(stated)));
        } else if is("max-stale") {
            let stated = match argument {
                Argument::None => super::time::DELTA_MAX,
                _ => argument.seconds().unwrap_or_default(),
            };
            self.max_stale = Some(self.max_stale.map_or(stated, |known| known.min(stated)));
        }
    }

    /// Whether a stored response of this age, with this much freshness left, will do without asking the origin.
    pub fn accepts(&self, age: Duration, left: Left, must_revalidate: bool) -> bool {
        if self.no_cache || self.max_age.is_some_and(|max_age| age > max_age) {
            return false;
        }
        match left {
            Left::Fresh(left) => self.min_fresh.is_none_or(|wanted| left >= wanted),
            Left::Stale(by) => {
                !must_revalidate
                    && self.min_fresh.is_none()
                    && self.max_stale.is_some_and(|limit| by <= limit)
            }
        }
    }
}

#[cfg(test)]
mod tests;
