//! Spellings of host and target, each with the key that the normal path gave it. They are true of the settings that they were
//! learned under, so they belong to one [`super::Hot`] and go with it when others are loaded.

use std::hash::{Hash, Hasher};
use std::sync::Arc;

use parking_lot::RwLock;
use rustc_hash::FxHasher;

use crate::policy::key::Key;

/// Spellings known at once; one more takes the place of another.
const SLOTS: usize = 8_192;
/// The longest spelling that is remembered, host and target together: all of them stay within 4 MiB with their keys.
const SPELLING_BYTES_MAX: usize = 192;

struct Alias {
    host: Box<[u8]>,
    target: Box<[u8]>,
    key: Arc<Key>,
}

/// A bounded table of spellings.
pub struct Aliases {
    slots: Box<[RwLock<Option<Alias>>]>,
}

impl Aliases {
    pub(super) fn new() -> Self {
        Self {
            slots: (0..SLOTS).map(|_| RwLock::new(None)).collect(),
        }
    }

    pub(super) fn learn(&self, host: &[u8], target: &[u8], key: &Arc<Key>) {
        if host.len() + target.len() > SPELLING_BYTES_MAX || self.find(host, target).is_some() {
            return;
        }
        *self.slots[place(host, target)].write() = Some(Alias {
            host: host.into(),
            target: target.into(),
            key: Arc::clone(key),
        });
    }

    pub(super) fn find(&self, host: &[u8], target: &[u8]) -> Option<Arc<Key>> {
        let slot = self.slots[place(host, target)].read();
        let alias = slot.as_ref()?;
        (*alias.host == *host && *alias.target == *target).then(|| Arc::clone(&alias.key))
    }
}

fn place(host: &[u8], target: &[u8]) -> usize {
    let mut hasher = FxHasher::default();
    (host, target).hash(&mut hasher);
    hasher.finish() as usize % SLOTS
}
