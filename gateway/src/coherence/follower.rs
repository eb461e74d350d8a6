//! Follows the stream of changes: one origin at a time, and from where it was at the next one.

use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use async_trait::async_trait;
use bytes::Bytes;
use http::header::{ACCEPT, CONTENT_TYPE};
use http::{Method, Request, Response, StatusCode};
use http_body_util::{BodyExt, Full, Limited};
use hyper::body::Incoming;
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use pingora::server::ShutdownWatch;
use pingora::services::background::BackgroundService;
use tokio::time::{sleep, sleep_until, timeout};

use super::event::{BadEvent, News, Probed, Told};
use super::stream::{BadStream, Message, Parser};
use super::{Coherence, Moment};
use crate::config::Address;
use crate::purge::{Cause, Journal, Mode, Scope};
use crate::store::{Order, Store};

/// For a connection to an origin to come up.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(1);
/// A stream on which nothing comes for so long is dead, and one whose probes prove nothing.
const SILENCE_MAX: Duration = Duration::from_secs(3);
/// For a stream to begin, at first: an origin may have to read from its outbox what is missing here.
const BEGIN_TIMEOUT: Duration = Duration::from_secs(1);
/// And at most, after that was too short at every origin.
const BEGIN_TIMEOUT_MAX: Duration = Duration::from_secs(24);
/// Before the next origin, when every one has failed once.
const PAUSE: Duration = Duration::from_millis(100);
/// The longest pause.
const PAUSE_MAX: Duration = Duration::from_secs(2);
/// Before an origin is tried at once: many gateways lose the same origin at the same moment.
const SPREAD: Duration = Duration::from_millis(20);
/// Bytes of the answer to a probe at most.
const PROBED_BYTES_MAX: usize = 64 * 1024;
/// The reason for making everything stale that every first stream has.
const NO_POSITION: &str = "position";
/// The reasons that are news of changes, too many or too wide to be told one by one: what was kept is out of date for certain,
/// as after a load, a TRUNCATE or a restore. By all others nothing may have changed.
const CERTAIN: [&str; 2] = ["database", "amount"];
/// How often it is looked whether the lease has run out.
const LOOK_EVERY: Duration = Duration::from_millis(100);

/// The private listeners that may be followed now, in any order.
pub type Streams = Box<dyn Fn() -> Vec<Address> + Send + Sync>;

/// Follows the stream for as long as the gateway runs.
pub struct Follower {
    coherence: Arc<Coherence>,
    store: Arc<Store>,
    journal: Arc<Journal>,
    streams: Streams,
}

/// Why a stream is left.
#[derive(Debug, thiserror::Error)]
enum Ended {
    #[error("no connection: {0}")]
    Connect(#[from] hyper_util::client::legacy::Error),
    #[error("the answer was {0}")]
    Refused(StatusCode),
    #[error("the answer is no stream of events")]
    Foreign,
    #[error("no answer within {0:?}")]
    NoAnswer(Duration),
    #[error("nothing came for {SILENCE_MAX:?}")]
    Silent,
    #[error("a probe was not answered within half a lease")]
    Unanswered,
    #[error("probes proved nothing for too long")]
    Unproven,
    #[error("it ended")]
    End,
    #[error("it broke: {0}")]
    Broken(#[from] hyper::Error),
    #[error(transparent)]
    BadStream(#[from] BadStream),
    #[error(transparent)]
    BadEvent(#[from] BadEvent),
}

impl Ended {
    /// Whether something was told that is lost.
    fn loses_position(&self) -> bool {
        matches!(self, Self::BadStream(_) | Self::BadEvent(_))
    }
}

type Http = Client<HttpConnector, Full<Bytes>>;

impl Follower {
    /// Will follow one of these private listeners, and purge this store.
    pub fn new(
        coherence: Arc<Coherence>,
        store: Arc<Store>,
        journal: Arc<Journal>,
        streams: Streams,
    ) -> Self {
        Self {
            coherence,
            store,
            journal,
            streams,
        }
    }

    async fn follow_for_ever(&self) {
        let http = client();
        // Each gateway begins somewhere else, or one origin would have all the streams.
        let mut turn = random((self.streams)().len() as u64);
        let mut failures = 0;
        loop {
            let streams = (self.streams)();
            let index = usize::try_from(turn).unwrap_or_default() % streams.len().max(1);
            let Some(origin) = streams.get(index).map(Address::to_string) else {
                sleep(PAUSE).await; // operators may have removed them all
                continue;
            };
            let mut has_told = false;
            let begin = begin_timeout(failures, streams.len());
            let ended = self.follow(&http, &origin, begin, &mut has_told).await;
            self.coherence.follows(None);
            if has_told {
                self.coherence.metrics.stream_ends.inc();
                failures = 0;
                tracing::warn!(%origin, reason = %ended, "the stream of changes is left");
            } else {
                tracing::debug!(%origin, reason = %ended, "no stream of changes");
            }
            if ended.loses_position() {
                tracing::error!(%origin, reason = %ended, "the stream cannot be understood: beginning anew");
                self.coherence.lose_position();
            }
            failures += u32::from(!has_told || ended.loses_position());
            turn = turn.wrapping_add(1);
            sleep(pause(failures, streams.len())).await;
        }
    }

    /// Follows one origin until there is a reason not to.
    async fn follow(
        &self,
        http: &Http,
        origin: &str,
        begin: Duration,
        has_told: &mut bool,
    ) -> Ended {
        let stream = match timeout(begin, self.open(http, origin)).await {
            Ok(Ok(stream)) => stream,
            Ok(Err(ended)) => return ended,
            Err(_) => return Ended::NoAnswer(begin),
        };
        self.coherence.follows(Some(origin));
        tokio::select! {
            ended = self.read(stream, has_told) => ended,
            ended = self.prove(http, origin) => ended,
        }
    }

    async fn open(&self, http: &Http, origin: &str) -> Result<Incoming, Ended> {
        let position = self.coherence.resume_from();
        let from = if position.is_some() {
            "position"
        } else {
            "nothing"
        };
        let mut request = Request::new(Full::default());
        *request.uri_mut() = uri(origin, "/events");
        let headers = request.headers_mut();
        headers.insert(ACCEPT, http::HeaderValue::from_static(EVENT_STREAM));
        if let Some(position) = position.and_then(|position| position.try_into().ok()) {
            headers.insert("last-event-id", position);
        }
        let answer = http.request(request).await?;
        if answer.status() != StatusCode::OK {
            return Err(Ended::Refused(answer.status()));
        }
        if !is_event_stream(&answer) {
            return Err(Ended::Foreign);
        }
        self.coherence
            .metrics
            .streams
            .with_label_values(&[from])
            .inc();
        tracing::info!(%origin, from, "following the stream of changes");
        Ok(answer.into_body())
    }

    async fn read(&self, mut stream: Incoming, has_told: &mut bool) -> Ended {
        match self.read_on(&mut stream, has_told).await {
            Ok(()) => Ended::End,
            Err(ended) => ended,
        }
    }

    async fn read_on(&self, stream: &mut Incoming, has_told: &mut bool) -> Result<(), Ended> {
        let mut parser = Parser::default();
        loop {
            let frame = timeout(SILENCE_MAX, stream.frame()).await;
            let Some(frame) = frame.map_err(|_| Ended::Silent)? else {
                return Ok(());
            };
            let frame = frame?;
            for message in frame
                .data_ref()
                .map_or(Ok(Vec::new()), |data| parser.feed(data))?
            {
                self.hear(&message).await?;
                *has_told = true;
            }
        }
    }

    /// Purges what a message tells, then takes its position: the order on which everything rests.
    pub(super) async fn hear(&self, message: &Message) -> Result<(), BadEvent> {
        let Some(mut told) = Told::read(message)? else {
            return Ok(());
        };
        self.coherence.prepare(&mut told);
        let _turn = self.coherence.turn(told.news.tokens()).await;
        match &told.news {
            News::Everything { reason } => {
                if &**reason == NO_POSITION {
                    tracing::info!("what came before the stream is out of date");
                } else {
                    tracing::warn!(%reason, "everything that is kept is out of date");
                }
                self.purge(&[Scope::All], self.expiry(reason)).await;
            }
            News::Changes(transactions) => {
                let mut groups: Vec<&str> = transactions
                    .iter()
                    .flat_map(|transaction| {
                        self.coherence
                            .unpurged(transaction.id.as_ref(), &transaction.groups)
                    })
                    .collect();
                groups.sort_unstable();
                groups.dedup();
                let scopes: Vec<_> = groups.into_iter().map(Scope::Tag).collect();
                if !scopes.is_empty() {
                    self.purge(&scopes, Mode::Hard).await;
                }
            }
            News::Nothing => {}
        }
        self.coherence.take(told, Moment::now());
        Ok(())
    }

    /// How everything goes: what has not changed for certain may cover for an origin that fails, unless the mode forbids it.
    fn expiry(&self, reason: &str) -> Mode {
        if self.coherence.is_strict() || CERTAIN.contains(&reason) {
            Mode::Hard
        } else {
            Mode::Soft { at: Instant::now() }
        }
    }

    async fn purge(&self, scopes: &[Scope<'_>], mode: Mode) {
        let order = Order {
            scopes,
            mode,
            hottest: 0,
        };
        let purged = self.store.begin_purge(&order).finish_in_turns().await;
        let numbered = (purged.sequence, mode);
        self.journal
            .note(numbered, Cause::Stream, scopes, SystemTime::now());
    }

    /// Probes the origin of the stream, until that has proved nothing for too long.
    async fn prove(&self, http: &Http, origin: &str) -> Ended {
        let settings = self.coherence.settings();
        let patience = SILENCE_MAX.max(settings.lease);
        let mut proven = self.coherence.leased_from();
        let mut changed = Moment::now();
        loop {
            let next = tokio::time::Instant::now() + settings.probe_interval();
            let sent = Moment::now();
            match timeout(settings.lease / 2, probe(http, origin)).await {
                Ok(Some(probed)) => self.coherence.answered(sent, probed, Moment::now()),
                Ok(None) => self.coherence.metrics.probe_failures.inc(),
                Err(_) => {
                    self.coherence.metrics.probe_failures.inc();
                    // While there is a lease there is still time to get the next one from another origin.
                    if self.coherence.unleased_for(Moment::now()).is_none() {
                        return Ended::Unanswered;
                    }
                }
            }
            let now = Moment::now();
            let leased = self.coherence.leased_from();
            if leased != proven {
                (proven, changed) = (leased, now);
            } else if now.since(changed) > patience {
                return Ended::Unproven;
            }
            sleep_until(next).await;
        }
    }

    async fn look(&self) {
        loop {
            sleep(LOOK_EVERY).await;
            self.coherence.look(Moment::now());
        }
    }
}

#[async_trait]
impl BackgroundService for Follower {
    /// Ends with the gateway; the lease that is left then runs out by itself.
    async fn start(&self, mut shutdown: ShutdownWatch) {
        tokio::select! {
            _ = shutdown.changed() => {}
            () = self.follow_for_ever() => {}
            () = self.look() => {}
        }
    }
}

const EVENT_STREAM: &str = "text/event-stream";

fn client() -> Http {
    let mut connector = HttpConnector::new();
    connector.set_connect_timeout(Some(CONNECT_TIMEOUT));
    connector.set_nodelay(true);
    Client::builder(TokioExecutor::new()).build(connector)
}

/// Addresses of the configuration are always authorities.
fn uri(origin: &str, path: &'static str) -> http::Uri {
    let parts = http::Uri::builder().scheme("http").authority(origin);
    parts.path_and_query(path).build().unwrap_or_default()
}

fn is_event_stream(answer: &Response<Incoming>) -> bool {
    let stated = answer.headers().get(CONTENT_TYPE);
    stated.is_some_and(|stated| stated.as_bytes().starts_with(EVENT_STREAM.as_bytes()))
}

/// What an origin found that looked after it was asked; `None` if it did not say.
async fn probe(http: &Http, origin: &str) -> Option<Probed> {
    let mut request = Request::new(Full::default());
    *request.method_mut() = Method::POST;
    *request.uri_mut() = uri(origin, "/events/probe");
    let answer = http.request(request).await.ok()?;
    if answer.status() != StatusCode::OK {
        return None;
    }
    let body = Limited::new(answer.into_body(), PROBED_BYTES_MAX);
    let body = body.collect().await.ok()?.to_bytes();
    Probed::read(&body).ok()
}

/// A number below `bound`, which is not zero.
fn random(bound: u64) -> u64 {
    getrandom::u64().unwrap_or_default() % bound.max(1)
}

/// How long a stream may take to begin, after so many origins in a row had none.
fn begin_timeout(failures: u32, origins: usize) -> Duration {
    let rounds = failures as usize / origins.max(1);
    let longer = 1 << rounds.min(8);
    (BEGIN_TIMEOUT * longer).min(BEGIN_TIMEOUT_MAX)
}

/// The time before the next origin is tried, after so many in a row had no stream.
fn pause(failures: u32, origins: usize) -> Duration {
    let rounds = failures as usize / origins.max(1);
    let longest = match rounds {
        0 => SPREAD,
        rounds => (PAUSE * (1 << (rounds - 1).min(8))).min(PAUSE_MAX),
    };
    // Between a half and all of it.
    let half = u64::try_from(longest.as_micros() / 2).unwrap_or_default();
    Duration::from_micros(half + random(half + 1))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_next_origin_is_tried_at_once_and_the_same_ones_again_after_longer_and_longer() {
        for _ in 0..100 {
            assert!(pause(0, 3) <= SPREAD && pause(2, 3) <= SPREAD);
            assert!((PAUSE / 2..=PAUSE).contains(&pause(3, 3)));
            assert!((PAUSE_MAX / 2..=PAUSE_MAX).contains(&pause(u32::MAX, 1)));
        }
        assert_eq!(begin_timeout(2, 3), BEGIN_TIMEOUT);
        assert_eq!(begin_timeout(3, 3), 2 * BEGIN_TIMEOUT);
        assert_eq!(begin_timeout(u32::MAX, 3), BEGIN_TIMEOUT_MAX);
    }

    #[test]
    fn every_address_of_the_configuration_can_be_asked() {
        for text in ["127.0.0.1:1", "[::1]:3001", "origin.internal:80"] {
            let address: Address = text.parse().unwrap();
            assert_eq!(
                uri(&address.to_string(), "/events").to_string(),
                format!("http://{text}/events")
            );
        }
    }
}
