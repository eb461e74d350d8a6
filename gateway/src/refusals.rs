//! Why answers were not kept lately, for who asks; in fixed space.

use std::time::Instant;

use parking_lot::Mutex;

/// Keys remembered at most; two that fall into one slot share it, and the later one has it.
const SLOTS: usize = 4_096;

/// Why the answer for a key was not kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Refusal {
    key_hash: [u8; 16],
    /// The reason's name.
    pub reason: &'static str,
    /// When the answer came.
    pub at: Instant,
}

/// The last refusal of each of some keys.
pub struct Refusals {
    slots: Box<[Mutex<Option<Refusal>>]>,
}

impl Refusals {
    /// No refusal yet.
    pub fn new() -> Self {
        Self {
            slots: (0..SLOTS).map(|_| Mutex::new(None)).collect(),
        }
    }

    /// Remembers why the answer for a key was not kept.
    pub fn note(&self, key_hash: &[u8; 16], reason: &'static str, at: Instant) {
        *self.slot(key_hash).lock() = Some(Refusal {
            key_hash: *key_hash,
            reason,
            at,
        });
    }

    /// The last refusal of a key, if it is remembered.
    pub fn find(&self, key_hash: &[u8; 16]) -> Option<Refusal> {
        let held = *self.slot(key_hash).lock();
        held.filter(|refusal| refusal.key_hash == *key_hash)
    }

    fn slot(&self, key_hash: &[u8; 16]) -> &Mutex<Option<Refusal>> {
        &self.slots[usize::from(u16::from_le_bytes([key_hash[0], key_hash[1]])) % SLOTS]
    }
}

impl Default for Refusals {
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_reason_of_a_key_is_told_and_never_another_keys() {
        let refusals = Refusals::new();
        let now = Instant::now();
        refusals.note(&[7; 16], "private", now);
        refusals.note(&[7; 16], "no-store", now);
        assert_eq!(
            refusals.find(&[7; 16]).map(|held| held.reason),
            Some("no-store")
        );
        let mut same_slot = [7; 16];
        same_slot[15] = 8;
        assert_eq!(refusals.find(&same_slot), None);
    }
}
