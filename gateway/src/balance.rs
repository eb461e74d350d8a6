//! Which origin a request goes to, and for how long it may wait for one.
//!
//! A request holds a [`Lease`], a place at its node; least connections, the default, counts those. Nodes that health checks
//! or their own failures have taken out are passed over, unless too few are left: then all are used, as a wrong verdict on
//! most nodes must not become an outage. While every node is full, a few requests wait in line for a short time.

mod again;
mod eject;
mod handed;
mod health;
mod node;
mod orders;
mod origins;
mod queue;
mod resolve;
mod retry;
mod select;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use parking_lot::RwLock;
use serde::Serialize;

pub use eject::Outcome;
pub use handed::Orders;
pub use health::HealthChecks;
pub use node::{Lease, Node, NodeId, NodeStatus, Place};
pub use origins::Source;
pub use resolve::{Resolver, places_of};

use crate::config::{self, Algorithm, NODES_MAX};
use origins::Origins;
use queue::{Entered, Queue};
use retry::RetryBudget;
use select::Candidate;

/// The largest weight of a node.
pub const WEIGHT_MAX: u32 = 1_000;

/// The origins.
pub struct Pool {
    nodes: RwLock<Arc<[Arc<Node>]>>,
    rules: RwLock<Arc<Rules>>,
    origins: RwLock<Origins>,
    queue: Arc<Queue>,
    queued: AtomicU64,
    refused: AtomicU64,
    retries: AtomicU64,
    retries_refused: AtomicU64,
    random: AtomicU64,
    next_id: AtomicU64,
}

/// What of the configuration applies to every pick.
struct Rules {
    algorithm: Algorithm,
    in_flight_max: usize,
    slow_start: Duration,
    queue_max: usize,
    queue_wait: Duration,
    panic_percent: u32,
    ejection: config::Ejection,
    budget: RetryBudget,
}

impl Rules {
    fn new(upstream: &config::Upstream) -> Self {
        Self {
            algorithm: upstream.balance,
            in_flight_max: upstream.in_flight_max,
            slow_start: upstream.slow_start,
            queue_max: upstream.queue_max,
            queue_wait: upstream.queue_wait,
            panic_percent: upstream.panic_percent,
            ejection: upstream.ejection.clone(),
            budget: RetryBudget::new(upstream.retry_percent, upstream.in_flight_max),
        }
    }
}

/// Why no node could be picked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum NoNode {
    /// Every node has as many requests in flight as it may have, and no place came free in time.
    #[error("every origin is at its limit of requests in flight")]
    Full,
    /// The request has tried them all.
    #[error("every origin has been tried")]
    Tried,
    /// Operators keep requests from all of them, or have removed them.
    #[error("every origin is drained or removed")]
    Drained,
    /// The last health check of each of them met nobody: connecting would take its whole timeout, at one after the other.
    #[error("no origin can be reached")]
    Absent,
}

/// Why an operator's order about a node cannot be followed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BadOrder {
    /// No node has this address or name.
    #[error("no origin has the address or name {0}")]
    Unknown(String),
    /// A node that is to be added is there.
    #[error("{0} is an origin already")]
    Known(String),
    /// No other node would take requests.
    #[error("no origin would be left that takes requests but {0}")]
    Last(String),
    /// There are as many as there may be.
    #[error("there are {NODES_MAX} origins, the most that there may be")]
    TooMany,
    /// A weight outside its bounds.
    #[error("a weight is between 1 and {WEIGHT_MAX}")]
    Weight,
}

/// What operators see of the whole.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct BalanceStatus {
    /// Requests that wait for a place now.
    pub waiting: usize,
    /// Requests that waited for a place since start.
    pub queued: u64,
    /// Requests that found no place since start.
    pub refused: u64,
    /// Further attempts since start.
    pub retries: u64,
    /// Further attempts that the budget did not allow since start.
    pub retries_refused: u64,
}

impl Pool {
    /// A pool of nodes at these places; `random` is any number, the start of what is drawn.
    pub fn new(places: Vec<Place>, upstream: &config::Upstream, random: u64) -> Self {
        let pool = Self {
            nodes: RwLock::new(Arc::from([])),
            rules: RwLock::new(Arc::new(Rules::new(upstream))),
            origins: RwLock::new(Origins::new(&upstream.nodes)),
            queue: Arc::default(),
            queued: AtomicU64::new(0),
            refused: AtomicU64::new(0),
            retries: AtomicU64::new(0),
            retries_refused: AtomicU64::new(0),
            random: AtomicU64::new(random),
            next_id: AtomicU64::new(0),
        };
        let nodes: Arc<[_]> = places.into_iter().map(|place| pool.node(place)).collect();
        *pool.nodes.write() = nodes;
        pool
    }

    fn node(&self, place: Place) -> Arc<Node> {
        let id = self.next_id.fetch_add(1, Ordering::Relaxed);
        Arc::new(Node::new(id, place))
    }

    /// All nodes, in the order of the configuration.
    pub fn nodes(&self) -> Arc<[Arc<Node>]> {
        Arc::clone(&self.nodes.read())
    }

    fn rules(&self) -> Arc<Rules> {
        Arc::clone(&self.rules.read())
    }

    /// Uses other settings from the next request on; the nodes stay.
    pub fn configure(&self, upstream: &config::Upstream) {
        *self.rules.write() = Arc::new(Rules::new(upstream));
    }

    /// Uses these places from the next request on. A node that has one of them stays as it is, but for its weight; a new one
    /// starts slowly; one that has none ends when its requests have.
    pub fn set_places(&self, places: Vec<Place>, now: Instant) {
        let weights: Vec<_> = places.iter().map(|place| place.weight).collect();
        let mut nodes = self.nodes.write();
        let next = self.merge(&nodes, places, now);
        for (node, weight) in next.iter().zip(weights) {
            node.set_weight(weight);
        }
        *nodes = next;
    }

    /// The same for the places of one origin, whose name has been resolved again. No place at all changes nothing.
    pub fn set_places_of(&self, origin: usize, places: Vec<Place>, now: Instant) {
        if places.is_empty() {
            return;
        }
        let mut nodes = self.nodes.write();
        let others = nodes.iter().filter(|node| node.origin() != origin);
        let known = |node: &Arc<Node>| Place {
            origin: node.origin(),
            ..node.place().clone()
        };
        let mut all: Vec<_> = others.map(known).chain(places).collect();
        all.sort_by_key(|place| place.origin); // stable: the order within an origin stays
        let next = self.merge(&nodes, all, now);
        *nodes = next;
    }

    fn merge(&self, nodes: &[Arc<Node>], places: Vec<Place>, now: Instant) -> Arc<[Arc<Node>]> {
        let serves_at = |node: &Node, place: &Place| {
            let own = node.place();
            (&own.name, own.address) == (&place.name, place.address)
        };
        let is_at = |node: &Node, place: &Place| {
            let own = node.place();
            let checked = (own.check_at, own.checks_private);
            serves_at(node, place) && checked == (place.check_at, place.checks_private)
        };
        for node in nodes {
            if !places.iter().any(|place| is_at(node, place)) {
                node.set_gone();
            }
        }
        let place_node = |place: Place| {
            if let Some(node) = nodes.iter().find(|node| is_at(node, &place)) {
                node.set_origin(place.origin);
                return Arc::clone(node);
            }
            // Checked elsewhere from now on: a drain is about where it serves.
            let same = nodes.iter().find(|node| serves_at(node, &place));
            let is_drained = same.is_some_and(|node| node.is_drained());
            let node = self.node(place);
            node.come_in(now);
            node.set_drained(is_drained, now);
            node
        };
        places.into_iter().map(place_node).collect()
    }

    /// A place at the best node that `tried` does not hold; while all are full the request waits for one, a short time.
    ///
    /// # Errors
    /// There is none.
    pub async fn lease(&self, tried: &[NodeId], now: Instant) -> Result<Lease, NoNode> {
        let rules = self.rules();
        let leased = match self.pick(tried, now) {
            Err(NoNode::Full) => self.stand_in_line(tried, now, &rules).await,
            other => other,
        };
        if leased.is_err() {
            self.refused.fetch_add(1, Ordering::Relaxed);
        }
        leased
    }

    async fn stand_in_line(
        &self,
        tried: &[NodeId],
        now: Instant,
        rules: &Rules,
    ) -> Result<Lease, NoNode> {
        let entered = self
            .queue
            .enter(tried, rules.queue_max, || self.pick(tried, now).ok());
        match entered {
            Entered::Served(lease) => Ok(lease),
            Entered::Full => Err(NoNode::Full),
            Entered::Waiting(waiting) => {
                self.queued.fetch_add(1, Ordering::Relaxed);
                waiting.within(rules.queue_wait).await.ok_or(NoNode::Full)
            }
        }
    }

    /// Takes a place at the best node that `tried` does not hold, if there is one at once.
    ///
    /// # Errors
    /// There is none.
    pub fn pick(&self, tried: &[NodeId], now: Instant) -> Result<Lease, NoNode> {
        let (nodes, rules) = (self.nodes(), self.rules());
        let usable = usable(&nodes, tried, now, rules.panic_percent)?;
        // Two turns: between the look at the counts and the reservation others may have taken the last place.
        for _ in 0..2 {
            let free: Vec<_> = usable
                .iter()
                .filter(|node| node.in_flight() < rules.in_flight_max)
                .collect();
            let candidates: Vec<_> = free
                .iter()
                .map(|node| Candidate {
                    in_flight: node.in_flight(),
                    weight: node.share(now, rules.slow_start),
                    credit: node.credit(),
                })
                .collect();
            if let Some(index) = select::choose(rules.algorithm, &candidates, self.random())
                && let Some(lease) = Lease::take(free[index], &self.queue, rules.in_flight_max)
            {
                return Ok(lease);
            }
        }
        Err(NoNode::Full)
    }

    /// 64 random bits.
    pub(crate) fn random(&self) -> u64 {
        const STEP: u64 = 0x9e37_79b9_7f4a_7c15;
        let mut bits = self
            .random
            .fetch_add(STEP, Ordering::Relaxed)
            .wrapping_add(STEP);
        bits = (bits ^ (bits >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        bits = (bits ^ (bits >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        bits ^ (bits >> 31)
    }

    /// Notes how a request at a node ended; a node that fails is passed over for a while.
    pub fn note(&self, node: &Node, outcome: Outcome, now: Instant) {
        let rules = self.rules();
        if let Some(length) = node.note(outcome, now, &rules.ejection) {
            tracing::warn!(node = %node.address(), ?outcome, ?length, "passed over for its failures");
        }
    }

    /// Keeps new requests from a node, or from all nodes of a name; those in flight end as they will.
    ///
    /// # Errors
    /// No node of that address or name.
    pub fn drain(&self, node: &str, now: Instant) -> Result<(), BadOrder> {
        self.order(node, |node| node.set_drained(true, now))
    }

    /// Ends a drain; the node starts slowly.
    ///
    /// # Errors
    /// No node of that address or name.
    pub fn enable(&self, node: &str, now: Instant) -> Result<(), BadOrder> {
        self.order(node, |node| node.set_drained(false, now))
    }

    /// Gives a node, or all nodes of a name, another weight.
    ///
    /// # Errors
    /// No node of that address or name, or no weight.
    pub fn set_weight(&self, node: &str, weight: u32) -> Result<(), BadOrder> {
        if !(1..=WEIGHT_MAX).contains(&weight) {
            return Err(BadOrder::Weight);
        }
        self.order(node, |node| node.set_weight(weight))
    }

    fn order(&self, name: &str, follow: impl Fn(&Node)) -> Result<(), BadOrder> {
        let nodes = self.nodes();
        let named =
            |node: &&Arc<Node>| node.place().name == name || node.address().to_string() == name;
        let mut found = nodes.iter().filter(named).peekable();
        if found.peek().is_none() {
            return Err(BadOrder::Unknown(name.to_owned()));
        }
        found.for_each(|node| follow(node));
        Ok(())
    }

    /// What operators see.
    pub fn status(&self) -> BalanceStatus {
        BalanceStatus {
            waiting: self.queue.len(),
            queued: self.queued.load(Ordering::Relaxed),
            refused: self.refused.load(Ordering::Relaxed),
            retries: self.retries.load(Ordering::Relaxed),
            retries_refused: self.retries_refused.load(Ordering::Relaxed),
        }
    }
}

/// The nodes that a request may go to: those that serve; when too few do, or when it has tried those, all where somebody
/// is.
fn usable<'n>(
    nodes: &'n [Arc<Node>],
    tried: &[NodeId],
    now: Instant,
    panic_percent: u32,
) -> Result<Vec<&'n Arc<Node>>, NoNode> {
    let open: Vec<_> = nodes.iter().filter(|node| !node.is_drained()).collect();
    if open.is_empty() {
        return Err(NoNode::Drained);
    }
    let mut untried = open.clone();
    untried.retain(|node| !node.is_absent());
    if untried.is_empty() {
        return Err(NoNode::Absent);
    }
    let serving = open.iter().filter(|node| node.is_available(now)).count();
    let panics = serving * 100 < open.len() * panic_percent as usize;
    untried.retain(|node| !tried.contains(&node.id()));
    if untried.is_empty() {
        return Err(NoNode::Tried);
    }
    let serves = |node: &&Arc<Node>| node.is_available(now);
    if !panics && untried.iter().any(serves) {
        untried.retain(serves);
    }
    Ok(untried)
}

#[cfg(test)]
mod tests;
