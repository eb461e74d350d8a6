//! What Prometheus reads: every handle is looked up by a constant, none is made on the way of a request.

use std::{collections::HashMap, time::Duration};

use http::{Method, StatusCode};
use prometheus::{
    Encoder as _, Histogram, HistogramOpts, HistogramVec, IntCounter, IntCounterVec, IntGauge,
    IntGaugeVec, Opts, Registry, TextEncoder,
};

use crate::{
    database::{Database, Refusal, Statement},
    log_buffer::LogBuffer,
    routes::Route,
    tail,
};

/// Upper bounds of the latency histograms, in seconds.
const LATENCY_SECONDS: [f64; 12] = [
    0.0005, 0.001, 0.002, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5,
];

/// The codes of answers that are counted each for itself: those that an origin gives.
const CODES: [u16; 15] = [
    200, 201, 204, 304, 400, 404, 405, 409, 413, 414, 415, 422, 500, 503, 504,
];

/// Every metric of the origin.
#[derive(Debug)]
pub struct Metrics {
    registry: Registry,
    routes: HashMap<&'static str, RouteMetrics>,
    unrouted: MethodMetrics,
    statements: HashMap<&'static str, Histogram>,
    unnamed: Histogram,
    pools: IntGaugeVec,
    breakers: IntGaugeVec,
    codes: CodeMetrics,
    /// Reads, by who answered them.
    pub reads: ReadMetrics,
    /// Requests being served.
    pub in_flight: IntGauge,
    /// Requests refused because too many were being served.
    pub shed: IntCounter,
    /// Connections refused because there were too many.
    pub refused_connections: IntCounter,
    /// Requests whose client hung up before they were answered; they are not among those answered.
    pub hung_up: IntCounter,
    /// The stream of changes.
    pub tail: tail::metrics::Metrics,
}

/// Where the metrics of paths come from.
struct RequestVecs {
    total: IntCounterVec,
    seconds: HistogramVec,
}

impl RequestVecs {
    fn new(registry: &Registry) -> prometheus::Result<Self> {
        let total = IntCounterVec::new(
            Opts::new("origin_requests_total", "Requests answered"),
            &["route", "method", "status"],
        )?;
        registry.register(Box::new(total.clone()))?;
        let seconds = latencies(
            registry,
            "origin_request_duration_seconds",
            "From head to answer",
            &["route", "method"],
        )?;
        Ok(Self { total, seconds })
    }

    fn route(&self, path: &str) -> RouteMetrics {
        RouteMetrics {
            get: self.method(path, "GET"),
            post: self.method(path, "POST"),
            put: self.method(path, "PUT"),
            other: self.method(path, "other"),
        }
    }

    fn method(&self, path: &str, method: &str) -> MethodMetrics {
        MethodMetrics {
            statuses: ["1xx", "2xx", "3xx", "4xx", "5xx"]
                .map(|status| self.total.with_label_values(&[path, method, status])),
            seconds: self.seconds.with_label_values(&[path, method]),
        }
    }
}

fn latencies(
    registry: &Registry,
    name: &str,
    help: &str,
    labels: &[&str],
) -> prometheus::Result<HistogramVec> {
    let options = HistogramOpts::new(name, help).buckets(LATENCY_SECONDS.to_vec());
    let latencies = HistogramVec::new(options, labels)?;
    registry.register(Box::new(latencies.clone()))?;
    Ok(latencies)
}

fn gauges(
    registry: &Registry,
    name: &str,
    help: &str,
    labels: &[&str],
) -> prometheus::Result<IntGaugeVec> {
    let gauges = IntGaugeVec::new(Opts::new(name, help), labels)?;
    registry.register(Box::new(gauges.clone()))?;
    Ok(gauges)
}

/// The metrics of one path.
#[derive(Debug)]
struct RouteMetrics {
    get: MethodMetrics,
    post: MethodMetrics,
    put: MethodMetrics,
    other: MethodMetrics,
}

/// The metrics of one path and method.
#[derive(Debug)]
pub struct MethodMetrics {
    /// By the first digit of the status, from 1.
    statuses: [IntCounter; 5],
    seconds: Histogram,
}

impl MethodMetrics {
    /// Counts a request that was answered.
    pub fn observe(&self, status: StatusCode, took: Duration) {
        let class = usize::from(status.as_u16() / 100).clamp(1, 5);
        self.statuses[class - 1].inc();
        self.seconds.observe(took.as_secs_f64());
    }
}

/// Who answers reads.
#[derive(Debug)]
pub struct ReadMetrics {
    /// Reads that the primary was asked for.
    pub primary: IntCounter,
    /// Reads that a replica answered.
    pub replica: IntCounter,
    /// Reads that a replica was asked for, and the primary had to answer.
    refusals: [IntCounter; Refusal::ALL.len()],
}

impl ReadMetrics {
    fn new(registry: &Registry) -> prometheus::Result<Self> {
        let reads = IntCounterVec::new(
            Opts::new("origin_reads_total", "Reads, by who was asked last"),
            &["source"],
        )?;
        let refusals = IntCounterVec::new(
            Opts::new(
                "origin_replica_refusals_total",
                "Reads that a replica could not answer",
            ),
            &["reason"],
        )?;
        registry.register(Box::new(reads.clone()))?;
        registry.register(Box::new(refusals.clone()))?;
        Ok(Self {
            primary: reads.with_label_values(&["primary"]),
            replica: reads.with_label_values(&["replica"]),
            refusals: Refusal::ALL.map(|refusal| refusals.with_label_values(&[refusal.name()])),
        })
    }

    /// The counter of a reason.
    pub fn refusal(&self, refusal: Refusal) -> &IntCounter {
        &self.refusals[refusal as usize]
    }
}

/// Answers, by their codes.
#[derive(Debug)]
struct CodeMetrics {
    known: [(u16, IntCounter); CODES.len()],
    other: IntCounter,
}

impl CodeMetrics {
    fn new(registry: &Registry) -> prometheus::Result<Self> {
        let answers = IntCounterVec::new(
            Opts::new("origin_responses_total", "Answers, by their code"),
            &["code"],
        )?;
        registry.register(Box::new(answers.clone()))?;
        Ok(Self {
            known: CODES.map(|code| (code, answers.with_label_values(&[&code.to_string()]))),
            other: answers.with_label_values(&["other"]),
        })
    }
}

fn counter(registry: &Registry, name: &str, help: &str) -> prometheus::Result<IntCounter> {
    let counter = IntCounter::new(name, help)?;
    registry.register(Box::new(counter.clone()))?;
    Ok(counter)
}

impl Metrics {
    /// Registers every metric.
    ///
    /// # Errors
    /// If two have one name, which is a mistake in this file.
    pub fn new(routes: &[Route], statements: &[&Statement]) -> prometheus::Result<Self> {
        let registry = Registry::new();
        let requests = RequestVecs::new(&registry)?;
        let seconds = latencies(
            &registry,
            "origin_statement_duration_seconds",
            "From sending a statement to its answer, which for a write follows its commit",
            &["statement"],
        )?;
        let pools = gauges(
            &registry,
            "origin_pool_connections",
            "Connections to the database",
            &["pool", "state"],
        )?;
        let breakers = gauges(
            &registry,
            "origin_breaker_open",
            "Whether requests without a connection are refused at once",
            &["pool"],
        )?;
        let in_flight = IntGauge::new("origin_in_flight_requests", "Requests being served")?;
        registry.register(Box::new(in_flight.clone()))?;
        let reads = ReadMetrics::new(&registry)?;
        #[cfg(target_os = "linux")]
        registry.register(Box::new(
            prometheus::process_collector::ProcessCollector::for_self(),
        ))?;
        Ok(Self {
            tail: tail::metrics::Metrics::new(&registry)?,
            routes: routes
                .iter()
                .map(|route| (route.path, requests.route(route.path)))
                .collect(),
            unrouted: requests.method("none", "other"),
            statements: statements
                .iter()
                .map(|statement| {
                    let histogram = seconds.with_label_values(&[statement.name]);
                    (statement.name, histogram)
                })
                .collect(),
            unnamed: seconds.with_label_values(&["other"]),
            pools,
            breakers,
            codes: CodeMetrics::new(&registry)?,
            reads,
            in_flight,
            refused_connections: counter(
                &registry,
                "origin_refused_connections_total",
                "Connections refused because there were too many",
            )?,
            shed: counter(
                &registry,
                "origin_shed_requests_total",
                "Requests refused at once",
            )?,
            hung_up: counter(
                &registry,
                "origin_hung_up_requests_total",
                "Requests whose client hung up before they were answered",
            )?,
            registry,
        })
    }

    /// Registers what is counted of the log.
    ///
    /// # Errors
    /// If its name is taken, which is a mistake in this program.
    pub fn register_log(&self, log: &LogBuffer) -> prometheus::Result<()> {
        self.registry.register(Box::new(log.lost().clone()))
    }

    /// The metrics of a request to a path of the router's list, or to none of them.
    pub fn request(&self, route: Option<&str>, method: &Method) -> &MethodMetrics {
        let Some(route) = route.and_then(|route| self.routes.get(route)) else {
            return &self.unrouted;
        };
        match *method {
            Method::GET | Method::HEAD => &route.get,
            Method::POST => &route.post,
            Method::PUT => &route.put,
            _ => &route.other,
        }
    }

    /// The answers with a code.
    pub fn code(&self, status: StatusCode) -> &IntCounter {
        let mut known = self.codes.known.iter();
        let found = known.find(|(code, _)| *code == status.as_u16());
        found.map_or(&self.codes.other, |(_, counter)| counter)
    }

    /// The latency of a statement.
    pub fn statement(&self, name: &str) -> &Histogram {
        self.statements.get(name).unwrap_or(&self.unnamed)
    }

    /// Everything as text, with the pools as they are now.
    ///
    /// # Errors
    /// If a metric cannot be written, which is a mistake in this file.
    pub fn render(&self, database: &Database) -> prometheus::Result<Vec<u8>> {
        for (pool, open, idle) in database.sizes() {
            for (state, count) in [("idle", idle), ("used", open.saturating_sub(idle))] {
                let gauge = self.pools.with_label_values(&[pool, state]);
                gauge.set(i64::try_from(count).unwrap_or(i64::MAX));
            }
        }
        for (pool, is_open) in database.breakers() {
            self.breakers.with_label_values(&[pool]).set(is_open.into());
        }
        let mut text = Vec::new();
        TextEncoder::new().encode(&self.registry.gather(), &mut text)?;
        Ok(text)
    }
}
