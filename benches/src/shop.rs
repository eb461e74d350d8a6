//! A whole system of which every part can be broken: Postgres, origins and gateway as processes of the measurement.
//!
//! It has what `stack up` has, but nothing is started again unless the measurement does so.

use std::fs::File;
use std::net::SocketAddr;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use stack::ports::Reserved;
use stack::{Cluster, Settings, cluster};
use tempfile::TempDir;

use crate::client::Client;
use crate::load::get;
use crate::origin_process::Origin;
use crate::paced::becomes_true;
use crate::program::Program;
use crate::running::{open_to_others, sibling};

pub(crate) const DATABASE: &str = "atelier";
pub(crate) const GATEWAY_CONFIG: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../ops/shop.toml");
const READY_LIMIT: Duration = Duration::from_secs(30);
const ANSWER_LIMIT: Duration = Duration::from_secs(2);

/// A running system; it and its data go when it is dropped, what clients reach first.
pub struct Shop {
    /// The gateway.
    pub gateway: Program,
    /// Where the gateway serves.
    pub address: SocketAddr,
    /// Where its admin listener is; the token is in the file `admin-token` of the directory.
    pub admin: SocketAddr,
    /// The origins behind it.
    pub origins: Vec<Origin>,
    /// Their database's server.
    pub cluster: Cluster,
    dir: TempDir,
    _ports: [Reserved; 2],
}

impl Shop {
    /// Starts a system with generated products.
    ///
    /// # Errors
    /// A part does not come up.
    pub fn up(products: u64, origins: usize) -> Result<Self> {
        // Under /var/tmp: the account that runs Postgres must be able to enter it.
        let dir = tempfile::Builder::new()
            .prefix("atelier-bench")
            .tempdir_in("/var/tmp")?;
        open_to_others(dir.path())?;
        let options = cluster::Options {
            binaries: None,
            settings: Settings::durable(),
            fresh: false,
        };
        let cluster = Cluster::open(&dir.path().join("data"), options)?;
        cluster.start()?;
        cluster.create_database_unless_exists(DATABASE)?;
        fill(dir.path(), &cluster.owner_url(DATABASE), products)?;
        let origins: Vec<Origin> = (1..=origins)
            .map(|number| {
                let log = dir.path().join(format!("origin-{number}.log"));
                Origin::start(&cluster.app_url(DATABASE), &log, &[])
            })
            .collect::<Result<_>>()?;
        let upstreams: Vec<SocketAddr> = origins.iter().map(|origin| origin.public).collect();
        let ports = [Reserved::any()?, Reserved::any()?];
        let [address, admin] = ports.each_ref().map(Reserved::address);
        let gateway = start_gateway(dir.path(), address, admin, &upstreams)?;
        let mut shop = Self {
            gateway,
            address,
            admin,
            origins,
            cluster,
            dir,
            _ports: ports,
        };
        shop.wait_for_gateway()?;
        Ok(shop)
    }

    /// Waits until the gateway serves from an origin.
    ///
    /// # Errors
    /// It ends, or takes too long.
    pub fn wait_for_gateway(&mut self) -> Result<()> {
        let mut client = Client::new(self.address, ANSWER_LIMIT);
        let gateway = &mut self.gateway;
        let ready = becomes_true(READY_LIMIT, || {
            !gateway.is_running()
                || client
                    .exchange(&get("/products?count=1"))
                    .is_ok_and(|reply| reply.status == 200)
        });
        ensure!(
            ready && gateway.is_running(),
            "the gateway does not serve; see {}",
            gateway.log().display()
        );
        Ok(())
    }

    /// Whether every origin and the gateway are the processes that were started last.
    pub fn all_run(&mut self) -> bool {
        let mut origins = self.origins.iter_mut();
        self.gateway.is_running() && origins.all(|origin| origin.program.is_running())
    }

    /// Kills Postgres with SIGKILL: the sessions first, then the server, before it can tidy up after them.
    ///
    /// # Errors
    /// It does not run.
    pub fn kill_postgres(&self) -> Result<()> {
        kill_server(&self.cluster)
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

    /// The database, for its owner.
    pub fn owner_url(&self) -> String {
        self.cluster.owner_url(DATABASE)
    }

    /// The directory of logs and data.
    pub fn dir(&self) -> &Path {
        self.dir.path()
    }
}

/// Kills a server with SIGKILL: the sessions first, then the server, before it can tidy up after them.
///
/// # Errors
/// It does not run.
pub fn kill_server(cluster: &Cluster) -> Result<()> {
    use nix::sys::signal::{Signal, kill};
    for session in stack::process::children(cluster.server_id()?)? {
        // It may end while we go through the list.
        let _ = kill(stack::process::pid(session), Signal::SIGKILL);
    }
    cluster.kill9()
}

/// Creates the schema, and generates and loads the data.
pub(crate) fn fill(dir: &Path, owner_url: &str, products: u64) -> Result<()> {
    let path = |name: &str| -> Result<String> {
        let path = dir.join(name).into_os_string().into_string();
        path.ok().context("a path in UTF-8")
    };
    let (csv, rejects, report) = (path("csv")?, path("rejects.csv")?, path("load.json")?);
    let products = products.to_string();
    let log = dir.join("etl.log");
    for arguments in [
        &["migrate", "--database-url", owner_url][..],
        &[
            "generate",
            "--out",
            &csv,
            "--products",
            &products,
            "--seed",
            "1",
        ],
        &[
            "load",
            "--database-url",
            owner_url,
            "--csv",
            &csv,
            "--rejects",
            &rejects,
            "--report",
            &report,
        ],
    ] {
        let output = File::options().create(true).append(true).open(&log)?;
        let status = Command::new(sibling("etl")?)
            .args(arguments)
            .env_remove("DATABASE_URL")
            .stdin(Stdio::null())
            .stdout(output.try_clone()?)
            .stderr(output)
            .status()
            .context("running etl")?;
        if !status.success() {
            let log = std::fs::read_to_string(&log).unwrap_or_default();
            anyhow::bail!("etl {} ended with {status}: {log}", arguments[0]);
        }
    }
    Ok(())
}

fn start_gateway(
    dir: &Path,
    listen: SocketAddr,
    admin: SocketAddr,
    upstreams: &[SocketAddr],
) -> Result<Program> {
    let binary = sibling("gateway")?;
    let token_file = dir.join("admin-token");
    let upstreams = upstreams.to_vec();
    Program::start(&dir.join("gateway.log"), move || {
        let mut command = Command::new(&binary);
        command
            .args(["run", "--config", GATEWAY_CONFIG])
            .args(["--listen", &listen.to_string()])
            .args(["--admin", &admin.to_string()])
            .arg("--admin-token-file")
            .arg(&token_file);
        for upstream in &upstreams {
            command.args(["--upstream", &upstream.to_string()]);
        }
        command
    })
}
