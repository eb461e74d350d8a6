//! A request at an origin: which one, what of the request's body it gets, what its answer changes here, and the end of it.

use std::time::{Instant, SystemTime};

use bytes::Bytes;
use http::header::DATE;
use http::{Method, StatusCode};
use pingora::http::ResponseHeader;
use pingora::proxy::Session;
use pingora::upstreams::peer::HttpPeer;
use pingora::{Error, ErrorType, Result};

use super::{Context, Gateway, framing, interim};
use crate::balance::Outcome;
use crate::policy::stale::Failure;
use crate::policy::time::http_date;

impl Gateway {
    /// The origin that is asked next. The purge number is noted before it is.
    ///
    /// # Errors
    /// What the fetch that was waited for came to, or 503 when no origin takes one more request.
    pub(super) async fn choose_origin(
        &self,
        session: &Session,
        ctx: &mut Context,
    ) -> Result<Box<HttpPeer>> {
        ctx.lease = None; // the place of the attempt before is free
        self.leave_herd(session, ctx)?;
        let leased = self.pool.lease(&ctx.tried, Instant::now()).await;
        let lease = leased.map_err(|none| {
            self.metrics.shed.inc();
            ctx.shed = true;
            self.note_failure(ctx, StatusCode::SERVICE_UNAVAILABLE, Failure::Unreachable);
            Error::because(ErrorType::HTTPStatus(503), "picking an origin", none).into_up()
        })?;
        if ctx.asked.is_none() {
            self.pool.pay();
        }
        let mut peer = HttpPeer::new(lease.node().address(), false, String::new());
        peer.options = self.peer_options.clone();
        if ctx.unkept_only {
            peer.group_key = self.pool.random(); // no connection is kept under it
        }
        ctx.heard = false;
        ctx.tried.push(lease.node().id());
        ctx.asked = Some(lease.node().address());
        ctx.lease = Some(lease);
        ctx.standing.spend();
        ctx.began = self.store.sequence();
        (ctx.asked_at, ctx.request_time) = (Instant::now(), SystemTime::now());
        Ok(Box::new(peer))
    }

    /// What the origin gets of a piece of the request's body: of a read's nothing, of another's no more than the limit.
    ///
    /// # Errors
    /// 413 for a body over the limit, 408 for one that comes too slowly.
    pub(super) fn pass_body(
        &self,
        session: &Session,
        body: &mut Option<Bytes>,
        ctx: &mut Context,
    ) -> Result<()> {
        if matches!(session.req_header().method, Method::GET | Method::HEAD) {
            *body = None; // drained and ignored
            return Ok(());
        }
        if let Some(piece) = body {
            self.watch_pace(session, piece, ctx)?;
        }
        ctx.body_bytes += body.as_ref().map_or(0, |piece| piece.len() as u64);
        if ctx.body_bytes > self.config.limits.body_bytes_max.0 {
            return Error::e_explain(ErrorType::HTTPStatus(413), "request body over the limit");
        }
        Ok(())
    }

    /// Takes in the header of an origin's answer, before anything of it goes on.
    ///
    /// # Errors
    /// A header that cannot be made.
    pub(super) async fn receive(
        &self,
        session: &mut Session,
        resp: &mut ResponseHeader,
        ctx: &mut Context,
    ) -> Result<()> {
        ctx.heard = true;
        if resp.status.is_informational() {
            interim::pass(session, resp).await;
            return Ok(());
        }
        ctx.answer_begun = true;
        ctx.upstream_status = Some(resp.status.as_u16());
        if let Some(node) = ctx.asked {
            self.metrics.answered(node, ctx.asked_at.elapsed());
        }
        self.note_outcome(ctx, Outcome::of_status(resp.status));
        if !resp.headers.contains_key(DATE) {
            resp.insert_header(DATE, http_date(SystemTime::now()))?;
        }
        self.validate(session, resp, ctx)?;
        if resp.status.is_server_error() {
            self.note_failure(ctx, resp.status, Failure::Answered);
        } else {
            self.note_success(ctx);
        }
        // Before the answer leaves: whoever reads it finds no older response here.
        self.invalidate_after(session, resp, ctx).await;
        // A body that fits is read as fast as the origin sends it, however slow the client is: others wait for it too. One
        // that may not be kept is read as fast as the client takes it, or it would have to be held here.
        let fits = framing::content_length(&resp.headers)
            .is_some_and(|length| length <= self.config.cache.object_max.0);
        if session.cache.enabled() && fits {
            session.set_proxy_tasks_enabled(true);
        }
        Ok(())
    }
}
