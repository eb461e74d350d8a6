//! The inverted index: which entries of a shard carry a group.
//!
//! Exact and bounded: names are kept once, a name without entries is dropped at once, each posting is paid for by the
//! entry it belongs to, and each name by itself.

use std::sync::Arc;

use rustc_hash::FxHashMap;

use super::ledger::Charge;

/// One name besides its bytes: its share of the hash table and of the list of postings, and three allocations.
const NAME_BYTES: usize = 240;

/// Where an entry stands in the posting list of one of its groups.
#[derive(Debug, Clone, Copy)]
pub(super) struct TagLink {
    tag: u32,
    position: u32,
}

struct Posting {
    name: Arc<str>,
    slots: Vec<u32>,
    /// Held while the name is in the index.
    charge: Option<Charge>,
}

/// The bytes of these names if none of them is in the index yet.
pub(super) fn cost_of_names(names: &[Box<str>]) -> usize {
    names.iter().map(|name| NAME_BYTES + name.len()).sum()
}

#[derive(Default)]
pub(super) struct Tags {
    by_name: FxHashMap<Arc<str>, u32>,
    postings: Vec<Posting>,
    free: Vec<u32>,
}

impl Tags {
    pub(super) fn len(&self) -> usize {
        self.by_name.len()
    }

    /// Adds a slot to a group; a new name is paid for from the purse.
    pub(super) fn add(&mut self, name: &str, slot: u32, purse: &mut Charge) -> TagLink {
        let tag = match self.by_name.get(name) {
            Some(tag) => *tag,
            None => self.intern(name, purse.split(NAME_BYTES + name.len())),
        };
        let slots = &mut self.postings[tag as usize].slots;
        slots.push(slot);
        TagLink {
            tag,
            position: slots.len() as u32 - 1,
        }
    }

    fn intern(&mut self, name: &str, charge: Charge) -> u32 {
        let name: Arc<str> = name.into();
        let posting = Posting {
            name: Arc::clone(&name),
            slots: Vec::new(),
            charge: Some(charge),
        };
        let tag = match self.free.pop() {
            Some(tag) => {
                self.postings[tag as usize] = posting;
                tag
            }
            None => {
                self.postings.push(posting);
                self.postings.len() as u32 - 1
            }
        };
        self.by_name.insert(name, tag);
        tag
    }

    /// Takes a slot out of a group. The group's last slot takes its place: `moved` is told that slot, to set its link.
    pub(super) fn remove(&mut self, link: TagLink, moved: impl FnOnce(u32, TagLink, TagLink)) {
        let posting = &mut self.postings[link.tag as usize];
        posting.slots.swap_remove(link.position as usize);
        if let Some(slot) = posting.slots.get(link.position as usize) {
            let was = TagLink {
                tag: link.tag,
                position: posting.slots.len() as u32,
            };
            moved(*slot, was, link);
        } else if posting.slots.is_empty() {
            let name = std::mem::replace(&mut posting.name, Arc::from(""));
            posting.slots = Vec::new();
            posting.charge = None;
            self.by_name.remove(&name);
            self.free.push(link.tag);
        }
        // A list that was once long gives its memory back.
        let posting = &mut self.postings[link.tag as usize];
        if posting.slots.capacity() > 64 && posting.slots.len() < posting.slots.capacity() / 4 {
            posting.slots.shrink_to(posting.slots.len() * 2);
        }
    }

    /// The slots that carry a group. A slot that is removed gives its place to the last one, and new ones come last: whoever
    /// walks from the end towards the front misses none that was there when the walk began.
    pub(super) fn slots(&self, name: &str) -> &[u32] {
        self.by_name
            .get(name)
            .map_or(&[], |tag| &self.postings[*tag as usize].slots)
    }
}

/// Replaces one link in an entry's list.
pub(super) fn relink(links: &mut [TagLink], was: TagLink, now: TagLink) {
    let held = links
        .iter_mut()
        .find(|link| link.tag == was.tag && link.position == was.position);
    debug_assert!(
        held.is_some(),
        "an entry knows its place in each of its groups"
    );
    if let Some(link) = held {
        *link = now;
    }
}
