//! The filters of Pingora's proxy: each calls one function of a module below and knows no policy of its own.

mod answer;
mod assemble;
mod body;
mod client;
mod coherent;
mod context;
mod encoded;
mod failure;
mod framing;
mod herd;
mod interim;
mod invalidate;
mod keep;
mod lock;
mod lookup;
mod origin;
mod ranges;
mod refresh;
mod stale;
mod storage;
mod uncacheable;

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
pub use context::Context;

use crate::balance::Pool;
use crate::coherence::{Coherence, Peers};
use crate::config::Config;
use crate::encode::Encoder;
use crate::guard;
use crate::metrics::Metrics;
use crate::policy::cors;
use crate::policy::encoding::EncodingRules;
use crate::policy::storable::Rules;
use crate::purge::Journal;
use crate::refusals::Refusals;
use crate::releases::Releases;
use crate::site::Site;
use crate::store::Store;
use keep::CacheParts;

static X_REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

/// The proxy: configuration compiled once, and what requests share.
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
    clients: Option<guard::Clients>,
    metrics: Arc<Metrics>,
    journal: Arc<Journal>,
    refusals: Arc<Refusals>,
    cache: CacheParts,
    coherence: Option<Arc<Coherence>>,
    /// The gateways that a write's answer waits for.
    peers: Option<Peers>,
    releases: Option<Arc<Releases>>,
}

#[async_trait]
impl ProxyHttp for Gateway {
    type CTX = Context;

    fn new_ctx(&self) -> Context {
        Context::new(Instant::now(), SystemTime::now())
    }

    async fn early_request_filter(&self, _: &mut Session, _: &mut Context) -> Result<()> {
        guard::header_arrived();
        Ok(())
    }

    async fn request_filter(&self, session: &mut Session, ctx: &mut Context) -> Result<bool> {
        ctx.request_id = self.metrics.next_request_id();
        let answered = self.admit(session, ctx).await?;
        if !answered {
            refresh::drop_credentials(session);
            self.meet_tokens(session, ctx).await;
        }
        Ok(answered)
    }

    fn request_cache_filter(&self, session: &mut Session, ctx: &mut Context) -> Result<()> {
        self.use_cache(session, ctx);
        Ok(())
    }

    fn cache_key_callback(&self, session: &Session, ctx: &mut Context) -> Result<CacheKey> {
        self.cache_key(session, ctx)
    }

    async fn cache_hit_filter(
        &self,
        session: &mut Session,
        meta: &CacheMeta,
        hit: &mut HitHandler,
        is_fresh: bool,
        ctx: &mut Context,
    ) -> Result<Option<ForcedFreshness>> {
        Ok(self.judge_found(session, meta, hit, is_fresh, ctx))
    }

    fn cache_miss(&self, session: &mut Session, ctx: &mut Context) {
        lookup::note_miss(session, ctx);
        session.cache.cache_miss();
    }

    fn cache_vary_filter(
        &self,
        meta: &CacheMeta,
        _ctx: &mut Context,
        req: &RequestHeader,
    ) -> Option<HashBinary> {
        self.variance(meta, req)
    }

    async fn proxy_upstream_filter(
        &self,
        session: &mut Session,
        ctx: &mut Context,
    ) -> Result<bool> {
        self.may_forward(session, ctx).await
    }

    async fn upstream_peer(
        &self,
        session: &mut Session,
        ctx: &mut Context,
    ) -> Result<Box<HttpPeer>> {
        self.choose_origin(session, ctx).await
    }

    async fn upstream_request_filter(
        &self,
        session: &mut Session,
        upstream: &mut RequestHeader,
        ctx: &mut Context,
    ) -> Result<()> {
        self.forward(session, upstream, ctx)
    }

    async fn request_body_filter(
        &self,
        session: &mut Session,
        body: &mut Option<Bytes>,
        end_of_stream: bool,
        ctx: &mut Context,
    ) -> Result<()> {
        if end_of_stream {
            guard::body_arrived();
        }
        self.pass_body(session, body, ctx)
    }

    async fn upstream_response_filter(
        &self,
        session: &mut Session,
        resp: &mut ResponseHeader,
        ctx: &mut Context,
    ) -> Result<()> {
        self.receive(session, resp, ctx).await
    }

    fn upstream_response_body_filter(
        &self,
        _session: &mut Session,
        _body: &mut Option<Bytes>,
        end_of_stream: bool,
        ctx: &mut Context,
    ) -> Result<Option<Duration>> {
        if end_of_stream {
            ctx.lease = None; // a slow client does not make its origin look busy
        }
        Ok(None)
    }

    fn response_cache_filter(
        &self,
        session: &Session,
        resp: &ResponseHeader,
        ctx: &mut Context,
    ) -> Result<RespCacheable> {
        Ok(self.keep(session, resp, ctx))
    }

    fn cache_not_modified_filter(
        &self,
        session: &Session,
        resp: &ResponseHeader,
        ctx: &mut Context,
    ) -> Result<bool> {
        Ok(encoded::is_not_modified(session, resp, ctx))
    }

    fn should_serve_stale(
        &self,
        session: &mut Session,
        ctx: &mut Context,
        error: Option<&Error>,
    ) -> bool {
        self.may_serve_stale(session, ctx, error)
    }

    fn range_header_filter(
        &self,
        session: &mut Session,
        resp: &mut ResponseHeader,
        _ctx: &mut Context,
    ) -> RangeType {
        ranges::choose(session.req_header(), resp)
    }

    async fn response_filter(
        &self,
        session: &mut Session,
        resp: &mut ResponseHeader,
        ctx: &mut Context,
    ) -> Result<()> {
        self.finish_header(session, resp, ctx)
    }

    fn fail_to_connect(
        &self,
        _session: &mut Session,
        _peer: &HttpPeer,
        ctx: &mut Context,
        error: Box<Error>,
    ) -> Box<Error> {
        self.after_connect_error(error, ctx)
    }

    fn error_while_proxy(
        &self,
        peer: &HttpPeer,
        session: &mut Session,
        error: Box<Error>,
        ctx: &mut Context,
        _client_reused: bool,
    ) -> Box<Error> {
        let error = error.more_context(format!("Peer: {peer}"));
        self.after_exchange_error(session, error, ctx)
    }

    async fn fail_to_proxy(
        &self,
        session: &mut Session,
        error: &Error,
        ctx: &mut Context,
    ) -> FailToProxy {
        self.answer_failure(session, error, ctx).await
    }

    async fn logging(&self, session: &mut Session, _error: Option<&Error>, ctx: &mut Context) {
        guard::request_ended();
        self.count(session, ctx);
    }

    fn suppress_error_log(&self, _session: &Session, _ctx: &Context, error: &Error) -> bool {
        // A client that goes away is its own affair, and an error answered from the table is counted, not logged.
        *error.esource() == ErrorSource::Downstream
            || matches!(error.etype(), ErrorType::HTTPStatus(_))
    }

    fn suppress_proxy_warn_log(
        &self,
        _session: &Session,
        _ctx: &Context,
        _error: &Error,
        context: ProxyWarnLogContext,
    ) -> bool {
        matches!(context, ProxyWarnLogContext::DownstreamCache)
    }

    fn request_summary(&self, session: &Session, ctx: &Context) -> String {
        let path = ctx
            .target
            .as_ref()
            .map_or("", |target| target.path.as_str());
        format!(
            "{} {path} id={}",
            session.req_header().method,
            ctx.request_id
        )
    }
}
