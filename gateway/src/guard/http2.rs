//! One HTTP/2 connection: how many requests it may bring, and how it ends after them.
//!
//! Pingora drives the connection and gives each request a task. It ends a connection gracefully (GOAWAY, and what is under way
//! is answered) when it is told that the gateway stops; here each connection is told so on its own, and counts its requests.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use pingora::apps::{HttpServerApp, HttpServerOptions, ReusedHttpStream, ServerApp};
use pingora::protocols::http::ServerSession;
use pingora::protocols::http::v2::server::H2Options;
use pingora::server::ShutdownWatch;
use tokio::sync::{Notify, watch};

use super::wire::Wire;
use super::{Connection, Guarded, header_arrived};

/// The bytes with which an HTTP/2 connection begins (RFC 9113 section 3.4).
pub(super) const HTTP2_PREFACE_BYTES: usize = 24;

/// Who was told that a connection ends may have sent as many requests before as it may have under way, and as many may have been
/// answered on the way there. Whoever sends more than so many times that number does not listen.
const LATE_TIMES: u32 = 2;

impl<A: HttpServerApp + Send + Sync + 'static> Guarded<A> {
    /// Serves many requests at once, bounded by the proxy's options for HTTP/2. Until the preface is there, the connection
    /// is as one whose header is not.
    pub(super) async fn serve_http2(
        &self,
        mut wire: Box<Wire>,
        connection: Arc<Connection>,
        shutdown: &ShutdownWatch,
    ) {
        if !wire.first_bytes(HTTP2_PREFACE_BYTES).await {
            return;
        }
        header_arrived();
        wire.follow_frames();
        let keepalive = connection.terms.bounds.times.keepalive;
        let requests = Arc::new(Requests {
            app: self.app(),
            connection,
            begun: AtomicU32::new(0),
            open: watch::Sender::new(0),
            ends: watch::Sender::new(false),
            does_not_listen: Notify::new(),
        });
        let ends = requests.ends.subscribe();
        tokio::select! {
            _ = requests.process_new(wire, &ends) => {}
            () = requests.outstayed(keepalive) => {}
            () = requests.does_not_listen.notified() => {}
            () = requests.end_with(shutdown.clone()) => {}
        }
    }
}

/// The requests of one connection.
struct Requests<A> {
    app: Arc<A>,
    connection: Arc<Connection>,
    /// How many there were.
    begun: AtomicU32,
    /// How many are under way.
    open: watch::Sender<usize>,
    /// Whether no more are to come.
    ends: watch::Sender<bool>,
    /// More come all the same.
    does_not_listen: Notify,
}

impl<A> Requests<A> {
    /// Counts one; none if the connection is closed for it.
    fn begin(&self) -> Option<Open<'_>> {
        let bounds = &self.connection.terms.bounds;
        let begun = self.begun.fetch_add(1, Ordering::Relaxed).saturating_add(1);
        if begun >= bounds.requests_max {
            self.ends.send_replace(true);
        }
        let late_max = bounds.streams_max.saturating_mul(LATE_TIMES);
        if begun > bounds.requests_max.saturating_add(late_max) {
            self.does_not_listen.notify_one();
            return None;
        }
        self.open.send_modify(|open| *open += 1);
        Some(Open(&self.open))
    }

    /// Takes no more requests once the gateway stops. Does not return.
    async fn end_with(&self, mut shutdown: ShutdownWatch) {
        let _ = shutdown.wait_for(|stops| *stops).await;
        self.ends.send_replace(true);
        std::future::pending::<()>().await;
    }

    /// Returns when a connection that takes no more requests has had none for so long: its client was told, and stays.
    async fn outstayed(&self, keepalive: Duration) {
        let (mut ends, mut open) = (self.ends.subscribe(), self.open.subscribe());
        let _ = ends.wait_for(|ends| *ends).await;
        loop {
            let _ = open.wait_for(|open| *open == 0).await;
            let next = open.wait_for(|open| *open > 0);
            if tokio::time::timeout(keepalive, next).await.is_err() {
                return;
            }
        }
    }
}

/// A request under way.
struct Open<'a>(&'a watch::Sender<usize>);

impl Drop for Open<'_> {
    fn drop(&mut self) {
        self.0.send_modify(|open| *open -= 1);
    }
}

#[async_trait]
impl<A: HttpServerApp + Send + Sync + 'static> HttpServerApp for Requests<A> {
    async fn process_new_http(
        self: &Arc<Self>,
        session: ServerSession,
        shutdown: &ShutdownWatch,
    ) -> Option<ReusedHttpStream> {
        let _open = self.begin()?;
        self.app.process_new_http(session, shutdown).await
    }

    fn h2_options(&self) -> Option<H2Options> {
        self.app.h2_options()
    }

    fn server_options(&self) -> Option<&HttpServerOptions> {
        self.app.server_options()
    }
}
