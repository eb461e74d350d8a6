//! The services that learn from the origins what has changed.

use std::sync::Arc;

use anyhow::Result;
use pingora::server::Server;
use pingora::services::background::background_service;

use crate::balance::Pool;
use crate::coherence::{Coherence, CoherenceMetrics, Follower};
use crate::config::Config;
use crate::metrics::Metrics;
use crate::proxy::Knowledge;
use crate::purge::Journal;
use crate::releases::{ReleaseService, Releases};
use crate::store::Store;
use crate::upgrade::HandOver;

/// What those services work on.
pub(super) struct Shared<'a> {
    pub(super) store: &'a Arc<Store>,
    pub(super) pool: &'a Arc<Pool>,
    pub(super) journal: &'a Arc<Journal>,
    pub(super) metrics: &'a Metrics,
    pub(super) handover: Arc<HandOver>,
}

/// Adds the services that the settings ask for, and returns what they know.
///
/// # Errors
/// Two metrics of one name.
pub(super) fn add_services(
    server: &mut Server,
    config: &Config,
    shared: &Shared<'_>,
) -> Result<Knowledge> {
    Ok(Knowledge {
        coherence: add_follower(server, config, shared)?,
        releases: add_releases(server, config, shared),
        handover: Arc::clone(&shared.handover),
    })
}

fn add_follower(
    server: &mut Server,
    config: &Config,
    shared: &Shared<'_>,
) -> Result<Option<Arc<Coherence>>> {
    let Some(settings) = &config.coherence else {
        return Ok(None);
    };
    let metrics = CoherenceMetrics::new(shared.metrics.registry())?;
    let coherence = Arc::new(Coherence::new(settings.clone(), metrics));
    let (named, pool) = (settings.streams.clone(), Arc::clone(shared.pool));
    let streams = move || match named.is_empty() {
        true => pool.private_listeners(),
        false => named.clone(),
    };
    let follower = Follower::new(
        Arc::clone(&coherence),
        Arc::clone(shared.store),
        Arc::clone(shared.journal),
        Box::new(streams),
    );
    server.add_service(background_service("stream of changes", follower));
    Ok(Some(coherence))
}

fn add_releases(
    server: &mut Server,
    config: &Config,
    shared: &Shared<'_>,
) -> Option<Arc<Releases>> {
    let prefix = config.cache.release_prefix.clone()?;
    let releases = Arc::new(Releases::new(prefix));
    let service = ReleaseService::new(
        Arc::clone(&releases),
        Arc::clone(shared.pool),
        Arc::clone(shared.store),
        Arc::clone(shared.journal),
        &config.upstream.health,
    );
    server.add_service(background_service("releases", service));
    Some(releases)
}
