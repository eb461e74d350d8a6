//! Builds the gateway from its configuration: listeners, services, and what they share.

mod follow;

use std::net::{SocketAddr, TcpListener};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use pingora::apps::HttpServerOptions;
use pingora::listeners::ListenerConfig;
use pingora::protocols::l4::stream::L4BufferSettings;
use pingora::proxy::http_proxy;
use pingora::server::Server;
use pingora::server::configuration::ServerConf;
use pingora::services::background::background_service;
use pingora::services::listening::Service;

use crate::admin::{Admin, AdminService, Token};
use crate::balance::{HealthChecks, Pool, Resolver, places};
use crate::client::default_token_file;
use crate::config::Config;
use crate::guard::{Bounds, Guarded, Times, raise_limit};
use crate::metrics::Metrics;
use crate::policy::cors::Answers;
use crate::proxy::{Gateway, Traces};
use crate::purge::Journal;
use crate::refill::RefillService;
use crate::refusals::Refusals;
use crate::site::Site;
use crate::store::{Limits, Store};
use follow::Shared;

/// Builds a server that is ready to run.
///
/// # Errors
/// A listener that cannot be bound, an origin's name that does not resolve, a token file that cannot be used.
pub fn build(config: Config) -> Result<Server> {
    let config = Arc::new(config);
    raise_limit();
    probe(config.listen)?;
    let site = Arc::new(Site::new(&config)?);
    let metrics = Arc::new(Metrics::new()?);
    let store = store(&config);
    let pool = pool(&config)?;
    let conf = server_conf(&config);
    let mut server = Server::new_with_opt_and_conf(None, conf);
    server.bootstrap();

    let (journal, refusals) = (Arc::<Journal>::default(), Arc::<Refusals>::default());
    let shared = Shared {
        store: &store,
        pool: &pool,
        journal: &journal,
        metrics: &metrics,
    };
    let knowledge = follow::add_services(&mut server, &config, &shared)?;
    let coherence = knowledge.coherence.clone();
    let gateway = Gateway::new(
        Arc::clone(&config),
        Arc::clone(&site),
        Arc::clone(&store),
        Arc::clone(&pool),
        Traces {
            metrics: Arc::clone(&metrics),
            journal: Arc::clone(&journal),
            refusals: Arc::clone(&refusals),
        },
        knowledge,
    )?;
    let mut proxy = http_proxy(&server.configuration, gateway);
    proxy.server_options = Some(http_options(&config));
    let cors = config.cors.as_ref().map(Answers::compile).transpose()?;
    let guarded = Guarded::new(
        proxy,
        bounds(&config),
        Arc::clone(&metrics.connections),
        cors.as_ref().map_or(&[], Answers::every),
    );
    let proxy = guarded.app();
    server.add_service(public_service(guarded, &config));
    add_watches(&mut server, &config, &pool)?;
    if let Some(settings) = &config.admin {
        let listener = bind(settings.listen, "admin")?;
        let token = admin_token(settings.token_file.clone(), settings.listen)?;
        let (service, refills) = RefillService::new(proxy, config.cache.refill_concurrency);
        server.add_service(background_service("refill", service));
        let admin = Admin {
            token,
            site,
            store,
            pool,
            metrics,
            journal,
            refusals,
            coherence,
            refills,
            targeted: config.cache.targeted.clone(),
            started: Instant::now(),
        };
        server.add_service(background_service(
            "admin",
            AdminService::new(listener, admin),
        ));
    }
    tracing::info!(listen = %config.listen, origins = config.upstream.nodes.len(), "serving");
    Ok(server)
}

fn store(config: &Config) -> Arc<Store> {
    Store::new(Limits {
        budget_bytes: config.cache.budget.as_usize(),
        object_bytes_max: config.cache.object_max.as_usize(),
        variants_max: config.cache.variants_max,
        shards: config.threads,
    })
}

fn public_service<A>(guarded: Guarded<A>, config: &Config) -> Service<Guarded<A>> {
    let mut service = Service::new("gateway".to_owned(), guarded);
    // The guard has buffers of its own, while there is something in them.
    let unbuffered = L4BufferSettings::unbuffered();
    service.add_listener(ListenerConfig::tcp(config.listen.to_string()).l4_buffer(unbuffered));
    service
}

/// Health and whereabouts of the origins are looked at for as long as the gateway runs.
fn add_watches(server: &mut Server, config: &Config, pool: &Arc<Pool>) -> Result<()> {
    let checks = HealthChecks::new(Arc::clone(pool), &config.upstream.health)?;
    server.add_service(background_service("health checks", checks));
    let resolver = Resolver::new(Arc::clone(pool), &config.upstream);
    server.add_service(background_service("name resolution", resolver));
    Ok(())
}

fn http_options(config: &Config) -> HttpServerOptions {
    let mut options = HttpServerOptions::default();
    // Pingora counts the reuses of a connection, the setting its requests.
    options.keepalive_request_limit = Some(config.limits.keepalive_requests_max.saturating_sub(1));
    options
}

fn bounds(config: &Config) -> Bounds {
    let limits = &config.limits;
    Bounds {
        connections_max: limits.connections_max,
        write_buffer: limits.write_buffer.as_usize(),
        times: Times {
            header: limits.header_timeout,
            keepalive: limits.keepalive_timeout,
            slack: limits.rate_slack,
            read_rate_min: limits.read_rate_min.0,
            write_rate_min: limits.write_rate_min.0,
        },
        // What comes in this time has as much left to be answered.
        linger: limits.shutdown_grace / 2,
    }
}

fn server_conf(config: &Config) -> ServerConf {
    ServerConf {
        threads: config.threads,
        // One thread steals from nobody.
        work_stealing: config.threads > 1,
        upstream_keepalive_pool_size: config.upstream.pool_size,
        max_retries: config.upstream.attempts,
        // Requests in flight end within this time: what comes after it drops them wherever they stand.
        grace_period_seconds: Some(whole_seconds(config.limits.shutdown_grace)),
        graceful_shutdown_timeout_seconds: Some(1),
        ..ServerConf::default()
    }
}

/// The next whole second.
fn whole_seconds(length: Duration) -> u64 {
    length.as_secs() + u64::from(length.subsec_nanos() > 0)
}

/// Finds out before anything starts that the public port is free: Pingora itself would panic in a thread.
fn probe(address: SocketAddr) -> Result<()> {
    bind(address, "public").map(drop)
}

fn bind(address: SocketAddr, which: &str) -> Result<TcpListener> {
    TcpListener::bind(address).with_context(|| format!("binding the {which} listener to {address}"))
}

fn pool(config: &Config) -> Result<Arc<Pool>> {
    let mut found = Vec::new();
    for (origin, node) in config.upstream.nodes.iter().enumerate() {
        let places = places(origin, node)
            .with_context(|| format!("resolving the origin {}", node.address))?;
        found.extend(places);
    }
    let random = getrandom::u64().unwrap_or_default();
    Ok(Arc::new(Pool::new(found, &config.upstream, random)))
}

fn admin_token(file: Option<PathBuf>, listen: SocketAddr) -> Result<Token> {
    let path = match file {
        Some(path) => path,
        None if listen.ip().is_loopback() => default_token_file(listen),
        None => {
            bail!("the admin listener {listen} is not a loopback address: it needs a token file")
        }
    };
    let token = Token::read_or_create(&path)
        .with_context(|| format!("the admin token file {}", path.display()))?;
    tracing::info!(file = %path.display(), %listen, "admin listener asks for the token in this file");
    Ok(token)
}
