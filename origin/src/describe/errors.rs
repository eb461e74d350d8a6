//! Errors as answers of the document: their bodies and fields are those that [`Error::write`] writes.

use std::collections::BTreeMap;

use axum::response::Response;
use http::{
    HeaderMap, HeaderValue, StatusCode,
    header::{ALLOW, CACHE_CONTROL, RETRY_AFTER, WWW_AUTHENTICATE},
};
use serde_json::{Map, Value, json};

use super::{component, fields, sent};
use crate::error::Error;

/// Answers that any operation may have, by the names they are referred to.
///
/// `NotFound` and `MethodNotAllowed` are those of requests that are no operation.
pub fn shared() -> Map<String, Value> {
    let mut shared: Map<_, _> = [
        ("NotFound", Error::NotFound),
        ("MethodNotAllowed", Error::MethodNotAllowed),
        ("UriTooLong", Error::UriTooLong),
        ("InternalError", Error::Internal("".into())),
        ("Timeout", Error::Timeout),
    ]
    .into_iter()
    .map(|(name, error)| (name.to_owned(), response(&[error])))
    .collect();
    let unavailable = [Error::Unavailable("".into()), Error::Loading];
    shared.insert("ServiceUnavailable".to_owned(), response(&unavailable));
    shared.extend(OF_GATEWAYS.map(|error| (error.name.to_owned(), error.response())));
    shared
}

/// The shared answers of every operation, by status.
const OF_EVERY_OPERATION: [(u16, &str); 7] = [
    (401, "Unauthorized"),
    (414, "UriTooLong"),
    (429, "RateLimited"),
    (500, "InternalError"),
    (502, "BadGateway"),
    (503, "ServiceUnavailable"),
    (504, "Timeout"),
];

/// The answers of an operation that may end in these errors, and in those that every operation may end in.
pub fn responses(errors: &[Error]) -> BTreeMap<String, Value> {
    let mut by_status: BTreeMap<u16, Vec<Error>> = BTreeMap::new();
    for error in errors {
        let same_status = by_status.entry(error.status().as_u16()).or_default();
        same_status.push(error.clone());
    }
    let own = by_status
        .into_iter()
        .map(|(status, errors)| (status.to_string(), response(&errors)));
    OF_EVERY_OPERATION
        .iter()
        .map(|(status, name)| (status.to_string(), component("responses", name)))
        .chain(own)
        .collect()
}

/// The Response Object of errors with the same status.
fn response(errors: &[Error]) -> Value {
    let mut content = Map::new();
    if let Some(texts) = texts(errors) {
        content.insert("text/plain".into(), texts);
    }
    content.insert("application/problem+json".into(), problems(errors));
    let samples: Vec<_> = errors.iter().flat_map(samples).collect();
    json!({
        "description": titles(errors),
        "headers": fields::describe(&samples),
        "content": content,
    })
}

/// What the errors are called, each once.
fn titles(errors: &[Error]) -> String {
    let mut titles: Vec<_> = errors.iter().map(Error::title).collect();
    titles.dedup();
    format!("{}.", titles.join(", or: "))
}

/// The bodies that shipped clients rely on, for the errors that have one.
fn texts(errors: &[Error]) -> Option<Value> {
    let texts: Vec<_> = errors
        .iter()
        .filter_map(|error| Some((error, error.text()?)))
        .collect();
    if texts.is_empty() {
        return None;
    }
    let values: Vec<_> = texts.iter().map(|(_, text)| text).collect();
    Some(json!({
        "schema": { "type": "string", "enum": values },
        "examples": examples(texts.iter().map(|(error, text)| (*error, text.as_str().into()))),
    }))
}

/// The problems; for errors that have a text, only if the client asks for them.
fn problems(errors: &[Error]) -> Value {
    let problems: Vec<(_, Value)> = errors
        .iter()
        .map(|error| {
            (
                error,
                serde_json::from_slice(&error.problem()).unwrap_or_default(),
            )
        })
        .collect();
    let values = problems.iter().map(|(_, problem)| problem);
    json!({
        "schema": problem_schema(values),
        "examples": examples(problems.iter().map(|(error, problem)| (*error, problem.clone()))),
    })
}

/// A problem of one of these types.
fn problem_schema<'a>(problems: impl Iterator<Item = &'a Value> + Clone) -> Value {
    let values = |name: &str| {
        let mut values: Vec<_> = problems.clone().map(|problem| &problem[name]).collect();
        values.dedup();
        json!(values)
    };
    json!({
        "allOf": [component("schemas", "Problem")],
        "properties": {
            "type": { "enum": values("type") },
            "title": { "enum": values("title") },
            "status": { "enum": values("status") },
        },
    })
}

/// Example Objects, named after the errors; of several with one name, the later ones have a number.
fn examples<'a>(values: impl Iterator<Item = (&'a Error, Value)>) -> Map<String, Value> {
    let mut examples = Map::new();
    for (error, value) in values {
        let code = error.code();
        let others = examples
            .keys()
            .filter(|name| name.starts_with(code))
            .count();
        let name = if others == 0 {
            code.to_owned()
        } else {
            format!("{code}-{}", others + 1)
        };
        examples.insert(name, json!({ "value": value }));
    }
    examples
}

/// The fields an error is sent with, in each of its forms.
fn samples(error: &Error) -> Vec<HeaderMap> {
    [false, true]
        .map(|accepts_problem| {
            let mut response = Response::default();
            let policy = error.write(&mut response, accepts_problem);
            response.extensions_mut().insert(policy);
            if matches!(error, Error::MethodNotAllowed) {
                // The router knows which methods there are.
                response
                    .headers_mut()
                    .insert(ALLOW, HeaderValue::from_static("GET,HEAD,POST"));
            }
            sent(Ok(response))
        })
        .into()
}

/// An error that only gateways answer with.
struct OfGateways {
    name: &'static str,
    status: StatusCode,
    code: &'static str,
    title: &'static str,
    detail: &'static str,
    field: Option<(http::HeaderName, &'static str)>,
}

const OF_GATEWAYS: [OfGateways; 3] = [
    OfGateways {
        name: "Unauthorized",
        status: StatusCode::UNAUTHORIZED,
        code: "unauthorized",
        title: "Unauthorized",
        detail: "A known token is required.",
        field: Some((WWW_AUTHENTICATE, "Bearer")),
    },
    OfGateways {
        name: "RateLimited",
        status: StatusCode::TOO_MANY_REQUESTS,
        code: "rate-limited",
        title: "Rate limited",
        detail: "Too many requests; try again.",
        field: Some((RETRY_AFTER, "1")),
    },
    OfGateways {
        name: "BadGateway",
        status: StatusCode::BAD_GATEWAY,
        code: "bad-gateway",
        title: "Bad gateway",
        detail: "The origin's answer was broken.",
        field: None,
    },
];

impl OfGateways {
    fn response(&self) -> Value {
        let problem = json!({
            "type": format!("/problems/{}", self.code),
            "title": self.title,
            "status": self.status.as_u16(),
            "detail": self.detail,
        });
        let mut headers = HeaderMap::new();
        headers.insert(CACHE_CONTROL, HeaderValue::from_static("private, no-store"));
        headers.extend(
            self.field
                .clone()
                .map(|(name, value)| (name, HeaderValue::from_static(value))),
        );
        json!({
            "description": format!("{}; said by gateways only.", self.title),
            "headers": fields::describe(&[headers]),
            "content": { "application/problem+json": {
                "schema": problem_schema(std::iter::once(&problem)),
                "examples": { self.code: { "value": problem } },
            } },
        })
    }
}
