//! What is counted of the stream and of the lease.

use std::time::{Duration, SystemTime};

use prometheus::{Histogram, HistogramOpts, IntCounter, IntCounterVec, IntGauge, Opts, Registry};

use super::event::{News, Told};

/// Upper bounds of the delay in seconds: from one poll of an origin to a stream that was cut.
const DELAY_BOUNDS_SECONDS: [f64; 12] = [
    0.001, 0.0025, 0.005, 0.01, 0.02, 0.05, 0.1, 0.25, 0.5, 1.0, 5.0, 30.0,
];
/// The reasons for expiring everything that are told apart: they come from outside.
const REASONS: [&str; 5] = ["position", "incarnation", "trimmed", "amount", "database"];
const OTHER: &str = "other";

/// Counters and gauges, by handles.
pub struct CoherenceMetrics {
    delay: Histogram,
    transactions: IntCounter,
    events: IntCounterVec,
    everything: IntCounterVec,
    /// Streams that were begun, by whether they went on from a position.
    pub streams: IntCounterVec,
    /// Streams that ended, on whatever way.
    pub stream_ends: IntCounter,
    /// Probes that were not answered.
    pub probe_failures: IntCounter,
    /// Leases that ran out.
    pub lease_losses: IntCounter,
    /// Answers that could not be vouched for by the lease or a token, by what became of them.
    pub unproven: IntCounterVec,
    pub(super) lease: IntGauge,
    pub(super) age: IntGauge,
    pub(super) pending: IntGauge,
}

impl CoherenceMetrics {
    /// Counters at zero, in this registry.
    ///
    /// # Errors
    /// Two metrics of one name.
    pub fn new(registry: &Registry) -> Result<Self, prometheus::Error> {
        let delay = HistogramOpts::new(
            "gateway_coherence_delay_seconds",
            "From the look at the database that found a transaction, by its clock, to the effect here",
        );
        let metrics = Self {
            delay: Histogram::with_opts(delay.buckets(DELAY_BOUNDS_SECONDS.to_vec()))?,
            transactions: counter("transactions_total", "Transactions applied")?,
            events: counters("events_total", "Events applied", "event")?,
            everything: counters(
                "everything_total",
                "Times that all was made stale",
                "reason",
            )?,
            streams: counters("streams_total", "Streams begun", "from")?,
            stream_ends: counter("stream_ends_total", "Streams ended")?,
            probe_failures: counter("probe_failures_total", "Probes without an answer")?,
            lease_losses: counter("lease_losses_total", "Leases that ran out")?,
            unproven: counters(
                "unproven_total",
                "Requests that the lease or a token kept from a plain hit",
                "outcome",
            )?,
            lease: gauge("lease", "Whether there is a lease now")?,
            age: gauge(
                "position_age_ms",
                "All that committed longer ago has been applied; -1 before the first lease",
            )?,
            pending: gauge("pending_writes", "Own writes that the stream has not shown")?,
        };
        for collector in [
            &metrics.events,
            &metrics.everything,
            &metrics.streams,
            &metrics.unproven,
        ] {
            registry.register(Box::new(collector.clone()))?;
        }
        for collector in [
            &metrics.transactions,
            &metrics.stream_ends,
            &metrics.probe_failures,
            &metrics.lease_losses,
        ] {
            registry.register(Box::new(collector.clone()))?;
        }
        for collector in [&metrics.lease, &metrics.age, &metrics.pending] {
            registry.register(Box::new(collector.clone()))?;
        }
        registry.register(Box::new(metrics.delay.clone()))?;
        Ok(metrics)
    }

    /// Counts what has been applied.
    pub(super) fn applied(&self, told: &Told, now: SystemTime) {
        let event = match &told.news {
            News::Everything { reason } => {
                let known = REASONS.iter().find(|known| **known == &**reason);
                let reason = known.copied().unwrap_or(OTHER);
                self.everything.with_label_values(&[reason]).inc();
                "everything"
            }
            News::Changes(transactions) => {
                self.transactions.inc_by(transactions.len() as u64);
                // The clocks of two machines: what seems to come from the future took no time.
                let delay = told.at.map(|at| now.duration_since(at).unwrap_or_default());
                for _ in transactions {
                    self.delay
                        .observe(delay.unwrap_or(Duration::ZERO).as_secs_f64());
                }
                "change"
            }
            News::Nothing => "position",
        };
        self.events.with_label_values(&[event]).inc();
    }
}

fn counter(name: &str, help: &str) -> Result<IntCounter, prometheus::Error> {
    IntCounter::new(format!("gateway_coherence_{name}"), help)
}

fn gauge(name: &str, help: &str) -> Result<IntGauge, prometheus::Error> {
    IntGauge::new(format!("gateway_coherence_{name}"), help)
}

fn counters(name: &str, help: &str, label: &str) -> Result<IntCounterVec, prometheus::Error> {
    IntCounterVec::new(
        Opts::new(format!("gateway_coherence_{name}"), help),
        &[label],
    )
}
