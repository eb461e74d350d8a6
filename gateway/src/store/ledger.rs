//! The account of the store's bytes.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

/// Bytes in use against a bound that is never passed.
#[derive(Debug)]
pub struct Ledger {
    budget: usize,
    used: AtomicUsize,
}

impl Ledger {
    pub(crate) fn new(budget: usize) -> Arc<Self> {
        Arc::new(Self {
            budget,
            used: AtomicUsize::new(0),
        })
    }

    /// Bytes charged and not yet released.
    pub fn used(&self) -> usize {
        self.used.load(Ordering::Relaxed)
    }

    fn try_take(&self, bytes: usize) -> bool {
        self.used
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |used| {
                used.checked_add(bytes).filter(|sum| *sum <= self.budget)
            })
            .is_ok()
    }
}

/// Bytes taken from a ledger; given back when dropped, that is when the last reader lets go.
#[derive(Debug)]
pub(crate) struct Charge {
    ledger: Arc<Ledger>,
    bytes: usize,
}

impl Charge {
    pub(crate) fn none(ledger: &Arc<Ledger>) -> Self {
        Self {
            ledger: Arc::clone(ledger),
            bytes: 0,
        }
    }

    pub(crate) fn bytes(&self) -> usize {
        self.bytes
    }

    /// False, and nothing taken, when the budget does not allow it.
    pub(crate) fn try_grow(&mut self, bytes: usize) -> bool {
        let taken = self.ledger.try_take(bytes);
        if taken {
            self.bytes += bytes;
        }
        taken
    }

    /// Moves all bytes into a charge of its own.
    pub(crate) fn take(&mut self) -> Self {
        Self {
            ledger: Arc::clone(&self.ledger),
            bytes: std::mem::take(&mut self.bytes),
        }
    }

    /// Moves so many bytes, or all there are, into a charge of their own.
    pub(crate) fn split(&mut self, bytes: usize) -> Self {
        let bytes = bytes.min(self.bytes);
        self.bytes -= bytes;
        Self {
            ledger: Arc::clone(&self.ledger),
            bytes,
        }
    }

    /// Adds the bytes of another charge on the same ledger.
    pub(crate) fn absorb(&mut self, mut other: Self) {
        self.bytes += std::mem::take(&mut other.bytes);
    }
}

impl Drop for Charge {
    fn drop(&mut self) {
        self.ledger.used.fetch_sub(self.bytes, Ordering::Relaxed);
    }
}
