//! Why a replica does not answer, and when it is not even asked.

use std::{
    sync::{Mutex, PoisonError},
    time::{Duration, Instant},
};

use tokio_postgres::types::PgLsn;

/// Of the deadline of a statement, a replica has this part to answer in: what is left is enough for the primary.
pub(super) const REPLICA_SHARE: u32 = 10;

/// Why a replica has not answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// There is no connection to it.
    Gone,
    /// No connection to it has room, or brings answers just now.
    Busy,
    /// It has not replayed the position.
    Behind,
    /// It has not answered in time.
    Silent,
    /// It, or the connection to it, has failed.
    Failed,
    /// It follows the primary no longer, or another one.
    Foreign,
}

impl Refusal {
    /// Every reason, in their order.
    pub const ALL: [Self; 6] = [
        Self::Gone,
        Self::Busy,
        Self::Behind,
        Self::Silent,
        Self::Failed,
        Self::Foreign,
    ];

    /// What it is called in metrics.
    pub fn name(self) -> &'static str {
        match self {
            Self::Gone => "gone",
            Self::Busy => "busy",
            Self::Behind => "behind",
            Self::Silent => "silent",
            Self::Failed => "failed",
            Self::Foreign => "foreign",
        }
    }
}

/// How long a replica that has not replayed a position is not asked for it again: a read that it turns down costs it as
/// much as one that it answers.
const LAG_FOR: Duration = Duration::from_millis(10);

/// What a replica has not replayed, as far as is known.
#[derive(Debug, Default)]
pub(super) struct Lag {
    /// The last position that it was asked for in vain, and when.
    asked: Mutex<Option<(PgLsn, Instant)>>,
}

impl Lag {
    /// The replica has not replayed this position.
    pub(super) fn note(&self, position: PgLsn, now: Instant) {
        *self.asked.lock().unwrap_or_else(PoisonError::into_inner) = Some((position, now));
    }

    /// Whether it has just not replayed this position, or an earlier one.
    pub(super) fn includes(&self, position: PgLsn, now: Instant) -> bool {
        let asked = *self.asked.lock().unwrap_or_else(PoisonError::into_inner);
        asked.is_some_and(|(asked, at)| {
            position >= asked && now.saturating_duration_since(at) < LAG_FOR
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_replica_is_spared_what_it_has_just_not_replayed_and_nothing_else() {
        let lag = Lag::default();
        let now = Instant::now();
        let position = |number: u64| PgLsn::from(number);
        assert!(!lag.includes(position(9), now));
        lag.note(position(5), now);
        assert!(!lag.includes(position(4), now));
        assert!(lag.includes(position(5), now));
        assert!(lag.includes(position(6), now));
        assert!(!lag.includes(position(6), now + LAG_FOR));
    }

    #[test]
    fn reasons_stand_in_their_order() {
        for (at, refusal) in Refusal::ALL.into_iter().enumerate() {
            assert_eq!(refusal as usize, at, "{}", refusal.name());
        }
    }
}
