//! A length of time that a reload may change while requests read it.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// Milliseconds; each reader sees the newest.
pub(super) struct Length(AtomicU64);

impl Length {
    pub(super) fn new(length: Duration) -> Self {
        let changeable = Self(AtomicU64::new(0));
        changeable.set(length);
        changeable
    }

    pub(super) fn get(&self) -> Duration {
        Duration::from_millis(self.0.load(Ordering::Relaxed))
    }

    pub(super) fn set(&self, length: Duration) {
        let milliseconds = u64::try_from(length.as_millis()).unwrap_or(u64::MAX);
        self.0.store(milliseconds, Ordering::Relaxed);
    }
}
