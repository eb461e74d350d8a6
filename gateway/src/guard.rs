//! The connection layer around the proxy: how many connections there are, and how long each may take to send a header.
//!
//! Pingora bounds each read, not the header as a whole, and has no cap on connections. This is also where a connection's
//! first bytes can be looked at before a session is built for them.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use bytes::{Bytes, BytesMut};
use http::{HeaderName, HeaderValue, StatusCode};
use parking_lot::Mutex;
use pingora::apps::ServerApp;
use pingora::protocols::{ALPN, Stream};
use pingora::server::ShutdownWatch;
use tokio::io::AsyncWriteExt;
use tokio::time::Instant;

use crate::dated::{Dated, NextDate};
use crate::error::Problem;

/// How long a refused connection is given to take its refusal.
const REFUSAL_TIMEOUT: Duration = Duration::from_millis(200);

tokio::task_local! {
    static CONNECTION: Arc<Connection>;
}

/// The bounds on client connections.
#[derive(Debug, Clone, Copy)]
pub struct Bounds {
    /// Connections at once; one more is answered 503 and closed.
    pub connections_max: usize,
    /// From the connection, or from the first request's end and the idle time after it, to the end of a header.
    pub header_timeout: Duration,
    /// How long a connection may be idle between two requests.
    pub keepalive_timeout: Duration,
    /// How long an idle connection stays when the gateway is told to stop: a request that comes on it is answered, and told
    /// that the connection ends.
    pub idle_drain: Duration,
}

/// A proxy behind the connection layer.
pub struct Guarded<A> {
    app: Arc<A>,
    bounds: Bounds,
    open: Arc<AtomicUsize>,
    refusal: Bytes,
}

impl<A> Guarded<A> {
    /// Puts the layer around a proxy; `open` counts the connections, for metrics; `fields` go on a refusal too.
    pub fn new(
        app: A,
        bounds: Bounds,
        open: Arc<AtomicUsize>,
        fields: &[(HeaderName, HeaderValue)],
    ) -> Self {
        Self {
            app: Arc::new(app),
            bounds,
            open,
            refusal: refusal(fields),
        }
    }

    /// The proxy behind the layer.
    pub fn app(&self) -> Arc<A> {
        Arc::clone(&self.app)
    }
}

#[async_trait]
impl<A: ServerApp + Send + Sync + 'static> ServerApp for Guarded<A> {
    async fn process_new(
        self: &Arc<Self>,
        stream: Stream,
        shutdown: &ShutdownWatch,
    ) -> Option<Stream> {
        let Some(_place) = Place::take(&self.open, self.bounds.connections_max) else {
            refuse(stream, &self.refusal).await;
            return None;
        };
        if matches!(stream.selected_alpn_proto(), Some(ALPN::H2)) {
            // Its requests run beside each other, and have the bounds of `http2_options`.
            return self.app.process_new(stream, shutdown).await;
        }
        let connection = Arc::new(Connection::new(self.bounds, Instant::now()));
        let stream = Box::new(Dated::new(stream, connection.next_date.clone()));
        let serve = CONNECTION.scope(
            Arc::clone(&connection),
            self.app.process_new(stream, shutdown),
        );
        tokio::select! {
            reusable = serve => reusable,
            // Dropping the session closes its socket.
            () = connection.header_overdue() => None,
        }
    }

    async fn cleanup(&self) {
        tokio::time::sleep(self.bounds.idle_drain).await;
        self.app.cleanup().await;
    }
}

/// The whole answer to one connection too many.
fn refusal(fields: &[(HeaderName, HeaderValue)]) -> Bytes {
    let problem = Problem::new(
        StatusCode::SERVICE_UNAVAILABLE,
        "The gateway has no connection left.",
    );
    let json = problem.to_json();
    let mut answer = BytesMut::from(
        "HTTP/1.1 503 Service Unavailable\r\nRetry-After: 1\r\nConnection: close\r\n",
    );
    answer.extend_from_slice(
        b"Cache-Control: private, no-store\r\nContent-Type: application/problem+json\r\n",
    );
    for (name, value) in fields {
        answer.extend_from_slice(name.as_str().as_bytes());
        answer.extend_from_slice(b": ");
        answer.extend_from_slice(value.as_bytes());
        answer.extend_from_slice(b"\r\n");
    }
    answer.extend_from_slice(format!("Content-Length: {}\r\n\r\n{json}", json.len()).as_bytes());
    answer.freeze()
}

async fn refuse(mut stream: Stream, refusal: &[u8]) {
    let answer = async {
        stream.write_all(refusal).await?;
        stream.flush().await
    };
    if let Ok(Err(error)) = tokio::time::timeout(REFUSAL_TIMEOUT, answer).await {
        tracing::debug!(%error, "a refused connection was gone before its refusal");
    }
}

/// Tells the connection that a whole header has arrived on it. Does nothing outside a guarded connection.
pub fn header_arrived() {
    let _ = CONNECTION.try_with(|connection| *connection.header_due.lock() = None);
}

/// Tells the connection that its request has been answered and the next header may come.
pub fn request_ended() {
    let _ = CONNECTION.try_with(|connection| {
        let bounds = connection.bounds;
        let due = Instant::now() + bounds.keepalive_timeout + bounds.header_timeout;
        *connection.header_due.lock() = Some(due);
        connection.next_date.clear();
    });
}

/// Tells the connection when the answer that is written next was made. Does nothing outside a guarded connection.
pub fn answer_dated(date: &HeaderValue) {
    let _ = CONNECTION.try_with(|connection| connection.next_date.set(date.as_bytes()));
}

struct Connection {
    bounds: Bounds,
    /// When the header that is awaited has to be complete; `None` while a request is worked on.
    header_due: Mutex<Option<Instant>>,
    next_date: NextDate,
}

impl Connection {
    fn new(bounds: Bounds, now: Instant) -> Self {
        Self {
            bounds,
            header_due: Mutex::new(Some(now + bounds.header_timeout)),
            next_date: NextDate::default(),
        }
    }

    /// Ends when an awaited header is overdue.
    async fn header_overdue(&self) {
        loop {
            let now = Instant::now();
            let due = *self.header_due.lock();
            match due {
                Some(due) if due <= now => return,
                Some(due) => tokio::time::sleep_until(due).await,
                // Nothing can be due earlier than this: the next header has at least its own time.
                None => tokio::time::sleep(self.bounds.header_timeout).await,
            }
        }
    }
}

/// A place among the connections, given back when dropped.
struct Place {
    open: Arc<AtomicUsize>,
}

impl Place {
    fn take(open: &Arc<AtomicUsize>, max: usize) -> Option<Self> {
        open.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |count| {
            (count < max).then_some(count + 1)
        })
        .ok()?;
        Some(Self {
            open: Arc::clone(open),
        })
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.open.fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BOUNDS: Bounds = Bounds {
        connections_max: 2,
        header_timeout: Duration::from_secs(10),
        keepalive_timeout: Duration::from_secs(50),
        idle_drain: Duration::from_secs(1),
    };

    #[test]
    fn places_are_counted_and_given_back() {
        let open = Arc::new(AtomicUsize::new(0));
        let first = Place::take(&open, 2);
        let second = Place::take(&open, 2);
        assert!(first.is_some() && second.is_some() && Place::take(&open, 2).is_none());
        drop(first);
        assert!(Place::take(&open, 2).is_some());
        drop(second);
        assert_eq!(open.load(Ordering::Relaxed), 0);
    }

    #[tokio::test(start_paused = true)]
    async fn a_header_is_overdue_after_its_time_and_not_while_a_request_is_worked_on() {
        let began = Instant::now();
        let connection = Connection::new(BOUNDS, began);
        connection.header_overdue().await;
        assert_eq!(began.elapsed(), BOUNDS.header_timeout);

        let connection = Arc::new(Connection::new(BOUNDS, Instant::now()));
        CONNECTION.sync_scope(Arc::clone(&connection), header_arrived);
        let worked_on =
            tokio::time::timeout(Duration::from_secs(3_600), connection.header_overdue()).await;
        assert!(
            worked_on.is_err(),
            "a request may take as long as its own timeouts allow"
        );
        let ended = Instant::now();
        CONNECTION.sync_scope(Arc::clone(&connection), request_ended);
        connection.header_overdue().await;
        assert!(ended.elapsed() >= BOUNDS.keepalive_timeout + BOUNDS.header_timeout);
    }
}
