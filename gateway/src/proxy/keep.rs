//! Keeping responses: what the configuration says about it, the decision, and the parts of Pingora's cache that carry it out.

use std::sync::Arc;
use std::time::{Instant, SystemTime};

use http::{HeaderMap, Method, StatusCode, header};
use pingora::Result;
use pingora::http::ResponseHeader;
use pingora::proxy::Session;
use pingora_cache::lock::CacheKeyLockImpl;
use pingora_cache::{NoCacheReason, RespCacheable};

use super::herd::Failures;
use super::lock::HerdLock;
use super::storage::{self, CacheStorage, FillPlan, Stored, stored};
use super::uncacheable::UncacheableMemory;
use super::{Context, Gateway, framing};
use crate::config::{ClientDirectives, Config};
use crate::policy::encoding::EncodingRules;
use crate::policy::groups::TagLimits;
use crate::policy::key::Key;
use crate::policy::storable::{self, Decision, Exchange, Lifetime, Reason, Rules};
use crate::policy::update::{self, Unfit};
use crate::policy::vary::VaryRules;
use crate::refusals::Refusals;
use crate::store::{Freshness, Store};

/// Request fields that one response may vary on, at most.
const VARY_NAMES_MAX: usize = 8;

/// The parts Pingora's cache wants for the life of the program: leaked once per gateway, so that tests can make several.
#[derive(Clone, Copy)]
pub(super) struct CacheParts {
    pub(super) storage: &'static CacheStorage,
    pub(super) uncacheable: &'static UncacheableMemory,
    pub(super) lock: &'static CacheKeyLockImpl,
    pub(super) failures: &'static Failures,
}

impl CacheParts {
    pub(super) fn leak(store: &Arc<Store>, refusals: &Arc<Refusals>, config: &Config) -> Self {
        let unreachable = config.cache.stale_if_unreachable;
        let storage = CacheStorage::new(Arc::clone(store), Arc::clone(refusals), unreachable);
        let uncacheable = UncacheableMemory::new(config.cache.uncacheable_ttl);
        let failures: &'static Failures =
            Box::leak(Box::new(Failures::new(config.cache.lock_wait)));
        let lock = HerdLock::new(config.cache.lock_age, failures, Arc::clone(store));
        Self {
            storage: Box::leak(Box::new(storage)),
            uncacheable: Box::leak(Box::new(uncacheable)),
            lock: Box::leak(Box::new(lock)),
            failures,
        }
    }

    /// Goes by other settings from now on.
    pub(super) fn configure(&self, config: &Config) {
        self.storage
            .unreachable
            .set(config.cache.stale_if_unreachable);
        self.uncacheable.ttl.set(config.cache.uncacheable_ttl);
        self.failures.memory.set(config.cache.lock_wait);
    }
}

/// What the configuration says about keeping responses.
pub(super) fn rules(config: &Config) -> Rules {
    let cache = &config.cache;
    Rules {
        targeted: cache.targeted.clone(),
        marked_only: cache.marked_only,
        heuristic_max: cache.heuristic.then_some(cache.heuristic_max),
        fresh_max: cache.fresh_max,
        stale_while_revalidate: cache.stale_while_revalidate,
        stale_if_error: cache.stale_if_error,
        store_set_cookie: cache.store_set_cookie,
        obey_request: cache.client_directives == ClientDirectives::Obey,
        vary: VaryRules {
            allow: cache.vary.clone(),
            names_max: VARY_NAMES_MAX,
        },
        tags: TagLimits {
            tags_max: cache.tags_max,
            tag_bytes_max: cache.tag_bytes_max,
        },
    }
}

/// What the configuration says about encoded representations.
pub(super) fn encodings(config: &Config) -> EncodingRules {
    EncodingRules {
        codings: config.cache.encodings.clone(),
        bytes_min: config.cache.encode_min.as_usize(),
        targeted: config.cache.targeted.clone(),
    }
}

impl Gateway {
    /// Before an origin's 304 is used: what it makes of the stored fields. Without it Pingora would take over a few fields only,
    /// and those of a 304 about another representation too.
    pub(super) fn validate(
        &self,
        session: &Session,
        resp: &mut ResponseHeader,
        ctx: &mut Context,
    ) -> Result<()> {
        if resp.status != StatusCode::NOT_MODIFIED {
            return Ok(());
        }
        let Some(meta) = session.cache.maybe_cache_meta() else {
            return Ok(());
        };
        let (stored, now) = (meta.headers(), SystemTime::now());
        let merged = update::freshened(stored, &resp.headers, now);
        if merged.is_err() {
            // Pingora merges as well: nothing of this one may get into the answer.
            *resp = ResponseHeader::build_no_case(StatusCode::NOT_MODIFIED, None)?;
        }
        ctx.validated = Some(merged);
        Ok(())
    }

    /// Decides whether an origin's answer is kept, and on what terms.
    pub(super) fn keep(
        &self,
        session: &Session,
        resp: &ResponseHeader,
        ctx: &mut Context,
    ) -> RespCacheable {
        let Some(key) = ctx.key.clone() else {
            return RespCacheable::Uncacheable(NoCacheReason::NeverEnabled);
        };
        let freshened;
        let resp = match ctx.validated.take() {
            None => resp,
            Some(Ok(headers)) => {
                freshened = with_headers(resp, headers);
                &freshened
            }
            Some(Err(unfit)) => return self.give_up(session, &key, unfit, ctx),
        };
        match self.decide(session, resp, ctx) {
            Decision::Store(lifetime) => {
                if resp.headers.contains_key(header::AGE) {
                    ctx.age_sent = Some(lifetime.initial_age);
                }
                ctx.negotiated = self.encodings.allows(resp.status, &resp.headers);
                if let (Some(releases), Some(place)) = (&self.releases, &ctx.lease) {
                    releases.observe(place.node().id(), &lifetime.tags);
                }
                let plan = FillPlan {
                    key,
                    freshness: freshness(&lifetime, Instant::now()),
                    tags: lifetime.tags.clone(),
                    began: ctx.began,
                    encodable: ctx.negotiated,
                    fate: ctx.fate.clone(),
                };
                let header = kept_header(resp, &lifetime);
                RespCacheable::Cacheable(storage::new_meta(plan, header, SystemTime::now()))
            }
            Decision::Refuse(reason) => {
                ctx.refused = Some(reason.as_str());
                self.refusals
                    .note(&key.hash(), reason.as_str(), Instant::now());
                // A failure says nothing about the next answer: it is not remembered, and one waiter tries again.
                RespCacheable::Uncacheable(if resp.status.is_server_error() {
                    NoCacheReason::UpstreamError
                } else {
                    NoCacheReason::Custom(reason.as_str())
                })
            }
        }
    }

    /// What is stored answers this request, and no other: who waits fetches it whole, as validations of it would go on to fail.
    fn give_up(
        &self,
        session: &Session,
        key: &Key,
        unfit: Unfit,
        ctx: &mut Context,
    ) -> RespCacheable {
        if let Some(Stored(object)) = stored(session) {
            self.store.remove(object);
        }
        ctx.refused = Some(unfit.as_str());
        self.refusals
            .note(&key.hash(), unfit.as_str(), Instant::now());
        RespCacheable::Uncacheable(NoCacheReason::UpstreamError)
    }

    fn decide(&self, session: &Session, resp: &ResponseHeader, ctx: &Context) -> Decision {
        let decision = storable::decide(&self.exchange(session, resp, ctx), &self.rules);
        match decision {
            Decision::Store(_) if !self.may_fit(&resp.headers) => {
                Decision::Refuse(Reason::TooLarge)
            }
            decided => decided,
        }
    }

    /// Whether a body may be within the limit, by what is said of its length.
    fn may_fit(&self, headers: &HeaderMap) -> bool {
        framing::content_length(headers)
            .is_none_or(|length| length <= self.config.cache.object_max.0)
    }

    fn exchange<'a>(
        &self,
        session: &'a Session,
        resp: &'a ResponseHeader,
        ctx: &Context,
    ) -> Exchange<'a> {
        let client = session.req_header();
        let route = ctx.target.as_ref().and_then(|target| target.route);
        Exchange {
            // A HEAD that fills the cache went to the origin as a GET.
            method: if client.method == Method::HEAD {
                &Method::GET
            } else {
                &client.method
            },
            request: &client.headers,
            status: resp.status,
            response: &resp.headers,
            request_time: ctx.request_time,
            response_time: SystemTime::now(),
            cookie_sent: route.is_none(), // on a route nobody's cookies go to the origin
            negative_ttl: self.site.negative_ttl(route),
        }
    }
}

fn freshness(lifetime: &Lifetime, now: Instant) -> Freshness {
    Freshness {
        stored_at: now,
        initial_age: lifetime.initial_age,
        fresh_for: lifetime.fresh,
        stale_while_revalidate: lifetime.stale_while_revalidate,
        stale_if_error: lifetime.stale_if_error,
        must_revalidate: lifetime.must_revalidate,
    }
}

/// A response with the status of `resp` and these fields.
fn with_headers(resp: &ResponseHeader, headers: HeaderMap) -> ResponseHeader {
    let (mut parts, ()) = http::Response::new(()).into_parts();
    parts.status = resp.status;
    parts.headers = headers;
    ResponseHeader::from(parts)
}

/// The fields of a response that are kept: all but those bound to a connection or named as private.
fn kept_header(resp: &ResponseHeader, lifetime: &Lifetime) -> ResponseHeader {
    let mut kept = resp.clone();
    for name in &lifetime.omit {
        kept.remove_header(name);
    }
    kept
}
