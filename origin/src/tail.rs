//! Tells caches what has changed, as soon as it has been committed, whoever changed it.
//!
//! A task polls the outbox on the primary ([`poller`]) and keeps the last changes as events ([`history`]); any number of
//! streams read them ([`stream`]), each from the position that its reader names. README.md, "The stream of changes", is the
//! contract.
//!
//! - No change is skipped: a poll takes the rows of all transactions that the snapshot of the poll before had not seen,
//!   whatever the order of their numbers and commits ([`snapshot`]). Nothing waits for a transaction that is still open.
//! - Nothing is told before it is visible, and no position before all that precedes it.
//! - Whatever is not certain is "everything".

pub mod alone;
pub mod db;
pub mod events;
pub mod history;
pub mod metrics;
pub mod poller;
pub mod position;
pub mod snapshot;
pub mod stream;

use std::{
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use tokio::sync::{Notify, Semaphore, watch};

use crate::{
    config::{DatabaseUrl, TailSettings},
    database::{connect, tls::tls},
    state::RequestIds,
};
use db::Source;
use history::{History, Tip};
use metrics::Metrics;

/// How long a statement of the tailer may take: one that catches up reads a hundred thousand rows.
const STATEMENT_DEADLINE: Duration = Duration::from_secs(5);
/// Readers that catch up from the outbox at a time; more wait.
const CATCH_UPS_MAX: usize = 2;

/// The stream of changes of this process. Clones share it.
#[derive(Clone, Debug)]
pub struct Tail {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    source: Source,
    settings: TailSettings,
    metrics: Metrics,
    /// Names this process in events: numbers of polls are its own.
    name: String,
    state: Mutex<State>,
    /// Moves whenever there is something to send: a batch, an answer to a probe, the end.
    version: watch::Sender<u64>,
    /// Asks for a poll now.
    wake: Arc<Notify>,
    /// This origin has written: others want to know.
    has_written: AtomicBool,
    /// Somebody waits for a poll that begins from now on, whether or not it brings anything.
    is_awaited: AtomicBool,
    /// Polls that have begun.
    begun: AtomicU64,
    /// Reads of the outbox for readers that are far behind.
    catch_ups: Semaphore,
    is_ending: AtomicBool,
}

#[derive(Debug)]
struct State {
    history: History,
    /// Where the tailer is, once it has been anywhere.
    tip: Option<Tip>,
    /// The last poll that readers are told of, even if it brought nothing.
    announced: u64,
    /// When the last poll that succeeded was sent.
    polled_at: Instant,
}

impl Tail {
    /// Prepares the stream; [`poller::run`] makes it run.
    ///
    /// # Errors
    /// If a certificate that the URL names cannot be read.
    pub fn new(
        url: &DatabaseUrl,
        connect_timeout: Duration,
        settings: TailSettings,
        metrics: Metrics,
    ) -> anyhow::Result<Self> {
        let history = History::new(settings.history_bytes as usize);
        Ok(Self {
            shared: Arc::new(Shared {
                source: Source {
                    config: connect::config(url.options(), STATEMENT_DEADLINE),
                    tls: tls(url.options())?,
                    connect_timeout,
                    deadline: STATEMENT_DEADLINE + connect_timeout,
                },
                settings,
                metrics,
                name: RequestIds::new().next(),
                state: Mutex::new(State {
                    history,
                    tip: None,
                    announced: 0,
                    polled_at: Instant::now(),
                }),
                version: watch::Sender::new(0),
                wake: Arc::new(Notify::new()),
                has_written: AtomicBool::new(false),
                is_awaited: AtomicBool::new(false),
                begun: AtomicU64::new(0),
                catch_ups: Semaphore::new(CATCH_UPS_MAX),
                is_ending: AtomicBool::new(false),
            }),
        })
    }

    /// How to read the outbox.
    pub fn source(&self) -> &Source {
        &self.shared.source
    }

    /// A write of this process has committed: it is told at once, here and by other origins. Costs the write nothing.
    pub fn wrote(&self) {
        self.shared.has_written.store(true, Ordering::Release);
        self.shared.wake.notify_one();
    }

    /// Ends every stream: their readers go on elsewhere.
    pub fn end(&self) {
        self.shared.is_ending.store(true, Ordering::Release);
        self.shared.announce();
    }

    /// Whether the outbox has been read at all.
    pub fn has_position(&self) -> bool {
        self.shared.state().tip.is_some()
    }

    /// What changes without being told, by the last look at the triggers.
    pub fn untold(&self) -> Option<Arc<str>> {
        let state = self.shared.state();
        state.tip.as_ref().and_then(|tip| tip.untold.clone())
    }

    /// How old the last position is. As a metric it is that of the moment when it is read.
    pub fn position_age(&self) -> Duration {
        let age = self.shared.state().polled_at.elapsed();
        let millis = i64::try_from(age.as_millis()).unwrap_or(i64::MAX);
        self.shared.metrics.position_age_ms.set(millis);
        age
    }
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Wakes whoever has something to send.
    fn announce(&self) {
        self.version
            .send_modify(|version| *version = version.wrapping_add(1));
    }
}
