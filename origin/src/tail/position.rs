//! Where a reader of the outbox is: which transactions it has seen, of which life of which server.

use std::{fmt, str::FromStr};

use super::snapshot::Snapshot;

/// Bytes that a position may have: some thousand running transactions. A longer one counts as none.
pub const POSITION_BYTES_MAX: usize = 16 * 1024;
/// Bytes that the name of an incarnation may have.
const INCARNATION_BYTES_MAX: usize = 80;

/// One life of one server, within which no transaction number is used twice: system identifier, timeline, and an id
/// that crash recovery forgets, as `coherence.token()` names it too.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Incarnation(Box<str>);

impl Incarnation {
    /// The incarnation of this name.
    pub fn new(name: &str) -> Self {
        Self(name.into())
    }
}

/// A place in the history of a database: `snapshot@incarnation`, all of it fit for a header field and a query.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Position {
    /// The transactions that have been seen.
    pub snapshot: Snapshot,
    /// What their numbers mean.
    pub incarnation: Incarnation,
}

impl Position {
    /// Whether everything that was seen at the other position has been seen at this one.
    pub fn includes(&self, other: &Self) -> bool {
        self.incarnation == other.incarnation && self.snapshot.includes(&other.snapshot)
    }
}

/// The text is no position.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not a position: snapshot@incarnation")]
pub struct NotAPosition;

impl FromStr for Position {
    type Err = NotAPosition;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        if text.len() > POSITION_BYTES_MAX {
            return Err(NotAPosition);
        }
        let (snapshot, incarnation) = text.split_once('@').ok_or(NotAPosition)?;
        let is_name = |byte: u8| byte.is_ascii_alphanumeric() || b".-".contains(&byte);
        if !(1..=INCARNATION_BYTES_MAX).contains(&incarnation.len())
            || !incarnation.bytes().all(is_name)
        {
            return Err(NotAPosition);
        }
        Ok(Self {
            snapshot: snapshot.parse().map_err(|_| NotAPosition)?,
            incarnation: Incarnation(incarnation.into()),
        })
    }
}

impl fmt::Display for Position {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}@{}", self.snapshot, self.incarnation.0)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::{prop_assert, prop_assert_eq, proptest};

    use super::*;
    use crate::tail::snapshot::tests::snapshots;

    fn of(snapshot: Snapshot) -> Position {
        Position {
            snapshot,
            incarnation: Incarnation::new("7.1.5f0c0a9e-7c1b-4c1e-9d52-000000000000"),
        }
    }

    proptest! {
        #[test]
        fn a_position_is_read_as_it_is_written(snapshot in snapshots()) {
            let position = of(snapshot);
            let text = position.to_string();
            prop_assert!(http::HeaderValue::from_str(&text).is_ok());
            let uri = format!("/events?position={text}");
            prop_assert!(uri.parse::<http::Uri>().is_ok());
            prop_assert_eq!(text.parse(), Ok(position));
        }

        #[test]
        fn no_position_includes_one_of_another_incarnation(one in snapshots(), other in snapshots()) {
            let mut elsewhere = of(other.clone());
            elsewhere.incarnation = Incarnation::new("7.2.x");
            prop_assert!(!of(one.clone()).includes(&elsewhere));
            prop_assert_eq!(of(one.clone()).includes(&of(other.clone())), one.includes(&other));
        }

        #[test]
        fn any_text_is_read_without_a_panic(text in ".{0,60}") {
            if let Ok(position) = text.parse::<Position>() {
                prop_assert_eq!(position.to_string().parse(), Ok(position));
            }
        }
    }

    #[test]
    fn what_is_no_position_is_refused() {
        let long = format!("1:2:@{}", "a".repeat(INCARNATION_BYTES_MAX + 1));
        for text in [
            "", "1:2:", "@a", "1:2:@", "1:2:@a b", "1:2:@a@b", "1:2:@a\n", &long,
        ] {
            assert_eq!(text.parse::<Position>(), Err(NotAPosition), "{text}");
        }
    }
}
