//! The filters of Pingora's proxy: each calls one function of a module below and knows no policy of its own.

mod answer;
mod context;
mod encoded;
mod framing;
mod herd;
mod invalidate;
mod keep;
mod refresh;
mod stale;
mod storage;
mod uncacheable;

use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use anyhow::Context as _;
use async_trait::async_trait;
use bytes::Bytes;
use http::header::{ACCEPT_RANGES, DATE, RANGE};
use http::{HeaderName, Method, StatusCode};
use pingora::http::{RequestHeader, ResponseHeader};
use pingora::proxy::{
    FailToProxy, ProxyHttp, ProxyWarnLogContext, RangeType, Session, range_header_filter,
};
use pingora::upstreams::peer::{HttpPeer, HttpUpstreamRequestPolicy, PeerOptions};
use pingora::{Error, ErrorSource, ErrorType, Result};
use pingora_cache::key::HashBinary;
use pingora_cache::{
    CacheKey, CacheMeta, CacheOptionOverrides, CachePhase, ForcedFreshness, HitHandler,
    RespCacheable,
};

pub use context::Context;

use crate::balance::Pool;
use crate::config::Config;
use crate::encode::Encoder;
use crate::error::{self, Problem};
use crate::guard;
use crate::metrics::Metrics;
use crate::policy::encoding::EncodingRules;
use crate::policy::key::Key;
use crate::policy::status::Forward;
use crate::policy::storable::Rules;
use crate::policy::time::http_date;
use crate::policy::{cors, range, request, vary};
use crate::purge::Journal;
use crate::refusals::Refusals;
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
    metrics: Arc<Metrics>,
    journal: Arc<Journal>,
    refusals: Arc<Refusals>,
    cache: CacheParts,
}

/// What requests leave behind for the operators' calls.
pub struct Traces {
    /// Counters.
    pub metrics: Arc<Metrics>,
    /// The last purges.
    pub journal: Arc<Journal>,
    /// The last refusals to keep an answer.
    pub refusals: Arc<Refusals>,
}

impl Gateway {
    /// A proxy over a store and the origins of a pool.
    ///
    /// # Errors
    /// CORS values that are no header values, or no thread for the encoder.
    pub fn new(
        config: Arc<Config>,
        site: Arc<Site>,
        store: Arc<Store>,
        pool: Arc<Pool>,
        traces: Traces,
    ) -> anyhow::Result<Self> {
        let mut peer_options = PeerOptions::new();
        peer_options.connection_timeout = Some(config.upstream.connect_timeout);
        peer_options.total_connection_timeout = Some(config.upstream.connect_timeout);
        peer_options.read_timeout = Some(config.upstream.read_timeout);
        peer_options.write_timeout = Some(config.upstream.write_timeout);
        peer_options.idle_timeout = Some(config.upstream.idle_timeout);
        let encodings = keep::encodings(&config);
        peer_options.http_upstream_request_policy = HttpUpstreamRequestPolicy::deny_upgrades();
        Ok(Self {
            rules: keep::rules(&config),
            encoder: Encoder::start(Arc::clone(&store), encodings.bytes_min)
                .context("starting the encoder")?,
            encodings,
            cors: config
                .cors
                .as_ref()
                .map(cors::Answers::compile)
                .transpose()?,
            cache: CacheParts::leak(&store, &config),
            site,
            store,
            pool,
            peer_options,
            metrics: traces.metrics,
            journal: traces.journal,
            refusals: traces.refusals,
            config,
        })
    }

    fn key_of(&self, req: &RequestHeader, ctx: &Context) -> Result<Key> {
        let target = ctx
            .target
            .as_ref()
            .ok_or_else(|| Error::new(ErrorType::InternalError))?;
        let host = self.site.key_host(req)?;
        Ok(Key::new(
            "http",
            &host,
            &target.path,
            target.query.as_deref(),
        ))
    }

    fn attempts_left(&self, ctx: &Context) -> bool {
        ctx.tried.len() < self.config.upstream.attempts.min(self.pool.nodes().len())
    }
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
        self.admit(session, ctx).await
    }

    fn request_cache_filter(&self, session: &mut Session, ctx: &mut Context) -> Result<()> {
        if !ctx.target.as_ref().is_some_and(|target| target.cache) {
            return Ok(());
        }
        let client = session.req_header();
        match request::read(
            &client.method,
            &client.headers,
            self.config.cache.client_directives,
        ) {
            Ok(demand) if !demand.no_store => {
                ctx.demand = demand;
                let mut overrides = CacheOptionOverrides::default();
                overrides.wait_timeout = Some(self.config.cache.lock_wait);
                // The time bounds the wait, however many fetches come and go in it.
                overrides.max_lock_retries = Some(usize::MAX);
                session.cache.enable(
                    self.cache.storage,
                    None,
                    Some(self.cache.uncacheable),
                    Some(self.cache.lock),
                    Some(overrides),
                );
                if session.subrequest_ctx.is_some() {
                    self.pin_refreshed(session, ctx);
                }
            }
            Ok(demand) => ctx.demand = demand,
            Err(bypass) => ctx.bypass = Some(bypass),
        }
        Ok(())
    }

    fn cache_key_callback(&self, session: &Session, ctx: &mut Context) -> Result<CacheKey> {
        let key = self.key_of(session.req_header(), ctx)?;
        let mut cache_key = CacheKey::new(key.as_bytes(), "");
        cache_key.set_primary_bin_override(key.hash());
        if let Some(pinned) = ctx.pinned.take() {
            cache_key.extensions.insert(pinned);
        }
        ctx.key = Some(Arc::new(key));
        Ok(cache_key)
    }

    async fn cache_hit_filter(
        &self,
        session: &mut Session,
        meta: &CacheMeta,
        hit: &mut HitHandler,
        is_fresh: bool,
        ctx: &mut Context,
    ) -> Result<Option<ForcedFreshness>> {
        let now = Instant::now();
        let Some(storage::Stored(object)) = meta.extensions().get() else {
            return Ok(None);
        };
        ctx.negotiated = object.is_encodable();
        let freshness = object.freshness();
        let accepted = ctx.demand.accepts(
            freshness.age(now),
            freshness.left(now),
            freshness.must_revalidate,
        );
        if accepted && is_fresh {
            self.choose_representation(session, hit, object, ctx);
        }
        if accepted == is_fresh {
            let waited = session.cache.lock_duration().is_some();
            if !is_fresh && self.takes_stale(waited, &freshness, ctx) {
                ctx.stale = Some("stale-if-error");
                return Ok(Some(ForcedFreshness::ForceFresh));
            }
            return Ok(None);
        }
        if accepted {
            return Ok(Some(ForcedFreshness::ForceFresh)); // the client takes it stale
        }
        ctx.forward = Some(Forward::Request);
        Ok(Some(ForcedFreshness::ForceExpired))
    }

    fn cache_miss(&self, session: &mut Session, ctx: &mut Context) {
        // Later the key has a variance in any case, if the answer that comes varies.
        if session.cache.cache_key().get_variance_key().is_some() {
            ctx.forward = Some(Forward::VaryMiss);
        }
        session.cache.cache_miss();
    }

    fn cache_vary_filter(
        &self,
        meta: &CacheMeta,
        _ctx: &mut Context,
        req: &RequestHeader,
    ) -> Option<HashBinary> {
        let names = vary::names(meta.headers(), &self.rules.vary).ok()?;
        vary::variance(&names, &req.headers)
    }

    async fn proxy_upstream_filter(
        &self,
        session: &mut Session,
        ctx: &mut Context,
    ) -> Result<bool> {
        // A background refresh has the header of a client who was answered already.
        if !ctx.demand.only_if_cached || session.subrequest_ctx.is_some() {
            return Ok(true);
        }
        let problem = Problem::new(
            StatusCode::GATEWAY_TIMEOUT,
            "Nothing that is kept answers this.",
        );
        self.refuse(session, ctx, &problem, true).await?;
        Ok(false)
    }

    async fn upstream_peer(
        &self,
        session: &mut Session,
        ctx: &mut Context,
    ) -> Result<Box<HttpPeer>> {
        ctx.lease = None; // the place of the attempt before is free
        self.leave_herd(session, ctx)?;
        let lease = self.pool.pick(&ctx.tried, Instant::now()).map_err(|none| {
            self.metrics.shed.inc();
            ctx.shed = true;
            self.note_failure(ctx, StatusCode::SERVICE_UNAVAILABLE);
            Error::because(ErrorType::HTTPStatus(503), "picking an origin", none).into_up()
        })?;
        let mut peer = HttpPeer::new(lease.node().address(), false, String::new());
        peer.options = self.peer_options.clone();
        ctx.tried.push(lease.index());
        ctx.lease = Some(lease);
        ctx.began = self.store.sequence();
        ctx.request_time = SystemTime::now();
        Ok(Box::new(peer))
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
        _end_of_stream: bool,
        ctx: &mut Context,
    ) -> Result<()> {
        if matches!(session.req_header().method, Method::GET | Method::HEAD) {
            *body = None; // drained and ignored
            return Ok(());
        }
        ctx.body_bytes += body.as_ref().map_or(0, |piece| piece.len() as u64);
        if ctx.body_bytes > self.config.limits.body_bytes_max.0 {
            return Error::e_explain(ErrorType::HTTPStatus(413), "request body over the limit");
        }
        Ok(())
    }

    async fn upstream_response_filter(
        &self,
        session: &mut Session,
        resp: &mut ResponseHeader,
        ctx: &mut Context,
    ) -> Result<()> {
        if resp.status.is_informational() {
            return Ok(());
        }
        ctx.answer_begun = true;
        ctx.upstream_status = Some(resp.status.as_u16());
        if !resp.headers.contains_key(DATE) {
            resp.insert_header(DATE, http_date(SystemTime::now()))?;
        }
        self.validate(session, resp, ctx)?;
        if resp.status.is_server_error() {
            self.note_failure(ctx, resp.status);
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
        if let Some(status) = error.and_then(error::status) {
            self.note_failure(ctx, status);
        }
        // Without an error this is stale-while-revalidate; its window is in the entry.
        error.is_none_or(|error| self.cover(session, ctx, error))
    }

    fn range_header_filter(
        &self,
        session: &mut Session,
        resp: &mut ResponseHeader,
        _ctx: &mut Context,
    ) -> RangeType {
        let client = session.req_header();
        if client.headers.contains_key(RANGE)
            && !range::applies(&client.method, &client.headers, &resp.headers)
        {
            // Adding a field to a header that has room for it does not fail.
            let _ = resp.insert_header(ACCEPT_RANGES, "bytes");
            return RangeType::None;
        }
        range_header_filter(client, resp, Some(range::RANGES_MAX + 1))
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
        mut error: Box<Error>,
    ) -> Box<Error> {
        self.eject(ctx);
        // Nothing was sent: any method may try the next node.
        let again = self.attempts_left(ctx);
        error.set_retry(again);
        self.note_unless(again, &error, ctx);
        error
    }

    fn error_while_proxy(
        &self,
        peer: &HttpPeer,
        session: &mut Session,
        error: Box<Error>,
        ctx: &mut Context,
        _client_reused: bool,
    ) -> Box<Error> {
        let mut error = error.more_context(format!("Peer: {peer}"));
        self.invalidate_unknown(session, ctx);
        if *error.esource() == ErrorSource::Upstream && *error.etype() != ErrorType::ReadTimedout {
            self.eject(ctx);
        }
        // Safe methods only: a PUT of a counter counts again each time. And only while the client has seen nothing.
        let safe = matches!(session.req_header().method, Method::GET | Method::HEAD);
        let unanswered = !ctx.answer_begun && session.response_written().is_none();
        let from_origin = *error.esource() == ErrorSource::Upstream;
        let in_time = *error.etype() != ErrorType::ReadTimedout;
        let again = safe && unanswered && from_origin && in_time && self.attempts_left(ctx);
        error.set_retry(again);
        if from_origin {
            self.note_unless(again, &error, ctx);
        }
        error
    }

    async fn fail_to_proxy(
        &self,
        session: &mut Session,
        error: &Error,
        ctx: &mut Context,
    ) -> FailToProxy {
        let Some(status) = error::status(error) else {
            return FailToProxy {
                error_code: 0,
                can_reuse_downstream: false,
            };
        };
        if session.response_written().is_none()
            && let Err(failed) = self
                .refuse(session, ctx, &Problem::of_status(status), false)
                .await
        {
            tracing::debug!(error = %failed, "the client went before its error answer");
        }
        FailToProxy {
            error_code: status.as_u16(),
            can_reuse_downstream: false,
        }
    }

    async fn logging(&self, session: &mut Session, _error: Option<&Error>, ctx: &mut Context) {
        ctx.lease = None;
        guard::request_ended();
        let phase = match ctx.stale {
            Some(_) => CachePhase::Stale,
            None => session.cache.phase(),
        };
        self.metrics.request(
            session.response_written().map(|resp| resp.status),
            phase,
            ctx.arrived,
        );
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

impl Gateway {
    fn eject(&self, ctx: &Context) {
        if let Some(lease) = &ctx.lease {
            self.pool.eject(lease.index(), Instant::now());
        }
    }
}
