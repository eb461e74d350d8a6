//! The whole system on one machine: cluster, data, origins, gateway, until somebody says stop.

mod endpoints;
mod options;
mod programs;
mod status;

use std::{
    fs,
    net::SocketAddr,
    path::{Path, PathBuf},
    sync::Arc,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, anyhow, ensure};
use nix::sys::signal::Signal;

use crate::{
    Cluster, Replica, Service, Settings, Supervisor, cluster,
    console::Console,
    gateway_config::{GatewayConfig, OriginAddresses},
    http::Client,
    ports::{self, Reserved},
    signals::Signals,
};
use endpoints::Endpoints;
pub use options::Options;
use programs::{GatewayAddresses, Programs};

const DATABASE: &str = "atelier";
/// Generated data are the same everywhere.
const SEED: u64 = 1;
const READY_LIMIT: Duration = Duration::from_secs(60);
/// After a crash Postgres first reads its log again.
const RECOVERY_LIMIT: Duration = Duration::from_secs(300);
const STATUS_PERIOD: Duration = Duration::from_secs(1);

/// Brings everything up, serves until a signal, and takes everything down again.
///
/// # Errors
/// When something is missing or in the way (then nothing was started), or does not come up.
pub async fn run(options: Options) -> Result<()> {
    let mut signals = Signals::listen().context("cannot listen to signals")?;
    let console = Console::new(!options.no_color);
    let began = Instant::now();
    options.check_addresses()?;
    let listeners = Listeners::of_gateways(&options)?;
    if let Some(path) = &options.endpoints {
        Endpoints::check_folder(path)?;
    }
    let programs = Programs::beside_this_one()?;
    let gateway_config = GatewayConfig::read(&options.gateway_config)?;
    let cluster = open_cluster(&options, &console)?;
    if let Some(path) = &options.endpoints {
        // Whoever waits for it must not take an earlier run's for ours.
        Endpoints::remove(path)?;
    }
    let mut supervisor = Supervisor::new(console.clone())?;
    let run = Run {
        options: &options,
        console: &console,
        programs,
        gateway_config,
        cluster,
        began,
    };
    let outcome = tokio::select! {
        outcome = run.serve(&mut supervisor, listeners) => outcome,
        () = signals.next() => Ok(()),
    };
    console.status("");
    console.say("==> stopping; Ctrl-C again stops at once");
    supervisor.stop(signals.next()).await;
    if let Some(path) = &options.endpoints {
        Endpoints::remove(path)?;
    }
    console.say("    nothing is left running");
    outcome
}

fn open_cluster(options: &Options, console: &Console) -> Result<Arc<Cluster>> {
    let dir = options.data_dir()?;
    if let Some(csv) = &options.csv {
        ensure!(
            csv.is_dir(),
            "--csv {}: there is no such directory",
            csv.display()
        );
    }
    let phase = console.phase(format_args!("Postgres cluster in {}", dir.display()));
    let settings = Settings::durable();
    let opening = cluster::Options {
        binaries: options.pg_bin.clone(),
        settings,
        fresh: options.fresh,
    };
    let cluster = Cluster::open(&dir, opening)?;
    phase.done(format_args!(
        "Postgres {} of {}, on a socket of its own",
        cluster.binaries().major_version()?,
        cluster.binaries().dir().display()
    ));
    Ok(Arc::new(cluster))
}

/// The ports of programs that have two each: shut until the programs are started, and theirs from then on.
struct Listeners(Vec<(Reserved, Reserved)>);

impl Listeners {
    /// Gateways': the first one's as they were named, the others' anywhere.
    fn of_gateways(options: &Options) -> Result<Self> {
        let first = (
            Reserved::named(options.listen, "--listen")?,
            Reserved::named(options.admin, "--admin")?,
        );
        let mut listeners = Self::anywhere(options.gateways - 1)?;
        listeners.0.insert(0, first);
        Ok(listeners)
    }

    fn anywhere(programs: u16) -> Result<Self> {
        let reserve = |_| Ok((Reserved::any()?, Reserved::any()?));
        Ok(Self((0..programs).map(reserve).collect::<Result<_>>()?))
    }

    /// Lets the programs listen; two addresses for each.
    fn release(&mut self) -> impl Iterator<Item = (SocketAddr, SocketAddr)> {
        let release = |(one, other): &mut (Reserved, Reserved)| (one.release(), other.release());
        self.0.iter_mut().map(release)
    }
}

/// One run of the system.
struct Run<'a> {
    options: &'a Options,
    console: &'a Console,
    programs: Programs,
    gateway_config: GatewayConfig,
    cluster: Arc<Cluster>,
    began: Instant,
}

impl Run<'_> {
    async fn serve(&self, supervisor: &mut Supervisor, mut listeners: Listeners) -> Result<()> {
        let client = Client::new();
        self.start_postgres(supervisor).await?;
        self.migrate(supervisor).await?;
        if !self.has_data()? {
            let csv = self.csv_files(supervisor).await?;
            self.load(supervisor, &csv).await?;
        }
        let replicas = self.start_replicas(supervisor).await?;
        let mut origin_listeners = Listeners::anywhere(self.options.origins)?;
        let origins = self
            .start_origins(supervisor, &client, &mut origin_listeners, &replicas)
            .await?;
        let admin_token = self.admin_token()?;
        let gateways = self
            .start_gateways(supervisor, &client, &mut listeners, &origins)
            .await?;
        let endpoints = self.endpoints(admin_token, &gateways, &origins, &replicas);
        if let Some(path) = &self.options.endpoints {
            endpoints.write(path)?;
        }
        self.console.say(&format!(
            "==> serving after {:.1} s",
            self.began.elapsed().as_secs_f64()
        ));
        self.console.frame(&endpoints.lines());
        self.console.say("Try: a page of reviews, of which Cache-Status tells a miss, and a hit when it is asked for again;");
        self.console
            .say("a new review; the page again: a miss, with the new review first\n");
        for command in endpoints.to_try() {
            self.console.say(&command);
        }
        self.console.say("");
        self.show_status(&client, &endpoints).await
    }

    async fn start_postgres(&self, supervisor: &mut Supervisor) -> Result<()> {
        let phase = self.console.phase("starting Postgres");
        let cluster = Arc::clone(&self.cluster);
        let service = Service::new("postgres", move || cluster.command())
            .stopped_by(Signal::SIGINT)
            .grace(Duration::from_secs(60));
        let cluster = &self.cluster;
        for postgres in supervisor.start(vec![service])? {
            postgres
                .ready(RECOVERY_LIMIT, async |id| cluster.is_ready(id))
                .await?;
        }
        cluster.create_database_unless_exists(DATABASE)?;
        phase.done("ready");
        Ok(())
    }

    async fn migrate(&self, supervisor: &Supervisor) -> Result<()> {
        let phase = self.console.phase("applying the schema");
        supervisor
            .run(self.programs.migrate(&self.owner_url()))
            .await?;
        phase.done("up to date");
        Ok(())
    }

    /// Whether a load has been completed in this data directory; one that failed or was stopped
    /// has left nothing to keep.
    fn has_data(&self) -> Result<bool> {
        let last = self
            .cluster
            .psql(DATABASE, "select max(finished_at) from service.loads")?;
        if last.is_empty() {
            return Ok(false);
        }
        ensure!(
            self.options.csv.is_none(),
            "{} holds data already, which --csv would replace: add --fresh to start anew, or choose another \
             directory with --data",
            self.cluster.dir().display(),
        );
        self.console.say(&format!(
            "==> keeping the data loaded at {last} (--fresh starts anew)"
        ));
        Ok(true)
    }

    /// The files to load: the operator's, or newly generated ones.
    async fn csv_files(&self, supervisor: &Supervisor) -> Result<PathBuf> {
        if let Some(dir) = &self.options.csv {
            return Ok(dir.clone());
        }
        let dir = self.cluster.dir().join("csv");
        if dir.exists() {
            fs::remove_dir_all(&dir).context("cannot remove earlier generated files")?;
        }
        let products = self.options.products;
        let phase = self.console.phase(format_args!(
            "generating dirty CSV files of {products} products"
        ));
        supervisor
            .run(self.programs.generate(&dir, products, SEED))
            .await?;
        phase.done(format_args!("in {}", dir.display()));
        Ok(dir)
    }

    async fn load(&self, supervisor: &Supervisor, csv: &Path) -> Result<()> {
        let phase = self
            .console
            .phase(format_args!("loading {}", csv.display()));
        let dir = self.cluster.dir();
        let (rejects, report) = (dir.join("rejects.csv"), dir.join("load-report.json"));
        let command = self
            .programs
            .load(&self.owner_url(), csv, &rejects, &report);
        let loaded = supervisor.run(command).await;
        // What the loader said has scrolled by, or not: it is said again at the end.
        loaded.map_err(|error| match programs::load_error(&report) {
            Some(reason) => anyhow!("loading {} failed: {reason}", csv.display()),
            None => error,
        })?;
        phase.done(format_args!("rejected rows are in {}", rejects.display()));
        Ok(())
    }

    async fn start_replicas(&self, supervisor: &mut Supervisor) -> Result<Vec<Arc<Replica>>> {
        let count = self.options.replicas;
        if count == 0 {
            return Ok(Vec::new());
        }
        let phase = self
            .console
            .phase(format_args!("starting {count} replicas of the database"));
        let mut replicas = Vec::new();
        let mut services = Vec::new();
        for n in 1..=count {
            let primary = Arc::clone(&self.cluster);
            let dir = primary.dir().join(format!("replica-{n}"));
            // The first time it copies everything.
            let opening = tokio::task::spawn_blocking(move || Replica::open(&primary, &dir));
            let replica = Arc::new(opening.await.context("copying the database")??);
            replicas.push(Arc::clone(&replica));
            let service = Service::new(format!("replica-{n}"), move || replica.cluster().command());
            services.push(
                service
                    .stopped_by(Signal::SIGINT)
                    .grace(Duration::from_secs(60)),
            );
        }
        for (service, replica) in supervisor.start(services)?.iter().zip(&replicas) {
            let cluster = replica.cluster();
            service
                .ready(RECOVERY_LIMIT, async |id| cluster.is_ready(id))
                .await?;
        }
        phase.done("following");
        Ok(replicas)
    }

    async fn start_origins(
        &self,
        supervisor: &mut Supervisor,
        client: &Client,
        listeners: &mut Listeners,
        replicas: &[Arc<Replica>],
    ) -> Result<Vec<OriginAddresses>> {
        let phase = self
            .console
            .phase(format_args!("starting {} origins", self.options.origins));
        let addresses: Vec<OriginAddresses> = listeners
            .release()
            .map(|(public, private)| OriginAddresses { public, private })
            .collect();
        let url = self.cluster.app_url(DATABASE);
        let read_urls: Vec<String> = replicas
            .iter()
            .map(|replica| replica.cluster().app_url(DATABASE))
            .collect();
        let service = |(n, addresses): (usize, &OriginAddresses)| {
            let (programs, addresses) = (self.programs.clone(), *addresses);
            let (url, read_urls) = (url.clone(), read_urls.clone());
            Service::new(format!("origin-{}", n + 1), move || {
                programs.origin(addresses, &url, &read_urls)
            })
        };
        let services = addresses.iter().enumerate().map(service).collect();
        for (origin, at) in supervisor.start(services)?.iter().zip(&addresses) {
            let url = format!("{}/readyz", ports::url(at.private));
            origin
                .ready(READY_LIMIT, async |_| answers_ok(client, &url).await)
                .await?;
        }
        phase.done("ready");
        Ok(addresses)
    }

    async fn start_gateways(
        &self,
        supervisor: &mut Supervisor,
        client: &Client,
        listeners: &mut Listeners,
        origins: &[OriginAddresses],
    ) -> Result<Vec<GatewayAddresses>> {
        let count = self.options.gateways;
        let phase = match count {
            1 => self.console.phase("starting the gateway"),
            _ => self
                .console
                .phase(format_args!("starting {count} gateways")),
        };
        let told = self.gateway_config.clone().with_origins(origins);
        let addresses: Vec<GatewayAddresses> = listeners
            .release()
            .map(|(public, admin)| GatewayAddresses { public, admin })
            .collect();
        let configs = self.write_configs(&told, &addresses)?;
        let service = |(n, addresses): (usize, &GatewayAddresses)| {
            let (programs, addresses) = (self.programs.clone(), *addresses);
            let (config, token_file) = (configs[n].clone(), self.admin_token_file());
            let name = match count {
                1 => "gateway".to_owned(),
                _ => format!("gateway-{}", n + 1),
            };
            Service::new(name, move || {
                programs.gateway(addresses, &config, &token_file)
            })
        };
        let services = addresses.iter().enumerate().map(service).collect();
        for (gateway, at) in supervisor.start(services)?.iter().zip(&addresses) {
            let url = format!("{}/products?count=1", ports::url(at.public));
            gateway
                .ready(READY_LIMIT, async |_| answers_ok(client, &url).await)
                .await?;
        }
        phase.done("ready");
        Ok(addresses)
    }

    /// One file for each gateway: in each, the others are its peers.
    fn write_configs(
        &self,
        config: &GatewayConfig,
        gateways: &[GatewayAddresses],
    ) -> Result<Vec<PathBuf>> {
        let write = |n: usize| {
            let name = match gateways.len() {
                1 => "gateway.toml".to_owned(),
                _ => format!("gateway-{}.toml", n + 1),
            };
            let path = self.cluster.dir().join(name);
            let others = gateways.iter().enumerate().filter(|(other, _)| *other != n);
            let peers: Vec<_> = others.map(|(_, other)| other.admin).collect();
            config.clone().with_peers(&peers).write(&path)?;
            Ok(path)
        };
        (0..gateways.len()).map(write).collect()
    }

    fn endpoints(
        &self,
        admin_token: String,
        gateways: &[GatewayAddresses],
        origins: &[OriginAddresses],
        replicas: &[Arc<Replica>],
    ) -> Endpoints {
        let urls_of = |addresses: Vec<_>| addresses.into_iter().map(ports::url).collect();
        let public: Vec<String> = urls_of(gateways.iter().map(|one| one.public).collect());
        let admins: Vec<String> = urls_of(gateways.iter().map(|one| one.admin).collect());
        Endpoints {
            gateway: public[0].clone(),
            admin: admins[0].clone(),
            gateways: public,
            admins,
            admin_token,
            origins: urls_of(origins.iter().map(|one| one.public).collect()),
            origins_private: urls_of(origins.iter().map(|one| one.private).collect()),
            database_url: self.cluster.app_url(DATABASE),
            owner_url: self.cluster.owner_url(DATABASE),
            replicas: replicas
                .iter()
                .map(|replica| replica.cluster().owner_url(DATABASE))
                .collect(),
        }
    }

    async fn show_status(&self, client: &Client, endpoints: &Endpoints) -> Result<()> {
        if !self.console.is_terminal() {
            return std::future::pending().await;
        }
        loop {
            let line = status::line(client, endpoints, self.began.elapsed()).await;
            self.console.status(&line);
            tokio::time::sleep(STATUS_PERIOD).await;
        }
    }

    /// The token of the admin listener, made on the first run.
    fn admin_token(&self) -> Result<String> {
        let path = self.admin_token_file();
        if !path.exists() {
            endpoints::write_secret(&path, &endpoints::new_token()?)?;
        }
        let token = fs::read_to_string(&path);
        let token = token.with_context(|| format!("cannot read {}", path.display()))?;
        Ok(token.trim().to_owned())
    }

    fn admin_token_file(&self) -> PathBuf {
        self.cluster.dir().join("admin-token")
    }

    fn owner_url(&self) -> String {
        self.cluster.owner_url(DATABASE)
    }
}

async fn answers_ok(client: &Client, url: &str) -> bool {
    client
        .get(url, None)
        .await
        .is_ok_and(|answer| answer.status == 200)
}
