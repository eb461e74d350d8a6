//! Until the data changes: what this gateway knows of the database, from the stream of changes of its origins.
//!
//! [`Follower`] reads the stream and purges; [`Lease`] says until when that is all there is; [`Writes`] knows the own
//! writes that the stream has not shown yet. What a fill has to ask for, and whether a hit can be vouched for, is asked
//! here. The order of steps that makes this safe is stated in the README.

mod bucket;
mod clock;
mod event;
mod follower;
mod lease;
mod metrics;
mod peers;
mod position;
mod status;
mod stream;
mod token;
mod turns;
mod writes;

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, SystemTime};

use tokio::sync::{Semaphore, watch};
use tokio::time::Instant;

pub use bucket::{Bucket, Permit};
pub use clock::Moment;
pub use event::{BadEvent, News, Probed, Told, Transaction};
pub use follower::{Follower, Streams};
pub use lease::{Lease, Progress};
pub use metrics::CoherenceMetrics;
pub use peers::Peers;
pub use position::{Lsn, Malformed, Position, Token};
pub use status::CoherenceStatus;
pub use stream::{BadStream, Message, Parser};
pub use token::{COHERENCE_AFTER, COHERENCE_TOKEN, Presented, cookie, presented};
pub use turns::{Turn, Turns};
pub use writes::Writes;

use crate::config::{self, Mode};
use crate::sync::Mutex;

/// The reason for making everything stale where something was told that has not come.
const MISSED: &str = "missed";
/// Questions of other gateways that wait at a time; more are refused, and asked again.
const QUESTIONS_MAX: usize = 1_024;

/// What a fill asks for (`Cache-Coherence-After`): the least that the database which answers must have.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum After {
    /// Only the primary is known to have it.
    Primary,
    /// A replica that has replayed the log up to here has it too.
    Lsn(Lsn),
}

impl fmt::Display for After {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Primary => f.write_str("primary"),
            Self::Lsn(lsn) => lsn.fmt(f),
        }
    }
}

/// What is known of the database, shared by the follower and the requests.
pub struct Coherence {
    settings: config::Coherence,
    state: Mutex<State>,
    /// When the lease ends, in nanoseconds of [`Moment`]; every hit reads it. Zero before the first one.
    lease_until: AtomicU64,
    /// Moves with the position.
    moved: watch::Sender<()>,
    bucket: Arc<Bucket>,
    turns: Turns,
    /// Places for questions of other gateways.
    questions: Semaphore,
    /// Counters.
    pub metrics: CoherenceMetrics,
}

struct State {
    progress: Option<Progress>,
    /// The life of the server that the newest position was of.
    incarnation: Option<Arc<str>>,
    /// The highest place in the log that belongs to something which was purged.
    wal: Option<Lsn>,
    lease: Lease,
    /// The lease holds, as far as anybody has looked.
    is_held: bool,
    writes: Writes,
    /// The origin whose stream is open.
    following: Option<String>,
    /// When and why everything was made stale the last time.
    everything: Option<(Moment, Box<str>)>,
}

impl Coherence {
    /// Knows nothing yet.
    pub fn new(settings: config::Coherence, metrics: CoherenceMetrics) -> Self {
        Self {
            state: Mutex::new(State {
                progress: None,
                incarnation: None,
                wal: None,
                lease: Lease::new(settings.lease),
                is_held: false,
                writes: Writes::default(),
                following: None,
                everything: None,
            }),
            lease_until: AtomicU64::new(0),
            moved: watch::Sender::new(()),
            bucket: Arc::new(Bucket::new(settings.revalidations_max)),
            turns: Turns::new(),
            questions: Semaphore::new(QUESTIONS_MAX),
            metrics,
            settings,
        }
    }

    /// The settings in force.
    pub fn settings(&self) -> &config::Coherence {
        &self.settings
    }

    /// Whether nothing unproven is ever answered.
    pub fn is_strict(&self) -> bool {
        self.settings.mode == Mode::Strict
    }

    /// How long there has been no lease; `None` while there is one.
    pub fn unleased_for(&self, now: Moment) -> Option<Duration> {
        let until = self.lease_until.load(Ordering::Acquire);
        let now = now.nanoseconds();
        (now >= until).then(|| Duration::from_nanos(now - until))
    }

    /// Leave to ask an origin because the lease or a token demands it.
    pub fn permit(&self, now: Moment) -> Option<Permit> {
        self.bucket.take(now)
    }

    /// What a fill that begins now has to ask for. Its purge number must have been noted before.
    pub fn after(&self, now: Moment) -> After {
        let state = self.state.lock();
        let knows_all = state.progress.is_some()
            && state.writes.pending() == 0
            && self.unleased_for(now).is_none();
        match state.wal.filter(|_| knows_all) {
            Some(wal) => After::Lsn(wal),
            None => After::Primary,
        }
    }

    /// A write was answered; to be called before anything is purged for it.
    pub fn begin_write(&self, token: Option<&Token>, names_groups: bool, now: Moment) {
        let state = &mut *self.state.lock();
        let position = state.progress.as_ref().map(|progress| &progress.position);
        match token {
            Some(token) => state.writes.begin(token.clone(), position, now),
            None if names_groups => state.writes.begin_nameless(now),
            None => {}
        }
    }

    /// Waits until nobody else purges for any of these transactions. To be held from [`unpurged`](Self::unpurged) until what
    /// was purged is said.
    pub async fn turn(&self, tokens: impl IntoIterator<Item = &Token>) -> Turn<'_> {
        let tokens = tokens.into_iter().cloned().collect();
        self.turns.take(tokens).await
    }

    /// The groups of a transaction that are still to be purged for it.
    pub fn unpurged<'g>(&self, token: Option<&Token>, groups: &'g [Box<str>]) -> Vec<&'g str> {
        self.state.lock().writes.unpurged(token, groups)
    }

    /// A purge of groups for a transaction has taken effect.
    pub fn purged(&self, token: Option<&Token>, groups: &[Box<str>]) {
        if let Some(token) = token {
            let groups = groups.iter().map(|group| &**group);
            self.state.lock().writes.purged(token, groups);
        }
    }

    /// Whether everything that these writes made old is gone from here.
    pub fn has_seen(&self, tokens: &[Token]) -> bool {
        let state = self.state.lock();
        let includes = |token: &Token| {
            let progress = state.progress.as_ref();
            progress.is_some_and(|progress| progress.position.includes(token))
                || state.writes.took(token)
        };
        tokens.iter().all(includes)
    }

    /// Waits until everything that these writes made old is gone from here. False when it took too long.
    pub async fn see(&self, tokens: &[Token], wait: Duration) -> bool {
        let deadline = Instant::now() + wait;
        let mut moved = self.moved.subscribe();
        loop {
            moved.borrow_and_update();
            if self.has_seen(tokens) {
                return true;
            }
            match tokio::time::timeout_at(deadline, moved.changed()).await {
                Ok(Ok(())) => {}
                Ok(Err(_)) | Err(_) => return false,
            }
        }
    }

    /// Tells another gateway whether everything that a write made old is gone from here, and waits for it as long as a lease.
    /// `None` when too many are asked about.
    pub async fn confirm(&self, token: Token) -> Option<bool> {
        let _place = self.questions.try_acquire().ok()?;
        Some(self.see(&[token], self.settings.lease).await)
    }

    /// Brings the gauges up to date; they are read now.
    pub fn observe(&self, now: Moment) {
        let state = self.state.lock();
        let number = |number: u128| i64::try_from(number).unwrap_or(i64::MAX);
        self.metrics
            .lease
            .set(self.unleased_for(now).is_none().into());
        let age = state.lease.from().map(|from| now.since(from).as_millis());
        self.metrics.age.set(age.map_or(-1, number));
        self.metrics
            .pending
            .set(number(state.writes.pending() as u128));
    }
}

/// The follower's side.
impl Coherence {
    /// Where the stream goes on.
    fn resume_from(&self) -> Option<String> {
        let state = self.state.lock();
        let progress = state.progress.as_ref();
        progress.map(|progress| progress.position.as_str().to_owned())
    }

    fn follows(&self, origin: Option<&str>) {
        self.state.lock().following = origin.map(str::to_owned);
    }

    /// Something was told that is about to be purged. From here on fills ask for a database that has it: one that begins
    /// after the purge must not be answered from before it. What follows upon something that has not come is everything.
    fn prepare(&self, told: &mut Told) {
        let state = &mut *self.state.lock();
        let progress = state.progress.as_ref();
        let has_come = |since| progress.is_some_and(|progress| progress.position.covers(since));
        if told.since.as_ref().is_some_and(|since| !has_come(since)) {
            let reason = MISSED.into();
            told.news = News::Everything { reason };
        }
        let incarnation = told.position.as_ref().map(Position::incarnation);
        if incarnation.is_some_and(|new| state.incarnation.as_ref() != Some(new)) {
            // Another log, whose places mean something else. It may also be the one of before, of which an origin tells that has
            // not heard of the new one yet: until a probe proves that this is the present, there is no lease.
            state.wal = told.wal;
            state.incarnation = incarnation.cloned();
            state.lease = Lease::new(self.settings.lease);
            self.lease_until.store(0, Ordering::Release);
        } else {
            state.wal = state.wal.max(told.wal);
        }
    }

    /// What was told has been purged: it belongs to what is known.
    fn take(&self, told: Told, now: Moment) {
        self.metrics.applied(&told, SystemTime::now());
        let state = &mut *self.state.lock();
        match told.news {
            News::Everything { reason } => state.everything = Some((now, reason)),
            News::Changes(transactions) => {
                for Transaction { id, groups } in transactions {
                    if let Some(id) = id {
                        state
                            .writes
                            .purged(&id, groups.iter().map(|group| &**group));
                    }
                }
            }
            News::Nothing => {}
        }
        // Without a position more of the same poll is to come: nothing of it counts as known before that.
        let Some(position) = told.position else {
            return;
        };
        let progress = Progress {
            tailer: told.tailer,
            poll: told.poll,
            position,
        };
        if state.lease.applied(&progress) {
            self.extended(state, now);
        }
        state.writes.shown(&progress.position, state.lease.from());
        state.progress = Some(progress);
        self.moved.send_replace(());
    }

    /// Something was told that could not be understood: the stream begins anew, with everything.
    fn lose_position(&self) {
        self.state.lock().progress = None;
    }

    /// A probe that was sent at some moment was answered.
    fn answered(&self, sent: Moment, probed: Probed, now: Moment) {
        let state = &mut *self.state.lock();
        if state
            .lease
            .answered(sent, probed, state.progress.as_ref(), now)
        {
            self.extended(state, now);
        }
    }

    fn extended(&self, state: &mut State, now: Moment) {
        let until = state.lease.until().map_or(0, Moment::nanoseconds);
        self.lease_until.store(until, Ordering::Release);
        state.writes.proven(state.lease.from());
        if !state.is_held && self.unleased_for(now).is_none() {
            state.is_held = true;
            tracing::info!("following the data: there is a lease");
        }
    }

    fn leased_from(&self) -> Option<Moment> {
        self.state.lock().lease.from()
    }

    /// Notices that a lease has run out.
    fn look(&self, now: Moment) {
        let state = &mut *self.state.lock();
        if state.is_held && self.unleased_for(now).is_some() {
            state.is_held = false;
            self.metrics.lease_losses.inc();
            let following = state.following.as_deref();
            tracing::warn!(
                following,
                "the lease has run out: nothing here is known to be up to date"
            );
        }
    }
}

#[cfg(test)]
mod tests;
