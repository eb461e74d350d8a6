//! One part of the store behind one lock: the index, its groups, and the S3-FIFO queues.
//!
//! Eviction is S3-FIFO (Yang et al., "FIFO queues are all you need for cache eviction", SOSP 2023): a small queue takes
//! new keys and lets those seen only once fall out, a main queue keeps the rest, a ghost remembers what fell out.

mod tagged;

use std::sync::Arc;

use rustc_hash::FxHashMap;

use super::Inspected;
use super::ghost::Ghost;
use super::ledger::Charge;
use super::object::{Object, Variance};
use super::queue::{LinkedSlots, Links, NIL, Queue};
use super::sweep::{Act, Group, Sweep};
use super::tags::{TagLink, Tags};
use crate::policy::key::Key;
use crate::purge::Sequence;

/// Reads beyond this one no longer count.
const FREQUENCY_MAX: u8 = 3;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Place {
    /// Found by lookups, not yet complete: no candidate for eviction.
    Filling,
    Small,
    Main,
}

struct Slot {
    object: Arc<Object>,
    place: Place,
    frequency: u8,
    /// Lookups that found it: a refill begins with those asked for most.
    reads: u32,
    /// The purge number at which its origin request began: a fill never takes the place of one that began later.
    began: Sequence,
    next_variant: u32,
    tags: Box<[TagLink]>,
}

#[derive(Default)]
struct Slots {
    slots: Vec<Option<Slot>>,
    /// Each slot's place in its queue.
    links: Vec<Links>,
    free: Vec<u32>,
}

impl Slots {
    fn insert(&mut self, slot: Slot) -> u32 {
        match self.free.pop() {
            Some(index) => {
                self.slots[index as usize] = Some(slot);
                index
            }
            None => {
                self.slots.push(Some(slot));
                self.links.push(Links::NONE);
                self.slots.len() as u32 - 1
            }
        }
    }

    fn get(&self, index: u32) -> Option<&Slot> {
        self.slots.get(index as usize)?.as_ref()
    }

    fn get_mut(&mut self, index: u32) -> Option<&mut Slot> {
        self.slots.get_mut(index as usize)?.as_mut()
    }

    fn take(&mut self, index: u32) -> Option<Slot> {
        let slot = self.slots.get_mut(index as usize)?.take()?;
        self.free.push(index);
        Some(slot)
    }
}

impl LinkedSlots for Slots {
    fn links(&mut self, slot: u32) -> &mut Links {
        &mut self.links[slot as usize]
    }
}

pub(super) struct Shard {
    slots: Slots,
    /// Key hash to the first of its variants.
    index: FxHashMap<[u8; 16], u32>,
    tags: Tags,
    /// Scheme and host of the entries, with how many entries each has: a purge of a path looks on every host.
    sites: FxHashMap<(Box<str>, Box<str>), usize>,
    small: Queue,
    main: Queue,
    ghost: Ghost,
    small_bytes_max: usize,
    variants_max: usize,
    len: usize,
}

impl Shard {
    pub(super) fn new(small_bytes_max: usize, variants_max: usize) -> Self {
        Self {
            slots: Slots::default(),
            index: FxHashMap::default(),
            tags: Tags::default(),
            sites: FxHashMap::default(),
            small: Queue::new(),
            main: Queue::new(),
            ghost: Ghost::new(),
            small_bytes_max,
            variants_max,
            len: 0,
        }
    }

    pub(super) fn len(&self) -> usize {
        self.len
    }

    pub(super) fn tags(&self) -> usize {
        self.tags.len()
    }

    pub(super) fn lookup(
        &mut self,
        key_hash: &[u8; 16],
        key: &[u8],
        variance: Option<&Variance>,
    ) -> Option<Arc<Object>> {
        let found = self.find(key_hash, |object| {
            object.key.as_bytes() == key
                && (variance.is_none() || object.variance.as_ref() == variance)
        })?;
        let slot = self.slots.get_mut(found)?;
        slot.frequency = (slot.frequency + 1).min(FREQUENCY_MAX);
        slot.reads = slot.reads.saturating_add(1);
        Some(Arc::clone(&slot.object))
    }

    fn find(&self, key_hash: &[u8; 16], matches: impl Fn(&Object) -> bool) -> Option<u32> {
        let mut next = *self.index.get(key_hash)?;
        while let Some(slot) = self.slots.get(next) {
            if matches(&slot.object) {
                return Some(next);
            }
            next = slot.next_variant;
        }
        None
    }

    fn find_object(&self, object: &Object) -> Option<u32> {
        self.find(&object.key.hash(), |stored| stored.id == object.id)
    }

    /// The entry that this object is, or was before a validation.
    pub(super) fn held(&self, object: &Object) -> Option<&Arc<Object>> {
        let slot = self.slots.get(self.find_object(object)?)?;
        Some(&slot.object)
    }

    /// Makes a fill visible to lookups. False when what stands there began later: the fill is out of date already.
    ///
    /// The purse holds enough for the names of all its groups.
    pub(super) fn insert_filling(
        &mut self,
        object: &Arc<Object>,
        began: Sequence,
        purse: &mut Charge,
    ) -> bool {
        let same = self.find(&object.key.hash(), |stored| {
            stored.key == object.key && stored.variance == object.variance
        });
        let mut reads = 0; // the key keeps its heat
        if let Some(held) = same {
            let newer = self.slots.get(held).is_some_and(|slot| slot.began > began);
            if newer {
                return false;
            }
            reads = self.slots.get(held).map_or(0, |slot| slot.reads);
            self.remove(held);
        }
        self.insert(Arc::clone(object), (began, reads), purse);
        self.drop_oldest_variant(&object.key.hash());
        true
    }

    /// Keeps the variants of a key within their bound: lookups walk them one by one.
    fn drop_oldest_variant(&mut self, key_hash: &[u8; 16]) {
        let mut count = 0;
        let mut oldest = NIL;
        let mut next = self.index.get(key_hash).copied().unwrap_or(NIL);
        while let Some(slot) = self.slots.get(next) {
            count += 1;
            oldest = next; // a new variant goes to the front
            next = slot.next_variant;
        }
        if count > self.variants_max {
            self.remove(oldest);
        }
    }

    fn insert(
        &mut self,
        object: Arc<Object>,
        (began, reads): (Sequence, u32),
        purse: &mut Charge,
    ) -> u32 {
        let hash = object.key.hash();
        let names = Arc::clone(&object.tags);
        *self.sites.entry(site_of(&object)).or_default() += 1;
        let next_variant = self.index.get(&hash).copied().unwrap_or(NIL);
        let index = self.slots.insert(Slot {
            object,
            place: Place::Filling,
            frequency: 0,
            reads,
            began,
            next_variant,
            tags: Box::default(),
        });
        self.index.insert(hash, index);
        let tags = self.tag(index, &names, purse);
        if let Some(slot) = self.slots.get_mut(index) {
            slot.tags = tags;
        }
        self.len += 1;
        index
    }

    /// Replaces a fill by its complete object and queues it for eviction.
    pub(super) fn commit(&mut self, filling: &Object, complete: Arc<Object>) -> bool {
        let Some(index) = self.find_object(filling) else {
            return false;
        };
        let window = self.main.len().max(1_024);
        let seen_lately = self.ghost.take(&complete.key.hash(), window);
        let bytes = complete.cost();
        let Some(slot) = self.slots.get_mut(index) else {
            return false;
        };
        slot.object = complete;
        if seen_lately {
            slot.place = Place::Main;
            self.main.push(&mut self.slots, index, bytes);
        } else {
            slot.place = Place::Small;
            self.small.push(&mut self.slots, index, bytes);
        }
        true
    }

    /// Replaces a stored object by another of the same identity (other head, perhaps other groups), validated by a request that
    /// began at this purge number. The purse holds enough for the names of groups that are others.
    pub(super) fn replace(
        &mut self,
        stored: &Object,
        by: Arc<Object>,
        began: Sequence,
        purse: &mut Charge,
    ) -> bool {
        let Some(index) = self.find_object(stored) else {
            return false;
        };
        let Some(slot) = self.slots.get_mut(index) else {
            return false;
        };
        let (was, bytes, place) = (slot.object.cost(), by.cost(), slot.place);
        let same_tags = slot.object.tags == by.tags;
        slot.object = by;
        slot.began = slot.began.max(began);
        if !same_tags {
            self.retag(index, purse);
        }
        let queue = match place {
            Place::Filling => return true,
            Place::Small => &mut self.small,
            Place::Main => &mut self.main,
        };
        queue.remove(&mut self.slots, index, was);
        queue.push(&mut self.slots, index, bytes);
        true
    }

    /// Lets an entry that is still here become dearer by `grow`.
    pub(super) fn grow_object(&mut self, object: &Object, grow: impl FnOnce()) -> bool {
        let Some(slot) = self
            .find_object(object)
            .and_then(|index| self.slots.get(index))
        else {
            return false;
        };
        let was = slot.object.cost();
        grow();
        let bytes = slot.object.cost();
        match slot.place {
            Place::Filling => {}
            Place::Small => self.small.revalue(was, bytes),
            Place::Main => self.main.revalue(was, bytes),
        }
        true
    }

    pub(super) fn remove_object(&mut self, object: &Object) {
        if let Some(index) = self.find_object(object) {
            self.remove(index);
        }
    }

    /// Shows a purge the entries of a key.
    pub(super) fn sweep_key(&mut self, key_hash: &[u8; 16], sweep: &mut Sweep) {
        let mut next = self.index.get(key_hash).copied();
        while let Some((index, slot)) = next.and_then(|index| Some((index, self.slots.get(index)?)))
        {
            next = Some(slot.next_variant);
            self.sweep(index, sweep);
        }
    }

    /// Shows a purge at most `count` entries of a group, from place `end` of its list backwards. Returns the place to go on
    /// from; `None` when all were shown.
    pub(super) fn sweep_tag(
        &mut self,
        group: &Group<'_>,
        end: usize,
        count: usize,
        sweep: &mut Sweep,
    ) -> Option<usize> {
        let mut end = end.min(self.tags.slots(group.name).len());
        for _ in 0..count {
            end = end.checked_sub(1)?;
            if let Some(index) = self.tags.slots(group.name).get(end).copied()
                && self
                    .slots
                    .get(index)
                    .is_some_and(|slot| group.means(&slot.object.key))
            {
                self.sweep(index, sweep);
            }
        }
        (end > 0).then_some(end)
    }

    /// Shows a purge those of at most `count` places, from place `start` on, whose key it names. Returns the place to go on
    /// from; `None` when all were looked at.
    pub(super) fn sweep_places(
        &mut self,
        start: usize,
        count: usize,
        names: impl Fn(&Key) -> bool,
        sweep: &mut Sweep,
    ) -> Option<usize> {
        let end = (start + count).min(self.slots.slots.len());
        for index in start as u32..end as u32 {
            if self
                .slots
                .get(index)
                .is_some_and(|slot| names(&slot.object.key))
            {
                self.sweep(index, sweep);
            }
        }
        (end < self.slots.slots.len()).then_some(end)
    }

    fn sweep(&mut self, index: u32, sweep: &mut Sweep) {
        let Some(slot) = self.slots.get(index) else {
            return;
        };
        if slot.began >= sweep.sequence {
            return; // its origin request began after the purge was asked for
        }
        match sweep.act(&slot.object, slot.place == Place::Filling, slot.reads) {
            Act::Keep => {}
            Act::Remove => sweep.removed.extend(self.remove(index)),
        }
    }

    /// How many schemes and hosts the entries have.
    pub(super) fn sites_len(&self) -> usize {
        self.sites.len()
    }

    /// The schemes and hosts of the entries.
    pub(super) fn sites(&self) -> impl Iterator<Item = &(Box<str>, Box<str>)> {
        self.sites.keys()
    }

    /// The entries of a key, without counting as a read.
    pub(super) fn inspect(&self, key_hash: &[u8; 16]) -> Vec<Inspected> {
        let mut found = Vec::new();
        let mut next = self.index.get(key_hash).copied().unwrap_or(NIL);
        while let Some(slot) = self.slots.get(next) {
            found.push(Inspected {
                object: Arc::clone(&slot.object),
                began: slot.began,
                reads: slot.reads,
            });
            next = slot.next_variant;
        }
        found
    }

    fn remove(&mut self, index: u32) -> Option<Arc<Object>> {
        let bytes = self.slots.get(index)?.object.cost();
        match self.slots.get(index)?.place {
            Place::Filling => {}
            Place::Small => self.small.remove(&mut self.slots, index, bytes),
            Place::Main => self.main.remove(&mut self.slots, index, bytes),
        }
        let slot = self.slots.take(index)?;
        self.unlink_variant(&slot.object.key.hash(), index, slot.next_variant);
        self.untag(slot.tags);
        self.len -= 1;
        self.leave_site(&slot.object);
        Some(slot.object)
    }

    fn leave_site(&mut self, object: &Object) {
        let site = site_of(object);
        if let Some(count) = self.sites.get_mut(&site) {
            *count -= 1;
            if *count == 0 {
                self.sites.remove(&site);
            }
        }
    }

    fn unlink_variant(&mut self, key_hash: &[u8; 16], index: u32, next: u32) {
        let Some(first) = self.index.get(key_hash).copied() else {
            return;
        };
        if first == index {
            if next == NIL {
                self.index.remove(key_hash);
            } else {
                self.index.insert(*key_hash, next);
            }
            return;
        }
        let mut before = first;
        while let Some(slot) = self.slots.get_mut(before) {
            if slot.next_variant == index {
                slot.next_variant = next;
                return;
            }
            before = slot.next_variant;
        }
    }

    /// Removes the entry that S3-FIFO gives up first. `None` when nothing can be evicted.
    pub(super) fn evict_one(&mut self) -> Option<Arc<Object>> {
        loop {
            let from_small =
                self.small.bytes() > self.small_bytes_max || self.main.oldest().is_none();
            let index = if from_small {
                self.small.oldest()
            } else {
                self.main.oldest()
            }?;
            let slot = self.slots.get_mut(index)?;
            let bytes = slot.object.cost();
            match (from_small, slot.frequency) {
                (true, 2..) => {
                    slot.frequency = 0;
                    slot.place = Place::Main;
                    self.small.remove(&mut self.slots, index, bytes);
                    self.main.push(&mut self.slots, index, bytes);
                }
                (false, 1..) => {
                    slot.frequency -= 1;
                    self.main.remove(&mut self.slots, index, bytes);
                    self.main.push(&mut self.slots, index, bytes);
                }
                (from_small, _) => {
                    if from_small {
                        let hash = slot.object.key.hash();
                        self.ghost.insert(&hash);
                    }
                    return self.remove(index);
                }
            }
        }
    }
}

fn site_of(object: &Object) -> (Box<str>, Box<str>) {
    (object.key.scheme().into(), object.key.host().into())
}
