//! The body of a request before an origin is asked: read and dropped, taken in, bounded, or left where it is.

use bytes::Bytes;
use http::{Method, StatusCode, Version, header};
use pingora::http::RequestHeader;
use pingora::proxy::Session;
use pingora::{Error, ErrorType, Result};
use tokio::time::Instant;

use super::{Context, Gateway, framing};
use crate::error::Problem;
use crate::guard::{self, BodyPace};

/// What Pingora's buffer for a second attempt holds: the bound of what is read before an origin is asked.
const REPLAY_BYTES_MAX: u64 = 64 * 1024;

impl Gateway {
    /// Reads and drops the body of a GET or HEAD, and refuses one that is declared too large, before anything else is done.
    pub(super) async fn admit_body(
        &self,
        session: &mut Session,
        ctx: &mut Context,
    ) -> Result<bool> {
        let limits = &self.config.limits;
        let req = session.req_header();
        let declared = framing::content_length(&req.headers);
        let ignored = matches!(req.method, Method::GET | Method::HEAD);
        let bound = if ignored {
            limits.drain_bytes_max.0.min(REPLAY_BYTES_MAX)
        } else {
            limits.body_bytes_max.0
        };
        if declared.is_some_and(|length| length > bound) {
            return self
                .refuse(
                    session,
                    ctx,
                    &Problem::of_status(StatusCode::PAYLOAD_TOO_LARGE),
                    false,
                )
                .await;
        }
        let is_chunked = req.headers.contains_key(header::TRANSFER_ENCODING);
        if !session.as_mut().is_body_empty() && !guard::body_expected(is_chunked) {
            let problem = Problem::new(
                StatusCode::BAD_REQUEST,
                "The chunks of the body are malformed.",
            );
            return self.refuse(session, ctx, &problem, false).await;
        }
        if !ignored {
            ctx.owes_body = !session.as_mut().is_body_empty();
            return match declared {
                Some(1..=REPLAY_BYTES_MAX) if ctx.owes_body => self.hold_body(session, ctx).await,
                _ => Ok(false),
            };
        }
        // What was read is put into this buffer, and request_body_filter replaces it by nothing: without it Pingora would
        // wait for an end of the body that has been read already.
        session.as_mut().enable_retry_buffering();
        if !session.as_mut().is_body_empty() {
            let_go_on(session).await?;
        }
        let mut drained = 0;
        let mut pace = self.new_pace(session);
        loop {
            let piece = match read_in_time(session, pace.as_mut()).await {
                Ok(Some(piece)) => piece,
                Ok(None) => break,
                Err(error) => return self.refuse_unread(session, ctx, error).await,
            };
            drained += piece.len() as u64;
            if drained > bound {
                return self
                    .refuse(
                        session,
                        ctx,
                        &Problem::of_status(StatusCode::PAYLOAD_TOO_LARGE),
                        false,
                    )
                    .await;
            }
        }
        guard::body_arrived();
        ctx.drained = drained > 0;
        Ok(false)
    }
}

impl Gateway {
    /// Tells a client that its body came too slowly, or ends the request of one that has gone.
    pub(super) async fn refuse_unread(
        &self,
        session: &mut Session,
        ctx: &Context,
        error: Box<Error>,
    ) -> Result<bool> {
        if *error.etype() != LATE {
            return Err(error.into_down());
        }
        let problem = Problem::of_status(StatusCode::REQUEST_TIMEOUT);
        self.refuse(session, ctx, &problem, false).await
    }

    /// The pace of a body that is awaited from now on, where the connection's clock does not know of it: that of HTTP/2 knows
    /// its streams together.
    pub(super) fn new_pace(&self, session: &Session) -> Option<BodyPace> {
        let limits = &self.config.limits;
        let (rate, slack) = (limits.read_rate_min.0, limits.rate_slack);
        let is_http2 = session.as_ref().is_http2();
        is_http2.then(|| BodyPace::new(rate, slack, Instant::now()))
    }

    /// Looks at a piece of a body on its way to the origin.
    ///
    /// # Errors
    /// 408 for one that came too late. One that does not come at all is told by the origin, which waits for it.
    pub(super) fn watch_pace(
        &self,
        session: &Session,
        piece: &Bytes,
        ctx: &mut Context,
    ) -> Result<()> {
        // Before the first piece it was the origin that was waited for.
        let Some(pace) = &mut ctx.body_pace else {
            ctx.body_pace = self.new_pace(session);
            return Ok(());
        };
        if pace.has_come(piece.len(), Instant::now()) {
            Ok(())
        } else {
            Err(late())
        }
    }
}

/// A body that does not come in time.
pub(super) const LATE: ErrorType = ErrorType::HTTPStatus(StatusCode::REQUEST_TIMEOUT.as_u16());

fn late() -> Box<Error> {
    Error::explain(LATE, "the body of the request came too slowly")
}

/// Lets a client send its body that waits for leave to (RFC 9110 section 10.1.1). Pingora writes no interim answers over HTTP/2.
pub(super) async fn let_go_on(session: &mut Session) -> Result<()> {
    let req = session.req_header();
    let waits = req.version == Version::HTTP_11
        && req
            .headers
            .get(header::EXPECT)
            .is_some_and(|expected| expected.as_bytes().eq_ignore_ascii_case(b"100-continue"));
    if !waits {
        return Ok(());
    }
    // Pingora would have any answer before the end of the body close the connection.
    let keepalive = session.as_ref().get_keepalive();
    let written = session.as_mut().write_continue_response().await;
    session.as_mut().set_keepalive(keepalive);
    written.map_err(Error::into_down)
}

/// What an origin is told of a body that is here, or dropped.
pub(super) fn announce_body(
    session: &Session,
    upstream: &mut RequestHeader,
    ctx: &Context,
) -> Result<()> {
    if ctx.drained || ctx.held.is_some() {
        upstream.remove_header(&header::EXPECT); // the client sends it already
    }
    if matches!(session.req_header().method, Method::GET | Method::HEAD) {
        // The body was drained; its framing must not announce one.
        upstream.remove_header(&header::CONTENT_LENGTH);
        upstream.remove_header(&header::TRANSFER_ENCODING);
        if ctx.drained {
            upstream.insert_header(header::CONTENT_LENGTH, 0)?; // else Pingora announces chunks
        }
    }
    Ok(())
}

/// The next piece of a body.
pub(super) async fn read_in_time(
    session: &mut Session,
    pace: Option<&mut BodyPace>,
) -> Result<Option<Bytes>> {
    let read = session.as_mut().read_request_body();
    let Some(pace) = pace else {
        return read.await;
    };
    let read = tokio::time::timeout_at(pace.due(), read).await;
    let piece = read.map_err(|_| late())??;
    let bytes = piece.as_ref().map_or(0, Bytes::len);
    if pace.has_come(bytes, Instant::now()) || piece.is_none() {
        Ok(piece)
    } else {
        Err(late())
    }
}

/// The request is answered without its body, if it has one. Nobody has read that strictly: where it ends may be doubted, so
/// nothing behind it is taken for another request.
pub(super) fn leave_body(session: &mut Session, ctx: &Context) {
    if !ctx.drained && !session.as_mut().is_body_empty() {
        session.as_mut().set_keepalive(None);
    }
}
