//! What is written down of a request that has ended: counters by route, and the access log.

use std::borrow::Cow;
use std::time::SystemTime;

use chrono::{DateTime, SecondsFormat, Utc};
use http::{Version, header};
use pingora::http::RequestHeader;
use pingora::proxy::Session;
use pingora_cache::CachePhase;

use super::{Context, Gateway};
use crate::access_log::{Line, cut};
use crate::metrics::CacheResult;
use crate::policy::route::RouteId;

impl Gateway {
    /// Gives the place at the origin back, counts the request and logs it.
    pub(super) fn write_down(&self, session: &Session, ctx: &mut Context) {
        ctx.lease = None;
        let phase = match ctx.stale {
            Some(_) => CachePhase::Stale,
            None => session.cache.phase(),
        };
        let status = session.response_written().map(|resp| resp.status);
        let (cache, took) = (CacheResult::of(phase), ctx.arrived.elapsed());
        let route = ctx.target.as_ref().and_then(|target| target.route);
        self.metrics.request(status, cache, took);
        self.routes
            .note(route.map(RouteId::index), cache, status, took);
        let (Some(log), Some(settings)) = (&self.access_log, &self.config.access_log) else {
            return;
        };
        let is_failure = status.is_some_and(|status| status.is_server_error());
        if !log.samples(settings.sample_percent) && !is_failure {
            return;
        }
        let req = session.req_header();
        let field = |name| {
            let value = req
                .headers
                .get(name)
                .and_then(|value: &http::HeaderValue| value.to_str().ok());
            cut(value.unwrap_or_default())
        };
        let named = req.uri.authority().map(|authority| cut(authority.as_str()));
        log.write(&Line {
            time: DateTime::<Utc>::from(SystemTime::now())
                .to_rfc3339_opts(SecondsFormat::Millis, true),
            id: &ctx.request_id,
            client: self.client_ip(session),
            method: req.method.as_str(),
            host: named.unwrap_or_else(|| field(header::HOST)),
            path: cut(&self.logged_path(req, ctx)),
            version: version(req.version),
            route: route.map(|route| self.site.route(route)),
            status: status.map(|status| status.as_u16()),
            bytes: session.as_ref().body_bytes_sent(),
            duration_ms: took.as_micros() as f64 / 1_000.0,
            cache: cache.name(),
            node: ctx.asked.map(|address| address.to_string()),
            user_agent: field(header::USER_AGENT),
        });
    }
}

impl Gateway {
    /// The canonical path, also of who was refused before it was known: what an old path held, such as a token, is in the query
    /// of the present one. What is no path is logged as it came.
    fn logged_path<'r>(&self, req: &'r RequestHeader, ctx: &'r Context) -> Cow<'r, str> {
        match &ctx.target {
            Some(target) => Cow::Borrowed(&target.path),
            None => match self.site.target(req) {
                Ok(target) => Cow::Owned(target.path),
                Err(_) => Cow::Borrowed(req.uri.path()),
            },
        }
    }
}

fn version(version: Version) -> &'static str {
    match version {
        Version::HTTP_10 => "HTTP/1.0",
        Version::HTTP_2 => "HTTP/2",
        _ => "HTTP/1.1",
    }
}
