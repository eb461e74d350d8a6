//! HTTP dates and delta-seconds, read strictly.

use std::time::{Duration, SystemTime};

use http::{HeaderMap, HeaderName, HeaderValue};

/// The largest delta-seconds that is told apart from larger ones (RFC 9111 1.2.2).
pub const DELTA_MAX: Duration = Duration::from_secs(1 << 31);

/// A header field that should hold one date.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DateField {
    /// The field is missing.
    Absent,
    /// It is not a date, or it is there twice with different values.
    Invalid,
    /// The date.
    At(SystemTime),
}

impl DateField {
    /// The date, if there is a valid one.
    pub fn date(self) -> Option<SystemTime> {
        match self {
            Self::At(time) => Some(time),
            Self::Absent | Self::Invalid => None,
        }
    }
}

/// Reads the date in the field `name`.
pub fn date(headers: &HeaderMap, name: &HeaderName) -> DateField {
    let mut values = headers.get_all(name).iter();
    let Some(first) = values.next() else {
        return DateField::Absent;
    };
    if values.any(|other| other != first) {
        return DateField::Invalid;
    }
    first
        .to_str()
        .ok()
        .and_then(|text| httpdate::parse_http_date(text.trim_matches([' ', '\t'])).ok())
        .map_or(DateField::Invalid, DateField::At)
}

/// A time as a header field has it.
pub fn http_date(at: SystemTime) -> HeaderValue {
    let text = httpdate::fmt_http_date(at);
    // A date is letters, digits and punctuation, which every field may hold.
    HeaderValue::try_from(text).unwrap_or_else(|_| HeaderValue::from_static(""))
}

/// Reads delta-seconds: digits only, anything above [`DELTA_MAX`] is [`DELTA_MAX`].
pub fn delta(digits: &[u8]) -> Option<Duration> {
    if digits.is_empty() || !digits.iter().all(u8::is_ascii_digit) {
        return None;
    }
    let seconds = digits.iter().try_fold(0_u64, |sum, digit| {
        sum.checked_mul(10)?.checked_add(u64::from(digit - b'0'))
    });
    Some(seconds.map_or(DELTA_MAX, |seconds| {
        Duration::from_secs(seconds).min(DELTA_MAX)
    }))
}

#[cfg(test)]
mod tests {
    use http::header::EXPIRES;

    use super::*;

    #[test]
    fn delta_seconds_are_digits_and_saturate() {
        let cases: [(&str, Option<u64>); 9] = [
            ("0", Some(0)),
            ("003600", Some(3600)),
            ("2147483648", Some(1 << 31)),
            ("99999999999999999999999", Some(1 << 31)),
            ("", None),
            ("-1", None),
            ("+1", None),
            ("1.5", None),
            ("1 ", None),
        ];
        for (text, seconds) in cases {
            assert_eq!(
                delta(text.as_bytes()),
                seconds.map(Duration::from_secs),
                "{text:?}"
            );
        }
    }

    #[test]
    fn a_date_field_is_one_date() {
        let instant = SystemTime::UNIX_EPOCH + Duration::from_secs(784_111_777);
        let cases: [(&[&str], DateField); 7] = [
            (&[], DateField::Absent),
            (&["Sun, 06 Nov 1994 08:49:37 GMT"], DateField::At(instant)),
            (&["Sunday, 06-Nov-94 08:49:37 GMT"], DateField::At(instant)),
            (&["Sun Nov  6 08:49:37 1994"], DateField::At(instant)),
            (&["0"], DateField::Invalid),
            (
                &["Sun, 06 Nov 1994 08:49:37 GMT"; 2],
                DateField::At(instant),
            ),
            (&["Sun, 06 Nov 1994 08:49:37 GMT", "0"], DateField::Invalid),
        ];
        for (lines, expected) in cases {
            let mut headers = HeaderMap::new();
            for line in lines {
                headers.append(EXPIRES, HeaderValue::from_static(line));
            }
            assert_eq!(date(&headers, &EXPIRES), expected, "{lines:?}");
        }
    }
}
