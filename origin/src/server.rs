//! Connections: accepted within a bound, served with axum's router, ended gracefully.

mod write_timeout;

use std::{future::Future, io, sync::Arc, time::Duration};

use axum::{Router, body::Body, extract::Request};
use http::{Uri, uri::PathAndQuery};
use hyper::{body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::{
    net::{TcpListener, TcpStream},
    sync::{OwnedSemaphorePermit, Semaphore, watch},
    time::timeout,
};
use tower::Service as _;

use write_timeout::WriteTimeout;

use crate::error::Error;

/// The bounds of a listener.
#[derive(Clone, Copy, Debug)]
pub struct Settings {
    /// Connections at a time; one more gets one answer, a refusal.
    pub connections_max: u32,
    /// How long a connection may stand idle, or take to send a request's head.
    pub keep_alive: Duration,
    /// How long requests in flight may take when the listener ends.
    pub grace: Duration,
}

/// Fields a request's head may have.
const HEADERS_MAX: usize = 64;
/// Bytes a request's head may have.
const HEAD_BYTES_MAX: usize = 32 * 1024;
/// How long to wait when the process has no file descriptor left for a connection.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);
/// Connections at a time that are only told that there are too many; still more wait in the listener's queue, each until
/// one of these has gone, which takes [`REFUSAL_TIMEOUT`] at most.
const REFUSALS_MAX: usize = 64;
/// How long a connection that will be refused may take to ask for something.
const REFUSAL_TIMEOUT: Duration = Duration::from_secs(1);
/// How long a peer may read nothing of what it is sent.
const WRITE_TIMEOUT: Duration = Duration::from_secs(30);

/// Who answers.
#[derive(Clone, Debug)]
pub struct Routers {
    /// Requests.
    pub served: Router,
    /// The one request of a connection that is one too many.
    pub refused: Router,
}

/// Refuses whatever is asked for, without a body.
pub fn refusing() -> Router {
    Router::new().fallback(async || too_many())
}

/// What a connection that is one too many is told.
pub fn too_many() -> Error {
    Error::Unavailable("too many connections at a time".into())
}

/// Serves connections until `ending`, then the requests in flight.
pub async fn serve(
    listener: TcpListener,
    routers: Routers,
    settings: Settings,
    ending: impl Future<Output = ()>,
) {
    let places = Arc::new(Semaphore::new(settings.connections_max as usize));
    let refusals = Arc::new(Semaphore::new(REFUSALS_MAX));
    let (end, ended) = watch::channel(());
    tokio::pin!(ending);
    loop {
        let (stream, refusal) = tokio::select! {
            biased;
            () = &mut ending => break,
            accepted = accept(&listener, &refusals) => match accepted {
                Ok(accepted) => accepted,
                Err(error) => {
                    tracing::warn!(%error, "cannot accept a connection");
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                    continue;
                }
            },
        };
        let (router, terms, place) = match Arc::clone(&places).try_acquire_owned() {
            Ok(place) => (&routers.served, Terms::of(settings), place),
            Err(_) => (&routers.refused, Terms::REFUSED, refusal),
        };
        let connection = connection(stream, router.clone(), terms, ended.clone());
        tokio::spawn(async move {
            connection.await;
            drop(place);
        });
    }
    drop(listener);
    // Every connection stops after the request it is serving.
    let _ = end.send(());
    let all_places = timeout(
        settings.grace,
        places.acquire_many(settings.connections_max),
    )
    .await;
    if all_places.is_err() {
        tracing::warn!("connections were still open after the time of grace");
    }
}

/// A connection, and a place among those that are refused, in case that it is one.
async fn accept(
    listener: &TcpListener,
    refusals: &Arc<Semaphore>,
) -> io::Result<(TcpStream, OwnedSemaphorePermit)> {
    let refusal = Arc::clone(refusals)
        .acquire_owned()
        .await
        .map_err(io::Error::other)?;
    let (stream, _) = listener.accept().await?;
    stream.set_nodelay(true)?;
    Ok((stream, refusal))
}

/// What a connection may do.
#[derive(Clone, Copy)]
struct Terms {
    /// How long it may stand idle, or take to send a request's head.
    patience: Duration,
    /// Whether it may send another request.
    is_kept: bool,
}

impl Terms {
    const REFUSED: Self = Self {
        patience: REFUSAL_TIMEOUT,
        is_kept: false,
    };

    fn of(settings: Settings) -> Self {
        Self {
            patience: settings.keep_alive,
            is_kept: true,
        }
    }
}

async fn connection(
    stream: TcpStream,
    router: Router,
    terms: Terms,
    mut ended: watch::Receiver<()>,
) {
    let service = service_fn(move |request: hyper::Request<Incoming>| {
        let mut router = router.clone();
        router.call(canonical(request.map(Body::new)))
    });
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(terms.patience)
        .keep_alive(terms.is_kept)
        .max_headers(HEADERS_MAX)
        .max_buf_size(HEAD_BYTES_MAX)
        .serve_connection(
            TokioIo::new(WriteTimeout::new(stream, WRITE_TIMEOUT)),
            service,
        );
    tokio::pin!(connection);
    tokio::select! {
        // Clients that break off are no news.
        _ = connection.as_mut() => return,
        _ = ended.changed() => connection.as_mut().graceful_shutdown(),
    }
    let _ = connection.await;
}

/// Gives a request the one spelling of its path: no slash at the end, none repeated.
fn canonical(mut request: Request) -> Request {
    let uri = request.uri();
    let path = uri.path();
    let is_canonical = path.len() <= 1 || (!path.ends_with('/') && !path.contains("//"));
    if is_canonical || !path.starts_with('/') {
        return request;
    }
    let mut spelling = String::with_capacity(uri.path().len());
    for segment in path.split('/').filter(|segment| !segment.is_empty()) {
        spelling.push('/');
        spelling.push_str(segment);
    }
    if spelling.is_empty() {
        spelling.push('/');
    }
    if let Some(query) = uri.query() {
        spelling.push('?');
        spelling.push_str(query);
    }
    let mut parts = uri.clone().into_parts();
    parts.path_and_query = PathAndQuery::try_from(spelling).ok();
    if let Ok(uri) = Uri::from_parts(parts) {
        *request.uri_mut() = uri;
    }
    request
}

#[cfg(test)]
mod tests {
    use super::*;

    fn path(uri: &str) -> String {
        let request = Request::builder()
            .uri(uri)
            .body(Body::empty())
            .expect("a request");
        canonical(request).uri().to_string()
    }

    #[test]
    fn every_spelling_of_slashes_is_one_path() {
        for (uri, expected) in [
            ("/reviews", "/reviews"),
            ("/reviews/", "/reviews"),
            ("/reviews/?product_id=2", "/reviews?product_id=2"),
            ("//reviews///meta//?a=/b//", "/reviews/meta?a=/b//"),
            ("/", "/"),
            ("//", "/"),
            ("/?a", "/?a"),
            ("*", "*"),
            ("http://host/reviews/", "http://host/reviews"),
        ] {
            assert_eq!(path(uri), expected, "{uri}");
        }
    }
}
