//! What the cache keeps, for how many bytes, under which groups.
//!
//! Promises: the bytes of bodies, headers, keys, index and fills in flight never exceed the budget, but for what passes through
//! without being kept (a few MiB of each such body, for readers that are behind); a purge takes effect
//! before it returns, also on fills in flight; a reader that has begun keeps its bytes whatever happens to the entry.
//! Never: knows of the proxy's types, reads a clock, or does I/O. Limits: [`Limits`].

mod encoded;
mod fill;
mod ghost;
mod ledger;
mod object;
mod queue;
mod readers;
mod shard;
mod sweep;
mod tags;
mod unkept;

use std::collections::HashSet;
use std::sync::Arc;
use std::sync::atomic::Ordering;

pub use fill::{BodyReader, FillFailed, FillWriter};
pub use ledger::Ledger;
pub use object::{Body, Expired, Freshness, Head, Object, Variance};
pub use sweep::{Order, Purge};
pub use unkept::Unkept;

use crate::policy::key::Key;
use crate::purge::{Mode, PurgeTable, Scope, Sequence};
use crate::sync::{AtomicU64, Mutex};
use ledger::Charge;
use shard::Shard;

/// The bounds of a store, all in bytes unless said otherwise.
#[derive(Debug, Clone)]
pub struct Limits {
    /// Everything kept together: bodies, headers, keys, index, fills in flight.
    pub budget_bytes: usize,
    /// The largest body that is kept.
    pub object_bytes_max: usize,
    /// Variants of one key; one more takes the place of the oldest.
    pub variants_max: usize,
    /// Independent parts, each with a lock of its own. One per thread is enough.
    pub shards: usize,
}

/// What a purge found, and the number by which audits know it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Purged {
    /// The purge's sequence number: fills begun before it are never stored. Of a dry run, the number of the newest purge.
    pub sequence: Sequence,
    /// Entries removed or made stale, fills in flight included; each variant counts.
    pub objects: usize,
    /// Their bytes on the ledger, those of fills in flight and of the names of groups apart.
    pub bytes: usize,
    /// The keys asked for most among them, as many as were asked for, the hottest first.
    pub hottest: Vec<Arc<Key>>,
}

/// An entry as a look at the index shows it.
#[derive(Clone)]
pub struct Inspected {
    /// The entry.
    pub object: Arc<Object>,
    /// The purge number at which the origin request that made or last validated it began.
    pub began: Sequence,
    /// Lookups that found its key and variant since it came into the cache.
    pub reads: u32,
}

/// A snapshot of the store's counters.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stats {
    /// Entries that a lookup can find, fills in flight included.
    pub objects: usize,
    /// Bytes on the ledger now, those of readers of removed entries included.
    pub used_bytes: usize,
    /// The ledger's bound.
    pub budget_bytes: usize,
    /// Entries removed to make room, since start.
    pub evictions: u64,
    /// Distinct groups in the index.
    pub tags: usize,
}

/// A fill that is about to begin: the response header has arrived.
pub struct NewFill {
    /// The key it will be found under.
    pub key: Arc<Key>,
    /// The variant, if the response varies.
    pub variance: Option<Variance>,
    /// Status and header fields.
    pub head: Head,
    /// How long it may be used.
    pub freshness: Freshness,
    /// Its groups, without duplicates.
    pub tags: Vec<Box<str>>,
    /// The purge sequence number at which its origin request began.
    pub began: Sequence,
    /// Whether it may be given in other codings too.
    pub encodable: bool,
}

/// What a validation says anew about an entry.
pub struct Renewed {
    /// Status and header fields.
    pub head: Head,
    /// How long it may be used from now on.
    pub freshness: Freshness,
    /// Its groups, without duplicates.
    pub tags: Vec<Box<str>>,
    /// Whether it may be given in other codings too.
    pub encodable: bool,
}

/// The cache's memory.
pub struct Store {
    limits: Limits,
    ledger: Arc<Ledger>,
    purges: PurgeTable,
    shards: Box<[Mutex<Shard>]>,
    next_id: AtomicU64,
    evictions: AtomicU64,
}

impl Store {
    /// An empty store.
    pub fn new(limits: Limits) -> Arc<Self> {
        let small_bytes = limits.budget_bytes / limits.shards / 10;
        let shards = (0..limits.shards)
            .map(|_| Mutex::new(Shard::new(small_bytes, limits.variants_max)))
            .collect();
        Arc::new(Self {
            ledger: Ledger::new(limits.budget_bytes),
            purges: PurgeTable::new(),
            shards,
            next_id: AtomicU64::new(1),
            evictions: AtomicU64::new(0),
            limits,
        })
    }

    /// The number of the newest purge. A fill takes it before its origin request begins.
    pub fn sequence(&self) -> Sequence {
        self.purges.sequence()
    }

    /// The entry for a key: the named variant, or any one when none is named.
    pub fn lookup(
        &self,
        key_hash: &[u8; 16],
        key: &[u8],
        variance: Option<&Variance>,
    ) -> Option<Arc<Object>> {
        self.shard_of(key_hash)
            .lock()
            .lookup(key_hash, key, variance)
    }

    /// Begins to store a response; its body follows through the writer.
    ///
    /// A fill that a purge has overtaken, or that finds no room, still passes its body on to its own reader, and is never
    /// found by another.
    pub fn begin_fill(self: &Arc<Self>, mut new: NewFill) -> FillWriter {
        new.head = new.head.compact();
        self.purges.note_groups(&new.key, &new.tags);
        let id = self.next_id.fetch_add(1, Ordering::Relaxed);
        let cost = object::cost_of(&new.key, &new.head, &new.tags);
        let charge = self.charge(&new.key.hash(), cost);
        let has_room = charge.is_some();
        let charge = charge.unwrap_or_else(|| Charge::none(&self.ledger));
        let fill = fill::Fill::new();
        let (head, body) = (new.head.clone(), Body::Filling(Arc::clone(&fill)));
        let object = Arc::new(Object::new(id, &new, head, body, charge));
        let unkept = if has_room {
            self.index_fill(&object, &new).err()
        } else {
            Some(Unkept::NoRoom)
        };
        FillWriter::new(Arc::clone(self), fill, object, new, unkept)
    }

    fn index_fill(&self, object: &Arc<Object>, new: &NewFill) -> Result<(), Unkept> {
        let hash = new.key.hash();
        let purse = self.charge(&hash, tags::cost_of_names(&new.tags));
        let mut purse = purse.ok_or(Unkept::NoRoom)?;
        let mut shard = self.shard_of(&hash).lock();
        // Under the shard's lock: a purge that comes later finds the fill in the index, one that came earlier is seen here.
        if self.is_overtaken(&new.key, &new.tags, new.began) {
            return Err(Unkept::Overtaken);
        }
        let is_newest = shard.insert_filling(object, new.began, &mut purse);
        is_newest.then_some(()).ok_or(Unkept::Overtaken)
    }

    /// Whether a purge newer than `began` matches the key or one of the tags.
    fn is_overtaken(&self, key: &Key, tags: &[Box<str>], began: Sequence) -> bool {
        self.purges.is_purged_since(began, key, tags)
    }

    /// Whether a purge newer than `began` may match an answer to this key that has yet to come; true too often rather than too
    /// seldom.
    pub fn may_be_overtaken(&self, key: &Key, began: Sequence) -> bool {
        self.purges.may_match_since(began, key)
    }

    /// Puts the finished fill in its place, unless a purge, an eviction or a newer fill took it away.
    fn commit(&self, filling: &Arc<Object>, new: &NewFill, complete: Object) -> bool {
        let complete = Arc::new(complete);
        let mut shard = self.shard_of(&new.key.hash()).lock();
        if self.is_overtaken(&new.key, &new.tags, new.began) {
            shard.remove_object(filling);
            return false;
        }
        shard.commit(filling, complete)
    }

    /// Takes an entry or a fill out of the index: nobody new finds it. One that has replaced it stays.
    pub fn remove(&self, object: &Arc<Object>) {
        self.shard_of(&object.key.hash())
            .lock()
            .remove_object(object);
    }

    /// Gives a stored entry new header fields, groups and a new lifetime after a validation (RFC 9111 section 4.3.4).
    ///
    /// False when the entry is gone, replaced, or purged by its old or new groups since the validating request began.
    pub fn refresh(&self, stored: &Arc<Object>, mut renewed: Renewed, began: Sequence) -> bool {
        renewed.head = renewed.head.without_length().compact();
        let body = match &stored.body {
            Body::Complete(chunks) => Body::Complete(chunks.clone()),
            Body::Filling(_) => return false,
        };
        let hash = stored.key.hash();
        let cost = object::cost_of(&stored.key, &renewed.head, &renewed.tags) + body.len();
        let names = tags::cost_of_names(&renewed.tags);
        self.purges.note_groups(&stored.key, &renewed.tags);
        let (Some(charge), Some(mut purse)) = (self.charge(&hash, cost), self.charge(&hash, names))
        else {
            return false;
        };
        let refreshed = Arc::new(stored.with(renewed, body, charge));
        let mut shard = self.shard_of(&hash).lock();
        let is_overtaken = |tags| self.is_overtaken(&stored.key, tags, began);
        // Another validation may have put it under groups that `stored` does not know of.
        let held = shard.held(stored);
        if held.is_none_or(|held| is_overtaken(&held.tags)) || is_overtaken(&refreshed.tags) {
            return false;
        }
        shard.replace(stored, refreshed, began, &mut purse)
    }

    /// Removes everything the scopes name, in one go and for fills in flight too (the race rule); one number for them all.
    pub fn purge(&self, scopes: &[Scope<'_>]) -> Purged {
        let order = Order {
            scopes,
            mode: Mode::Hard,
            hottest: 0,
        };
        self.begin_purge(&order).finish()
    }

    /// Numbers a purge; what it names is found step by step. From here on fills that it overtakes are refused.
    pub fn begin_purge<'a>(&'a self, order: &Order<'a>) -> Purge<'a> {
        Purge::new(self, order)
    }

    /// The number of the last purge that named an entry, as far as the table of purges can tell them apart; 0 if none did.
    pub fn last_purge(&self, key: &Key, tags: &[Box<str>]) -> Sequence {
        self.purges.last(key, tags)
    }

    /// The entries of a key, every variant; nothing counts as read.
    pub fn inspect(&self, key: &Key) -> Vec<Inspected> {
        let mut found = self.shard_of(&key.hash()).lock().inspect(&key.hash());
        found.retain(|entry| *entry.object.key == *key);
        found
    }

    /// The schemes and hosts under which anything is kept; `None` if they are more than `max` in one shard.
    pub fn sites(&self, max: usize) -> Option<HashSet<(Box<str>, Box<str>)>> {
        let mut sites = HashSet::new();
        for shard in &self.shards {
            let shard = shard.lock();
            if shard.sites_len() > max {
                return None;
            }
            sites.extend(shard.sites().cloned());
        }
        Some(sites)
    }

    /// Bytes on the ledger, number of entries, and so on.
    pub fn stats(&self) -> Stats {
        let mut objects = 0;
        let mut tags = 0;
        self.each_shard(|shard| {
            objects += shard.len();
            tags += shard.tags();
        });
        Stats {
            objects,
            used_bytes: self.ledger.used(),
            budget_bytes: self.limits.budget_bytes,
            evictions: self.evictions.load(Ordering::Relaxed),
            tags,
        }
    }

    /// Reserves bytes on the ledger, evicting to make room. `None` when there is none to be had.
    fn charge(&self, key_hash: &[u8; 16], bytes: usize) -> Option<Charge> {
        let mut charge = Charge::none(&self.ledger);
        self.grow(&mut charge, key_hash, bytes).then_some(charge)
    }

    fn grow(&self, charge: &mut Charge, key_hash: &[u8; 16], bytes: usize) -> bool {
        if bytes > self.limits.budget_bytes {
            return false;
        }
        let first = self.index_of(key_hash);
        for turn in 0..self.shards.len() {
            let index = (first + turn) % self.shards.len();
            loop {
                if charge.try_grow(bytes) {
                    return true;
                }
                // Dropped after the lock is gone. One at a time: bytes still read by somebody do not come free, and
                // counting on them would empty the cache for nothing more than one slow reader.
                let evicted = self.shards[index].lock().evict_one();
                if evicted.is_none() {
                    break;
                }
                self.evictions.fetch_add(1, Ordering::Relaxed);
            }
        }
        charge.try_grow(bytes)
    }

    fn index_of(&self, key_hash: &[u8; 16]) -> usize {
        usize::from(key_hash[15]) % self.shards.len()
    }

    fn shard_of(&self, key_hash: &[u8; 16]) -> &Mutex<Shard> {
        &self.shards[self.index_of(key_hash)]
    }

    fn each_shard(&self, mut visit: impl FnMut(&mut Shard)) {
        for shard in &self.shards {
            visit(&mut shard.lock());
        }
    }
}

#[cfg(test)]
mod tests;
