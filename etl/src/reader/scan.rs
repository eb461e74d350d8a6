//! Finds where the fields of one row begin and end. Pure: bytes in, spans out.

use memchr::memchr;

use crate::reject::{Repair, Repairs};

/// A row with more columns than this is not scanned to its end: a bound on how far a wrong quote
/// can lead astray.
const COLUMNS_MAX: usize = 32;

/// Where a field stands in the text of its row.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Span {
    pub(super) start: usize,
    pub(super) end: usize,
    pub(super) shape: Shape,
}

/// How a span is to be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Shape {
    /// As it is.
    Plain,
    /// From its opening quote on, with doubled quotes or text behind the closing one.
    Escaped,
    /// Already read, into the buffer of copies.
    Copied,
}

/// What stands at the beginning of some bytes.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Outcome {
    Row(ScannedRow),
    /// The bytes end before the row does.
    Incomplete,
    /// A quoted field has no end, or is too long.
    BadQuote,
    TooManyColumns,
}

#[derive(Debug, PartialEq, Eq)]
pub(super) struct ScannedRow {
    /// Bytes with the line end.
    pub(super) consumed: usize,
    /// Bytes without it.
    pub(super) content: usize,
    pub(super) repairs: Repairs,
}

/// How a field ended.
enum Field {
    /// Its span, and the offset of the comma or line end behind it; the length of the bytes at
    /// their end.
    Ends(Span, usize),
    Incomplete,
    BadQuote,
}

/// Scans the row at the beginning of `bytes`; `at_end` says that nothing follows them.
///
/// A quote opens a field only as its first character, spaces aside; elsewhere it is text, as is
/// what follows a closing quote up to the next comma. Zero bytes are looked through, as they will
/// be removed.
pub(super) fn row(bytes: &[u8], at_end: bool, quoted_max: usize, spans: &mut Vec<Span>) -> Outcome {
    spans.clear();
    let mut repairs = Repairs::default();
    let mut at = 0;
    loop {
        let mut start = at;
        while matches!(bytes.get(start), Some(b' ' | 0)) {
            if bytes[start] == b' ' {
                repairs.add(Repair::LeadingSpace);
            }
            start += 1;
        }
        let field = if bytes.get(start) == Some(&b'"') {
            quoted(bytes, start, at_end, quoted_max)
        } else {
            unquoted(bytes, start, at_end)
        };
        let (span, end) = match field {
            Field::Ends(span, end) => (span, end),
            Field::Incomplete => return Outcome::Incomplete,
            Field::BadQuote => return Outcome::BadQuote,
        };
        if spans.len() == COLUMNS_MAX {
            return Outcome::TooManyColumns;
        }
        spans.push(span);
        if bytes.get(end) == Some(&b',') {
            at = end + 1;
            continue;
        }
        return Outcome::Row(finish(bytes, end, spans, repairs));
    }
}

/// Takes a carriage return off the last field.
fn finish(bytes: &[u8], end: usize, spans: &mut [Span], mut repairs: Repairs) -> ScannedRow {
    let mut content = end;
    if bytes[..end].ends_with(b"\r") {
        content -= 1;
        repairs.add(Repair::Crlf);
        if let Some(last) = spans.last_mut() {
            last.end = last.end.min(content);
        }
    }
    ScannedRow {
        consumed: (end + 1).min(bytes.len()),
        content,
        repairs,
    }
}

fn is_separator(byte: u8) -> bool {
    byte == b',' || byte == b'\n'
}

fn unquoted(bytes: &[u8], start: usize, at_end: bool) -> Field {
    match bytes[start..].iter().position(|byte| is_separator(*byte)) {
        Some(length) => Field::Ends(
            Span {
                start,
                end: start + length,
                shape: Shape::Plain,
            },
            start + length,
        ),
        None if at_end => Field::Ends(
            Span {
                start,
                end: bytes.len(),
                shape: Shape::Plain,
            },
            bytes.len(),
        ),
        None => Field::Incomplete,
    }
}

/// A field whose opening quote stands at `open`.
fn quoted(bytes: &[u8], open: usize, at_end: bool, quoted_max: usize) -> Field {
    let start = open + 1;
    let mut from = start;
    let mut has_escape = false;
    let close = loop {
        let Some(length) = memchr(b'"', &bytes[from..]) else {
            let is_hopeless = at_end || bytes.len() - start > quoted_max;
            return if is_hopeless {
                Field::BadQuote
            } else {
                Field::Incomplete
            };
        };
        let quote = from + length;
        if quote - start > quoted_max {
            return Field::BadQuote;
        }
        let next = bytes[quote + 1..]
            .iter()
            .position(|byte| *byte != 0)
            .map(|zeros| quote + 1 + zeros);
        match next {
            Some(next) if bytes[next] == b'"' => {
                has_escape = true;
                from = next + 1;
            }
            Some(_) => break quote,
            None if at_end => break quote,
            None => return Field::Incomplete,
        }
    };
    let end = match bytes[close + 1..]
        .iter()
        .position(|byte| is_separator(*byte))
    {
        Some(length) => close + 1 + length,
        None if at_end => bytes.len(),
        None => return Field::Incomplete,
    };
    let has_tail = !matches!(&bytes[close + 1..end], b"" | b"\r");
    if has_escape || has_tail {
        return Field::Ends(
            Span {
                start: open,
                end,
                shape: Shape::Escaped,
            },
            end,
        );
    }
    Field::Ends(
        Span {
            start,
            end: close,
            shape: Shape::Plain,
        },
        end,
    )
}

impl Span {
    /// Reads the field, without escapes and zero bytes, into `scratch`, and points there.
    pub(super) fn copy_to(&mut self, scratch: &mut Vec<u8>, text: &[u8]) {
        let from = scratch.len();
        let bytes = text[self.start..self.end]
            .iter()
            .copied()
            .filter(|byte| *byte != 0);
        match self.shape {
            Shape::Plain => scratch.extend(bytes),
            Shape::Escaped => unescape(scratch, bytes),
            Shape::Copied => return,
        }
        *self = Self {
            start: from,
            end: scratch.len(),
            shape: Shape::Copied,
        };
    }
}

/// Appends a field that begins with its opening quote.
fn unescape(scratch: &mut Vec<u8>, bytes: impl Iterator<Item = u8>) {
    let mut bytes = bytes.skip(1).peekable();
    while let Some(byte) = bytes.next() {
        if byte != b'"' {
            scratch.push(byte);
        } else if bytes.next_if_eq(&b'"').is_some() {
            scratch.push(b'"');
        } else {
            // Closed: the rest is text.
            scratch.extend(bytes);
            return;
        }
    }
}
