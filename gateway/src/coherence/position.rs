//! Where in the history of the database this gateway is: which transactions it has applied.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

/// Bytes of a position at most; one with more is none.
const POSITION_BYTES_MAX: usize = 16 * 1024;
/// Bytes that the name of an incarnation may have.
const INCARNATION_BYTES_MAX: usize = 128;

/// A transaction, as the answer of a write names it: `number@incarnation`. A crash of the database may give a number out
/// again, in another incarnation.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Token {
    /// Its number.
    pub xid: u64,
    /// Which life of which server gave the number.
    pub incarnation: Arc<str>,
}

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
    incarnation: Arc<str>,
}

/// The text is nothing that an origin says.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("neither digits nor what they should be in")]
pub struct Malformed;

impl Position {
    /// Whether a transaction's changes have been applied. Of one of another incarnation that is not known.
    pub fn includes(&self, token: &Token) -> bool {
        self.incarnation == token.incarnation
            && token.xid < self.xmax
            && self.running.binary_search(&token.xid).is_err()
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

    /// Which life of which server its numbers belong to.
    pub fn incarnation(&self) -> &Arc<str> {
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
        if text.len() > POSITION_BYTES_MAX {
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
            incarnation: name(incarnation)?,
        })
    }
}

impl FromStr for Token {
    type Err = Malformed;

    fn from_str(text: &str) -> Result<Self, Malformed> {
        let (xid, incarnation) = text.split_once('@').ok_or(Malformed)?;
        Ok(Self {
            xid: number(xid)?,
            incarnation: name(incarnation)?,
        })
    }
}

impl fmt::Display for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}@{}", self.xid, self.incarnation)
    }
}

/// The name of an incarnation: what may stand in a field, a cookie and a query as it is.
fn name(text: &str) -> Result<Arc<str>, Malformed> {
    let is_of_names = |byte: u8| byte.is_ascii_alphanumeric() || b".-_".contains(&byte);
    let is_name =
        (1..=INCARNATION_BYTES_MAX).contains(&text.len()) && text.bytes().all(is_of_names);
    is_name.then(|| text.into()).ok_or(Malformed)
}

/// Digits only: `parse` alone would take a sign.
pub(super) fn number(text: &str) -> Result<u64, Malformed> {
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

    /// A transaction of the incarnation that tests are about.
    pub(in crate::coherence) fn token(xid: u64) -> Token {
        Token {
            xid,
            incarnation: "7.1.a".into(),
        }
    }

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
            let mut all = (0..14).map(token);
            let expected = all.all(|token| one.includes(&token) || !other.includes(&token));
            prop_assert_eq!(one.covers(&other), expected);
        }

        #[test]
        fn a_token_is_written_as_it_is_read(xid in any::<u64>(), incarnation in "[0-9a-z._-]{1,20}") {
            let text = format!("{xid}@{incarnation}");
            prop_assert_eq!(text.parse::<Token>().unwrap().to_string(), text);
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
    fn another_life_of_the_server_covers_and_includes_nothing() {
        let one: Position = "5:9:7@a".parse().unwrap();
        let other: Position = "5:9:7@b".parse().unwrap();
        assert!(one.covers(&one) && !one.covers(&other));
        let token: Token = "8@a".parse().unwrap();
        assert!(one.includes(&token));
        assert!(!other.includes(&token), "its number may be another's there");
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
        let long = format!("1@{}", "a".repeat(INCARNATION_BYTES_MAX + 1));
        for text in [
            "",
            "1",
            "@a",
            "-1@a",
            "1 @a",
            "18446744073709551616@a",
            "1@",
            "1@a@b",
            "1@a;b",
            "1@a,2@a",
            &long,
        ] {
            assert_eq!(text.parse::<Token>(), Err(Malformed), "{text}");
        }
        assert_eq!("0/16B3748".parse(), Ok(Lsn(0x016B_3748)));
        assert_eq!("16/b374d848".parse(), Ok(Lsn(0x16_B374_D848)));
    }
}
