//! The header fields of answers, described from samples of them.

use http::{HeaderMap, HeaderName, HeaderValue};
use serde_json::{Map, Value, json};

/// A field that is described, wherever it is sent.
struct Field {
    name: &'static str,
    about: &'static str,
    /// Whether it reaches clients: some are for caches of ours only.
    is_for_clients: bool,
    kind: Kind,
}

/// What may be in a field.
enum Kind {
    /// What the samples have, nothing else.
    AsSampled,
    /// What the samples have, with another id at its end.
    Path,
    Number,
    /// What this pattern matches.
    Pattern(&'static str),
}

/// A list of strings, as a structured field.
const STRINGS: Kind = Kind::Pattern(r#"^"[^"]+"(, "[^"]+")*$"#);

/// The fields, in the order of the document.
const FIELDS: [Field; 12] = [
    Field {
        name: "Allow",
        about: "The methods of this path.",
        is_for_clients: true,
        kind: Kind::Pattern("^[A-Z]+(, ?[A-Z]+)*$"),
    },
    Field {
        name: "Cache-Control",
        about: "What browsers may do with the answer: ask again each time, or not keep it.",
        is_for_clients: true,
        kind: Kind::AsSampled,
    },
    Field {
        name: "CDN-Cache-Control",
        about: "How long gateways may keep the answer (RFC 9213); they do not pass it on.",
        is_for_clients: false,
        kind: Kind::AsSampled,
    },
    Field {
        name: "Cache-Groups",
        about: "The groups that the answer belongs to (RFC 9875); gateways do not pass it on.",
        is_for_clients: false,
        kind: STRINGS,
    },
    Field {
        name: "Cache-Group-Invalidation",
        about: "The groups that the write has made out of date (RFC 9875); gateways do not pass \
            it on.",
        is_for_clients: false,
        kind: STRINGS,
    },
    Field {
        name: "Cache-Coherence-Token",
        about: "Names the write's transaction, for caches that follow the stream of changes: its number, and the \
            life of the database that gave it.",
        is_for_clients: false,
        kind: Kind::Pattern("^[0-9]+@[0-9A-Za-z._-]+$"),
    },
    Field {
        name: "ETag",
        about: "Identifies these bytes; weak if a gateway has compressed them.",
        is_for_clients: true,
        kind: Kind::Pattern(r#"^(W/)?"[!#-~]+"$"#),
    },
    Field {
        name: "Idempotency-Replayed",
        about: "Nothing was written now: this is the answer to the first request with this key.",
        is_for_clients: true,
        kind: Kind::AsSampled,
    },
    Field {
        name: "Location",
        about: "The path of what was created, for votes and reports; behind the prefix it was \
            asked under, if any.",
        is_for_clients: true,
        kind: Kind::Path,
    },
    Field {
        name: "Retry-After",
        about: "Seconds after which the request may be sent again.",
        is_for_clients: true,
        kind: Kind::Number,
    },
    Field {
        name: "Set-Cookie",
        about: "Names the cart of a client that named none.",
        is_for_clients: true,
        kind: Kind::Pattern("^atelier_cart=[0-9a-f]{32}; "),
    },
    Field {
        name: "WWW-Authenticate",
        about: "How to authenticate.",
        is_for_clients: true,
        kind: Kind::AsSampled,
    },
];

/// Describes the fields that at least one of the samples has; those that all have are always there.
pub fn describe(samples: &[HeaderMap]) -> Map<String, Value> {
    FIELDS
        .iter()
        .filter_map(|field| {
            let name = HeaderName::from_bytes(field.name.as_bytes()).ok()?;
            let values: Vec<&str> = samples
                .iter()
                .flat_map(|sample| sample.get(&name))
                .filter_map(|value| HeaderValue::to_str(value).ok())
                .collect();
            let example = *values.first()?;
            let described = json!({
                "description": field.about,
                "required": field.is_for_clients && values.len() == samples.len(),
                "schema": field.kind.schema(&values),
                "example": example,
            });
            Some((field.name.to_owned(), described))
        })
        .collect()
}

impl Kind {
    fn schema(&self, values: &[&str]) -> Value {
        match self {
            Self::AsSampled => {
                let mut values = values.to_vec();
                values.sort_unstable();
                values.dedup();
                json!({ "type": "string", "enum": values })
            }
            Self::Path => {
                let path = values.first().copied().unwrap_or_default();
                let base = path.trim_end_matches(|c: char| c.is_ascii_digit());
                json!({ "type": "string", "pattern": format!("{base}[1-9][0-9]*$") })
            }
            Self::Number => json!({ "type": "integer", "minimum": 1 }),
            Self::Pattern(pattern) => json!({ "type": "string", "pattern": pattern }),
        }
    }
}
