//! What can be wrong with a row: repairs that are made, reasons for which it is refused, and the
//! file of refused rows.

mod file;
mod limit;

pub use file::{HEADER, RejectFile};
pub use limit::{RejectCount, RejectLimit};

use std::fmt;

/// A repair that was made to a row that is loaded. A row counts once under each.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum Repair {
    /// The byte order mark before the header, once a file.
    Bom,
    /// A carriage return before the line's end.
    Crlf,
    /// Zero bytes.
    NulRemoved,
    /// Spaces after a comma.
    LeadingSpace,
    /// A line with an odd number of quotes.
    UnclosedQuote,
    /// A `u` before `http`.
    StrayPrefix,
    /// A backslash in a URL.
    StrayBackslash,
    /// Two URLs without a comma between them.
    JoinedUrls,
    /// A sale price of 0.
    ZeroSale,
    /// Quotes within the quotes of a feature's value.
    WrappedQuotes,
    /// `"default_price": 99` as a price.
    PriceLabel,
    /// A dollar sign before a price.
    DollarSign,
    /// A date that is not milliseconds since 1970.
    DateText,
}

impl Repair {
    /// All of them, in the order of their numbers.
    pub const ALL: [Self; 13] = [
        Self::Bom,
        Self::Crlf,
        Self::NulRemoved,
        Self::LeadingSpace,
        Self::UnclosedQuote,
        Self::StrayPrefix,
        Self::StrayBackslash,
        Self::JoinedUrls,
        Self::ZeroSale,
        Self::WrappedQuotes,
        Self::PriceLabel,
        Self::DollarSign,
        Self::DateText,
    ];

    /// The code in reports.
    #[must_use]
    pub fn code(self) -> &'static str {
        match self {
            Self::Bom => "bom",
            Self::Crlf => "crlf",
            Self::NulRemoved => "nul_removed",
            Self::LeadingSpace => "leading_space",
            Self::UnclosedQuote => "unclosed_quote",
            Self::StrayPrefix => "stray_prefix",
            Self::StrayBackslash => "stray_backslash",
            Self::JoinedUrls => "joined_urls",
            Self::ZeroSale => "zero_sale",
            Self::WrappedQuotes => "wrapped_quotes",
            Self::PriceLabel => "price_label",
            Self::DollarSign => "dollar_sign",
            Self::DateText => "date_text",
        }
    }
}

/// The repairs of one row.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Repairs(u16);

impl Repairs {
    /// Adds one; adding it again changes nothing.
    pub fn add(&mut self, repair: Repair) {
        self.0 |= 1 << repair as u16;
    }

    /// Whether it was made.
    #[must_use]
    pub fn contains(self, repair: Repair) -> bool {
        self.0 & 1 << repair as u16 != 0
    }

    /// Whether none was made.
    #[must_use]
    pub fn is_empty(self) -> bool {
        self.0 == 0
    }
}

/// Why a row is refused. A row has one reason: the first that is found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum Reason {
    /// A quoted field without an end, or longer than its limit.
    BadQuote,
    /// A row longer than its limit.
    RowTooLong,
    /// Bytes that are not UTF-8.
    InvalidUtf8,
    /// Too many or too few columns.
    ColumnCount,
    /// Not an integer of 32 bits, or one below its minimum.
    BadInteger,
    /// A rating or vote outside 1 to 5.
    OutOfRange,
    /// A price that cannot be read.
    BadPrice,
    /// A boolean that cannot be read.
    BadBoolean,
    /// A date that cannot be read.
    BadDate,
    /// A URL that cannot be used.
    BadUrl,
    /// A related product of 0.
    RelatedZero,
    /// An id that an earlier row of the file has.
    DuplicateId,
    /// An id that a live row has, to which rows are to be added.
    LiveId,
    /// A parent that was not loaded.
    DanglingParent,
}

impl Reason {
    /// All of them, in the order of their numbers.
    pub const ALL: [Self; 14] = [
        Self::BadQuote,
        Self::RowTooLong,
        Self::InvalidUtf8,
        Self::ColumnCount,
        Self::BadInteger,
        Self::OutOfRange,
        Self::BadPrice,
        Self::BadBoolean,
        Self::BadDate,
        Self::BadUrl,
        Self::RelatedZero,
        Self::DuplicateId,
        Self::LiveId,
        Self::DanglingParent,
    ];

    /// The code in reports.
    #[must_use]
    pub fn code(self) -> &'static str {
        match self {
            Self::BadQuote => "bad_quote",
            Self::RowTooLong => "row_too_long",
            Self::InvalidUtf8 => "invalid_utf8",
            Self::ColumnCount => "column_count",
            Self::BadInteger => "bad_integer",
            Self::OutOfRange => "out_of_range",
            Self::BadPrice => "bad_price",
            Self::BadBoolean => "bad_boolean",
            Self::BadDate => "bad_date",
            Self::BadUrl => "bad_url",
            Self::RelatedZero => "related_zero",
            Self::DuplicateId => "duplicate_id",
            Self::LiveId => "live_id",
            Self::DanglingParent => "dangling_parent",
        }
    }
}

/// Where a row stands in its file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Position {
    /// The number of its first line, from 1.
    pub line: u64,
    /// The offset of its first byte, from 0.
    pub byte_offset: u64,
}

/// What is wrong with a row, and with which of its fields.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Fault {
    /// What it is.
    pub reason: Reason,
    /// The field, from 0; `None` if the row as a whole is at fault.
    pub column: Option<u8>,
}

impl Reason {
    /// Found in a field, counted from 0.
    #[must_use]
    pub fn at(self, column: usize) -> Fault {
        Fault {
            reason: self,
            column: u8::try_from(column).ok(),
        }
    }
}

impl From<Reason> for Fault {
    fn from(reason: Reason) -> Self {
        Self {
            reason,
            column: None,
        }
    }
}

/// A refused row, as people are told of it: `skus.csv:7: column quantity: bad_integer`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Reject<'a> {
    /// The name of its file.
    pub file: &'a str,
    /// Where it stands there.
    pub at: Position,
    /// The name of the field that is at fault; empty if the row as a whole is.
    pub column: &'a str,
    /// What is wrong with it.
    pub reason: Reason,
}

impl<'a> Reject<'a> {
    /// A row with this fault, of a file with these columns.
    #[must_use]
    pub fn new(file: &'a str, at: Position, fault: Fault, header: &[&'a str]) -> Self {
        let column = fault.column.and_then(|at| header.get(usize::from(at)));
        Self {
            file,
            at,
            column: column.copied().unwrap_or_default(),
            reason: fault.reason,
        }
    }
}

impl fmt::Display for Reject<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}: ", self.file, self.at.line)?;
        if !self.column.is_empty() {
            write!(f, "column {}: ", self.column)?;
        }
        f.write_str(self.reason.code())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn every_code_has_its_own_number_and_name() {
        let repairs: BTreeSet<_> = Repair::ALL.iter().map(|repair| repair.code()).collect();
        assert_eq!(repairs.len(), Repair::ALL.len());
        assert!(
            Repair::ALL
                .iter()
                .enumerate()
                .all(|(index, repair)| *repair as usize == index)
        );
        let reasons: BTreeSet<_> = Reason::ALL.iter().map(|reason| reason.code()).collect();
        assert_eq!(reasons.len(), Reason::ALL.len());
        assert!(
            Reason::ALL
                .iter()
                .enumerate()
                .all(|(index, reason)| *reason as usize == index)
        );
    }

    #[test]
    fn a_row_counts_once_under_each_repair() {
        let mut repairs = Repairs::default();
        assert!(repairs.is_empty());
        repairs.add(Repair::DateText);
        repairs.add(Repair::DateText);
        assert!(repairs.contains(Repair::DateText) && !repairs.contains(Repair::Crlf));
    }

    #[test]
    fn a_refused_row_is_named_by_file_line_and_column() {
        let at = Position {
            line: 7,
            byte_offset: 99,
        };
        let told = |fault| Reject::new("skus.csv", at, fault, &["id", "size"]).to_string();
        assert_eq!(
            told(Reason::BadInteger.at(1)),
            "skus.csv:7: column size: bad_integer"
        );
        assert_eq!(told(Reason::BadQuote.at(2)), "skus.csv:7: bad_quote");
        assert_eq!(told(Reason::BadQuote.at(1000)), "skus.csv:7: bad_quote");
        assert_eq!(told(Reason::ColumnCount.into()), "skus.csv:7: column_count");
    }
}
