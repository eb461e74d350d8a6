//! JSON objects that clients send: syntax first, then one field after the other, each fault named.
//!
//! Nothing is kept of a field that is not asked for, however large or deeply nested it is, and nothing recurses.

use std::{borrow::Cow, fmt};

use serde::{
    Deserializer as _,
    de::{Error as _, IgnoredAny, MapAccess, SeqAccess, Visitor},
};
use serde_json::value::RawValue;

use crate::{
    error::{Entity, Error, FieldError, Result},
    id::Id,
};

/// Bounds of fields; of texts in code points.
pub mod limit {
    /// The text of a review, question or answer.
    pub const BODY: usize = 1000;
    /// A name or an e-mail address.
    pub const NAME: usize = 60;
    /// The summary of a review.
    pub const SUMMARY: usize = 255;
    /// Photos of a review or answer.
    pub const PHOTOS: usize = 20;
    /// The best rating, and the best vote on a characteristic; the worst is 1.
    pub const RATING: i32 = 5;
}

/// What a field may hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rule {
    /// See [`Object::id`].
    Id,
    /// See [`Object::integer`]: the largest, and what a missing one stands for.
    Integer(i32, Option<i32>),
    /// See [`Object::boolean`].
    Boolean,
    /// See [`Object::text`]: so many code points at most.
    Text(usize),
    /// See [`Object::optional_text`].
    OptionalText(usize),
    /// See [`Object::text_or_number`].
    TextOrNumber,
    /// See [`Object::optional_text_or_number`].
    OptionalTextOrNumber,
    /// See [`Object::strings`]: so many at most; whether objects are taken too.
    Strings(usize, bool),
    /// See [`Object::votes`].
    Votes,
}

/// The fields of one object that an endpoint knows, and what has been found wrong with them.
#[derive(Debug)]
pub struct Object<'a> {
    entity: Entity,
    fields: Vec<(&'static str, &'a RawValue)>,
    errors: Vec<FieldError>,
    /// What was asked for, if it is the questions that matter.
    rules: Option<Vec<(&'static str, Rule)>>,
}

impl<'a> Object<'a> {
    /// Reads a body: an object, of which only the named fields are kept; an empty body is an empty object.
    pub fn parse(entity: Entity, body: &'a [u8], known: &[&'static str]) -> Result<Self> {
        let text = std::str::from_utf8(body).map_err(|error| {
            malformed(format!(
                "The body is not UTF-8 at byte {}.",
                error.valid_up_to()
            ))
        })?;
        let text = text.strip_prefix('\u{feff}').unwrap_or(text);
        let has_nul = check_escapes(text)?;
        let mut object = Self {
            entity,
            fields: Vec::with_capacity(known.len()),
            errors: Vec::new(),
            rules: None,
        };
        let trimmed = text.trim_matches([' ', '\t', '\r', '\n']);
        if trimmed.is_empty() {
            return Ok(object);
        }
        if !trimmed.starts_with('{') {
            serde_json::from_str::<IgnoredAny>(trimmed).map_err(syntax)?;
            return Err(object.fail("body", "must be an object"));
        }
        let mut json = serde_json::Deserializer::from_str(trimmed);
        // Nothing here recurses: what is not kept is skipped, what is kept stays text.
        let visitor = KnownFields {
            known,
            fields: &mut object.fields,
        };
        json.deserialize_map(visitor).map_err(syntax)?;
        json.end().map_err(syntax)?;
        if has_nul {
            return Err(object.fail("body", "must not contain the character U+0000"));
        }
        Ok(object)
    }

    /// An object without fields, which remembers the fields that it is asked for.
    pub fn asked(entity: Entity) -> Self {
        Self {
            entity,
            fields: Vec::new(),
            errors: Vec::new(),
            rules: Some(Vec::new()),
        }
    }

    /// The fields that [`Object::asked`] was asked for.
    pub fn into_rules(self) -> Vec<(&'static str, Rule)> {
        self.rules.unwrap_or_default()
    }

    /// The value of a field, `null` and missing being the same.
    fn get(&mut self, name: &'static str, rule: Rule) -> Option<&'a RawValue> {
        if let Some(rules) = &mut self.rules {
            rules.push((name, rule));
        }
        self.fields
            .iter()
            .find(|(field, _)| *field == name)
            .map(|(_, value)| *value)
            .filter(|value| value.get() != "null")
    }

    /// Notes a fault.
    pub fn refuse(&mut self, field: &'static str, detail: impl Into<Cow<'static, str>>) {
        self.errors.push(FieldError::new(field, detail));
    }

    fn fail(mut self, field: &'static str, detail: &'static str) -> Error {
        self.refuse(field, detail);
        Error::InvalidBody(self.entity, self.errors)
    }

    /// The value that was made of the fields, if none was refused.
    pub fn finish<T>(self, value: Option<T>) -> Result<T> {
        match value {
            Some(value) if self.errors.is_empty() => Ok(value),
            Some(_) | None => Err(Error::InvalidBody(self.entity, self.errors)),
        }
    }

    /// A required id: an integer or a numeric string.
    pub fn id(&mut self, field: &'static str) -> Option<Id> {
        let id = self
            .get(field, Rule::Id)
            .and_then(|value| Id::parse(scalar(value).as_bytes()));
        if id.is_none() {
            self.refuse(field, "must be a whole number from 1");
        }
        id
    }

    /// A whole number from 1, or the default, if there is one, when it is missing.
    pub fn integer(&mut self, field: &'static str, max: i32, default: Option<i32>) -> Option<i32> {
        let value = match self.get(field, Rule::Integer(max, default)) {
            Some(value) => integer(&scalar(value)).filter(|value| (1..=max).contains(value)),
            None => default,
        };
        if value.is_none() {
            self.refuse(field, format!("must be a whole number from 1 to {max}"));
        }
        value
    }

    /// A required truth value, in any of the forms that clients send.
    pub fn boolean(&mut self, field: &'static str) -> Option<bool> {
        let value = self
            .get(field, Rule::Boolean)
            .and_then(|value| match scalar(value).as_ref() {
                "true" | "1" => Some(true),
                "false" | "0" => Some(false),
                _ => None,
            });
        if value.is_none() {
            self.refuse(field, "must be true or false");
        }
        value
    }

    /// A required text with something in it, of at most so many code points.
    pub fn text(&mut self, field: &'static str, max: usize) -> Option<String> {
        let text = self.get(field, Rule::Text(max)).and_then(string);
        match text {
            Some(text) if !text.trim().is_empty() && text.chars().count() <= max => Some(text),
            Some(text) if text.trim().is_empty() => {
                self.refuse(field, "must not be blank");
                None
            }
            Some(_) => {
                self.refuse(field, format!("may have up to {max} characters"));
                None
            }
            None => {
                self.refuse(field, "must be a string");
                None
            }
        }
    }

    /// A text that may be missing, `null` or empty, all of which is the empty text.
    pub fn optional_text(&mut self, field: &'static str, max: usize) -> Option<String> {
        let Some(value) = self.get(field, Rule::OptionalText(max)) else {
            return Some(String::new());
        };
        let text = string(value).filter(|text| text.chars().count() <= max);
        if text.is_none() {
            self.refuse(field, format!("must be a string of up to {max} characters"));
        }
        text
    }

    /// A required text or number, which is taken as it was written; a text has something in it.
    pub fn text_or_number(&mut self, field: &'static str) -> Option<String> {
        let text = self.get(field, Rule::TextOrNumber).and_then(text_or_number);
        match text {
            Some(text) if !text.trim().is_empty() => Some(text),
            Some(_) => {
                self.refuse(field, "must not be blank");
                None
            }
            None => {
                self.refuse(field, "must be a string or a number");
                None
            }
        }
    }

    /// A text or a number, which is taken as it was written; `None` inside if it is missing.
    pub fn optional_text_or_number(&mut self, field: &'static str) -> Option<Option<String>> {
        let Some(value) = self.get(field, Rule::OptionalTextOrNumber) else {
            return Some(None);
        };
        let text = text_or_number(value);
        if text.is_none() {
            self.refuse(field, "must be a string or a number");
        }
        text.map(Some)
    }

    /// A list of strings, of which the empty ones are dropped; missing is empty. With `objects`, an element may also be
    /// an object whose `url` is the string.
    pub fn strings(
        &mut self,
        field: &'static str,
        max: usize,
        objects: bool,
    ) -> Option<Vec<String>> {
        let Some(value) = self.get(field, Rule::Strings(max, objects)) else {
            return Some(Vec::new());
        };
        let visitor = Strings { max, objects };
        let strings = serde_json::Deserializer::from_str(value.get()).deserialize_seq(visitor);
        if strings.is_err() {
            self.refuse(field, format!("must be a list of up to {max} strings"));
        }
        strings.ok()
    }

    /// Votes by characteristic: every value must be a vote; only keys that can be an id are kept.
    pub fn votes(&mut self, field: &'static str) -> Option<Vec<(i32, i16)>> {
        let Some(value) = self.get(field, Rule::Votes) else {
            return Some(Vec::new());
        };
        let votes = serde_json::Deserializer::from_str(value.get()).deserialize_map(Votes);
        if votes.is_err() {
            let max = limit::RATING;
            self.refuse(
                field,
                format!("must be an object of whole numbers from 1 to {max}"),
            );
        }
        votes.ok()
    }
}

fn malformed(detail: impl Into<Cow<'static, str>>) -> Error {
    Error::Malformed(detail.into())
}

fn syntax(error: serde_json::Error) -> Error {
    malformed(format!(
        "The body is not JSON: line {}, column {}.",
        error.line(),
        error.column()
    ))
}

/// Looks at every escape: whether one is U+0000; an unpaired surrogate is an error.
///
/// Outside of strings a backslash is a syntax error, which is found later.
fn check_escapes(text: &str) -> Result<bool> {
    let unpaired = || malformed("The body contains an unpaired surrogate.");
    let mut has_nul = false;
    let mut rest = text.as_bytes();
    while let Some(at) = rest.iter().position(|byte| *byte == b'\\') {
        rest = &rest[at + 1..];
        let Some((unit, after)) = utf16_unit(rest) else {
            // Skips the escaped character, which may be a backslash.
            rest = rest.get(1..).unwrap_or_default();
            continue;
        };
        rest = after;
        has_nul |= unit == 0;
        match unit {
            0xD800..=0xDBFF => {
                let low = rest.strip_prefix(b"\\").and_then(utf16_unit);
                let Some((0xDC00..=0xDFFF, after)) = low else {
                    return Err(unpaired());
                };
                rest = after;
            }
            0xDC00..=0xDFFF => return Err(unpaired()),
            _ => {}
        }
    }
    Ok(has_nul)
}

/// Reads `u` and four hexadecimal digits: one UTF-16 code unit (RFC 8259, section 7), and what is left of the text.
fn utf16_unit(text: &[u8]) -> Option<(u16, &[u8])> {
    let (digits, after) = text.strip_prefix(b"u")?.split_at_checked(4)?;
    if !digits.iter().all(u8::is_ascii_hexdigit) {
        return None;
    }
    let digits = std::str::from_utf8(digits).ok()?;
    Some((u16::from_str_radix(digits, 16).ok()?, after))
}

/// A JSON string, if that is what it is.
fn string(value: &RawValue) -> Option<String> {
    serde_json::from_str(value.get()).ok()
}

/// A JSON string, or a number as it was written.
fn text_or_number(value: &RawValue) -> Option<String> {
    match value.get().as_bytes().first() {
        Some(b'"') => string(value),
        Some(b'-' | b'0'..=b'9') => Some(value.get().to_owned()),
        Some(_) | None => None,
    }
}

/// The text of a value that may be a string or not: `5` and `"5"` are the same.
fn scalar(value: &RawValue) -> Cow<'_, str> {
    string(value).map_or_else(|| whole(value.get()).into(), Cow::Owned)
}

/// A number without its fraction, if that is zero: JSON does not tell `5.0` from `5`, and some clients write all numbers
/// so.
fn whole(number: &str) -> &str {
    match number.split_once('.') {
        Some((whole, fraction)) if fraction.bytes().all(|digit| digit == b'0') => whole,
        Some(_) | None => number,
    }
}

/// A whole number as JSON writes it.
fn integer(text: &str) -> Option<i32> {
    let digits = text.strip_prefix('-').unwrap_or(text);
    let is_canonical = digits.bytes().all(|byte| byte.is_ascii_digit())
        && (digits == "0" || !digits.starts_with('0'));
    text.parse().ok().filter(|_| is_canonical)
}

/// Keeps the fields that are known; of a repeated one the last, as JSON parsers do.
struct KnownFields<'f, 'a> {
    known: &'f [&'static str],
    fields: &'f mut Vec<(&'static str, &'a RawValue)>,
}

impl<'a> Visitor<'a> for KnownFields<'_, 'a> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<M: MapAccess<'a>>(self, mut map: M) -> std::result::Result<(), M::Error> {
        while let Some(key) = map.next_key::<String>()? {
            let Some(name) = self.known.iter().find(|name| **name == key) else {
                map.next_value::<IgnoredAny>()?;
                continue;
            };
            let value = map.next_value()?;
            self.fields.retain(|(field, _)| field != name);
            self.fields.push((name, value));
        }
        Ok(())
    }
}

/// A bounded list of strings.
struct Strings {
    max: usize,
    objects: bool,
}

impl<'a> Visitor<'a> for Strings {
    type Value = Vec<String>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a list of strings")
    }

    fn visit_seq<S: SeqAccess<'a>>(self, mut seq: S) -> std::result::Result<Vec<String>, S::Error> {
        let mut strings = Vec::new();
        while let Some(value) = seq.next_element::<&RawValue>()? {
            let text = match value.get().as_bytes().first() {
                Some(b'{') if self.objects => url(value),
                _ => string(value),
            };
            let text = text.ok_or_else(|| S::Error::custom("not a string"))?;
            if text.is_empty() {
                continue;
            }
            if strings.len() == self.max {
                return Err(S::Error::custom("too many"));
            }
            strings.push(text);
        }
        Ok(strings)
    }
}

/// The field `url` of an object.
fn url(value: &RawValue) -> Option<String> {
    let mut fields = Vec::new();
    let visitor = KnownFields {
        known: &["url"],
        fields: &mut fields,
    };
    serde_json::Deserializer::from_str(value.get())
        .deserialize_map(visitor)
        .ok()?;
    fields.first().and_then(|(_, value)| string(value))
}

/// Votes by characteristic.
struct Votes;

impl<'a> Visitor<'a> for Votes {
    type Value = Vec<(i32, i16)>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object of votes")
    }

    fn visit_map<M: MapAccess<'a>>(self, mut map: M) -> std::result::Result<Self::Value, M::Error> {
        let mut votes = std::collections::BTreeMap::new();
        while let Some((key, value)) = map.next_entry::<String, &RawValue>()? {
            let vote = integer(&scalar(value))
                .filter(|vote| (1..=limit::RATING).contains(vote))
                .and_then(|vote| i16::try_from(vote).ok())
                .ok_or_else(|| M::Error::custom("not a vote"))?;
            if let Some(id) = Id::parse(key.as_bytes()).and_then(|id| id.row()) {
                votes.insert(id, vote);
            }
        }
        Ok(votes.into_iter().collect())
    }
}

#[cfg(test)]
mod tests;
