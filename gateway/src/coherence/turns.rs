//! One purge for one transaction at a time.
//!
//! The answer of an own write and its event on the stream come at about the same moment, on two threads, and a purge takes
//! many steps. Were both to purge, a fill that began between their two numbers would be refused although it has the change,
//! and the write would cost two fetches. So the later one waits for the earlier, and finds nothing left to do.

use rustc_hash::FxHashSet;
use tokio::sync::watch;

use super::position::Token;
use crate::sync::Mutex;

/// The transactions that are being purged for. No more than there are own writes in flight, and transactions in one event.
pub struct Turns {
    taken: Mutex<FxHashSet<Token>>,
    /// Moves when one is given back.
    freed: watch::Sender<()>,
}

impl Turns {
    pub(super) fn new() -> Self {
        Self {
            taken: Mutex::new(FxHashSet::default()),
            freed: watch::Sender::new(()),
        }
    }

    /// Waits until nobody else purges for any of these transactions. All are taken at once, so that no two wait for each
    /// other.
    pub(super) async fn take(&self, tokens: Vec<Token>) -> Turn<'_> {
        let mut freed = self.freed.subscribe();
        loop {
            // Before looking: what is given back after the look moves it again.
            freed.borrow_and_update();
            if self.try_take(&tokens) {
                return Turn {
                    turns: self,
                    tokens,
                };
            }
            // The sender lives as long as this.
            let _ = freed.changed().await;
        }
    }

    fn try_take(&self, tokens: &[Token]) -> bool {
        let mut taken = self.taken.lock();
        let is_free = tokens.iter().all(|token| !taken.contains(token));
        if is_free {
            taken.extend(tokens.iter().cloned());
        }
        is_free
    }
}

/// Leave to purge for some transactions, given back when dropped.
#[must_use = "the turn is over when this is dropped"]
pub struct Turn<'t> {
    turns: &'t Turns,
    tokens: Vec<Token>,
}

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        if self.tokens.is_empty() {
            return;
        }
        let mut taken = self.turns.taken.lock();
        for token in &self.tokens {
            taken.remove(token);
        }
        drop(taken);
        self.turns.freed.send_replace(());
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::super::position::tests::token;
    use super::*;

    #[tokio::test]
    async fn who_purges_for_the_same_transaction_waits_and_nobody_else_does() {
        let turns = Arc::new(Turns::new());
        let first = turns.take(vec![token(1), token(2)]).await;
        drop(turns.take(vec![token(3)]).await);
        drop(turns.take(Vec::new()).await);
        let second = {
            let turns = Arc::clone(&turns);
            tokio::spawn(async move { drop(turns.take(vec![token(2), token(3)]).await) })
        };
        tokio::task::yield_now().await;
        assert!(!second.is_finished());
        drop(turns.take(vec![token(3)]).await);
        drop(first);
        second.await.unwrap();
        assert!(turns.taken.lock().is_empty());
    }

    #[tokio::test]
    async fn who_gives_up_waiting_leaves_nothing_taken() {
        let turns = Turns::new();
        let first = turns.take(vec![token(1)]).await;
        let second = turns.take(vec![token(1), token(2)]);
        tokio::select! {
            biased;
            _ = second => panic!("two at a time"),
            () = tokio::task::yield_now() => {}
        }
        drop(turns.take(vec![token(2)]).await);
        drop(first);
        drop(turns.take(vec![token(1)]).await);
    }
}
