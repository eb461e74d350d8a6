//! Why a URL is answered as it is: its key, what is kept under it, what was decided and which purge touched it.
//!
//! Looking changes nothing: no entry counts as read, no origin is asked. What an answer would have to be for the next request
//! is said for a plain GET, without conditions and without directives of its own.

use std::collections::BTreeMap;
use std::time::{Duration, Instant, SystemTime};

use http::header::{
    CACHE_CONTROL, DATE, ETAG, EXPIRES, HeaderName, LAST_MODIFIED, PRAGMA, SET_COOKIE, VARY,
};
use http::{HeaderMap, HeaderValue};
use serde::Serialize;

use crate::coherence::{Coherence, Moment};
use crate::policy::freshness::Left;
use crate::policy::groups::{CACHE_GROUPS, CACHE_TAG, SURROGATE_KEY};
use crate::policy::key::Key;
use crate::policy::route::Target;
use crate::policy::source;
use crate::policy::stale::{self, Failure};
use crate::purge::{Cause, Journal, Mode, Sequence};
use crate::refusals::Refusals;
use crate::site::{BadUrl, Named, Site};
use crate::store::{Freshness, Inspected, Store};

/// Hosts on which a path is explained at most.
const HOSTS_MAX: usize = 256;

/// Fields that decide about keeping and using a response, the targeted ones apart.
const CONTROLS: [HeaderName; 8] = [
    CACHE_CONTROL,
    EXPIRES,
    DATE,
    PRAGMA,
    VARY,
    ETAG,
    LAST_MODIFIED,
    SET_COOKIE,
];

/// Where an explanation looks.
pub struct Sources<'a> {
    /// How the URL is read.
    pub site: &'a Site,
    /// What is kept.
    pub store: &'a Store,
    /// The last purges.
    pub journal: &'a Journal,
    /// The last refusals.
    pub refusals: &'a Refusals,
    /// Targeted fields (RFC 9213).
    pub targeted: &'a [HeaderName],
    /// How long what is stale is used while no origin can be reached, where the origin named no bound.
    pub stale_if_unreachable: Duration,
    /// What is known of the data, if the stream of changes is followed.
    pub coherence: Option<&'a Coherence>,
}

/// What is known about a URL.
#[derive(Debug, Serialize)]
pub struct Explanation {
    /// The URL as asked.
    pub url: String,
    /// Its canonical path and query: keyed, purged, sent to the origin.
    pub target: String,
    /// The configured route; `None` when none matches.
    pub route: Option<String>,
    /// Whether the route's rule lets answers be kept.
    pub is_cached_route: bool,
    /// One for each key: of an absolute URL one, of a path one for each host that has it.
    pub keys: Vec<KeyExplained>,
    /// What the next plain GET meets if there is no key: nothing is kept, nor was a refusal remembered.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub otherwise: Option<Decision>,
}

/// What is known about one key.
#[derive(Debug, Serialize)]
pub struct KeyExplained {
    /// Scheme, host, path and query.
    pub key: String,
    /// What the next plain GET meets; of a response that varies, one that fits no variant below.
    pub decision: Decision,
    /// The last purge that named it, if any did.
    pub last_purge: Option<LastPurge>,
    /// Why the last answer was not kept, if it came after every entry below.
    pub last_refusal: Option<LastRefusal>,
    /// Each variant.
    pub entries: Vec<EntryExplained>,
}

/// What the next plain GET meets.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Decision {
    /// What happens.
    pub verdict: Verdict,
    /// Why.
    pub reason: String,
}

/// What the cache does for a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Verdict {
    /// Takes no part.
    Pass,
    /// Asks the origin, having nothing.
    Fetch,
    /// Joins a fetch on its way.
    Join,
    /// Answers.
    Hit,
    /// Answers stale and asks the origin in the background (RFC 5861 section 3).
    StaleWhileRevalidate,
    /// Asks the origin whether what is kept still holds.
    Revalidate,
}

/// A purge that named a key or one of its groups.
#[derive(Debug, Serialize)]
pub struct LastPurge {
    /// Its number.
    pub sequence: Sequence,
    /// When, how, by whom and what it named; `None` when that is no longer remembered.
    pub details: Option<PurgeDetails>,
}

/// What is remembered of a purge.
#[derive(Debug, Serialize)]
pub struct PurgeDetails {
    /// When it had taken effect, as an HTTP date.
    pub at: String,
    /// Whether what it found was made stale instead of removed.
    pub soft: bool,
    /// `operator` or `write`.
    pub cause: &'static str,
    /// What it named, shortened.
    pub names: String,
}

/// Why an answer was not kept.
#[derive(Debug, Serialize)]
pub struct LastRefusal {
    /// The reason's name, as in `Cache-Status`.
    pub reason: &'static str,
    /// How long ago the answer came.
    pub seconds_ago: u64,
}

/// One variant.
#[derive(Debug, Serialize)]
pub struct EntryExplained {
    /// Which variant, of a response that varies.
    pub variant: Option<String>,
    /// Its status code.
    pub status: u16,
    /// Whether its body is still arriving.
    pub is_filling: bool,
    /// The control fields as the origin sent them.
    pub directives: BTreeMap<String, Vec<String>>,
    /// Its groups.
    pub tags: Vec<String>,
    /// What the next plain GET of this variant meets.
    pub decision: Decision,
    /// The field and directive, or the setting, that its lifetime comes from.
    pub lifetime_from: String,
    /// Seconds since the origin made or validated it.
    pub age_seconds: u64,
    /// Seconds until it is stale; negative since it is.
    pub fresh_seconds: i64,
    /// Seconds left of the window in which it is used while the origin is asked.
    pub stale_while_revalidate_seconds: u64,
    /// Seconds left of the window in which it is used if the origin answers with an error.
    pub stale_if_error_seconds: u64,
    /// Seconds left of the window in which it is used if no answer is to be had.
    pub stale_if_unreachable_seconds: u64,
    /// Whether it is never used stale on a client's wish.
    pub must_revalidate: bool,
    /// The number of the soft purge that made it stale.
    pub soft_purged_by: Option<Sequence>,
    /// The newest purge when its origin request began.
    pub began: Sequence,
    /// Its bytes on the ledger.
    pub bytes: usize,
    /// Lookups that found it.
    pub reads: u32,
}

/// Explains a URL: an absolute one, or a path on every host.
///
/// # Errors
/// Why it names nothing.
pub fn explain(url: &str, sources: &Sources<'_>, now: Instant) -> Result<Explanation, BadUrl> {
    let (target, keys) = match sources.site.named(url)? {
        Named::Key(key) => (sources.site.resolve(key.path(), key.query())?, vec![*key]),
        Named::Path(target) => {
            let keys = keys_of(&target, sources);
            (target, keys)
        }
    };
    let otherwise = if target.cache {
        decision(Verdict::Fetch, "nothing is kept")
    } else {
        decision(Verdict::Pass, "no rule lets this path be kept")
    };
    let view = View {
        sources,
        has_negative_ttl: sources.site.negative_ttl(target.route).is_some(),
        unleased: unleased(sources),
        now,
    };
    let keys: Vec<_> = keys
        .iter()
        .map(|key| explain_key(key, &otherwise, &view))
        .collect();
    Ok(Explanation {
        url: url.to_owned(),
        target: match &target.query {
            Some(query) => format!("{}?{query}", target.path),
            None => target.path.clone(),
        },
        route: target
            .route
            .map(|route| sources.site.route(route).to_owned()),
        is_cached_route: target.cache,
        otherwise: keys.is_empty().then_some(otherwise),
        keys,
    })
}

/// What an entry's explanation depends on besides the entry.
struct View<'a> {
    sources: &'a Sources<'a>,
    /// Whether the route grants a lifetime to answers that there is nothing.
    has_negative_ttl: bool,
    /// There is no lease.
    unleased: Option<Unleased>,
    now: Instant,
}

/// What the lack of a lease means for entries that carry groups.
struct Unleased {
    /// None of them is given.
    is_strict: bool,
    /// One that is younger is a hit.
    fresh_for: Duration,
}

fn unleased(sources: &Sources<'_>) -> Option<Unleased> {
    let coherence = sources.coherence?;
    coherence.unleased_for(Moment::now())?;
    Some(Unleased {
        is_strict: coherence.is_strict(),
        fresh_for: coherence.settings().fresh_without_lease,
    })
}

/// The keys of a path: on the one host there is, or on those that have it.
fn keys_of(target: &Target, sources: &Sources<'_>) -> Vec<Key> {
    let on =
        |scheme: &str, host: &str| Key::new(scheme, host, &target.path, target.query.as_deref());
    if let Some(host) = sources.site.only_host() {
        return vec![on("http", host)];
    }
    let sites = sources.store.sites(HOSTS_MAX).unwrap_or_default();
    let mut keys: Vec<Key> = sites
        .iter()
        .map(|(scheme, host)| on(scheme, host))
        .filter(|key| {
            !sources.store.inspect(key).is_empty() || sources.refusals.find(&key.hash()).is_some()
        })
        .collect();
    keys.sort_by(|one, other| one.host().cmp(other.host()));
    keys
}

fn explain_key(key: &Key, otherwise: &Decision, view: &View<'_>) -> KeyExplained {
    let View { sources, now, .. } = view;
    let entries = sources.store.inspect(key);
    let mut tags: Vec<Box<str>> = entries
        .iter()
        .flat_map(|entry| entry.object.tags.iter().cloned())
        .collect();
    tags.sort_unstable();
    tags.dedup();
    let last_refusal = sources
        .refusals
        .find(&key.hash())
        .filter(|refusal| {
            let arrived = |entry: &Inspected| entry.object.freshness().stored_at;
            entries.iter().all(|entry| arrived(entry) <= refusal.at)
        })
        .map(|refusal| LastRefusal {
            reason: refusal.reason,
            seconds_ago: now.saturating_duration_since(refusal.at).as_secs(),
        });
    let explained: Vec<_> = entries
        .iter()
        .map(|entry| explain_entry(entry, &entries[0], view))
        .collect();
    KeyExplained {
        key: key.to_string(),
        decision: decide_key(&explained, last_refusal.as_ref(), otherwise),
        last_purge: last_purge(sources.store.last_purge(key, &tags), sources.journal),
        last_refusal,
        entries: explained,
    }
}

/// What a request for a key meets: its entry, where there is one that varies on nothing.
fn decide_key(
    entries: &[EntryExplained],
    refusal: Option<&LastRefusal>,
    otherwise: &Decision,
) -> Decision {
    if otherwise.verdict == Verdict::Pass {
        return otherwise.clone();
    }
    match (entries.first(), refusal) {
        (Some(newest), _) if newest.variant.is_none() => newest.decision.clone(),
        (Some(_), _) => decision(Verdict::Fetch, "a variant that is not kept"),
        (None, Some(refusal)) => {
            let reason = format!("the last answer was not kept: {}", refusal.reason);
            decision(Verdict::Fetch, &reason)
        }
        (None, None) => otherwise.clone(),
    }
}

fn last_purge(sequence: Sequence, journal: &Journal) -> Option<LastPurge> {
    (sequence > 0).then(|| LastPurge {
        sequence,
        details: journal.find(sequence).map(|record| PurgeDetails {
            at: http_date(record.at),
            soft: matches!(record.mode, Mode::Soft { .. }),
            cause: match record.cause {
                Cause::Operator => "operator",
                Cause::Write => "write",
                Cause::Stream => "stream",
                Cause::Release => "release",
            },
            names: record.names.into(),
        }),
    })
}

fn http_date(at: SystemTime) -> String {
    httpdate::fmt_http_date(at)
}

fn explain_entry(entry: &Inspected, newest: &Inspected, view: &View<'_>) -> EntryExplained {
    let (object, targeted, now) = (&entry.object, view.sources.targeted, view.now);
    let (status, headers) = (object.head.status, &object.head.headers);
    let is_found = entry.object.id == newest.object.id
        || (entry.object.variance.is_some() && newest.object.variance.is_some());
    let freshness = object.freshness();
    let (left, stale_for) = match freshness.left(now) {
        Left::Fresh(left) => (seconds(left), Duration::ZERO),
        Left::Stale(by) => (-seconds(by), by),
    };
    let rest = |window: Duration| window.saturating_sub(stale_for).as_secs();
    let if_failed = |failure| {
        let Freshness {
            must_revalidate,
            stale_if_error,
            ..
        } = freshness;
        let unreachable = view.sources.stale_if_unreachable;
        stale::window(failure, must_revalidate, stale_if_error, unreachable)
    };
    EntryExplained {
        variant: object.variance.map(|variance| hex(&variance)),
        status: status.as_u16(),
        is_filling: !object.is_complete(),
        directives: directives(headers, targeted),
        tags: object.tags.iter().map(ToString::to_string).collect(),
        decision: if is_found {
            decide(entry, view)
        } else {
            decision(
                Verdict::Fetch,
                "never found: a newer answer disagrees about varying at all",
            )
        },
        lifetime_from: source::of_stored(status, headers, targeted, view.has_negative_ttl),
        age_seconds: freshness.age(now).as_secs(),
        fresh_seconds: left,
        stale_while_revalidate_seconds: rest(freshness.stale_while_revalidate),
        stale_if_error_seconds: rest(if_failed(Failure::Answered)),
        stale_if_unreachable_seconds: rest(if_failed(Failure::Unreachable)),
        must_revalidate: freshness.must_revalidate,
        soft_purged_by: object.expired().map(|expired| expired.sequence),
        began: entry.began,
        bytes: object.cost(),
        reads: entry.reads,
    }
}

fn decide(entry: &Inspected, view: &View<'_>) -> Decision {
    let (freshness, now) = (entry.object.freshness(), view.now);
    let is_fresh = matches!(freshness.left(now), Left::Fresh(_));
    let unleased = view.unleased.as_ref();
    if let Some(unleased) = unleased.filter(|_| !entry.object.tags.is_empty()) {
        if unleased.is_strict {
            return decision(Verdict::Pass, "without a lease nothing in a group is used");
        }
        let kept = now.saturating_duration_since(freshness.stored_at);
        if is_fresh && kept < unleased.fresh_for {
            return decision(Verdict::Hit, "fresh for a moment, without a lease");
        }
        if is_fresh {
            return decision(Verdict::Revalidate, "nobody vouches for it: no lease");
        }
    }
    let by = match freshness.left(now) {
        Left::Fresh(_) if !entry.object.is_complete() => {
            return decision(Verdict::Join, "its body is arriving, and fresh");
        }
        Left::Fresh(_) => return decision(Verdict::Hit, "fresh"),
        Left::Stale(by) => by,
    };
    let why = match entry.object.expired() {
        Some(expired) => format!("stale since the soft purge {}", expired.sequence),
        None => "stale".to_owned(),
    };
    if by < freshness.stale_while_revalidate {
        let reason = format!("{why}, within stale-while-revalidate");
        return decision(Verdict::StaleWhileRevalidate, &reason);
    }
    let headers = &entry.object.head.headers;
    if headers.contains_key(ETAG) || headers.contains_key(LAST_MODIFIED) {
        return decision(Verdict::Revalidate, &format!("{why}, with a validator"));
    }
    decision(Verdict::Fetch, &format!("{why}, without a validator"))
}

fn decision(verdict: Verdict, reason: &str) -> Decision {
    Decision {
        verdict,
        reason: reason.to_owned(),
    }
}

fn directives(headers: &HeaderMap, targeted: &[HeaderName]) -> BTreeMap<String, Vec<String>> {
    let groups = [CACHE_GROUPS, SURROGATE_KEY, CACHE_TAG];
    let mut found = BTreeMap::new();
    for name in targeted.iter().chain(&CONTROLS).chain(&groups) {
        let lines: Vec<String> = headers.get_all(name).iter().map(text).collect();
        // A cookie is somebody's secret: that it is there is all that counts.
        let lines = match *name == SET_COOKIE {
            true => lines.iter().map(|_| "…".to_owned()).collect(),
            false => lines,
        };
        if !lines.is_empty() {
            found.insert(name.as_str().to_owned(), lines);
        }
    }
    found
}

fn text(value: &HeaderValue) -> String {
    String::from_utf8_lossy(value.as_bytes()).into_owned()
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn seconds(span: Duration) -> i64 {
    i64::try_from(span.as_secs()).unwrap_or(i64::MAX)
}
