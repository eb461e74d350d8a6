//! Which builds of the origins answer: when none of them is of some build any more, what that build wrote goes.
//!
//! Each origin names its build by a group on every read, and where its health is asked, which is asked at every look. A build
//! has ended when no origin in use named it last and one named another. An origin that comes back counts again with its
//! first answer; a build that ended too early (its last origin was out for a moment) costs fetches and nothing else.

mod ask;

use std::collections::{HashMap, HashSet};
use std::mem;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use async_trait::async_trait;
use parking_lot::Mutex;
use pingora::server::ShutdownWatch;
use pingora::services::background::BackgroundService;
use tokio::task::JoinSet;

use crate::balance::{Node, NodeId, Pool};
use crate::config;
use crate::purge::{Cause, Journal, Mode, Scope};
use crate::store::{Order, Store};
use ask::Asker;

/// Builds that are remembered at a time; with more, those that began first end.
const BUILDS_MAX: usize = 16;

/// The builds that answer.
pub struct Releases {
    /// How the groups begin that name a build.
    prefix: String,
    state: Mutex<State>,
}

struct State {
    /// What each origin named last.
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
        if let Some(build) = self.build(groups) {
            let state = &mut *self.state.lock();
            state.name(origin, build);
            if !state.live.iter().any(|known| **known == *build) {
                state.live.push(build.into());
            }
        }
    }

    /// An origin that was asked named these groups; nothing of them is kept for that.
    pub fn hear(&self, origin: NodeId, groups: &[Box<str>]) {
        if let Some(build) = self.build(groups) {
            self.state.lock().name(origin, build);
        }
    }

    fn build<'g>(&self, groups: &'g [Box<str>]) -> Option<&'g str> {
        let mut groups = groups.iter().map(|group| &**group);
        groups.find(|group| group.starts_with(&self.prefix))
    }

    /// The builds that have ended; each is told once. `is_used` says of each origin whether it may be asked for what is kept.
    pub fn ended(&self, is_used: impl Fn(NodeId) -> bool) -> Vec<Box<str>> {
        let state = &mut *self.state.lock();
        state.latest.retain(|origin, _| is_used(*origin));
        let answering: Vec<_> = state.latest.values().collect();
        if answering.is_empty() {
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

impl State {
    fn name(&mut self, origin: NodeId, build: &str) {
        if self.latest.get(&origin).map(|known| &**known) != Some(build) {
            self.latest.insert(origin, build.into());
        }
    }
}

/// Purges what builds wrote that have ended.
pub struct ReleaseService {
    releases: Arc<Releases>,
    pool: Arc<Pool>,
    store: Arc<Store>,
    journal: Arc<Journal>,
    asker: Arc<Asker>,
    interval: Duration,
}

impl ReleaseService {
    /// Asks and looks as often as the health checks do, and at the same place.
    pub fn new(
        releases: Arc<Releases>,
        pool: Arc<Pool>,
        store: Arc<Store>,
        journal: Arc<Journal>,
        health: &config::Health,
    ) -> Self {
        Self {
            releases,
            pool,
            store,
            journal,
            asker: Arc::new(Asker::new(health)),
            interval: health.interval,
        }
    }

    /// Asks these origins, all at once.
    async fn ask(&self, nodes: &[Arc<Node>]) {
        let mut answers = JoinSet::new();
        for node in nodes {
            let (asker, node) = (Arc::clone(&self.asker), Arc::clone(node));
            answers.spawn(async move { (node.id(), asker.groups(node.place()).await) });
        }
        while let Some(answer) = answers.join_next().await {
            if let Ok((origin, Some(groups))) = answer {
                self.releases.hear(origin, &groups);
            }
        }
    }

    async fn look(&self) {
        let nodes = self.pool.nodes();
        let used = nodes
            .iter()
            .filter(|node| node.is_healthy() && !node.is_drained());
        let used: Vec<_> = used.cloned().collect();
        self.ask(&used).await;
        let used: HashSet<_> = used.iter().map(|node| node.id()).collect();
        for build in self.releases.ended(|origin| used.contains(&origin)) {
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
    fn a_build_ends_for_who_keeps_it_though_nothing_of_the_next_one_is_kept() {
        let releases = releases();
        answers(&releases, 0, "a");
        let says = |origin, build: &str| releases.hear(NodeId(origin), &[build.into()]);
        says(1, "release-a");
        says(0, "release-b");
        assert!(releases.ended(|_| true).is_empty());
        says(1, "release-b");
        assert_eq!(releases.ended(|_| true), ["release-a".into()]);
        says(1, "release-a");
        says(1, "release-b");
        assert!(releases.ended(|_| true).is_empty(), "nothing of it is kept");
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
