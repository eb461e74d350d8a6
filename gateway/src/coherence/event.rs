//! What an origin tells over the stream of changes.

use std::sync::Arc;
use std::time::SystemTime;

use chrono::DateTime;
use serde::Deserialize;

use super::position::{Lsn, Position, Token, number};
use super::stream::Message;

/// How the tailer of an origin names a state of the database.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Told {
    /// What happened.
    pub news: News,
    /// Which process told it: polls are compared only where this is the same.
    pub tailer: Box<str>,
    /// The newest poll that the news belongs to.
    pub poll: u64,
    /// The earliest moment at which a transaction of it can have become visible, by the database's clock; of an origin that does
    /// not say so, when it looked.
    pub visible_since: Option<SystemTime>,
    /// What a replica must have replayed to show all of it.
    pub wal: Option<Lsn>,
    /// What was told before it: who has not applied as much has missed something. Missing where everything is out of date.
    pub since: Option<Position>,
    /// Everything up to here has been told; missing where more of the same poll follows.
    pub position: Option<Position>,
}

/// What happened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum News {
    /// All that is kept is out of date.
    Everything {
        /// Why.
        reason: Box<str>,
    },
    /// These transactions have committed.
    Changes(Vec<Transaction>),
    /// Nothing that has not been told.
    Nothing,
}

impl News {
    /// The names of the transactions that it tells of.
    pub fn tokens(&self) -> impl Iterator<Item = &Token> {
        let transactions = match self {
            Self::Changes(transactions) => transactions.as_slice(),
            Self::Everything { .. } | Self::Nothing => &[],
        };
        let named = transactions.iter();
        named.filter_map(|transaction| transaction.id.as_ref())
    }
}

/// A committed transaction.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Transaction {
    /// Its name.
    pub id: Option<Token>,
    /// The groups that it made out of date.
    pub groups: Vec<Box<str>>,
}

/// The answer to a probe: a poll that began after the probe had arrived.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Probed {
    /// Which process answered.
    pub tailer: Box<str>,
    /// The poll.
    pub poll: u64,
    /// What it found.
    pub position: Position,
}

/// A message that cannot be understood: what it meant to tell is lost.
#[derive(Debug, thiserror::Error)]
pub enum BadEvent {
    /// The data is not the JSON it should be.
    #[error("an event that is no event: {0}")]
    Json(#[from] serde_json::Error),
    /// The position is missing or malformed.
    #[error("an event `{0}` without a readable position")]
    Position(String),
}

#[derive(Deserialize)]
struct Data {
    tailer: Box<str>,
    poll: u64,
    #[serde(default)]
    at: Box<str>,
    #[serde(default)]
    visible_since: Box<str>,
    #[serde(default)]
    wal: Box<str>,
    #[serde(default)]
    since: Box<str>,
    #[serde(default)]
    reason: Box<str>,
    transactions: Option<Vec<TransactionData>>,
}

#[derive(Deserialize)]
struct TransactionData {
    #[serde(default)]
    id: Box<str>,
    groups: Vec<Box<str>>,
}

#[derive(Deserialize)]
struct ProbeData {
    tailer: Box<str>,
    poll: u64,
    position: Box<str>,
}

impl Told {
    /// Reads a message; `None` for one of a kind that is not known here, which says nothing that matters.
    ///
    /// # Errors
    /// A message of a known kind that cannot be understood.
    pub fn read(message: &Message) -> Result<Option<Self>, BadEvent> {
        let is_change = match message.event.as_str() {
            "change" => true,
            "everything" | "position" => false,
            _ => return Ok(None),
        };
        let bad_position = || BadEvent::Position(message.event.clone());
        let position = match &message.id {
            Some(id) => Some(id.parse().map_err(|_| bad_position())?),
            None if is_change => None,
            None => return Err(bad_position()),
        };
        let data: Data = serde_json::from_str(&message.data)?;
        let (news, since) = if message.event == "everything" {
            let reason = data.reason;
            (News::Everything { reason }, None)
        } else {
            let since: Position = data.since.parse().map_err(|_| bad_position())?;
            let news = match is_change {
                true => News::Changes(transactions(data.transactions, since.incarnation())?),
                false => News::Nothing,
            };
            (news, Some(since))
        };
        Ok(Some(Self {
            news,
            since,
            tailer: data.tailer,
            poll: data.poll,
            visible_since: time(&data.visible_since).or_else(|| time(&data.at)),
            wal: data.wal.parse().ok(),
            position,
        }))
    }
}

fn time(text: &str) -> Option<SystemTime> {
    let time = DateTime::parse_from_rfc3339(text).ok()?;
    Some(time.into())
}

fn transactions(
    listed: Option<Vec<TransactionData>>,
    incarnation: &Arc<str>,
) -> Result<Vec<Transaction>, serde_json::Error> {
    let listed = listed
        .ok_or_else(|| <serde_json::Error as serde::de::Error>::missing_field("transactions"))?;
    let read = listed.into_iter().map(|data| Transaction {
        id: number(&data.id).ok().map(|xid| Token {
            xid,
            incarnation: Arc::clone(incarnation),
        }),
        groups: data.groups,
    });
    Ok(read.collect())
}

impl Probed {
    /// Reads the body of an answer to a probe.
    ///
    /// # Errors
    /// It proves nothing.
    pub fn read(body: &[u8]) -> Result<Self, BadEvent> {
        let data: ProbeData = serde_json::from_slice(body)?;
        let position = data.position.parse();
        Ok(Self {
            tailer: data.tailer,
            poll: data.poll,
            position: position.map_err(|_| BadEvent::Position("probe".to_owned()))?,
        })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn message(event: &str, id: Option<&str>, data: &str) -> Message {
        Message {
            event: event.to_owned(),
            id: id.map(str::to_owned),
            data: data.to_owned(),
        }
    }

    const PLACE: &str =
        r#""tailer":"t-0","poll":812,"at":"2026-11-21T06:00:00.123456Z","wal":"0/16B3748""#;

    #[test]
    fn a_change_names_transactions_with_their_groups() {
        let data = format!(
            r#"{{{PLACE},"since":"748:751:748@7.1.a","transactions":[{{"id":"751","groups":["a","b\n"],"new":1}}],"new":[]}}"#
        );
        let told = Told::read(&message("change", Some("748:752:748@7.1.a"), &data));
        let told = told.unwrap().unwrap();
        assert_eq!((&*told.tailer, told.poll), ("t-0", 812));
        assert_eq!(told.wal, Some(Lsn(0x016B_3748)));
        assert!(told.visible_since.is_some() && told.position.is_some() && told.since.is_some());
        let expected = Transaction {
            id: "751@7.1.a".parse().ok(),
            groups: vec!["a".into(), "b\n".into()],
        };
        assert_eq!(told.news, News::Changes(vec![expected]));
    }

    #[test]
    fn a_change_is_as_old_as_it_can_be_or_as_the_look_of_an_origin_that_does_not_say() {
        let read = |more: &str| {
            let data = format!(r#"{{{PLACE},"since":"1:1:@a",{more}"transactions":[]}}"#);
            let told = Told::read(&message("change", Some("2:2:@a"), &data));
            told.unwrap().unwrap().visible_since
        };
        let earlier = r#""visible_since":"2026-11-21T05:59:00.000000Z","#;
        assert_eq!(read(earlier), time("2026-11-21T05:59:00Z"));
        assert_eq!(read(""), time("2026-11-21T06:00:00.123456Z"));
    }

    #[test]
    fn kinds_that_are_not_known_say_nothing() {
        assert!(
            Told::read(&message("hello", None, "no JSON"))
                .unwrap()
                .is_none()
        );
    }

    #[test]
    fn what_cannot_be_understood_is_an_error_and_never_nothing() {
        let place = format!(r#"{{{PLACE},"since":"1:1:@a"}}"#);
        let without = format!("{{{PLACE}}}");
        let changes = format!(r#"{{{PLACE},"transactions":[]}}"#);
        for (event, id, data) in [
            ("everything", None, place.as_str()),
            ("position", None, &place),
            ("position", Some("no position"), &place),
            ("position", Some("1:1:@a"), &without),
            ("change", None, &place),
            ("change", None, &changes),
            ("change", None, "{"),
            (
                "change",
                Some("x"),
                r#"{"tailer":"t","poll":1,"since":"1:1:@a","transactions":[]}"#,
            ),
            ("position", Some("1:1:@a"), r#"{"tailer":"t"}"#),
        ] {
            let read = Told::read(&message(event, id, data));
            assert!(read.is_err(), "{event} {id:?} {data}: {read:?}");
        }
    }

    #[test]
    fn a_probe_names_its_poll_and_position() {
        let body = format!(r#"{{{PLACE},"position":"752:752:@7.1.a"}}"#);
        let probed = Probed::read(body.as_bytes()).unwrap();
        assert_eq!(
            (probed.poll, probed.position.as_str()),
            (812, "752:752:@7.1.a")
        );
        assert!(Probed::read(b"{}").is_err());
    }

    proptest! {
        #[test]
        fn any_message_is_read_without_a_panic(event in "(change|everything|position)?", id in ".{0,9}", data in ".{0,60}") {
            let _ = Told::read(&message(&event, Some(&id), &data));
            let _ = Probed::read(data.as_bytes());
        }
    }
}
