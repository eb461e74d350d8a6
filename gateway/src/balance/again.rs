//! Whether a request is sent once more: where it would go, and by the account of further attempts.

use std::sync::atomic::Ordering;
use std::time::Instant;

use super::{NodeId, Pool};

impl Pool {
    /// Notes that a request makes its first attempt, of which a share is for further ones.
    pub fn pay(&self) {
        self.rules().budget.pay();
    }

    /// Whether a request may be tried once more at another node, by how many nodes take requests and by the budget, from which
    /// the attempt is then taken.
    pub fn may_retry(&self, tried: &[NodeId], attempts_max: usize) -> bool {
        tried.len() < attempts_max && !self.has_tried_all(tried) && self.grant()
    }

    /// Whether a request may be sent once more that met the end of a kept connection at the last node of `tried`, by the budget.
    /// That says nothing against the node: where no other serves, or none more may be tried, it is as if untried.
    pub fn may_repeat(&self, tried: &mut Vec<NodeId>, attempts_max: usize, now: Instant) -> bool {
        let is_granted = self.grant();
        if is_granted && (tried.len() >= attempts_max || !self.serves_elsewhere(tried, now)) {
            tried.pop();
        }
        is_granted
    }

    fn grant(&self) -> bool {
        let is_granted = self.rules().budget.take();
        // Counted here: the budget is another after a reload.
        let counter = match is_granted {
            true => &self.retries,
            false => &self.retries_refused,
        };
        counter.fetch_add(1, Ordering::Relaxed);
        is_granted
    }

    /// Whether no node that takes requests is left.
    fn has_tried_all(&self, tried: &[NodeId]) -> bool {
        let nodes = self.nodes();
        let mut taking = nodes.iter().filter(|node| !node.is_drained());
        taking.all(|node| tried.contains(&node.id()))
    }

    /// Whether a node that is well takes requests, has a place for one, and has not been tried.
    fn serves_elsewhere(&self, tried: &[NodeId], now: Instant) -> bool {
        let nodes = self.nodes();
        let in_flight_max = self.rules().in_flight_max;
        let mut serving = nodes.iter().filter(|node| {
            !node.is_drained() && node.is_available(now) && node.in_flight() < in_flight_max
        });
        serving.any(|node| !tried.contains(&node.id()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::balance::places_of;
    use crate::config::{self, Address, Upstream};

    fn pool(nodes: u16, retry_percent: u32) -> Pool {
        let node = |port| config::Node::from(Address::Ip(([10, 0, 0, 1], port).into()));
        let upstream = Upstream {
            nodes: (1..=nodes).map(node).collect(),
            in_flight_max: 4,
            retry_percent,
            ..Upstream::default()
        };
        Pool::new(places_of(&upstream.nodes).unwrap(), &upstream, 7)
    }

    #[test]
    fn after_the_end_of_a_kept_connection_the_same_node_is_asked_only_where_no_other_serves() {
        let (one, two) = (pool(1, 20), pool(2, 20));
        let now = Instant::now();
        let mut tried = vec![one.nodes()[0].id()];
        assert!(one.may_repeat(&mut tried, 3, now) && tried.is_empty());
        let first = two.nodes()[0].id();
        let mut tried = vec![first];
        assert!(two.may_repeat(&mut tried, 3, now));
        assert_eq!(tried, [first]);
        assert!(
            two.may_repeat(&mut tried, 1, now) && tried.is_empty(),
            "only one may be tried"
        );
        two.nodes()[1].set_healthy(false, now);
        let mut tried = vec![first];
        assert!(
            two.may_repeat(&mut tried, 3, now) && tried.is_empty(),
            "the other is ill"
        );
        two.nodes()[1].set_healthy(true, now);
        two.drain("10.0.0.1:2", now).unwrap();
        let mut tried = vec![first];
        assert!(
            two.may_repeat(&mut tried, 3, now) && tried.is_empty(),
            "the other is drained"
        );
    }

    #[test]
    fn without_a_budget_nothing_is_sent_once_more() {
        let pool = pool(1, 0);
        let only = pool.nodes()[0].id();
        let mut tried = vec![only];
        assert!(!pool.may_repeat(&mut tried, 3, Instant::now()));
        assert_eq!(tried, [only]);
        assert_eq!(pool.status().retries_refused, 1);
    }
}
