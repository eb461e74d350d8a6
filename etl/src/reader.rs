//! Reads rows from dirty CSV, byte by byte and never more than a bounded number of them.
//!
//! It never fails on what a file contains: every byte after the header belongs to exactly one row,
//! a blank line, or a line end, and every row is either a list of fields or a [`Fault`] for which to
//! refuse it. Fields are slices of the read buffer; only those that hold escapes or zero bytes are
//! copied, into a buffer that is used again.

mod scan;

use std::io::{self, Read};

use memchr::{memchr, memchr_iter};

use crate::reject::{Fault, Position, Reason, Repair, Repairs};
use scan::{Outcome, Shape, Span};

/// The longest quoted field, in bytes between its quotes. A missing quote swallows at most this
/// much before it is noticed.
pub const QUOTED_BYTES_MAX: usize = 1 << 20;
/// The longest row. More than any honest row, and little enough to hold.
pub const ROW_BYTES_MAX: usize = 16 << 20;
/// What of a row past [`ROW_BYTES_MAX`] is kept for the file of refused rows.
const LONG_ROW_KEPT: usize = 64 << 10;
/// What is read at once.
const BLOCK_BYTES: usize = 256 << 10;
/// A byte order mark.
const BOM: &[u8] = b"\xef\xbb\xbf";

/// How rows end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Dialect {
    /// At a line end outside quotes.
    Quoted,
    /// At each line end: quotes are missing there, and a quote added to a line that has an odd
    /// number of them.
    Lines,
}

/// A row: its fields, or why it has none.
#[derive(Debug, Clone, Copy)]
pub struct RawRow<'a> {
    /// Where it stands.
    pub position: Position,
    /// Its bytes without the line end.
    pub raw: &'a [u8],
    /// What was repaired to tell its fields apart.
    pub repairs: Repairs,
    /// Its fields.
    pub fields: Result<Fields<'a>, Fault>,
}

/// The fields of a row: valid UTF-8, without quotes, escapes, zero bytes and spaces round them.
#[derive(Debug, Clone, Copy)]
pub struct Fields<'a> {
    text: &'a [u8],
    scratch: &'a [u8],
    spans: &'a [Span],
}

impl<'a> Fields<'a> {
    /// How many there are.
    #[must_use]
    pub fn len(self) -> usize {
        self.spans.len()
    }

    /// Whether there are none; there is always one.
    #[must_use]
    pub fn is_empty(self) -> bool {
        self.spans.is_empty()
    }

    /// One of them; empty if there is no such column.
    #[must_use]
    pub fn get(self, column: usize) -> &'a [u8] {
        match self.spans.get(column) {
            Some(Span {
                start,
                end,
                shape: Shape::Copied,
            }) => &self.scratch[*start..*end],
            Some(Span { start, end, .. }) => &self.text[*start..*end],
            None => &[],
        }
    }
}

/// Reads rows one after the other; one row is held at a time.
#[derive(Debug)]
pub struct Reader<R> {
    source: R,
    dialect: Dialect,
    /// Bytes read: `buf[start..end]` are still to be looked at, the first of them at `position`.
    buf: Vec<u8>,
    start: usize,
    end: usize,
    at_end: bool,
    /// Whether what follows, up to the next line end, belongs to a row that was too long and has
    /// been lent out.
    in_long_row: bool,
    position: Position,
    has_bom: bool,
    spans: Vec<Span>,
    scratch: Vec<u8>,
    mended: Vec<u8>,
}

/// What the next row was found to be, before it is lent out.
struct Found {
    /// Bytes to pass over to be at the next row.
    consumed: usize,
    /// Bytes of the row itself.
    content: usize,
    repairs: Repairs,
    outcome: Result<Source, Fault>,
}

/// Where the spans of a row point.
#[derive(Clone, Copy)]
enum Source {
    Buffer,
    Mended,
}

impl<R: Read> Reader<R> {
    /// Starts at the first byte of a file; passes over a byte order mark.
    ///
    /// # Errors
    /// If the source cannot be read.
    pub fn new(source: R, dialect: Dialect) -> io::Result<Self> {
        let mut reader = Self {
            source,
            dialect,
            buf: Vec::new(),
            start: 0,
            end: 0,
            at_end: false,
            in_long_row: false,
            position: Position {
                line: 1,
                byte_offset: 0,
            },
            has_bom: false,
            spans: Vec::new(),
            scratch: Vec::new(),
            mended: Vec::new(),
        };
        reader.fill()?;
        if reader.rest().starts_with(BOM) {
            reader.has_bom = true;
            reader.advance(BOM.len());
        }
        Ok(reader)
    }

    /// Whether the file begins with a byte order mark.
    pub fn has_bom(&self) -> bool {
        self.has_bom
    }

    /// Where the bytes come from.
    pub fn source(&self) -> &R {
        &self.source
    }

    /// How many bytes of the file have been passed over.
    pub fn bytes_read(&self) -> u64 {
        self.position.byte_offset
    }

    /// The next row, or `None` at the end of the file.
    ///
    /// # Errors
    /// If the source cannot be read; never for what it holds.
    pub fn next_row(&mut self) -> io::Result<Option<RawRow<'_>>> {
        self.skip_to_row()?;
        if self.start == self.end {
            return Ok(None);
        }
        let mut found = match self.dialect {
            Dialect::Quoted => self.find_row()?,
            Dialect::Lines => self.find_line()?,
        };
        let range = self.start..self.start + found.content;
        let position = self.position;
        if let Ok(source) = found.outcome {
            found.outcome = self.finish_fields(source, &mut found);
        }
        self.advance(found.consumed);
        let raw = &self.buf[range];
        let fields = found.outcome.map(|source| Fields {
            text: match source {
                Source::Buffer => raw,
                Source::Mended => &self.mended,
            },
            scratch: &self.scratch,
            spans: &self.spans,
        });
        Ok(Some(RawRow {
            position,
            raw,
            repairs: found.repairs,
            fields,
        }))
    }

    fn rest(&self) -> &[u8] {
        &self.buf[self.start..self.end]
    }

    /// Passes over bytes, counting their line ends.
    fn advance(&mut self, bytes: usize) {
        let passed = &self.buf[self.start..self.start + bytes];
        self.position.line += memchr_iter(b'\n', passed).count() as u64;
        self.position.byte_offset += bytes as u64;
        self.start += bytes;
    }

    /// Reads until the buffer is full or the source at its end. What is left moves to the front; if
    /// that is already the whole buffer, the buffer is doubled.
    fn fill(&mut self) -> io::Result<()> {
        let left = self.end - self.start;
        self.buf.copy_within(self.start..self.end, 0);
        self.start = 0;
        self.end = left;
        if left == self.buf.len() {
            self.buf.resize((left * 2).max(BLOCK_BYTES), 0);
        } else if self.buf.len() > BLOCK_BYTES && left < BLOCK_BYTES / 2 {
            self.buf.truncate(BLOCK_BYTES);
            self.buf.shrink_to_fit();
        }
        while self.end < self.buf.len() {
            match self.source.read(&mut self.buf[self.end..]) {
                Ok(0) => {
                    self.at_end = true;
                    break;
                }
                Ok(bytes) => self.end += bytes,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    /// Passes over blank lines, and over what is left of a row that was too long.
    fn skip_to_row(&mut self) -> io::Result<()> {
        loop {
            let rest = &self.buf[self.start..self.end];
            let blank = if self.in_long_row {
                let line_end = memchr(b'\n', rest);
                self.in_long_row = line_end.is_none();
                line_end.map_or(rest.len(), |at| at + 1)
            } else if rest.starts_with(b"\n") {
                1
            } else if rest.starts_with(b"\r\n") {
                2
            } else {
                usize::from(self.at_end && rest == b"\r")
            };
            self.advance(blank);
            let undecided = self.start == self.end || self.rest() == b"\r";
            if undecided && !self.at_end {
                self.fill()?;
            } else if blank == 0 || self.start == self.end {
                return Ok(());
            }
        }
    }

    /// A row that ends outside quotes.
    fn find_row(&mut self) -> io::Result<Found> {
        loop {
            let rest = &self.buf[self.start..self.end];
            match scan::row(rest, self.at_end, QUOTED_BYTES_MAX, &mut self.spans) {
                Outcome::Row(row) => {
                    return Ok(Found {
                        consumed: row.consumed,
                        content: row.content,
                        repairs: row.repairs,
                        outcome: Ok(Source::Buffer),
                    });
                }
                Outcome::Incomplete if rest.len() < ROW_BYTES_MAX => self.fill()?,
                Outcome::Incomplete => return self.refuse_line(Reason::RowTooLong.into()),
                Outcome::BadQuote => {
                    return self.refuse_line(Reason::BadQuote.at(self.spans.len()));
                }
                Outcome::TooManyColumns => return self.refuse_line(Reason::ColumnCount.into()),
            }
        }
    }

    /// A row that is one line, with a quote added if one is missing.
    fn find_line(&mut self) -> io::Result<Found> {
        let mut found = self.refuse_line(Reason::RowTooLong.into())?;
        if self.in_long_row {
            return Ok(found);
        }
        let line = &self.buf[self.start..self.start + found.content];
        let is_odd = memchr_iter(b'"', line).count() % 2 == 1;
        let mut scanned = scan::row(line, true, usize::MAX, &mut self.spans);
        let mut source = Source::Buffer;
        if is_odd || matches!(scanned, Outcome::BadQuote) {
            found.repairs.add(Repair::UnclosedQuote);
            self.mended.clear();
            self.mended.extend_from_slice(line);
            self.mended.push(b'"');
            scanned = scan::row(&self.mended, true, usize::MAX, &mut self.spans);
            source = Source::Mended;
            if matches!(scanned, Outcome::BadQuote) {
                // The odd quote stands within a field, and the one that was added opened what it
                // should close.
                self.mended.pop();
                scanned = scan::row(&self.mended, true, usize::MAX, &mut self.spans);
            }
        }
        found.outcome = match scanned {
            Outcome::Row(row) => {
                if row.repairs.contains(Repair::LeadingSpace) {
                    found.repairs.add(Repair::LeadingSpace);
                }
                Ok(source)
            }
            Outcome::TooManyColumns => Err(Reason::ColumnCount.into()),
            Outcome::Incomplete | Outcome::BadQuote => Err(Reason::BadQuote.at(self.spans.len())),
        };
        Ok(found)
    }

    /// The line that begins here, refused.
    fn refuse_line(&mut self, fault: Fault) -> io::Result<Found> {
        let mut searched = 0;
        loop {
            let rest = &self.buf[self.start..self.end];
            let line_end = memchr(b'\n', &rest[searched..]).map(|at| searched + at);
            searched = rest.len();
            if line_end.is_none() && !self.at_end && searched < ROW_BYTES_MAX {
                self.fill()?;
                continue;
            }
            let mut repairs = Repairs::default();
            let mut content = line_end.unwrap_or(searched);
            if rest[..content].ends_with(b"\r") {
                content -= 1;
                repairs.add(Repair::Crlf);
            }
            if line_end.is_none() && !self.at_end {
                self.in_long_row = true;
                content = LONG_ROW_KEPT;
            }
            let consumed = line_end.map_or(searched, |at| at + 1);
            return Ok(Found {
                consumed,
                content,
                repairs,
                outcome: Err(fault),
            });
        }
    }

    /// Checks that the row is UTF-8 and copies those of its fields that hold escapes or zero bytes.
    fn finish_fields(&mut self, source: Source, found: &mut Found) -> Result<Source, Fault> {
        let raw = &self.buf[self.start..self.start + found.content];
        if let Err(error) = std::str::from_utf8(raw) {
            // What was mended differs from the row at its end only.
            let mut ends = self.spans.iter().map(|span| span.end);
            return Err(match ends.position(|end| error.valid_up_to() < end) {
                Some(column) => Reason::InvalidUtf8.at(column),
                None => Reason::InvalidUtf8.into(),
            });
        }
        let has_nul = memchr(0, raw).is_some();
        if has_nul {
            found.repairs.add(Repair::NulRemoved);
        }
        let text = match source {
            Source::Buffer => raw,
            Source::Mended => &self.mended,
        };
        self.scratch.clear();
        for span in &mut self.spans {
            if has_nul || span.shape == Shape::Escaped {
                span.copy_to(&mut self.scratch, text);
            }
        }
        Ok(source)
    }
}

#[cfg(test)]
mod tests;
