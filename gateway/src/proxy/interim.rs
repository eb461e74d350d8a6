//! Interim answers (1xx) on their way from an origin to the client (RFC 9110 section 15.2).

use http::{StatusCode, Version};
use pingora::http::ResponseHeader;
use pingora::proxy::Session;

/// Sends an interim answer on as soon as it comes where the cache is in use, and sees to it that nobody gets one who cannot read
/// it.
///
/// A final answer that is kept is read back from the cache: Pingora then drops what came in the same piece before it. So this
/// one is written here, and what Pingora writes of it goes nowhere. It belongs to the request that fetches: who waits for
/// that fetch, and every later hit, gets the final answer alone.
pub(super) async fn pass(session: &mut Session, interim: &ResponseHeader) {
    let is_cached = session.cache.enabled() || session.cache.bypassing();
    let is_for_client = session.subrequest_ctx.is_none()
        && session.req_header().version >= Version::HTTP_11
        // The body of a read was taken in before the origin was asked: nobody waits to be let go on.
        && !(is_cached && interim.status == StatusCode::CONTINUE);
    let client = session.as_mut();
    if is_cached && is_for_client {
        client.set_ignore_info_resp(false);
        let written = client.write_response_header_ref(interim).await;
        if let Err(gone) = written {
            tracing::debug!(error = %gone, "the client went before an interim answer");
        }
    }
    client.set_ignore_info_resp(is_cached || !is_for_client);
}

/// Whether the client has been sent a final answer, or the beginning of one.
pub(super) fn has_answered(session: &Session) -> bool {
    session
        .response_written()
        .is_some_and(|sent| !sent.status.is_informational())
}
