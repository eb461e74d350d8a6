//! What changes when the gateway has an encrypted listener: plain requests are sent there.

use http::{Method, StatusCode, header};
use pingora::Result;
use pingora::http::ResponseHeader;
use pingora::proxy::Session;

use super::{Context, Gateway};
use crate::refill;

/// The port that an https URL without one means.
const DEFAULT_PORT: u16 = 443;

impl Gateway {
    /// The scheme of every URL that is served: with `[tls]` no other answers.
    pub(super) fn scheme(&self) -> &'static str {
        if self.config.tls.is_some() {
            "https"
        } else {
            "http"
        }
    }

    /// Sends a plain request to the encrypted listener, if there is one: true when it is answered.
    ///
    /// # Errors
    /// A host that is none, or a client that has gone.
    pub(super) async fn redirect(&self, session: &mut Session, ctx: &Context) -> Result<bool> {
        let Some(tls) = &self.config.tls else {
            return Ok(false);
        };
        // Refreshes and refills are the gateway's own and come by no listener.
        let is_own = session.subrequest_ctx.is_some() || refill::is_refilling();
        if is_own || is_encrypted(session) {
            return Ok(false);
        }
        let req = session.req_header();
        let host = self.site.host(req)?;
        let name = without_port(&host);
        let port = match tls.public_port {
            DEFAULT_PORT => String::new(),
            port => format!(":{port}"),
        };
        let target = match req.uri.path_and_query() {
            Some(target) if req.method != Method::OPTIONS || target.as_str() != "*" => {
                target.as_str()
            }
            _ => "/",
        };
        // 308 keeps the method, and the body with it.
        let mut resp = ResponseHeader::build(StatusCode::PERMANENT_REDIRECT, Some(8))?;
        resp.insert_header(header::LOCATION, format!("https://{name}{port}{target}"))?;
        self.send_own(session, ctx, resp, bytes::Bytes::new()).await
    }
}

/// Whether the request came by the encrypted listener.
pub(super) fn is_encrypted(session: &Session) -> bool {
    session
        .digest()
        .is_some_and(|digest| digest.ssl_digest.is_some())
}

fn without_port(host: &str) -> &str {
    let digits = |port: &str| !port.is_empty() && port.bytes().all(|byte| byte.is_ascii_digit());
    match host.rsplit_once(':') {
        Some((name, port)) if digits(port) => name,
        Some(_) | None => host,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_redirect_names_the_host_without_its_port() {
        for (host, name) in [
            ("shop.test", "shop.test"),
            ("shop.test:8080", "shop.test"),
            ("[::1]:8080", "[::1]"),
            ("[::1]", "[::1]"),
        ] {
            assert_eq!(without_port(host), name);
        }
    }
}
