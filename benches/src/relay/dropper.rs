//! Takes events of changes out of a stream of server-sent events as it passes.

use std::sync::atomic::{AtomicU64, Ordering};

use crate::answer::head_end;

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
    /// What is to be passed on now that these bytes have come; `to_drop` counts down with each event that is not.
    pub(super) fn pass(&mut self, bytes: &[u8], to_drop: &AtomicU64) -> Vec<u8> {
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
                    let kept = keep(&self.rest[start..end], to_drop);
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

/// The events of a chunk without those that are to be dropped. An origin writes each event whole.
fn keep(events: &[u8], to_drop: &AtomicU64) -> Vec<u8> {
    let text = String::from_utf8_lossy(events);
    let is_kept = |event: &&str| {
        let take = |left: u64| left.checked_sub(1);
        !event.starts_with("event: change\n")
            || to_drop
                .fetch_update(Ordering::SeqCst, Ordering::SeqCst, take)
                .is_err()
    };
    let kept: String = text.split_inclusive("\n\n").filter(is_kept).collect();
    kept.into_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;

    const HEAD: &str =
        "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n";
    const CHANGE: &str = "event: change\nid: 1\ndata: {}\n\n";
    const POSITION: &str = "event: position\nid: 2\ndata: {}\n\n";

    fn chunked(data: &str) -> String {
        format!("{:x}\r\n{data}\r\n", data.len())
    }

    fn passed(answer: &str, to_drop: u64, piece: usize) -> (String, u64) {
        let (mut dropper, left) = (Dropper::default(), AtomicU64::new(to_drop));
        let pieces = answer.as_bytes().chunks(piece);
        let passed: Vec<u8> = pieces
            .flat_map(|piece| dropper.pass(piece, &left))
            .collect();
        (
            String::from_utf8(passed).unwrap(),
            left.load(Ordering::SeqCst),
        )
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
            assert_eq!(passed(&answer, 2, piece), (expected, 0));
            assert_eq!(passed(&answer, 0, piece), (answer.clone(), 0));
        }
    }

    #[test]
    fn other_answers_and_the_end_of_a_stream_pass_unchanged() {
        let ended = format!("{HEAD}{}0\r\n\r\n", chunked(POSITION));
        assert_eq!(passed(&ended, 1, 5), (ended.clone(), 1));
        let other = format!("HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n{CHANGE}");
        assert_eq!(passed(&other, 1, 5), (other.clone(), 1));
    }
}
