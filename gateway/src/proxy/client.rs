//! Who sends a request, and whether this client may send one more now.

use std::net::{IpAddr, SocketAddr};
use std::time::Instant;

use http::StatusCode;
use pingora::proxy::Session;

use super::{Context, Gateway};
use crate::error::Problem;
use crate::policy::forwarded;

impl Gateway {
    /// The client's address, behind trusted proxies the one they tell; none for what the gateway asks itself.
    pub(super) fn client_ip(&self, session: &Session) -> Option<IpAddr> {
        let peer = session.client_addr()?.as_inet().map(SocketAddr::ip)?;
        let headers = &session.req_header().headers;
        let trusted = &self.config.limits.trusted_proxies;
        Some(forwarded::client(peer, headers, trusted))
    }

    /// Why this client has to wait, if it has.
    pub(super) fn over_rate(&self, session: &Session, ctx: &Context) -> Option<Problem> {
        let clients = self.clients.as_ref()?;
        if session.subrequest_ctx.is_some() {
            return None; // a refresh is not the client's wish
        }
        let now = Instant::now().max(ctx.arrived);
        clients.take(self.client_ip(session)?, now).err()?;
        self.metrics.rate_limited.inc();
        let detail = "This client sends more requests than it may.";
        Some(Problem::new(StatusCode::TOO_MANY_REQUESTS, detail))
    }
}
