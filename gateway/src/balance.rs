//! Which origin a request goes to.
//!
//! Least connections: the node with the fewest requests in flight for its weight, counted by a lease that its request
//! holds. Nodes that health checks or failed connections have taken out are passed over, unless none is left: then all are
//! tried, as a wrong verdict on every node must not become an outage.

mod health;
mod node;

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

pub use health::HealthChecks;
pub use node::{Lease, Node, NodeStatus};

/// How long a node is passed over after a failed connection, unless a health check brings it back.
const EJECTION: Duration = Duration::from_secs(1);

/// The origins.
pub struct Pool {
    nodes: Vec<Arc<Node>>,
    in_flight_max: usize,
    /// Where the scan begins, so that ties go round.
    turn: AtomicUsize,
}

/// Why no node could be picked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum NoNode {
    /// Every node has as many requests in flight as it may have.
    #[error("every origin is at its limit of requests in flight")]
    Full,
    /// The request has tried them all.
    #[error("every origin has been tried")]
    Tried,
}

impl Pool {
    /// A pool over these nodes, each with at most `in_flight_max` requests in flight.
    pub fn new(nodes: Vec<Node>, in_flight_max: usize) -> Self {
        Self {
            nodes: nodes.into_iter().map(Arc::new).collect(),
            in_flight_max,
            turn: AtomicUsize::new(0),
        }
    }

    /// All nodes, in the configured order.
    pub fn nodes(&self) -> &[Arc<Node>] {
        &self.nodes
    }

    /// Takes a place at the least loaded node that `tried` does not hold.
    ///
    /// # Errors
    /// There is none with a place left.
    pub fn pick(&self, tried: &[usize], now: Instant) -> Result<Lease, NoNode> {
        let untried = |index: &usize| !tried.contains(index);
        if !(0..self.nodes.len()).any(|index| untried(&index)) {
            return Err(NoNode::Tried);
        }
        let usable = |index: &usize| untried(index) && self.nodes[*index].is_available(now);
        let first = self.turn.fetch_add(1, Ordering::Relaxed);
        // Two turns: between the look at the counts and the reservation others may have taken the last place.
        for _ in 0..2 {
            let index = self
                .least_loaded(first, usable)
                .or_else(|| self.least_loaded(first, untried));
            if let Some(index) = index
                && let Some(lease) = Lease::take(&self.nodes[index], index, self.in_flight_max)
            {
                return Ok(lease);
            }
        }
        Err(NoNode::Full)
    }

    fn least_loaded(&self, first: usize, eligible: impl Fn(&usize) -> bool) -> Option<usize> {
        let count = self.nodes.len();
        (0..count)
            .map(|step| first.wrapping_add(step) % count)
            .filter(eligible)
            .filter(|index| self.nodes[*index].in_flight() < self.in_flight_max)
            // The first of equals wins, and the first one changes with every request.
            .min_by(|left, right| self.nodes[*left].compare_load(&self.nodes[*right]))
    }

    /// Passes a node over for a while: a connection to it failed.
    pub fn eject(&self, index: usize, now: Instant) {
        if let Some(node) = self.nodes.get(index) {
            node.eject_until(now + EJECTION);
        }
    }
}

#[cfg(test)]
mod tests;
