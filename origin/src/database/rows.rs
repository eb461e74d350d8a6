//! Writes that may have to wait for the same row: only some of them at a time get a connection.
//!
//! Whoever has locked a row, by hand or in a program that hangs, keeps every writer of that row waiting until the server
//! cancels its statement, and each of them holds a connection. Without a bound, the votes for one popular review would
//! take all connections from those who write something else. Of a row that nobody holds on to, one writer is at work and
//! the next one waits at the server: more would not be faster.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore},
    time::timeout,
};

use crate::error::{Error, Result};

/// What a write may have to wait for: a row that it changes, or that what it adds refers to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Row {
    /// What is counted of a product's reviews, and its characteristics.
    Meta(i32),
    /// A review.
    Review(i32),
    /// A question.
    Question(i32),
    /// An answer.
    Answer(i32),
    /// A cart, by the digest of its identity.
    Cart([u8; 32]),
}

/// The rows that are being written to, or that somebody waits for.
#[derive(Debug)]
pub(super) struct Rows {
    /// Writers of one row at a time.
    writers_max: usize,
    gates: Mutex<HashMap<Row, Arc<Semaphore>>>,
}

impl Rows {
    /// Lets so many write to a row at a time, one at least.
    pub(super) fn new(writers_max: usize) -> Arc<Self> {
        Arc::new(Self {
            writers_max: writers_max.max(1),
            gates: Mutex::default(),
        })
    }

    /// Waits until few enough others write to a row, as long as there is patience.
    ///
    /// # Errors
    /// [`Error::Unavailable`] if too many do for all that time.
    pub(super) async fn enter(self: &Arc<Self>, row: Row, patience: &mut Duration) -> Result<Turn> {
        let mut turn = self.queue(row);
        let waiting = Instant::now();
        let entered = timeout(*patience, Arc::clone(&turn.gate).acquire_owned()).await;
        *patience = patience.saturating_sub(waiting.elapsed());
        // A gate is never closed.
        turn.place = entered.ok().and_then(std::result::Result::ok);
        if turn.place.is_none() {
            return Err(Error::Unavailable(
                "too many others write to the same row".into(),
            ));
        }
        Ok(turn)
    }

    fn queue(self: &Arc<Self>, row: Row) -> Turn {
        let mut gates = self.gates();
        let gate = gates
            .entry(row)
            .or_insert_with(|| Arc::new(Semaphore::new(self.writers_max)));
        Turn {
            rows: Arc::clone(self),
            row,
            gate: Arc::clone(gate),
            place: None,
        }
    }

    fn gates(&self) -> MutexGuard<'_, HashMap<Row, Arc<Semaphore>>> {
        self.gates.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A place among the writers of a row, or among those who wait for one. Given back when it is dropped.
#[derive(Debug)]
pub(super) struct Turn {
    rows: Arc<Rows>,
    row: Row,
    gate: Arc<Semaphore>,
    place: Option<OwnedSemaphorePermit>,
}

impl Drop for Turn {
    fn drop(&mut self) {
        // Holds the gate too.
        self.place = None;
        let mut gates = self.rows.gates();
        // The list's and ours: only who has locked the list makes more of them.
        if Arc::strong_count(&self.gate) == 2 {
            gates.remove(&self.row);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NO_TIME: Duration = Duration::ZERO;

    async fn enter(rows: &Arc<Rows>, row: Row) -> Result<Turn> {
        rows.enter(row, &mut NO_TIME.clone()).await
    }

    #[tokio::test]
    async fn a_row_has_so_many_writers_and_others_have_theirs() {
        let rows = Rows::new(2);
        let first = enter(&rows, Row::Review(5)).await.expect("a place");
        let _second = enter(&rows, Row::Review(5)).await.expect("a place");
        assert!(enter(&rows, Row::Review(5)).await.is_err());
        assert!(enter(&rows, Row::Review(6)).await.is_ok());
        assert!(enter(&rows, Row::Question(5)).await.is_ok());
        drop(first);
        assert!(enter(&rows, Row::Review(5)).await.is_ok());
    }

    #[tokio::test]
    async fn one_writer_is_let_in_however_few_may_be() {
        let rows = Rows::new(0);
        let _only = enter(&rows, Row::Cart([0; 32])).await.expect("a place");
        assert!(enter(&rows, Row::Cart([0; 32])).await.is_err());
    }

    #[tokio::test]
    async fn who_waits_is_let_in_when_a_place_is_given_back() {
        let rows = Rows::new(1);
        let first = enter(&rows, Row::Meta(2)).await.expect("a place");
        let waiting = tokio::spawn({
            let rows = Arc::clone(&rows);
            async move { rows.enter(Row::Meta(2), &mut Duration::from_secs(60)).await }
        });
        while Arc::strong_count(&first.gate) < 4 {
            tokio::task::yield_now().await;
        }
        drop(first);
        let second = waiting.await.expect("no panic").expect("a place");
        assert_eq!(rows.gates().len(), 1);
        drop(second);
        assert!(rows.gates().is_empty());
    }

    #[tokio::test]
    async fn rows_that_nobody_writes_to_are_forgotten() {
        let rows = Rows::new(1);
        let turn = enter(&rows, Row::Answer(1)).await.expect("a place");
        assert!(enter(&rows, Row::Answer(1)).await.is_err());
        assert_eq!(rows.gates().len(), 1);
        drop(turn);
        assert!(rows.gates().is_empty());
    }
}
