//! The filters of Pingora's proxy: each calls one function of a module below and knows no policy of its own.

mod access;
mod answer;
mod assemble;
mod body;
mod client;
mod coherent;
mod context;
mod current;
mod encoded;
mod failure;
mod framing;
mod held;
mod herd;
mod interim;
mod invalidate;
mod keep;
mod length;
mod lock;
mod lookup;
mod origin;
mod piece;
mod ranges;
mod refresh;
mod secure;
mod stale;
mod storage;
mod uncacheable;
mod variant;

use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use async_trait::async_trait;
use bytes::Bytes;
use http::HeaderName;
use pingora::http::{RequestHeader, ResponseHeader};
use pingora::proxy::{FailToProxy, ProxyHttp, ProxyWarnLogContext, RangeType, Session};
use pingora::upstreams::peer::{HttpPeer, PeerOptions};
use pingora::{Error, ErrorSource, ErrorType, Result};
use pingora_cache::key::HashBinary;
use pingora_cache::{CacheKey, CacheMeta, ForcedFreshness, HitHandler, RespCacheable};

pub use assemble::{Knowledge, Traces};
pub use context::{Context, InFlight};
pub use current::Current;

use crate::access_log::AccessLog;
use crate::balance::Pool;
use crate::coherence::{Coherence, Peers};
use crate::config::Config;
use crate::encode::Encoder;
use crate::guard;
use crate::metrics::{Metrics, RouteMetrics};
use crate::policy::cors;
use crate::policy::encoding::EncodingRules;
use crate::policy::storable::Rules;
use crate::purge::Journal;
use crate::refusals::Refusals;
use crate::releases::Releases;
use crate::site::Site;
use crate::store::Store;
use crate::upgrade::HandOver;
use keep::CacheParts;

static X_REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

/// The proxy as Pingora has it: each request is served by the gateway that is current when it begins.
pub struct Proxy {
    current: Arc<Current>,
}

/// One configuration, compiled, and what requests share.
pub struct Gateway {
    config: Arc<Config>,
    site: Arc<Site>,
    rules: Rules,
    encodings: EncodingRules,
    encoder: Encoder,
    cors: Option<cors::Answers>,
    store: Arc<Store>,
    pool: Arc<Pool>,
    peer_options: PeerOptions,
    /// What each client may send; none without a limit.
    clients: Option<Arc<guard::Clients>>,
    metrics: Arc<Metrics>,
    routes: RouteMetrics,
    journal: Arc<Journal>,
    refusals: Arc<Refusals>,
    cache: CacheParts,
    access_log: Option<Arc<AccessLog>>,
    coherence: Option<Arc<Coherence>>,
    /// Whether another process answers by now.
    handover: Arc<HandOver>,
    /// The gateways that a write's answer waits for.
    peers: Option<Peers>,
    releases: Option<Arc<Releases>>,
}

#[async_trait]
impl ProxyHttp for Proxy {
    type CTX = InFlight;

    fn new_ctx(&self) -> InFlight {
        InFlight {
            gateway: self.current.gateway(),
            ctx: Context::new(Instant::now(), SystemTime::now()),
        }
    }

    async fn early_request_filter(&self, _: &mut Session, _: &mut InFlight) -> Result<()> {
        guard::header_arrived();
        Ok(())
    }

    async fn request_filter(&self, session: &mut Session, ctx: &mut InFlight) -> Result<bool> {
        let InFlight { gateway, ctx } = ctx;
        ctx.request_id = gateway.metrics.next_request_id();
        let answered = gateway.admit(session, ctx).await?;
        if !answered {
            refresh::drop_credentials(session);
            gateway.meet_tokens(session, ctx).await;
        }
        Ok(answered)
    }

    fn request_cache_filter(&self, session: &mut Session, ctx: &mut InFlight) -> Result<()> {
        let InFlight { gateway, ctx } = ctx;
        gateway.use_cache(session, ctx);
        Ok(())
    }

    fn cache_key_callback(&self, session: &Session, ctx: &mut InFlight) -> Result<CacheKey> {
        let InFlight { gateway, ctx } = ctx;
        gateway.cache_key(session, ctx)
    }

    async fn cache_hit_filter(
        &self,
        session: &mut Session,
        meta: &CacheMeta,
        hit: &mut HitHandler,
        is_fresh: bool,
        ctx: &mut InFlight,
    ) -> Result<Option<ForcedFreshness>> {
        let InFlight { gateway, ctx } = ctx;
        Ok(gateway.judge_found(session, meta, hit, is_fresh, ctx))
    }

    fn cache_miss(&self, session: &mut Session, served: &mut InFlight) {
        lookup::note_miss(session, &mut served.ctx);
        session.cache.cache_miss();
    }

    fn cache_vary_filter(
        &self,
        meta: &CacheMeta,
        served: &mut InFlight,
        req: &RequestHeader,
    ) -> Option<HashBinary> {
        served.gateway.variance(meta, req)
    }

    async fn proxy_upstream_filter(
        &self,
        session: &mut Session,
        ctx: &mut InFlight,
    ) -> Result<bool> {
        let InFlight { gateway, ctx } = ctx;
        gateway.may_forward(session, ctx).await
    }

    async fn upstream_peer(
        &self,
        session: &mut Session,
        ctx: &mut InFlight,
    ) -> Result<Box<HttpPeer>> {
        let InFlight { gateway, ctx } = ctx;
        gateway.choose_origin(session, ctx).await
    }

    async fn upstream_request_filter(
        &self,
        session: &mut Session,
        upstream: &mut RequestHeader,
        ctx: &mut InFlight,
    ) -> Result<()> {
        let InFlight { gateway, ctx } = ctx;
        gateway.forward(session, upstream, ctx)
    }

    async fn request_body_filter(
        &self,
        session: &mut Session,
        body: &mut Option<Bytes>,
        end_of_stream: bool,
        ctx: &mut InFlight,
    ) -> Result<()> {
        if end_of_stream {
            guard::body_arrived();
            ctx.ctx.owes_body = false;
        }
        let InFlight { gateway, ctx } = ctx;
        gateway.pass_body(session, body, ctx)
    }

    async fn upstream_response_filter(
        &self,
        session: &mut Session,
        resp: &mut ResponseHeader,
        ctx: &mut InFlight,
    ) -> Result<()> {
        let InFlight { gateway, ctx } = ctx;
        gateway.receive(session, resp, ctx).await
    }

    fn upstream_response_body_filter(
        &self,
        _session: &mut Session,
        _body: &mut Option<Bytes>,
        end_of_stream: bool,
        served: &mut InFlight,
    ) -> Result<Option<Duration>> {
        if end_of_stream {
            served.ctx.lease = None; // a slow client does not make its origin look busy
        }
        Ok(None)
    }

    fn response_cache_filter(
        &self,
        session: &Session,
        resp: &ResponseHeader,
        ctx: &mut InFlight,
    ) -> Result<RespCacheable> {
        let InFlight { gateway, ctx } = ctx;
        Ok(gateway.keep(session, resp, ctx))
    }

    fn cache_not_modified_filter(
        &self,
        session: &Session,
        resp: &ResponseHeader,
        served: &mut InFlight,
    ) -> Result<bool> {
        Ok(encoded::is_not_modified(session, resp, &served.ctx))
    }

    fn should_serve_stale(
        &self,
        session: &mut Session,
        ctx: &mut InFlight,
        error: Option<&Error>,
    ) -> bool {
        let InFlight { gateway, ctx } = ctx;
        gateway.may_serve_stale(session, ctx, error)
    }

    fn range_header_filter(
        &self,
        session: &mut Session,
        resp: &mut ResponseHeader,
        _ctx: &mut InFlight,
    ) -> RangeType {
        ranges::choose(session.req_header(), resp)
    }

    async fn response_filter(
        &self,
        session: &mut Session,
        resp: &mut ResponseHeader,
        ctx: &mut InFlight,
    ) -> Result<()> {
        let InFlight { gateway, ctx } = ctx;
        gateway.finish_header(session, resp, ctx)
    }

    fn response_body_filter(
        &self,
        session: &mut Session,
        body: &mut Option<Bytes>,
        _end_of_stream: bool,
        served: &mut InFlight,
    ) -> Result<Option<Duration>> {
        piece::bound_wait(session, body.as_ref(), &served.gateway.config.limits);
        Ok(None)
    }

    fn fail_to_connect(
        &self,
        _session: &mut Session,
        _peer: &HttpPeer,
        ctx: &mut InFlight,
        error: Box<Error>,
    ) -> Box<Error> {
        let InFlight { gateway, ctx } = ctx;
        gateway.after_connect_error(error, ctx)
    }

    fn error_while_proxy(
        &self,
        peer: &HttpPeer,
        session: &mut Session,
        error: Box<Error>,
        ctx: &mut InFlight,
        client_reused: bool,
    ) -> Box<Error> {
        let InFlight { gateway, ctx } = ctx;
        let error = error.more_context(format!("Peer: {peer}"));
        gateway.after_exchange_error(session, error, ctx, client_reused)
    }

    async fn fail_to_proxy(
        &self,
        session: &mut Session,
        error: &Error,
        ctx: &mut InFlight,
    ) -> FailToProxy {
        let InFlight { gateway, ctx } = ctx;
        gateway.answer_failure(session, error, ctx).await
    }

    async fn logging(&self, session: &mut Session, _error: Option<&Error>, ctx: &mut InFlight) {
        let InFlight { gateway, ctx } = ctx;
        guard::request_ended();
        gateway.write_down(session, ctx);
    }

    fn suppress_error_log(&self, _session: &Session, _ctx: &InFlight, error: &Error) -> bool {
        // A client that goes away is its own affair, and an error answered from the table is counted, not logged.
        *error.esource() == ErrorSource::Downstream
            || matches!(error.etype(), ErrorType::HTTPStatus(_))
    }

    fn suppress_proxy_warn_log(
        &self,
        _session: &Session,
        _ctx: &InFlight,
        _error: &Error,
        context: ProxyWarnLogContext,
    ) -> bool {
        matches!(context, ProxyWarnLogContext::DownstreamCache)
    }

    fn request_summary(&self, session: &Session, served: &InFlight) -> String {
        let path = served
            .ctx
            .target
            .as_ref()
            .map_or("", |target| target.path.as_str());
        format!(
            "{} {path} id={}",
            session.req_header().method,
            served.ctx.request_id
        )
    }
}
