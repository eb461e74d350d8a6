//! Many requests for one key whose fetch fails: they share the failure instead of repeating it.
//!
//! Those who wait for another's fetch let one of them try again when it fails. When that fetch fails too, all who waited for
//! it get what it got. So one herd is at most two requests to a failing origin, however many it has.

use std::sync::Arc;
use std::time::{Duration, Instant};

use http::StatusCode;
use parking_lot::Mutex;
use pingora::proxy::Session;
use pingora::{Error, ErrorType, Result};
use pingora_cache::{CachePhase, NoCacheReason};

use super::length::Length;
use super::stale::failure_of;
use super::{Context, Gateway};
use crate::error;
use crate::policy::key::Key;
use crate::policy::request::Demand;
use crate::policy::stale::Failure as Kind;
use crate::store::Freshness;

/// Keys whose last fetch failed; one more takes the place of another, which is then tried once more than it need be.
const SLOTS: usize = 1_024;
/// Failures in a row that are shared: the first one is tried again.
const SHARED_FROM: u32 = 2;

/// The keys whose newest fetch failed.
pub(super) struct Failures {
    slots: Mutex<Box<[Option<Failure>]>>,
    /// A failure older than this says nothing about the next fetch.
    pub(super) memory: Length,
}

#[derive(Clone, Copy)]
struct Failure {
    key_hash: [u8; 16],
    in_a_row: u32,
    status: StatusCode,
    kind: Kind,
    at: Instant,
}

impl Failures {
    pub(super) fn new(memory: Duration) -> Self {
        Self {
            slots: Mutex::new(vec![None; SLOTS].into_boxed_slice()),
            memory: Length::new(memory),
        }
    }

    fn get(&self, key_hash: &[u8; 16]) -> Option<Failure> {
        self.slots.lock()[place(key_hash)].filter(|failure| failure.key_hash == *key_hash)
    }

    pub(super) fn note(&self, key_hash: &[u8; 16], status: StatusCode, kind: Kind, now: Instant) {
        let before = self
            .get(key_hash)
            .filter(|failure| now.saturating_duration_since(failure.at) < self.memory.get());
        self.slots.lock()[place(key_hash)] = Some(Failure {
            key_hash: *key_hash,
            in_a_row: before.map_or(1, |failure| failure.in_a_row.saturating_add(1)),
            status,
            kind,
            at: now,
        });
    }

    fn forget(&self, key_hash: &[u8; 16]) {
        let slot = &mut self.slots.lock()[place(key_hash)];
        if slot.is_some_and(|failure| failure.key_hash == *key_hash) {
            *slot = None;
        }
    }

    /// What became of a fetch that failed after `arrived`.
    fn since(&self, key_hash: &[u8; 16], arrived: Instant) -> Option<(StatusCode, Kind)> {
        let failure = self.get(key_hash)?;
        (failure.at >= arrived).then_some((failure.status, failure.kind))
    }

    pub(super) fn is_shared(&self, key_hash: &[u8; 16]) -> bool {
        self.get(key_hash)
            .is_some_and(|failure| failure.in_a_row >= SHARED_FROM)
    }
}

fn place(key_hash: &[u8; 16]) -> usize {
    usize::from(u16::from_le_bytes([key_hash[0], key_hash[1]])) % SLOTS
}

impl Gateway {
    /// Notes that a fetch for this request's key failed for good.
    pub(super) fn note_failure(&self, ctx: &mut Context, status: StatusCode, kind: Kind) {
        if let (Some(key), false) = (&ctx.key, ctx.failed) {
            self.cache
                .failures
                .note(&key.hash(), status, kind, Instant::now());
            ctx.failed = true; // however many of the filters hear of it
        }
    }

    /// Notes a failed fetch, unless it is tried again.
    pub(super) fn note_unless(&self, again: bool, error: &Error, ctx: &mut Context) {
        if let (false, Some(status)) = (again, error::status(error)) {
            self.note_failure(ctx, status, failure_of(error, ctx));
        }
    }

    /// Notes that the origin answers for this request's key.
    pub(super) fn note_success(&self, ctx: &Context) {
        if let Some(key) = &ctx.key {
            self.cache.failures.forget(&key.hash());
        }
    }

    /// Whether a request may ask the origin: not when the fetch it waited for has failed, nor when it waited in vain.
    ///
    /// # Errors
    /// What that fetch came to; 504 for a wait in vain.
    pub(super) fn leave_herd(&self, session: &Session, ctx: &mut Context) -> Result<()> {
        let status = match session.cache.phase() {
            CachePhase::Disabled(
                NoCacheReason::CacheLockTimeout | NoCacheReason::CacheLockRetryLimit,
            ) => Some(StatusCode::GATEWAY_TIMEOUT),
            _ if session.cache.lock_duration().is_some() => self.shared_failure(ctx),
            _ => None,
        };
        match status {
            Some(status) => {
                ctx.failed = true; // not by a fetch of its own
                let etype = ErrorType::HTTPStatus(status.as_u16());
                Err(Error::explain(etype, "the fetch that was waited for failed").into_up())
            }
            None => Ok(()),
        }
    }

    fn shared_failure(&self, ctx: &Context) -> Option<StatusCode> {
        let is_shared = |key: &Arc<Key>| self.cache.failures.is_shared(&key.hash());
        ctx.key.as_ref().filter(|key| is_shared(key))?;
        self.failed_since(ctx).map(|(status, _)| status)
    }

    fn failed_since(&self, ctx: &Context) -> Option<(StatusCode, Kind)> {
        let key = ctx.key.as_ref()?;
        self.cache.failures.since(&key.hash(), ctx.arrived)
    }

    /// Whether a stale entry answers because the fetch that this request waited for failed (RFC 5861 section 4): as long as it
    /// answers the request whose fetch that was.
    pub(super) fn takes_stale(&self, waited: bool, freshness: &Freshness, ctx: &Context) -> bool {
        let failed = self.failed_since(ctx);
        waited
            && ctx.demand == Demand::default()
            && failed.is_some_and(|(_, kind)| self.covers(freshness, kind))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEY: [u8; 16] = [7; 16];
    const MEMORY: Duration = Duration::from_secs(20);

    #[test]
    fn the_first_failure_is_tried_again_and_the_second_is_shared() {
        let failures = Failures::new(MEMORY);
        let now = Instant::now();
        failures.note(&KEY, StatusCode::BAD_GATEWAY, Kind::Answered, now);
        assert!(!failures.is_shared(&KEY));
        failures.note(&KEY, StatusCode::SERVICE_UNAVAILABLE, Kind::Answered, now);
        assert!(failures.is_shared(&KEY));
        assert_eq!(
            failures.since(&KEY, now),
            Some((StatusCode::SERVICE_UNAVAILABLE, Kind::Answered))
        );
        assert!(!failures.is_shared(&[8; 16]));
    }

    #[test]
    fn a_failure_is_no_news_to_who_came_after_it() {
        let failures = Failures::new(MEMORY);
        let now = Instant::now();
        failures.note(&KEY, StatusCode::BAD_GATEWAY, Kind::Answered, now);
        let later = now + Duration::from_millis(1);
        assert_eq!(failures.since(&KEY, later), None);
    }

    #[test]
    fn an_answer_or_time_ends_a_row_of_failures() {
        let failures = Failures::new(MEMORY);
        let now = Instant::now();
        failures.note(&KEY, StatusCode::BAD_GATEWAY, Kind::Answered, now);
        failures.note(&KEY, StatusCode::BAD_GATEWAY, Kind::Answered, now + MEMORY);
        assert!(!failures.is_shared(&KEY));
        failures.forget(&KEY);
        assert_eq!(failures.since(&KEY, now), None);
    }
}
