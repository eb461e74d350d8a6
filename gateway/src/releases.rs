//! Which builds of the origins answer: when none of them is of some build any more, what that build wrote goes.
//!
//! Each origin names its build by a group on every read. A build has ended when no healthy origin answered with it last
//! and one answered with another. An origin that comes back counts again with its first answer; a build that ended too early
//! (its last origin was out for a moment) costs fetches and nothing else.

use std::collections::{HashMap, HashSet};
use std::mem;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use async_trait::async_trait;
use parking_lot::Mutex;
use pingora::server::ShutdownWatch;
use pingora::services::background::BackgroundService;

use crate::balance::{NodeId, Pool};
use crate::purge::{Cause, Journal, Mode, Scope};
use crate::store::{Order, Store};

/// Builds that are remembered at a time; with more, those that began first end.
const BUILDS_MAX: usize = 16;

/// The builds that answer.
pub struct Releases {
    /// How the groups begin that name a build.
    prefix: String,
    state: Mutex<State>,
}

struct State {
    /// What each origin answered with last.
    latest: HashMap<NodeId, Box<str>>,
    /// Builds of which something may be kept, in the order in which they came.
    live: Vec<Box<str>>,
}

impl Releases {
    /// Knows no build yet.
    pub fn new(prefix: String) -> Self {
        Self {
            prefix,
            state: Mutex::new(State {
                latest: HashMap::new(),
                live: Vec::new(),
            }),
        }
    }

    /// An origin's answer, about to be kept, is in these groups.
    pub fn observe(&self, origin: NodeId, groups: &[Box<str>]) {
        let Some(build) = groups.iter().find(|group| group.starts_with(&self.prefix)) else {
            return;
        };
        let state = &mut *self.state.lock();
        if state.latest.get(&origin) != Some(build) {
            state.latest.insert(origin, build.clone());
        }
        if !state.live.contains(build) {
            state.live.push(build.clone());
        }
    }

    /// The builds that have ended; each is told once. `is_healthy` says so of each origin.
    pub fn ended(&self, is_healthy: impl Fn(NodeId) -> bool) -> Vec<Box<str>> {
        let state = &mut *self.state.lock();
        state.latest.retain(|origin, _| is_healthy(*origin));
        let answering: Vec<_> = state.latest.values().collect();
        if !state.live.iter().any(|build| answering.contains(&build)) {
            return Vec::new(); // nobody answers: what there is, is needed
        }
        let (mut live, mut ended): (Vec<_>, Vec<_>) = mem::take(&mut state.live)
            .into_iter()
            .partition(|build| answering.contains(&build));
        let excess = live.len().saturating_sub(BUILDS_MAX);
        ended.extend(live.drain(..excess));
        state.live = live;
        ended
    }
}

/// Purges what builds wrote that have ended.
pub struct ReleaseService {
    releases: Arc<Releases>,
    pool: Arc<Pool>,
    store: Arc<Store>,
    journal: Arc<Journal>,
    interval: Duration,
}

impl ReleaseService {
    /// Looks at every interval; that of the health checks is right.
    pub fn new(
        releases: Arc<Releases>,
        pool: Arc<Pool>,
        store: Arc<Store>,
        journal: Arc<Journal>,
        interval: Duration,
    ) -> Self {
        Self {
            releases,
            pool,
            store,
            journal,
            interval,
        }
    }

    async fn look(&self) {
        let healthy: HashSet<_> = (self.pool.nodes().iter())
            .filter(|node| node.is_healthy())
            .map(|node| node.id())
            .collect();
        let is_healthy = |origin: NodeId| healthy.contains(&origin);
        for build in self.releases.ended(is_healthy) {
            let scopes = [Scope::Tag(&build)];
            let order = Order {
                scopes: &scopes,
                mode: Mode::Hard,
                hottest: 0,
            };
            let purged = self.store.begin_purge(&order).finish_in_turns().await;
            let numbered = (purged.sequence, Mode::Hard);
            self.journal
                .note(numbered, Cause::Release, &scopes, SystemTime::now());
            tracing::info!(%build, objects = purged.objects, "no origin has this build any more");
        }
    }
}

#[async_trait]
impl BackgroundService for ReleaseService {
    async fn start(&self, mut shutdown: ShutdownWatch) {
        let mut looks = tokio::time::interval(self.interval);
        looks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                _ = shutdown.changed() => return,
                _ = looks.tick() => self.look().await,
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answers(releases: &Releases, origin: u64, build: &str) {
        releases.observe(
            NodeId(origin),
            &["product-2".into(), format!("release-{build}").into()],
        );
    }

    fn releases() -> Releases {
        Releases::new("release-".to_owned())
    }

    #[test]
    fn a_build_ends_when_its_last_origin_answers_with_another() {
        let releases = releases();
        answers(&releases, 0, "a");
        answers(&releases, 1, "a");
        answers(&releases, 0, "b");
        assert!(releases.ended(|_| true).is_empty());
        answers(&releases, 1, "b");
        assert_eq!(releases.ended(|_| true), ["release-a".into()]);
        assert!(releases.ended(|_| true).is_empty(), "it is told once");
    }

    #[test]
    fn a_build_ends_when_its_last_origin_is_gone() {
        let releases = releases();
        answers(&releases, 0, "b");
        answers(&releases, 1, "a");
        assert_eq!(
            releases.ended(|origin| origin == NodeId(0)),
            ["release-a".into()]
        );
        answers(&releases, 1, "a");
        assert!(releases.ended(|_| true).is_empty());
        answers(&releases, 1, "b");
        assert_eq!(
            releases.ended(|_| true),
            ["release-a".into()],
            "it had come back"
        );
    }

    #[test]
    fn an_outage_ends_no_build() {
        let releases = releases();
        answers(&releases, 0, "a");
        assert!(releases.ended(|_| false).is_empty());
        assert!(releases.ended(|_| true).is_empty());
        answers(&releases, 0, "b");
        assert_eq!(releases.ended(|_| true), ["release-a".into()]);
    }

    #[test]
    fn an_answer_without_a_build_says_nothing() {
        let releases = releases();
        releases.observe(NodeId(0), &["product-2".into()]);
        assert!(releases.ended(|_| true).is_empty());
    }

    #[test]
    fn builds_that_are_remembered_are_bounded() {
        let releases = Releases::new("release-".to_owned());
        for origin in 0..100 {
            answers(&releases, origin, &origin.to_string());
        }
        assert_eq!(releases.ended(|_| true).len(), 100 - BUILDS_MAX);
    }
}
