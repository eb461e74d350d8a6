//! Counters, registered once and counted by handles.

mod connections;
mod observed;
mod routes;

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use http::StatusCode;
use pingora_cache::CachePhase;
use prometheus::{
    Histogram, HistogramOpts, IntCounter, IntCounterVec, IntGauge, Opts, Registry, TextEncoder,
};

/// Upper bounds of the latency histogram in seconds: from a hit to a slow origin.
const LATENCY_BOUNDS_SECONDS: [f64; 12] = [
    0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.1, 0.5, 2.0, 10.0,
];

pub use connections::{ConnectionMetrics, Cut};
pub use observed::{Look, Observed};
pub use routes::{RouteFamilies, RouteMetrics};

/// What the gateway counts.
pub struct Metrics {
    /// Requests by configured route.
    pub routes: RouteFamilies,
    observed: Observed,
    registry: Registry,
    results: [IntCounter; CacheResult::ALL.len()],
    statuses: [IntCounter; STATUS_CLASSES.len()],
    latency: Histogram,
    /// Requests refused because no origin had a place left.
    pub shed: IntCounter,
    /// Requests refused because their client sends too many.
    pub rate_limited: IntCounter,
    /// Client connections that were refused or cut.
    pub cuts: Arc<ConnectionMetrics>,
    /// Client connections now.
    pub connections: Arc<AtomicUsize>,
    connections_gauge: IntGauge,
    /// Bytes of small bodies that were taken in before an origin was asked, of requests that have not ended.
    pub held_body_bytes: Arc<AtomicUsize>,
    held_bodies_gauge: IntGauge,
    request_id_prefix: u32,
    request_ids: AtomicU64,
}

/// How the cache took part in an answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CacheResult {
    /// Answered from the cache.
    Hit,
    /// Answered from the cache, stale.
    Stale,
    /// Fetched and kept, or tried to.
    Miss,
    /// Validated with the origin.
    Revalidated,
    /// The cache took no part.
    Bypass,
}

impl CacheResult {
    const ALL: [(Self, &'static str); 5] = [
        (Self::Hit, "hit"),
        (Self::Stale, "stale"),
        (Self::Miss, "miss"),
        (Self::Revalidated, "revalidated"),
        (Self::Bypass, "bypass"),
    ];

    /// Its name in metrics and logs.
    pub fn name(self) -> &'static str {
        Self::ALL[self as usize].1
    }

    /// What Pingora's cache says of itself at the end of a request.
    pub fn of(phase: CachePhase) -> Self {
        match phase {
            CachePhase::Hit => Self::Hit,
            CachePhase::Stale | CachePhase::StaleUpdating => Self::Stale,
            CachePhase::Miss | CachePhase::Expired => Self::Miss,
            CachePhase::Revalidated | CachePhase::RevalidatedNoCache(_) => Self::Revalidated,
            CachePhase::Disabled(_)
            | CachePhase::Uninit
            | CachePhase::Bypass
            | CachePhase::CacheKey => Self::Bypass,
        }
    }
}

const STATUS_CLASSES: [&str; 5] = ["1xx", "2xx", "3xx", "4xx", "5xx"];

impl Metrics {
    /// Counters at zero.
    ///
    /// # Errors
    /// Two metrics of one name.
    pub fn new() -> Result<Self, prometheus::Error> {
        let registry = Registry::new();
        let results = counters(
            &registry,
            "gateway_requests_total",
            "Requests by what the cache did",
            "cache",
        )?;
        let statuses = counters(
            &registry,
            "gateway_responses_total",
            "Responses by status class",
            "status",
        )?;
        let latency = Histogram::with_opts(
            HistogramOpts::new(
                "gateway_request_duration_seconds",
                "Time from the header to the end of the answer",
            )
            .buckets(LATENCY_BOUNDS_SECONDS.to_vec()),
        )?;
        registry.register(Box::new(latency.clone()))?;
        let shed = IntCounter::new(
            "gateway_shed_total",
            "Requests refused because every origin was full",
        )?;
        registry.register(Box::new(shed.clone()))?;
        let rate_limited = IntCounter::new(
            "gateway_rate_limited_total",
            "Requests refused because their client sends too many",
        )?;
        registry.register(Box::new(rate_limited.clone()))?;
        let connections_gauge = IntGauge::new("gateway_connections", "Client connections now")?;
        registry.register(Box::new(connections_gauge.clone()))?;
        let held_bodies_gauge = IntGauge::new(
            "gateway_held_body_bytes",
            "Bytes of bodies taken in before an origin is asked",
        )?;
        registry.register(Box::new(held_bodies_gauge.clone()))?;
        Ok(Self {
            routes: RouteFamilies::new(&registry)?,
            observed: Observed::new(&registry)?,
            cuts: Arc::new(ConnectionMetrics::new(&registry)?),
            results: CacheResult::ALL.map(|(_, name)| results.with_label_values(&[name])),
            statuses: STATUS_CLASSES.map(|name| statuses.with_label_values(&[name])),
            latency,
            shed,
            rate_limited,
            connections: Arc::default(),
            connections_gauge,
            held_body_bytes: Arc::default(),
            held_bodies_gauge,
            registry,
            request_id_prefix: getrandom::u32().unwrap_or_else(|_| std::process::id()),
            request_ids: AtomicU64::new(0),
        })
    }

    /// A name for one request: unique within this run, and over gateways but for chance.
    pub fn next_request_id(&self) -> String {
        let number = self.request_ids.fetch_add(1, Ordering::Relaxed);
        format!("{:08x}{number:010x}", self.request_id_prefix)
    }

    /// Counts one finished request; `status` is `None` when no answer was sent.
    pub fn request(&self, status: Option<StatusCode>, cache: CacheResult, took: Duration) {
        self.results[cache as usize].inc();
        if let Some(class) =
            status.and_then(|status| usize::from(status.as_u16() / 100).checked_sub(1))
            && let Some(counter) = self.statuses.get(class)
        {
            counter.inc();
        }
        self.latency.observe(took.as_secs_f64());
    }

    /// Notes how long an origin took from its choice to the head of its answer.
    pub fn answered(&self, node: SocketAddr, took: Duration) {
        self.observed.answered(node, took);
    }

    /// Where other parts register what they count.
    pub fn registry(&self) -> &Registry {
        &self.registry
    }

    /// Requests so far by what the cache did.
    pub fn results(&self) -> impl Iterator<Item = (&'static str, u64)> {
        CacheResult::ALL
            .iter()
            .map(|(result, name)| (*name, self.results[*result as usize].get()))
    }

    /// The text exposition of every metric, of other parts as they look now.
    ///
    /// # Errors
    /// The encoder refuses.
    pub fn expose(&self, look: &Look<'_>) -> Result<String, prometheus::Error> {
        let _turn = self.observed.show(look);
        for (gauge, count) in [
            (&self.connections_gauge, &self.connections),
            (&self.held_bodies_gauge, &self.held_body_bytes),
        ] {
            let count = count.load(Ordering::Relaxed);
            gauge.set(i64::try_from(count).unwrap_or(i64::MAX));
        }
        TextEncoder::new().encode_to_string(&self.registry.gather())
    }
}

fn counters(
    registry: &Registry,
    name: &str,
    help: &str,
    label: &str,
) -> Result<IntCounterVec, prometheus::Error> {
    let counters = IntCounterVec::new(Opts::new(name, help), &[label])?;
    registry.register(Box::new(counters.clone()))?;
    Ok(counters)
}
