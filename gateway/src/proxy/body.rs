//! The body of a request before an origin is asked: read and dropped, bounded, or left where it is.

use http::{Method, StatusCode, header};
use pingora::Result;
use pingora::proxy::Session;

use super::{Context, Gateway, framing};
use crate::error::Problem;
use crate::guard;

/// An ignored body is bounded by what Pingora's buffer for a second attempt holds.
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
            return Ok(false);
        }
        // What was read is put into this buffer, and request_body_filter replaces it by nothing: without it Pingora would
        // wait for an end of the body that has been read already.
        session.as_mut().enable_retry_buffering();
        let mut drained = 0;
        while let Some(piece) = session.as_mut().read_request_body().await? {
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

/// The request is answered without its body, if it has one. Nobody has read that strictly: where it ends may be doubted, so
/// nothing behind it is taken for another request.
pub(super) fn leave_body(session: &mut Session, ctx: &Context) {
    if !ctx.drained && !session.as_mut().is_body_empty() {
        session.as_mut().set_keepalive(None);
    }
}
