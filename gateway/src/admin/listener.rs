//! The operators' listener: accepts unless a new process is about to take over, as many as it may, and none for ever.
//!
//! Its places are its own: operators get in when the clients of the public listener take all of theirs.

use std::io::Write as _;
use std::net::SocketAddr;
use std::os::fd::AsRawFd as _;
use std::time::Duration;

use axum::Router;
use axum::extract::ConnectInfo;
use hyper::Request;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::{Service, service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use pingora::server::ShutdownWatch;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinSet;

use crate::guard::is_kept_from_operators;

/// After a failed accept: no descriptor may be left.
const PAUSE_AFTER_ERROR: Duration = Duration::from_millis(100);

/// How long a connection lasts before it takes no more calls: nobody holds one for ever by never reading an answer.
const LIFE_MAX: Duration = Duration::from_secs(600);
/// How long its last call may take then.
const LAST_CALL_MAX: Duration = Duration::from_secs(60);

/// To one connection too many.
const FULL: &[u8] = b"HTTP/1.1 503 Service Unavailable\r\nRetry-After: 1\r\nConnection: close\r\nContent-Length: 0\r\n\r\n";

/// The bounds on operators' connections.
#[derive(Debug, Clone, Copy)]
pub struct AdminBounds {
    /// Connections at once; one more is answered 503 and closed.
    pub connections_max: usize,
    /// From the connection, or from the end of the call before, to the end of a header: idle connections have this time, too.
    pub header_timeout: Duration,
}

/// Where an operator calls from.
#[derive(Debug, Clone, Copy)]
pub(super) struct Peer(pub(super) SocketAddr);

/// Serves calls until the gateway stops, and those under way to their end.
pub(super) async fn serve(
    mut listener: Pausable,
    calls: Router,
    bounds: AdminBounds,
    mut shutdown: ShutdownWatch,
) {
    let calls = TowerToHyperService::new(calls);
    let mut connections = JoinSet::new();
    loop {
        let (stream, peer) = tokio::select! {
            accepted = listener.accept() => accepted,
            _ = shutdown.changed() => break,
        };
        while connections.try_join_next().is_some() {} // one that has ended counts until it is taken
        if connections.len() >= bounds.connections_max || is_kept_from_operators(stream.as_raw_fd())
        {
            refuse(stream);
            continue;
        }
        let calls = calls.clone();
        connections.spawn(connection(stream, peer, calls, bounds, shutdown.clone()));
    }
    drop(listener);
    while connections.join_next().await.is_some() {}
}

/// Tells one connection too many so, as far as there is room for it: nobody waits.
fn refuse(stream: TcpStream) {
    let told = stream
        .into_std()
        .and_then(|mut stream| stream.write_all(FULL));
    if let Err(error) = told {
        tracing::debug!(%error, "a refused operator was gone before the refusal");
    }
}

/// Serves one connection to its end, which comes for each.
async fn connection(
    stream: TcpStream,
    peer: SocketAddr,
    calls: TowerToHyperService<Router>,
    bounds: AdminBounds,
    mut shutdown: ShutdownWatch,
) {
    let service = service_fn(move |mut request: Request<Incoming>| {
        request.extensions_mut().insert(ConnectInfo(Peer(peer)));
        calls.call(request)
    });
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(bounds.header_timeout)
        .serve_connection(TokioIo::new(stream), service);
    tokio::pin!(connection);
    tokio::select! {
        // Who breaks off, or is late, is no news.
        _ = connection.as_mut() => return,
        _ = shutdown.changed() => {}
        () = tokio::time::sleep(LIFE_MAX) => {}
    }
    connection.as_mut().graceful_shutdown();
    let _ = tokio::time::timeout(LAST_CALL_MAX, connection).await;
}

/// A listener that leaves connections in the system's queue while it is paused.
pub(super) struct Pausable {
    listener: TcpListener,
    is_paused: watch::Receiver<bool>,
}

impl Pausable {
    pub(super) fn new(listener: TcpListener, is_paused: watch::Receiver<bool>) -> Self {
        Self {
            listener,
            is_paused,
        }
    }

    async fn accept(&mut self) -> (TcpStream, SocketAddr) {
        loop {
            if self.is_paused.wait_for(|paused| !paused).await.is_err() {
                return std::future::pending().await; // the process is ending
            }
            tokio::select! {
                accepted = self.listener.accept() => match accepted {
                    Ok(accepted) => return accepted,
                    Err(error) => {
                        tracing::warn!(%error, "an operator's connection was not accepted");
                        tokio::time::sleep(PAUSE_AFTER_ERROR).await;
                    }
                },
                _ = self.is_paused.changed() => {}
            }
        }
    }
}
