//! Purge numbers and the race rule.
//!
//! Every purge has a number; every fill remembers the number of the newest purge at the moment its origin request began.
//! A response is stored only if no purge that matches it has come since. Memory is fixed: a table of hashed slots keeps
//! the number of the last purge that fell into each. A name has two slots, and the lower number counts: strangers that fell into
//! both can only refuse a fill too many, never one too few.

mod journal;

use std::collections::VecDeque;
use std::hash::{Hash, Hasher};
use std::sync::atomic::Ordering;
use std::time::Instant;

use rustc_hash::FxHasher;

pub use journal::{Cause, Journal, Record};

use crate::policy::key::Key;
use crate::sync::{AtomicU64, Mutex};

/// The number of a purge; they count up from 1, and 0 is "none yet".
pub type Sequence = u64;

/// Slots of the table, of which each name has two: at a thousand purges a second of distinct groups, a slow fill of a second finds
/// one slot in thirty-three taken by a stranger, and both of a name's slots one time in a thousand. The number of a slot and one
/// more fit 16 bits.
const SLOTS: usize = u16::MAX as usize;

/// Slots of the keys that purges found, for explanations only.
const FOUND_SLOTS: usize = 16_384;

/// Keys whose groups are remembered; one more takes the place of another.
const GROUPED_KEYS: usize = 16_384;
/// Groups of one key that are remembered, one in each 16 bits of a word. Of a key that has more nothing is known, as of one that
/// was never answered.
const GROUPS_MAX: usize = 4;

/// Purges by prefix that are told apart; one older than these refuses every fill that began before it.
const PREFIXES_MAX: usize = 64;
/// Bytes of such a prefix that are remembered: a longer one refuses what begins with these.
const PREFIX_BYTES_MAX: usize = 1_024;

/// What a purge names.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scope<'a> {
    /// One key (an absolute URL), all its variants.
    Key([u8; 16]),
    /// One canonical path and query on every host.
    Path(&'a str, Option<&'a str>),
    /// Every path that begins so.
    Prefix(Prefix<'a>),
    /// One group.
    Tag(&'a str),
    /// Everything.
    All,
}

/// The beginning of canonical paths, byte for byte.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Prefix<'a> {
    /// The canonical host; `None` means every host.
    pub host: Option<&'a str>,
    /// How the paths begin.
    pub path: &'a str,
}

impl Prefix<'_> {
    /// Whether a key is meant.
    pub fn covers(&self, key: &Key) -> bool {
        key.path().starts_with(self.path) && self.host.is_none_or(|host| host == key.host())
    }
}

/// What becomes of the entries that a purge finds. Fills in flight are never kept, whichever it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// They are removed.
    Hard,
    /// They are stale from this moment, and used no longer than their stale windows allow from then.
    Soft {
        /// The moment of the purge.
        at: Instant,
    },
    /// They are counted; nothing changes and no number is given.
    DryRun,
}

struct RecentPrefix {
    sequence: Sequence,
    host: Option<Box<str>>,
    path: Box<str>,
}

/// The last purge number of every key, path, prefix and group, by hash.
pub struct PurgeTable {
    sequence: AtomicU64,
    all: AtomicU64,
    slots: Box<[AtomicU64]>,
    found: Box<[AtomicU64]>,
    /// Half of a key's hash, and the first slots of the groups that it had in its last answer, plus one.
    groups: Box<[[AtomicU64; 2]]>,
    /// The newest purge by group.
    group_newest: AtomicU64,
    prefixes: Mutex<VecDeque<RecentPrefix>>,
    /// The newest purge by prefix: spares fills the look at the list.
    prefix_newest: AtomicU64,
    /// The newest one that has left the list.
    prefix_forgotten: AtomicU64,
}

impl PurgeTable {
    /// A table without any purge.
    pub fn new() -> Self {
        Self {
            sequence: AtomicU64::new(0),
            all: AtomicU64::new(0),
            slots: (0..SLOTS).map(|_| AtomicU64::new(0)).collect(),
            found: (0..FOUND_SLOTS).map(|_| AtomicU64::new(0)).collect(),
            groups: (0..GROUPED_KEYS)
                .map(|_| [AtomicU64::new(0), AtomicU64::new(0)])
                .collect(),
            group_newest: AtomicU64::new(0),
            prefixes: Mutex::new(VecDeque::new()),
            prefix_newest: AtomicU64::new(0),
            prefix_forgotten: AtomicU64::new(0),
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
            match scope {
                Scope::Key(key_hash) => self.raise(key_hash, sequence),
                Scope::Path(path, query) => self.raise(&(path, query), sequence),
                Scope::Prefix(prefix) => self.record_prefix(sequence, prefix),
                Scope::Tag(tag) => {
                    self.group_newest.fetch_max(sequence, Ordering::SeqCst);
                    self.raise(tag, sequence);
                }
                Scope::All => {
                    self.all.fetch_max(sequence, Ordering::SeqCst);
                }
            }
        }
        sequence
    }

    fn raise<T: Hash + ?Sized>(&self, name: &T, sequence: Sequence) {
        for slot in slots_of(name) {
            self.slots[slot].fetch_max(sequence, Ordering::SeqCst);
        }
    }

    /// The number of the last purge of a name, or a later one.
    fn newest<T: Hash + ?Sized>(&self, name: &T) -> Sequence {
        let cells = slots_of(name).map(|slot| self.slots[slot].load(Ordering::SeqCst));
        cells[0].min(cells[1])
    }

    fn record_prefix(&self, sequence: Sequence, prefix: &Prefix<'_>) {
        let kept = prefix.path.floor_char_boundary(PREFIX_BYTES_MAX);
        let mut prefixes = self.prefixes.lock();
        if prefixes.len() == PREFIXES_MAX
            && let Some(oldest) = prefixes.pop_front()
        {
            self.prefix_forgotten
                .fetch_max(oldest.sequence, Ordering::SeqCst);
        }
        prefixes.push_back(RecentPrefix {
            sequence,
            host: prefix.host.map(Box::from),
            path: prefix.path[..kept].into(),
        });
        self.prefix_newest.fetch_max(sequence, Ordering::SeqCst);
    }

    /// Writes down that a purge found an entry of this key, for who asks later: the entry's groups leave with it. Fills are
    /// none the wiser.
    pub fn found(&self, key: &Key, sequence: Sequence) {
        let cell = &self.found[place_of(key, FOUND_SLOTS)];
        cell.fetch_max(sequence, Ordering::SeqCst);
    }

    /// Whether a purge numbered above `began` matches an entry.
    pub fn is_purged_since(&self, began: Sequence, key: &Key, tags: &[Box<str>]) -> bool {
        let newer = |cell: &AtomicU64| cell.load(Ordering::SeqCst) > began;
        newer(&self.all)
            || self.newest(&key.hash()) > began
            || self.newest(&(key.path(), key.query())) > began
            || tags.iter().any(|tag| self.newest(tag.as_ref()) > began)
            || newer(&self.prefix_forgotten)
            || (newer(&self.prefix_newest) && self.last_prefix(key) > began)
    }

    /// Remembers the groups of a key's answer, if they are few.
    pub fn note_groups(&self, key: &Key, tags: &[Box<str>]) {
        let [named, slots] = &self.groups[place_of(key, GROUPED_KEYS)];
        if tags.len() > GROUPS_MAX {
            let _ = named.compare_exchange(half_of(key), 0, Ordering::SeqCst, Ordering::SeqCst);
            return;
        }
        let word = tags.iter().fold(0, |word, tag| {
            word << u16::BITS | (slots_of(tag.as_ref())[0] as u64 + 1)
        });
        // Nobody's for the moment: a reader in between knows nothing.
        named.store(0, Ordering::SeqCst);
        slots.store(word, Ordering::SeqCst);
        named.store(half_of(key), Ordering::SeqCst);
    }

    /// Whether a purge numbered above `began` may match an answer to this key that has yet to come. Its groups are taken to be
    /// those of the last one; where they are not known, every purge by group counts.
    pub fn may_match_since(&self, began: Sequence, key: &Key) -> bool {
        if self.is_purged_since(began, key, &[]) {
            return true;
        }
        if self.group_newest.load(Ordering::SeqCst) <= began {
            return false;
        }
        let [named, slots] = &self.groups[place_of(key, GROUPED_KEYS)];
        if named.load(Ordering::SeqCst) != half_of(key) {
            return true;
        }
        let word = slots.load(Ordering::SeqCst);
        (0..GROUPS_MAX)
            .map(|place| (word >> (place as u32 * u16::BITS)) as u16)
            .filter(|slot| *slot != 0)
            .any(|slot| self.slots[usize::from(slot) - 1].load(Ordering::SeqCst) > began)
    }

    /// The number of the last purge that named an entry, as far as the table can tell them apart; 0 if none did.
    pub fn last(&self, key: &Key, tags: &[Box<str>]) -> Sequence {
        let named = [
            self.all.load(Ordering::SeqCst),
            self.newest(&key.hash()),
            self.newest(&(key.path(), key.query())),
            self.last_prefix(key),
            self.found[place_of(key, FOUND_SLOTS)].load(Ordering::SeqCst),
        ];
        let tagged = tags.iter().map(|tag| self.newest(tag.as_ref()));
        named.into_iter().chain(tagged).max().unwrap_or(0)
    }

    fn last_prefix(&self, key: &Key) -> Sequence {
        let prefixes = self.prefixes.lock();
        let covering = prefixes.iter().filter(|recent| {
            let prefix = Prefix {
                host: recent.host.as_deref(),
                path: &recent.path,
            };
            prefix.covers(key)
        });
        covering.map(|recent| recent.sequence).max().unwrap_or(0)
    }
}

impl Default for PurgeTable {
    fn default() -> Self {
        Self::new()
    }
}

fn slots_of<T: Hash + ?Sized>(name: &T) -> [usize; 2] {
    let mut hasher = FxHasher::default();
    name.hash(&mut hasher);
    let hash = hasher.finish() as usize;
    [hash % SLOTS, hash / SLOTS % SLOTS]
}

/// Tells keys in one place apart; 0 is nobody's.
fn half_of(key: &Key) -> u64 {
    let hash = key.hash();
    let half = hash.first_chunk().copied().map(u64::from_le_bytes);
    half.unwrap_or_default().max(1)
}

fn place_of(key: &Key, places: usize) -> usize {
    slots_of(&key.hash())[0] % places
}

#[cfg(test)]
mod tests;
