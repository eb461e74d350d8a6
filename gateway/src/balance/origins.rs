//! Which origins there are: those of the configuration, and what operators added to them or removed since the start.
//!
//! An operator's order lives until the next start, which an upgrade is not. An added origin stays over reloads; once the file names it, it is one of the
//! file's. A removed one stays out until it is added again, or until a file has been taken over that does not name it.

use std::sync::Arc;

use serde::Serialize;
use utoipa::ToSchema;

use super::node::{Node, Place};
use crate::config::{self, Address};

/// Who named an origin.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Source {
    /// The configuration.
    Configured,
    /// An operator, since the start.
    Added,
}

/// An origin that is used.
#[derive(Debug, Clone)]
pub(crate) struct Origin {
    /// How it was named.
    pub(crate) node: config::Node,
    pub(super) source: Source,
}

impl Origin {
    fn configured(node: &config::Node) -> Self {
        Self {
            node: node.clone(),
            source: Source::Configured,
        }
    }
}

/// Where the nodes of an origin are.
pub(super) enum Found {
    /// Where those of the origin are that has this place in the list of before.
    Before(usize),
    /// Where the look-up of its name found them.
    Now(Vec<Place>),
}

/// All origins.
#[derive(Debug)]
pub(super) struct Origins {
    /// Those that are used; a node knows its origin by the place in this list.
    pub(super) list: Arc<[Origin]>,
    /// Configured ones that an operator has removed.
    removed: Vec<Address>,
}

impl Origins {
    /// Those of the configuration.
    pub(super) fn new(configured: &[config::Node]) -> Self {
        Self {
            list: configured.iter().map(Origin::configured).collect(),
            removed: Vec::new(),
        }
    }

    pub(super) fn position(&self, address: &Address) -> Option<usize> {
        let mut list = self.list.iter();
        list.position(|origin| origin.node.address == *address)
    }

    /// The names of added ones, and of configured ones that are removed.
    pub(super) fn ordered(&self) -> (Vec<String>, Vec<String>) {
        let list = self.list.iter();
        let added = list.filter(|origin| origin.source == Source::Added);
        let added = added.map(|origin| origin.node.address.to_string());
        let removed = self.removed.iter().map(Address::to_string);
        (added.collect(), removed.collect())
    }

    /// The configured ones that are removed.
    pub(super) fn removed(&self) -> &[Address] {
        &self.removed
    }

    /// The list with one more, found at these places. One that was removed is the configuration's again.
    pub(super) fn add(&mut self, node: config::Node, places: Vec<Place>) -> Vec<(Origin, Found)> {
        let removed = self.removed.len();
        self.removed.retain(|address| *address != node.address);
        let source = match self.removed.len() == removed {
            true => Source::Added,
            false => Source::Configured,
        };
        let mut next = self.all();
        next.push((Origin { node, source }, Found::Now(places)));
        next
    }

    /// The list without the one at this place.
    pub(super) fn remove(&mut self, at: usize) -> Vec<(Origin, Found)> {
        let mut next = self.all();
        let (origin, _) = next.remove(at);
        if origin.source == Source::Configured {
            self.removed.push(origin.node.address);
        }
        next
    }

    /// The list when the configuration names these, found at these places: without those that are removed, and with the
    /// added ones that it does not name.
    pub(super) fn configure(
        &mut self,
        configured: &[config::Node],
        places: &[Place],
    ) -> Vec<(Origin, Found)> {
        let is_named = |address: &Address| configured.iter().any(|node| node.address == *address);
        self.removed.retain(is_named);
        let used = configured.iter().enumerate();
        let used = used.filter(|(_, node)| !self.removed.contains(&node.address));
        let mut next: Vec<_> = used
            .map(|(index, node)| {
                let found = places.iter().filter(|place| place.origin == index);
                (
                    Origin::configured(node),
                    Found::Now(found.cloned().collect()),
                )
            })
            .collect();
        let mut kept = self.all();
        kept.retain(|(origin, _)| {
            origin.source == Source::Added && !is_named(&origin.node.address)
        });
        next.append(&mut kept);
        next
    }

    fn all(&self) -> Vec<(Origin, Found)> {
        let list = self.list.iter().cloned().enumerate();
        list.map(|(at, origin)| (origin, Found::Before(at)))
            .collect()
    }
}

/// The places of a list of origins; `nodes` are those of the list of before, and keep the weight that they have.
pub(super) fn places_in(next: &[(Origin, Found)], nodes: &[Arc<Node>]) -> Vec<Place> {
    let mut places = Vec::new();
    for (origin, (_, found)) in next.iter().enumerate() {
        match found {
            Found::Now(found) => {
                let found = found.iter().cloned();
                places.extend(found.map(|place| Place { origin, ..place }));
            }
            Found::Before(before) => {
                let own = nodes.iter().filter(|node| node.origin() == *before);
                places.extend(own.map(|node| Place {
                    origin,
                    weight: node.weight(),
                    ..node.place().clone()
                }));
            }
        }
    }
    places
}
