//! What operators order about the list of origins while requests run.

use std::sync::Arc;
use std::time::Instant;

use super::node::{NodeStatus, Place};
use super::origins::{Found, Origin, Origins, Source, places_in};
use super::{BadOrder, Pool, WEIGHT_MAX};
use crate::config::{self, Address, NODES_MAX};

impl Pool {
    /// The origins that the places are those of.
    pub(crate) fn origins(&self) -> Arc<[Origin]> {
        Arc::clone(&self.origins.read().list)
    }

    /// The private listeners of the origins, of those that name one.
    pub fn private_listeners(&self) -> Vec<Address> {
        let origins = self.origins();
        let origins = origins.iter();
        origins
            .filter_map(|origin| origin.node.private.clone())
            .collect()
    }

    /// The names of the origins that operators added, and of the configured ones that they removed.
    pub fn ordered(&self) -> (Vec<String>, Vec<String>) {
        self.origins.read().ordered()
    }

    /// Uses other configured origins, found at these places, from the next request on; see [`Pool::set_places`]. What
    /// operators added stays unless it is among them, what they removed stays out as long as it is.
    pub fn set_origins(&self, configured: &[config::Node], places: &[Place], now: Instant) {
        let mut origins = self.origins.write();
        let next = origins.configure(configured, places);
        self.replace(&mut origins, next, now);
    }

    /// Adds an origin, found at these places; it starts slowly.
    ///
    /// # Errors
    /// One of this address is there, there are [`NODES_MAX`], or no weight.
    pub fn add(
        &self,
        node: config::Node,
        places: Vec<Place>,
        now: Instant,
    ) -> Result<(), BadOrder> {
        if !(1..=WEIGHT_MAX).contains(&node.weight) {
            return Err(BadOrder::Weight);
        }
        let mut origins = self.origins.write();
        if origins.position(&node.address).is_some() {
            return Err(BadOrder::Known(node.address.to_string()));
        }
        if origins.list.len() >= NODES_MAX {
            return Err(BadOrder::TooMany);
        }
        let next = origins.add(node, places);
        self.replace(&mut origins, next, now);
        Ok(())
    }

    /// Keeps new requests from an origin for good; those in flight end as they will.
    ///
    /// # Errors
    /// None has this address, or no other would take requests and `even_last` is false.
    pub fn remove(&self, address: &Address, even_last: bool, now: Instant) -> Result<(), BadOrder> {
        let mut origins = self.origins.write();
        let Some(at) = origins.position(address) else {
            return Err(BadOrder::Unknown(address.to_string()));
        };
        let nodes = self.nodes();
        let mut others = nodes.iter().filter(|node| node.origin() != at);
        if !even_last && others.all(|node| node.is_drained()) {
            return Err(BadOrder::Last(address.to_string()));
        }
        let next = origins.remove(at);
        self.replace(&mut origins, next, now);
        Ok(())
    }

    fn replace(&self, origins: &mut Origins, next: Vec<(Origin, Found)>, now: Instant) {
        let places = places_in(&next, &self.nodes());
        origins.list = next.into_iter().map(|(origin, _)| origin).collect();
        self.set_places(places, now);
    }

    /// Takes what a look-up of an origin's name found, unless the origins are others by now than those that were asked
    /// about. Whether it was taken.
    pub(super) fn refresh(
        &self,
        asked: &Arc<[Origin]>,
        origin: usize,
        places: Vec<Place>,
        now: Instant,
    ) -> bool {
        let origins = self.origins.read();
        let are_same = Arc::ptr_eq(&origins.list, asked);
        if are_same {
            self.set_places_of(origin, places, now);
        }
        are_same
    }

    /// What operators see of every node, in the order of their origins.
    pub fn node_statuses(&self, now: Instant) -> Vec<NodeStatus> {
        let origins = self.origins.read();
        let source = |at: usize| {
            let origin = origins.list.get(at);
            origin.map_or(Source::Configured, |origin| origin.source)
        };
        let nodes = self.nodes();
        let nodes = nodes.iter();
        nodes
            .map(|node| node.status(source(node.origin()), now))
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use std::net::SocketAddr;

    use super::*;
    use crate::balance::{NoNode, places_of};
    use crate::config::Upstream;

    fn node(number: usize) -> config::Node {
        let address = SocketAddr::from(([10, 0, 0, 1], u16::try_from(number).unwrap()));
        Address::Ip(address).into()
    }

    fn pool(configured: &[config::Node]) -> Pool {
        let upstream = Upstream {
            nodes: configured.to_vec(),
            ..Upstream::default()
        };
        Pool::new(places_of(configured).unwrap(), &upstream, 7)
    }

    fn add(pool: &Pool, node: &config::Node, now: Instant) -> Result<(), BadOrder> {
        let places = places_of(std::slice::from_ref(node)).unwrap();
        pool.add(node.clone(), places, now)
    }

    fn configure(pool: &Pool, configured: &[config::Node], now: Instant) {
        pool.set_origins(configured, &places_of(configured).unwrap(), now);
    }

    /// Port and source of every node.
    fn told(pool: &Pool, now: Instant) -> Vec<(u16, Source)> {
        let statuses = pool.node_statuses(now).into_iter();
        statuses
            .map(|status| {
                let address: SocketAddr = status.address.parse().unwrap();
                (address.port(), status.source)
            })
            .collect()
    }

    #[test]
    fn what_is_added_stays_over_reloads_until_the_file_names_it() {
        let pool = pool(&[node(1)]);
        let now = Instant::now();
        add(&pool, &node(2), now).unwrap();
        pool.set_weight("10.0.0.1:2", 7).unwrap();
        assert_eq!(
            told(&pool, now),
            [(1, Source::Configured), (2, Source::Added)]
        );
        configure(&pool, &[node(3), node(4)], now);
        let kept = [
            (3, Source::Configured),
            (4, Source::Configured),
            (2, Source::Added),
        ];
        assert_eq!(told(&pool, now), kept);
        assert_eq!(pool.node_statuses(now)[2].weight, 7);
        assert_eq!(pool.ordered().0, ["10.0.0.1:2"]);
        configure(&pool, &[node(2), node(3)], now);
        let named = [(2, Source::Configured), (3, Source::Configured)];
        assert_eq!(told(&pool, now), named);
        configure(&pool, &[node(3)], now);
        assert_eq!(told(&pool, now), [(3, Source::Configured)]);
    }

    #[test]
    fn what_is_removed_stays_out_until_it_is_added_or_a_file_does_not_name_it() {
        let file = [node(1), node(2)];
        let pool = pool(&file);
        let now = Instant::now();
        pool.remove(&node(1).address, false, now).unwrap();
        configure(&pool, &file, now);
        assert_eq!(told(&pool, now), [(2, Source::Configured)]);
        assert_eq!(pool.ordered().1, ["10.0.0.1:1"]);
        add(&pool, &node(1), now).unwrap();
        let both = [(2, Source::Configured), (1, Source::Configured)];
        assert_eq!(told(&pool, now), both);
        pool.remove(&node(1).address, false, now).unwrap();
        configure(&pool, &[node(2)], now);
        assert_eq!(pool.ordered().1, Vec::<String>::new());
        configure(&pool, &file, now);
        assert_eq!(told(&pool, now).len(), 2);
    }

    #[test]
    fn requests_at_a_removed_node_end_as_they_will_and_no_new_one_comes() {
        let pool = pool(&[node(1), node(2)]);
        let now = Instant::now();
        let begun = pool.pick(&[], now).unwrap();
        let address = Address::Ip(begun.node().address());
        pool.remove(&address, false, now).unwrap();
        for _ in 0..4 {
            assert_ne!(pool.pick(&[], now).unwrap().node().id(), begun.node().id());
        }
        assert!(begun.node().is_gone());
        assert_eq!(begun.node().in_flight(), 1);
        let unknown = BadOrder::Unknown(address.to_string());
        assert_eq!(pool.remove(&address, false, now), Err(unknown));
    }

    #[test]
    fn the_last_one_that_takes_requests_is_removed_only_if_that_is_asked_for() {
        let pool = pool(&[node(1), node(2)]);
        let now = Instant::now();
        let last = node(1).address;
        pool.drain("10.0.0.1:2", now).unwrap();
        let refused = Err(BadOrder::Last("10.0.0.1:1".to_owned()));
        assert_eq!(pool.remove(&last, false, now), refused);
        pool.remove(&node(2).address, false, now).unwrap();
        assert_eq!(pool.remove(&last, false, now), refused);
        pool.remove(&last, true, now).unwrap();
        assert_eq!(pool.pick(&[], now).unwrap_err(), NoNode::Drained);
        add(&pool, &node(3), now).unwrap();
        assert!(pool.pick(&[], now).is_ok());
    }

    #[test]
    fn there_are_only_so_many_and_none_twice() {
        let pool = pool(&[node(1)]);
        let now = Instant::now();
        let known = BadOrder::Known("10.0.0.1:1".to_owned());
        assert_eq!(add(&pool, &node(1), now), Err(known));
        for weight in [0, WEIGHT_MAX + 1] {
            let weighed = config::Node { weight, ..node(2) };
            assert_eq!(add(&pool, &weighed, now), Err(BadOrder::Weight));
        }
        for number in 2..=NODES_MAX {
            add(&pool, &node(number), now).unwrap();
        }
        let one_more = node(NODES_MAX + 1);
        assert_eq!(add(&pool, &one_more, now), Err(BadOrder::TooMany));
    }

    #[test]
    fn a_look_up_that_began_before_the_list_changed_is_not_taken() {
        let pool = pool(&[node(1), node(2)]);
        let now = Instant::now();
        let asked = pool.origins();
        let moved = places_of(&[node(9)]).unwrap();
        pool.remove(&node(1).address, false, now).unwrap();
        assert!(!pool.refresh(&asked, 0, moved.clone(), now));
        assert_eq!(told(&pool, now), [(2, Source::Configured)]);
        assert!(pool.refresh(&pool.origins(), 0, moved, now));
        assert_eq!(told(&pool, now), [(9, Source::Configured)]);
    }
}
