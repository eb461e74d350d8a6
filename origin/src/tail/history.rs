//! The last changes, ready to be sent, shared by all streams: each keeps only its place in them.

use std::{collections::VecDeque, sync::Arc};

use bytes::Bytes;
use chrono::{DateTime, Utc};

use super::position::Position;

/// Where the tailer is.
#[derive(Clone, Debug)]
pub struct Tip {
    /// The snapshot of the last poll.
    pub position: Position,
    /// The server's clock just before that snapshot.
    pub at: DateTime<Utc>,
    /// The end of the write-ahead log just after it.
    pub wal: String,
    /// Polls so far: a later one has a larger number.
    pub poll: u64,
    /// Where the last change was told: who is there, or later, has missed nothing.
    pub since: Position,
    /// What changes without being told, by the last look at the triggers: nothing is proven while there is such a thing.
    pub untold: Option<Arc<str>>,
}

/// What a poll brought, as events.
#[derive(Clone, Debug)]
struct Batch {
    /// The position that it follows upon.
    since: Position,
    events: Arc<[Bytes]>,
    poll: u64,
    bytes: usize,
}

/// The newest batches, within a number of bytes; always the last one.
#[derive(Debug)]
pub struct History {
    batches: VecDeque<Batch>,
    /// The number of the first batch that is kept.
    first: u64,
    bytes: usize,
    bytes_max: usize,
}

/// What a reader at some place is to be sent.
#[derive(Clone, Debug)]
pub enum Next {
    /// The batch at its place, and the number of its poll.
    Events(Arc<[Bytes]>, u64),
    /// Nothing that it has not got.
    Nothing,
    /// It has fallen behind what is kept.
    Gone,
}

impl History {
    /// Keeps nothing yet.
    pub fn new(bytes_max: usize) -> Self {
        Self::starting_at(bytes_max, 0)
    }

    /// Keeps nothing, and has forgotten what was before a place.
    pub fn starting_at(bytes_max: usize, first: u64) -> Self {
        Self {
            batches: VecDeque::new(),
            first,
            bytes: 0,
            bytes_max,
        }
    }

    /// Appends what followed upon a position.
    pub fn push(&mut self, since: Position, events: Arc<[Bytes]>, poll: u64) {
        let bytes = events.iter().map(Bytes::len).sum();
        self.bytes += bytes;
        self.batches.push_back(Batch {
            since,
            events,
            poll,
            bytes,
        });
        while self.bytes > self.bytes_max && self.batches.len() > 1 {
            self.forget_first();
        }
    }

    /// The place behind the last batch.
    pub fn end(&self) -> u64 {
        self.first + self.batches.len() as u64
    }

    /// What follows at a place.
    pub fn next(&self, place: u64) -> Next {
        let Some(index) = place.checked_sub(self.first) else {
            return Next::Gone;
        };
        let batch = usize::try_from(index)
            .ok()
            .and_then(|i| self.batches.get(i));
        batch.map_or(Next::Nothing, |batch| {
            Next::Events(Arc::clone(&batch.events), batch.poll)
        })
    }

    /// The latest place at which a reader that has seen this much misses nothing; `None`: too long ago.
    pub fn find(&self, position: &Position) -> Option<u64> {
        let known = |batch: &Batch| position.includes(&batch.since);
        let index = self.batches.iter().rposition(known)?;
        Some(self.first + index as u64)
    }

    fn forget_first(&mut self) {
        if let Some(batch) = self.batches.pop_front() {
            self.bytes -= batch.bytes;
            self.first += 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(xid: u64) -> Position {
        format!("{xid}:{xid}:@a").parse().expect("a position")
    }

    fn history(bytes_max: usize, batches: u64) -> History {
        let mut history = History::new(bytes_max);
        for number in 0..batches {
            history.push(at(number), Arc::new([Bytes::from(vec![b'x'; 10])]), number);
        }
        history
    }

    #[test]
    fn what_is_kept_is_bounded_and_the_last_is_always_kept() {
        let kept = history(30, 100);
        assert_eq!((kept.end(), kept.batches.len(), kept.bytes), (100, 3, 30));
        assert!(matches!(kept.next(96), Next::Gone));
        assert!(matches!(kept.next(97), Next::Events(_, 97)));
        assert!(matches!(kept.next(100), Next::Nothing));
        assert_eq!(history(5, 9).batches.len(), 1);
    }

    #[test]
    fn a_reader_resumes_at_the_latest_batch_that_it_may_not_have_seen() {
        let kept = history(30, 100);
        assert_eq!(kept.find(&at(98)), Some(98));
        assert_eq!(kept.find(&at(97)), Some(97));
        assert_eq!(kept.find(&at(1000)), Some(99));
        assert_eq!(kept.find(&at(96)), None);
        // Transaction 97 was still running for it: it has not seen what was seen before batch 98.
        assert_eq!(
            kept.find(&"97:99:97@a".parse().expect("a position")),
            Some(97)
        );
        assert_eq!(kept.find(&"98:98:@b".parse().expect("a position")), None);
    }
}
