//! What operators have ordered about the origins, as a process tells the one that replaces it.
//!
//! The text is JSON with a number for its form: a process that does not know the form takes nothing over, and members that it
//! does not know say nothing. Where the addresses of an added origin were is told too, so that none is looked up meanwhile.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Instant;

use serde::{Deserialize, Serialize};

use super::node::{Node, Place};
use super::origins::{Origin, Source};
use super::{Pool, WEIGHT_MAX};
use crate::config::{self, Address};

/// The form that is written and understood here.
const FORM: u32 = 1;

/// Every order that is in force.
#[derive(Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Orders {
    form: u32,
    added: Vec<Added>,
    removed: Vec<Address>,
    nodes: Vec<Ordered>,
}

/// An origin that is not the configuration's.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Added {
    address: Address,
    weight: u32,
    private: Option<Address>,
    found: Vec<Found>,
}

/// Where a node of it serves, and where its health is asked.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Found {
    address: SocketAddr,
    check_at: SocketAddr,
}

/// A node that is not as its origin was named.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Ordered {
    name: String,
    address: SocketAddr,
    drained: bool,
    weight: Option<Weight>,
}

/// A weight, and the one that its origin was named with.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
struct Weight {
    ordered: u32,
    instead_of: u32,
}

impl Orders {
    /// Reads what [`Orders::to_text`] of this or another version wrote.
    ///
    /// # Errors
    /// It is no such text, or of a form that is not known here.
    pub fn from_text(text: &str) -> anyhow::Result<Self> {
        let orders: Self = serde_json::from_str(text)?;
        anyhow::ensure!(orders.form == FORM, "form {} is not known", orders.form);
        Ok(orders)
    }

    /// As another process reads them.
    ///
    /// # Errors
    /// None that is known: there are strings and numbers.
    pub fn to_text(&self) -> serde_json::Result<String> {
        serde_json::to_string(self)
    }
}

impl Pool {
    /// What operators have ordered about the origins and is in force.
    pub fn orders(&self) -> Orders {
        let origins = self.origins.read();
        let nodes = self.nodes();
        let of = |at: usize| nodes.iter().filter(move |node| node.origin() == at);
        let found = |node: &Arc<Node>| Found {
            address: node.address(),
            check_at: node.place().check_at,
        };
        let list = origins.list.iter().enumerate();
        let added = list.filter(|(_, origin)| origin.source == Source::Added);
        let added = added.map(|(at, origin)| Added {
            address: origin.node.address.clone(),
            weight: origin.node.weight,
            private: origin.node.private.clone(),
            found: of(at).map(found).collect(),
        });
        let ordered = nodes.iter().filter_map(|node| {
            let weight = weight_of(node, origins.list.get(node.origin())?);
            let is_ordered = node.is_drained() || weight.is_some();
            is_ordered.then(|| Ordered {
                name: node.place().name.clone(),
                address: node.address(),
                drained: node.is_drained(),
                weight,
            })
        });
        Orders {
            form: FORM,
            added: added.collect(),
            removed: origins.removed().to_vec(),
            nodes: ordered.collect(),
        }
    }

    /// Goes on with the orders of the process of before: before the first request, so that an added origin starts as all
    /// others do. What the configuration names is the configuration's, and so is a weight that it has changed since.
    pub fn go_on_with(&self, orders: Orders, now: Instant) {
        for removed in &orders.removed {
            if let Err(refused) = self.remove(removed, true, now) {
                tracing::info!(%refused, "an origin that was removed is not removed again");
            }
        }
        for added in orders.added {
            let places = added.places();
            let node = config::Node {
                address: added.address,
                weight: added.weight,
                private: added.private,
            };
            if let Err(refused) = self.add(node, places, now) {
                tracing::info!(%refused, "an origin that was added is not added again");
            }
        }
        let origins = self.origins.read();
        for node in self.nodes().iter() {
            node.skip_slow_start();
            let is_about = |ordered: &&Ordered| {
                (&ordered.name, ordered.address) == (&node.place().name, node.address())
            };
            let Some(ordered) = orders.nodes.iter().find(is_about) else {
                continue;
            };
            node.set_drained(ordered.drained, now);
            let named = origins.list.get(node.origin());
            let named = named.map(|origin| origin.node.weight);
            if let Some(weight) = ordered.weight
                && named == Some(weight.instead_of)
                && (1..=WEIGHT_MAX).contains(&weight.ordered)
            {
                node.set_weight(weight.ordered);
            }
        }
    }
}

impl Added {
    fn places(&self) -> Vec<Place> {
        let place = |found: &Found| Place {
            origin: 0, // the pool knows it
            name: self.address.to_string(),
            address: found.address,
            check_at: found.check_at,
            checks_private: self.private.is_some(),
            weight: self.weight,
        };
        self.found.iter().map(place).collect()
    }
}

fn weight_of(node: &Node, origin: &Origin) -> Option<Weight> {
    let weight = Weight {
        ordered: node.weight(),
        instead_of: origin.node.weight,
    };
    (weight.ordered != weight.instead_of).then_some(weight)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::balance::places_of;
    use crate::config::Upstream;

    fn node(port: u16, weight: u32) -> config::Node {
        config::Node {
            weight,
            ..Address::Ip(([10, 0, 0, 1], port).into()).into()
        }
    }

    fn pool(nodes: &[config::Node]) -> Pool {
        let upstream = Upstream {
            nodes: nodes.to_vec(),
            ..Upstream::default()
        };
        Pool::new(places_of(nodes).unwrap(), &upstream, 7)
    }

    /// Port, source, weight and whether it is drained of every node.
    fn told(pool: &Pool, now: Instant) -> Vec<(u16, Source, u32, bool)> {
        let statuses = pool.node_statuses(now).into_iter();
        statuses
            .map(|node| {
                let address: SocketAddr = node.address.parse().unwrap();
                (address.port(), node.source, node.weight, node.drained)
            })
            .collect()
    }

    fn ordered(now: Instant) -> Pool {
        let pool = pool(&[node(1, 1), node(2, 1), node(3, 2)]);
        let added = config::Node {
            private: Some("10.0.0.1:40".parse().unwrap()),
            ..node(4, 5)
        };
        let places = places_of(std::slice::from_ref(&added)).unwrap();
        pool.add(added, places, now).unwrap();
        pool.remove(&node(1, 1).address, false, now).unwrap();
        pool.drain("10.0.0.1:2", now).unwrap();
        pool.drain("10.0.0.1:4", now).unwrap();
        pool.set_weight("10.0.0.1:3", 7).unwrap();
        pool.set_weight("10.0.0.1:4", 9).unwrap();
        pool
    }

    fn hand_over(from: &Pool, to: &Pool, now: Instant) {
        let text = from.orders().to_text().unwrap();
        to.go_on_with(Orders::from_text(&text).unwrap(), now);
    }

    #[test]
    fn all_that_was_ordered_goes_on_and_can_be_handed_on_again() {
        let now = Instant::now();
        let before = ordered(now);
        let (next, last) = (
            pool(&[node(1, 1), node(2, 1), node(3, 2)]),
            pool(&[node(1, 1), node(2, 1), node(3, 2)]),
        );
        hand_over(&before, &next, now);
        hand_over(&next, &last, now);
        for pool in [&next, &last] {
            assert_eq!(told(pool, now), told(&before, now));
            assert_eq!(pool.ordered(), before.ordered());
            assert_eq!(pool.orders(), before.orders());
            assert_eq!(pool.private_listeners(), before.private_listeners());
            let added = &pool.nodes()[2];
            assert_eq!(added.place().check_at.port(), 40);
            let slow = Duration::from_secs(5);
            assert_eq!(added.share(now, slow), 9_000, "it has been warm");
        }
    }

    #[test]
    fn the_new_file_wins_where_it_says_something_else() {
        let now = Instant::now();
        let next = pool(&[node(5, 1), node(4, 3), node(3, 4)]);
        hand_over(&ordered(now), &next, now);
        let expected = [
            (5, Source::Configured, 1, false),
            (4, Source::Configured, 3, true),
            (3, Source::Configured, 4, false),
        ];
        assert_eq!(told(&next, now), expected);
        assert_eq!(next.ordered(), (Vec::new(), Vec::new()));
    }

    #[test]
    fn without_orders_nothing_is_handed_over() {
        let now = Instant::now();
        let (before, next) = (pool(&[node(1, 1), node(2, 3)]), pool(&[node(1, 2)]));
        hand_over(&before, &next, now);
        assert_eq!(told(&next, now), [(1, Source::Configured, 2, false)]);
    }

    #[test]
    fn another_version_may_know_more_and_another_form_is_left_alone() {
        let more = r#"{"form": 1, "more": [1], "removed": ["10.0.0.1:1"]}"#;
        assert_eq!(Orders::from_text(more).unwrap().removed.len(), 1);
        for other in [
            "",
            "{}",
            "[]",
            r#"{"form": 2}"#,
            r#"{"form": 1, "removed": ["x"]}"#,
        ] {
            assert!(Orders::from_text(other).is_err(), "{other}");
        }
    }
}
