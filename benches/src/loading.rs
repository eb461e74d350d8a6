//! The loader as a process, beside a Postgres of the measurement's own.

use std::ffi::OsStr;
use std::io::{BufRead as _, BufReader, Read as _};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc;
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow, bail, ensure};
use stack::{Cluster, Settings, cluster};
use tempfile::TempDir;

use crate::paced::{becomes_true, sleep_until};
use crate::program::resident_bytes;
use crate::running::{open_to_others, sibling};

const DATABASE: &str = "shop";
/// Between two looks at a running loader: its memory only ever grows.
const LOOK: Duration = Duration::from_millis(20);
/// How long sessions of a loader that is gone may last.
const GONE_LIMIT: Duration = Duration::from_secs(60);

/// A directory for files and databases, on a disk with room; it goes when it is dropped.
pub struct Workplace {
    dir: TempDir,
}

impl Workplace {
    /// A new directory in `parent`.
    ///
    /// # Errors
    /// It cannot be made.
    pub fn below(parent: &Path) -> Result<Self> {
        // The account that runs Postgres must be able to enter it.
        let dir = tempfile::Builder::new()
            .prefix("atelier-load")
            .tempdir_in(parent)?;
        open_to_others(dir.path())?;
        Ok(Self { dir })
    }

    /// The path of something in it.
    pub fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// Generates a data set in the folder `name`; gives the folder, and how the generator ran.
    ///
    /// # Errors
    /// The generator fails.
    pub fn generate(&self, name: &str, products: u64, seed: u64) -> Result<(PathBuf, Ran)> {
        let dir = self.path(name);
        let (products, seed) = (products.to_string(), seed.to_string());
        let ran = Etl::new("generate")
            .arg("--out", &dir)
            .arg("--products", products)
            .arg("--seed", seed)
            .run()?;
        Ok((dir, ran.succeeded()?))
    }

    /// Starts a server with an empty shop in the folder `name`.
    ///
    /// # Errors
    /// It does not start.
    pub fn database(&self, name: &str, settings: Settings) -> Result<Database> {
        let options = cluster::Options {
            binaries: None,
            settings,
            fresh: false,
        };
        let cluster = Cluster::open(&self.path(name), options)?;
        cluster.start()?;
        cluster.create_database_unless_exists(DATABASE)?;
        let database = Database { cluster };
        database.etl("migrate").run()?.succeeded()?;
        Ok(database)
    }
}

/// A server with a shop; stopped when dropped, its files remain.
pub struct Database {
    /// The server.
    pub cluster: Cluster,
}

impl Database {
    /// The shop, for its owner.
    pub fn url(&self) -> String {
        self.cluster.owner_url(DATABASE)
    }

    /// A subcommand of the loader with this database.
    pub fn etl(&self, subcommand: &str) -> Etl {
        Etl::new(subcommand).arg("--database-url", self.url())
    }

    /// Runs statements, and gives what `psql` prints: fields parted by `|`.
    ///
    /// # Errors
    /// One of them fails.
    pub fn psql(&self, statements: &str) -> Result<String> {
        self.cluster.psql(DATABASE, statements)
    }

    /// `psql` with a file of commands.
    ///
    /// # Errors
    /// One of them fails.
    pub fn psql_file(&self, file: &Path) -> Result<()> {
        let output = Command::new(self.cluster.binaries().program("psql"))
            .args(["-X", "-q", "-v", "ON_ERROR_STOP=1", "-f"])
            .arg(file)
            .arg(self.url())
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .output()
            .context("running psql")?;
        let told = String::from_utf8_lossy(&output.stderr);
        ensure!(output.status.success(), "psql: {}", told.trim());
        Ok(())
    }

    /// Ends what a killed loader left running on the server.
    ///
    /// # Errors
    /// It does not end.
    pub fn end_sessions(&self) -> Result<()> {
        let end = "select count(pg_terminate_backend(pid)) from pg_stat_activity where application_name = 'etl'";
        let mut ended = Ok(());
        let gone = becomes_true(GONE_LIMIT, || match self.psql(end) {
            Ok(count) => count == "0",
            Err(error) => {
                ended = Err(error);
                true
            }
        });
        ended?;
        ensure!(gone, "sessions of the loader outlive it");
        Ok(())
    }

    /// The checksums of all live tables, compared with the files they should be from on the way.
    ///
    /// # Errors
    /// They differ from the files.
    pub fn verified(&self, csv: &Path) -> Result<String> {
        let ran = self.etl("verify").arg("--csv", csv).run()?.succeeded()?;
        let sum = |line: &str| {
            let mut words = line.split_whitespace();
            let (table, sum) = (words.next()?, words.nth_back(1)?);
            line.ends_with("  equal").then(|| format!("{table} {sum}"))
        };
        let sums: Vec<String> = ran.output.lines().filter_map(sum).collect();
        ensure!(!sums.is_empty(), "verify told no checksum:\n{}", ran.output);
        Ok(sums.join("\n"))
    }
}

/// A command of the loader, not started yet.
pub struct Etl {
    subcommand: String,
    command: Result<Command>,
}

impl Etl {
    /// A subcommand without arguments.
    pub fn new(subcommand: &str) -> Self {
        let command = sibling("etl").map(|binary| {
            let mut command = Command::new(binary);
            command.arg(subcommand).env_remove("DATABASE_URL");
            command
        });
        Self {
            subcommand: subcommand.to_owned(),
            command,
        }
    }

    /// Adds an option and its value.
    #[must_use]
    pub fn arg(mut self, name: &str, value: impl AsRef<OsStr>) -> Self {
        if let Ok(command) = &mut self.command {
            command.arg(name).arg(value);
        }
        self
    }

    /// Starts it.
    ///
    /// # Errors
    /// It is not built, or cannot be started.
    pub fn start(self) -> Result<Running> {
        let started = Instant::now();
        let mut child = self
            .command?
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .context("starting etl")?;
        let stdout = child.stdout.take().context("no output")?;
        let stderr = child.stderr.take().context("no progress")?;
        let output = thread::spawn(move || {
            let mut text = String::new();
            BufReader::new(stdout).read_to_string(&mut text)?;
            Ok(text)
        });
        let (tell, lines) = mpsc::channel();
        thread::spawn(move || {
            // Nobody may listen any more.
            for line in BufReader::new(stderr).lines().map_while(Result::ok) {
                let _ = tell.send((started.elapsed(), line));
            }
        });
        Ok(Running {
            subcommand: self.subcommand,
            child,
            started,
            output,
            lines,
        })
    }

    /// Runs it to its end.
    ///
    /// # Errors
    /// It cannot be started. How it ended is in what is given.
    pub fn run(self) -> Result<Ran> {
        self.start()?.wait()
    }
}

/// A loader that runs.
pub struct Running {
    subcommand: String,
    child: Child,
    started: Instant,
    output: JoinHandle<Result<String>>,
    lines: mpsc::Receiver<(Duration, String)>,
}

impl Running {
    /// Kills it with SIGKILL once it has run for so long; says whether it still ran then.
    ///
    /// # Errors
    /// It cannot be waited for.
    pub fn kill_after(mut self, delay: Duration) -> Result<bool> {
        sleep_until(self.started + delay);
        let ran = self.child.try_wait()?.is_none();
        self.child.kill()?;
        self.child.wait()?;
        Ok(ran)
    }

    /// Kills it with SIGKILL when it tells a line that begins so; gives the seconds until then.
    ///
    /// # Errors
    /// It ends before.
    pub fn kill_when_told(mut self, start: &str) -> Result<f64> {
        let mut last = String::new();
        while let Ok((at, line)) = self.lines.recv() {
            if line.starts_with(start) {
                self.child.kill()?;
                self.child.wait()?;
                return Ok(at.as_secs_f64());
            }
            last = line;
        }
        bail!("etl {} never told {start}: {last}", self.subcommand)
    }

    /// Whether it has not ended.
    ///
    /// # Errors
    /// It cannot be asked.
    pub fn is_running(&mut self) -> Result<bool> {
        Ok(self.child.try_wait()?.is_none())
    }

    /// Waits for its end.
    ///
    /// # Errors
    /// It cannot be waited for.
    pub fn wait(mut self) -> Result<Ran> {
        let id = self.child.id();
        let mut peak_bytes = 0;
        let status = loop {
            if let Some(status) = self.child.try_wait()? {
                break status;
            }
            // It may end meanwhile.
            if let Ok((_, most)) = resident_bytes(id) {
                peak_bytes = peak_bytes.max(most);
            }
            sleep_until(Instant::now() + LOOK);
        };
        let seconds = self.started.elapsed().as_secs_f64();
        let joined = |_| anyhow!("a thread panicked");
        Ok(Ran {
            subcommand: self.subcommand,
            code: status.code(),
            seconds,
            peak_bytes,
            output: self.output.join().map_err(joined)??,
            lines: self.lines.into_iter().collect(),
        })
    }
}

/// A run of the loader that has ended.
#[derive(Debug)]
pub struct Ran {
    subcommand: String,
    /// Its exit code; none if it was killed.
    pub code: Option<i32>,
    /// How long it took.
    pub seconds: f64,
    /// The most memory that was resident.
    pub peak_bytes: u64,
    /// What it printed.
    pub output: String,
    /// What it told of its progress, and when.
    pub lines: Vec<(Duration, String)>,
}

impl Ran {
    /// The run, if it was a success.
    ///
    /// # Errors
    /// It was none; the error says what it told last.
    pub fn succeeded(self) -> Result<Self> {
        let last = self.lines.last().map_or("", |(_, line)| line);
        ensure!(
            self.code == Some(0),
            "etl {} ended with {:?}: {last}",
            self.subcommand,
            self.code
        );
        Ok(self)
    }

    /// When the last line came that begins so.
    pub fn told_at(&self, start: &str) -> Option<Duration> {
        let mut lines = self.lines.iter().rev();
        lines
            .find(|(_, line)| line.starts_with(start))
            .map(|(at, _)| *at)
    }
}
