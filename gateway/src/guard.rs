//! The connection layer around the proxy: how many connections there are, how long each may take for what it is at, and
//! nothing spent on one that says nothing.
//!
//! Pingora bounds each read, not a header as a whole, has no cap on connections and keeps a session for each of them. Here a
//! session is built when the header of a request has come, or the first kilobytes of it, and is gone when the request has been
//! answered. Between the two [`wire`] has the bytes of a request before there is a session: that is where plain hits can be
//! recognised.
//!
//! The handshake of an encrypted connection is made here too: Pingora would give it a minute, and count it nowhere.

mod body;
mod clients;
mod clock;
mod descriptors;
mod frames;
mod framing;
mod http2;
mod refusal;
mod wire;

use std::future::Future;
use std::io;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use http::{HeaderName, HeaderValue};
use nix::sys::socket;
use parking_lot::Mutex;
use pingora::apps::{HttpPersistentSettings, HttpServerApp, ServerApp};
use pingora::listeners::tls::Acceptor;
use pingora::protocols::http::ServerSession;
use pingora::protocols::l4;
use pingora::protocols::{ALPN, Stream, UniqueIDType};
use pingora::server::ShutdownWatch;
use tokio::time::{Instant, Sleep};

use crate::metrics::{ConnectionMetrics, Cut, Metrics};

pub use body::BodyPace;
pub use clients::Clients;
pub use clock::Times;
pub(crate) use descriptors::is_kept_from_operators;
pub use descriptors::raise_limit;

use clock::{Clock, Overdue};
use frames::Frames;
use framing::{Framing, Malformed};
use refusal::Refusals;
use wire::{DATE_BYTES, Wire};

/// Bytes of a request's header, its line included, that are read at most; asked at each header, as settings change.
pub type HeaderMax = Box<dyn Fn() -> usize + Send + Sync>;

tokio::task_local! {
    static CONNECTION: Arc<Connection>;
}

/// The bounds on client connections.
#[derive(Debug, Clone, Copy)]
pub struct Bounds {
    /// Connections at once; one more is answered 503 and closed.
    pub connections_max: usize,
    /// Requests on one HTTP/2 connection; of HTTP/1.1 the proxy's options tell.
    pub requests_max: u32,
    /// Requests at once on one HTTP/2 connection.
    pub streams_max: u32,
    /// Bytes of an answer that are collected before they are sent.
    pub write_buffer: usize,
    /// How long a connection may take for what it is at.
    pub times: Times,
    /// How long an idle connection may bring one more request after the gateway was told to stop.
    pub linger: Duration,
}

/// A proxy behind the connection layer.
pub struct Guarded<A> {
    app: Arc<A>,
    terms: Arc<Terms>,
    /// Makes the handshake; none where connections are plain.
    acceptor: Option<Acceptor>,
}

/// What all connections have in common.
struct Terms {
    bounds: Bounds,
    header_max: HeaderMax,
    open: Arc<AtomicUsize>,
    cuts: Arc<ConnectionMetrics>,
    refusals: Refusals,
}

impl<A> Guarded<A> {
    /// Puts the layer around a proxy and counts its connections; `fields` go on a refusal too.
    pub fn new(
        app: A,
        bounds: Bounds,
        header_max: HeaderMax,
        metrics: &Metrics,
        fields: &[(HeaderName, HeaderValue)],
    ) -> Self {
        let terms = Terms {
            bounds,
            header_max,
            open: Arc::clone(&metrics.connections),
            cuts: Arc::clone(&metrics.cuts),
            refusals: Refusals::new(fields),
        };
        Self {
            app: Arc::new(app),
            terms: Arc::new(terms),
            acceptor: None,
        }
    }

    /// The layer over the same proxy and count of connections, for a listener of encrypted ones.
    pub fn encrypted(&self, acceptor: Acceptor) -> Self {
        Self {
            app: self.app(),
            terms: Arc::clone(&self.terms),
            acceptor: Some(acceptor),
        }
    }

    /// The proxy behind the layer.
    pub fn app(&self) -> Arc<A> {
        Arc::clone(&self.app)
    }
}

impl<A: HttpServerApp + Send + Sync + 'static> Guarded<A> {
    /// Serves a connection until it is done or overdue.
    async fn watch(&self, stream: Stream, descriptor: UniqueIDType, shutdown: &ShutdownWatch) {
        let terms = &self.terms;
        let connection = Arc::new(Connection::new(Arc::clone(terms), Instant::now()));
        let serve = CONNECTION.scope(
            Arc::clone(&connection),
            self.begin(stream, Arc::clone(&connection), shutdown),
        );
        let watched = Watched {
            serve: pin!(serve),
            alarm: pin!(tokio::time::sleep(terms.bounds.times.header)),
            connection,
            descriptor,
        };
        watched.await;
    }

    /// Serves a connection from its first byte to its last.
    async fn begin(&self, stream: Stream, connection: Arc<Connection>, shutdown: &ShutdownWatch) {
        let stream = match &self.acceptor {
            None => stream,
            // Apart: a connection that is served has no room for a handshake.
            Some(acceptor) => match Box::pin(shake_hands(acceptor, stream)).await {
                Some(stream) => stream,
                None => return self.terms.cuts.note(Cut::Handshake),
            },
        };
        let is_http2 = stream.selected_alpn_proto() == Some(ALPN::H2);
        let wire = Box::new(Wire::new(
            stream,
            Arc::clone(&connection),
            self.terms.bounds.write_buffer,
        ));
        if is_http2 {
            // Apart: other connections have no room for what it takes.
            Box::pin(self.serve_http2(wire, connection, shutdown)).await;
        } else {
            self.serve(wire, shutdown).await;
        }
    }

    /// Serves one request after the other, each with a session of its own.
    async fn serve(&self, mut wire: Box<Wire>, shutdown: &ShutdownWatch) {
        let mut settings = None;
        loop {
            let has_begun = tokio::select! {
                biased; // what has come already is served
                has_begun = wire.first_bytes(1) => has_begun,
                () = stopped(shutdown.clone(), self.terms.bounds.linger) => false,
            };
            if !has_begun {
                return;
            }
            header_begins();
            wire.header().await;
            let session = self.session(wire, settings, *shutdown.borrow());
            let Some(reusable) = self.app.process_new_http(session, shutdown).await else {
                return;
            };
            let (stream, persistent) = reusable.consume();
            settings = persistent;
            wire = match stream.into_any().downcast() {
                Ok(wire) => wire,
                Err(_) => return, // no session gives back another stream than it got
            };
        }
    }

    fn session(
        &self,
        wire: Box<Wire>,
        settings: Option<HttpPersistentSettings>,
        stops: bool,
    ) -> ServerSession {
        let mut session = ServerSession::new_http1(wire);
        if let Some(settings) = settings {
            settings.apply_to_session(&mut session);
            return session;
        }
        let keepalive = self.terms.bounds.times.keepalive.as_secs();
        session.set_keepalive((!stops).then_some(keepalive));
        let options = self.app.server_options();
        let reuses = options.and_then(|options| options.keepalive_request_limit);
        session.set_keepalive_reuses_remaining(reuses);
        session
    }
}

#[async_trait]
impl<A: HttpServerApp + Send + Sync + 'static> ServerApp for Guarded<A> {
    async fn process_new(
        self: &Arc<Self>,
        stream: Stream,
        shutdown: &ShutdownWatch,
    ) -> Option<Stream> {
        let descriptor = stream.id();
        let terms = &self.terms;
        let place = Place::take(&terms.open, terms.bounds.connections_max).ok_or(Cut::Full);
        let place = match place {
            Ok(_) if descriptors::is_kept_back(descriptor) => Err(Cut::Descriptors),
            place => place,
        };
        let place = match place {
            Ok(place) => place,
            Err(cut) => {
                terms.cuts.note(cut);
                // One that would be encrypted is not worth the handshake that an answer takes.
                if self.acceptor.is_none() {
                    refusal::refuse(stream, &terms.refusals.full).await;
                }
                return None;
            }
        };
        let (guarded, shutdown) = (Arc::clone(self), shutdown.clone());
        // The task that accepted it has kilobytes of room for a handshake, as long as it lasts.
        tokio::spawn(async move {
            guarded.watch(stream, descriptor, &shutdown).await;
            drop(place);
        });
        None
    }

    async fn cleanup(&self) {
        // The proxy's own clean-up ends connections in the middle of a header. Here they have their time to end.
    }
}

/// The stream within an encrypted one.
async fn shake_hands(acceptor: &Acceptor, stream: Stream) -> Option<Stream> {
    let socket = stream.into_any().downcast::<l4::stream::Stream>().ok()?;
    match acceptor.tls_handshake(*socket).await {
        Ok(encrypted) => Some(Box::new(encrypted)),
        Err(error) => {
            tracing::debug!(%error, "no handshake");
            None
        }
    }
}

/// Ends a while after the gateway was told to stop.
async fn stopped(mut shutdown: ShutdownWatch, linger: Duration) {
    let _ = shutdown.wait_for(|stops| *stops).await;
    tokio::time::sleep(linger).await;
}

/// A connection that is served until it is done or overdue.
struct Watched<'c, F> {
    serve: Pin<&'c mut F>,
    alarm: Pin<&'c mut Sleep>,
    connection: Arc<Connection>,
    descriptor: UniqueIDType,
}

impl<F: Future<Output = ()>> Future for Watched<'_, F> {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let this = &mut *self;
        if this.serve.as_mut().poll(cx).is_ready() {
            return Poll::Ready(());
        }
        // The alarm is never later than what is due, and only ever moved when it must be: to an earlier time, or after it rang.
        loop {
            let due = this.connection.clock.lock().due();
            let Some(due) = due else {
                return Poll::Pending;
            };
            if due < this.alarm.deadline() || this.alarm.is_elapsed() {
                this.alarm.as_mut().reset(due);
            }
            if this.alarm.as_mut().poll(cx).is_pending() {
                return Poll::Pending;
            }
            let overdue = this.connection.clock.lock().overdue(Instant::now());
            let cuts = &this.connection.terms.cuts;
            match overdue {
                None => {}
                // Dropping what serves it closes its socket.
                Some(Overdue::Idle) => return Poll::Ready(()),
                Some(Overdue::Header) => {
                    cuts.note(Cut::HeaderLate);
                    return Poll::Ready(());
                }
                Some(Overdue::Body) => break cuts.note(Cut::BodySlow),
                Some(Overdue::Answer) => break cuts.note(Cut::AnswerSlow),
            }
        }
        self.connection.cut(self.descriptor);
        cx.waker().wake_by_ref(); // the session learns of it from its socket
        Poll::Pending
    }
}

/// Tells the connection that the first bytes of a header have come.
fn header_begins() {
    let _ = CONNECTION.try_with(|connection| {
        connection.clock.lock().header_begins(Instant::now());
        *connection.framing.lock() = Framing::new((connection.terms.header_max)());
    });
}

/// Tells the connection that a whole header has arrived on it. Does nothing outside a guarded connection, as all of these.
pub fn header_arrived() {
    let _ = CONNECTION.try_with(|connection| connection.clock.lock().header_ends());
}

/// Tells the connection that a body is to come from its client. False if what has come of it in chunks could be read in two
/// ways; what comes later and could be is an error of the connection.
pub fn body_expected(is_chunked: bool) -> bool {
    let is_clear = CONNECTION.try_with(|connection| {
        connection.clock.lock().body_begins();
        connection.framing.lock().set(is_chunked).is_ok()
    });
    is_clear.unwrap_or(true)
}

/// Tells the connection that nothing more is to come from its client.
pub fn body_arrived() {
    let _ = CONNECTION.try_with(|connection| connection.clock.lock().body_ends());
}

/// Tells the connection that its request has been answered and the next header may come.
pub fn request_ended() {
    let _ = CONNECTION.try_with(|connection| {
        connection.clock.lock().request_ends(Instant::now());
        *connection.next_date.lock() = None;
    });
}

/// Tells the connection when the answer that is written next was made. What is no date of the preferred form is left to
/// Pingora, which says now.
pub fn answer_dated(date: &HeaderValue) {
    let _ = CONNECTION.try_with(|connection| connection.set_date(date.as_bytes()));
}

/// What the layer, the wire and the filters know of one connection.
struct Connection {
    terms: Arc<Terms>,
    clock: Mutex<Clock>,
    framing: Mutex<Framing>,
    /// The date of the next final answer, if it is not the present.
    next_date: Mutex<Option<[u8; DATE_BYTES]>>,
}

impl Connection {
    fn new(terms: Arc<Terms>, now: Instant) -> Self {
        Self {
            clock: Mutex::new(Clock::new(terms.bounds.times, now)),
            terms,
            // Until a header begins: of HTTP/2 none is read here.
            framing: Mutex::new(Framing::Plain),
            next_date: Mutex::new(None),
        }
    }

    fn set_date(&self, date: &[u8]) {
        *self.next_date.lock() = date.try_into().ok();
    }

    /// Looks at what is read. What is not read on is counted, and told with the answer that it gets, if it gets one.
    fn watch_read(&self, bytes: &[u8]) -> Result<(), Option<&Bytes>> {
        let read = self.framing.lock().read(bytes);
        let (cuts, refusals) = (&self.terms.cuts, &self.terms.refusals);
        read.map_err(|malformed| {
            let (cut, answer) = match malformed {
                Malformed::RequestLine => (Cut::RequestLine, Some(&refusals.request_line)),
                Malformed::LineEnd => (Cut::LineEnd, Some(&refusals.line_end)),
                Malformed::TargetSize => (Cut::TargetSize, Some(&refusals.target_size)),
                Malformed::HeaderSize => (Cut::HeaderSize, Some(&refusals.header_size)),
                Malformed::Body => (Cut::Chunks, None),
            };
            cuts.note(cut);
            answer
        })
    }

    /// Looks at what is read over HTTP/2: a header that has begun has its time, whatever else goes on.
    fn watch_frames(&self, frames: &mut Frames, bytes: &[u8]) {
        let has_ended = frames.read(bytes);
        let is_coming = frames.is_within_header();
        if !has_ended && !is_coming {
            return;
        }
        let mut clock = self.clock.lock();
        if has_ended {
            clock.next_header_ends();
        }
        if is_coming {
            clock.next_header_begins(Instant::now());
        }
    }

    /// Looks at what came of a write.
    fn watch_write(&self, sent: Poll<io::Result<usize>>) -> Poll<io::Result<usize>> {
        match &sent {
            Poll::Pending => self.clock.lock().write_waits(Instant::now),
            Poll::Ready(Ok(count)) => self.clock.lock().write_moves(*count, Instant::now),
            Poll::Ready(Err(_)) => {}
        }
        sent
    }

    /// Shuts the socket of a client that is too slow; its request then ends as when a client goes, with all that follows.
    fn cut(&self, descriptor: UniqueIDType) {
        let mut clock = self.clock.lock();
        clock.body_ends();
        clock.answer_ends();
        if let Err(error) = socket::shutdown(descriptor, socket::Shutdown::Both) {
            tracing::debug!(%error, "a connection was gone before it was cut");
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

    pub(super) const TIMES: Times = Times {
        header: Duration::from_secs(10),
        keepalive: Duration::from_secs(50),
        slack: Duration::from_secs(5),
        read_rate_min: 100,
        write_rate_min: 100,
    };

    pub(super) fn connection() -> Arc<Connection> {
        let metrics = Metrics::new().unwrap();
        let bounds = Bounds {
            connections_max: 1,
            requests_max: 1,
            streams_max: 1,
            write_buffer: 0,
            times: TIMES,
            linger: TIMES.slack,
        };
        let guarded = Guarded::new((), bounds, Box::new(|| 1_000), &metrics, &[]);
        Arc::new(Connection::new(guarded.terms, Instant::now()))
    }

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

    /// How long a connection lasts on which this is done and then nothing more.
    async fn lasts(what: impl FnOnce(&Connection) + Send) -> Duration {
        let began = Instant::now();
        let connection = connection();
        let known = Arc::clone(&connection);
        let watched = Watched {
            serve: pin!(async move {
                what(&known);
                std::future::pending::<()>().await;
            }),
            alarm: pin!(tokio::time::sleep(TIMES.header)),
            connection,
            descriptor: -1,
        };
        let _ = tokio::time::timeout(Duration::from_secs(3_600), watched).await;
        began.elapsed()
    }

    #[tokio::test(start_paused = true)]
    async fn a_header_is_overdue_after_its_time_and_a_request_that_is_worked_on_is_not() {
        assert_eq!(lasts(|_| {}).await, TIMES.header);
        let served = lasts(|connection| connection.clock.lock().header_ends()).await;
        assert_eq!(served, Duration::from_secs(3_600));
        let idle = lasts(|connection| connection.clock.lock().request_ends(Instant::now())).await;
        assert_eq!(idle, TIMES.keepalive);
        let beside = lasts(|connection| {
            let mut clock = connection.clock.lock();
            clock.header_ends();
            clock.next_header_begins(Instant::now());
        });
        assert_eq!(beside.await, TIMES.header);
    }
}
