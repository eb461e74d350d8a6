//! Whether a response may be kept, for how long, and how it may be used (RFC 9111 3).

use std::time::{Duration, SystemTime};

use http::header::{
    AGE, AUTHORIZATION, CONNECTION, COOKIE, ETAG, LAST_MODIFIED, PROXY_AUTHENTICATE,
    PROXY_AUTHORIZATION, SET_COOKIE, TE, TRAILER, TRANSFER_ENCODING, UPGRADE,
};
use http::{HeaderMap, HeaderName, Method, StatusCode};

use super::directives::{Directives, Listed};
use super::freshness::{Left, Source, explicit_lifetime, heuristic_lifetime, initial_age};
use super::groups::{BadTags, TagLimits, tags};
use super::vary::{self, BadVary, VaryRules};

/// One request and its response, with the times of both.
#[derive(Debug, Clone, Copy)]
pub struct Exchange<'a> {
    /// The request's method as the client sent it; a HEAD is asked for as GET, so it counts as one.
    pub method: &'a Method,
    /// The request's headers as the client sent them.
    pub request: &'a HeaderMap,
    /// The response's status.
    pub status: StatusCode,
    /// The response's headers as the origin sent them.
    pub response: &'a HeaderMap,
    /// When the request was sent to the origin.
    pub request_time: SystemTime,
    /// When the response's header had arrived.
    pub response_time: SystemTime,
    /// Whether the origin got the request's cookies.
    pub cookie_sent: bool,
    /// What an answer that there is nothing gets where it states no lifetime of its own; see [`is_negative`].
    pub negative_ttl: Option<Duration>,
}

/// What the configuration decides.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rules {
    /// Targeted fields (RFC 9213), the one that wins first.
    pub targeted: Vec<HeaderName>,
    /// Whether only a response whose targeted field says `public` is kept.
    pub marked_only: bool,
    /// The longest heuristic lifetime; none turns heuristics off.
    pub heuristic_max: Option<Duration>,
    /// Every lifetime is cut to this.
    pub fresh_max: Duration,
    /// Granted when the response says nothing about it and nothing forbids it.
    pub stale_while_revalidate: Duration,
    /// Granted when the response says nothing about it and nothing forbids it.
    pub stale_if_error: Duration,
    /// Whether a response with `Set-Cookie` may be kept, if it states its lifetime.
    pub store_set_cookie: bool,
    /// Whether `Cache-Control: no-store` of a request forbids keeping its answer (RFC 9111 5.2.1.5).
    pub obey_request: bool,
    /// Which `Vary` can be honoured.
    pub vary: VaryRules,
    /// Bounds on tags.
    pub tags: TagLimits,
}

/// Keep it, or the reason why not.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Decision {
    /// Keep it for this long.
    Store(Lifetime),
    /// Do not keep it.
    Refuse(Reason),
}

/// How long a response may be used, and how.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Lifetime {
    /// Freshness left at `response_time`: the age it arrived with is already taken off.
    pub fresh: Duration,
    /// The age it arrived with: the `Age` to send is this plus the time it was kept.
    pub initial_age: Duration,
    /// How long after `fresh` it may be served while one fetch runs (RFC 5861).
    pub stale_while_revalidate: Duration,
    /// How long after `fresh` it may be served when the origin fails (RFC 5861).
    pub stale_if_error: Duration,
    /// Whether it may never be served stale, not even when the origin cannot be reached (RFC 9111 4.2.4).
    pub must_revalidate: bool,
    /// Whether every use must be validated (`no-cache`); `fresh` is then zero.
    pub no_cache: bool,
    /// Whether its body may not be re-encoded (`no-transform`).
    pub no_transform: bool,
    /// The request headers that select the variant, sorted.
    pub vary: Vec<HeaderName>,
    /// Fields to leave out of what is kept: hop-by-hop ones, `Age`, and those of `private="…"` and `no-cache="…"`.
    pub omit: Vec<HeaderName>,
    /// Its tags, sorted.
    pub tags: Vec<Box<str>>,
    /// Where `fresh` comes from.
    pub source: Source,
}

impl Lifetime {
    /// Its age after it was kept for `kept` (of a clock that does not jump).
    pub fn age(&self, kept: Duration) -> Duration {
        self.initial_age.saturating_add(kept)
    }

    /// What is left of its freshness then.
    pub fn left(&self, kept: Duration) -> Left {
        Left::after(self.fresh, kept)
    }

    /// Whether it may be served then while one fetch runs.
    pub fn serves_while_revalidating(&self, kept: Duration) -> bool {
        self.serves(kept, self.stale_while_revalidate)
    }

    /// Whether it may be served then because the origin failed or is not asked.
    pub fn serves_on_error(&self, kept: Duration) -> bool {
        self.serves(kept, self.stale_if_error)
    }

    fn serves(&self, kept: Duration, window: Duration) -> bool {
        match self.left(kept) {
            Left::Fresh(_) => true,
            Left::Stale(by) => by < window,
        }
    }
}

/// Why a response is not kept: one for each rule.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Reason {
    /// Neither GET nor HEAD.
    Method,
    /// An interim response (1xx).
    Interim,
    /// A part of a response (206).
    Partial,
    /// A 304 to the client's own condition.
    NotModified,
    /// `must-understand` with a status whose rules are not known here.
    NotUnderstood,
    /// `no-store`.
    NoStore,
    /// `private`.
    Private,
    /// The request's `no-store`.
    RequestNoStore,
    /// The request had `Authorization` and the response does not allow sharing (RFC 9111 3.5).
    Authorization,
    /// No targeted field says `public`, and only such responses are kept.
    NotMarked,
    /// `Set-Cookie`.
    SetCookie,
    /// The request had `Cookie` and only a heuristic would make the response fresh.
    CookieHeuristic,
    /// `Vary: *`, or a malformed `Vary`.
    VaryAny,
    /// `Vary` names a header outside the configured ones.
    VaryName,
    /// `Vary` names more headers than the limit.
    VaryTooMany,
    /// A group field is malformed.
    TagsMalformed,
    /// More tags than the limit.
    TagsTooMany,
    /// A tag longer than the limit.
    TagTooLong,
    /// `no-cache` without a validator: it could never be used.
    NoCache,
    /// No lifetime was stated, and none may be guessed.
    NoLifetime,
    /// Stale on arrival, without a validator or a stale window: it could never be used.
    Stale,
    /// Its body is announced as larger than what is kept.
    TooLarge,
}

impl Reason {
    /// A short name, for `Cache-Status` and metrics.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Method => "method",
            Self::Interim => "interim",
            Self::Partial => "partial",
            Self::NotModified => "not-modified",
            Self::NotUnderstood => "not-understood",
            Self::NoStore => "no-store",
            Self::Private => "private",
            Self::RequestNoStore => "request-no-store",
            Self::Authorization => "authorization",
            Self::NotMarked => "not-marked",
            Self::SetCookie => "set-cookie",
            Self::CookieHeuristic => "cookie-heuristic",
            Self::VaryAny => "vary-any",
            Self::VaryName => "vary-name",
            Self::VaryTooMany => "vary-too-many",
            Self::TagsMalformed => "tags-malformed",
            Self::TagsTooMany => "tags-too-many",
            Self::TagTooLong => "tag-too-long",
            Self::NoCache => "no-cache",
            Self::NoLifetime => "no-lifetime",
            Self::Stale => "stale",
            Self::TooLarge => "too-large",
        }
    }
}

impl From<BadTags> for Reason {
    fn from(problem: BadTags) -> Self {
        match problem {
            BadTags::Malformed => Self::TagsMalformed,
            BadTags::TooMany => Self::TagsTooMany,
            BadTags::TooLong => Self::TagTooLong,
        }
    }
}

impl From<BadVary> for Reason {
    fn from(problem: BadVary) -> Self {
        match problem {
            BadVary::Any => Self::VaryAny,
            BadVary::Name => Self::VaryName,
            BadVary::TooMany => Self::VaryTooMany,
        }
    }
}

/// Decides on one response.
pub fn decide(exchange: &Exchange<'_>, rules: &Rules) -> Decision {
    match judge(exchange, rules) {
        Ok(lifetime) => Decision::Store(lifetime),
        Err(reason) => Decision::Refuse(reason),
    }
}

fn judge(exchange: &Exchange<'_>, rules: &Rules) -> Result<Lifetime, Reason> {
    check_kind(exchange.method, exchange.status)?;
    let targeted = Directives::from_targeted(exchange.response, &rules.targeted);
    let is_targeted = targeted.is_some();
    if rules.marked_only
        && !targeted
            .as_ref()
            .is_some_and(|directives| directives.public)
    {
        return Err(Reason::NotMarked);
    }
    let directives = targeted.unwrap_or_else(|| Directives::from_cache_control(exchange.response));
    check_directives(exchange, rules, &directives)?;
    let vary = vary::names(exchange.response, &rules.vary)?;
    let tags = tags(exchange.response, &rules.tags)?;
    let (stated, source) = lifetime(exchange, rules, &directives, is_targeted)?;
    check_set_cookie(exchange.response, rules, &directives, source)?;
    let lifetime = Lifetime {
        vary,
        tags,
        source,
        omit: omitted(exchange.response, &directives),
        no_transform: directives.no_transform,
        ..windows(exchange, rules, &directives, stated.min(rules.fresh_max))
    };
    check_use(exchange.response, &lifetime)?;
    Ok(lifetime)
}

fn check_kind(method: &Method, status: StatusCode) -> Result<(), Reason> {
    if method != Method::GET && method != Method::HEAD {
        return Err(Reason::Method);
    }
    if status.is_informational() {
        return Err(Reason::Interim);
    }
    match status {
        StatusCode::PARTIAL_CONTENT => Err(Reason::Partial),
        StatusCode::NOT_MODIFIED => Err(Reason::NotModified),
        _ => Ok(()),
    }
}

fn check_directives(
    exchange: &Exchange<'_>,
    rules: &Rules,
    directives: &Directives,
) -> Result<(), Reason> {
    if directives.must_understand {
        // With must-understand, no-store is meant for caches that do not know the status (RFC 9111 5.2.2.3).
        if !is_understood(exchange.status) {
            return Err(Reason::NotUnderstood);
        }
    } else if directives.no_store {
        return Err(Reason::NoStore);
    }
    if directives.private == Listed::Whole {
        return Err(Reason::Private);
    }
    if rules.obey_request && super::request::has_no_store(exchange.request) {
        return Err(Reason::RequestNoStore);
    }
    let shared = directives.public || directives.must_revalidate || directives.s_maxage.is_some();
    if exchange.request.contains_key(AUTHORIZATION) && !shared {
        return Err(Reason::Authorization);
    }
    Ok(())
}

/// `Set-Cookie` does not keep a response from being shared (RFC 9111 7.3), but where nothing was said about sharing, or the
/// rules are stricter, a cookie for one user is not handed to another.
fn check_set_cookie(
    response: &HeaderMap,
    rules: &Rules,
    directives: &Directives,
    source: Source,
) -> Result<(), Reason> {
    let is_guessed = matches!(
        source,
        Source::Negative | Source::Heuristic | Source::Unknown
    );
    let is_allowed = rules.store_set_cookie && !is_guessed;
    let is_omitted = directives.private.fields().contains(&SET_COOKIE)
        || directives.no_cache.fields().contains(&SET_COOKIE);
    if response.contains_key(SET_COOKIE) && !is_allowed && !is_omitted {
        return Err(Reason::SetCookie);
    }
    Ok(())
}

/// The lifetime before any age is taken off, and where it comes from.
fn lifetime(
    exchange: &Exchange<'_>,
    rules: &Rules,
    directives: &Directives,
    is_targeted: bool,
) -> Result<(Duration, Source), Reason> {
    let Exchange {
        response,
        response_time,
        ..
    } = *exchange;
    if let Some(stated) = explicit_lifetime(directives, is_targeted, response, response_time) {
        return Ok(stated);
    }
    if directives.no_cache == Listed::Whole {
        return Ok((Duration::ZERO, Source::Unknown));
    }
    let negative_ttl = exchange
        .negative_ttl
        .filter(|_| is_negative(exchange.status));
    if negative_ttl.is_none() && rules.heuristic_max.is_none() {
        return Err(Reason::NoLifetime);
    }
    if !is_heuristically_cacheable(exchange.status) && !directives.public {
        return Err(Reason::NoLifetime);
    }
    // The origin may have looked at the cookie and forgotten to say so.
    if exchange.cookie_sent && exchange.request.contains_key(COOKIE) {
        return Err(Reason::CookieHeuristic);
    }
    if let Some(granted) = negative_ttl {
        return Ok((granted, Source::Negative));
    }
    let guessed = rules
        .heuristic_max
        .and_then(|longest| heuristic_lifetime(response, response_time, longest));
    match guessed {
        Some(guessed) => Ok((guessed, Source::Heuristic)),
        None if has_validator(response) => Ok((Duration::ZERO, Source::Unknown)),
        None => Err(Reason::NoLifetime),
    }
}

/// Freshness left and stale windows, given the lifetime before any age is taken off.
fn windows(
    exchange: &Exchange<'_>,
    rules: &Rules,
    directives: &Directives,
    stated: Duration,
) -> Lifetime {
    let initial_age = initial_age(
        exchange.response,
        exchange.request_time,
        exchange.response_time,
    );
    let no_cache = directives.no_cache == Listed::Whole;
    let forbidden = no_cache || directives.must_revalidate || directives.proxy_revalidate;
    // s-maxage implies proxy-revalidate (RFC 9111 5.2.2.10), unless the same field grants a window in so many words.
    let implied = directives.s_maxage.is_some();
    // A response that arrives stale has used up a part of its windows.
    let overdue = initial_age.saturating_sub(stated);
    let window = |granted: Option<Duration>, default: Duration| {
        let default = if implied { Duration::ZERO } else { default };
        let window = if forbidden {
            Duration::ZERO
        } else {
            granted.unwrap_or(default)
        };
        window.saturating_sub(overdue)
    };
    let granted = [directives.stale_while_revalidate, directives.stale_if_error];
    Lifetime {
        fresh: if no_cache {
            Duration::ZERO
        } else {
            stated.saturating_sub(initial_age)
        },
        initial_age,
        stale_while_revalidate: window(granted[0], rules.stale_while_revalidate),
        stale_if_error: window(granted[1], rules.stale_if_error),
        must_revalidate: forbidden || (implied && granted == [None, None]),
        no_cache,
        no_transform: false,
        vary: Vec::new(),
        omit: Vec::new(),
        tags: Vec::new(),
        source: Source::Unknown,
    }
}

/// What could never be used is not kept.
fn check_use(response: &HeaderMap, lifetime: &Lifetime) -> Result<(), Reason> {
    let is_fresh = !lifetime.fresh.is_zero();
    let has_window =
        !lifetime.stale_while_revalidate.is_zero() || !lifetime.stale_if_error.is_zero();
    if is_fresh || has_window || has_validator(response) {
        return Ok(());
    }
    Err(if lifetime.no_cache {
        Reason::NoCache
    } else {
        Reason::Stale
    })
}

fn has_validator(response: &HeaderMap) -> bool {
    response.contains_key(ETAG) || response.contains_key(LAST_MODIFIED)
}

/// Fields bound to one connection (RFC 9110 7.6.1, RFC 9111 3.1).
const HOP_BY_HOP: [HeaderName; 10] = [
    CONNECTION,
    HeaderName::from_static("keep-alive"),
    HeaderName::from_static("proxy-connection"),
    HeaderName::from_static("proxy-authentication-info"),
    PROXY_AUTHENTICATE,
    PROXY_AUTHORIZATION,
    TE,
    TRAILER,
    TRANSFER_ENCODING,
    UPGRADE,
];

/// The fields that end with one connection: those that always do, and those that `Connection` names.
pub(super) fn bound_to_connection(response: &HeaderMap) -> Vec<HeaderName> {
    let nominated = response
        .get_all(CONNECTION)
        .iter()
        .flat_map(|line| line.as_bytes().split(|byte| *byte == b','))
        .filter_map(|name| HeaderName::from_bytes(name.trim_ascii()).ok());
    HOP_BY_HOP.into_iter().chain(nominated).collect()
}

fn omitted(response: &HeaderMap, directives: &Directives) -> Vec<HeaderName> {
    let listed = directives
        .private
        .fields()
        .iter()
        .chain(directives.no_cache.fields())
        .cloned();
    let mut names: Vec<_> = bound_to_connection(response)
        .into_iter()
        .chain([AGE])
        .chain(listed)
        .filter(|name| response.contains_key(name))
        .collect();
    names.sort_unstable_by(|a, b| a.as_str().cmp(b.as_str()));
    names.dedup();
    names
}

/// Statuses which say that there is nothing, and may be kept without a stated lifetime (RFC 9110 15.1): 404, 405, 410, 414, 501.
pub fn is_negative(status: StatusCode) -> bool {
    is_heuristically_cacheable(status) && (status.is_client_error() || status.is_server_error())
}

/// Statuses that may be kept without a stated lifetime (RFC 9110 15.1); 206 is never kept.
fn is_heuristically_cacheable(status: StatusCode) -> bool {
    matches!(
        status.as_u16(),
        200 | 203 | 204 | 300 | 301 | 308 | 404 | 405 | 410 | 414 | 501
    )
}

/// Final statuses whose caching rules are known here: those of RFC 9110 15, except what is never kept.
fn is_understood(status: StatusCode) -> bool {
    matches!(
        status.as_u16(),
        200..=205 | 300..=303 | 305 | 307 | 308 | 400..=417 | 421 | 422 | 426 | 500..=505
    )
}

#[cfg(test)]
mod tests;
