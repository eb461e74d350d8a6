//! A whole system whose gateways follow the database: every part a process of the measurement, to be broken one by one.

use std::ffi::OsString;
use std::net::SocketAddr;
use std::path::Path;
use std::time::Duration;

use anyhow::{Result, ensure};
use stack::gateway_config::{GatewayConfig, OriginAddresses};
use stack::{Cluster, Replica, Settings, cluster};
use tempfile::TempDir;
use tokio::runtime::Runtime;

use crate::gateway_process::{GatewayProcess, Listeners};
use crate::origin_process::Origin;
use crate::paced::becomes_true;
use crate::relay::{Lie, Relay};
use crate::running::open_to_others;
use crate::shop::{DATABASE, GATEWAY_CONFIG, fill};

const LEASE_LIMIT: Duration = Duration::from_secs(20);

/// Changes what a gateway is told.
pub type Change<'a> = &'a dyn Fn(GatewayConfig) -> GatewayConfig;

/// Of what a system consists.
pub struct Plan<'a> {
    /// Products to generate.
    pub products: u64,
    /// Origins behind every gateway.
    pub origins: usize,
    /// Copies of the database that the origins may read from.
    pub replicas: usize,
    /// Gateways: what each is told besides the shop's configuration and its origins.
    pub gateways: &'a [Change<'a>],
    /// Whether each gateway has origins of its own: the n-th of each round of them.
    pub is_split: bool,
    /// What is between the gateways' requests and the origins.
    pub lie: Lie,
    /// Settings of the database's server as `name=value`, over its own.
    pub settings: &'a [&'a str],
}

impl Default for Plan<'_> {
    /// Two origins, and gateways to be named.
    fn default() -> Self {
        Self {
            products: 2_000,
            origins: 2,
            replicas: 0,
            gateways: &[],
            is_split: false,
            lie: Lie::Honest,
            settings: &[],
        }
    }
}

/// Tells a gateway nothing more.
pub fn as_it_is(config: GatewayConfig) -> GatewayConfig {
    config
}

/// Makes a gateway that follows nothing: what it keeps is fresh for so long, whatever happens.
pub fn for_seconds(seconds: u64) -> impl Fn(GatewayConfig) -> GatewayConfig {
    move |config| {
        config
            .without("coherence")
            .with("cache", "fresh_max", format!("{seconds}s"))
    }
}

/// A running system; it and its data go when it is dropped, what clients reach first.
pub struct Live {
    /// The gateways.
    pub gateways: Vec<GatewayProcess>,
    /// Of each gateway its ways to the origins' streams.
    pub streams: Vec<Vec<Relay>>,
    /// The origins behind all of them.
    pub origins: Vec<Origin>,
    /// The copies of their database.
    pub replicas: Vec<Replica>,
    /// Their database's server.
    pub cluster: Cluster,
    /// Ways of requests, where these are lied to.
    requests: Vec<Relay>,
    relays: Option<Runtime>,
    dir: TempDir,
}

impl Live {
    /// Starts a system with generated products.
    ///
    /// # Errors
    /// A part does not come up.
    pub fn up(plan: &Plan<'_>) -> Result<Self> {
        // Under /var/tmp: the account that runs Postgres must be able to enter it.
        let dir = tempfile::Builder::new()
            .prefix("atelier-bench")
            .tempdir_in("/var/tmp")?;
        open_to_others(dir.path())?;
        let mut settings = Settings::durable();
        let more = plan.settings.iter().map(ToString::to_string);
        settings.more.extend(more);
        let options = cluster::Options {
            binaries: None,
            settings,
            fresh: false,
        };
        let cluster = Cluster::open(&dir.path().join("data"), options)?;
        cluster.start()?;
        cluster.create_database_unless_exists(DATABASE)?;
        fill(dir.path(), &cluster.owner_url(DATABASE), plan.products)?;
        let replicas: Vec<Replica> = (1..=plan.replicas)
            .map(|number| {
                let replica =
                    Replica::open(&cluster, &dir.path().join(format!("replica-{number}")))?;
                replica.start()?;
                Ok(replica)
            })
            .collect::<Result<_>>()?;
        let read_urls = replicas.iter().flat_map(|replica| {
            let url = replica.cluster().app_url(DATABASE);
            [OsString::from("--read-url"), url.into()]
        });
        let more: Vec<OsString> = read_urls.collect();
        let origins: Vec<Origin> = (1..=plan.origins)
            .map(|number| {
                let log = dir.path().join(format!("origin-{number}.log"));
                Origin::start(&cluster.app_url(DATABASE), &log, &more)
            })
            .collect::<Result<_>>()?;
        let relays = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()?;
        let mut live = Self {
            gateways: Vec::new(),
            streams: Vec::new(),
            origins,
            replicas,
            cluster,
            requests: Vec::new(),
            relays: Some(relays),
            dir,
        };
        live.start_gateways(plan)?;
        Ok(live)
    }

    fn start_gateways(&mut self, plan: &Plan<'_>) -> Result<()> {
        let Some(relays) = &self.relays else {
            return Ok(());
        };
        let mut addresses = Vec::new();
        for origin in &self.origins {
            let mut public = origin.public;
            if plan.lie != Lie::Honest {
                let relay = Relay::start(relays.handle(), public, plan.lie)?;
                public = relay.address();
                self.requests.push(relay);
            }
            addresses.push(OriginAddresses {
                public,
                private: origin.private,
            });
        }
        let site = GatewayConfig::read(Path::new(GATEWAY_CONFIG))?;
        let listeners: Vec<Listeners> = plan
            .gateways
            .iter()
            .map(|_| Listeners::anywhere())
            .collect::<Result<_>>()?;
        let admins: Vec<SocketAddr> = listeners.iter().map(Listeners::admin).collect();
        for (place, (change, listeners)) in plan.gateways.iter().zip(listeners).enumerate() {
            let is_own = |at: usize| !plan.is_split || at % plan.gateways.len() == place;
            let own = addresses.iter().enumerate().filter(|(at, _)| is_own(*at));
            let own: Vec<OriginAddresses> = own.map(|(_, origin)| *origin).collect();
            let streams: Vec<Relay> = own
                .iter()
                .map(|origin| Relay::start(relays.handle(), origin.private, Lie::LosesChanges))
                .collect::<Result<_>>()?;
            let follows: Vec<String> = streams
                .iter()
                .map(|relay| relay.address().to_string())
                .collect();
            let others = admins.iter().enumerate().filter(|(at, _)| *at != place);
            let peers: Vec<String> = others.map(|(_, other)| other.to_string()).collect();
            let config = site.clone().with_origins(&own);
            let config = config.with("coherence", "streams", follows);
            let config = config.with("coherence", "peers", peers);
            let gateway = GatewayProcess::configured(&change(config), listeners)?;
            self.gateways.push(gateway);
            self.streams.push(streams);
        }
        Ok(())
    }

    /// Rows of a query by the owner, each split into its fields.
    ///
    /// # Errors
    /// The query fails.
    pub fn query(&self, sql: &str) -> Result<Vec<Vec<String>>> {
        let text = self.cluster.psql(DATABASE, sql)?;
        let fields = |line: &str| line.split('|').map(str::to_owned).collect();
        Ok(text.lines().map(fields).collect())
    }

    /// Waits until every gateway that follows the database knows that it is up to date.
    ///
    /// # Errors
    /// One does not come to.
    pub fn wait_for_leases(&self) -> Result<()> {
        for gateway in &self.gateways {
            let follows = gateway.status()?["coherence"].is_object();
            ensure!(
                !follows || becomes_true(LEASE_LIMIT, || gateway.has_lease()),
                "a gateway gets no lease: {}",
                gateway.status()?["coherence"]
            );
        }
        Ok(())
    }

    /// The URL of the database for the owner's role.
    pub fn owner_url(&self) -> String {
        self.cluster.owner_url(DATABASE)
    }

    /// The directory of logs and data.
    pub fn dir(&self) -> &Path {
        self.dir.path()
    }
}

impl Drop for Live {
    fn drop(&mut self) {
        if let Some(relays) = self.relays.take() {
            relays.shutdown_background();
        }
    }
}
