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
    /// From its opening quote to its closing one, with doubled quotes within.
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
/// A quote opens a field only as its first character, spaces aside; elsewhere it is text. Text
/// behind a closing quote makes text of the whole field, quotes and all. Spaces round a field are
/// not part of it, and zero bytes are looked through, as they will be removed.
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
        return Outcome::Row(finish(bytes, end, repairs));
    }
}

/// The row that ends at `end`, with or without a carriage return.
fn finish(bytes: &[u8], end: usize, mut repairs: Repairs) -> ScannedRow {
    let mut content = end;
    if bytes[..end].ends_with(b"\r") {
        content -= 1;
        repairs.add(Repair::Crlf);
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

/// The comma or line end at or behind `from`, or the end of everything.
fn separator(bytes: &[u8], from: usize, at_end: bool) -> Option<usize> {
    let length = bytes[from..].iter().position(|byte| is_separator(*byte));
    length
        .map(|length| from + length)
        .or_else(|| at_end.then_some(bytes.len()))
}

/// Where the text between `start` and a separator ends: before the carriage return of a line end,
/// and before spaces.
fn text_end(bytes: &[u8], start: usize, separator: usize) -> usize {
    let mut end = separator;
    if bytes.get(separator) != Some(&b',') && bytes[start..end].ends_with(b"\r") {
        end -= 1;
    }
    while end > start && matches!(bytes[end - 1], b' ' | 0) {
        end -= 1;
    }
    end
}

fn unquoted(bytes: &[u8], start: usize, at_end: bool) -> Field {
    let Some(separator) = separator(bytes, start, at_end) else {
        return Field::Incomplete;
    };
    let span = Span {
        start,
        end: text_end(bytes, start, separator),
        shape: Shape::Plain,
    };
    Field::Ends(span, separator)
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
    let behind = close + 1;
    let Some(separator) = separator(bytes, behind, at_end) else {
        return Field::Incomplete;
    };
    let text_end = text_end(bytes, behind, separator);
    let (start, end, shape) = if text_end > behind {
        (open, text_end, Shape::Plain)
    } else if has_escape {
        (open, behind, Shape::Escaped)
    } else {
        (start, close, Shape::Plain)
    };
    Field::Ends(Span { start, end, shape }, separator)
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

/// Appends a field that stands between quotes, each of those within doubled.
fn unescape(scratch: &mut Vec<u8>, bytes: impl Iterator<Item = u8>) {
    let mut bytes = bytes.skip(1).peekable();
    while let Some(byte) = bytes.next() {
        if byte != b'"' {
            scratch.push(byte);
        } else if bytes.next_if_eq(&b'"').is_some() {
            scratch.push(b'"');
        }
    }
}
