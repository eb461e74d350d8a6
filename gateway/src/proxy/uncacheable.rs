//! What was not cacheable lately: such a key goes straight to the origin, so that nobody waits for a fill that will not come.
//!
//! A fixed table, one key a slot; an entry ends with its time, or when the key turns out cacheable. What a request's credentials
//! forbade is remembered for requests that bring such credentials, and for no other.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use http::HeaderMap;
use http::header::{AUTHORIZATION, COOKIE};
use pingora_cache::key::CacheHashKey;
use pingora_cache::predictor::CacheablePredictor;
use pingora_cache::{CacheKey, NoCacheReason};

use super::length::Length;
use crate::policy::storable::Reason;

const SLOTS: usize = 16_384;

/// The kinds of credentials that a request brings, in a cache key's extensions; zero is none.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Credentials(u8);

impl Credentials {
    const EVERY: std::ops::RangeInclusive<u8> = 1..=3;

    pub(super) fn of(request: &HeaderMap) -> Self {
        let authorization = u8::from(request.contains_key(AUTHORIZATION));
        Self(authorization | u8::from(request.contains_key(COOKIE)) << 1)
    }

    fn of_key(key: &CacheKey) -> Self {
        key.extensions.get().copied().unwrap_or(Self(0))
    }

    /// What stands for the key together with these.
    fn with(self, mut hash: [u8; 16]) -> [u8; 16] {
        hash[0] ^= self.0;
        hash
    }
}

/// Whether a response was refused for what its request had: that says nothing about other requests' answers.
fn is_of_request(reason: &str) -> bool {
    [
        Reason::Authorization,
        Reason::CookieHeuristic,
        Reason::RequestNoStore,
    ]
    .iter()
    .any(|known| known.as_str() == reason)
}

pub(super) struct UncacheableMemory {
    /// High 32 bits: part of the key's hash. Low 32 bits: when it ends, in tenths of a second since `started`, plus one.
    slots: Box<[AtomicU64]>,
    started: Instant,
    pub(super) ttl: Length,
}

impl UncacheableMemory {
    pub(super) fn new(ttl: Duration) -> Self {
        Self {
            slots: (0..SLOTS).map(|_| AtomicU64::new(0)).collect(),
            started: Instant::now(),
            ttl: Length::new(ttl),
        }
    }

    fn tenths(&self, at: Instant) -> u32 {
        let tenths = at.saturating_duration_since(self.started).as_millis() / 100;
        u32::try_from(tenths).unwrap_or(u32::MAX - 1) + 1
    }

    fn remembers(&self, hash: &[u8; 16], now: Instant) -> bool {
        let (slot, print) = place(hash);
        let held = self.slots[slot].load(Ordering::Relaxed);
        held >> 32 == print && (held & u64::from(u32::MAX)) as u32 > self.tenths(now)
    }

    fn remember(&self, hash: &[u8; 16], now: Instant) -> bool {
        let known = self.remembers(hash, now);
        let (slot, print) = place(hash);
        let until = u64::from(self.tenths(now + self.ttl.get()));
        self.slots[slot].store(print << 32 | until, Ordering::Relaxed);
        !known
    }

    fn forget(&self, hash: &[u8; 16], now: Instant) -> bool {
        let known = self.remembers(hash, now);
        if known {
            self.slots[place(hash).0].store(0, Ordering::Relaxed);
        }
        known
    }
}

fn place(hash: &[u8; 16]) -> (usize, u64) {
    let word = u64::from_le_bytes([
        hash[0], hash[1], hash[2], hash[3], hash[4], hash[5], hash[6], hash[7],
    ]);
    (word as usize % SLOTS, word >> 32)
}

impl CacheablePredictor for UncacheableMemory {
    fn cacheable_prediction(&self, key: &CacheKey) -> bool {
        let (hash, now) = (key.primary_bin(), Instant::now());
        let with_credentials = Credentials::of_key(key).with(hash);
        !self.remembers(&hash, now) && !self.remembers(&with_credentials, now)
    }

    fn mark_cacheable(&self, key: &CacheKey) -> bool {
        let (hash, now) = (key.primary_bin(), Instant::now());
        for credentials in Credentials::EVERY {
            self.forget(&Credentials(credentials).with(hash), now);
        }
        self.forget(&hash, now)
    }

    fn mark_uncacheable(&self, key: &CacheKey, reason: NoCacheReason) -> Option<bool> {
        // Only what the response itself says; an error or a full store says nothing about the next answer.
        match reason {
            NoCacheReason::Custom(reason) if is_of_request(reason) => {
                let credentials = Credentials::of_key(key);
                (credentials != Credentials(0))
                    .then(|| self.remember(&credentials.with(key.primary_bin()), Instant::now()))
            }
            NoCacheReason::Custom(_)
            | NoCacheReason::OriginNotCache
            | NoCacheReason::ResponseTooLarge => {
                Some(self.remember(&key.primary_bin(), Instant::now()))
            }
            NoCacheReason::NeverEnabled
            | NoCacheReason::PredictedResponseTooLarge
            | NoCacheReason::StorageError
            | NoCacheReason::InternalError
            | NoCacheReason::Deferred
            | NoCacheReason::DeclinedToUpstream
            | NoCacheReason::UpstreamError
            | NoCacheReason::CacheLockGiveUp
            | NoCacheReason::CacheLockTimeout
            | NoCacheReason::CacheLockRetryLimit => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TTL: Duration = Duration::from_secs(5);

    #[test]
    fn a_key_is_remembered_until_its_time_ends() {
        let memory = UncacheableMemory::new(TTL);
        let now = Instant::now();
        assert!(memory.remember(&[7; 16], now));
        assert!(memory.remembers(&[7; 16], now + TTL / 2));
        assert!(!memory.remembers(&[7; 16], now + TTL + Duration::from_secs(1)));
    }

    #[test]
    fn a_key_that_turns_out_cacheable_is_forgotten_at_once() {
        let memory = UncacheableMemory::new(TTL);
        let now = Instant::now();
        memory.remember(&[7; 16], now);
        assert!(memory.forget(&[7; 16], now));
        assert!(!memory.remembers(&[7; 16], now));
        assert!(!memory.forget(&[7; 16], now));
    }

    #[test]
    fn another_key_in_the_same_slot_is_not_mistaken_for_it() {
        let memory = UncacheableMemory::new(TTL);
        let now = Instant::now();
        let mut other = [7; 16];
        other[7] = 8;
        memory.remember(&[7; 16], now);
        assert!(!memory.remembers(&other, now));
    }
}
