//! The last purges in words, for who asks why something is gone.

use std::collections::VecDeque;
use std::fmt::Write as _;
use std::time::SystemTime;

use parking_lot::Mutex;

use super::{Mode, Scope, Sequence};

/// Purges that are remembered.
const RECORDS_MAX: usize = 1_024;
/// Bytes of what one purge named that are remembered.
const NAMES_BYTES_MAX: usize = 256;

/// Who asked for a purge.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cause {
    /// The operators' call.
    Operator,
    /// An unsafe request that the origin answered (RFC 9111 section 4.4).
    Write,
    /// A change that the database told.
    Stream,
    /// A build of the origins has ended.
    Release,
}

/// One purge.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Record {
    /// Its number.
    pub sequence: Sequence,
    /// When it had taken effect.
    pub at: SystemTime,
    /// Who asked for it.
    pub cause: Cause,
    /// Whether entries were removed or made stale.
    pub mode: Mode,
    /// What it named, shortened.
    pub names: Box<str>,
}

/// The last purges, in bounded memory.
#[derive(Debug, Default)]
pub struct Journal {
    records: Mutex<VecDeque<Record>>,
}

impl Journal {
    /// Writes a purge down; the oldest makes room.
    pub fn note(
        &self,
        (sequence, mode): (Sequence, Mode),
        cause: Cause,
        scopes: &[Scope<'_>],
        at: SystemTime,
    ) {
        let record = Record {
            sequence,
            at,
            cause,
            mode,
            names: names(scopes).into(),
        };
        let mut records = self.records.lock();
        if records.len() == RECORDS_MAX {
            records.pop_front();
        }
        records.push_back(record);
    }

    /// The purge with this number, if it is still remembered.
    pub fn find(&self, sequence: Sequence) -> Option<Record> {
        let records = self.records.lock();
        let found = records.iter().rev();
        found
            .into_iter()
            .find(|record| record.sequence == sequence)
            .cloned()
    }
}

fn names(scopes: &[Scope<'_>]) -> String {
    let mut text = String::new();
    for (place, scope) in scopes.iter().enumerate() {
        let comma = if place == 0 { "" } else { ", " };
        // Writing to a string cannot fail.
        let _ = match scope {
            Scope::Key(_) => write!(text, "{comma}url"),
            Scope::Path(path, None) => write!(text, "{comma}path {path}"),
            Scope::Path(path, Some(query)) => write!(text, "{comma}path {path}?{query}"),
            Scope::Prefix(prefix) => {
                let host = prefix.host.unwrap_or_default();
                write!(text, "{comma}prefix {host}{}", prefix.path)
            }
            Scope::Tag(tag) => write!(text, "{comma}tag {tag}"),
            Scope::All => write!(text, "{comma}everything"),
        };
        if text.len() > NAMES_BYTES_MAX {
            text.truncate(text.floor_char_boundary(NAMES_BYTES_MAX));
            text.push('…');
            break;
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_purge_is_found_by_its_number_until_many_others_have_come() {
        let journal = Journal::default();
        let now = SystemTime::now();
        for sequence in 1..=RECORDS_MAX as u64 + 1 {
            let scopes = [Scope::Tag("red"), Scope::Path("/a", Some("b=1"))];
            journal.note((sequence, Mode::Hard), Cause::Write, &scopes, now);
        }
        assert_eq!(journal.find(1), None);
        let found = journal.find(2).unwrap();
        assert_eq!(&*found.names, "tag red, path /a?b=1");
    }

    #[test]
    fn many_long_names_are_cut() {
        let name = "ä".repeat(100);
        let scopes: Vec<_> = (0..1_000).map(|_| Scope::Tag(&name)).collect();
        let text = names(&scopes);
        assert!(text.len() <= NAMES_BYTES_MAX + '…'.len_utf8() && text.ends_with('…'));
    }
}
