//! One purge on its way through the shards, a bounded number of entries under each lock.

use std::sync::Arc;

use rustc_hash::{FxHashMap, FxHashSet};

use super::object::{Expired, Object};
use super::{Purged, Store};
use crate::policy::key::Key;
use crate::purge::{Mode, Prefix, Scope, Sequence};

/// Entries looked at under one lock. A hit that meets a purge waits for this many removals, some tens of microseconds.
const STEP_ENTRIES: usize = 64;
/// Schemes and hosts up to which a path is looked up on each of them; with more, the entries are walked instead.
const SITES_MAX: usize = 256;

/// What to purge and how.
#[derive(Debug, Clone, Copy)]
pub struct Order<'a> {
    /// What is meant.
    pub scopes: &'a [Scope<'a>],
    /// What becomes of it.
    pub mode: Mode,
    /// How many of the keys asked for most are told afterwards, for a refill.
    pub hottest: usize,
}

/// A group that is meant.
pub(super) struct Group<'a> {
    pub(super) name: &'a str,
    /// Scheme and host of the entries that are meant; `None` means every host.
    site: Option<(&'a str, &'a str)>,
}

impl Group<'_> {
    /// Whether an entry that carries the name is meant.
    pub(super) fn means(&self, key: &Key) -> bool {
        self.site
            .is_none_or(|site| site == (key.scheme(), key.host()))
    }
}

/// What the shard does with an entry.
pub(super) enum Act {
    Keep,
    Remove,
}

/// What a purge has found so far, and what it does with it.
pub(super) struct Sweep {
    /// Entries whose origin request began with this number or later are not meant.
    pub(super) sequence: Sequence,
    mode: Mode,
    /// Entries that left the index, dropped when no lock is held: freeing them takes time.
    pub(super) removed: Vec<Arc<Object>>,
    /// Entries that were counted and stay where they are: another scope may name them too.
    seen: FxHashSet<u64>,
    objects: usize,
    bytes: usize,
    hottest: Hottest,
}

impl Sweep {
    pub(super) fn act(&mut self, object: &Arc<Object>, is_filling: bool, reads: u32) -> Act {
        let stays = match self.mode {
            Mode::Hard => false,
            // The race rule: what a purge overtakes is never kept as fresh, and nobody has had it as stale yet.
            Mode::Soft { .. } => !is_filling,
            Mode::DryRun => true,
        };
        if stays && !self.seen.insert(object.id) {
            return Act::Keep;
        }
        self.objects += 1;
        self.bytes += object.cost();
        self.hottest.add(reads, &object.key);
        if !stays {
            return Act::Remove;
        }
        if let Mode::Soft { at } = self.mode {
            object.expire(Expired {
                sequence: self.sequence,
                at,
            });
        }
        Act::Keep
    }
}

/// The keys read most among those a purge found.
struct Hottest {
    max: usize,
    reads: FxHashMap<[u8; 16], (u32, Arc<Key>)>,
}

impl Hottest {
    fn add(&mut self, reads: u32, key: &Arc<Key>) {
        // What nobody came back for needs no refill.
        if self.max == 0 || reads == 0 {
            return;
        }
        let held = self
            .reads
            .entry(key.hash())
            .or_insert_with(|| (0, Arc::clone(key)));
        held.0 = held.0.saturating_add(reads); // of all variants
        if self.reads.len() >= 4 * self.max + STEP_ENTRIES {
            self.cut();
        }
    }

    fn cut(&mut self) {
        let mut all: Vec<_> = self.reads.drain().collect();
        if all.len() > self.max {
            all.select_nth_unstable_by_key(self.max, |(_, (reads, _))| std::cmp::Reverse(*reads));
            all.truncate(self.max);
        }
        self.reads.extend(all);
    }

    /// The hottest first.
    fn into_keys(mut self) -> Vec<Arc<Key>> {
        self.cut();
        let mut all: Vec<_> = self.reads.into_values().collect();
        all.sort_by_key(|(reads, key)| (std::cmp::Reverse(*reads), key.hash()));
        all.into_iter().map(|(_, key)| key).collect()
    }
}

#[derive(Clone, Copy)]
enum Stage {
    Keys {
        next: usize,
    },
    Tags {
        tag: usize,
        shard: usize,
        end: usize,
    },
    Places {
        shard: usize,
        start: usize,
    },
    Done,
}

/// A purge that has its number already: fills it overtakes are refused from now on. It has taken effect when its last step
/// is done.
#[must_use = "a purge that is not carried out leaves its entries where they are"]
pub struct Purge<'a> {
    store: &'a Store,
    keys: Vec<[u8; 16]>,
    tags: Vec<Group<'a>>,
    /// What only a walk over all entries finds.
    paths: FxHashSet<(&'a str, Option<&'a str>)>,
    prefixes: Vec<Prefix<'a>>,
    all: bool,
    stage: Stage,
    sequence: Sequence,
    sweep: Sweep,
}

impl<'a> Purge<'a> {
    pub(super) fn new(store: &'a Store, order: &Order<'a>) -> Self {
        // The number is recorded before the shards are walked: a fill that enters a shard after the walk sees it.
        let (sequence, before) = match order.mode {
            Mode::DryRun => (store.sequence(), Sequence::MAX),
            Mode::Hard | Mode::Soft { .. } => {
                let sequence = store.purges.record(order.scopes);
                (sequence, sequence)
            }
        };
        let mut purge = Self {
            store,
            keys: Vec::new(),
            tags: Vec::new(),
            paths: FxHashSet::default(),
            prefixes: Vec::new(),
            all: order.scopes.contains(&Scope::All),
            stage: Stage::Keys { next: 0 },
            sequence,
            sweep: Sweep {
                sequence: before,
                mode: order.mode,
                removed: Vec::new(),
                seen: FxHashSet::default(),
                objects: 0,
                bytes: 0,
                hottest: Hottest {
                    max: order.hottest,
                    reads: FxHashMap::default(),
                },
            },
        };
        if !purge.all {
            purge.plan(order.scopes);
        }
        purge
    }

    fn plan(&mut self, scopes: &[Scope<'a>]) {
        let has_path = scopes.iter().any(|scope| matches!(scope, Scope::Path(..)));
        // A host that comes after this look is no loss: its fill finds the purge's number.
        let sites = if has_path {
            self.store.sites(SITES_MAX)
        } else {
            None
        };
        for scope in scopes {
            match (scope, &sites) {
                (Scope::Key(hash), _) => self.keys.push(*hash),
                (Scope::Path(path, query), Some(sites)) => {
                    let keys = sites
                        .iter()
                        .map(|(scheme, host)| Key::new(scheme, host, path, *query).hash());
                    self.keys.extend(keys);
                }
                (Scope::Path(path, query), None) => {
                    self.paths.insert((path, *query));
                }
                (Scope::Prefix(prefix), _) => self.prefixes.push(*prefix),
                (Scope::Tag(name), _) => self.tags.push(Group { name, site: None }),
                (
                    Scope::SiteTag {
                        scheme,
                        host,
                        tag: name,
                    },
                    _,
                ) => self.tags.push(Group {
                    name,
                    site: Some((scheme, host)),
                }),
                (Scope::All, _) => {}
            }
        }
    }

    /// Looks at a bounded number of entries. False when the purge is done.
    pub fn step(&mut self) -> bool {
        self.stage = match self.stage {
            Stage::Keys { next } => self.step_keys(next),
            Stage::Tags { tag, shard, end } => self.step_tags(tag, shard, end),
            Stage::Places { shard, start } => self.step_places(shard, start),
            Stage::Done => Stage::Done,
        };
        for object in self.sweep.removed.drain(..) {
            if !self.all {
                self.store.purges.found(&object.key, self.sequence);
            }
        }
        !matches!(self.stage, Stage::Done)
    }

    fn step_keys(&mut self, next: usize) -> Stage {
        let end = (next + STEP_ENTRIES).min(self.keys.len());
        for hash in &self.keys[next..end] {
            let mut shard = self.store.shard_of(hash).lock();
            shard.sweep_key(hash, &mut self.sweep);
        }
        if end < self.keys.len() {
            return Stage::Keys { next: end };
        }
        Stage::Tags {
            tag: 0,
            shard: 0,
            end: usize::MAX,
        }
    }

    fn step_tags(&mut self, tag: usize, shard: usize, end: usize) -> Stage {
        let (Some(group), Some(part)) = (self.tags.get(tag), self.store.shards.get(shard)) else {
            return match (tag + 1 < self.tags.len(), self.walks()) {
                (true, _) => Stage::Tags {
                    tag: tag + 1,
                    shard: 0,
                    end: usize::MAX,
                },
                (false, true) => Stage::Places { shard: 0, start: 0 },
                (false, false) => Stage::Done,
            };
        };
        let rest = part
            .lock()
            .sweep_tag(group, end, STEP_ENTRIES, &mut self.sweep);
        match rest {
            Some(end) => Stage::Tags { tag, shard, end },
            None => Stage::Tags {
                tag,
                shard: shard + 1,
                end: usize::MAX,
            },
        }
    }

    fn walks(&self) -> bool {
        self.all || !self.paths.is_empty() || !self.prefixes.is_empty()
    }

    fn step_places(&mut self, shard: usize, start: usize) -> Stage {
        let Some(part) = self.store.shards.get(shard) else {
            return Stage::Done;
        };
        let names = |key: &Key| {
            self.all
                || self.paths.contains(&(key.path(), key.query()))
                || self.prefixes.iter().any(|prefix| prefix.covers(key))
        };
        let rest = part
            .lock()
            .sweep_places(start, STEP_ENTRIES, names, &mut self.sweep);
        match rest {
            Some(start) => Stage::Places { shard, start },
            None => Stage::Places {
                shard: shard + 1,
                start: 0,
            },
        }
    }

    /// Carries the purge out in one go.
    pub fn finish(mut self) -> Purged {
        while self.step() {}
        self.purged()
    }

    /// Carries the purge out and lets the thread's other work go on between its steps.
    pub async fn finish_in_turns(mut self) -> Purged {
        while self.step() {
            tokio::task::yield_now().await;
        }
        self.purged()
    }

    fn purged(self) -> Purged {
        Purged {
            sequence: self.sequence,
            objects: self.sweep.objects,
            bytes: self.sweep.bytes,
            hottest: self.sweep.hottest.into_keys(),
        }
    }
}
