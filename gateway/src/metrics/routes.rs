//! Requests by configured route: how many, what the cache did, how long they took.

use std::sync::OnceLock;
use std::time::Duration;

use http::StatusCode;
use prometheus::{
    Histogram, HistogramOpts, HistogramVec, IntCounter, IntCounterVec, Opts, Registry,
};

use super::{CacheResult, LATENCY_BOUNDS_SECONDS, STATUS_CLASSES};

/// The route of what no configured route matches.
const NO_ROUTE: &str = "none";
/// The status class of what was not answered.
const NO_STATUS: &str = "none";

/// What is counted by route, whichever routes are configured at the moment.
#[derive(Clone)]
pub struct RouteFamilies {
    requests: IntCounterVec,
    durations: HistogramVec,
}

impl RouteFamilies {
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
            "Time from the header to the end of the answer, by configured route and what the cache did",
        );
        let options = options.buckets(LATENCY_BOUNDS_SECONDS.to_vec());
        let durations = HistogramVec::new(options, &["route", "cache"])?;
        registry.register(Box::new(durations.clone()))?;
        Ok(Self {
            requests,
            durations,
        })
    }

    /// The counters of these routes; there are no other labels, so their number is bounded.
    pub fn of<'p>(&self, paths: impl Iterator<Item = &'p str>) -> RouteMetrics {
        let with_none = paths.chain([NO_ROUTE]);
        RouteMetrics {
            routes: with_none.map(Route::new).collect(),
            families: self.clone(),
        }
    }
}

/// The counters of the routes of one configuration. Those that have been used once are found without a lock or an
/// allocation; the others are in no exposition.
pub struct RouteMetrics {
    /// In the order of the configuration, and behind them what none matches.
    routes: Vec<Route>,
    families: RouteFamilies,
}

struct Route {
    path: Box<str>,
    results: [Counts; CacheResult::ALL.len()],
}

#[derive(Default)]
struct Counts {
    /// By status class; the last one is of what was not answered.
    statuses: [OnceLock<IntCounter>; STATUS_CLASSES.len() + 1],
    durations: OnceLock<Histogram>,
}

impl Route {
    fn new(path: &str) -> Self {
        Self {
            path: path.into(),
            results: Default::default(),
        }
    }
}

impl RouteMetrics {
    /// Counts one finished request of the route that has this place; no status when no answer was sent.
    pub fn note(
        &self,
        route: Option<usize>,
        cache: CacheResult,
        status: Option<StatusCode>,
        took: Duration,
    ) {
        let known = route.and_then(|route| self.routes.get(route));
        let Some(route) = known.or_else(|| self.routes.last()) else {
            return; // there is always the one of what none matches
        };
        let counts = &route.results[cache as usize];
        let class = status.and_then(|status| usize::from(status.as_u16() / 100).checked_sub(1));
        let class = class.filter(|class| *class < STATUS_CLASSES.len());
        let requests = counts.statuses[class.unwrap_or(STATUS_CLASSES.len())].get_or_init(|| {
            let class = class.map_or(NO_STATUS, |class| STATUS_CLASSES[class]);
            let labels = [&*route.path, cache.name(), class];
            self.families.requests.with_label_values(&labels)
        });
        requests.inc();
        let durations = counts.durations.get_or_init(|| {
            let labels = [&*route.path, cache.name()];
            self.families.durations.with_label_values(&labels)
        });
        durations.observe(took.as_secs_f64());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_route_keeps_its_counts_over_configurations() {
        let families = RouteFamilies::new(&Registry::new()).unwrap();
        let took = Duration::from_millis(1);
        let note = |paths: &[&'static str], route| {
            let routes = families.of(paths.iter().copied());
            routes.note(route, CacheResult::Hit, Some(StatusCode::OK), took);
        };
        note(&["/a", "/b"], Some(1));
        note(&["/b"], Some(0));
        note(&["/b"], None);
        note(&["/b"], Some(7)); // of another configuration
        let count = |route| {
            families
                .requests
                .with_label_values(&[route, "hit", "2xx"])
                .get()
        };
        assert_eq!(["/a", "/b", NO_ROUTE].map(count), [0, 2, 2]);
        let took = families.durations.with_label_values(&["/b", "hit"]);
        assert_eq!(took.get_sample_count(), 2);
    }
}
