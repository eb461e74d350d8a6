//! Encoded representations of an entry, made from its identity body after it came and gone with it.

use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};

use bytes::Bytes;
use parking_lot::Mutex;

use super::Store;
use super::ledger::Charge;
use super::object::Object;
use crate::policy::vary::Coding;

/// Hits that want a coding before it is made: a second one is a sign of more to come.
const ASKED_MIN: u8 = 2;
/// The memory of one encoded body beside its bytes: its place in the list, its reference count.
const ENCODED_BYTES: usize = 112;

/// What was made of one entry's body so far. Shared by the entry's versions: a validation leaves the body as it is.
#[derive(Default)]
pub(super) struct Encodings {
    asked: AtomicU8,
    /// A bit for each coding that is made, being made, or not worth it.
    begun: AtomicU8,
    made: Mutex<Vec<(Coding, Encoded)>>,
}

/// Bytes that belong to one representation.
pub(super) struct Encoded {
    body: Bytes,
    charge: Charge,
}

/// The head of one representation, made for a write under some settings.
pub(super) struct Prepared {
    generation: u64,
    coding: Coding,
    head: Encoded,
}

impl Prepared {
    pub(super) fn cost(&self) -> usize {
        self.head.charge.bytes()
    }
}

impl Encodings {
    pub(super) fn cost(&self) -> usize {
        let made = self.made.lock();
        made.iter().map(|(_, encoded)| encoded.charge.bytes()).sum()
    }
}

impl Object {
    /// Whether this entry may be given in other codings than its own.
    pub fn is_encodable(&self) -> bool {
        self.encodings.is_some()
    }

    /// The body in a coding, if it has been made.
    pub fn encoded(&self, coding: Coding) -> Option<Bytes> {
        let made = self.encodings.as_ref()?.made.lock();
        let (_, encoded) = made.iter().find(|(known, _)| *known == coding)?;
        Some(encoded.body.clone())
    }

    /// The head of the representation in a coding that this generation of settings prepared, if it has.
    pub fn prepared(&self, generation: u64, coding: Coding) -> Option<Bytes> {
        let heads = self.heads.lock();
        let is_it = |known: &&Prepared| (known.generation, known.coding) == (generation, coding);
        Some(heads.iter().find(is_it)?.head.body.clone())
    }

    /// Counts a hit that wants a coding which is not there. True once for each coding: it is now to be made.
    pub fn wants(&self, coding: Coding) -> bool {
        let Some(encodings) = self.encodings.as_ref().filter(|_| self.is_complete()) else {
            return false;
        };
        let asked = encodings.asked.load(Ordering::Relaxed).saturating_add(1);
        encodings.asked.store(asked, Ordering::Relaxed);
        let bit = 1 << coding as u8;
        asked >= ASKED_MIN && encodings.begun.fetch_or(bit, Ordering::Relaxed) & bit == 0
    }

    /// Lets a coding be made after all, when it could not be begun.
    pub fn wants_later(&self, coding: Coding) {
        if let Some(encodings) = &self.encodings {
            encodings
                .begun
                .fetch_and(!(1 << coding as u8), Ordering::Relaxed);
        }
    }
}

impl Store {
    /// A number for the heads that one set of settings prepares; later ones are higher.
    pub fn new_generation(&self) -> u64 {
        self.next_id.fetch_add(1, Ordering::Relaxed)
    }

    /// Keeps a prepared head with its entry, in place of an older generation's. False when the entry is gone, or there is no
    /// room.
    pub fn keep_prepared(
        &self,
        object: &Arc<Object>,
        generation: u64,
        coding: Coding,
        head: Bytes,
    ) -> bool {
        let hash = object.key.hash();
        let Some(charge) = self.charge(&hash, head.len() + ENCODED_BYTES) else {
            return false;
        };
        let mut shard = self.shard_of(&hash).lock();
        shard.grow_object(object, || {
            let mut heads = object.heads.lock();
            heads.retain(|known| known.coding != coding || known.generation >= generation);
            if heads.iter().all(|known| known.coding != coding) {
                heads.push(Prepared {
                    generation,
                    coding,
                    head: Encoded { body: head, charge },
                });
            }
        })
    }

    /// Keeps an encoded body beside the entry it was made of. False when the entry is gone, or there is no room.
    pub fn keep_encoded(&self, object: &Arc<Object>, coding: Coding, body: Bytes) -> bool {
        let hash = object.key.hash();
        let Some(charge) = self.charge(&hash, body.len() + ENCODED_BYTES) else {
            return false;
        };
        let mut shard = self.shard_of(&hash).lock();
        // Under the shard's lock: the queues know each entry's cost.
        shard.grow_object(object, || {
            if let Some(encodings) = &object.encodings {
                let mut made = encodings.made.lock();
                made.push((coding, Encoded { body, charge }));
            }
        })
    }
}
