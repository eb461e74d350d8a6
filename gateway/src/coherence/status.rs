//! What operators see of the stream and of the lease.

use std::time::Duration;

use serde::Serialize;
use utoipa::ToSchema;

use super::{Coherence, Moment};

/// How the gateway stands to the data; counters are since start.
#[derive(Debug, Serialize, ToSchema)]
pub struct CoherenceStatus {
    /// `available` or `strict`.
    mode: &'static str,
    /// The origin whose stream is open.
    following: Option<String>,
    /// Up to where everything was applied.
    position: Option<String>,
    /// The place in the write-ahead log that fills ask for.
    wal: Option<String>,
    /// What is left of the lease; null without one.
    lease_left_ms: Option<u64>,
    /// All that committed longer ago has been applied; null before the first lease.
    position_age_ms: Option<u64>,
    /// Own writes that the stream has not shown.
    pending_writes: usize,
    /// When and why everything was stale the last time.
    everything: Option<Everything>,
    /// From the earliest moment at which a transaction can have become visible to its effect here: at most that.
    delay: Delay,
    /// Transactions applied.
    transactions: u64,
    /// Streams that went on from a position.
    resumes: u64,
    /// Streams begun without a position.
    beginnings: u64,
    /// Streams that ended.
    stream_ends: u64,
    /// Probes without an answer.
    probe_failures: u64,
    /// Leases that ran out.
    lease_losses: u64,
    /// Times that everything was made stale.
    expirations: u64,
}

/// The last time that everything was made stale.
#[derive(Debug, Serialize, ToSchema)]
struct Everything {
    /// Why.
    reason: String,
    /// How long ago.
    seconds_ago: u64,
}

/// Lengths of time, by the database's clock and this machine's.
#[derive(Debug, PartialEq, Serialize, ToSchema)]
pub(super) struct Delay {
    /// Transactions that had one.
    pub(super) count: u64,
    /// The mean; null without any.
    pub(super) mean_ms: Option<f64>,
    /// Half of them took no longer, by the bounds of the histogram.
    pub(super) p50_ms: Option<f64>,
    /// Ninety-nine of a hundred took no longer, by the bounds of the histogram.
    pub(super) p99_ms: Option<f64>,
    /// The longest.
    pub(super) max_ms: Option<f64>,
}

impl Coherence {
    /// What operators see.
    pub fn status(&self, now: Moment) -> CoherenceStatus {
        let unleased = self.unleased_for(now);
        let counts = &self.metrics;
        let streams = |from| counts.streams.with_label_values(&[from]).get();
        let state = self.state.lock();
        let left = state.lease.until().filter(|_| unleased.is_none());
        let progress = state.progress.as_ref();
        CoherenceStatus {
            mode: self.settings.mode.as_str(),
            following: state.following.clone(),
            position: progress.map(|progress| progress.position.as_str().to_owned()),
            wal: state.wal.map(|wal| wal.to_string()),
            lease_left_ms: left.map(|until| milliseconds(until.since(now))),
            position_age_ms: state.lease.from().map(|from| milliseconds(now.since(from))),
            pending_writes: state.writes.pending(),
            everything: state.everything.as_ref().map(|(at, reason)| Everything {
                reason: reason.as_ref().to_owned(),
                seconds_ago: now.since(*at).as_secs(),
            }),
            delay: counts.delay(),
            transactions: counts.transactions(),
            resumes: streams("position"),
            beginnings: streams("nothing"),
            stream_ends: counts.stream_ends.get(),
            probe_failures: counts.probe_failures.get(),
            lease_losses: counts.lease_losses.get(),
            expirations: counts.expirations(),
        }
    }
}

fn milliseconds(length: Duration) -> u64 {
    u64::try_from(length.as_millis()).unwrap_or(u64::MAX)
}
