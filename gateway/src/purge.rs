//! Purge numbers and the race rule.
//!
//! Every purge has a number; every fill remembers the number of the newest purge at the moment its origin request began.
//! A response is stored only if no purge that matches it has come since. Memory is fixed: a table of hashed slots keeps
//! the number of the last purge that fell into each, so a collision can only refuse a fill too many, never one too few.

use std::hash::{Hash, Hasher};
use std::sync::atomic::{AtomicU64, Ordering};

use rustc_hash::FxHasher;

use crate::policy::key::Key;

/// The number of a purge; they count up from 1, and 0 is "none yet".
pub type Sequence = u64;

/// Slots of the table: at a thousand purges a second of distinct groups, a slow fill of a second finds one slot in
/// sixty-five taken by a stranger.
const SLOTS: usize = 65_536;

/// What a purge names.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scope<'a> {
    /// One key (an absolute URL), all its variants.
    Key([u8; 16]),
    /// One canonical path and query on every host.
    Path(&'a str, Option<&'a str>),
    /// One group.
    Tag(&'a str),
    /// Everything.
    All,
}

/// The last purge number of every key, path and group, by hash.
pub struct PurgeTable {
    sequence: AtomicU64,
    all: AtomicU64,
    slots: Box<[AtomicU64]>,
}

impl PurgeTable {
    /// A table without any purge.
    pub fn new() -> Self {
        Self {
            sequence: AtomicU64::new(0),
            all: AtomicU64::new(0),
            slots: (0..SLOTS).map(|_| AtomicU64::new(0)).collect(),
        }
    }

    /// The number of the newest purge.
    pub fn sequence(&self) -> Sequence {
        self.sequence.load(Ordering::SeqCst)
    }

    /// Numbers a purge and writes down what it names.
    ///
    /// A fill that begins with this number or a later one began after the purge was asked for, and is not meant by it. One
    /// that began with an earlier number is refused by the cell, or found by the walk over the shards that follows.
    pub fn record(&self, scopes: &[Scope<'_>]) -> Sequence {
        let sequence = self.sequence.fetch_add(1, Ordering::SeqCst) + 1;
        for scope in scopes {
            let cell = match scope {
                Scope::Key(key_hash) => &self.slots[slot_of(key_hash)],
                Scope::Path(path, query) => &self.slots[slot_of(&(path, query))],
                Scope::Tag(tag) => &self.slots[slot_of(tag)],
                Scope::All => &self.all,
            };
            cell.fetch_max(sequence, Ordering::SeqCst);
        }
        sequence
    }

    /// Whether a purge numbered above `began` matches an entry.
    pub fn is_purged_since(&self, began: Sequence, key: &Key, tags: &[Box<str>]) -> bool {
        let newer = |cell: &AtomicU64| cell.load(Ordering::SeqCst) > began;
        newer(&self.all)
            || newer(&self.slots[slot_of(&key.hash())])
            || newer(&self.slots[slot_of(&(key.path(), key.query()))])
            || tags
                .iter()
                .any(|tag| newer(&self.slots[slot_of(tag.as_ref())]))
    }
}

impl Default for PurgeTable {
    fn default() -> Self {
        Self::new()
    }
}

fn slot_of<T: Hash + ?Sized>(name: &T) -> usize {
    let mut hasher = FxHasher::default();
    name.hash(&mut hasher);
    hasher.finish() as usize % SLOTS
}
