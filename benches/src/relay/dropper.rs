//! Takes changes out of a stream of server-sent events as it passes: whole events, or what they tell.

use std::sync::atomic::{AtomicU64, Ordering};

use serde_json::{Value, json};

use crate::answer::head_end;

/// What is to be lost of a stream; each counts down as it is done.
#[derive(Debug, Default)]
pub(super) struct Losses {
    /// Events of changes.
    pub(super) events: AtomicU64,
    /// Events of changes that come, and tell of no transaction.
    pub(super) contents: AtomicU64,
}

/// How far the answers of one connection have been read.
#[derive(Default)]
pub(super) struct Dropper {
    state: State,
    rest: Vec<u8>,
}

#[derive(Default, PartialEq, Eq)]
enum State {
    #[default]
    Head,
    /// The chunks of a stream.
    Stream,
    /// Anything else, and all that follows it on the connection.
    Other,
}

impl Dropper {
    /// What is to be passed on now that these bytes have come.
    pub(super) fn pass(&mut self, bytes: &[u8], losses: &Losses) -> Vec<u8> {
        self.rest.extend_from_slice(bytes);
        let mut passed = Vec::new();
        loop {
            match self.state {
                State::Head => {
                    let Some(end) = head_end(&self.rest) else {
                        return passed;
                    };
                    let head = String::from_utf8_lossy(&self.rest[..end]).to_ascii_lowercase();
                    let is_stream = head.contains("text/event-stream") && head.contains("chunked");
                    passed.extend(self.rest.drain(..end));
                    self.state = if is_stream {
                        State::Stream
                    } else {
                        State::Other
                    };
                }
                State::Stream => {
                    let Some((start, end)) = chunk(&self.rest) else {
                        return passed;
                    };
                    let kept = keep(&self.rest[start..end], losses);
                    // An empty chunk would be the last one.
                    if start == end || !kept.is_empty() {
                        passed.extend(format!("{:x}\r\n", kept.len()).into_bytes());
                        passed.extend(kept);
                        passed.extend(b"\r\n");
                    }
                    self.rest.drain(..end + 2);
                }
                State::Other => {
                    passed.append(&mut self.rest);
                    return passed;
                }
            }
        }
    }
}

/// Where the data of the first chunk begin and end, if all of it is there.
fn chunk(bytes: &[u8]) -> Option<(usize, usize)> {
    let line = bytes.windows(2).position(|pair| pair == b"\r\n")?;
    let size = std::str::from_utf8(&bytes[..line]).ok()?;
    let size = usize::from_str_radix(size, 16).ok()?;
    let (start, end) = (line + 2, line + 2 + size);
    (bytes.len() >= end + 2).then_some((start, end))
}

/// The events of a chunk without what is to be lost. An origin writes each event whole.
fn keep(events: &[u8], losses: &Losses) -> Vec<u8> {
    let text = String::from_utf8_lossy(events);
    let kept = text.split_inclusive("\n\n").filter_map(|event| {
        if !event.starts_with("event: change\n") {
            Some(event.to_owned())
        } else if takes(&losses.events) {
            None
        } else if takes(&losses.contents) {
            Some(emptied(event))
        } else {
            Some(event.to_owned())
        }
    });
    kept.collect::<String>().into_bytes()
}

fn takes(left: &AtomicU64) -> bool {
    let take = |left: u64| left.checked_sub(1);
    left.fetch_update(Ordering::SeqCst, Ordering::SeqCst, take)
        .is_ok()
}

/// The same event, as if no transaction had been in it.
fn emptied(event: &str) -> String {
    let empty = |line: &str| {
        let data = line.strip_prefix("data: ")?;
        let mut data: Value = serde_json::from_str(data).ok()?;
        *data.get_mut("transactions")? = json!([]);
        Some(format!("data: {data}"))
    };
    let lines = event
        .lines()
        .map(|line| empty(line).unwrap_or_else(|| line.to_owned()) + "\n");
    lines.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const HEAD: &str =
        "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n";
    const CHANGE: &str =
        "event: change\nid: 1\ndata: {\"poll\":1,\"transactions\":[{\"id\":\"5\"}]}\n\n";
    const EMPTIED: &str = "event: change\nid: 1\ndata: {\"poll\":1,\"transactions\":[]}\n\n";
    const POSITION: &str = "event: position\nid: 2\ndata: {}\n\n";

    fn chunked(data: &str) -> String {
        format!("{:x}\r\n{data}\r\n", data.len())
    }

    fn losses(events: u64, contents: u64) -> Losses {
        Losses {
            events: AtomicU64::new(events),
            contents: AtomicU64::new(contents),
        }
    }

    fn passed(answer: &str, losses: &Losses, piece: usize) -> String {
        let mut dropper = Dropper::default();
        let pieces = answer.as_bytes().chunks(piece);
        let passed: Vec<u8> = pieces
            .flat_map(|piece| dropper.pass(piece, losses))
            .collect();
        String::from_utf8(passed).unwrap()
    }

    #[test]
    fn so_many_changes_are_dropped_and_nothing_else_however_the_bytes_come() {
        let both = format!("{CHANGE}{POSITION}");
        let answer = format!(
            "{HEAD}{}{}{}",
            chunked(CHANGE),
            chunked(&both),
            chunked(CHANGE)
        );
        for piece in [1, 7, 1_000] {
            let expected = format!("{HEAD}{}{}", chunked(POSITION), chunked(CHANGE));
            let lost = losses(2, 0);
            assert_eq!(passed(&answer, &lost, piece), expected);
            assert_eq!(lost.events.load(Ordering::SeqCst), 0);
            assert_eq!(passed(&answer, &losses(0, 0), piece), answer);
        }
    }

    #[test]
    fn a_change_may_come_without_what_it_tells() {
        let answer = format!("{HEAD}{}{}", chunked(CHANGE), chunked(CHANGE));
        let expected = format!("{HEAD}{}{}", chunked(EMPTIED), chunked(CHANGE));
        assert_eq!(passed(&answer, &losses(0, 1), 7), expected);
    }

    #[test]
    fn other_answers_and_the_end_of_a_stream_pass_unchanged() {
        let ended = format!("{HEAD}{}0\r\n\r\n", chunked(POSITION));
        assert_eq!(passed(&ended, &losses(1, 1), 5), ended);
        let other = format!("HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n{CHANGE}");
        assert_eq!(passed(&other, &losses(1, 1), 5), other);
    }
}
