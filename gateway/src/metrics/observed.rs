//! What is counted elsewhere, looked at when somebody asks: the origins, the waiting line, the cache's account.

use std::net::SocketAddr;
use std::time::Duration;

use parking_lot::{Mutex, MutexGuard};
use prometheus::core::Collector;
use prometheus::proto::Metric;
use prometheus::{
    HistogramOpts, HistogramVec, IntCounter, IntCounterVec, IntGauge, IntGaugeVec, Opts, Registry,
};

use super::counters;
use crate::balance::{BalanceStatus, NodeStatus};
use crate::store::Stats;

/// Upper bounds of the time to the head of an origin's answer in seconds, up to what an origin may take.
const HEAD_BOUNDS_SECONDS: [f64; 14] = [
    0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 15.0,
];

/// Gauges and counters that are set at each look, and how long each origin takes.
pub struct Observed {
    node_gauges: [IntGaugeVec; NODE_GAUGES.len()],
    node_counters: [IntCounterVec; NODE_COUNTERS.len()],
    node_durations: HistogramVec,
    gauges: [IntGauge; GAUGES.len()],
    counters: [IntCounter; COUNTERS.len()],
    /// One look at a time: nodes that are gone are forgotten in it.
    turn: Mutex<()>,
}

const NODE_GAUGES: [(&str, &str); 4] = [
    ("gateway_node_in_flight", "Requests an origin works on"),
    (
        "gateway_node_healthy",
        "Whether health checks find an origin well",
    ),
    (
        "gateway_node_drained",
        "Whether an operator keeps new requests from an origin",
    ),
    ("gateway_node_weight", "The share of the load of an origin"),
];

const NODE_COUNTERS: [(&str, &str); 3] = [
    ("gateway_node_requests_total", "Requests sent to an origin"),
    (
        "gateway_node_failures_total",
        "Connections and answers of an origin that failed",
    ),
    (
        "gateway_node_ejections_total",
        "Times an origin was passed over for its failures",
    ),
];

const GAUGES: [(&str, &str); 5] = [
    (
        "gateway_queue_waiting",
        "Requests that wait for a place at an origin now",
    ),
    ("gateway_cache_objects", "Entries that can be found"),
    ("gateway_cache_used_bytes", "Bytes on the ledger"),
    ("gateway_cache_budget_bytes", "The ledger's bound"),
    ("gateway_cache_tags", "Distinct groups in the index"),
];

const COUNTERS: [(&str, &str); 7] = [
    (
        "gateway_queue_entered_total",
        "Requests that waited for a place at an origin",
    ),
    (
        "gateway_queue_refused_total",
        "Requests that found no place at an origin",
    ),
    ("gateway_retries_total", "Further attempts"),
    (
        "gateway_retries_refused_total",
        "Further attempts that the budget did not allow",
    ),
    (
        "gateway_cache_evictions_total",
        "Entries removed to make room",
    ),
    (
        "gateway_purges_total",
        "Purges, those of writes too; the number of the newest",
    ),
    (
        "gateway_access_log_lost_total",
        "Lines that the access log had no room for",
    ),
];

/// What there is to see.
pub struct Look<'a> {
    /// Every origin.
    pub nodes: &'a [NodeStatus],
    /// The waiting line and the retries.
    pub balance: BalanceStatus,
    /// The cache's account.
    pub cache: Stats,
    /// The number of the newest purge.
    pub purge_sequence: u64,
    /// Lines that the access log had no room for.
    pub access_log_lost: u64,
}

impl Observed {
    pub(super) fn new(registry: &Registry) -> Result<Self, prometheus::Error> {
        let node_gauge = |(name, help): (&str, &str)| {
            let gauges = IntGaugeVec::new(Opts::new(name, help), &["node"])?;
            registry.register(Box::new(gauges.clone()))?;
            Ok::<_, prometheus::Error>(gauges)
        };
        let node_counter = |(name, help): (&str, &str)| counters(registry, name, help, "node");
        let gauge = |(name, help): (&str, &str)| {
            let gauge = IntGauge::new(name, help)?;
            registry.register(Box::new(gauge.clone()))?;
            Ok::<_, prometheus::Error>(gauge)
        };
        let counter = |(name, help): (&str, &str)| {
            let counter = IntCounter::new(name, help)?;
            registry.register(Box::new(counter.clone()))?;
            Ok::<_, prometheus::Error>(counter)
        };
        let durations = HistogramOpts::new(
            "gateway_node_duration_seconds",
            "Time from the choice of an origin to the head of its answer",
        );
        let durations = durations.buckets(HEAD_BOUNDS_SECONDS.to_vec());
        let node_durations = HistogramVec::new(durations, &["node"])?;
        registry.register(Box::new(node_durations.clone()))?;
        Ok(Self {
            node_gauges: all(NODE_GAUGES.map(node_gauge))?,
            node_counters: all(NODE_COUNTERS.map(node_counter))?,
            node_durations,
            gauges: all(GAUGES.map(gauge))?,
            counters: all(COUNTERS.map(counter))?,
            turn: Mutex::new(()),
        })
    }

    /// Notes how long an origin took to begin its answer.
    pub(super) fn answered(&self, node: SocketAddr, took: Duration) {
        let durations = self.node_durations.with_label_values(&[node.to_string()]);
        durations.observe(took.as_secs_f64());
    }

    /// Shows what there is to see now, for as long as the turn is held.
    pub(super) fn show(&self, look: &Look<'_>) -> MutexGuard<'_, ()> {
        let turn = self.turn.lock();
        self.show_nodes(look.nodes);
        let (balance, cache) = (&look.balance, &look.cache);
        let values = [
            balance.waiting,
            cache.objects,
            cache.used_bytes,
            cache.budget_bytes,
            cache.tags,
        ];
        for (gauge, value) in self.gauges.iter().zip(values) {
            set(gauge, value as u64);
        }
        let values = [
            balance.queued,
            balance.refused,
            balance.retries,
            balance.retries_refused,
            cache.evictions,
            look.purge_sequence,
            look.access_log_lost,
        ];
        for (counter, value) in self.counters.iter().zip(values) {
            counter.inc_by(value.saturating_sub(counter.get()));
        }
        turn
    }

    fn show_nodes(&self, nodes: &[NodeStatus]) {
        self.node_gauges.iter().for_each(IntGaugeVec::reset);
        self.node_counters.iter().for_each(IntCounterVec::reset);
        for node in nodes {
            let values = [
                node.in_flight as u64,
                node.healthy.into(),
                node.drained.into(),
                node.weight.into(),
            ];
            for (gauge, value) in self.node_gauges.iter().zip(values) {
                set(&gauge.with_label_values(&[&node.address]), value);
            }
            let values = [node.requests, node.failures, node.ejections];
            for (counter, value) in self.node_counters.iter().zip(values) {
                let counter = counter.with_label_values(&[&node.address]);
                counter.inc_by(value);
            }
        }
        // An answer that was awaited may have named one that was gone already.
        for known in self.node_durations.collect() {
            let labels = known.get_metric().iter().flat_map(Metric::get_label);
            for label in labels {
                if !nodes.iter().any(|node| node.address == label.value()) {
                    let _ = self.node_durations.remove_label_values(&[label.value()]);
                }
            }
        }
    }
}

fn set(gauge: &IntGauge, value: u64) {
    gauge.set(i64::try_from(value).unwrap_or(i64::MAX));
}

/// All of them, or the first error.
fn all<T, const N: usize>(
    made: [Result<T, prometheus::Error>; N],
) -> Result<[T; N], prometheus::Error> {
    let made: Result<Vec<T>, _> = made.into_iter().collect();
    made?
        .try_into()
        .map_err(|_| prometheus::Error::Msg("as many as there are names".to_owned()))
}
