//! Connections: accepted within a bound, served with axum's router, ended gracefully.

mod write_timeout;

use std::{future::Future, io, sync::Arc, time::Duration};

use axum::{Router, body::Body, extract::Request};
use http::{Uri, uri::PathAndQuery};
use hyper::{body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::{
    net::{TcpListener, TcpStream},
    sync::{Semaphore, watch},
    time::timeout,
};
use tower::Service as _;

use write_timeout::WriteTimeout;

/// The bounds of a listener.
#[derive(Clone, Copy, Debug)]
pub struct Settings {
    /// Connections at a time; more wait in the listener's queue.
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
/// How long a peer may read nothing of what it is sent.
const WRITE_TIMEOUT: Duration = Duration::from_secs(30);

/// Serves connections until `ending`, then the requests in flight.
pub async fn serve(
    listener: TcpListener,
    router: Router,
    settings: Settings,
    ending: impl Future<Output = ()>,
) {
    let places = Arc::new(Semaphore::new(settings.connections_max as usize));
    let (end, ended) = watch::channel(());
    tokio::pin!(ending);
    loop {
        let stream = tokio::select! {
            biased;
            () = &mut ending => break,
            accepted = accept(&listener, &places) => match accepted {
                Ok(accepted) => accepted,
                Err(error) => {
                    tracing::warn!(%error, "cannot accept a connection");
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                    continue;
                }
            },
        };
        let (stream, place) = stream;
        let connection = connection(stream, router.clone(), settings, ended.clone());
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

async fn accept(
    listener: &TcpListener,
    places: &Arc<Semaphore>,
) -> io::Result<(TcpStream, tokio::sync::OwnedSemaphorePermit)> {
    let place = Arc::clone(places)
        .acquire_owned()
        .await
        .map_err(io::Error::other)?;
    let (stream, _) = listener.accept().await?;
    stream.set_nodelay(true)?;
    Ok((stream, place))
}

async fn connection(
    stream: TcpStream,
    router: Router,
    settings: Settings,
    mut ended: watch::Receiver<()>,
) {
    let service = service_fn(move |request: hyper::Request<Incoming>| {
        let mut router = router.clone();
        router.call(canonical(request.map(Body::new)))
    });
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(settings.keep_alive)
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
