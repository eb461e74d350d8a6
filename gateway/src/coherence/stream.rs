//! Server-sent events, as they come: bytes in pieces of any size, messages out.

use std::mem;

/// Bytes of one line at most: the events of a tailer have about 32 KiB, unless one group alone is longer.
const LINE_BYTES_MAX: usize = 256 * 1024;
/// Bytes of one message's data at most.
const DATA_BYTES_MAX: usize = 512 * 1024;

/// One message, dispatched by an empty line.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Message {
    /// `event`.
    pub event: String,
    /// `id`, if the message has one.
    pub id: Option<String>,
    /// `data`; several lines are joined by line feeds.
    pub data: String,
}

/// Why a stream cannot be read on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum BadStream {
    /// More bytes than the limits.
    #[error("a line or message of the stream is too long")]
    TooLong,
    /// The bytes are no UTF-8.
    #[error("the stream is no text")]
    NotText,
}

/// Reads a stream; holds at most one line and one message.
#[derive(Debug, Default)]
pub struct Parser {
    line: Vec<u8>,
    message: Message,
    /// The last byte was a carriage return: a line feed that follows belongs to it.
    after_return: bool,
}

impl Parser {
    /// Takes the next bytes and returns the messages that they complete.
    ///
    /// # Errors
    /// The stream breaks a limit, or is no text; nothing more of it can be used.
    pub fn feed(&mut self, mut bytes: &[u8]) -> Result<Vec<Message>, BadStream> {
        let mut messages = Vec::new();
        if self.after_return && !bytes.is_empty() {
            bytes = bytes.strip_prefix(b"\n").unwrap_or(bytes);
            self.after_return = false;
        }
        while let Some(end) = bytes.iter().position(|byte| matches!(byte, b'\n' | b'\r')) {
            self.extend(&bytes[..end])?;
            messages.extend(self.end_line()?);
            let rest = &bytes[end + 1..];
            let is_return = bytes[end] == b'\r';
            self.after_return = is_return && rest.is_empty();
            bytes = match rest {
                [b'\n', rest @ ..] if is_return => rest,
                rest => rest,
            };
        }
        self.extend(bytes)?;
        Ok(messages)
    }

    fn extend(&mut self, bytes: &[u8]) -> Result<(), BadStream> {
        if self.line.len() + bytes.len() > LINE_BYTES_MAX {
            return Err(BadStream::TooLong);
        }
        self.line.extend_from_slice(bytes);
        Ok(())
    }

    fn end_line(&mut self) -> Result<Option<Message>, BadStream> {
        let line = str::from_utf8(&self.line).map_err(|_| BadStream::NotText)?;
        if line.is_empty() {
            let mut message = mem::take(&mut self.message);
            let ends_message = !message.data.is_empty();
            message.data.pop(); // the line feed behind its last line
            return Ok(ends_message.then_some(message));
        }
        // A comment is a line without a name.
        let (name, value) = line.split_once(':').unwrap_or((line, ""));
        let value = value.strip_prefix(' ').unwrap_or(value);
        match name {
            "event" => value.clone_into(&mut self.message.event),
            "id" => self.message.id = Some(value.to_owned()),
            "data" => {
                if self.message.data.len() + value.len() >= DATA_BYTES_MAX {
                    return Err(BadStream::TooLong);
                }
                self.message.data.push_str(value);
                self.message.data.push('\n');
            }
            _ => {}
        }
        self.line.clear();
        Ok(None)
    }
}

#[cfg(test)]
mod tests {
    use proptest::collection::vec;
    use proptest::prelude::*;

    use super::*;

    fn written(message: &Message, end: &str) -> String {
        let mut text = String::new();
        if !message.event.is_empty() {
            text.push_str(&format!("event: {}{end}", message.event));
        }
        if let Some(id) = &message.id {
            text.push_str(&format!("id: {id}{end}"));
        }
        for line in message.data.split('\n') {
            text.push_str(&format!(": a comment{end}data: {line}{end}retry: 1{end}"));
        }
        text + end
    }

    fn messages() -> impl Strategy<Value = Vec<Message>> {
        let message = (
            "[a-z]{0,5}",
            proptest::option::of("[0-9:@]{0,9}"),
            "[^\r]{0,20}",
        );
        vec(
            message.prop_map(|(event, id, data)| Message { event, id, data }),
            0..6,
        )
    }

    proptest! {
        #[test]
        fn messages_are_the_same_however_the_bytes_are_cut(
            sent in messages(),
            ends in vec(prop_oneof![Just("\n"), Just("\r\n"), Just("\r")], 6),
            cuts in vec(1..9_usize, 1..40),
        ) {
            let bytes: Vec<u8> = sent.iter().zip(&ends)
                .flat_map(|(message, end)| written(message, end).into_bytes())
                .collect();
            let mut parser = Parser::default();
            let mut read = Vec::new();
            let mut rest = bytes.as_slice();
            for cut in cuts.iter().cycle() {
                if rest.is_empty() {
                    break;
                }
                let (piece, later) = rest.split_at(rest.len().min(*cut));
                read.extend(parser.feed(piece).unwrap());
                rest = later;
            }
            prop_assert_eq!(read, sent);
        }

        #[test]
        fn any_bytes_are_read_without_a_panic(pieces in vec(vec(any::<u8>(), 0..50), 0..9)) {
            let mut parser = Parser::default();
            for piece in pieces {
                if parser.feed(&piece).is_err() {
                    break;
                }
            }
        }
    }

    #[test]
    fn what_has_no_data_is_no_message() {
        let mut parser = Parser::default();
        assert_eq!(
            parser.feed(b"event: change\nid: 5\n\n: beat\n\n"),
            Ok(vec![])
        );
        let told = parser.feed(b"data:x\n\n").unwrap();
        assert_eq!(told[0].id, None, "an id belongs to its own message");
    }

    #[test]
    fn a_line_or_message_beyond_its_limit_ends_the_stream() {
        let mut parser = Parser::default();
        let piece = vec![b'a'; LINE_BYTES_MAX / 4];
        for _ in 0..4 {
            assert_eq!(parser.feed(&piece), Ok(vec![]));
        }
        assert_eq!(parser.feed(b"a"), Err(BadStream::TooLong));

        let mut parser = Parser::default();
        let line = [b"data: ".as_slice(), &piece, b"\n"].concat();
        let mut told = Ok(vec![]);
        for _ in 0..9 {
            told = parser.feed(&line);
            if told.is_err() {
                break;
            }
        }
        assert_eq!(told, Err(BadStream::TooLong));
        assert_eq!(
            Parser::default().feed(b"data: \xff\n"),
            Err(BadStream::NotText)
        );
    }
}
