//! What clients did and saw, with the interval of real time of each operation.

use std::time::Duration;

use crate::writers::Fate;

/// A moment of a run, in nanoseconds from its start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Moment(u64);

impl Moment {
    /// So long after the start.
    pub fn after(start: Duration) -> Self {
        Self(u64::try_from(start.as_nanos()).unwrap_or(u64::MAX))
    }

    /// How long after an earlier moment; nothing if that is later.
    pub fn since(self, earlier: Self) -> Duration {
        Duration::from_nanos(self.0.saturating_sub(earlier.0))
    }

    /// Seconds from the start.
    pub fn as_secs_f64(self) -> f64 {
        self.since(Self::default()).as_secs_f64()
    }
}

/// One step of a counter.
#[derive(Clone, Copy, Debug)]
pub struct Write {
    /// Which counter.
    pub object: u32,
    /// Through which gateway; none is SQL, straight to the database.
    pub gateway: Option<u8>,
    /// Before it was sent.
    pub began: Moment,
    /// After its answer, or after it was given up.
    pub ended: Moment,
    /// [`Fate::Fail`] did not happen, [`Fate::Unknown`] may have happened, then or at any time after.
    pub fate: Fate,
    /// What the counter became, where the writer was told.
    pub value: Option<u64>,
}

/// A counter seen through a gateway.
#[derive(Clone, Copy, Debug)]
pub struct Read {
    /// Which counter.
    pub object: u32,
    /// Through which gateway.
    pub gateway: u8,
    /// Before it was sent.
    pub began: Moment,
    /// After its answer.
    pub ended: Moment,
    /// What it gave.
    pub value: u64,
    /// Whether the gateway said that it cannot tell how old its answer is.
    pub is_marked: bool,
    /// The write whose token was presented, by its place in [`History::writes`].
    pub after: Option<u32>,
}

/// Everything that clients did and saw. Operations are in no order; those without an answer to look at are no reads.
#[derive(Clone, Debug, Default)]
pub struct History {
    /// What each counter was before the first write.
    pub bases: Vec<u64>,
    /// How many gateways there are.
    pub gateways: usize,
    /// All writes.
    pub writes: Vec<Write>,
    /// All reads.
    pub reads: Vec<Read>,
}

/// Something that was broken for a while.
#[derive(Clone, Debug)]
pub struct Fault {
    /// Of which kind.
    pub kind: &'static str,
    /// What it was done to.
    pub target: String,
    /// Before it was done.
    pub began: Moment,
    /// After it was undone and what was broken served again.
    pub ended: Moment,
}
