//! What goes over the stream: server-sent events, each of one JSON object.

use std::sync::Arc;

use bytes::Bytes;
use chrono::{DateTime, SecondsFormat, Utc};
use serde::Serialize;

use super::{
    db::{Change, Reason},
    history::Tip,
    position::Position,
};

/// Bytes after which the groups of a poll go on in a further event.
const EVENT_BYTES: usize = 32 * 1024;
/// Bytes that name a transaction.
const TRANSACTION_BYTES: usize = 40;

/// What every event tells of where its origin is.
#[derive(Clone, Debug, Serialize)]
pub struct Place<'a> {
    tailer: &'a str,
    poll: u64,
    at: String,
    wal: &'a str,
}

#[derive(Serialize)]
struct ChangeData<'a> {
    #[serde(flatten)]
    place: &'a Place<'a>,
    since: &'a str,
    visible_since: &'a str,
    transactions: &'a [Transaction<'a>],
}

#[derive(Serialize)]
struct Transaction<'a> {
    id: String,
    groups: &'a [String],
}

#[derive(Serialize)]
struct PositionData<'a> {
    #[serde(flatten)]
    place: Place<'a>,
    since: String,
}

#[derive(Serialize)]
struct EverythingData<'a> {
    #[serde(flatten)]
    place: &'a Place<'a>,
    reason: &'a str,
}

/// The answer to a probe.
#[derive(Serialize)]
struct ProbeData<'a> {
    #[serde(flatten)]
    place: Place<'a>,
    position: String,
}

impl<'a> Place<'a> {
    fn new(tailer: &'a str, tip: &'a Tip) -> Self {
        Self {
            tailer,
            poll: tip.poll,
            at: time(tip.at),
            wal: &tip.wal,
        }
    }
}

fn time(time: DateTime<Utc>) -> String {
    time.to_rfc3339_opts(SecondsFormat::Micros, true)
}

/// Transactions that follow upon a position, and upon the time when that was found, if it is known; only the last event names
/// the next one, so a reader that breaks off in between gets all of them again.
pub fn changes(
    tailer: &str,
    tip: &Tip,
    (since, looked_at): (&Position, Option<DateTime<Utc>>),
    changes: &[Change],
) -> Arc<[Bytes]> {
    let place = Place::new(tailer, tip);
    let position = tip.position.to_string();
    let since = since.to_string();
    let earliest = changes.iter().map(|change| change.visible_since(looked_at));
    let visible_since = time(earliest.min().unwrap_or(tip.at));
    let mut parts = parts(changes).into_iter().peekable();
    let mut events = Vec::new();
    while let Some(transactions) = parts.next() {
        let data = ChangeData {
            place: &place,
            since: &since,
            visible_since: &visible_since,
            transactions: &transactions,
        };
        let id = parts.peek().is_none().then_some(position.as_str());
        events.push(event("change", id, &data));
    }
    events.into()
}

/// Cuts transactions into parts of bounded size; one with many groups is in several of them.
fn parts(changes: &[Change]) -> Vec<Vec<Transaction<'_>>> {
    let mut parts = Vec::new();
    let mut part = Vec::new();
    let mut bytes = 0;
    for change in changes {
        let mut rest = change.groups.as_slice();
        while !rest.is_empty() {
            bytes += TRANSACTION_BYTES;
            let mut taken = 0;
            while taken < rest.len() && (taken == 0 || bytes < EVENT_BYTES) {
                bytes += rest[taken].len() + 3;
                taken += 1;
            }
            let (groups, later) = rest.split_at(taken);
            part.push(Transaction {
                id: change.xid.to_string(),
                groups,
            });
            rest = later;
            if bytes >= EVENT_BYTES {
                parts.push(std::mem::take(&mut part));
                bytes = 0;
            }
        }
    }
    if !part.is_empty() {
        parts.push(part);
    }
    parts
}

/// Whatever was kept is out of date.
pub fn everything(tailer: &str, tip: &Tip, reason: Reason) -> Bytes {
    let data = EverythingData {
        place: &Place::new(tailer, tip),
        reason: reason.as_str(),
    };
    event("everything", Some(&tip.position.to_string()), &data)
}

/// Nothing has changed up to this position that has not been sent.
pub fn position(tailer: &str, tip: &Tip) -> Bytes {
    let data = PositionData {
        place: Place::new(tailer, tip),
        since: tip.since.to_string(),
    };
    event("position", Some(&tip.position.to_string()), &data)
}

/// The body of the answer to a probe.
pub fn probe(tailer: &str, tip: &Tip) -> Bytes {
    json(&ProbeData {
        place: Place::new(tailer, tip),
        position: tip.position.to_string(),
    })
    .into()
}

fn event(name: &str, id: Option<&str>, data: &impl Serialize) -> Bytes {
    let mut text = format!("event: {name}\n").into_bytes();
    if let Some(id) = id {
        text.extend_from_slice(format!("id: {id}\n").as_bytes());
    }
    text.extend_from_slice(b"data: ");
    text.append(&mut json(data));
    text.extend_from_slice(b"\n\n");
    text.into()
}

/// These types always have a JSON form, and it holds no line break.
fn json(data: &impl Serialize) -> Vec<u8> {
    serde_json::to_vec(data).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use serde_json::Value;

    use super::*;

    fn tip() -> Tip {
        Tip {
            position: "5:9:7@a".parse().expect("a position"),
            at: DateTime::from_timestamp_micros(1_700_000_000_123_456).expect("a time"),
            wal: "0/16B3748".to_owned(),
            poll: 3,
            since: since(),
            untold: None,
        }
    }

    fn since() -> Position {
        "5:6:@a".parse().expect("a position")
    }

    fn change(xid: u64, groups: impl IntoIterator<Item = String>) -> Change {
        Change {
            xid,
            groups: groups.into_iter().collect(),
            appended_at: DateTime::UNIX_EPOCH,
        }
    }

    #[test]
    fn an_event_is_three_lines_and_an_empty_one() {
        let events = changes(
            "t",
            &tip(),
            (&since(), None),
            &[change(6, ["a\n\"b".to_owned()])],
        );
        assert_eq!(
            events.concat(),
            b"event: change\nid: 5:9:7@a\ndata: {\"tailer\":\"t\",\"poll\":3,\
              \"at\":\"2023-11-14T22:13:20.123456Z\",\"wal\":\"0/16B3748\",\"since\":\"5:6:@a\",\
              \"visible_since\":\"1970-01-01T00:00:00.000000Z\",\"transactions\":[{\"id\":\"6\",\"groups\":[\"a\\n\\\"b\"]}]}\n\n"
        );
    }

    #[test]
    fn much_is_told_in_events_of_bounded_size_of_which_the_last_has_the_position() {
        let many = |xid, count| change(xid, (0..count).map(|n| format!("group-{xid}-{n}")));
        let all = [many(1, 5000), many(2, 1), many(3, 9000), many(4, 0)];
        let events = changes("t", &tip(), (&since(), None), &all);
        assert!(events.len() > 5, "{}", events.len());
        let mut told = [0; 5];
        for (index, event) in events.iter().enumerate() {
            assert!(event.len() < EVENT_BYTES + 1024, "{}", event.len());
            let text = std::str::from_utf8(event).expect("text");
            assert_eq!(text.contains("\nid: "), index + 1 == events.len());
            let data = text.lines().find_map(|line| line.strip_prefix("data: "));
            let data: Value = serde_json::from_str(data.expect("data")).expect("JSON");
            for transaction in data["transactions"].as_array().expect("a list") {
                let xid: usize = transaction["id"]
                    .as_str()
                    .expect("text")
                    .parse()
                    .expect("id");
                told[xid] += transaction["groups"].as_array().expect("a list").len();
            }
        }
        assert_eq!(told, [0, 5000, 1, 9000, 0]);
    }
}
