//! What follows when an origin fails: another attempt, a stale answer, or a problem document.

use std::io;
use std::time::{Duration, Instant};

use http::Method;
use nix::errno::Errno;
use pingora::proxy::{FailToProxy, Session};
use pingora::{Error, ErrorSource, ErrorType, RetryType};

use super::body::LATE;
use super::{Context, Gateway, interim, refresh};
use crate::balance::Outcome;
use crate::error::{self, Problem};

/// An origin that closes what was idle did so before the request came, or just then. One that takes longer had begun to work on it.
const END_WITHIN: Duration = Duration::from_secs(1);
/// How Pingora words that not a byte of a header has come.
const NOTHING_READ: &str = "bytes already read: 0";

impl Gateway {
    /// After no connection came up: nothing was sent, so any method may try the next node.
    pub(super) fn after_connect_error(
        &self,
        mut error: Box<Error>,
        ctx: &mut Context,
    ) -> Box<Error> {
        if !is_out_of_descriptors(&error) {
            self.note_outcome(ctx, Outcome::Unreachable);
        }
        let again = self.may_retry(ctx);
        error.set_retry(again);
        self.note_unless(again, &error, ctx);
        error
    }

    /// After a request was sent, in part at least, on a connection that was `kept` from an earlier one or is its own.
    pub(super) fn after_exchange_error(
        &self,
        session: &Session,
        mut error: Box<Error>,
        ctx: &mut Context,
        kept: bool,
    ) -> Box<Error> {
        self.invalidate_unknown(session, ctx);
        let from_origin = *error.esource() == ErrorSource::Upstream;
        let in_time = *error.etype() != ErrorType::ReadTimedout;
        if from_origin && !in_time && ctx.owes_body {
            // The origin waits for the rest of the request, as it should.
            let context = "waiting for the body of the request";
            return Error::because(LATE, context, error).into_down();
        }
        // An origin that closes what has been idle is well. That it has taken the request is not known: a write is not repeated.
        let at_once = ctx.asked_at.elapsed() < END_WITHIN;
        let had_ended = kept && at_once && from_origin && !ctx.heard && is_end(&error);
        if from_origin && !had_ended {
            let outcome = if in_time {
                Outcome::Broke
            } else {
                Outcome::Late
            };
            self.note_outcome(ctx, outcome);
        }
        // Safe methods only: a PUT of a counter counts again each time. And only while the client has seen nothing.
        let safe = matches!(session.req_header().method, Method::GET | Method::HEAD);
        let unanswered = !ctx.answer_begun && !interim::has_answered(session);
        let may = safe && unanswered && from_origin && in_time;
        let again = may
            && match had_ended {
                true => self.may_repeat(ctx),
                false => self.may_retry(ctx),
            };
        error.set_retry(again);
        if from_origin {
            self.note_unless(again, &error, ctx);
        }
        error
    }

    /// Notes what a request's end says of its origin.
    pub(super) fn note_outcome(&self, ctx: &Context, outcome: Outcome) {
        if let Some(lease) = &ctx.lease {
            self.pool.note(lease.node(), outcome, Instant::now());
        }
    }

    /// Whether another attempt follows; asked last, as it takes that attempt from the budget.
    fn may_retry(&self, ctx: &Context) -> bool {
        self.pool
            .may_retry(&ctx.tried, self.config.upstream.attempts)
    }

    /// Whether another attempt follows after the end of a kept connection: on one of its own, which has no such end.
    fn may_repeat(&self, ctx: &mut Context) -> bool {
        let attempts_max = self.config.upstream.attempts;
        let now = Instant::now();
        ctx.unkept_only = self.pool.may_repeat(&mut ctx.tried, attempts_max, now);
        ctx.unkept_only
    }

    /// Whether what is stale answers: in place of a failure, or while a refresh runs when there is none.
    pub(super) fn may_serve_stale(
        &self,
        session: &mut Session,
        ctx: &mut Context,
        error: Option<&Error>,
    ) -> bool {
        if let Some(error) = error {
            self.note_unless(false, error, ctx);
        }
        if error.is_none() && refresh::needs_credentials(session, &self.rules.vary) {
            return false; // it is validated with them
        }
        if error.is_none() && session.cache.is_cache_lock_writer() {
            ctx.standing.spend(); // the refresh that begins now asks in its place
        }
        // Without an error this is stale-while-revalidate; its window is in the entry.
        error.is_none_or(|error| self.cover(session, ctx, error))
    }

    /// Answers with a problem document (RFC 9457), unless an answer has begun or nobody is there to read one.
    pub(super) async fn answer_failure(
        &self,
        session: &mut Session,
        error: &Error,
        ctx: &Context,
    ) -> FailToProxy {
        let status = error::status(error);
        if let Some(status) = status
            && !interim::has_answered(session)
        {
            let problem = Problem::of_status(status);
            if let Err(failed) = self.refuse(session, ctx, &problem, false).await {
                tracing::debug!(error = %failed, "the client went before its error answer");
            }
        }
        FailToProxy {
            error_code: status.map_or(0, |status| status.as_u16()),
            can_reuse_downstream: false,
        }
    }
}

/// Whether the connection was at its end before a byte of the answer to this request.
fn is_end(error: &Error) -> bool {
    match error.etype() {
        // Nothing of an answer is read before the request is written.
        ErrorType::WriteError => true,
        ErrorType::ConnectionClosed | ErrorType::ReadError => {
            // Pingora tells in words alone how much of a header had come.
            error.retry == RetryType::ReusedOnly && error.to_string().contains(NOTHING_READ)
        }
        _ => false,
    }
}

/// Whether the gateway had no descriptor left for a connection, which says nothing about the origin.
fn is_out_of_descriptors(error: &Error) -> bool {
    let cause = error.root_cause().downcast_ref::<io::Error>();
    let code = cause.and_then(io::Error::raw_os_error);
    code.is_some_and(|code| [Errno::EMFILE as i32, Errno::ENFILE as i32].contains(&code))
}
