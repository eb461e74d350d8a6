//! Bodies of requests, described by the rules of the code that reads them.

use serde_json::{Map, Value, json};

use crate::{
    error::Error,
    extract::FromObject,
    object::{Object, Rule, limit},
};

/// The fields that an endpoint reads from a body, with their rules.
pub fn rules<T: FromObject>() -> Vec<(&'static str, Rule)> {
    let mut object = Object::asked(T::ENTITY);
    // Refused, for it has no fields; what counts is which were asked for.
    let _ = T::from_object(&mut object);
    object.into_rules()
}

/// What a body without any field is refused with.
pub fn empty<T: FromObject>() -> Error {
    let mut object = Object::asked(T::ENTITY);
    let value = T::from_object(&mut object);
    let refused = object.finish(value).err();
    refused.unwrap_or_else(|| Error::InvalidBody(T::ENTITY, Vec::new()))
}

/// What a body that is no JSON is refused with: one that ends after its first brace.
pub fn not_json<T: FromObject>() -> Error {
    let refused = Object::parse(T::ENTITY, b"{", T::FIELDS).err();
    refused.unwrap_or_else(|| Error::Malformed("".into()))
}

/// The Request Body Object of an endpoint.
pub fn request<T: FromObject>(words: &[(&str, &str)], example: &Value) -> Value {
    let about = format!(
        "A JSON object of up to {} bytes, sent as `application/json`, any `+json` type, \
         `text/plain` or without a type, and without a coding. An empty body is an empty \
         object. `null` is the same as a missing field; unknown fields are ignored; no string \
         may contain U+0000.",
        T::BYTES_MAX
    );
    json!({
        "description": about,
        "required": true,
        "content": { "application/json": { "schema": schema::<T>(words), "example": example } },
    })
}

fn schema<T: FromObject>(words: &[(&str, &str)]) -> Value {
    let rules = rules::<T>();
    let required: Vec<_> = rules
        .iter()
        .filter(|(_, rule)| is_required(rule))
        .map(|(name, _)| *name)
        .collect();
    let properties: Map<_, _> = rules
        .iter()
        .map(|(name, rule)| {
            let mut schema = value(rule, T::BYTES_MAX);
            if let Some((_, about)) = words.iter().find(|(field, _)| field == name) {
                schema["description"] = (*about).into();
            }
            ((*name).to_owned(), schema)
        })
        .collect();
    json!({
        "type": "object",
        "required": required,
        "properties": properties,
        "propertyNames": { "pattern": WITHOUT_NUL },
        "additionalProperties": any_value(),
    })
}

fn is_required(rule: &Rule) -> bool {
    match rule {
        Rule::Id | Rule::Integer(_, None) | Rule::Boolean | Rule::Text(_) | Rule::TextOrNumber => {
            true
        }
        Rule::Integer(_, Some(_))
        | Rule::OptionalText(_)
        | Rule::OptionalTextOrNumber
        | Rule::Strings(..)
        | Rule::Votes => false,
    }
}

/// A string without U+0000, which Postgres cannot store.
const WITHOUT_NUL: &str = r"^[^\u0000]*$";
/// The same, with at least one character that is not white space.
const NOT_BLANK: &str = concat!(
    r"^[^\u0000]*[^\u0000\t-\r \u0085\u00a0\u1680\u2000-\u200a\u2028\u2029\u202f\u205f\u3000]",
    r"[^\u0000]*$"
);

fn any_value() -> Value {
    super::component("schemas", ANY_VALUE)
}

/// The name of the schema of values that are ignored.
const ANY_VALUE: &str = "AnyValue";

/// The schema that unknown fields follow, under its name.
pub fn shared_schema() -> (String, Value) {
    let schema = json!({
        "description": "Any value without U+0000 in its strings and names.",
        "anyOf": [
            { "type": ["null", "boolean", "number"] },
            { "type": "string", "pattern": WITHOUT_NUL },
            { "type": "array", "items": any_value() },
            { "type": "object", "propertyNames": { "pattern": WITHOUT_NUL }, "additionalProperties": any_value() },
        ],
    });
    (ANY_VALUE.to_owned(), schema)
}

/// The schema of a field; a text that only the size of the body bounds has no length of its own.
fn value(rule: &Rule, bytes_max: usize) -> Value {
    match *rule {
        Rule::Id => json!({ "anyOf": [
            { "type": "integer", "minimum": 1 },
            { "type": "string", "pattern": "^[1-9][0-9]*$" },
        ] }),
        Rule::Integer(max, default) => integer(max, default),
        Rule::Boolean => json!({ "enum": [true, false, 1, 0, "true", "false", "1", "0"] }),
        Rule::Text(max) if max >= bytes_max => json!({ "type": "string", "pattern": NOT_BLANK }),
        Rule::Text(max) => json!({ "type": "string", "pattern": NOT_BLANK, "maxLength": max }),
        Rule::OptionalText(max) => {
            json!({ "type": ["string", "null"], "pattern": WITHOUT_NUL, "maxLength": max })
        }
        Rule::TextOrNumber => json!({ "type": ["string", "number"], "pattern": NOT_BLANK }),
        Rule::OptionalTextOrNumber => {
            json!({ "type": ["string", "number", "null"], "pattern": WITHOUT_NUL })
        }
        Rule::Strings(max, objects) => strings(max, objects),
        Rule::Votes => json!({
            "type": ["object", "null"],
            "propertyNames": { "pattern": WITHOUT_NUL },
            "additionalProperties": integer(limit::RATING, None),
        }),
    }
}

/// A number, or its digits as a string.
fn integer(max: i32, default: Option<i32>) -> Value {
    let number = json!({ "type": "integer", "minimum": 1, "maximum": max });
    let text = json!({ "type": "string", "pattern": pattern_to(max) });
    match default {
        Some(default) => json!({ "anyOf": [number, text, { "type": "null" }], "default": default }),
        None => json!({ "anyOf": [number, text] }),
    }
}

/// Matches the whole numbers from 1 to a maximum.
fn pattern_to(max: i32) -> String {
    let digits = max.to_string();
    let mut alternatives = vec![digits.clone()];
    for (at, digit) in digits.char_indices() {
        // The same beginning, then a smaller digit, then any.
        let first = if at == 0 { '1' } else { '0' };
        if digit > first {
            let last = char::from(digit as u8 - 1);
            let rest = digits.len() - at - 1;
            alternatives.push(format!("{}[{first}-{last}][0-9]{{{rest}}}", &digits[..at]));
        }
    }
    if digits.len() > 1 {
        alternatives.push(format!("[1-9][0-9]{{0,{}}}", digits.len() - 2));
    }
    format!("^({})$", alternatives.join("|"))
}

/// A list of strings: empty ones do not count.
fn strings(max: usize, objects: bool) -> Value {
    let text = json!({ "type": "string", "pattern": WITHOUT_NUL });
    let mut counted = vec![json!({ "type": "string", "minLength": 1 })];
    let mut items = vec![text.clone()];
    if objects {
        counted.push(json!({
            "type": "object",
            "properties": { "url": { "minLength": 1 } },
        }));
        items.push(json!({
            "type": "object",
            "required": ["url"],
            "properties": { "url": text },
            "propertyNames": { "pattern": WITHOUT_NUL },
            "additionalProperties": any_value(),
        }));
    }
    json!({
        "type": ["array", "null"],
        "items": { "anyOf": items },
        "contains": { "anyOf": counted },
        "minContains": 0,
        "maxContains": max,
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn the_digits_of_a_number_match_exactly_up_to_the_maximum(max in 1..20_000_i32, number in 0..25_000_i32) {
            let schema = json!({ "pattern": pattern_to(max) });
            let is_valid = jsonschema::is_valid(&schema, &number.to_string().into());
            prop_assert_eq!(is_valid, (1..=max).contains(&number), "{}", schema);
        }
    }
}
