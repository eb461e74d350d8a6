//! The one layer around every handler: admission, deadline, cache fields, errors, metrics, and the line in the log.

use std::{
    panic::AssertUnwindSafe,
    time::{Duration, Instant},
};

use axum::{
    body::Body,
    extract::{MatchedPath, Request, State},
    middleware::Next,
    response::{IntoResponse, Response},
};
use chrono::Utc;
use futures_util::FutureExt as _;
use http::{
    HeaderName, HeaderValue, Method, StatusCode,
    header::{CONNECTION, CONTENT_LENGTH, CONTENT_TYPE},
};
use hyper::body::Body as _;

use crate::{
    access_log::{self, Line},
    body::{self, Leftover},
    cache_policy::{self, CachePolicy},
    error::{self, Error},
    state::AppState,
};

/// Names a request in the logs of everything it passes through.
pub const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

/// Longer paths and queries are refused.
const URI_BYTES_MAX: usize = 8 * 1024;
/// A longer id of somebody else's making is replaced by one of ours.
const REQUEST_ID_BYTES_MAX: usize = 128;

/// What is still needed of a request when its answer is there.
struct Asked {
    started: Instant,
    method: Method,
    route: Option<MatchedPath>,
    path: String,
    id: HeaderValue,
    if_none_match: Option<HeaderValue>,
    accepts_problem: bool,
}

/// Serves one request.
pub async fn front(State(state): State<AppState>, mut request: Request, next: Next) -> Response {
    let asked = Asked::new(&request, &state);
    let unanswered = Unanswered(&state, &asked);
    let leftover = lend_body(&mut request);
    let mut response = match admit(&state, &asked, &request) {
        Ok(_admitted) => answer(request, next, &state).await,
        Err(error) => error.into_response(),
    };
    let error = finish(&state, &asked, &mut response);
    if let Some(rest) = leftover.and_then(|leftover| leftover.take()) {
        discard(rest, &mut response).await;
    }
    std::mem::forget(unanswered);
    let took = asked.started.elapsed();
    let route = asked.route.as_ref().map(MatchedPath::as_str);
    state
        .metrics
        .request(route, &asked.method)
        .observe(response.status(), took);
    let told = Told {
        status: response.status().as_u16(),
        bytes: response.body().size_hint().exact(),
        error: error.as_ref().map(ToString::to_string),
    };
    log(&state, &asked, took, told);
    response
}

impl Asked {
    fn new(request: &Request, state: &AppState) -> Self {
        let headers = request.headers();
        Self {
            started: Instant::now(),
            method: request.method().clone(),
            route: request.extensions().get::<MatchedPath>().cloned(),
            path: request.uri().path().to_owned(),
            id: headers
                .get(REQUEST_ID)
                .filter(|id| is_request_id(id.as_bytes()))
                .cloned()
                .or_else(|| HeaderValue::try_from(state.request_ids.next()).ok())
                .unwrap_or(HeaderValue::from_static("-")),
            if_none_match: cache_policy::if_none_match(headers),
            accepts_problem: error::accepts_problem(headers),
        }
    }
}

/// A request that has no answer yet. It is dropped, with all that is done for it, when its client hangs up; that is in the
/// log, and counted apart from the answers.
struct Unanswered<'a>(&'a AppState, &'a Asked);

/// What the log calls a request whose client has hung up; no answer has it.
const CLIENT_HUNG_UP: u16 = 499;

impl Drop for Unanswered<'_> {
    fn drop(&mut self) {
        let Self(state, asked) = self;
        state.metrics.hung_up.inc();
        let told = Told {
            status: CLIENT_HUNG_UP,
            bytes: None,
            error: Some("the connection ended before the answer".to_owned()),
        };
        log(state, asked, asked.started.elapsed(), told);
    }
}

/// Letters, digits and a little punctuation: nothing that a log or a shell could trip over.
fn is_request_id(id: &[u8]) -> bool {
    (1..=REQUEST_ID_BYTES_MAX).contains(&id.len())
        && id
            .iter()
            .all(|byte| byte.is_ascii_alphanumeric() || b"-_.:+/=".contains(byte))
}

/// Sees to it that the unread rest of a body is not lost; most requests have none.
fn lend_body(request: &mut Request) -> Option<Leftover> {
    if request.body().is_end_stream() {
        return None;
    }
    let leftover = Leftover::default();
    let body = std::mem::take(request.body_mut());
    *request.body_mut() = leftover.lend(body);
    Some(leftover)
}

/// A place among the requests being served.
struct Admitted<'a>(&'a AppState);

impl Drop for Admitted<'_> {
    fn drop(&mut self) {
        self.0.metrics.in_flight.dec();
    }
}

fn admit<'a>(state: &'a AppState, asked: &Asked, request: &Request) -> Result<Admitted<'a>, Error> {
    state.metrics.in_flight.inc();
    let admitted = Admitted(state);
    if state.metrics.in_flight.get() > i64::from(state.config.in_flight_max) {
        state.metrics.shed.inc();
        return Err(Error::Unavailable("too many requests at a time".into()));
    }
    let query = request.uri().query().map_or(0, str::len);
    if asked.path.len() + query > URI_BYTES_MAX {
        return Err(Error::UriTooLong);
    }
    Ok(admitted)
}

/// Runs the handler; it may fail, take too long or panic, and is answered for all the same.
async fn answer(request: Request, next: Next, state: &AppState) -> Response {
    let handled = AssertUnwindSafe(next.run(request)).catch_unwind();
    match tokio::time::timeout(state.config.request_timeout, handled).await {
        Ok(Ok(response)) => response,
        Ok(Err(_panic)) => Error::Internal("a handler panicked".into()).into_response(),
        Err(_) => Error::Timeout.into_response(),
    }
}

/// Writes what handlers leave to the layer; gives the error, if that is what the answer is.
fn finish(state: &AppState, asked: &Asked, response: &mut Response) -> Option<Error> {
    let error = response.extensions_mut().remove::<Error>();
    let policy = match &error {
        Some(error) => error.write(response, asked.accepts_problem),
        None => response
            .extensions_mut()
            .remove::<CachePolicy>()
            .unwrap_or(CachePolicy::NoStore),
    };
    if asked.method == Method::HEAD {
        // The fields of the answer to a GET, its length among them.
        *response.body_mut() = Body::empty();
    }
    if let CachePolicy::Invalidates(change) = &policy
        && !change.groups.is_empty()
    {
        state.tail.wrote();
    }
    let headers = response.headers_mut();
    state.cache_headers.write(&policy, headers);
    headers.insert(REQUEST_ID, asked.id.clone());
    let is_read = matches!(asked.method, Method::GET | Method::HEAD);
    if is_read
        && response.status() == StatusCode::OK
        && cache_policy::is_not_modified(asked.if_none_match.as_ref(), response.headers())
    {
        *response.status_mut() = StatusCode::NOT_MODIFIED;
        *response.body_mut() = Body::empty();
        response.headers_mut().remove(CONTENT_LENGTH);
        response.headers_mut().remove(CONTENT_TYPE);
    }
    error
}

/// Reads what a client is still sending, so that it can read the answer; a client that sends too much is cut off.
async fn discard(rest: Body, response: &mut Response) {
    let closes = response.headers().contains_key(CONNECTION);
    let drained = !closes
        && tokio::time::timeout(DISCARD_TIMEOUT, body::drain(rest))
            .await
            .is_ok_and(|drained| drained.is_ok());
    if !drained {
        let close = HeaderValue::from_static("close");
        response.headers_mut().insert(CONNECTION, close);
    }
}

/// How long the rest of a refused body is waited for.
const DISCARD_TIMEOUT: Duration = Duration::from_secs(1);

/// Whether a path has nothing but numbers where its route has parameters: anything else may be somebody's token or address.
fn is_plain(path: &str, route: &str) -> bool {
    let mut expected = route.split('/');
    path.split('/').all(|segment| {
        expected.next().is_some_and(|pattern| {
            pattern == segment
                || (pattern.starts_with('{') && segment.bytes().all(|byte| byte.is_ascii_digit()))
        })
    })
}

/// What the log is told of an answer.
struct Told {
    status: u16,
    bytes: Option<u64>,
    error: Option<String>,
}

/// Writes the request's line.
fn log(state: &AppState, asked: &Asked, took: Duration, told: Told) {
    if !tracing::enabled!(target: access_log::TARGET, tracing::Level::INFO) {
        return;
    }
    let id = asked.id.to_str().unwrap_or("-");
    let mut line = Line::new(Utc::now(), id, asked.method.as_str(), told.status);
    if let Some(route) = &asked.route {
        line.route = route.as_str();
        line.path = is_plain(&asked.path, route.as_str()).then_some(asked.path.as_str());
    }
    line.bytes = told.bytes;
    line.took_us = u64::try_from(took.as_micros()).unwrap_or(u64::MAX);
    line.error = told.error;
    state.log.add(|pending| line.write(pending));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_numbers_of_a_path_are_logged() {
        let route = "/products/{product_id}/styles";
        for (path, expected) in [
            ("/products/12/styles", true),
            ("/products/me@example.com/styles", false),
            ("/products/secret/styles", false),
            ("/products/12/other", false),
            ("/products/12/styles/more", false),
        ] {
            assert_eq!(is_plain(path, route), expected, "{path}");
        }
        assert!(is_plain("/reviews", "/reviews"));
    }
}
