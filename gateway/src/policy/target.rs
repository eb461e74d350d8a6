//! One spelling for each request target: percent-encoding, slashes, dot segments, parameter values.
//!
//! The canonical target is what is keyed, purged and sent to the origin, so nothing can be cached under one name and
//! answered under another. Every function here leaves its own output unchanged.

use std::borrow::Cow;

use http::StatusCode;

/// Why a request target is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, thiserror::Error)]
pub enum BadTarget {
    /// The path is not in origin form.
    #[error("the path does not start with a slash")]
    NoLeadingSlash,
    /// A byte that no request target may hold.
    #[error(
        "the request target holds a control character, a space, or a question mark or # out of place"
    )]
    ForbiddenByte,
    /// `.` or `..` as a segment, plain or encoded.
    #[error("the path holds a dot segment")]
    DotSegment,
    /// The path still starts with a configured prefix after one was stripped.
    #[error("the path holds a configured prefix twice")]
    RepeatedPrefix,
}

impl BadTarget {
    /// The status that answers it: 404 for a repeated prefix, which is merely an unknown path, else 400.
    pub fn status(self) -> StatusCode {
        match self {
            Self::RepeatedPrefix => StatusCode::NOT_FOUND,
            Self::NoLeadingSlash | Self::ForbiddenByte | Self::DotSegment => {
                StatusCode::BAD_REQUEST
            }
        }
    }

    /// A short name, for logs and metrics.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::NoLeadingSlash => "no-leading-slash",
            Self::ForbiddenByte => "forbidden-byte",
            Self::DotSegment => "dot-segment",
            Self::RepeatedPrefix => "repeated-prefix",
        }
    }
}

/// What the origins take as one path.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Slashes {
    /// Repeated slashes are one.
    pub collapse: bool,
    /// One slash at the end is none.
    pub drop_trailing: bool,
}

/// The canonical path.
///
/// Unreserved characters are decoded, every other escape has upper-case digits (RFC 3986 6.2.2), characters that no path
/// may hold are escaped, and so is a percent sign that starts no escape.
pub(super) fn canonical_path(raw: &str, slashes: Slashes) -> Result<String, BadTarget> {
    if !raw.starts_with('/') {
        return Err(BadTarget::NoLeadingSlash);
    }
    let bytes = raw.as_bytes();
    let mut path = String::with_capacity(raw.len());
    let mut has_dot = false;
    let mut at = 0;
    while let Some(&byte) = bytes.get(at) {
        at += 1;
        match byte {
            b'/' if slashes.collapse && path.ends_with('/') => {}
            b'%' => {
                let escaped = escape_at(bytes, at);
                at += if escaped.is_some() { 2 } else { 0 };
                has_dot |= escaped == Some(b'.');
                push_decoded(&mut path, escaped.unwrap_or(b'%'));
            }
            b'?' | b'#' | 0..=b' ' | 0x7f => return Err(BadTarget::ForbiddenByte),
            _ if is_path_byte(byte) => {
                has_dot |= byte == b'.';
                path.push(char::from(byte));
            }
            _ => push_escaped(&mut path, byte),
        }
    }
    if has_dot && has_dot_segment(&path) {
        return Err(BadTarget::DotSegment);
    }
    if slashes.drop_trailing && path.len() > 1 && path.ends_with('/') {
        path.pop();
    }
    Ok(path)
}

/// Refuses a query with anything that no request target may hold.
pub(super) fn check_query(raw: &str) -> Result<(), BadTarget> {
    let is_forbidden = |byte| matches!(byte, b'#' | 0..=b' ' | 0x7f);
    if raw.bytes().any(is_forbidden) {
        return Err(BadTarget::ForbiddenByte);
    }
    Ok(())
}

/// A query as received, once it is known to hold nothing that no request target may hold.
pub(super) fn checked_query(raw: &str) -> Result<String, BadTarget> {
    check_query(raw)?;
    let mut query = String::with_capacity(raw.len());
    push_query(&mut query, raw);
    Ok(query)
}

/// Writes a part of a checked query as it was received, in the bytes that a request target may hold.
pub(super) fn push_query(out: &mut String, raw: &str) {
    for byte in raw.bytes() {
        match byte {
            0x80.. => push_escaped(out, byte),
            _ => out.push(char::from(byte)),
        }
    }
}

/// A name or value of a query, decoded as forms are: `+` is a space, a percent sign that starts no escape is itself.
pub(super) fn form_decoded(raw: &str) -> Cow<'_, [u8]> {
    if !raw.bytes().any(|byte| matches!(byte, b'%' | b'+')) {
        return Cow::Borrowed(raw.as_bytes());
    }
    let bytes = raw.as_bytes();
    let mut plain = Vec::with_capacity(raw.len());
    let mut at = 0;
    while let Some(&byte) = bytes.get(at) {
        at += 1;
        let escaped = if byte == b'%' {
            escape_at(bytes, at)
        } else {
            None
        };
        at += if escaped.is_some() { 2 } else { 0 };
        plain.push(escaped.unwrap_or(if byte == b'+' { b' ' } else { byte }));
    }
    Cow::Owned(plain)
}

/// Writes a decoded name or value: unreserved characters as they are, all others escaped.
pub(super) fn push_form_encoded(out: &mut String, plain: &[u8]) {
    for byte in plain {
        push_decoded(out, *byte);
    }
}

/// The byte that the two hexadecimal digits at `at` stand for.
fn escape_at(bytes: &[u8], at: usize) -> Option<u8> {
    let high = char::from(*bytes.get(at)?).to_digit(16)?;
    let low = char::from(*bytes.get(at + 1)?).to_digit(16)?;
    u8::try_from(high * 16 + low).ok()
}

fn push_decoded(out: &mut String, byte: u8) {
    if byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_' | b'~') {
        out.push(char::from(byte));
    } else {
        push_escaped(out, byte);
    }
}

fn push_escaped(out: &mut String, byte: u8) {
    const DIGITS: &[u8; 16] = b"0123456789ABCDEF";
    out.push('%');
    out.push(char::from(DIGITS[usize::from(byte >> 4)]));
    out.push(char::from(DIGITS[usize::from(byte & 15)]));
}

/// Whether a byte may stand in a path unescaped (RFC 3986 3.3).
fn is_path_byte(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"-._~!$&'()*+,;=:@/".contains(&byte)
}

/// Whether a canonical path holds `.` or `..` as a segment.
///
/// An escaped slash or backslash counts as a slash and a semicolon ends a segment, as some origins read them so.
fn has_dot_segment(path: &str) -> bool {
    let mut rest = path.as_bytes();
    loop {
        let dots = rest.iter().take_while(|byte| **byte == b'.').count();
        let tail = &rest[dots..];
        let ends = tail.is_empty()
            || matches!(tail[0], b'/' | b';')
            || tail.starts_with(b"%2F")
            || tail.starts_with(b"%5C");
        if matches!(dots, 1 | 2) && ends {
            return true;
        }
        match next_segment(rest) {
            Some(next) => rest = next,
            None => return false,
        }
    }
}

/// What follows the next slash, plain or escaped.
fn next_segment(bytes: &[u8]) -> Option<&[u8]> {
    (0..bytes.len()).find_map(|at| {
        let rest = &bytes[at..];
        rest.strip_prefix(b"/")
            .or_else(|| rest.strip_prefix(b"%2F"))
            .or_else(|| rest.strip_prefix(b"%5C"))
    })
}

#[cfg(test)]
mod tests;
