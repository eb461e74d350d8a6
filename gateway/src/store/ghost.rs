//! The memory of what was evicted lately, in fixed space.
//!
//! S3-FIFO admits a key that comes back soon after its eviction straight to the main queue. The paper keeps a queue of
//! keys; a table with one fingerprint a slot does the same in 128 KiB whatever the traffic. A collision only forgets.

const SLOTS: usize = 16_384;

pub(super) struct Ghost {
    /// Fingerprint in the high half, turn of the insertion in the low half.
    slots: Box<[u64]>,
    turn: u32,
}

impl Ghost {
    pub(super) fn new() -> Self {
        Self {
            slots: vec![0; SLOTS].into_boxed_slice(),
            turn: 0,
        }
    }

    pub(super) fn insert(&mut self, key_hash: &[u8; 16]) {
        self.turn = self.turn.wrapping_add(1);
        let (slot, fingerprint) = place(key_hash);
        self.slots[slot] = u64::from(fingerprint) << 32 | u64::from(self.turn);
    }

    /// Whether the key was evicted within the last `window` evictions; forgets it.
    pub(super) fn take(&mut self, key_hash: &[u8; 16], window: usize) -> bool {
        let (slot, fingerprint) = place(key_hash);
        let held = self.slots[slot];
        let age = self.turn.wrapping_sub((held & u64::from(u32::MAX)) as u32) as usize;
        let found = held != 0 && (held >> 32) as u32 == fingerprint && age < window;
        if found {
            self.slots[slot] = 0;
        }
        found
    }
}

fn place(key_hash: &[u8; 16]) -> (usize, u32) {
    let word = u64::from_le_bytes([
        key_hash[0],
        key_hash[1],
        key_hash[2],
        key_hash[3],
        key_hash[4],
        key_hash[5],
        key_hash[6],
        key_hash[7],
    ]);
    (word as usize % SLOTS, (word >> 32) as u32)
}
