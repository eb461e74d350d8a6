//! The stream over HTTP: server-sent events on the private listener, and probes.

use std::{
    convert::Infallible,
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use axum::{
    Router,
    body::Body,
    extract::{Request, State},
    response::{IntoResponse, Response},
    routing::{get, post},
};
use bytes::Bytes;
use futures_util::stream;
use http::{
    HeaderName, HeaderValue, StatusCode,
    header::{CACHE_CONTROL, CONTENT_TYPE, RETRY_AFTER},
};
use percent_encoding::percent_decode_str;
use tokio::{
    sync::watch,
    time::{Instant, sleep_until, timeout},
};

use super::{
    Shared, Tail,
    db::{Error, News, Reason, Session},
    events,
    history::{Next, Tip},
    position::Position,
};
use crate::reply;

/// Between events of a stream to which nothing happens.
const HEARTBEAT: Duration = Duration::from_secs(1);
/// How long a request waits for a poll before it is refused.
const POLL_TIMEOUT: Duration = Duration::from_secs(2);
/// How long a reader that is far behind waits for its turn at the outbox, and for the outbox.
const CATCH_UP_TIMEOUT: Duration = Duration::from_secs(15);

const EVENT_STREAM: HeaderValue = HeaderValue::from_static("text/event-stream");
const NO_STORE: HeaderValue = HeaderValue::from_static("no-store");
const LAST_EVENT_ID: HeaderName = HeaderName::from_static("last-event-id");

/// The paths of the stream.
pub fn router<S: Clone + Send + Sync + 'static>(tail: Tail) -> Router<S> {
    Router::new()
        .route("/events", get(follow))
        .route("/events/probe", post(probe))
        .with_state(tail)
}

/// Streams what follows upon the position that the request names.
async fn follow(State(tail): State<Tail>, request: Request) -> Response {
    let Some(place) = Place::take(&tail.shared) else {
        return refuse(&tail.shared, "too many streams");
    };
    let mut version = tail.shared.version.subscribe();
    let Some(tip) = tail.shared.tip_after(&mut version, 0).await else {
        return refuse(&tail.shared, "no position yet");
    };
    let told = tip.poll;
    let begun = match begin(&tail.shared, position(&request), tip).await {
        Ok(begun) => begun,
        Err(error) => {
            tracing::warn!(%error, "a stream could not be resumed");
            return refuse(&tail.shared, "the outbox cannot be read");
        }
    };
    let reader = Reader {
        place,
        version,
        at: begun.at,
        events: begun.events,
        sent: 0,
        told,
        heartbeat: Instant::now() + HEARTBEAT,
    };
    let body = stream::unfold(reader, |mut reader| async {
        let event = reader.next().await?;
        Some((Ok::<_, Infallible>(event), reader))
    });
    let fields = [(CONTENT_TYPE, EVENT_STREAM), (CACHE_CONTROL, NO_STORE)];
    (fields, Body::from_stream(body)).into_response()
}

/// Answers with the position of a snapshot that was taken after the request arrived.
async fn probe(State(tail): State<Tail>) -> Response {
    let shared = &tail.shared;
    let mut version = shared.version.subscribe();
    let begun = shared.begun.load(Ordering::Acquire);
    shared.is_awaited.store(true, Ordering::Release);
    shared.wake.notify_one();
    let Some(tip) = shared.tip_after(&mut version, begun).await else {
        return unavailable("the database does not answer");
    };
    if tip.untold.is_some() {
        // Leases run out: gateways must not vouch for what changes past the triggers.
        return unavailable("changes go untold");
    }
    shared.metrics.probes.inc();
    let fields = [(CONTENT_TYPE, reply::JSON), (CACHE_CONTROL, NO_STORE)];
    (fields, events::probe(&shared.name, &tip)).into_response()
}

fn refuse(shared: &Shared, why: &'static str) -> Response {
    shared.metrics.refused.inc();
    unavailable(why)
}

fn unavailable(why: &'static str) -> Response {
    let fields = [
        (CONTENT_TYPE, reply::TEXT),
        (RETRY_AFTER, HeaderValue::from_static("1")),
        (CACHE_CONTROL, NO_STORE),
    ];
    (StatusCode::SERVICE_UNAVAILABLE, fields, why).into_response()
}

/// The position that a request names: `position` of its query, else `Last-Event-ID`. What cannot be read is none.
fn position(request: &Request) -> Option<Position> {
    let parameter = request.uri().query().and_then(|query| {
        let mut pairs = query.split('&');
        pairs.find_map(|pair| pair.strip_prefix("position="))
    });
    let header = request.headers().get(LAST_EVENT_ID);
    let text = match parameter {
        Some(parameter) => percent_decode_str(parameter).decode_utf8().ok()?,
        None => header?.to_str().ok()?.into(),
    };
    text.parse().ok()
}

/// How a stream begins.
struct Beginning {
    /// Its place in what is kept.
    at: u64,
    /// What is sent before that.
    events: Arc<[Bytes]>,
}

async fn begin(shared: &Shared, position: Option<Position>, tip: Tip) -> Result<Beginning, Error> {
    // The tip that belongs to this end of the history: a poll may have ended since the one that was waited for.
    let (end, found, tip) = {
        let state = shared.state();
        let tip = state.tip.clone().unwrap_or(tip);
        let found = position
            .as_ref()
            .and_then(|position| state.history.find(position));
        (state.history.end(), found, tip)
    };
    let everything = |reason| {
        shared.metrics.resumed_from_nothing.inc();
        [events::everything(&shared.name, &tip, reason)].into()
    };
    let Some(position) = position else {
        let events = everything(Reason::Position);
        return Ok(Beginning { at: end, events });
    };
    if position.incarnation != tip.position.incarnation {
        let events = everything(Reason::Incarnation);
        return Ok(Beginning { at: end, events });
    }
    if position.includes(&tip.position) {
        shared.metrics.resumed_from_memory.inc();
        let events = [events::position(&shared.name, &tip)].into();
        return Ok(Beginning { at: end, events });
    }
    if let Some(at) = found {
        shared.metrics.resumed_from_memory.inc();
        let events = Arc::default();
        return Ok(Beginning { at, events });
    }
    let events = timeout(CATCH_UP_TIMEOUT, catch_up(shared, &position, &tip));
    let events = events.await.map_err(|_| Error::Timeout)??;
    Ok(Beginning { at: end, events })
}

/// Reads from the outbox what is no longer in memory. The snapshot is later than every poll that has ended, so the stream
/// goes on at the end of what was in memory before.
async fn catch_up(shared: &Shared, position: &Position, tip: &Tip) -> Result<Arc<[Bytes]>, Error> {
    let _turn = shared.catch_ups.acquire().await;
    let session = Session::open(&shared.source, None).await?;
    let reading = session.poll(Some(position)).await?;
    // Says nothing about polls: that it is later than this one is all that is certain.
    let tip = Tip {
        position: reading.position,
        at: reading.at,
        wal: reading.wal,
        poll: tip.poll,
        since: position.clone(),
        untold: tip.untold.clone(),
    };
    match &reading.news {
        News::Changes(changes) if changes.is_empty() => {
            shared.metrics.resumed_from_outbox.inc();
            Ok([events::position(&shared.name, &tip)].into())
        }
        News::Changes(changes) => {
            shared.metrics.resumed_from_outbox.inc();
            // When the reader's position was taken is not known: only when its transactions said what they change.
            let since = (position, None);
            Ok(events::changes(&shared.name, &tip, since, changes))
        }
        News::Everything(reason) => {
            shared.metrics.resumed_from_nothing.inc();
            Ok([events::everything(&shared.name, &tip, *reason)].into())
        }
    }
}

impl Shared {
    /// Waits for the position of a poll with a larger number.
    async fn tip_after(&self, version: &mut watch::Receiver<u64>, poll: u64) -> Option<Tip> {
        let deadline = Instant::now() + POLL_TIMEOUT;
        loop {
            version.borrow_and_update();
            let tip = self.state().tip.clone().filter(|tip| tip.poll > poll);
            if tip.is_some() || self.is_ending.load(Ordering::Acquire) {
                return tip;
            }
            tokio::select! {
                changed = version.changed() => changed.ok()?,
                () = sleep_until(deadline) => return None,
            }
        }
    }
}

/// A place among the streams.
struct Place(Arc<Shared>);

impl Place {
    fn take(shared: &Arc<Shared>) -> Option<Self> {
        shared.metrics.streams.inc();
        let place = Self(Arc::clone(shared));
        let is_within = shared.metrics.streams.get() <= i64::from(shared.settings.streams_max);
        if is_within {
            // The poller may be in one of the long pauses of when nobody listens.
            shared.wake.notify_one();
        }
        is_within.then_some(place)
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.0.metrics.streams.dec();
    }
}

/// A stream: what it has to send is shared with the others, it keeps only how far it is.
struct Reader {
    place: Place,
    version: watch::Receiver<u64>,
    /// The place of the batch after `events`.
    at: u64,
    events: Arc<[Bytes]>,
    /// How many of `events` have been sent.
    sent: usize,
    /// The last poll that the reader has been told of.
    told: u64,
    heartbeat: Instant,
}

impl Reader {
    /// The next event; `None` ends the stream.
    async fn next(&mut self) -> Option<Bytes> {
        let shared = Arc::clone(&self.place.0);
        let mut is_due = false;
        loop {
            if let Some(event) = self.events.get(self.sent) {
                self.sent += 1;
                self.heartbeat = Instant::now() + HEARTBEAT;
                return Some(event.clone());
            }
            // Before looking: what comes after the look moves it again.
            self.version.borrow_and_update();
            let (next, tip) = {
                let state = shared.state();
                is_due |= state.announced > self.told;
                (state.history.next(self.at), state.tip.clone())
            };
            match next {
                Next::Events(events, poll) => {
                    (self.events, self.sent, self.told) = (events, 0, poll);
                    self.at += 1;
                    continue;
                }
                Next::Gone => {
                    shared.metrics.dropped.inc();
                    return None;
                }
                Next::Nothing => {}
            }
            if shared.is_ending.load(Ordering::Acquire) {
                return None;
            }
            if let Some(tip) = tip.filter(|_| is_due) {
                self.heartbeat = Instant::now() + HEARTBEAT;
                self.told = tip.poll;
                return Some(events::position(&shared.name, &tip));
            }
            tokio::select! {
                changed = self.version.changed() => changed.ok()?,
                () = sleep_until(self.heartbeat) => is_due = true,
            }
        }
    }
}
