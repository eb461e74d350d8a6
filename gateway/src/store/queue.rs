//! First-in-first-out queues over the slots of a shard, with removal from anywhere in constant time.

/// No slot.
pub(super) const NIL: u32 = u32::MAX;

/// A slot's place in its queue.
#[derive(Debug, Clone, Copy)]
pub(super) struct Links {
    pub(super) newer: u32,
    pub(super) older: u32,
}

impl Links {
    pub(super) const NONE: Self = Self {
        newer: NIL,
        older: NIL,
    };
}

/// A queue: where it begins and ends, and the bytes of what it holds.
#[derive(Debug)]
pub(super) struct Queue {
    newest: u32,
    oldest: u32,
    bytes: usize,
    len: usize,
}

impl Queue {
    pub(super) const fn new() -> Self {
        Self {
            newest: NIL,
            oldest: NIL,
            bytes: 0,
            len: 0,
        }
    }

    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    pub(super) fn len(&self) -> usize {
        self.len
    }

    pub(super) fn oldest(&self) -> Option<u32> {
        (self.oldest != NIL).then_some(self.oldest)
    }

    /// Appends a slot; `links` gives access to any slot's links.
    pub(super) fn push<S: LinkedSlots + ?Sized>(&mut self, slots: &mut S, slot: u32, bytes: usize) {
        *slots.links(slot) = Links {
            newer: NIL,
            older: self.newest,
        };
        if self.newest == NIL {
            self.oldest = slot;
        } else {
            slots.links(self.newest).newer = slot;
        }
        self.newest = slot;
        self.bytes += bytes;
        self.len += 1;
    }

    /// Counts a slot of the queue with other bytes than before.
    pub(super) fn revalue(&mut self, was: usize, bytes: usize) {
        self.bytes = self.bytes - was + bytes;
    }

    /// Takes a slot out, wherever it stands.
    pub(super) fn remove<S: LinkedSlots + ?Sized>(
        &mut self,
        slots: &mut S,
        slot: u32,
        bytes: usize,
    ) {
        let Links { newer, older } = std::mem::replace(slots.links(slot), Links::NONE);
        if newer == NIL {
            self.newest = older;
        } else {
            slots.links(newer).older = older;
        }
        if older == NIL {
            self.oldest = newer;
        } else {
            slots.links(older).newer = newer;
        }
        self.bytes -= bytes;
        self.len -= 1;
    }
}

/// Slots that carry links.
pub(super) trait LinkedSlots {
    fn links(&mut self, slot: u32) -> &mut Links;
}
