//! Requests by configured route: how many, what the cache did, how long they took.

use std::time::Duration;

use http::StatusCode;
use prometheus::{HistogramOpts, HistogramVec, IntCounterVec, Opts, Registry};

use super::{CacheResult, LATENCY_BOUNDS_SECONDS, STATUS_CLASSES};

/// The route of what no configured route matches.
const NO_ROUTE: &str = "none";

/// Counters with a label for each configured route; there are no other values, so their number is bounded.
pub struct RouteMetrics {
    requests: IntCounterVec,
    durations: HistogramVec,
}

impl RouteMetrics {
    pub(super) fn new(registry: &Registry) -> Result<Self, prometheus::Error> {
        let requests = IntCounterVec::new(
            Opts::new(
                "gateway_route_requests_total",
                "Requests by configured route, what the cache did, and status class",
            ),
            &["route", "cache", "status"],
        )?;
        registry.register(Box::new(requests.clone()))?;
        let options = HistogramOpts::new(
            "gateway_route_duration_seconds",
            "Time from the header to the end of the answer, by configured route",
        );
        let durations =
            HistogramVec::new(options.buckets(LATENCY_BOUNDS_SECONDS.to_vec()), &["route"])?;
        registry.register(Box::new(durations.clone()))?;
        Ok(Self {
            requests,
            durations,
        })
    }

    /// Counts one finished request; no status when no answer was sent.
    pub fn note(
        &self,
        route: Option<&str>,
        cache: CacheResult,
        status: Option<StatusCode>,
        took: Duration,
    ) {
        let route = route.unwrap_or(NO_ROUTE);
        let class = status.and_then(|status| usize::from(status.as_u16() / 100).checked_sub(1));
        let class = class.and_then(|class| STATUS_CLASSES.get(class)).copied();
        let labels = [route, cache.name(), class.unwrap_or("none")];
        self.requests.with_label_values(&labels).inc();
        self.durations
            .with_label_values(&[route])
            .observe(took.as_secs_f64());
    }
}
