//! Builds the gateway from its configuration: listeners, services, and what they share.

mod follow;
mod http2;

use std::convert::Infallible;
use std::ffi::OsString;
use std::net::{SocketAddr, TcpListener};
use std::os::fd::AsFd;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Instant;

use anyhow::{Context, Result, bail};
use pingora::apps::HttpServerOptions;
use pingora::listeners::ListenerConfig;
use pingora::protocols::l4::stream::L4BufferSettings;
use pingora::proxy::{HttpProxy, http_proxy};
use pingora::server::configuration::{Opt, ServerConf};
use pingora::server::{RunArgs, Server};
use pingora::services::background::background_service;
use pingora::services::listening::Service;

use crate::access_log::AccessLog;
use crate::admin::{Admin, AdminBounds, AdminService, Token, Tokens};
use crate::balance::{HealthChecks, Pool, Resolver, places_of};
use crate::client::default_token_file;
use crate::coherence::Coherence;
use crate::config::{self, ATTEMPTS_MAX, Config, secret};
use crate::guard::{Bounds, Guarded, HeaderMax, Times, raise_limit};
use crate::log_level::LogLevel;
use crate::metrics::Metrics;
use crate::notify::{Notifier, Ready};
use crate::policy::cors::Answers;
use crate::proxy::{Current, Gateway, Proxy, Traces};
use crate::purge::Journal;
use crate::refill::{RefillService, Refills};
use crate::refusals::Refusals;
use crate::reload::{ReloadService, Reloader, Source};
use crate::site::Site;
use crate::store::{Limits, Store};
use crate::tls::{self, Certificate};
use crate::upgrade::{
    DRAIN_MAX, Drain, Inheritance, ListenerKeeper, Meeting, Signals, Upgrader, take_orders,
};
use follow::Shared;

/// How the process was started, beyond its settings.
#[derive(Debug)]
pub struct Start {
    /// What is logged.
    pub log: Arc<LogLevel>,
    /// Where the settings came from and can be read again.
    pub source: Option<Source>,
    /// Where the process that this one replaces hands over its listeners.
    pub handover: Option<Meeting>,
    /// The service manager's notification socket.
    pub notify_socket: Option<OsString>,
}

/// What the services share.
struct Parts {
    config: Arc<Config>,
    current: Arc<Current>,
    store: Arc<Store>,
    pool: Arc<Pool>,
    metrics: Arc<Metrics>,
    journal: Arc<Journal>,
    refusals: Arc<Refusals>,
    coherence: Option<Arc<Coherence>>,
    access_log: Option<Arc<AccessLog>>,
    upgrader: Arc<Upgrader>,
    reloader: Arc<Reloader>,
    certificate: Option<Arc<Certificate>>,
}

/// Serves until the process is told to stop; then ends it.
///
/// # Errors
/// A listener that cannot be bound, an origin's name that does not resolve, a token file that cannot be used.
pub fn run(config: Config, start: Start) -> Result<Infallible> {
    let config = Arc::new(config);
    raise_limit();
    if start.handover.is_none() {
        probe(config.listen, "public")?;
        if let Some(tls) = &config.tls {
            probe(tls.listen, "encrypted")?;
        }
    }
    let admin_listener = admin_listener(&config, start.handover.is_some())?;
    let waiting = waiting(&start);
    let manager = start.notify_socket.as_deref();
    let notifier = Arc::new(Notifier::new(manager));
    let upgrader = Upgrader::new(admin_listener.as_ref(), Arc::clone(&notifier))?;
    let mut server = server(&config, start.handover.as_ref());
    let parts = parts(&mut server, config, start.source, notifier, &upgrader)?;
    let (public, proxy) = public_services(&server, &parts)?;
    let admin = match (admin_listener, &parts.config.admin) {
        (Some(listener), Some(settings)) => {
            let tokens = admin_tokens(settings)?;
            let concurrency = parts.config.cache.refill_concurrency;
            let (service, refills) = RefillService::new(proxy, concurrency);
            server.add_service(background_service("refill", service));
            let admin = admin(&parts, tokens, start.log, refills);
            let bounds = AdminBounds {
                connections_max: settings.connections_max,
                header_timeout: parts.config.limits.header_timeout,
            };
            Some(AdminService::new(listener, admin, bounds))
        }
        _ => None,
    };
    if let Some(meeting) = &start.handover {
        let current = Arc::clone(&parts.current);
        let inheritance = Inheritance::open(&meeting.written(), current)
            .context("the socket of the process of before")?;
        server.add_service(background_service("inheritance", inheritance));
    }
    // Everything that can fail has been done: a process that is replaced hands over now.
    server.bootstrap();
    if let Some(meeting) = &start.handover {
        take_orders(meeting, &parts.pool);
    }
    let public: Vec<_> = public
        .into_iter()
        .map(|service| server.add_service(service))
        .collect();
    if let Some(admin) = admin {
        server.add_service(background_service("admin", admin));
    }
    add_watches(&mut server, &parts)?;
    let encrypted = parts.config.tls.iter().map(|tls| tls.listen);
    let ready = Ready {
        public: encrypted.chain([parts.config.listen]).collect(),
        waiting,
    };
    let readiness = server.add_service(background_service("readiness", ready));
    for service in public {
        readiness.add_dependency(service);
    }
    let origins = parts.config.upstream.nodes.len();
    tracing::info!(listen = %parts.config.listen, origins, "serving");
    server.run(RunArgs {
        shutdown_signal: Box::new(Signals(upgrader)),
    });
    std::process::exit(0)
}

fn server(config: &Config, handover: Option<&Meeting>) -> Server {
    let mut conf = server_conf(config);
    let options = handover.map(|meeting| {
        conf.upgrade_sock = meeting.listeners().display().to_string();
        Opt {
            upgrade: true,
            ..Opt::default()
        }
    });
    Server::new_with_opt_and_conf(options, conf)
}

/// Who waits until the gateway is ready: the service manager, and the process that this one replaces.
fn waiting(start: &Start) -> Notifier {
    let replaced = start
        .handover
        .as_ref()
        .map(|meeting| meeting.ready().into_os_string());
    let names = start.notify_socket.iter().chain(replaced.iter());
    Notifier::new(names.map(OsString::as_os_str))
}

fn parts(
    server: &mut Server,
    config: Arc<Config>,
    source: Option<Source>,
    notifier: Arc<Notifier>,
    upgrader: &Arc<Upgrader>,
) -> Result<Parts> {
    let site = Arc::new(Site::new(&config)?);
    let metrics = Arc::new(Metrics::new()?);
    let (store, pool) = (store(&config), pool(&config)?);
    let (journal, refusals) = (Arc::<Journal>::default(), Arc::<Refusals>::default());
    let shared = Shared {
        store: &store,
        pool: &pool,
        journal: &journal,
        metrics: &metrics,
        handover: upgrader.handover(),
    };
    upgrader.forgets(&store);
    upgrader.hands_on(&pool);
    let knowledge = follow::add_services(server, &config, &shared)?;
    let coherence = knowledge.coherence.clone();
    let access_log = config.access_log.as_ref().map(AccessLog::start).transpose();
    let access_log = access_log.context("opening the access log")?.map(Arc::new);
    let traces = Traces {
        metrics: Arc::clone(&metrics),
        journal: Arc::clone(&journal),
        refusals: Arc::clone(&refusals),
        access_log: access_log.clone(),
    };
    let gateway = Gateway::new(
        Arc::clone(&config),
        site,
        Arc::clone(&store),
        Arc::clone(&pool),
        traces,
        knowledge,
    )?;
    let current = Current::new(gateway);
    let certificate = certificate(&config)?;
    let reloader = Reloader::new(
        source,
        Arc::clone(&current),
        Arc::clone(&pool),
        notifier,
        certificate.clone(),
    );
    Ok(Parts {
        certificate,
        config,
        current,
        store,
        pool,
        metrics,
        journal,
        refusals,
        coherence,
        access_log,
        upgrader: Arc::clone(upgrader),
        reloader: Arc::new(reloader),
    })
}

type PublicProxy = HttpProxy<Proxy>;
type PublicService = Service<Guarded<PublicProxy>>;

/// The services of the public listeners, and the proxy behind them.
fn public_services(
    server: &Server,
    parts: &Parts,
) -> Result<(Vec<PublicService>, Arc<PublicProxy>)> {
    let config = &parts.config;
    let mut proxy = http_proxy(
        &server.configuration,
        Proxy::new(Arc::clone(&parts.current)),
    );
    proxy.server_options = Some(http_options(config));
    proxy.h2_options = Some(http2::options(config));
    let cors = config.cors.as_ref().map(Answers::compile).transpose()?;
    let guarded = Guarded::new(
        proxy,
        bounds(config),
        header_max(&parts.current),
        &parts.metrics,
        cors.as_ref().map_or(&[], Answers::every),
    );
    let proxy = guarded.app();
    let mut services = Vec::new();
    if let (Some(tls), Some(certificate)) = (&config.tls, &parts.certificate) {
        let acceptor = tls::acceptor(Arc::clone(certificate), tls.http2)?;
        services.push(listening(
            "encrypted",
            guarded.encrypted(acceptor),
            tls.listen,
        ));
    }
    services.push(listening("gateway", guarded, config.listen));
    Ok((services, proxy))
}

fn listening<A>(name: &str, guarded: Guarded<A>, listen: SocketAddr) -> Service<Guarded<A>> {
    let mut service = Service::new(name.to_owned(), guarded);
    // The guard has buffers of its own, while there is something in them.
    let unbuffered = L4BufferSettings::unbuffered();
    service.add_listener(ListenerConfig::tcp(listen.to_string()).l4_buffer(unbuffered));
    service
}

/// The certificate of the encrypted listener, if there is one.
fn certificate(config: &Config) -> Result<Option<Arc<Certificate>>> {
    let tls = config.tls.iter();
    let mut files =
        tls.filter_map(|tls| tls.certificate_file.as_deref().zip(tls.key_file.as_deref()));
    files
        .next()
        .map(|(chain, key)| Certificate::new(chain, key))
        .transpose()
}

fn admin(parts: &Parts, tokens: Tokens, log: Arc<LogLevel>, refills: Arc<Refills>) -> Admin {
    Admin {
        tokens,
        log,
        current: Arc::clone(&parts.current),
        reloader: Arc::clone(&parts.reloader),
        upgrader: Arc::clone(&parts.upgrader),
        store: Arc::clone(&parts.store),
        pool: Arc::clone(&parts.pool),
        metrics: Arc::clone(&parts.metrics),
        journal: Arc::clone(&parts.journal),
        refusals: Arc::clone(&parts.refusals),
        coherence: parts.coherence.clone(),
        access_log: parts.access_log.clone(),
        refills,
        started: Instant::now(),
    }
}

/// Adds what goes on beside the requests for as long as the gateway runs.
fn add_watches(server: &mut Server, parts: &Parts) -> Result<()> {
    let (config, pool) = (&parts.config, &parts.pool);
    let checks = HealthChecks::new(Arc::clone(pool), &config.upstream.health)?;
    server.add_service(background_service("health checks", checks));
    let resolver = Resolver::new(Arc::clone(pool), &config.upstream);
    server.add_service(background_service("name resolution", resolver));
    let reloads = ReloadService::new(Arc::clone(&parts.reloader));
    server.add_service(background_service("reload", reloads));
    server.add_service(ListenerKeeper(Arc::clone(&parts.upgrader)));
    let drain = Drain::new(
        Arc::clone(&parts.metrics.connections),
        config.limits.shutdown_grace,
        Arc::clone(&parts.upgrader),
        parts.access_log.clone(),
    );
    server.add_service(background_service("drain", drain));
    Ok(())
}

fn store(config: &Config) -> Arc<Store> {
    Store::new(Limits {
        budget_bytes: config.cache.budget.as_usize(),
        object_bytes_max: config.cache.object_max.as_usize(),
        variants_max: config.cache.variants_max,
        shards: config.threads,
    })
}

fn http_options(config: &Config) -> HttpServerOptions {
    let mut options = HttpServerOptions::default();
    // So that our own answer refuses them, with our own fields.
    options.allow_connect_method_proxying = true;
    // Pingora counts the reuses of a connection, the setting its requests.
    // Between two requests of an HTTP/2 connection; of HTTP/1.1 the connection layer knows.
    options.h2_idle_timeout = Some(config.limits.keepalive_timeout);
    options.keepalive_request_limit = Some(config.limits.keepalive_requests_max.saturating_sub(1));
    options
}

/// Bytes of a request line beside its target: the method and the version.
const LINE_BYTES_MAX: usize = 256;

/// What no header is longer than that the settings in force would let in.
fn header_max(current: &Arc<Current>) -> HeaderMax {
    let current = Arc::clone(current);
    Box::new(move || {
        let gateway = current.gateway();
        let limits = &gateway.config().limits;
        limits.target_bytes_max.as_usize() + limits.header_bytes_max.as_usize() + LINE_BYTES_MAX
    })
}

fn bounds(config: &Config) -> Bounds {
    let limits = &config.limits;
    Bounds {
        connections_max: limits.connections_max,
        requests_max: limits.keepalive_requests_max,
        streams_max: config.tls.as_ref().map_or(0, |tls| tls.http2_streams_max),
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
        // Attempts are counted by the settings in force; this is what they may be at most, with one that met the end of a kept
        // connection.
        max_retries: ATTEMPTS_MAX + 1,
        // The process ends by itself when its connections have, or their time: see `upgrade::Drain`.
        grace_period_seconds: Some(DRAIN_MAX.as_secs()),
        graceful_shutdown_timeout_seconds: Some(1),
        ..ServerConf::default()
    }
}

/// Finds out before anything starts that the public port is free: Pingora itself would panic in a thread.
fn probe(address: SocketAddr, which: &str) -> Result<()> {
    bind(address, which).map(drop)
}

/// The operators' listener: from the process that this one replaces, if it is the same, else bound.
fn admin_listener(config: &Config, is_handed_over: bool) -> Result<Option<TcpListener>> {
    let Some(settings) = &config.admin else {
        return Ok(None);
    };
    if is_handed_over {
        let inherited = std::io::stdin()
            .as_fd()
            .try_clone_to_owned()
            .map(TcpListener::from);
        if let Ok(listener) = inherited
            && listener
                .local_addr()
                .is_ok_and(|address| address == settings.listen)
        {
            return Ok(Some(listener));
        }
    }
    bind(settings.listen, "admin").map(Some)
}

fn bind(address: SocketAddr, which: &str) -> Result<TcpListener> {
    TcpListener::bind(address).with_context(|| format!("binding the {which} listener to {address}"))
}

fn pool(config: &Config) -> Result<Arc<Pool>> {
    let found = places_of(&config.upstream.nodes)?;
    let random = getrandom::u64().unwrap_or_default();
    Ok(Arc::new(Pool::new(found, &config.upstream, random)))
}

/// The tokens of the operators' listener.
fn admin_tokens(settings: &config::Admin) -> Result<Tokens> {
    let read = match (&settings.read_token_file, &settings.read_token_env) {
        (Some(file), _) => Some(
            Token::read(file)
                .with_context(|| format!("the admin token file {}", file.display()))?,
        ),
        (None, Some(name)) => Some(token_of(name)?),
        (None, None) => None,
    };
    let full = match (&settings.token_file, &settings.token_env) {
        (None, Some(name)) => token_of(name)?,
        (file, _) => admin_token(file.clone(), settings.listen)?,
    };
    Ok(Tokens::new(full, read))
}

fn token_of(variable: &str) -> Result<Token> {
    let text = secret::variable(variable).with_context(|| format!("no variable {variable}"))?;
    Token::of_text(&text).with_context(|| format!("the variable {variable}"))
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
