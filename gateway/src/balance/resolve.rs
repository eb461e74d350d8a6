//! From configured origins to the places of nodes, and again at every interval for those that have names.

use std::io;
use std::net::{SocketAddr, ToSocketAddrs};
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::Context as _;
use async_trait::async_trait;
use pingora::server::ShutdownWatch;
use pingora::services::background::BackgroundService;

use super::Pool;
use super::node::Place;
use crate::config::{self, Address};

/// Addresses of one name that are used; more are left out.
const ADDRESSES_MAX: usize = 16;

/// The places of configured origins, in their order. Blocks while names are resolved.
///
/// # Errors
/// A name that does not resolve.
pub fn places_of(origins: &[config::Node]) -> anyhow::Result<Vec<Place>> {
    let mut found = Vec::new();
    for (origin, node) in origins.iter().enumerate() {
        let places = places(origin, node)
            .with_context(|| format!("resolving the origin {}", node.address))?;
        found.extend(places);
    }
    Ok(found)
}

/// The places of a configured origin, which is the one at `origin` in the configuration. Blocks while a name is resolved.
///
/// # Errors
/// A name that does not resolve.
fn places(origin: usize, node: &config::Node) -> io::Result<Vec<Place>> {
    let addresses = resolve(&node.address)?;
    let checks = node.private.as_ref().map(resolve).transpose()?;
    let place = |address: SocketAddr| Place {
        origin,
        name: node.address.to_string(),
        address,
        check_at: checks
            .as_ref()
            .map_or(address, |checks| check_at(address, checks)),
        checks_private: checks.is_some(),
        weight: node.weight,
    };
    Ok(addresses.into_iter().map(place).collect())
}

/// The private listener of the same machine, if it is among those found; else the first one.
fn check_at(address: SocketAddr, checks: &[SocketAddr]) -> SocketAddr {
    let is_here = |check: &&SocketAddr| check.ip() == address.ip();
    let found = checks.iter().find(is_here).or_else(|| checks.first());
    *found.unwrap_or(&address)
}

/// At least one address, in an order that does not depend on who was asked.
fn resolve(address: &Address) -> io::Result<Vec<SocketAddr>> {
    let (host, port) = match address {
        Address::Ip(address) => return Ok(vec![*address]),
        Address::Name { host, port } => (host, *port),
    };
    let mut found: Vec<_> = (host.as_str(), port).to_socket_addrs()?.collect();
    found.sort_unstable();
    found.dedup();
    if found.is_empty() {
        return Err(io::Error::other("no address"));
    }
    if found.len() > ADDRESSES_MAX {
        tracing::warn!(%host, addresses = found.len(), used = ADDRESSES_MAX, "more addresses than are used");
        found.truncate(ADDRESSES_MAX);
    }
    Ok(found)
}

/// Looks names up again for as long as the gateway runs.
pub struct Resolver {
    pool: Arc<Pool>,
    interval: Duration,
}

impl Resolver {
    /// Keeps the nodes of a pool where the names of its configured origins say.
    pub fn new(pool: Arc<Pool>, upstream: &config::Upstream) -> Self {
        Self {
            pool,
            interval: upstream.resolve_interval,
        }
    }

    async fn look_up(&self) {
        let origins = self.pool.origins();
        for (at, origin) in origins.iter().enumerate() {
            if !has_name(&origin.node) {
                continue;
            }
            let asked = Arc::clone(&origins);
            let found = tokio::task::spawn_blocking(move || places(at, &asked[at].node)).await;
            match found {
                Ok(Ok(places)) => {
                    if !self.pool.refresh(&origins, at, places, Instant::now()) {
                        return; // there are other origins by now: theirs were found with them
                    }
                }
                // What was found before serves on.
                Ok(Err(error)) => {
                    tracing::warn!(origin = %origin.node.address, %error, "the name does not resolve");
                }
                Err(error) => tracing::error!(%error, "a look-up ended early"),
            }
        }
    }
}

fn has_name(node: &config::Node) -> bool {
    let is_name = |address: &Address| matches!(address, Address::Name { .. });
    is_name(&node.address) || node.private.as_ref().is_some_and(is_name)
}

#[async_trait]
impl BackgroundService for Resolver {
    async fn start(&self, mut shutdown: ShutdownWatch) {
        let mut looks = tokio::time::interval(self.interval);
        looks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        looks.tick().await; // the first one was at the start
        loop {
            tokio::select! {
                _ = shutdown.changed() => return,
                _ = looks.tick() => self.look_up().await,
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(text: &str) -> SocketAddr {
        text.parse().unwrap()
    }

    #[test]
    fn an_address_is_its_own_place_and_is_checked_at_its_private_listener() {
        let mut node = config::Node::from(Address::Ip(address("10.0.0.7:3001")));
        node.weight = 3;
        let found = places(2, &node).unwrap();
        let expected = Place {
            origin: 2,
            name: "10.0.0.7:3001".to_owned(),
            address: address("10.0.0.7:3001"),
            check_at: address("10.0.0.7:3001"),
            checks_private: false,
            weight: 3,
        };
        assert_eq!(found, std::slice::from_ref(&expected));
        node.private = Some(Address::Ip(address("10.0.1.7:3901")));
        let place = places(2, &node).unwrap().remove(0);
        assert_eq!(
            (place.check_at, place.checks_private),
            (address("10.0.1.7:3901"), true)
        );
    }

    #[test]
    fn a_name_stands_for_its_addresses_each_checked_on_its_own_machine() {
        let name = |port| Address::Name {
            host: "localhost".to_owned(),
            port,
        };
        let mut node = config::Node::from(name(3_001));
        node.private = Some(name(3_901));
        let found = places(0, &node).unwrap();
        assert!(!found.is_empty());
        for place in found {
            assert!(place.address.ip().is_loopback() && place.name == "localhost:3001");
            assert_eq!(
                (place.check_at.ip(), place.check_at.port()),
                (place.address.ip(), 3_901)
            );
        }
    }

    #[test]
    fn a_name_that_does_not_resolve_is_an_error() {
        let node = config::Node::from(Address::Name {
            host: "no-such-host.invalid".to_owned(),
            port: 1,
        });
        assert!(places(0, &node).is_err());
    }
}
