//! What follows when an origin fails: another attempt, a stale answer, or a problem document.

use std::time::Instant;

use http::Method;
use pingora::proxy::{FailToProxy, Session};
use pingora::{Error, ErrorSource, ErrorType};

use super::{Context, Gateway, interim};
use crate::error::{self, Problem};

impl Gateway {
    /// After no connection came up: nothing was sent, so any method may try the next node.
    pub(super) fn after_connect_error(
        &self,
        mut error: Box<Error>,
        ctx: &mut Context,
    ) -> Box<Error> {
        self.eject(ctx);
        let again = self.attempts_left(ctx);
        error.set_retry(again);
        self.note_unless(again, &error, ctx);
        error
    }

    /// After a request was sent, in part at least.
    pub(super) fn after_exchange_error(
        &self,
        session: &Session,
        mut error: Box<Error>,
        ctx: &mut Context,
    ) -> Box<Error> {
        self.invalidate_unknown(session, ctx);
        let from_origin = *error.esource() == ErrorSource::Upstream;
        let in_time = *error.etype() != ErrorType::ReadTimedout;
        if from_origin && in_time {
            self.eject(ctx);
        }
        // Safe methods only: a PUT of a counter counts again each time. And only while the client has seen nothing.
        let safe = matches!(session.req_header().method, Method::GET | Method::HEAD);
        let unanswered = !ctx.answer_begun && !interim::has_answered(session);
        let again = safe && unanswered && from_origin && in_time && self.attempts_left(ctx);
        error.set_retry(again);
        if from_origin {
            self.note_unless(again, &error, ctx);
        }
        error
    }

    fn eject(&self, ctx: &Context) {
        if let Some(lease) = &ctx.lease {
            self.pool.eject(lease.index(), Instant::now());
        }
    }

    fn attempts_left(&self, ctx: &Context) -> bool {
        ctx.tried.len() < self.config.upstream.attempts.min(self.pool.nodes().len())
    }

    /// Whether what is stale answers: in place of a failure, or while a refresh runs when there is none.
    pub(super) fn may_serve_stale(
        &self,
        session: &mut Session,
        ctx: &mut Context,
        error: Option<&Error>,
    ) -> bool {
        if let Some(status) = error.and_then(error::status) {
            self.note_failure(ctx, status);
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
