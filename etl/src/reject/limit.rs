//! How many rows may be refused before a run stops.

use std::{fmt, str::FromStr};

use super::Reject;
use crate::error::{Error, Result};

/// The most rows that may be refused, of all files together.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum RejectLimit {
    /// So many: the run stops at the first row past it.
    Rows(u64),
    /// So many percent of the rows read: known, and checked, when all files have been read.
    Percent(f64),
}

impl FromStr for RejectLimit {
    type Err = String;

    /// Reads `1000` or `0.5%`.
    fn from_str(text: &str) -> Result<Self, String> {
        let expected =
            || "expected a number of rows, such as 1000, or a share, such as 0.5%".into();
        match text.strip_suffix('%') {
            Some(share) => match share.parse() {
                Ok(percent) if (0.0..=100.0).contains(&percent) => Ok(Self::Percent(percent)),
                Ok(_) | Err(_) => Err(expected()),
            },
            None => text.parse().map(Self::Rows).map_err(|_| expected()),
        }
    }
}

impl fmt::Display for RejectLimit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Rows(rows) => write!(f, "{rows}"),
            Self::Percent(percent) => write!(f, "{percent}%"),
        }
    }
}

/// Counts refused rows against a limit.
#[derive(Debug, Clone, Copy, Default)]
pub struct RejectCount {
    limit: Option<RejectLimit>,
    rejected: u64,
}

impl RejectCount {
    /// None so far.
    #[must_use]
    pub fn new(limit: Option<RejectLimit>) -> Self {
        Self { limit, rejected: 0 }
    }

    /// Counts one more.
    ///
    /// # Errors
    /// [`Error::TooManyRejects`] if that is past a number of rows.
    pub fn add(&mut self, reject: &Reject<'_>) -> Result<()> {
        self.rejected += 1;
        match self.limit {
            Some(RejectLimit::Rows(max)) if self.rejected > max => {
                Err(self.error(&format!("{reject}: "), "of the rows read so far"))
            }
            _ => Ok(()),
        }
    }

    /// Compares the share, once so many rows have been read from all files.
    ///
    /// # Errors
    /// [`Error::TooManyRejects`] if it is past the limit.
    pub fn finish(&self, rows: u64) -> Result<()> {
        match self.limit {
            Some(RejectLimit::Percent(max)) if self.rejected as f64 * 100.0 > max * rows as f64 => {
                Err(self.error("", &format!("of {rows} rows")))
            }
            _ => Ok(()),
        }
    }

    fn error(&self, last: &str, of: &str) -> Error {
        let limit = self.limit.map(|limit| limit.to_string());
        Error::TooManyRejects(format!(
            "{last}{} {of} were refused, and --max-rejects is {}",
            self.rejected,
            limit.unwrap_or_default()
        ))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::reject::{Position, Reason};

    const REJECT: Reject<'static> = Reject {
        file: "skus.csv",
        at: Position {
            line: 9,
            byte_offset: 99,
        },
        column: "quantity",
        reason: Reason::BadInteger,
    };

    #[test]
    fn a_limit_is_a_number_of_rows_or_a_share() {
        assert_eq!("0".parse(), Ok(RejectLimit::Rows(0)));
        assert_eq!("1000".parse(), Ok(RejectLimit::Rows(1000)));
        assert_eq!("0.5%".parse(), Ok(RejectLimit::Percent(0.5)));
        for wrong in ["", "%", "-1", "1.5", "101%", "-1%", "NaN%", "many"] {
            assert!(wrong.parse::<RejectLimit>().is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_run_stops_at_the_first_row_past_the_number() {
        let mut count = RejectCount::new(Some(RejectLimit::Rows(2)));
        let mut add = || count.add(&REJECT);
        assert!(add().is_ok() && add().is_ok());
        let error = add().unwrap_err();
        assert_eq!(error.exit_code(), 7);
        assert_eq!(
            error.to_string(),
            "skus.csv:9: column quantity: bad_integer: 3 of the rows read so far were refused, and --max-rejects is 2"
        );
        assert!(count.finish(3).is_ok());
    }

    #[test]
    fn a_share_may_be_reached_and_not_passed() {
        let mut count = RejectCount::new(Some(RejectLimit::Percent(1.0)));
        assert!(count.finish(0).is_ok());
        assert!(count.add(&REJECT).is_ok());
        assert!(count.finish(100).is_ok());
        assert_eq!(count.finish(99).unwrap_err().exit_code(), 7);
    }

    #[test]
    fn without_a_limit_all_may_be_refused() {
        let mut count = RejectCount::new(None);
        assert!(count.add(&REJECT).is_ok() && count.finish(1).is_ok());
    }
}
