//! Where in the history of the database this gateway is: which transactions it has applied.

use std::fmt;
use std::str::FromStr;

/// Bytes of a position at most; one with more is none.
const POSITION_BYTES_MAX: usize = 16 * 1024;

/// The number of a transaction, as the answer of a write names it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Token(pub u64);

/// A place in the write-ahead log, in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Lsn(pub u64);

/// The transactions that have been applied, `xmin:xmax:running@incarnation`: all below `xmax` but those that were running.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Position {
    /// As it came: an origin is asked to go on from exactly this.
    text: Box<str>,
    xmax: u64,
    /// Ascending, without repeats, each below `xmax`.
    running: Vec<u64>,
    incarnation: Box<str>,
}

/// The text is nothing that an origin says.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("neither digits nor what they should be in")]
pub struct Malformed;

impl Position {
    /// Whether a transaction's changes have been applied.
    pub fn includes(&self, token: Token) -> bool {
        token.0 < self.xmax && self.running.binary_search(&token.0).is_err()
    }

    /// Whether everything that another position includes has been applied.
    pub fn covers(&self, other: &Self) -> bool {
        let running_there = |xid: &u64| other.running.binary_search(xid).is_ok();
        let missing = self.running.iter().filter(|xid| **xid < other.xmax);
        let beyond = other.running.iter().filter(|xid| **xid >= self.xmax);
        self.incarnation == other.incarnation
            && missing.copied().all(|xid| running_there(&xid))
            && other.xmax.saturating_sub(self.xmax) <= beyond.count() as u64
    }

    /// The first transaction that may not be included: every earlier one is.
    pub fn floor(&self) -> Token {
        let first = self.running.first().copied();
        Token(first.unwrap_or(self.xmax))
    }

    /// Which life of which server its numbers belong to.
    pub fn incarnation(&self) -> &str {
        &self.incarnation
    }

    /// As it came.
    pub fn as_str(&self) -> &str {
        &self.text
    }
}

impl FromStr for Position {
    type Err = Malformed;

    fn from_str(text: &str) -> Result<Self, Malformed> {
        let (snapshot, incarnation) = text.split_once('@').ok_or(Malformed)?;
        let is_visible = |byte: u8| byte.is_ascii_graphic();
        if text.len() > POSITION_BYTES_MAX
            || incarnation.is_empty()
            || !text.bytes().all(is_visible)
        {
            return Err(Malformed);
        }
        let mut parts = snapshot.splitn(3, ':');
        let mut part = || parts.next().ok_or(Malformed);
        let (_xmin, xmax, list) = (number(part()?)?, number(part()?)?, part()?);
        let mut running = match list {
            "" => Vec::new(),
            list => list.split(',').map(number).collect::<Result<_, _>>()?,
        };
        running.sort_unstable();
        running.dedup();
        if running.last().is_some_and(|last| *last >= xmax) {
            return Err(Malformed);
        }
        Ok(Self {
            text: text.into(),
            xmax,
            running,
            incarnation: incarnation.into(),
        })
    }
}

impl FromStr for Token {
    type Err = Malformed;

    fn from_str(text: &str) -> Result<Self, Malformed> {
        number(text).map(Self)
    }
}

/// Digits only: `parse` alone would take a sign.
fn number(text: &str) -> Result<u64, Malformed> {
    if text.bytes().all(|byte| byte.is_ascii_digit()) {
        text.parse().map_err(|_| Malformed)
    } else {
        Err(Malformed)
    }
}

impl FromStr for Lsn {
    type Err = Malformed;

    /// Two halves of 32 bits in hexadecimal digits, as `0/16B3748`.
    fn from_str(text: &str) -> Result<Self, Malformed> {
        let half = |text: &str| match text.bytes().all(|byte| byte.is_ascii_hexdigit()) {
            true => u32::from_str_radix(text, 16).map_err(|_| Malformed),
            false => Err(Malformed),
        };
        let (high, low) = text.split_once('/').ok_or(Malformed)?;
        Ok(Self(u64::from(half(high)?) << 32 | u64::from(half(low)?)))
    }
}

impl fmt::Display for Lsn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:X}/{:X}", self.0 >> 32, self.0 & u64::from(u32::MAX))
    }
}

#[cfg(test)]
pub(super) mod tests {
    use proptest::collection::btree_set;
    use proptest::prelude::*;

    use super::*;

    /// Positions of few transactions, so that they often meet.
    pub(in crate::coherence) fn positions() -> impl Strategy<Value = Position> {
        (0..12_u64, btree_set(0..12_u64, 0..6)).prop_map(|(xmax, running)| {
            let running: Vec<_> = running.into_iter().filter(|xid| *xid < xmax).collect();
            let xmin = running.first().copied().unwrap_or(xmax);
            let list: Vec<_> = running.iter().map(u64::to_string).collect();
            let text = format!("{xmin}:{xmax}:{}@7.1.a", list.join(","));
            text.parse().expect("a position")
        })
    }

    proptest! {
        #[test]
        fn a_position_covers_another_if_it_includes_every_transaction_of_it(
            one in positions(), other in positions(),
        ) {
            let all = (0..14).map(Token);
            let expected = all.clone().all(|token| one.includes(token) || !other.includes(token));
            prop_assert_eq!(one.covers(&other), expected);
            prop_assert!(all.filter(|token| *token < one.floor()).all(|token| one.includes(token)));
            prop_assert!(!one.includes(one.floor()));
        }

        #[test]
        fn any_text_is_read_without_a_panic(text in ".{0,60}") {
            if let Ok(position) = text.parse::<Position>() {
                prop_assert_eq!(position.as_str(), text.as_str());
            }
            let _ = text.parse::<Token>();
            let _ = text.parse::<Lsn>();
        }

        #[test]
        fn a_place_in_the_log_is_written_as_it_is_read(place in any::<u64>()) {
            let lsn = Lsn(place);
            prop_assert_eq!(lsn.to_string().parse(), Ok(lsn));
        }
    }

    #[test]
    fn another_life_of_the_server_covers_nothing() {
        let one: Position = "5:9:7@a".parse().unwrap();
        let other: Position = "5:9:7@b".parse().unwrap();
        assert!(one.covers(&one) && !one.covers(&other));
        assert!(
            other.includes(Token(8)),
            "the number of an acknowledged write is never used again"
        );
    }

    #[test]
    fn what_is_malformed_is_refused() {
        let long = format!("1:2:@{}", "a".repeat(POSITION_BYTES_MAX));
        for text in [
            "", "1:2:", "1:2@a", "1:+2:@a", "1:2:@", "1:2:3,@a", "1:2:2@a", "1:2:@a b", &long,
        ] {
            assert_eq!(text.parse::<Position>(), Err(Malformed), "{text:.40}");
        }
        for text in ["", "1", "+1/2", "1/2/3", "100000000/0", "g/0"] {
            assert_eq!(text.parse::<Lsn>(), Err(Malformed), "{text}");
        }
        for text in ["", "-1", "1 ", "18446744073709551616"] {
            assert_eq!(text.parse::<Token>(), Err(Malformed), "{text}");
        }
        assert_eq!("0/16B3748".parse(), Ok(Lsn(0x016B_3748)));
        assert_eq!("16/b374d848".parse(), Ok(Lsn(0x16_B374_D848)));
    }
}
