//! Puts the proxy together from its configuration and from what requests share.

use std::hash::RandomState;
use std::sync::Arc;
use std::time::Instant;

use anyhow::Context as _;
use pingora::upstreams::peer::{HttpUpstreamRequestPolicy, PeerOptions};

use super::Gateway;
use super::keep::{self, CacheParts};
use crate::access_log::AccessLog;
use crate::balance::Pool;
use crate::coherence::{Coherence, Peers};
use crate::config::{Config, Limits, Mode, Upstream};
use crate::encode::Encoder;
use crate::guard::Clients;
use crate::metrics::{Metrics, RouteMetrics};
use crate::policy::cors;
use crate::purge::Journal;
use crate::refusals::Refusals;
use crate::releases::Releases;
use crate::site::Site;
use crate::store::Store;
use crate::upgrade::HandOver;

/// What requests leave behind for the operators' calls.
pub struct Traces {
    /// Counters.
    pub metrics: Arc<Metrics>,
    /// The last purges.
    pub journal: Arc<Journal>,
    /// The last refusals to keep an answer.
    pub refusals: Arc<Refusals>,
    /// The access log, if there is one.
    pub access_log: Option<Arc<AccessLog>>,
}

/// What is known of the data behind the origins, and of the origins themselves.
pub struct Knowledge {
    /// What the stream of changes tells, if it is followed.
    pub coherence: Option<Arc<Coherence>>,
    /// The builds that answer, if they name themselves.
    pub releases: Option<Arc<Releases>>,
    /// Whether another process answers by now, with what it knows.
    pub handover: Arc<HandOver>,
}

impl Gateway {
    /// A proxy over a store and the origins of a pool.
    ///
    /// # Errors
    /// CORS values that are no header values, or no thread for the encoder.
    pub fn new(
        config: Arc<Config>,
        site: Arc<Site>,
        store: Arc<Store>,
        pool: Arc<Pool>,
        traces: Traces,
        knowledge: Knowledge,
    ) -> anyhow::Result<Self> {
        let encodings = keep::encodings(&config);
        Ok(Self {
            rules: keep::rules(&config),
            encoder: Encoder::start(Arc::clone(&store)).context("starting the encoder")?,
            encodings,
            cors: config
                .cors
                .as_ref()
                .map(cors::Answers::compile)
                .transpose()?,
            cache: CacheParts::leak(&store, &traces.refusals, &config),
            site,
            store,
            pool,
            peer_options: peer_options(&config.upstream),
            clients: clients(&config.limits),
            routes: routes(&traces.metrics, &config),
            metrics: traces.metrics,
            journal: traces.journal,
            refusals: traces.refusals,
            access_log: traces.access_log,
            peers: strict(&config).map(Peers::new),
            coherence: knowledge.coherence,
            handover: knowledge.handover,
            releases: knowledge.releases,
            config,
        })
    }
}

impl Gateway {
    /// A gateway with other settings over the same store, origins and memory.
    ///
    /// # Errors
    /// CORS values that are no header values, or a token file that cannot be used.
    pub fn renewed(&self, config: Config) -> anyhow::Result<Self> {
        let config = Arc::new(config);
        let cors = config.cors.as_ref().map(cors::Answers::compile);
        Ok(Self {
            site: Arc::new(Site::new(&config)?),
            rules: keep::rules(&config),
            encodings: keep::encodings(&config),
            encoder: self.encoder.clone(),
            cors: cors.transpose()?,
            store: Arc::clone(&self.store),
            pool: Arc::clone(&self.pool),
            peer_options: peer_options(&config.upstream),
            clients: self.clients_for(&config.limits),
            routes: routes(&self.metrics, &config),
            metrics: Arc::clone(&self.metrics),
            journal: Arc::clone(&self.journal),
            refusals: Arc::clone(&self.refusals),
            access_log: self.access_log.clone(),
            cache: self.cache,
            coherence: self.coherence.clone(),
            handover: Arc::clone(&self.handover),
            peers: strict(&config).map(Peers::new),
            releases: self.releases.clone(),
            config,
        })
    }

    /// The clients' accounts go on under the rate that they were kept under.
    fn clients_for(&self, limits: &Limits) -> Option<Arc<Clients>> {
        let known = &self.config.limits;
        if (known.client_rate, known.client_burst) == (limits.client_rate, limits.client_burst) {
            self.clients.clone()
        } else {
            clients(limits)
        }
    }

    /// Hands the shared parts the settings that are theirs.
    pub(super) fn configure_shared(&self) {
        self.cache.configure(&self.config);
    }

    /// The settings it was made from.
    pub fn config(&self) -> &Config {
        &self.config
    }

    /// How it reads targets, hosts and tokens.
    pub fn site(&self) -> &Site {
        &self.site
    }
}

fn routes(metrics: &Metrics, config: &Config) -> RouteMetrics {
    let routes = config.routes.iter();
    metrics.routes.of(routes.map(|route| route.path.as_str()))
}

fn clients(limits: &Limits) -> Option<Arc<Clients>> {
    let rate = limits.client_rate?;
    let secret = RandomState::new();
    let clients = Clients::new(rate, limits.client_burst, Instant::now(), secret);
    Some(Arc::new(clients))
}

fn strict(config: &Config) -> Option<&crate::config::Coherence> {
    let section = config.coherence.as_ref();
    section.filter(|section| section.mode == Mode::Strict)
}

fn peer_options(upstream: &Upstream) -> PeerOptions {
    let mut options = PeerOptions::new();
    options.connection_timeout = Some(upstream.connect_timeout);
    options.total_connection_timeout = Some(upstream.connect_timeout);
    options.read_timeout = Some(upstream.read_timeout);
    options.write_timeout = Some(upstream.write_timeout);
    options.idle_timeout = Some(upstream.idle_timeout);
    options.http_upstream_request_policy = HttpUpstreamRequestPolicy::deny_upgrades();
    options
}
