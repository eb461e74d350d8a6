//! Ids as clients write them.

use std::fmt;

use serde::{Serialize, Serializer};
use utoipa::{
    PartialSchema, ToSchema,
    openapi::{ObjectBuilder, RefOr, Schema, Type},
};

/// A well-formed id: `[1-9][0-9]*`, nothing around it.
///
/// One beyond 32 bits is well-formed too, and names nothing: it never reaches the database.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Id {
    /// An id that a row may have.
    Row(i32),
    /// An id that no row can have, as it was written.
    Beyond(Box<str>),
}

impl Id {
    /// Reads a canonical id.
    pub fn parse(text: &[u8]) -> Option<Self> {
        let (first, rest) = text.split_first()?;
        if !matches!(first, b'1'..=b'9') || !rest.iter().all(u8::is_ascii_digit) {
            return None;
        }
        let text = std::str::from_utf8(text).ok()?;
        Some(
            text.parse()
                .map_or_else(|_| Self::Beyond(text.into()), Self::Row),
        )
    }

    /// The id as the database knows it, if a row can have it.
    pub fn row(&self) -> Option<i32> {
        match self {
            Self::Row(id) => Some(*id),
            Self::Beyond(_) => None,
        }
    }
}

impl fmt::Display for Id {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Row(id) => id.fmt(f),
            Self::Beyond(text) => text.fmt(f),
        }
    }
}

/// As a string: where the API echoes an id it is text.
impl Serialize for Id {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl PartialSchema for Id {
    fn schema() -> RefOr<Schema> {
        ObjectBuilder::new()
            .schema_type(Type::String)
            .description(Some("An id as text."))
            .pattern(Some("^[1-9][0-9]*$"))
            .into()
    }
}

impl ToSchema for Id {}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn canonical_digits_are_an_id() {
        assert_eq!(Id::parse(b"1"), Some(Id::Row(1)));
        assert_eq!(Id::parse(b"2147483647"), Some(Id::Row(i32::MAX)));
    }

    #[test]
    fn an_id_beyond_32_bits_is_well_formed_and_no_row() {
        for text in ["2147483648", "99999999999999999999999999"] {
            let id = Id::parse(text.as_bytes()).expect("well-formed");
            assert_eq!(id.row(), None);
            assert_eq!(id.to_string(), text);
        }
    }

    #[test]
    fn everything_else_is_malformed() {
        for text in [
            "",
            "0",
            "05",
            "-1",
            "+5",
            " 5",
            "5 ",
            "5.55",
            "null",
            "hello",
            "2undefined",
            "\0",
            "1e3",
            "٣",
            "5\n",
        ] {
            assert_eq!(Id::parse(text.as_bytes()), None, "{text:?}");
        }
        assert_eq!(Id::parse(&[0xff]), None);
    }

    proptest! {
        #[test]
        fn what_is_accepted_is_echoed_unchanged(text in "[0-9]{0,30}") {
            match Id::parse(text.as_bytes()) {
                Some(id) => prop_assert_eq!(id.to_string(), text),
                None => prop_assert!(text.is_empty() || text.starts_with('0')),
            }
        }

        #[test]
        fn any_bytes_are_judged_without_a_panic(bytes: Vec<u8>) {
            let _ = Id::parse(&bytes);
        }
    }
}
