//! Dates as the API writes them.

use chrono::{DateTime, Datelike, SecondsFormat, Timelike, Utc};
use serde::{Serialize, Serializer};
use utoipa::{
    PartialSchema, ToSchema,
    openapi::{KnownFormat, ObjectBuilder, RefOr, Schema, SchemaFormat, Type},
};

/// A time that is sent as `YYYY-MM-DDTHH:MM:SS.mmmZ`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Date(pub DateTime<Utc>);

impl Serialize for Date {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut text = *b"0000-00-00T00:00:00.000Z";
        let Some(year) = u32::try_from(self.0.year())
            .ok()
            .filter(|year| *year <= 9999)
        else {
            // Years of five digits or before our era: not worth a fast path.
            return serializer.serialize_str(&self.0.to_rfc3339_opts(SecondsFormat::Millis, true));
        };
        digits(&mut text[0..4], year);
        digits(&mut text[5..7], self.0.month());
        digits(&mut text[8..10], self.0.day());
        digits(&mut text[11..13], self.0.hour());
        digits(&mut text[14..16], self.0.minute());
        digits(&mut text[17..19], self.0.second());
        digits(&mut text[20..23], self.0.timestamp_subsec_millis());
        match std::str::from_utf8(&text) {
            Ok(text) => serializer.serialize_str(text),
            Err(error) => Err(serde::ser::Error::custom(error)),
        }
    }
}

impl PartialSchema for Date {
    fn schema() -> RefOr<Schema> {
        ObjectBuilder::new()
            .schema_type(Type::String)
            .format(Some(SchemaFormat::KnownFormat(KnownFormat::DateTime)))
            .description(Some("A time in UTC, to the millisecond."))
            .pattern(Some(
                r"^[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}\.[0-9]{3}Z$",
            ))
            .into()
    }
}

impl ToSchema for Date {}

/// Writes a number right-aligned over a field of zeros.
fn digits(field: &mut [u8], mut number: u32) {
    for digit in field.iter_mut().rev() {
        *digit = b'0' + (number % 10) as u8;
        number /= 10;
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn text(millis: i64) -> String {
        let date = DateTime::from_timestamp_millis(millis).expect("in range");
        serde_json::to_string(&Date(date)).expect("serialises")
    }

    #[test]
    fn a_date_keeps_its_time_to_the_millisecond() {
        assert_eq!(text(1_628_865_524_509), r#""2021-08-13T14:38:44.509Z""#);
        assert_eq!(text(0), r#""1970-01-01T00:00:00.000Z""#);
        assert_eq!(text(-1), r#""1969-12-31T23:59:59.999Z""#);
    }

    #[test]
    fn a_year_of_five_digits_does_not_break_the_answer() {
        assert_eq!(text(253_402_300_800_000), r#""+10000-01-01T00:00:00.000Z""#);
    }

    proptest! {
        #[test]
        fn every_date_of_our_era_is_written_as_the_library_writes_it(
            millis in -62_135_596_800_000_i64..253_402_300_800_000
        ) {
            let date = DateTime::from_timestamp_millis(millis).expect("in range");
            let expected = date.to_rfc3339_opts(SecondsFormat::Millis, true);
            prop_assert_eq!(text(millis), format!("\"{expected}\""));
        }
    }
}
