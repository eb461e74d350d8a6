//! What is counted elsewhere, looked at when somebody asks: the origins, the waiting line, the cache's account.

use parking_lot::Mutex;
use prometheus::{IntGauge, IntGaugeVec, Opts, Registry};

use crate::balance::{BalanceStatus, NodeStatus};
use crate::store::Stats;

/// Gauges that are set at each look. Counts of other parts are gauges here too: they only ever rise while a process runs.
pub struct Observed {
    nodes: [IntGaugeVec; 7],
    balance: [IntGauge; 5],
    cache: [IntGauge; 6],
    access_log_lost: IntGauge,
    /// One look at a time: nodes that are gone are forgotten in it.
    turn: Mutex<()>,
}

const NODES: [(&str, &str); 7] = [
    ("gateway_node_in_flight", "Requests an origin works on"),
    (
        "gateway_node_requests",
        "Requests sent to an origin since start",
    ),
    (
        "gateway_node_failures",
        "Connections and answers of an origin that failed since start",
    ),
    (
        "gateway_node_ejections",
        "Times an origin was passed over for its failures since start",
    ),
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

const BALANCE: [(&str, &str); 5] = [
    (
        "gateway_queue_waiting",
        "Requests that wait for a place at an origin now",
    ),
    (
        "gateway_queue_entered",
        "Requests that waited for a place since start",
    ),
    (
        "gateway_queue_refused",
        "Requests that found no place since start",
    ),
    ("gateway_retries", "Further attempts since start"),
    (
        "gateway_retries_refused",
        "Further attempts that the budget did not allow since start",
    ),
];

const CACHE: [(&str, &str); 6] = [
    ("gateway_cache_objects", "Entries that can be found"),
    ("gateway_cache_used_bytes", "Bytes on the ledger"),
    ("gateway_cache_budget_bytes", "The ledger's bound"),
    (
        "gateway_cache_evictions",
        "Entries removed to make room since start",
    ),
    ("gateway_cache_tags", "Distinct groups in the index"),
    ("gateway_purge_sequence", "The number of the newest purge"),
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
        let gauge = |(name, help): (&str, &str)| {
            let gauge = IntGauge::new(name, help)?;
            registry.register(Box::new(gauge.clone()))?;
            Ok::<_, prometheus::Error>(gauge)
        };
        let by_node = |(name, help): (&str, &str)| {
            let gauge = IntGaugeVec::new(Opts::new(name, help), &["node"])?;
            registry.register(Box::new(gauge.clone()))?;
            Ok::<_, prometheus::Error>(gauge)
        };
        Ok(Self {
            nodes: all(NODES.map(by_node))?,
            balance: all(BALANCE.map(gauge))?,
            cache: all(CACHE.map(gauge))?,
            access_log_lost: gauge((
                "gateway_access_log_lost",
                "Lines that the access log had no room for since start",
            ))?,
            turn: Mutex::new(()),
        })
    }

    /// Shows what there is to see now.
    pub fn show(&self, look: &Look<'_>) {
        let _turn = self.turn.lock();
        self.nodes.iter().for_each(IntGaugeVec::reset);
        for node in look.nodes {
            let values = [
                node.in_flight as u64,
                node.requests,
                node.failures,
                node.ejections,
                node.healthy.into(),
                node.drained.into(),
                node.weight.into(),
            ];
            for (gauge, value) in self.nodes.iter().zip(values) {
                set(&gauge.with_label_values(&[&node.address]), value);
            }
        }
        let balance = &look.balance;
        let values = [
            balance.waiting as u64,
            balance.queued,
            balance.refused,
            balance.retries,
            balance.retries_refused,
        ];
        for (gauge, value) in self.balance.iter().zip(values) {
            set(gauge, value);
        }
        let cache = &look.cache;
        let values = [
            cache.objects as u64,
            cache.used_bytes as u64,
            cache.budget_bytes as u64,
            cache.evictions,
            cache.tags as u64,
            look.purge_sequence,
        ];
        for (gauge, value) in self.cache.iter().zip(values) {
            set(gauge, value);
        }
        set(&self.access_log_lost, look.access_log_lost);
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
