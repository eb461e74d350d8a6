//! One origin: its load and whether it may be used.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU32, AtomicU64, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use serde::Serialize;
use utoipa::ToSchema;

use super::eject::{Outcome, Record};
use super::origins::Source;
use super::queue::Queue;
use crate::config;

/// Thousandths of its weight that a node has when it comes in: enough to be tried, little enough to warm up with.
const SLOW_START_MIN: u128 = 100;

/// A node's name within this run; never given twice.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct NodeId(pub(crate) u64);

/// Where a node is, as configuration and name resolution say.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Place {
    /// The place of its origin in the configuration when it was found.
    pub origin: usize,
    /// Its origin as configured, `HOST:PORT`.
    pub name: String,
    /// Where it serves.
    pub address: SocketAddr,
    /// Where its health is asked.
    pub check_at: SocketAddr,
    /// Whether that is a private listener.
    pub checks_private: bool,
    /// Its share of the load beside the others, from 1.
    pub weight: u32,
}

/// One origin.
#[derive(Debug)]
pub struct Node {
    id: NodeId,
    place: Place,
    /// The place of its origin in the configuration now: other origins may have come before it or gone.
    origin: AtomicUsize,
    weight: AtomicU32,
    in_flight: AtomicUsize,
    requests: AtomicU64,
    failures: AtomicU64,
    ejections: AtomicU64,
    healthy: AtomicBool,
    drained: AtomicBool,
    /// Its name has other addresses now, or it is no origin any more.
    gone: AtomicBool,
    /// The last health check found no machine there.
    absent: AtomicBool,
    credit: AtomicI64,
    standing: Mutex<Standing>,
}

#[derive(Debug, Default)]
struct Standing {
    record: Record,
    /// When it last came in for another reason than the end of a time out.
    came_in: Option<Instant>,
}

/// What operators see of a node.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub struct NodeStatus {
    /// Where it serves.
    pub address: String,
    /// Its origin as configured.
    pub name: String,
    /// Who named its origin.
    pub source: Source,
    /// Its share of the load beside the others.
    pub weight: u32,
    /// Requests it is working on.
    pub in_flight: usize,
    /// Requests sent to it since start.
    pub requests: u64,
    /// Connections and answers that failed since start.
    pub failures: u64,
    /// Times it was passed over for its failures since start.
    pub ejections: u64,
    /// The verdict of the health checks.
    pub healthy: bool,
    /// Whether it is passed over now for its failures.
    pub ejected: bool,
    /// Whether an operator keeps new requests from it.
    pub drained: bool,
}

impl Node {
    /// A node that counts as healthy until a check says otherwise, and gets its whole share at once.
    pub fn new(id: u64, place: Place) -> Self {
        Self {
            id: NodeId(id),
            weight: AtomicU32::new(place.weight.max(1)),
            origin: AtomicUsize::new(place.origin),
            place,
            in_flight: AtomicUsize::new(0),
            requests: AtomicU64::new(0),
            failures: AtomicU64::new(0),
            ejections: AtomicU64::new(0),
            healthy: AtomicBool::new(true),
            drained: AtomicBool::new(false),
            gone: AtomicBool::new(false),
            absent: AtomicBool::new(false),
            credit: AtomicI64::new(0),
            standing: Mutex::default(),
        }
    }

    /// Its name within this run.
    pub fn id(&self) -> NodeId {
        self.id
    }

    /// Where it serves.
    pub fn address(&self) -> SocketAddr {
        self.place.address
    }

    /// The place of its origin in the configuration.
    pub fn origin(&self) -> usize {
        self.origin.load(Ordering::Relaxed)
    }

    pub(super) fn set_origin(&self, origin: usize) {
        self.origin.store(origin, Ordering::Relaxed);
    }

    /// Where it is, as configured and resolved.
    pub fn place(&self) -> &Place {
        &self.place
    }

    /// Requests it is working on.
    pub fn in_flight(&self) -> usize {
        self.in_flight.load(Ordering::Relaxed)
    }

    /// The verdict of the health checks.
    pub fn is_healthy(&self) -> bool {
        self.healthy.load(Ordering::Relaxed)
    }

    /// Whether an operator keeps new requests from it.
    pub fn is_drained(&self) -> bool {
        self.drained.load(Ordering::Relaxed)
    }

    /// Whether it is no node any more; requests at it end as they will.
    pub fn is_gone(&self) -> bool {
        self.gone.load(Ordering::Relaxed)
    }

    /// Whether the health checks find no machine there: connecting takes its whole timeout, or there is no way to it.
    pub fn is_absent(&self) -> bool {
        !self.is_healthy() && self.absent.load(Ordering::Relaxed)
    }

    /// Takes what the last health check found: whether it met nobody.
    pub fn set_absent(&self, absent: bool) {
        self.absent.store(absent, Ordering::Relaxed);
    }

    pub(super) fn is_available(&self, now: Instant) -> bool {
        self.is_healthy() && !self.standing.lock().record.is_out(now)
    }

    /// Whether a request that waits may take over a place of one that ends here.
    pub(super) fn takes_over(&self) -> bool {
        self.is_healthy() && !self.is_drained() && !self.is_gone()
    }

    pub(super) fn credit(&self) -> &AtomicI64 {
        &self.credit
    }

    /// Its share at this moment in thousandths of a weight: less than its weight for a while after it came in.
    pub(super) fn share(&self, now: Instant, slow_start: Duration) -> u64 {
        let whole = u64::from(self.weight.load(Ordering::Relaxed)) * 1_000;
        let standing = self.standing.lock();
        let came_in = standing.came_in.max(standing.record.came_in(now));
        let Some(age) = came_in.map(|since| now.saturating_duration_since(since)) else {
            return whole;
        };
        if age >= slow_start {
            return whole;
        }
        let warm = (age.as_nanos() * 1_000 / slow_start.as_nanos()).max(SLOW_START_MIN);
        let share = u128::from(whole) * warm / 1_000;
        u64::try_from(share).unwrap_or(whole).max(1)
    }

    /// Notes how a request at this node ended. Returns how long it is passed over for that, if it is.
    pub(super) fn note(
        &self,
        outcome: Outcome,
        now: Instant,
        policy: &config::Ejection,
    ) -> Option<Duration> {
        if outcome != Outcome::Answered {
            self.failures.fetch_add(1, Ordering::Relaxed);
        }
        let length = self.standing.lock().record.note(outcome, now, policy)?;
        self.ejections.fetch_add(1, Ordering::Relaxed);
        Some(length)
    }

    /// Takes the verdict of a health check; one that has turned good also ends a time out.
    pub fn set_healthy(&self, healthy: bool, now: Instant) {
        let was = self.healthy.swap(healthy, Ordering::Relaxed);
        if healthy && !was {
            self.come_in(now);
        }
        if was != healthy {
            tracing::warn!(node = %self.place.address, healthy, "health check changed its verdict");
        }
    }

    pub(super) fn set_drained(&self, drained: bool, now: Instant) {
        let was = self.drained.swap(drained, Ordering::Relaxed);
        if was && !drained {
            self.come_in(now);
        }
    }

    pub(super) fn set_weight(&self, weight: u32) {
        self.weight.store(weight.max(1), Ordering::Relaxed);
    }

    pub(super) fn weight(&self) -> u32 {
        self.weight.load(Ordering::Relaxed)
    }

    /// Begins with a small share.
    pub(super) fn come_in(&self, now: Instant) {
        let mut standing = self.standing.lock();
        standing.record.let_in(now);
        standing.came_in = Some(now);
    }

    /// Gets its whole share at once: it had it before.
    pub(super) fn skip_slow_start(&self) {
        self.standing.lock().came_in = None;
    }

    pub(super) fn set_gone(&self) {
        self.gone.store(true, Ordering::Relaxed);
    }

    fn take_place(&self, max: usize) -> bool {
        let one_more = |count| (count < max).then_some(count + 1);
        self.in_flight
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, one_more)
            .is_ok()
    }

    /// A place that nobody takes over is free again.
    pub(super) fn free_place(&self) {
        self.in_flight.fetch_sub(1, Ordering::Relaxed);
    }

    /// What operators see.
    pub(super) fn status(&self, source: Source, now: Instant) -> NodeStatus {
        NodeStatus {
            address: self.place.address.to_string(),
            name: self.place.name.clone(),
            source,
            weight: self.weight(),
            in_flight: self.in_flight(),
            requests: self.requests.load(Ordering::Relaxed),
            failures: self.failures.load(Ordering::Relaxed),
            ejections: self.ejections.load(Ordering::Relaxed),
            healthy: self.is_healthy(),
            ejected: self.standing.lock().record.is_out(now),
            drained: self.is_drained(),
        }
    }
}

/// A place at a node: counted from its making to its drop, on whatever way the request ends.
#[derive(Debug)]
pub struct Lease {
    node: Arc<Node>,
    /// Who may take the place over; `None` once it is given up.
    queue: Option<Arc<Queue>>,
}

impl Lease {
    /// Takes a place, unless the node has `in_flight_max` requests already.
    pub(super) fn take(node: &Arc<Node>, queue: &Arc<Queue>, in_flight_max: usize) -> Option<Self> {
        let is_taken = node.take_place(in_flight_max);
        is_taken.then(|| Self::taken_over(node, queue))
    }

    /// The place of a request that has ended and is counted still.
    pub(super) fn taken_over(node: &Arc<Node>, queue: &Arc<Queue>) -> Self {
        node.requests.fetch_add(1, Ordering::Relaxed);
        Self {
            node: Arc::clone(node),
            queue: Some(Arc::clone(queue)),
        }
    }

    /// Gives nothing back: the place stays counted for who takes it over.
    pub(super) fn forget(mut self) {
        self.queue = None;
        self.node.requests.fetch_sub(1, Ordering::Relaxed);
    }

    /// The place of the node's origin in the configuration.
    pub fn index(&self) -> usize {
        self.node.origin()
    }

    /// The node.
    pub fn node(&self) -> &Node {
        &self.node
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        if let Some(queue) = self.queue.take() {
            queue.leave(&self.node);
        }
    }
}
