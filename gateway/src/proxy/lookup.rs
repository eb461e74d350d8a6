//! Whether a request uses the cache, under which key, and whether what is found there may answer it.

use std::sync::Arc;
use std::time::Instant;

use http::StatusCode;
use pingora::http::RequestHeader;
use pingora::proxy::Session;
use pingora::{Error, ErrorType, Result};
use pingora_cache::key::HashBinary;
use pingora_cache::{CacheKey, CacheMeta, CacheOptionOverrides, ForcedFreshness, HitHandler};

use super::storage::{FillPlan, Stored};
use super::uncacheable::Credentials;
use super::{Context, Gateway, variant};
use crate::error::Problem;
use crate::policy::key::Key;
use crate::policy::request::Bypass;
use crate::policy::status::Forward;
use crate::policy::{request, vary};

impl Gateway {
    /// Turns the cache on for a request that may use it, or notes why it may not.
    pub(super) fn use_cache(&self, session: &mut Session, ctx: &mut Context) {
        if !ctx.target.as_ref().is_some_and(|target| target.cache) {
            return;
        }
        let client = session.req_header();
        let directives = self.config.cache.client_directives;
        match request::read(&client.method, &client.headers, directives) {
            Ok(demand) if !demand.no_store => {
                ctx.demand = demand;
                if self.passes_cache(session, ctx) {
                    return;
                }
                let mut overrides = CacheOptionOverrides::default();
                overrides.wait_timeout = Some(self.config.cache.lock_wait);
                // The time bounds the wait, however many fetches come and go in it.
                overrides.max_lock_retries = Some(usize::MAX);
                session.cache.enable(
                    self.cache.storage,
                    None,
                    Some(self.cache.uncacheable),
                    Some(self.cache.lock),
                    Some(overrides),
                );
                if session.subrequest_ctx.is_some() {
                    self.pin_refreshed(session, ctx);
                }
            }
            Ok(demand) => {
                ctx.demand = demand;
                ctx.bypass = ctx.bypass.or(Some(Bypass::NoStore));
            }
            Err(bypass) => ctx.bypass = Some(bypass),
        }
    }

    /// The key of a request, by its canonical target.
    ///
    /// # Errors
    /// A request that was not let in, or a host that is none.
    pub(super) fn key_of(&self, req: &RequestHeader, ctx: &Context) -> Result<Key> {
        let target = ctx
            .target
            .as_ref()
            .ok_or_else(|| Error::new(ErrorType::InternalError))?;
        let host = self.site.key_host(req)?;
        Ok(Key::new(
            "http",
            &host,
            &target.path,
            target.query.as_deref(),
        ))
    }

    /// The same in Pingora's terms.
    ///
    /// # Errors
    /// As [`Gateway::key_of`].
    pub(super) fn cache_key(&self, session: &Session, ctx: &mut Context) -> Result<CacheKey> {
        let key = self.key_of(session.req_header(), ctx)?;
        let mut cache_key = CacheKey::new(key.as_bytes(), "");
        cache_key.set_primary_bin_override(key.hash());
        if let Some(pinned) = ctx.pinned.take() {
            cache_key.extensions.insert(pinned);
        }
        cache_key
            .extensions
            .insert(Credentials::of(&session.req_header().headers));
        ctx.key = Some(Arc::new(key));
        Ok(cache_key)
    }

    /// The variant that this request asks for, if what is stored varies; of an answer that is about to be kept, which it is.
    pub(super) fn variance(&self, meta: &CacheMeta, req: &RequestHeader) -> Option<HashBinary> {
        let is_new = meta.extensions().get::<FillPlan>().is_some();
        if let (false, Some(Stored(newest))) = (is_new, meta.extensions().get()) {
            return variant::select(&self.store, newest, &self.rules.vary, &req.headers);
        }
        let names = vary::names(meta.headers(), &self.rules.vary).ok()?;
        vary::variance(&names, &req.headers)
    }

    /// Whether an entry answers this request as it is, where that differs from what its lifetime alone says; a fresh one in
    /// which coding.
    pub(super) fn judge_found(
        &self,
        session: &Session,
        meta: &CacheMeta,
        hit: &mut HitHandler,
        is_fresh: bool,
        ctx: &mut Context,
    ) -> Option<ForcedFreshness> {
        let now = Instant::now();
        let Stored(object) = meta.extensions().get()?;
        ctx.negotiated = object.is_encodable();
        if let Some(verdict) = self.vouch(session, object, is_fresh, ctx) {
            if is_fresh && verdict == ForcedFreshness::ForceFresh {
                self.choose_representation(session, hit, object, ctx);
            }
            return Some(verdict);
        }
        let freshness = object.freshness();
        let accepted = ctx.demand.accepts(
            freshness.age(now),
            freshness.left(now),
            freshness.must_revalidate,
        );
        if accepted && is_fresh {
            self.choose_representation(session, hit, object, ctx);
        }
        if accepted == is_fresh {
            let waited = session.cache.lock_duration().is_some();
            if !is_fresh
                && self.takes_stale(waited, &freshness, ctx)
                && !self.withholds(object, ctx)
            {
                ctx.stale = Some("stale-if-error");
                return Some(ForcedFreshness::ForceFresh);
            }
            return None;
        }
        if accepted {
            return Some(ForcedFreshness::ForceFresh); // the client takes it stale
        }
        ctx.forward = Some(Forward::Request);
        Some(ForcedFreshness::ForceExpired)
    }

    /// Whether the origin may be asked at all: `only-if-cached` is answered with 504 instead (RFC 9111 section 5.2.1.7), and
    /// with 503 what goes past the cache when too many do.
    ///
    /// # Errors
    /// The client went away.
    pub(super) async fn may_forward(
        &self,
        session: &mut Session,
        ctx: &mut Context,
    ) -> Result<bool> {
        // A background refresh has the header of a client who was answered already.
        let problem = if ctx.demand.only_if_cached && session.subrequest_ctx.is_none() {
            let detail = "Nothing that is kept answers this.";
            Problem::new(StatusCode::GATEWAY_TIMEOUT, detail)
        } else if self.has_leave(ctx) {
            return Ok(true);
        } else {
            let detail = "Nobody knows at the moment whether what is kept is up to date.";
            Problem::new(StatusCode::SERVICE_UNAVAILABLE, detail)
        };
        self.refuse(session, ctx, &problem, true).await?;
        Ok(false)
    }
}

/// Notes that only another variant is there. Later the key has a variance in any case, if the answer that comes varies.
pub(super) fn note_miss(session: &Session, ctx: &mut Context) {
    if session.cache.cache_key().get_variance_key().is_some() {
        ctx.forward = Some(Forward::VaryMiss);
    }
}
