//! One origin: its load and whether it may be used.

use std::cmp::Ordering as Order;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::time::Instant;

use parking_lot::Mutex;
use serde::Serialize;

/// One origin.
#[derive(Debug)]
pub struct Node {
    address: String,
    weight: u32,
    in_flight: AtomicUsize,
    requests: AtomicU64,
    failures: AtomicU64,
    healthy: AtomicBool,
    ejected_until: Mutex<Option<Instant>>,
}

/// What operators see of a node.
#[derive(Debug, Clone, Serialize)]
pub struct NodeStatus {
    /// Where it serves.
    pub address: String,
    /// Its share of the load beside the others.
    pub weight: u32,
    /// Requests it is working on.
    pub in_flight: usize,
    /// Requests sent to it since start.
    pub requests: u64,
    /// Connections and answers that failed since start.
    pub failures: u64,
    /// The verdict of the health checks.
    pub healthy: bool,
    /// Whether it is passed over now because a connection failed.
    pub ejected: bool,
}

impl Node {
    /// A node that counts as healthy until a check says otherwise.
    pub fn new(address: String, weight: u32) -> Self {
        Self {
            address,
            weight: weight.max(1),
            in_flight: AtomicUsize::new(0),
            requests: AtomicU64::new(0),
            failures: AtomicU64::new(0),
            healthy: AtomicBool::new(true),
            ejected_until: Mutex::new(None),
        }
    }

    /// Where it serves.
    pub fn address(&self) -> &str {
        &self.address
    }

    /// Requests it is working on.
    pub fn in_flight(&self) -> usize {
        self.in_flight.load(Ordering::Relaxed)
    }

    /// Orders nodes by (in flight + 1) / weight, multiplied out.
    pub(super) fn compare_load(&self, other: &Self) -> Order {
        let load = |node: &Self, by: u32| (node.in_flight() as u64 + 1) * u64::from(by);
        load(self, other.weight).cmp(&load(other, self.weight))
    }

    pub(super) fn is_available(&self, now: Instant) -> bool {
        self.is_healthy() && !self.is_ejected(now)
    }

    /// The verdict of the health checks.
    pub fn is_healthy(&self) -> bool {
        self.healthy.load(Ordering::Relaxed)
    }

    fn is_ejected(&self, now: Instant) -> bool {
        self.ejected_until.lock().is_some_and(|until| now < until)
    }

    pub(super) fn eject_until(&self, until: Instant) {
        self.failures.fetch_add(1, Ordering::Relaxed);
        *self.ejected_until.lock() = Some(until);
    }

    /// Takes the verdict of a health check; a good one also ends an ejection.
    pub(super) fn set_healthy(&self, healthy: bool) {
        let was = self.healthy.swap(healthy, Ordering::Relaxed);
        if healthy && !was {
            *self.ejected_until.lock() = None;
        }
        if was != healthy {
            tracing::warn!(node = %self.address, healthy, "health check changed its verdict");
        }
    }

    /// What operators see.
    pub fn status(&self, now: Instant) -> NodeStatus {
        NodeStatus {
            address: self.address.clone(),
            weight: self.weight,
            in_flight: self.in_flight(),
            requests: self.requests.load(Ordering::Relaxed),
            failures: self.failures.load(Ordering::Relaxed),
            healthy: self.is_healthy(),
            ejected: self.is_ejected(now),
        }
    }
}

/// A place at a node: counted from its making to its drop, on whatever way the request ends.
#[derive(Debug)]
pub struct Lease {
    node: Arc<Node>,
    index: usize,
}

impl Lease {
    pub(super) fn take(node: &Arc<Node>, index: usize, in_flight_max: usize) -> Option<Self> {
        node.in_flight
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |count| {
                (count < in_flight_max).then_some(count + 1)
            })
            .ok()?;
        node.requests.fetch_add(1, Ordering::Relaxed);
        Some(Self {
            node: Arc::clone(node),
            index,
        })
    }

    /// The node's place in the pool.
    pub fn index(&self) -> usize {
        self.index
    }

    /// The node.
    pub fn node(&self) -> &Node {
        &self.node
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        self.node.in_flight.fetch_sub(1, Ordering::Relaxed);
    }
}
