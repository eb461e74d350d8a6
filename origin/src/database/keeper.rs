//! What keeps connections to a server: a task that opens those that are missing and tries those that are there, and what
//! it knows of the server.

use std::{
    future::Future,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use tokio::{sync::Notify, time::timeout};

use crate::error::{Error, Result};

/// How often open connections are tried.
pub(super) const CHECK_EVERY: Duration = Duration::from_secs(1);
/// Between attempts to connect: doubled from the first to the second after each failure.
const BACKOFF: (Duration, Duration) = (Duration::from_millis(20), Duration::from_millis(500));

/// Whether a server answers, as far as is known: open from the first sign that it does not until it has taken a
/// connection. An attempt to connect that began before the server stopped answering proves nothing about it.
#[derive(Debug)]
pub(super) struct Breaker {
    name: &'static str,
    /// The lowest bit: open. Above it: how often the server has stopped answering.
    state: AtomicU64,
}

const OPEN: u64 = 1;

impl Breaker {
    /// A server that has not been tried. `name`: what its connections are for.
    pub(super) fn new(name: &'static str) -> Self {
        Self {
            name,
            state: AtomicU64::new(0),
        }
    }

    /// What the connections are for.
    pub(super) fn name(&self) -> &'static str {
        self.name
    }

    /// Whether requests need not wait for a connection.
    pub(super) fn is_open(&self) -> bool {
        self.state.load(Ordering::Acquire) & OPEN == OPEN
    }

    /// How often the server has stopped answering: what is older than the last time is not to be trusted.
    pub(super) fn generation(&self) -> u64 {
        self.state.load(Ordering::Acquire) >> 1
    }

    /// The server has not answered in time.
    pub(super) fn trip(&self) {
        let next = |state: u64| Some((((state >> 1) + 1) << 1) | OPEN);
        let before = self
            .state
            .fetch_update(Ordering::AcqRel, Ordering::Acquire, next)
            .unwrap_or(0);
        if before & OPEN == 0 {
            tracing::error!(pool = self.name, "the database does not answer");
        }
    }

    /// The server cannot be connected to.
    fn fail(&self, error: &Error) {
        if self.state.fetch_or(OPEN, Ordering::AcqRel) & OPEN == 0 {
            tracing::error!(pool = self.name, %error, "cannot connect to the database");
        }
    }

    /// A connection whose opening began at this generation was opened; says whether it is of any use.
    fn close(&self, generation: u64) -> bool {
        let closed = generation << 1;
        let swapped =
            self.state
                .compare_exchange(closed | OPEN, closed, Ordering::AcqRel, Ordering::Acquire);
        match swapped {
            Ok(_) => {
                tracing::info!(pool = self.name, "the database answers again");
                true
            }
            Err(now) => now == closed,
        }
    }
}

/// Connections that a keeper cares for.
pub(super) trait Kept: Send + Sync + 'static {
    /// One of them.
    type Link: Send;

    /// What is known of the server.
    fn breaker(&self) -> &Breaker;

    /// Wakes the keeper: something is to be done.
    fn wake(&self) -> &Notify;

    /// Whether there is nothing more to do, ever.
    fn is_closed(&self) -> bool;

    /// Whether a connection is to be opened now.
    fn is_short(&self) -> bool;

    /// Opens a connection that will be of this generation.
    fn open(&self, generation: u64) -> impl Future<Output = Result<Self::Link>> + Send;

    /// Takes a connection that was opened.
    fn add(&self, link: Self::Link);

    /// Tells those who wait for a connection that there will be none soon.
    fn give_way(&self) {}

    /// Tries what is open: those that are in doubt, and if a check `is_due`, all.
    fn check(&self, is_due: bool) -> impl Future<Output = ()> + Send;
}

/// Opens what is missing and tries what is open, until there is nothing more to do.
pub(super) async fn keep(kept: Arc<impl Kept>) {
    let breaker = kept.breaker();
    let mut backoff = BACKOFF.0;
    let mut checked_at = Instant::now();
    while !kept.is_closed() {
        let is_due = checked_at.elapsed() >= CHECK_EVERY;
        kept.check(is_due).await;
        if is_due {
            checked_at = Instant::now();
        }
        if !kept.is_short() {
            let until_due = CHECK_EVERY.saturating_sub(checked_at.elapsed());
            let _ = timeout(until_due, kept.wake().notified()).await;
            continue;
        }
        let generation = breaker.generation();
        match kept.open(generation).await {
            Ok(link) if breaker.close(generation) => {
                backoff = BACKOFF.0;
                kept.add(link);
            }
            // The server has stopped answering since.
            Ok(_) => {}
            Err(error) => {
                breaker.fail(&error);
                kept.give_way();
                tokio::time::sleep(backoff).await;
                backoff = (backoff * 2).min(BACKOFF.1);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_connection_that_was_begun_before_the_server_stopped_proves_nothing() {
        let breaker = Breaker::new("test");
        let before = breaker.generation();
        breaker.trip();
        assert!(!breaker.close(before));
        assert!(breaker.is_open());
        let after = breaker.generation();
        breaker.fail(&Error::Unavailable("refused".into()));
        assert!(breaker.close(after));
        assert!(!breaker.is_open());
        assert!(breaker.close(after), "one more of the same time");
    }
}
