//! Which transactions a reader has seen: Postgres' own snapshot, as `pg_current_snapshot()` writes it.

use std::{fmt, str::FromStr};

/// A set of transactions: all below `xmax` but those that were running.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Snapshot {
    xmin: u64,
    xmax: u64,
    /// Ascending; each at least `xmin` and below `xmax`.
    running: Vec<u64>,
}

/// The text is no snapshot.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not a snapshot: xmin:xmax:running,running")]
pub struct NotASnapshot;

impl Snapshot {
    /// The first transaction that had not begun.
    pub fn xmax(&self) -> u64 {
        self.xmax
    }

    /// The transactions that were running, ascending.
    pub fn running(&self) -> &[u64] {
        &self.running
    }

    /// Whether a transaction had ended.
    pub fn is_visible(&self, xid: u64) -> bool {
        xid < self.xmin || (xid < self.xmax && self.running.binary_search(&xid).is_err())
    }

    /// Whether every transaction that had ended in the other snapshot has ended in this one.
    pub fn includes(&self, other: &Self) -> bool {
        let beyond = other.xmax.saturating_sub(self.xmax);
        let running_there = other.running.iter().filter(|xid| **xid >= self.xmax);
        let mut running = self.running.iter().take_while(|xid| **xid < other.xmax);
        beyond <= running_there.count() as u64 && running.all(|xid| !other.is_visible(*xid))
    }
}

impl FromStr for Snapshot {
    type Err = NotASnapshot;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let mut parts = text.splitn(3, ':');
        let mut part = || parts.next().ok_or(NotASnapshot);
        let (xmin, xmax, list) = (number(part()?)?, number(part()?)?, part()?);
        let running = match list {
            "" => Vec::new(),
            list => list.split(',').map(number).collect::<Result<Vec<_>, _>>()?,
        };
        let is_ascending = running.is_sorted_by(|one, next| one < next);
        let is_within = running.iter().all(|xid| (xmin..xmax).contains(xid));
        if xmin <= xmax && is_ascending && is_within {
            Ok(Self {
                xmin,
                xmax,
                running,
            })
        } else {
            Err(NotASnapshot)
        }
    }
}

/// Digits only: `parse` alone would take a sign.
fn number(text: &str) -> Result<u64, NotASnapshot> {
    if text.bytes().all(|byte| byte.is_ascii_digit()) {
        text.parse().map_err(|_| NotASnapshot)
    } else {
        Err(NotASnapshot)
    }
}

impl fmt::Display for Snapshot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}:", self.xmin, self.xmax)?;
        for (index, xid) in self.running.iter().enumerate() {
            let comma = if index == 0 { "" } else { "," };
            write!(f, "{comma}{xid}")?;
        }
        Ok(())
    }
}

#[cfg(test)]
pub(super) mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::{Strategy, any, prop_assert, prop_assert_eq, proptest};

    use super::*;

    /// Snapshots of small numbers, so that two of them are about the same transactions.
    pub(in crate::tail) fn snapshots() -> impl Strategy<Value = Snapshot> {
        (0..40_u64, 0..20_u64, any::<u64>()).prop_map(|(xmin, span, bits)| Snapshot {
            xmin,
            xmax: xmin + span,
            running: (0..span)
                .filter(|bit| bits >> bit & 1 == 1)
                .map(|bit| xmin + bit)
                .collect(),
        })
    }

    /// Transactions beyond every snapshot of the strategy stand for all others.
    fn ended(snapshot: &Snapshot) -> BTreeSet<u64> {
        (0..80).filter(|xid| snapshot.is_visible(*xid)).collect()
    }

    proptest! {
        #[test]
        fn a_snapshot_is_read_as_it_is_written(snapshot in snapshots()) {
            prop_assert_eq!(snapshot.to_string().parse(), Ok(snapshot));
        }

        #[test]
        fn inclusion_is_that_of_the_sets(one in snapshots(), other in snapshots()) {
            prop_assert_eq!(one.includes(&other), ended(&one).is_superset(&ended(&other)));
        }

        #[test]
        fn the_difference_is_what_is_at_or_above_xmax_or_was_running(
            before in snapshots(), xid in 0..80_u64,
        ) {
            let is_taken = xid >= before.xmax() || before.running().contains(&xid);
            prop_assert_eq!(is_taken, !before.is_visible(xid));
        }

        #[test]
        fn any_text_is_read_without_a_panic(text in ".{0,40}") {
            if let Ok(snapshot) = text.parse::<Snapshot>() {
                prop_assert!(snapshot.xmin <= snapshot.xmax);
            }
        }
    }

    #[test]
    fn what_postgres_would_not_write_is_refused() {
        for text in [
            "",
            "1",
            "1:2",
            "2:1:",
            "1:5:3,2",
            "1:5:3,3",
            "1:5:5",
            "2:5:1",
            "1:5:2,",
            "+1:5:",
            "1:5:2:3",
            "a:b:c",
            "1:99999999999999999999:",
        ] {
            assert_eq!(text.parse::<Snapshot>(), Err(NotASnapshot), "{text}");
        }
    }
}
