//! The task that reads the outbox for as long as the process lives.

use std::{
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use bytes::Bytes;
use chrono::{DateTime, Utc};
use tokio::time::{Instant, sleep, sleep_until};

use super::{
    Shared, Tail,
    db::{Change, Error, News, Reading, Reason, Session},
    events,
    history::{History, Tip},
};

/// Between polls, however many ask for one: so many changes share one poll.
const SPACING: Duration = Duration::from_millis(4);
/// Between polls that nobody listens to.
const UNHEARD: Duration = Duration::from_millis(250);
/// How long after a change the next one is expected soon.
const BUSY_FOR: Duration = Duration::from_secs(1);
/// Between looks at whether every trigger is in place.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// Between attempts to connect: doubled from the first to the second after each failure.
const BACKOFF: (Duration, Duration) = (Duration::from_millis(20), Duration::from_millis(500));

/// Polls until the process ends.
pub async fn run(tail: Tail) {
    let shared = &*tail.shared;
    let mut backoff = BACKOFF.0;
    let mut is_down = false;
    loop {
        let opened = Session::open(&shared.source, Some(Arc::clone(&shared.wake))).await;
        let error = match opened {
            Ok(session) => {
                let error = follow(shared, &session, || {
                    backoff = BACKOFF.0;
                    if std::mem::take(&mut is_down) {
                        tracing::info!("the outbox is read again");
                    }
                });
                error.await
            }
            Err(error) => error,
        };
        shared.metrics.failures.inc();
        if !std::mem::replace(&mut is_down, true) {
            tracing::error!(%error, "the outbox cannot be read");
        }
        sleep(backoff).await;
        backoff = (backoff * 2).min(BACKOFF.1);
    }
}

/// Polls over one session until it fails.
async fn follow(shared: &Shared, session: &Session, mut succeeded: impl FnMut()) -> Error {
    let mut changed_at: Option<Instant> = None;
    let mut looked_at: Option<Instant> = None;
    loop {
        let sent_at = Instant::now();
        let is_awaited = shared.is_awaited.swap(false, Ordering::AcqRel);
        let has_written = shared.has_written.swap(false, Ordering::AcqRel);
        shared.begun.fetch_add(1, Ordering::AcqRel);
        let since = shared.state().tip.clone();
        let is_look_due = looked_at.is_none_or(|looked_at| looked_at.elapsed() >= LOOK_EVERY);
        let look = async {
            match is_look_due {
                true => Ok(session.untold().await?.map(Arc::from)),
                false => Ok(since.as_ref().and_then(|tip| tip.untold.clone())),
            }
        };
        let polled = async {
            let reading = session.poll(since.as_ref().map(|tip| &tip.position));
            let (mut reading, untold) = tokio::try_join!(reading, look)?;
            compare(since.as_ref(), untold.as_deref(), &mut reading);
            let asked = Asked {
                sent_at,
                is_awaited,
            };
            Ok(publish(shared, since.as_ref(), reading, untold, asked))
        };
        let told = async {
            match has_written {
                true => session.tell().await,
                false => Ok(()),
            }
        };
        match tokio::try_join!(polled, told) {
            Ok((true, ())) => changed_at = Some(sent_at),
            Ok((false, ())) => {}
            Err(error) => {
                shared.is_awaited.fetch_or(is_awaited, Ordering::AcqRel);
                shared.has_written.fetch_or(has_written, Ordering::AcqRel);
                return error;
            }
        }
        succeeded();
        if is_look_due {
            looked_at = Some(sent_at);
        }
        let interval = match changed_at {
            _ if shared.metrics.streams.get() == 0 => UNHEARD,
            Some(changed_at) if changed_at.elapsed() < BUSY_FOR => shared.settings.busy,
            _ => shared.settings.idle,
        };
        tokio::select! {
            () = sleep_until(sent_at + interval) => {}
            () = shared.wake.notified() => sleep_until(sent_at + SPACING).await,
        }
    }
}

/// A poll that was sent.
struct Asked {
    sent_at: Instant,
    /// Somebody waits for it, whether or not it brings anything.
    is_awaited: bool,
}

/// Says once that changes go untold, and when they no longer do: any may have gone by then, so everything is out of date.
fn compare(since: Option<&Tip>, untold: Option<&str>, reading: &mut Reading) {
    match (since.and_then(|since| since.untold.as_ref()), untold) {
        (None, Some(untold)) => tracing::error!(untold, "changes go untold; probes are refused"),
        (Some(_), None) => {
            tracing::info!("every trigger is in place again");
            reading.news = News::Everything(Reason::Database);
        }
        _ => {}
    }
}

/// Hands a reading to the streams; says whether it brought anything.
fn publish(
    shared: &Shared,
    since: Option<&Tip>,
    reading: Reading,
    untold: Option<Arc<str>>,
    asked: Asked,
) -> bool {
    let Asked {
        sent_at,
        is_awaited,
    } = asked;
    // Upon the last changes that were told, whatever was polled without any in between.
    let follows = since.map_or(&reading.position, |tip| &tip.since).clone();
    let mut tip = Tip {
        since: follows.clone(),
        position: reading.position,
        at: reading.at,
        wal: reading.wal,
        poll: shared.begun.load(Ordering::Acquire),
        untold,
    };
    let events: Arc<[Bytes]> = match &reading.news {
        News::Changes(changes) => {
            let looked_at = since.map(|since| since.at);
            events::changes(&shared.name, &tip, (&follows, looked_at), changes)
        }
        News::Everything(reason) => {
            shared.metrics.everything.inc();
            tracing::warn!(reason = reason.as_str(), "everything is out of date");
            [events::everything(&shared.name, &tip, *reason)].into()
        }
    };
    let has_news = !events.is_empty();
    let is_first = since.is_none();
    if has_news {
        tip.since = tip.position.clone();
    }
    {
        let mut state = shared.state();
        if let Some(since) = since.filter(|_| has_news) {
            if since.position.incarnation != tip.position.incarnation {
                // Positions of before mean nothing now; streams that are behind are cut off, and told everything.
                let end = state.history.end();
                state.history = History::starting_at(shared.settings.history_bytes as usize, end);
            }
            state.history.push(follows, events, tip.poll);
        }
        if has_news || is_awaited || is_first {
            state.announced = tip.poll;
        }
        state.tip = Some(tip);
        state.polled_at = sent_at.into_std();
    }
    if has_news || is_awaited || is_first {
        shared.announce();
    }
    shared.metrics.polls.inc();
    if let News::Changes(changes) = &reading.news {
        shared.metrics.transactions.inc_by(changes.len() as u64);
        for change in changes {
            let delay = delay(since, change, reading.at, sent_at.elapsed());
            shared.metrics.delay.observe(delay.as_secs_f64());
        }
    }
    has_news
}

/// The longest time for which a change can have been visible.
fn delay(since: Option<&Tip>, change: &Change, at: DateTime<Utc>, poll_took: Duration) -> Duration {
    let earliest = change.visible_since(since.map(|since| since.at));
    (at - earliest).to_std().unwrap_or_default() + poll_took
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_change_is_visible_since_the_poll_before_at_the_earliest() {
        let at = |ms| DateTime::from_timestamp_millis(ms).expect("a time");
        let since = Tip {
            position: "1:1:@a".parse().expect("a position"),
            at: at(1000),
            wal: String::new(),
            poll: 1,
            since: "1:1:@a".parse().expect("a position"),
            untold: None,
        };
        let took = Duration::from_millis(1);
        for (appended, expected) in [(0, 11), (1000, 11), (1007, 4), (1012, 1)] {
            let change = Change {
                xid: 1,
                groups: Vec::new(),
                appended_at: at(appended),
            };
            let delay = delay(Some(&since), &change, at(1010), took);
            assert_eq!(delay, Duration::from_millis(expected), "{appended}");
        }
    }
}
