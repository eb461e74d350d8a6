//! Writes the cells of one line into the buffer of its file, with the dirt that the line is to
//! have.

use super::plan::Dice;
use crate::reject::{Reason, Repair};

/// What is wrong with a line.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Dirt {
    None,
    Repair(Repair),
    /// The reason, and which of the ways of being wrong for it.
    Reject(Reason, u64),
}

/// A line that is being written.
#[derive(Debug)]
pub(super) struct Line {
    pub(super) out: Vec<u8>,
    cells: u32,
    last_cell: usize,
    dirt: Dirt,
    /// A byte to be slipped into the next text, or at the end of the line if it has none.
    stray_byte: Option<u8>,
    /// Whether a fault of the line has been written; without it the line would be a good one.
    is_spoilt: bool,
}

impl Line {
    pub(super) fn new(capacity: usize) -> Self {
        Self {
            out: Vec::with_capacity(capacity),
            cells: 0,
            last_cell: 0,
            dirt: Dirt::None,
            stray_byte: None,
            is_spoilt: false,
        }
    }

    pub(super) fn begin(&mut self, dirt: Dirt) {
        self.cells = 0;
        self.dirt = dirt;
        self.stray_byte = match dirt {
            Dirt::Repair(Repair::NulRemoved) => Some(0),
            Dirt::Reject(Reason::InvalidUtf8, _) => Some(0xff),
            _ => None,
        };
        // Those two are wrong in where they point, which is the caller's choice.
        self.is_spoilt = !matches!(dirt, Dirt::Reject(reason, _)
            if !matches!(reason, Reason::DuplicateId | Reason::DanglingParent));
    }

    pub(super) fn end(&mut self, line_end: &[u8]) {
        if let Some(byte) = self.stray_byte.take() {
            self.out.push(byte);
            self.is_spoilt = true;
        }
        if let Dirt::Reject(Reason::ColumnCount, way) = self.dirt {
            match way % 2 {
                0 => self.out.extend_from_slice(b",more"),
                _ => self.out.truncate(self.last_cell - 1),
            }
            self.is_spoilt = true;
        }
        debug_assert!(
            self.is_spoilt,
            "a fault was planned that this line cannot have: {:?}",
            self.dirt
        );
        self.out.extend_from_slice(line_end);
    }

    pub(super) fn has(&self, repair: Repair) -> bool {
        self.dirt == Dirt::Repair(repair)
    }

    /// Whether the line has this fault and still lacks it; and in which way.
    pub(super) fn spoil(&mut self, reason: Reason) -> Option<u64> {
        match self.dirt {
            Dirt::Reject(planned, way) if planned == reason && !self.is_spoilt => {
                self.is_spoilt = true;
                Some(way)
            }
            _ => None,
        }
    }

    /// Begins a cell.
    pub(super) fn cell(&mut self) -> &mut Vec<u8> {
        if self.cells > 0 {
            self.out.push(b',');
            self.last_cell = self.out.len();
            if self.has(Repair::LeadingSpace) {
                self.out.push(b' ');
            }
        }
        self.cells += 1;
        &mut self.out
    }

    /// A cell as it is.
    pub(super) fn raw(&mut self, text: &[u8]) {
        self.cell().extend_from_slice(text);
    }

    pub(super) fn number(&mut self, number: u64) {
        digits(self.cell(), number);
    }

    /// The id of the row, or something that is none.
    pub(super) fn id(&mut self, id: u64) {
        const WRONG: [&str; 7] = [
            "12x",
            "2147483648",
            "0",
            "-7",
            "",
            "1.5",
            "99999999999999999999999",
        ];
        match self.spoil(Reason::BadInteger) {
            Some(way) => self.raw(WRONG[(way % 7) as usize].as_bytes()),
            None => self.number(id),
        }
    }

    /// A rating or vote.
    pub(super) fn stars(&mut self, stars: u32) {
        match self.spoil(Reason::OutOfRange) {
            Some(way) => self.raw([b"0".as_slice(), b"6", b"-1"][(way % 3) as usize]),
            None => self.number(u64::from(stars)),
        }
    }

    /// A boolean in one of its two spellings; one in a thousand has the other one.
    pub(super) fn boolean(&mut self, value: bool, words: bool, dice: &mut Dice) {
        if let Some(way) = self.spoil(Reason::BadBoolean) {
            return self.raw([b"maybe".as_slice(), b"2", b""][(way % 3) as usize]);
        }
        let text: &[u8] = match (words != dice.one_in(1000), value) {
            (true, true) => b"true",
            (true, false) => b"false",
            (false, true) => b"1",
            (false, false) => b"0",
        };
        self.raw(text);
    }

    /// A moment in milliseconds since 1970, or as text.
    pub(super) fn date(&mut self, millis: u64, dice: &mut Dice) {
        if let Some(way) = self.spoil(Reason::BadDate) {
            return self.raw(
                [
                    b"yesterday".as_slice(),
                    b"2021-02-30",
                    b"2021-13-01T00:00:00Z",
                    b"",
                ][(way % 4) as usize],
            );
        }
        if !self.has(Repair::DateText) {
            return self.number(millis);
        }
        let moment =
            chrono::DateTime::from_timestamp_millis(millis.cast_signed()).unwrap_or_default();
        let text = match dice.below(3) {
            0 => moment.format("\"%Y-%m-%d\"").to_string(),
            1 => moment.format("%Y-%m-%dT%H:%M:%S%.3fZ").to_string(),
            _ => moment.format("\"%Y-%m-%dT%H:%M:%S+00:00\"").to_string(),
        };
        self.raw(text.as_bytes());
    }

    /// A price in whole dollars.
    pub(super) fn price(&mut self, dollars: u64) {
        if let Some(way) = self.spoil(Reason::BadPrice) {
            const WRONG: [&str; 6] = ["free", "-5", "19.99", "12 EUR", "", "5000001"];
            return self.raw(WRONG[(way % 6) as usize].as_bytes());
        }
        let label: &[u8] = match () {
            () if self.has(Repair::PriceLabel) => b"\"default_price\": ",
            () if self.has(Repair::DollarSign) => b"$",
            () => b"",
        };
        let out = self.cell();
        out.extend_from_slice(label);
        digits(out, dollars);
    }

    /// A quoted cell that `write` fills, with quotes doubled.
    pub(super) fn quoted(&mut self, write: impl FnOnce(&mut Vec<u8>)) {
        let stray = self.stray_byte.take();
        self.is_spoilt |= stray.is_some();
        let out = self.cell();
        out.push(b'"');
        write(out);
        out.extend(stray);
        out.push(b'"');
    }

    /// A quoted cell.
    pub(super) fn text(&mut self, text: &str) {
        self.quoted(|out| out.extend_from_slice(text.as_bytes()));
    }
}

/// Writes a number in decimal.
pub(super) fn digits(out: &mut Vec<u8>, mut number: u64) {
    /// As many digits as 64 bits can have.
    const DIGITS_MAX: usize = 20;
    let mut text = [0; DIGITS_MAX];
    let mut at = DIGITS_MAX;
    loop {
        at -= 1;
        text[at] = b'0' + (number % 10) as u8;
        number /= 10;
        if number == 0 {
            break;
        }
    }
    out.extend_from_slice(&text[at..]);
}
