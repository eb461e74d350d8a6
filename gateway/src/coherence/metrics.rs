//! What is counted of the stream and of the lease.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, SystemTime};

use prometheus::core::Metric;
use prometheus::{Histogram, HistogramOpts, IntCounter, IntCounterVec, IntGauge, Opts, Registry};

use super::event::{News, Told};
use super::status::Delay;

/// Upper bounds of the delay in seconds: from the wait for one poll of an origin to a stream that was cut.
const DELAY_BOUNDS_SECONDS: [f64; 12] = [
    0.001, 0.0025, 0.005, 0.01, 0.02, 0.05, 0.1, 0.25, 0.5, 1.0, 5.0, 30.0,
];
/// The reasons for expiring everything that are told apart: they come from outside, but for `missed`.
const REASONS: [&str; 6] = [
    "position",
    "incarnation",
    "trimmed",
    "amount",
    "database",
    "missed",
];
const OTHER: &str = "other";

/// Counters and gauges, by handles.
pub struct CoherenceMetrics {
    delay: Histogram,
    /// The longest, in microseconds.
    delay_max: AtomicU64,
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
            "From a commit, at the earliest that it can have been by the database's clock, to the effect here: at most that",
        );
        let metrics = Self {
            delay: Histogram::with_opts(delay.buckets(DELAY_BOUNDS_SECONDS.to_vec()))?,
            delay_max: AtomicU64::new(0),
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
                let delay = told.visible_since.map(|since| now.duration_since(since));
                let delay = delay.and_then(Result::ok).unwrap_or(Duration::ZERO);
                for _ in transactions {
                    self.delay.observe(delay.as_secs_f64());
                }
                let delay = u64::try_from(delay.as_micros()).unwrap_or(u64::MAX);
                self.delay_max.fetch_max(delay, Ordering::Relaxed);
                "change"
            }
            News::Nothing => "position",
        };
        self.events.with_label_values(&[event]).inc();
    }

    /// Transactions applied.
    pub(super) fn transactions(&self) -> u64 {
        self.transactions.get()
    }

    /// Times that everything was made stale, for whatever reason.
    pub(super) fn expirations(&self) -> u64 {
        let reasons = REASONS.iter().chain([&OTHER]);
        reasons
            .map(|reason| self.everything.with_label_values(&[*reason]).get())
            .sum()
    }

    /// How long changes took; of what lies between two bounds of the histogram the upper one is told.
    pub(super) fn delay(&self) -> Delay {
        let delays = self.delay.metric();
        let delays = delays.get_histogram();
        let count = delays.get_sample_count();
        let max = self.delay_max.load(Ordering::Relaxed) as f64 / 1_000.0;
        let some = |value: f64| (count > 0).then_some(value);
        let within = |percent: u64| {
            let wanted = (count * percent).div_ceil(100);
            let mut buckets = delays.get_bucket().iter();
            let bucket = buckets.find(|bucket| bucket.cumulative_count() >= wanted);
            some(bucket.map_or(max, |bucket| (bucket.upper_bound() * 1_000.0).min(max)))
        };
        Delay {
            count,
            mean_ms: some(delays.get_sample_sum() * 1_000.0 / count as f64),
            p50_ms: within(50),
            p99_ms: within(99),
            max_ms: some(max),
        }
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::coherence::event::Transaction;

    fn change(at: SystemTime) -> Told {
        let groups = Vec::new();
        Told {
            news: News::Changes(vec![Transaction { id: None, groups }]),
            tailer: "t".into(),
            poll: 1,
            visible_since: Some(at),
            wal: None,
            since: None,
            position: None,
        }
    }

    #[test]
    fn delays_are_told_by_bounds_and_never_beyond_the_longest() {
        let metrics = CoherenceMetrics::new(&Registry::new()).unwrap();
        let none = metrics.delay();
        assert_eq!((none.count, none.p50_ms, none.max_ms), (0, None, None));
        assert_eq!(none.mean_ms, None, "and no division by zero");
        let at = SystemTime::now();
        for milliseconds in [1; 98].into_iter().chain([4, 7_000]) {
            metrics.applied(&change(at), at + Duration::from_millis(milliseconds));
        }
        let told = metrics.delay();
        assert_eq!((told.count, told.max_ms), (100, Some(7_000.0)));
        assert_eq!((told.p50_ms, told.p99_ms), (Some(1.0), Some(5.0)));
        metrics.applied(&change(at), at + Duration::from_mins(1));
        metrics.applied(&change(at), at + Duration::from_mins(1));
        assert_eq!(metrics.delay().p99_ms, Some(60_000.0), "beyond every bound");
    }

    #[test]
    fn a_change_from_the_future_took_no_time() {
        let metrics = CoherenceMetrics::new(&Registry::new()).unwrap();
        let now = SystemTime::now();
        metrics.applied(&change(now + Duration::from_secs(1)), now);
        assert_eq!(metrics.delay().max_ms, Some(0.0));
    }
}
