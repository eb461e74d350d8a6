//! The `[[route]]` tables: which paths the origins have, and which of their query parameters mean something.

use std::collections::BTreeMap;

use http::Method;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::text;

/// Known parameters of one route at most.
pub const PARAMETERS_MAX: usize = 16;

/// One path of the origins and how requests for it are keyed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Route {
    /// The path after prefixes, with `{name}` for one free segment, as `/products/{id}/styles`.
    pub path: String,
    /// The methods the path accepts; only GET and HEAD are ever cached.
    pub methods: Vec<Method>,
    /// Whether answers of this path may be kept.
    pub cache: bool,
    /// The known query parameters, in the order in which they enter the key and reach the origin.
    pub query: Vec<Parameter>,
}

/// One known query parameter.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Parameter {
    /// Its name, after percent-decoding.
    pub name: String,
    /// Which values are the same.
    pub kind: ParameterKind,
}

/// How a parameter's value becomes its effective value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ParameterKind {
    /// Every value means itself; a missing one stays missing.
    Verbatim,
    /// Decimal digits; anything else, and everything below `min`, is `default`; above `max` it is `max`.
    Integer {
        /// The value of a missing or unusable parameter.
        default: u64,
        /// The lowest usable value.
        min: u64,
        /// The highest value; larger ones count as this one.
        max: u64,
    },
    /// One of a few words; anything else is `default`.
    Choice {
        /// The canonical values, each with the other spellings that mean it.
        values: Vec<(String, Vec<String>)>,
        /// The value of a missing or unknown parameter; one of the canonical values.
        default: String,
        /// Whether letter case is ignored.
        ignore_case: bool,
    },
}

/// One segment of a path pattern.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Segment {
    /// Exactly this text.
    Literal(Box<str>),
    /// Any text but nothing: `{name}` in the pattern.
    Free,
}

/// Splits a path pattern such as `/products/{id}` into its segments.
///
/// # Errors
/// What is wrong with the pattern, and what would be right.
pub fn segments(path: &str) -> Result<Vec<Segment>, String> {
    let Some(rest) = path.strip_prefix('/') else {
        return Err("a path starts with a slash".to_owned());
    };
    if rest.is_empty() {
        return Ok(vec![Segment::Literal("".into())]);
    }
    rest.split('/').map(segment).collect()
}

fn segment(text: &str) -> Result<Segment, String> {
    if let Some(name) = text
        .strip_prefix('{')
        .and_then(|text| text.strip_suffix('}'))
    {
        let is_name = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_';
        if name.is_empty() || !name.bytes().all(is_name) {
            return Err(format!("`{text}` is not a free segment: write {{name}}"));
        }
        return Ok(Segment::Free);
    }
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~!$&'()*+,;=:@".contains(&byte);
    if text.is_empty() {
        Err("a path has no empty segment and no slash at its end".to_owned())
    } else if matches!(text, "." | "..") || !text.bytes().all(is_plain) {
        Err(format!(
            "`{text}` is not a path segment in its canonical spelling"
        ))
    } else {
        Ok(Segment::Literal(text.into()))
    }
}

/// `[[route]]`: one path of the site, after prefixes.
#[derive(Debug, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct RouteTable {
    /// Such as `/products/{id}/styles`; literal segments win over free ones.
    #[schemars(example = "/products/{id}/styles")]
    path: String,
    /// What the path accepts; only GET and HEAD are ever cached.
    #[serde(default = "reads", with = "text::methods")]
    #[schemars(with = "Vec<String>")]
    methods: Vec<Method>,
    /// Whether answers may be kept, if the origin allows it.
    #[serde(default = "yes")]
    cache: bool,
    /// Known parameters, in the order in which they are keyed and sent.
    #[serde(default)]
    #[schemars(example = sample_query())]
    query: Vec<ParameterTable>,
}

/// A parameter of each kind that has settings of its own.
fn sample_query() -> serde_json::Value {
    serde_json::json!([
        { "name": "page", "kind": "integer", "default": 1, "min": 1, "max": 1000 },
        {
            "name": "sort",
            "kind": "choice",
            "default": "newest",
            "values": { "newest": ["new"], "oldest": [] },
            "ignore_case": true,
        },
    ])
}

fn reads() -> Vec<Method> {
    vec![Method::GET, Method::HEAD]
}

fn yes() -> bool {
    true
}

/// One entry of `query` as written; which keys it may have depends on its kind.
#[derive(Debug, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct ParameterTable {
    /// Its name, after percent-decoding.
    name: String,
    /// Which of its values are the same.
    #[serde(default)]
    kind: KindName,
    /// The value of a missing or unusable one: a whole number, or one of `values`.
    #[schemars(with = "Option<serde_json::Value>")]
    default: Option<toml::Value>,
    /// The lowest usable number.
    min: Option<u64>,
    /// The highest number; larger ones count as this one.
    max: Option<u64>,
    /// The words, each with the other spellings that mean it.
    values: Option<BTreeMap<String, Vec<String>>>,
    /// Whether letter case is ignored.
    ignore_case: Option<bool>,
}

#[derive(Debug, Default, Clone, Copy, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
enum KindName {
    /// Every value means itself.
    #[default]
    Verbatim,
    /// Decimal digits, between `min` and `max`.
    Integer,
    /// One of `values`.
    Choice,
}

/// A problem of one route: the key below the route's own, and what is wrong.
pub(super) type RouteProblem = (String, String);

impl RouteTable {
    /// Turns the table into a route; unusable parameters are left out and reported.
    pub(super) fn into_route(self, problems: &mut Vec<RouteProblem>) -> Route {
        if let Err(problem) = segments(&self.path) {
            problems.push(("path".to_owned(), problem));
        }
        if self.methods.is_empty() {
            problems.push((
                "methods".to_owned(),
                "a route accepts at least one method".to_owned(),
            ));
        }
        if self.query.len() > PARAMETERS_MAX {
            let message = format!("a route has at most {PARAMETERS_MAX} parameters");
            problems.push(("query".to_owned(), message));
        }
        let mut query: Vec<Parameter> = Vec::with_capacity(self.query.len());
        for (index, table) in self.query.into_iter().enumerate() {
            let mut report = |key: &str, message: String| {
                problems.push((format!("query[{index}].{key}"), message));
            };
            if table.name.is_empty() || query.iter().any(|known| known.name == table.name) {
                report("name", format!("`{}` is empty or named twice", table.name));
            }
            let name = table.name.clone();
            if let Some(kind) = table.into_kind(&mut report) {
                query.push(Parameter { name, kind });
            }
        }
        Route {
            path: self.path,
            methods: self.methods,
            cache: self.cache,
            query,
        }
    }
}

impl ParameterTable {
    fn into_kind(self, report: &mut dyn FnMut(&str, String)) -> Option<ParameterKind> {
        let present = [
            ("default", self.default.is_some()),
            ("min", self.min.is_some()),
            ("max", self.max.is_some()),
            ("values", self.values.is_some()),
            ("ignore_case", self.ignore_case.is_some()),
        ];
        let (kind, allowed): (_, &[&str]) = match self.kind {
            KindName::Verbatim => ("verbatim", &[]),
            KindName::Integer => ("integer", &["default", "min", "max"]),
            KindName::Choice => ("choice", &["default", "values", "ignore_case"]),
        };
        for (key, _) in present
            .iter()
            .filter(|(key, is)| *is && !allowed.contains(key))
        {
            report(key, format!("a parameter of kind {kind} has no `{key}`"));
        }
        match self.kind {
            KindName::Verbatim => Some(ParameterKind::Verbatim),
            KindName::Integer => self.into_integer(report),
            KindName::Choice => self.into_choice(report),
        }
    }

    fn into_integer(self, report: &mut dyn FnMut(&str, String)) -> Option<ParameterKind> {
        let number = self
            .default
            .and_then(|value| u64::try_from(value.as_integer()?).ok());
        let Some(default) = number else {
            report(
                "default",
                "an integer needs a default: a whole number from 0".to_owned(),
            );
            return None;
        };
        let (min, max) = (self.min.unwrap_or(0), self.max.unwrap_or(u64::MAX));
        if !(min..=max).contains(&default) {
            report(
                "default",
                format!("{default} is not between {min} and {max}"),
            );
        }
        Some(ParameterKind::Integer { default, min, max })
    }

    fn into_choice(self, report: &mut dyn FnMut(&str, String)) -> Option<ParameterKind> {
        let ignore_case = self.ignore_case.unwrap_or(false);
        let values: Vec<_> = self.values.unwrap_or_default().into_iter().collect();
        let mut seen: Vec<String> = Vec::new();
        for word in values
            .iter()
            .flat_map(|(value, aliases)| std::iter::once(value).chain(aliases))
        {
            let word = if ignore_case {
                word.to_ascii_lowercase()
            } else {
                word.clone()
            };
            if seen.contains(&word) {
                report("values", format!("`{word}` is named twice"));
            }
            seen.push(word);
        }
        let default = self
            .default
            .as_ref()
            .and_then(toml::Value::as_str)
            .unwrap_or_default();
        if !values.iter().any(|(value, _)| value == default) {
            report(
                "default",
                "a choice needs a default: one of its values".to_owned(),
            );
            return None;
        }
        Some(ParameterKind::Choice {
            values,
            default: default.to_owned(),
            ignore_case,
        })
    }
}
