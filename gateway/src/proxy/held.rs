//! A small body is taken in whole before an origin is chosen: whoever drips it holds no place there.
//!
//! Pingora keeps what it reads of a body for a second attempt, and sends that first. So what was taken in here is sent from
//! there, and where memory runs short in the middle of a body its rest follows as it comes. That nothing but a GET is sent
//! a second time is for `failure.rs` to see to, as for bodies that are passed on.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use pingora::Result;
use pingora::proxy::Session;

use super::body::{let_go_on, read_in_time};
use super::{Context, Gateway};
use crate::guard;

/// What a request has of the memory for bodies, given back when dropped.
pub(super) struct Held {
    account: Arc<AtomicUsize>,
    bytes: usize,
}

impl Held {
    fn nothing(account: &Arc<AtomicUsize>) -> Self {
        Self {
            account: Arc::clone(account),
            bytes: 0,
        }
    }

    fn add(&mut self, bytes: usize) {
        self.account.fetch_add(bytes, Ordering::Relaxed);
        self.bytes += bytes;
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        self.account.fetch_sub(self.bytes, Ordering::Relaxed);
    }
}

impl Gateway {
    /// Reads a body that fits into Pingora's buffer, or as much of it as there is memory for. True when the request was
    /// answered instead.
    pub(super) async fn hold_body(&self, session: &mut Session, ctx: &mut Context) -> Result<bool> {
        let account = &self.metrics.held_body_bytes;
        let max = self.config.limits.body_memory.as_usize();
        // Asked before each piece: beyond the bound goes at most one read of each connection.
        let is_full = || account.load(Ordering::Relaxed) >= max;
        if is_full() {
            return Ok(false);
        }
        session.as_mut().enable_retry_buffering();
        let_go_on(session).await?;
        let mut held = Held::nothing(account);
        let mut pace = self.new_pace(session);
        while !is_full() {
            match read_in_time(session, pace.as_mut()).await {
                Ok(Some(piece)) => held.add(piece.len()),
                Ok(None) => {
                    guard::body_arrived();
                    ctx.owes_body = false;
                    break;
                }
                Err(error) => return self.refuse_unread(session, ctx, error).await,
            }
        }
        ctx.held = Some(held);
        Ok(false)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_bodies_hold_is_counted_together_and_given_back_by_each() {
        let account = Arc::default();
        let mut one = Held::nothing(&account);
        let mut two = Held::nothing(&account);
        one.add(10);
        two.add(20);
        one.add(1);
        assert_eq!(account.load(Ordering::Relaxed), 31);
        drop(one);
        assert_eq!(account.load(Ordering::Relaxed), 20);
        drop(two);
        assert_eq!(account.load(Ordering::Relaxed), 0);
    }
}
