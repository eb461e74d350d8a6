//! Reads one field: pure functions from bytes to values. Bytes are valid UTF-8 and trimmed by the
//! reader.

use crate::reject::{Reason, Repair, Repairs};

/// The largest price of the data set.
const DOLLARS_MAX: u64 = 5_000_000;
/// Microseconds from 1970 to 2000, where Postgres counts from.
pub const EPOCH_2000: i64 = 946_684_800_000_000;
/// Years that a date may have: four digits, as the API writes them.
const YEARS: std::ops::RangeInclusive<i64> = 1..=9999;
const MICROS_PER_DAY: i64 = 86_400_000_000;

/// A 32-bit integer: digits, with a minus at most.
///
/// # Errors
/// [`Reason::BadInteger`] for anything else.
pub fn integer(field: &[u8]) -> Result<i32, Reason> {
    let (digits, sign) = match field {
        [b'-', digits @ ..] => (digits, -1),
        digits => (digits, 1),
    };
    let value = unsigned(digits).ok_or(Reason::BadInteger)?;
    i32::try_from(sign * i64::try_from(value).map_err(|_| Reason::BadInteger)?)
        .map_err(|_| Reason::BadInteger)
}

/// An id: 1 or more.
///
/// # Errors
/// [`Reason::BadInteger`] for anything else.
pub fn id(field: &[u8]) -> Result<i32, Reason> {
    at_least(field, 1)
}

/// A quantity or number of votes: 0 or more.
///
/// # Errors
/// [`Reason::BadInteger`] for anything else.
pub fn count(field: &[u8]) -> Result<i32, Reason> {
    at_least(field, 0)
}

fn at_least(field: &[u8], min: i32) -> Result<i32, Reason> {
    integer(field).and_then(|value| {
        if value < min {
            Err(Reason::BadInteger)
        } else {
            Ok(value)
        }
    })
}

/// A rating or vote from 1 to 5.
///
/// # Errors
/// [`Reason::BadInteger`] if it is no integer, [`Reason::OutOfRange`] if it is another one.
pub fn stars(field: &[u8]) -> Result<i16, Reason> {
    match integer(field)? {
        value @ 1..=5 => Ok(value as i16),
        _ => Err(Reason::OutOfRange),
    }
}

/// A boolean: `1`, `0`, `true` or `false`, in any case.
///
/// # Errors
/// [`Reason::BadBoolean`] for anything else.
pub fn boolean(field: &[u8]) -> Result<bool, Reason> {
    match field {
        b"1" => Ok(true),
        b"0" => Ok(false),
        text if text.eq_ignore_ascii_case(b"true") => Ok(true),
        text if text.eq_ignore_ascii_case(b"false") => Ok(false),
        _ => Err(Reason::BadBoolean),
    }
}

/// Whether a field of a column that allows it means SQL NULL: the text `null`, or nothing.
#[must_use]
pub fn is_null(field: &[u8]) -> bool {
    matches!(field, b"" | b"null")
}

/// A price, in cents: whole dollars up to five million, after a dollar sign or not.
///
/// # Errors
/// [`Reason::BadPrice`] for anything else.
pub fn price(field: &[u8], repairs: &mut Repairs) -> Result<u64, Reason> {
    let number = match field {
        [b'$', number @ ..] => {
            repairs.add(Repair::DollarSign);
            number
        }
        number => number,
    };
    unsigned(number)
        .filter(|dollars| *dollars <= DOLLARS_MAX)
        .map(|dollars| dollars * 100)
        .ok_or(Reason::BadPrice)
}

/// A product's price, which may carry the label `"default_price":` in its cell.
///
/// # Errors
/// [`Reason::BadPrice`] as for [`price`].
pub fn labelled_price(field: &[u8], repairs: &mut Repairs) -> Result<u64, Reason> {
    let Some(number) = unlabelled(field) else {
        return price(field, repairs);
    };
    repairs.add(Repair::PriceLabel);
    price(number, repairs)
}

/// What follows `default_price:`, the name with or without quotes.
fn unlabelled(field: &[u8]) -> Option<&[u8]> {
    let text = field
        .strip_prefix(b"\"")
        .unwrap_or(field)
        .strip_prefix(b"default_price")?;
    let text = text.strip_prefix(b"\"").unwrap_or(text).trim_ascii_start();
    Some(text.strip_prefix(b":")?.trim_ascii_start())
}

/// A feature's value, without the pair of quotes that some carry within their quotes.
#[must_use]
pub fn unwrapped<'a>(field: &'a [u8], repairs: &mut Repairs) -> &'a [u8] {
    // The first form is `"\"Loose\""`: the backslash is no escape in CSV, so it is text as it stands.
    let ([b'"', b'\\', b'"', inner @ .., b'\\', b'"', b'"'] | [b'"', inner @ .., b'"']) = field
    else {
        return field;
    };
    // The outer quotes of `"a" and "b"` are no pair.
    if inner.contains(&b'"') {
        return field;
    }
    repairs.add(Repair::WrappedQuotes);
    inner
}

/// A time in microseconds since 2000: milliseconds since 1970, a date (midnight UTC), or a date and
/// time.
///
/// # Errors
/// [`Reason::BadDate`] for anything else, and for years that have not four digits.
pub fn timestamp(field: &[u8], repairs: &mut Repairs) -> Result<i64, Reason> {
    let digits = field.strip_prefix(b"-").unwrap_or(field);
    let micros = match unsigned(digits) {
        Some(millis) => {
            let millis = i64::try_from(millis).ok().ok_or(Reason::BadDate)?;
            let signed = if digits.len() < field.len() {
                -millis
            } else {
                millis
            };
            signed.checked_mul(1000)
        }
        None => {
            repairs.add(Repair::DateText);
            written_date(field)
        }
    };
    let micros = micros.ok_or(Reason::BadDate)?;
    let first = days_since_1970(*YEARS.start(), 1, 1) * MICROS_PER_DAY;
    let last = days_since_1970(*YEARS.end() + 1, 1, 1) * MICROS_PER_DAY;
    if (first..last).contains(&micros) {
        Ok(micros - EPOCH_2000)
    } else {
        Err(Reason::BadDate)
    }
}

/// Microseconds since 1970 of `YYYY-MM-DD`, or of that with `T` or a space, `HH:MM[:SS[.fraction]]`
/// and a zone (`Z`, `+HH:MM`, `+HHMM`, `+HH`; UTC if there is none).
fn written_date(field: &[u8]) -> Option<i64> {
    let (date, time) = field.split_at_checked(10)?;
    let [year, month, day] = [&date[0..4], &date[5..7], &date[8..10]].map(fixed);
    let (year, month, day) = (year?, month?, day?);
    let is_date = date[4] == b'-'
        && date[7] == b'-'
        && (1..=12).contains(&month)
        && (1..=days_in_month(year, month)).contains(&day);
    if !is_date {
        return None;
    }
    let midnight = days_since_1970(year, month, day) * MICROS_PER_DAY;
    match time {
        [] => Some(midnight),
        [b'T' | b't' | b' ', time @ ..] => Some(midnight + time_of_day(time)?),
        _ => None,
    }
}

/// Microseconds since midnight UTC; below 0 or over a day by the zone.
fn time_of_day(time: &[u8]) -> Option<i64> {
    let zone_at = time
        .iter()
        .position(|byte| matches!(byte, b'Z' | b'z' | b'+' | b'-'))
        .unwrap_or(time.len());
    let (clock, zone) = time.split_at(zone_at);
    let (clock, fraction) = match clock.iter().position(|byte| *byte == b'.') {
        Some(point) => (&clock[..point], micros_of(&clock[point + 1..])?),
        None => (clock, 0),
    };
    let (hour, minute, second) = match *clock {
        [h1, h2, b':', m1, m2] if fraction == 0 => (fixed(&[h1, h2])?, fixed(&[m1, m2])?, 0),
        [h1, h2, b':', m1, m2, b':', s1, s2] => {
            (fixed(&[h1, h2])?, fixed(&[m1, m2])?, fixed(&[s1, s2])?)
        }
        _ => return None,
    };
    if hour > 23 || minute > 59 || second > 59 {
        return None;
    }
    Some(((hour * 60 + minute) * 60 + second) * 1_000_000 + fraction - zone_offset(zone)?)
}

/// The fraction of a second, to the microsecond.
fn micros_of(digits: &[u8]) -> Option<i64> {
    if digits.is_empty() || digits.len() > 9 || !digits.iter().all(u8::is_ascii_digit) {
        return None;
    }
    let micros = digits.iter().chain(b"000000").take(6);
    Some(micros.fold(0, |value, digit| value * 10 + i64::from(digit - b'0')))
}

/// Microseconds that a zone is ahead of UTC.
fn zone_offset(zone: &[u8]) -> Option<i64> {
    let (sign, hour, minute) = match *zone {
        [] | [b'Z' | b'z'] => return Some(0),
        [sign, h1, h2] => (sign, fixed(&[h1, h2])?, 0),
        [sign, h1, h2, m1, m2] | [sign, h1, h2, b':', m1, m2] => {
            (sign, fixed(&[h1, h2])?, fixed(&[m1, m2])?)
        }
        _ => return None,
    };
    if hour > 23 || minute > 59 {
        return None;
    }
    let micros = (hour * 60 + minute) * 60_000_000;
    Some(if sign == b'-' { -micros } else { micros })
}

fn fixed(digits: &[u8]) -> Option<i64> {
    unsigned(digits).and_then(|value| i64::try_from(value).ok())
}

fn days_in_month(year: i64, month: i64) -> i64 {
    match month {
        2 if year % 4 == 0 && (year % 100 != 0 || year % 400 == 0) => 29,
        2 => 28,
        4 | 6 | 9 | 11 => 30,
        _ => 31,
    }
}

/// Days from 1970-01-01 in the Gregorian calendar. Years are counted from March, so that the odd
/// day is the last.
fn days_since_1970(year: i64, month: i64, day: i64) -> i64 {
    let (year, month) = if month > 2 {
        (year, month - 3)
    } else {
        (year - 1, month + 9)
    };
    let leap_days = year.div_euclid(4) - year.div_euclid(100) + year.div_euclid(400);
    // 306 days lie between March and the new year; 719_468 between year 0, March 1 and 1970.
    year * 365 + leap_days + (month * 153 + 2) / 5 + day - 1 - 719_468
}

/// Decimal digits, one at least, as many as fit.
fn unsigned(digits: &[u8]) -> Option<u64> {
    if digits.is_empty() {
        return None;
    }
    let mut value: u64 = 0;
    for byte in digits {
        let digit = byte.wrapping_sub(b'0');
        if digit > 9 {
            return None;
        }
        value = value.checked_mul(10)?.checked_add(u64::from(digit))?;
    }
    Some(value)
}

/// Whether a URL can be used: absolute, by a scheme that browsers show pictures from, without
/// spaces and quotes.
///
/// # Errors
/// [`Reason::BadUrl`] if not.
pub fn url(field: &[u8]) -> Result<&[u8], Reason> {
    let has_scheme = |scheme: &[u8]| {
        field
            .get(..scheme.len())
            .is_some_and(|start| start.eq_ignore_ascii_case(scheme))
            && field.len() > scheme.len()
    };
    let is_usable = [b"https://".as_slice(), b"http://", b"data:", b"blob:"]
        .into_iter()
        .any(has_scheme)
        && !field
            .iter()
            .any(|byte| matches!(byte, 0..=b' ' | b'"' | b'<' | b'>' | 0x7f));
    if is_usable {
        Ok(field)
    } else {
        Err(Reason::BadUrl)
    }
}

/// A URL of a photo of a style, without what some carry: a `u` before `http`, backslashes. Copied
/// only to be mended.
///
/// # Errors
/// [`Reason::BadUrl`] if it cannot be used.
pub fn mended_url<'a>(
    field: &'a [u8],
    copy: &'a mut Vec<u8>,
    repairs: &mut Repairs,
) -> Result<&'a [u8], Reason> {
    let field = match field {
        [b'u', rest @ ..] if rest.starts_with(b"http") => {
            repairs.add(Repair::StrayPrefix);
            rest
        }
        _ => field,
    };
    if memchr::memchr(b'\\', field).is_none() {
        return url(field);
    }
    repairs.add(Repair::StrayBackslash);
    copy.clear();
    copy.extend(field.iter().filter(|byte| **byte != b'\\'));
    // A backslash may have stood between the two.
    let mended = match copy.as_slice() {
        [b'u', rest @ ..] if rest.starts_with(b"http") => {
            repairs.add(Repair::StrayPrefix);
            rest
        }
        _ => copy.as_slice(),
    };
    url(mended)
}

/// Two URLs that stand together without a comma, split before the second `http`.
#[must_use]
pub fn split_joined(field: &[u8]) -> Option<(&[u8], &[u8])> {
    let is_rest = |byte: &u8| matches!(byte, b'"' | b',' | b' ');
    // Text behind a closing quote: the field has kept its opening one.
    let field = &field[field.iter().position(|byte| !is_rest(byte))?..];
    let second = memchr::memmem::find(field.get(5..)?, b"http")? + 5;
    // A `u` may stand before the second as before the first; quotes and a comma may be left of a
    // lost quote.
    let split = if field[..second].ends_with(b"\"u") || field[..second].ends_with(b",u") {
        second - 1
    } else {
        second
    };
    let (first, second) = field.split_at(split);
    let first_end = first
        .iter()
        .rposition(|byte| !is_rest(byte))
        .map_or(0, |last| last + 1);
    let second_end = second
        .iter()
        .rposition(|byte| !is_rest(byte))
        .map_or(0, |last| last + 1);
    Some((&first[..first_end], &second[..second_end]))
}

#[cfg(test)]
mod tests;
