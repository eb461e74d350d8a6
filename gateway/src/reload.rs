//! Settings that change while requests run: read again on a signal, when the file changes, and when an operator says so.
//!
//! All or nothing: a file with a problem changes nothing, and what is wrong with it is logged and told. A request ends with the
//! settings that it began with. What only a new process can change stays as it is, and is named.

use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use async_trait::async_trait;
use parking_lot::Mutex;
use pingora::server::ShutdownWatch;
use pingora::services::background::BackgroundService;
use rustls::sign::CertifiedKey;
use serde::Serialize;
use serde_json::json;
use tokio::signal::unix::{SignalKind, signal};
use utoipa::ToSchema;

use crate::balance::{Pool, places_of};
use crate::config::{Config, Overrides, Problems};
use crate::notify::Notifier;
use crate::policy::time::http_date;
use crate::proxy::Current;
use crate::tls::{self, Certificate};

/// How often the files are looked at. A change is taken over when it has rested for as long.
const LOOK_EVERY: Duration = Duration::from_millis(500);

/// Where settings come from.
#[derive(Debug)]
pub struct Source {
    /// The configuration file.
    pub file: PathBuf,
    /// What the command line says, which wins over the file.
    pub overrides: Overrides,
}

/// What a reload was started by.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Trigger {
    /// SIGHUP.
    Signal,
    /// A file that is not what it was.
    FileChange,
    /// An operator's call.
    Operator,
}

/// A reload that was taken over.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
pub struct Report {
    /// How many times settings were taken over since start.
    pub generation: u64,
    /// Settings that are others now.
    pub changed: Vec<String>,
    /// Settings that are others in the file, which only a new process takes over.
    pub needs_upgrade: Vec<String>,
    /// Origins that operators added and the file does not name: they stay.
    pub nodes_added: Vec<String>,
    /// Origins that the file names and operators removed: they stay out.
    pub nodes_removed: Vec<String>,
}

/// Why the settings of before are in force.
#[derive(Debug, thiserror::Error)]
pub enum Refused {
    /// The gateway was started from flags alone.
    #[error("there is no configuration file: the gateway was started without one")]
    NoFile,
    /// What is wrong with the file.
    #[error("{0}")]
    Settings(#[from] Problems),
    /// What the settings name cannot be used.
    #[error("{0:#}")]
    Other(#[from] anyhow::Error),
}

impl Refused {
    /// Each problem on a line of its own.
    pub fn lines(&self) -> Vec<String> {
        self.to_string().lines().map(str::to_owned).collect()
    }
}

/// Reads the settings again and puts them in force.
pub struct Reloader {
    source: Option<Source>,
    current: Arc<Current>,
    pool: Arc<Pool>,
    notifier: Arc<Notifier>,
    certificate: Option<Arc<Certificate>>,
    state: Mutex<State>,
}

/// What is known of the reloads so far; held during one, so that they come one after the other.
struct State {
    generation: u64,
    taken_over_at: SystemTime,
    needs_upgrade: Vec<String>,
    /// Lines about the newest reload, if it was refused.
    problems: Vec<String>,
    last: Option<(Trigger, SystemTime)>,
    /// The files as they were when they were read.
    read: Vec<Stamp>,
    /// The files as they were at the last look, if they were others.
    seen: Option<Vec<Stamp>>,
}

/// What tells that a file is another than before; `None` for one that is not there.
type Stamp = Option<(i64, i64, u64, u64)>;

impl Reloader {
    /// Reloads what `current` serves from where its settings came from.
    pub fn new(
        source: Option<Source>,
        current: Arc<Current>,
        pool: Arc<Pool>,
        notifier: Arc<Notifier>,
        certificate: Option<Arc<Certificate>>,
    ) -> Self {
        let read = stamps(source.as_ref(), current.gateway().config());
        Self {
            source,
            current,
            pool,
            notifier,
            certificate,
            state: Mutex::new(State {
                generation: 0,
                taken_over_at: SystemTime::now(),
                needs_upgrade: Vec::new(),
                problems: Vec::new(),
                last: None,
                read,
                seen: None,
            }),
        }
    }

    /// Reads the settings and puts them in force, whole or not at all. Blocks while files are read and names are resolved.
    ///
    /// # Errors
    /// Why the settings of before are in force.
    pub fn reload(&self, trigger: Trigger) -> Result<Report, Refused> {
        let mut state = self.state.lock();
        // Before reading: a change that comes while they are read is found at the next look.
        state.read = stamps(self.source.as_ref(), self.current.gateway().config());
        state.seen = None;
        state.last = Some((trigger, SystemTime::now()));
        self.notifier.reloading();
        let outcome = self.take_over();
        self.notifier.ready();
        match outcome {
            Ok((changed, needs_upgrade)) => {
                state.generation += 1;
                state.taken_over_at = SystemTime::now();
                state.problems.clear();
                state.needs_upgrade.clone_from(&needs_upgrade);
                state.read = stamps(self.source.as_ref(), self.current.gateway().config());
                let generation = state.generation;
                let (nodes_added, nodes_removed) = self.pool.ordered();
                tracing::info!(
                    ?trigger,
                    generation,
                    ?changed,
                    ?needs_upgrade,
                    ?nodes_added,
                    ?nodes_removed,
                    "settings taken over"
                );
                Ok(Report {
                    generation,
                    changed,
                    needs_upgrade,
                    nodes_added,
                    nodes_removed,
                })
            }
            Err(refused) => {
                state.problems = refused.lines();
                for problem in &state.problems {
                    tracing::error!(?trigger, "settings not taken over: {problem}");
                }
                Err(refused)
            }
        }
    }

    /// The settings that changed, and those that only a new process takes over.
    fn take_over(&self) -> Result<(Vec<String>, Vec<String>), Refused> {
        let source = self.source.as_ref().ok_or(Refused::NoFile)?;
        let asked = Config::load(&source.file, &source.overrides)?;
        let running = self.current.gateway();
        let mut config = asked.clone();
        config.keep_fixed(running.config());
        let needs_upgrade = asked.differences(&config);
        let changed = config.differences(running.config());
        let has_changed = |setting: &str| changed.iter().any(|known| known == setting);
        let upstream = config.upstream.clone();
        let places = if has_changed("upstream.nodes") {
            Some(places_of(&upstream.nodes)?)
        } else {
            None
        };
        let next = running.renewed(config)?;
        let certificate = self.certificate_of(&asked)?;
        // From here on nothing can fail.
        if changed
            .iter()
            .any(|setting| setting.starts_with("upstream."))
        {
            self.pool.configure(&upstream);
        }
        if let Some(places) = places {
            self.pool
                .set_origins(&upstream.nodes, &places, Instant::now());
        }
        if let Some((serving, next)) = certificate {
            serving.replace(next);
        }
        self.current.replace(next);
        Ok((changed, needs_upgrade))
    }

    /// The certificate that is served, and the one that the settings name now.
    fn certificate_of(
        &self,
        config: &Config,
    ) -> anyhow::Result<Option<(&Certificate, CertifiedKey)>> {
        let Some((serving, tls)) = self.certificate.as_deref().zip(config.tls.as_ref()) else {
            return Ok(None);
        };
        let files = tls.certificate_file.as_deref().zip(tls.key_file.as_deref());
        let next = files
            .map(|(chain, key)| tls::read(chain, key))
            .transpose()?;
        Ok(next.map(|next| (serving, next)))
    }

    /// Whether the files have changed since they were read, and have rested since the last look.
    fn have_files_changed(&self) -> bool {
        let now = stamps(self.source.as_ref(), self.current.gateway().config());
        let mut state = self.state.lock();
        if now == state.read {
            state.seen = None;
            return false;
        }
        let has_rested = state.seen.as_ref() == Some(&now);
        state.seen = Some(now);
        has_rested
    }

    /// What operators see.
    pub fn status(&self) -> serde_json::Value {
        let state = self.state.lock();
        let (nodes_added, nodes_removed) = self.pool.ordered();
        json!({
            "file": self.source.as_ref().map(|source| source.file.display().to_string()),
            "generation": state.generation,
            "taken_over_at": date(state.taken_over_at),
            "needs_upgrade": state.needs_upgrade,
            "nodes_added": nodes_added,
            "nodes_removed": nodes_removed,
            "last_reload": state.last.map(|(trigger, at)| json!({
                "trigger": trigger,
                "at": date(at),
                "problems": state.problems,
            })),
        })
    }
}

fn date(at: SystemTime) -> String {
    let date = http_date(at);
    date.to_str().unwrap_or_default().to_owned()
}

/// The files that the settings are in.
fn stamps(source: Option<&Source>, config: &Config) -> Vec<Stamp> {
    let tokens = config.auth.tokens_file.as_deref();
    let tls = config.tls.iter();
    let keys = tls.flat_map(|tls| [&tls.certificate_file, &tls.key_file]);
    let keys = keys.filter_map(Option::as_deref);
    let files = source.map(|source| source.file.as_path());
    files
        .into_iter()
        .chain(tokens)
        .chain(keys)
        .map(stamp)
        .collect()
}

fn stamp(file: &Path) -> Stamp {
    let metadata = std::fs::metadata(file).ok()?;
    Some((
        metadata.mtime(),
        metadata.mtime_nsec(),
        metadata.len(),
        metadata.ino(),
    ))
}

/// Reloads on SIGHUP and when a file changes, for as long as the gateway runs.
pub struct ReloadService {
    reloader: Arc<Reloader>,
}

impl ReloadService {
    /// Drives a reloader.
    pub fn new(reloader: Arc<Reloader>) -> Self {
        Self { reloader }
    }

    async fn reload(&self, trigger: Trigger) {
        let reloader = Arc::clone(&self.reloader);
        let work = tokio::task::spawn_blocking(move || {
            // Whatever comes of it is logged and in the status.
            let _ = reloader.reload(trigger);
        });
        if let Err(error) = work.await {
            tracing::error!(%error, "a reload ended early");
        }
    }
}

#[async_trait]
impl BackgroundService for ReloadService {
    async fn start(&self, mut shutdown: ShutdownWatch) {
        let mut hangups = match signal(SignalKind::hangup()) {
            Ok(hangups) => hangups,
            Err(error) => {
                tracing::error!(%error, "SIGHUP cannot be waited for");
                return;
            }
        };
        let mut looks = tokio::time::interval(LOOK_EVERY);
        looks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                _ = shutdown.changed() => return,
                _ = hangups.recv() => self.reload(Trigger::Signal).await,
                _ = looks.tick() => {
                    if self.reloader.have_files_changed() {
                        self.reload(Trigger::FileChange).await;
                    }
                }
            }
        }
    }
}
