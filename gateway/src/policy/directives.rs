//! `Cache-Control` and its targeted relatives, read strictly.
//!
//! What restricts is honoured however it is spelled; what grants must be spelled right. A freshness value that is not one
//! number counts as zero, which makes the response stale (RFC 9111 4.2.1).

use std::time::Duration;

use http::header::CACHE_CONTROL;
use http::{HeaderMap, HeaderName};
use sfv::{BareItem, Dictionary, ListEntry, Parser, StringRef, TokenRef};

use super::surrogate;
use super::time::delta;

/// The response directives this cache knows.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Directives {
    /// `public`.
    pub public: bool,
    /// `private`, for the whole response or for some of its fields.
    pub private: Listed,
    /// `no-cache`, for the whole response or for some of its fields.
    pub no_cache: Listed,
    /// `no-store`.
    pub no_store: bool,
    /// `no-transform`.
    pub no_transform: bool,
    /// `must-revalidate`.
    pub must_revalidate: bool,
    /// `proxy-revalidate`.
    pub proxy_revalidate: bool,
    /// `must-understand`.
    pub must_understand: bool,
    /// `max-age`.
    pub max_age: Option<Duration>,
    /// `s-maxage`.
    pub s_maxage: Option<Duration>,
    /// `stale-while-revalidate` (RFC 5861).
    pub stale_while_revalidate: Option<Duration>,
    /// `stale-if-error` (RFC 5861).
    pub stale_if_error: Option<Duration>,
}

/// A directive that may name fields.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum Listed {
    /// The directive is missing.
    #[default]
    Absent,
    /// It holds for these fields only.
    Fields(Vec<HeaderName>),
    /// It holds for the whole response.
    Whole,
}

impl Listed {
    /// The named fields; none when the directive is missing or holds for everything.
    pub fn fields(&self) -> &[HeaderName] {
        match self {
            Self::Fields(names) => names,
            Self::Absent | Self::Whole => &[],
        }
    }

    /// Takes one more occurrence in; a list that cannot be read restricts everything.
    fn add(&mut self, names: Option<Vec<HeaderName>>) {
        *self = match (std::mem::take(self), names) {
            (Self::Whole, _) | (_, None) => Self::Whole,
            (Self::Absent, Some(names)) => Self::Fields(names),
            (Self::Fields(mut known), Some(names)) => {
                known.extend(names);
                Self::Fields(known)
            }
        };
    }
}

impl Directives {
    /// Reads every `Cache-Control` line of a response.
    pub fn from_cache_control(response: &HeaderMap) -> Self {
        let mut found = Self::default();
        for line in response.get_all(CACHE_CONTROL) {
            for member in members(line.as_bytes()) {
                found.apply(&member);
            }
        }
        found
    }

    /// Reads the first of the targeted fields that is there and well-formed (RFC 9213 2.2).
    ///
    /// [`surrogate`] has its own, older syntax. An empty field, one that is no dictionary, and one that gives a known directive a value of the wrong type are
    /// passed over as if they were missing.
    pub fn from_targeted(response: &HeaderMap, fields: &[HeaderName]) -> Option<Self> {
        fields.iter().find_map(|field| {
            if *field == surrogate::SURROGATE_CONTROL {
                return surrogate::read(response);
            }
            let text = joined(response, field)?;
            let members: Dictionary = Parser::new(&text).parse().ok()?;
            if members.is_empty() {
                return None;
            }
            let mut found = Self::default();
            for (name, value) in &members {
                found.apply_structured(name.as_str(), value)?;
            }
            Some(found)
        })
    }

    fn apply(&mut self, member: &Member<'_>) {
        let is = |name: &str| member.name.eq_ignore_ascii_case(name.as_bytes());
        if is("no-store") {
            self.no_store = true;
        } else if is("private") {
            self.private.add(member.argument.field_names());
        } else if is("no-cache") {
            self.no_cache.add(member.argument.field_names());
        } else if is("public") {
            self.public |= member.argument == Argument::None;
        } else if is("no-transform") {
            self.no_transform = true;
        } else if is("must-revalidate") {
            self.must_revalidate = true;
        } else if is("proxy-revalidate") {
            self.proxy_revalidate = true;
        } else if is("must-understand") {
            self.must_understand = true;
        } else if is("max-age") {
            add_seconds(&mut self.max_age, &member.argument);
        } else if is("s-maxage") {
            add_seconds(&mut self.s_maxage, &member.argument);
        } else if is("stale-while-revalidate") {
            add_seconds(&mut self.stale_while_revalidate, &member.argument);
        } else if is("stale-if-error") {
            add_seconds(&mut self.stale_if_error, &member.argument);
        }
    }

    /// Takes in one member of a targeted field; none when its value has the wrong type.
    fn apply_structured(&mut self, name: &str, value: &ListEntry) -> Option<()> {
        match name {
            "public" => self.public = flag(value)?,
            "private" => self.private = listed(value)?,
            "no-cache" => self.no_cache = listed(value)?,
            "no-store" => self.no_store = flag(value)?,
            "no-transform" => self.no_transform = flag(value)?,
            "must-revalidate" => self.must_revalidate = flag(value)?,
            "proxy-revalidate" => self.proxy_revalidate = flag(value)?,
            "must-understand" => self.must_understand = flag(value)?,
            "max-age" => self.max_age = Some(seconds(value)?),
            "s-maxage" => self.s_maxage = Some(seconds(value)?),
            "stale-while-revalidate" => self.stale_while_revalidate = Some(seconds(value)?),
            "stale-if-error" => self.stale_if_error = Some(seconds(value)?),
            // Unknown directives are ignored (RFC 9111 5.2.3).
            _ => {}
        }
        Some(())
    }
}

/// All lines of a field as one, as RFC 9110 5.3 allows; none when the field is missing.
pub(super) fn joined(headers: &HeaderMap, field: &HeaderName) -> Option<Vec<u8>> {
    let mut lines = headers.get_all(field).iter();
    let mut text = lines.next()?.as_bytes().to_vec();
    for line in lines {
        text.extend_from_slice(b", ");
        text.extend_from_slice(line.as_bytes());
    }
    Some(text)
}

fn flag(value: &ListEntry) -> Option<bool> {
    match value {
        ListEntry::Item(item) => item.bare_item.as_boolean(),
        ListEntry::InnerList(_) => None,
    }
}

fn seconds(value: &ListEntry) -> Option<Duration> {
    let ListEntry::Item(item) = value else {
        return None;
    };
    let number = i64::from(item.bare_item.as_integer()?);
    // A negative lifetime is a value of the right type that makes no sense: stale.
    let number = u64::try_from(number).unwrap_or(0);
    Some(Duration::from_secs(number).min(super::time::DELTA_MAX))
}

fn listed(value: &ListEntry) -> Option<Listed> {
    let one = |item: &BareItem| {
        let text = item.as_string().map(StringRef::as_str);
        let text = text.or_else(|| item.as_token().map(TokenRef::as_str))?;
        Some(field_names(text.as_bytes()))
    };
    let mut found = Listed::Absent;
    match value {
        ListEntry::Item(item) => match item.bare_item.as_boolean() {
            Some(true) => found = Listed::Whole,
            Some(false) => {}
            None => found.add(one(&item.bare_item)?),
        },
        ListEntry::InnerList(list) => {
            for item in &list.items {
                found.add(one(&item.bare_item)?);
            }
        }
    }
    Some(found)
}

/// Takes in one number of seconds; an unusable one, or a second one that differs, makes the value zero.
fn add_seconds(value: &mut Option<Duration>, argument: &Argument<'_>) {
    let number = argument.seconds().unwrap_or(Duration::ZERO);
    *value = match *value {
        Some(known) if known != number => Some(Duration::ZERO),
        _ => Some(number),
    };
}

/// Reads a comma-separated list of field names; none when it is empty or holds anything else.
fn field_names(list: &[u8]) -> Option<Vec<HeaderName>> {
    let names: Result<Vec<_>, _> = list
        .split(|byte| *byte == b',')
        .map(<[u8]>::trim_ascii)
        .filter(|name| !name.is_empty())
        .map(HeaderName::from_bytes)
        .collect();
    names.ok().filter(|names| !names.is_empty())
}

/// One member of a `Cache-Control` line.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Member<'a> {
    /// The directive's name as sent.
    pub(super) name: &'a [u8],
    /// What follows its `=`.
    pub(super) argument: Argument<'a>,
}

/// The argument of a directive.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Argument<'a> {
    /// There is none.
    None,
    /// A token.
    Token(&'a [u8]),
    /// A quoted string, without its quotes and escapes.
    Quoted(Vec<u8>),
    /// Neither: empty, with spaces around the `=`, or with characters no token may hold.
    Invalid,
}

impl Argument<'_> {
    /// The argument as delta-seconds; both forms are accepted (RFC 9111 5.2).
    pub(super) fn seconds(&self) -> Option<Duration> {
        match self {
            Self::Token(text) => delta(text),
            Self::Quoted(text) => delta(text),
            Self::None | Self::Invalid => None,
        }
    }

    /// The argument as a list of field names.
    fn field_names(&self) -> Option<Vec<HeaderName>> {
        match self {
            Self::Token(text) => field_names(text),
            Self::Quoted(text) => field_names(text),
            Self::None | Self::Invalid => None,
        }
    }
}

/// The directives of a `Cache-Control` line.
pub(super) fn members(line: &[u8]) -> impl Iterator<Item = Member<'_>> {
    pieces(line).map(read_member)
}

/// Splits a line at the commas outside quotes, and leaves out what is empty.
///
/// A quote that is never closed is an ordinary character: a restriction behind it still counts.
pub(super) fn pieces(line: &[u8]) -> impl Iterator<Item = &[u8]> {
    let mut rest = line;
    std::iter::from_fn(move || {
        while !rest.is_empty() {
            let end = member_end(rest);
            let member = rest[..end].trim_ascii();
            rest = rest.get(end + 1..).unwrap_or_default();
            if !member.is_empty() {
                return Some(member);
            }
        }
        None
    })
}

fn member_end(text: &[u8]) -> usize {
    let mut at = 0;
    while at < text.len() && text[at] != b',' {
        at += match text[at] {
            b'"' => quoted_len(&text[at..]).unwrap_or(1),
            _ => 1,
        };
    }
    at
}

/// The length of the quoted string at the start of `text`, quotes included; none when it is never closed.
fn quoted_len(text: &[u8]) -> Option<usize> {
    let mut at = 1;
    while at < text.len() {
        match text[at] {
            b'"' => return Some(at + 1),
            b'\\' => at += 2,
            _ => at += 1,
        }
    }
    None
}

fn read_member(member: &[u8]) -> Member<'_> {
    let Some(equals) = member.iter().position(|byte| *byte == b'=') else {
        return Member {
            name: member,
            argument: Argument::None,
        };
    };
    let (name, value) = (&member[..equals], &member[equals + 1..]);
    let argument = if name.ends_with(b" ") || name.ends_with(b"\t") {
        Argument::Invalid
    } else if value.first() == Some(&b'"') && quoted_len(value) == Some(value.len()) {
        Argument::Quoted(unescape(&value[1..value.len() - 1]))
    } else if !value.is_empty() && value.iter().all(|byte| is_token_byte(*byte)) {
        Argument::Token(value)
    } else {
        Argument::Invalid
    };
    Member {
        name: name.trim_ascii_end(),
        argument,
    }
}

fn unescape(text: &[u8]) -> Vec<u8> {
    let mut bytes = text.iter();
    let mut plain = Vec::with_capacity(text.len());
    while let Some(byte) = bytes.next() {
        let byte = if *byte == b'\\' {
            bytes.next()
        } else {
            Some(byte)
        };
        plain.extend(byte);
    }
    plain
}

/// Whether a byte may be part of a token (RFC 9110 5.6.2).
pub(super) fn is_token_byte(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte)
}

#[cfg(test)]
mod tests;
