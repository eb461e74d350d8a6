//! What the state of the data means for a request: whether a hit can be vouched for, what a fill has to ask for, and when
//! a write's answer may go.

use std::time::{Duration, Instant, SystemTime};

use http::header::SET_COOKIE;
use http::{HeaderMap, Method};
use pingora::Result;
use pingora::http::{RequestHeader, ResponseHeader};
use pingora::proxy::Session;
use pingora_cache::ForcedFreshness;

use super::{Context, Gateway};
use crate::coherence::{
    After, COHERENCE_AFTER, COHERENCE_TOKEN, Coherence, Moment, Permit, Presented, Token, cookie,
    presented,
};
use crate::policy::request::{Bypass, Demand};
use crate::store::Object;

/// `detail` of an answer that is fresh for a short time only, as nobody knows whether the data has changed.
const NO_LEASE: &str = "no-lease";
/// `detail` of one that should have been validated, for which there was no leave.
const NO_LEASE_STALE: &str = "no-lease-stale";

/// How one request stands to the data.
#[derive(Default)]
pub(super) struct Standing {
    /// It names writes that its answer must not be older than.
    presents: bool,
    /// Leave to ask an origin for what the lease does not vouch for.
    permit: Option<Permit>,
    /// What is left of the freshness that an entry has without a lease.
    pub(super) fresh_left: Option<Duration>,
}

impl Standing {
    /// Why the hit is not a plain one.
    pub(super) fn detail(&self) -> Option<&'static str> {
        self.fresh_left.map(|_| NO_LEASE)
    }

    /// The origin is asked.
    pub(super) fn spend(&mut self) {
        if let Some(mut permit) = self.permit.take() {
            permit.spend();
        }
    }
}

impl Gateway {
    /// Waits, for a short time, until what the request's tokens name is gone from here; else the request goes past the cache.
    pub(super) async fn meet_tokens(&self, session: &Session, ctx: &mut Context) {
        let Some(coherence) = &self.coherence else {
            return;
        };
        // A background refresh has the header of a client who was answered already.
        if !is_cached_read(session.req_header(), ctx) || session.subrequest_ctx.is_some() {
            return;
        }
        let settings = coherence.settings();
        let presented = presented(&session.req_header().headers, settings.token_cookie);
        if presented.is_empty() {
            return;
        }
        ctx.standing.presents = true;
        let Presented { tokens, is_partial } = presented;
        if is_partial || !coherence.see(&tokens, settings.token_wait).await {
            ctx.bypass = Some(Bypass::Unseen);
        }
    }

    /// Whether a request goes past the cache because nothing there could be vouched for.
    pub(super) fn passes_cache(&self, session: &Session, ctx: &mut Context) -> bool {
        let is_unproven = |coherence: &Coherence| {
            coherence.is_strict() && coherence.unleased_for(Moment::now()).is_some()
        };
        if session.subrequest_ctx.is_some() {
            return false;
        }
        if self.coherence.as_deref().is_some_and(is_unproven) {
            ctx.bypass = Some(Bypass::Unproven);
        }
        if self.handover.has_begun() {
            ctx.bypass.get_or_insert(Bypass::HandedOver);
        }
        ctx.bypass.is_some()
    }

    /// Whether the origin may be asked past the cache: so many times a second only.
    pub(super) fn has_leave(&self, ctx: &mut Context) -> bool {
        let (Some(coherence), Some(Bypass::Unseen | Bypass::Unproven)) =
            (&self.coherence, ctx.bypass)
        else {
            return true;
        };
        ctx.standing.permit = coherence.permit(Moment::now());
        let has_leave = ctx.standing.permit.is_some();
        count(coherence, if has_leave { "passed" } else { "refused" });
        has_leave
    }

    /// What the lease makes of an entry that was found, if not what its lifetime says.
    pub(super) fn vouch(
        &self,
        session: &Session,
        object: &Object,
        is_fresh: bool,
        ctx: &mut Context,
    ) -> Option<ForcedFreshness> {
        let coherence = self.coherence.as_deref()?;
        ctx.standing.fresh_left = None;
        let now = Moment::now();
        let unleased = coherence
            .unleased_for(now)
            .filter(|_| !object.tags.is_empty())?;
        if coherence.is_strict() {
            ctx.bypass = Some(Bypass::Unproven);
            return Some(ForcedFreshness::ForceMiss);
        }
        let freshness = object.freshness();
        let kept = Instant::now().saturating_duration_since(freshness.stored_at);
        let longest = coherence.settings().fresh_without_lease;
        // What was fetched since the request came is as good as what it would fetch itself.
        let is_recent = kept < longest || freshness.stored_at >= ctx.arrived;
        if is_fresh && is_recent {
            ctx.standing.fresh_left = Some(longest.saturating_sub(kept));
            count(coherence, "fresh");
            return None;
        }
        if session.subrequest_ctx.is_some() {
            return is_fresh.then_some(ForcedFreshness::ForceExpired);
        }
        if ctx.standing.permit.is_none() {
            ctx.standing.permit = coherence.permit(now);
        }
        if ctx.standing.permit.is_some() {
            count(coherence, "validated");
            // Its windows run from the moment at which nobody vouched for it any more.
            let out_since = unleased.min(kept.saturating_sub(longest));
            let expired_at = SystemTime::now().checked_sub(out_since);
            return is_fresh.then_some(ForcedFreshness::ForceExpiredServeStale { expired_at });
        }
        if ctx.standing.presents && object.expired().is_some() {
            // It may be from before a write that the request names.
            ctx.bypass = Some(Bypass::Unseen);
            return Some(ForcedFreshness::ForceMiss);
        }
        let may_be_stale = is_fresh || !freshness.must_revalidate;
        if !may_be_stale || ctx.demand != Demand::default() {
            return None;
        }
        count(coherence, "stale");
        ctx.stale = Some(NO_LEASE_STALE);
        Some(ForcedFreshness::ForceFresh)
    }

    /// Whether an entry may not cover for an origin that fails.
    pub(super) fn withholds(&self, object: &Object, ctx: &Context) -> bool {
        let is_expired = object.expired().is_some();
        self.coherence.as_deref().is_some_and(|coherence| {
            !object.tags.is_empty()
                && (coherence.is_strict() || ctx.standing.presents && is_expired)
        })
    }

    /// Tells the origin what the database that answers must have. The purge number was noted before.
    pub(super) fn ask_after(&self, upstream: &mut RequestHeader, ctx: &Context) -> Result<()> {
        upstream.remove_header(&COHERENCE_TOKEN);
        upstream.remove_header(&COHERENCE_AFTER);
        match &self.coherence {
            Some(coherence) if is_cached_read(upstream, ctx) => {
                // Past the cache a request wants what this gateway has not heard of.
                let after = match ctx.bypass {
                    Some(Bypass::Unseen | Bypass::Unproven) => After::Primary,
                    _ => coherence.after(Moment::now()),
                };
                upstream.insert_header(&COHERENCE_AFTER, after.to_string())
            }
            _ => Ok(()),
        }
    }

    /// A write was answered; to be called before anything is purged for it. Returns its token.
    pub(super) fn begin_write(&self, answer: &HeaderMap, names_groups: bool) -> Option<Token> {
        let coherence = self.coherence.as_deref()?;
        let token = token_of(answer);
        coherence.begin_write(token.as_ref(), names_groups, Moment::now());
        token
    }

    /// What was to be purged for a write is gone from here: waits until it is gone from every gateway, where that is asked for.
    pub(super) async fn settle(&self, token: Option<Token>, names_groups: bool) {
        if let Some(peers) = &self.peers
            && (token.is_some() || names_groups)
        {
            peers.settle(token).await;
        }
    }

    /// Sets the token of a write as a cookie, if that is asked for.
    pub(super) fn set_token_cookie(
        &self,
        method: &Method,
        resp: &mut ResponseHeader,
    ) -> Result<()> {
        let wanted = |coherence: &Coherence| coherence.settings().token_cookie;
        if matches!(*method, Method::GET | Method::HEAD)
            || !self.coherence.as_deref().is_some_and(wanted)
        {
            return Ok(());
        }
        match token_of(&resp.headers).as_ref().and_then(cookie) {
            Some(cookie) => resp.append_header(SET_COOKIE, cookie).map(drop),
            None => Ok(()),
        }
    }
}

fn is_cached_read(req: &RequestHeader, ctx: &Context) -> bool {
    ctx.target.as_ref().is_some_and(|target| target.cache)
        && matches!(req.method, Method::GET | Method::HEAD)
}

fn token_of(answer: &HeaderMap) -> Option<Token> {
    answer.get(&COHERENCE_TOKEN)?.to_str().ok()?.parse().ok()
}

fn count(coherence: &Coherence, outcome: &str) {
    coherence
        .metrics
        .unproven
        .with_label_values(&[outcome])
        .inc();
}
