//! What is counted of the stream.

use prometheus::{
    Histogram, HistogramOpts, IntCounter, IntCounterVec, IntGauge, Opts, Registry, core::Collector,
};

/// Upper bounds of the delay, in seconds.
const DELAY_SECONDS: [f64; 12] = [
    0.001, 0.002, 0.005, 0.01, 0.015, 0.02, 0.03, 0.05, 0.1, 0.25, 1.0, 5.0,
];

/// Every metric of the stream. Clones count together.
#[derive(Clone, Debug)]
pub struct Metrics {
    /// From a commit to its event being ready for every stream, at most: seconds.
    pub delay: Histogram,
    /// Milliseconds since the last poll that succeeded was sent.
    pub position_age_ms: IntGauge,
    /// Polls that succeeded.
    pub polls: IntCounter,
    /// Polls, and attempts to connect, that failed.
    pub failures: IntCounter,
    /// Transactions told.
    pub transactions: IntCounter,
    /// Times when everything was out of date for every stream.
    pub everything: IntCounter,
    /// Streams that are open.
    pub streams: IntGauge,
    /// Streams that were opened at a position whose history was in memory.
    pub resumed_from_memory: IntCounter,
    /// The same, read again from the outbox.
    pub resumed_from_outbox: IntCounter,
    /// Streams that had to begin with everything.
    pub resumed_from_nothing: IntCounter,
    /// Readers that fell behind what is kept.
    pub dropped: IntCounter,
    /// Streams refused because too many were open, or there was no position yet.
    pub refused: IntCounter,
    /// Probes answered.
    pub probes: IntCounter,
}

impl Metrics {
    /// Registers every metric.
    ///
    /// # Errors
    /// If a name is taken or malformed, which is a mistake in this file.
    pub fn new(registry: &Registry) -> prometheus::Result<Self> {
        let resumes = registered(
            registry,
            IntCounterVec::new(
                Opts::new(
                    "origin_events_resumes_total",
                    "Streams opened, by where from",
                ),
                &["from"],
            )?,
        )?;
        let delay = HistogramOpts::new(
            "origin_events_delay_seconds",
            "From a commit to its event being ready for every stream, at most",
        );
        let counter = |name: &str, help: &str| registered(registry, IntCounter::new(name, help)?);
        let gauge = |name: &str, help: &str| registered(registry, IntGauge::new(name, help)?);
        Ok(Self {
            delay: registered(
                registry,
                Histogram::with_opts(delay.buckets(DELAY_SECONDS.to_vec()))?,
            )?,
            position_age_ms: gauge("origin_events_position_age_ms", "Since the last good poll")?,
            polls: counter("origin_events_polls_total", "Polls of the outbox")?,
            failures: counter("origin_events_poll_failures_total", "Polls that failed")?,
            transactions: counter("origin_events_transactions_total", "Transactions told")?,
            everything: counter(
                "origin_events_everything_total",
                "Times when everything was out of date",
            )?,
            streams: gauge("origin_events_streams", "Streams that are open")?,
            resumed_from_memory: resumes.with_label_values(&["memory"]),
            resumed_from_outbox: resumes.with_label_values(&["outbox"]),
            resumed_from_nothing: resumes.with_label_values(&["nothing"]),
            dropped: counter(
                "origin_events_dropped_readers_total",
                "Readers that fell behind what is kept",
            )?,
            refused: counter("origin_events_refused_streams_total", "Streams refused")?,
            probes: counter("origin_events_probes_total", "Probes answered")?,
        })
    }
}

fn registered<T: Collector + Clone + 'static>(
    registry: &Registry,
    metric: T,
) -> prometheus::Result<T> {
    registry.register(Box::new(metric.clone()))?;
    Ok(metric)
}
