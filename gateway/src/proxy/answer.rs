//! What the gateway says itself, and the header fields it sets on what others say.

use std::time::{Duration, SystemTime};

use bytes::Bytes;
use http::header::{self, HeaderName, HeaderValue};
use http::{Method, StatusCode};
use pingora::http::{RequestHeader, ResponseHeader};
use pingora::proxy::Session;
use pingora::{Error, ErrorType, Result};
use pingora_cache::{CachePhase, HttpCache};

use super::body::{announce_body, leave_body};
use super::encoded::represent;
use super::{Context, Gateway, X_REQUEST_ID, framing};
use crate::error::Problem;
use crate::guard;
use crate::policy::request::Bypass;
use crate::policy::route::Target;
use crate::policy::status::{CacheStatus, Forward, Outcome};
use crate::policy::{auth, cors, surrogate};
use crate::refill;

static CACHE_STATUS: HeaderName = HeaderName::from_static("cache-status");
static CDN_CACHE_CONTROL: HeaderName = HeaderName::from_static("cdn-cache-control");
static CACHE_GROUPS: HeaderName = HeaderName::from_static("cache-groups");
static CACHE_GROUP_INVALIDATION: HeaderName = HeaderName::from_static("cache-group-invalidation");
static SURROGATE_KEY: HeaderName = HeaderName::from_static("surrogate-key");
static CACHE_TAG: HeaderName = HeaderName::from_static("cache-tag");
static X_FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");
static X_FORWARDED_HOST: HeaderName = HeaderName::from_static("x-forwarded-host");
static X_FORWARDED_PROTO: HeaderName = HeaderName::from_static("x-forwarded-proto");
static FORWARDED: HeaderName = HeaderName::from_static("forwarded");
/// Fields by which a client could make an origin answer for another URL, method or client than the true one.
static OVERRIDES: [HeaderName; 14] = [
    HeaderName::from_static("x-original-url"),
    HeaderName::from_static("x-rewrite-url"),
    HeaderName::from_static("x-original-host"),
    HeaderName::from_static("x-host"),
    HeaderName::from_static("x-forwarded-prefix"),
    HeaderName::from_static("x-forwarded-port"),
    HeaderName::from_static("x-forwarded-scheme"),
    HeaderName::from_static("x-forwarded-server"),
    HeaderName::from_static("x-real-ip"),
    HeaderName::from_static("x-client-ip"),
    HeaderName::from_static("true-client-ip"),
    HeaderName::from_static("x-http-method-override"),
    HeaderName::from_static("x-http-method"),
    HeaderName::from_static("x-method-override"),
];

/// How long the rest of a request body is read after an early answer, so that the client gets that answer.
const DRAIN_TIMEOUT: Duration = Duration::from_secs(5);

impl Gateway {
    /// Lets a request in, or answers it: true when it is answered.
    pub(super) async fn admit(&self, session: &mut Session, ctx: &mut Context) -> Result<bool> {
        let limits = &self.config.limits;
        session.as_mut().set_read_timeout(Some(limits.read_timeout));
        session
            .as_mut()
            .set_write_timeout(Some(limits.write_timeout));
        session
            .as_mut()
            .set_total_drain_timeout(Some(DRAIN_TIMEOUT));
        // A connection that is to close after this request (its client's wish, or its share of requests used up) stays so.
        if session.as_ref().get_keepalive().is_some() {
            session
                .as_mut()
                .set_keepalive(Some(limits.keepalive_timeout.as_secs()));
        }
        let req = session.req_header();
        if let Some(problem) = self.refusal(req, &session.as_ref().to_h1_raw()) {
            return self.refuse(session, ctx, &problem, false).await;
        }
        if let Some(problem) = self.over_rate(session, ctx) {
            return self.refuse(session, ctx, &problem, true).await;
        }
        let req = session.req_header();
        if req.method == Method::CONNECT {
            // It asks for a way to another machine: there is no path that could be one of this site.
            return self
                .not_allowed(session, ctx, &self.config.http.methods)
                .await;
        }
        if let Some(token) = self.site.loaderio_token(req.uri.path())
            && matches!(req.method, Method::GET | Method::HEAD)
        {
            let token = Bytes::copy_from_slice(token.as_bytes());
            return self.answer_text(session, ctx, token).await;
        }
        if self.redirect(session, ctx).await? {
            return Ok(true);
        }
        let req = session.req_header();
        if req.method == Method::OPTIONS && self.cors.is_some() {
            return self.answer_preflight(session, ctx).await;
        }
        if !refill::is_refilling() && !self.site.admits(auth::token(&req.headers)) {
            let problem = Problem::new(StatusCode::UNAUTHORIZED, "A known token is required.");
            return self.refuse(session, ctx, &problem, true).await;
        }
        match self.site.target(req) {
            Ok(target) if self.config.http.methods.contains(&req.method) => {
                ctx.target = Some(target);
            }
            Ok(target) => return self.refuse_method(session, ctx, &target).await,
            Err(bad) => {
                let problem =
                    Problem::new(bad.status(), format!("The path cannot be served: {bad}."));
                return self.refuse(session, ctx, &problem, true).await;
            }
        }
        self.admit_body(session, ctx).await
    }

    /// What is wrong with a request as such.
    fn refusal(&self, req: &RequestHeader, raw: &[u8]) -> Option<Problem> {
        let limits = &self.config.limits;
        let target_bytes = req
            .uri
            .path_and_query()
            .map_or(0, |target| target.as_str().len());
        if target_bytes > limits.target_bytes_max.as_usize() {
            return Some(Problem::new(
                StatusCode::URI_TOO_LONG,
                "The request target is too long.",
            ));
        }
        let fields = req.headers.len();
        let bytes: usize = req
            .headers
            .iter()
            .map(|(name, value)| name.as_str().len() + value.len() + 4)
            .sum();
        if fields > limits.header_fields_max || bytes > limits.header_bytes_max.as_usize() {
            let status = StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE;
            return Some(Problem::new(status, "The request header is too large."));
        }
        if self.site.host(req).is_err() {
            let detail = "The Host field is missing, malformed or names no host served here.";
            return Some(Problem::new(StatusCode::BAD_REQUEST, detail));
        }
        framing::is_ambiguous(req, raw).then(|| {
            Problem::new(
                StatusCode::BAD_REQUEST,
                "Where the header or the body ends is ambiguous.",
            )
        })
    }

    /// Answers with a problem document. `keep`: whether the connection may serve another request.
    pub(super) async fn refuse(
        &self,
        session: &mut Session,
        ctx: &Context,
        problem: &Problem,
        keep: bool,
    ) -> Result<bool> {
        let body = Bytes::from(problem.to_json());
        let mut resp = ResponseHeader::build(problem.status, Some(12))?;
        resp.insert_header(header::CONTENT_TYPE, "application/problem+json")?;
        if let Some(seconds) = problem.retry_after() {
            resp.insert_header(header::RETRY_AFTER, seconds)?;
        }
        if problem.status == StatusCode::UNAUTHORIZED {
            resp.insert_header(header::WWW_AUTHENTICATE, "Bearer")?;
        }
        if !keep {
            session.as_mut().set_keepalive(None);
        }
        self.send_own(session, ctx, resp, body).await
    }

    /// Answers a method that is never passed on: 405 with what the path does accept, 404 where routes are configured and
    /// none is this one.
    async fn refuse_method(
        &self,
        session: &mut Session,
        ctx: &Context,
        target: &Target,
    ) -> Result<bool> {
        let allowed = match self.site.methods(target) {
            Some(methods) => methods,
            None if self.config.routes.is_empty() => &self.config.http.methods,
            None => {
                let problem = Problem::new(StatusCode::NOT_FOUND, "There is no such path.");
                return self.refuse(session, ctx, &problem, false).await;
            }
        };
        self.not_allowed(session, ctx, allowed).await
    }

    /// Answers 405 with the methods that are accepted instead.
    async fn not_allowed(
        &self,
        session: &mut Session,
        ctx: &Context,
        allowed: &[Method],
    ) -> Result<bool> {
        let allowed: Vec<&str> = allowed.iter().map(Method::as_str).collect();
        let detail = "The method is not served here.";
        let body = Bytes::from(Problem::new(StatusCode::METHOD_NOT_ALLOWED, detail).to_json());
        let mut resp = ResponseHeader::build(StatusCode::METHOD_NOT_ALLOWED, Some(8))?;
        resp.insert_header(header::CONTENT_TYPE, "application/problem+json")?;
        resp.insert_header(header::ALLOW, allowed.join(", "))?;
        session.as_mut().set_keepalive(None);
        self.send_own(session, ctx, resp, body).await
    }

    async fn answer_text(&self, session: &mut Session, ctx: &Context, body: Bytes) -> Result<bool> {
        let mut resp = ResponseHeader::build(StatusCode::OK, Some(8))?;
        resp.insert_header(header::CONTENT_TYPE, "text/plain; charset=utf-8")?;
        self.send_own(session, ctx, resp, body).await
    }

    async fn answer_preflight(&self, session: &mut Session, ctx: &Context) -> Result<bool> {
        let mut resp = ResponseHeader::build(StatusCode::NO_CONTENT, Some(8))?;
        for (name, value) in self.cors.iter().flat_map(cors::Answers::preflight) {
            resp.insert_header(name, value.clone())?;
        }
        resp.insert_header(&X_REQUEST_ID, &ctx.request_id)?;
        leave_body(session, ctx);
        session.write_response_header(Box::new(resp), true).await?;
        Ok(true)
    }

    /// Sends an answer of the gateway's own, which nobody may keep.
    pub(super) async fn send_own(
        &self,
        session: &mut Session,
        ctx: &Context,
        mut resp: ResponseHeader,
        body: Bytes,
    ) -> Result<bool> {
        resp.insert_header(header::CACHE_CONTROL, "private, no-store")?;
        resp.insert_header(header::CONTENT_LENGTH, body.len())?;
        self.add_every(&mut resp, ctx)?;
        leave_body(session, ctx);
        let head_only = session.req_header().method == Method::HEAD;
        session
            .write_response_header(Box::new(resp), head_only)
            .await?;
        if !head_only {
            session.write_response_body(Some(body), true).await?;
        }
        Ok(true)
    }

    fn add_every(&self, resp: &mut ResponseHeader, ctx: &Context) -> Result<()> {
        for (name, value) in self.cors.iter().flat_map(cors::Answers::every) {
            resp.insert_header(name, value.clone())?;
        }
        resp.insert_header(&X_REQUEST_ID, &ctx.request_id)
    }

    /// Makes the request that goes to the origin: canonical target, our forwarding fields, nobody's credentials on what
    /// many will share.
    pub(super) fn forward(
        &self,
        session: &Session,
        upstream: &mut RequestHeader,
        ctx: &Context,
    ) -> Result<()> {
        let target = ctx
            .target
            .as_ref()
            .ok_or_else(|| Error::new(ErrorType::InternalError))?;
        match &target.query {
            Some(query) => upstream.set_raw_path(format!("{}?{query}", target.path).as_bytes())?,
            None => upstream.set_raw_path(target.path.as_bytes())?,
        }
        self.ask_after(upstream, ctx)?;
        self.restore_tags(upstream)?;
        for name in OVERRIDES
            .iter()
            .chain([&FORWARDED, &surrogate::SURROGATE_CAPABILITY])
        {
            upstream.remove_header(name);
        }
        match self.client_ip(session) {
            Some(ip) => upstream.insert_header(&X_FORWARDED_FOR, ip.to_string())?,
            None => drop(upstream.remove_header(&X_FORWARDED_FOR)),
        }
        upstream.insert_header(&X_FORWARDED_PROTO, self.scheme())?;
        match session.req_header().headers.get(header::HOST) {
            Some(host) => upstream.insert_header(&X_FORWARDED_HOST, host.clone())?,
            None => drop(upstream.remove_header(&X_FORWARDED_HOST)),
        }
        upstream.insert_header(&X_REQUEST_ID, &ctx.request_id)?;
        announce_body(session, upstream, ctx)?;
        // Also when the cache is passed by at the moment: an answer that turns out cacheable is kept after all.
        if let Some(key) = &ctx.key {
            // The host that is keyed: an answer that depends on another spelling, or on another host, would fit nobody else.
            upstream.insert_header(header::HOST, key.host())?;
            upstream.insert_header(&X_FORWARDED_HOST, key.host())?;
            // One representation a key: the origin answers without a content coding.
            upstream.insert_header(header::ACCEPT_ENCODING, "identity")?;
            if self.rules.targeted.contains(&surrogate::SURROGATE_CONTROL) {
                upstream
                    .insert_header(&surrogate::SURROGATE_CAPABILITY, surrogate::capability())?;
            }
            if target.route.is_some() {
                upstream.remove_header(&header::COOKIE);
                upstream.remove_header(&header::AUTHORIZATION);
            }
        }
        Ok(())
    }

    /// Sets the gateway's fields on an answer from the cache or the origin.
    pub(super) fn finish_header(
        &self,
        session: &mut Session,
        resp: &mut ResponseHeader,
        ctx: &Context,
    ) -> Result<()> {
        if resp.status.is_informational() {
            return Ok(()); // the fields below belong to the final answer
        }
        guard::body_arrived(); // what is still to come of the request changes nothing now
        if resp.status == StatusCode::PAYLOAD_TOO_LARGE {
            // The rest of the body would be read as the next request, or waited for: it ends here.
            session.as_mut().set_keepalive(None);
        }
        if self.config.cache.strip_cache_headers {
            for name in [
                &CDN_CACHE_CONTROL,
                &surrogate::SURROGATE_CONTROL,
                &CACHE_GROUPS,
                &CACHE_GROUP_INVALIDATION,
                &SURROGATE_KEY,
                &CACHE_TAG,
            ] {
                resp.remove_header(name);
            }
        }
        represent(resp, ctx)?;
        if let Some(prefix) = ctx
            .target
            .as_ref()
            .and_then(|target| target.prefix.as_deref())
        {
            prepend_to_location(resp, prefix)?;
        }
        let validated = session.cache.upstream_used() && session.cache.maybe_cache_meta().is_some();
        if let Some(age) = ctx.age_sent.filter(|_| validated) {
            resp.insert_header(header::AGE, age.as_secs())?;
        }
        if let Some(date) = resp.headers.get(header::DATE) {
            guard::answer_dated(date);
        }
        self.set_token_cookie(&session.req_header().method, resp)?;
        let status = self.cache_status(session, ctx);
        // Behind what caches nearer to the origin say (RFC 9211 section 2).
        resp.append_header(&CACHE_STATUS, status)?;
        self.add_every(resp, ctx)
    }

    fn cache_status(&self, session: &Session, ctx: &Context) -> HeaderValue {
        let cache = &session.cache;
        let (outcome, detail) = outcome(cache, &session.req_header().method, ctx);
        let ttl = cache
            .maybe_cache_meta()
            .map(|meta| seconds_left(meta.fresh_until(), SystemTime::now()))
            .map(|left| match ctx.standing.fresh_left {
                Some(most) => left.min(whole_seconds(most)),
                None => left,
            });
        let filled = matches!(cache.phase(), CachePhase::Miss | CachePhase::Expired);
        let status = CacheStatus {
            cache: &self.config.cache.name,
            outcome,
            fwd_status: matches!(
                cache.phase(),
                CachePhase::Revalidated | CachePhase::RevalidatedNoCache(_)
            )
            .then_some(304),
            ttl: ttl.filter(|_| outcome == Outcome::Hit),
            stored: filled && ctx.unkept().is_none(),
            collapsed: outcome == Outcome::Hit && cache.lock_duration().is_some(),
            key: None,
            detail,
        };
        status.to_value()
    }
}

/// Whether the cache answered, why it did not, and what else is worth telling.
fn outcome(cache: &HttpCache, method: &Method, ctx: &Context) -> (Outcome, Option<&'static str>) {
    let forward = |reason| Outcome::Forward(reason);
    match cache.phase() {
        CachePhase::Hit => (Outcome::Hit, ctx.stale.or_else(|| ctx.standing.detail())),
        CachePhase::Stale => (Outcome::Hit, Some("stale-if-error")),
        CachePhase::StaleUpdating => (Outcome::Hit, Some("stale-while-revalidate")),
        CachePhase::Miss => (
            forward(ctx.forward.unwrap_or(Forward::UriMiss)),
            ctx.unkept(),
        ),
        CachePhase::Expired | CachePhase::Revalidated | CachePhase::RevalidatedNoCache(_) => {
            (forward(ctx.forward.unwrap_or(Forward::Stale)), ctx.unkept())
        }
        CachePhase::Bypass => (forward(Forward::Bypass), Some("uncacheable-lately")),
        CachePhase::Disabled(_) | CachePhase::Uninit | CachePhase::CacheKey => {
            let safe = matches!(*method, Method::GET | Method::HEAD);
            match (safe, ctx.key.is_some()) {
                (false, _) => (forward(Forward::Method), None),
                (true, true) => (forward(Forward::UriMiss), ctx.refused),
                (true, false) => (forward(Forward::Bypass), ctx.bypass.map(Bypass::as_str)),
            }
        }
    }
}

fn seconds_left(until: SystemTime, now: SystemTime) -> i64 {
    match until.duration_since(now) {
        Ok(left) => whole_seconds(left),
        Err(past) => -whole_seconds(past.duration()),
    }
}

fn whole_seconds(length: Duration) -> i64 {
    i64::try_from(length.as_secs()).unwrap_or(i64::MAX)
}

fn prepend_to_location(resp: &mut ResponseHeader, prefix: &str) -> Result<()> {
    let relative = resp
        .headers
        .get(header::LOCATION)
        .and_then(|location| location.to_str().ok())
        .filter(|location| location.starts_with('/') && !location.starts_with("//"))
        .map(|location| format!("{prefix}{location}"));
    match relative {
        Some(location) => resp.insert_header(header::LOCATION, location),
        None => Ok(()),
    }
}
