//! How the API describes itself: each method of a path as an `OpenAPI` operation.
//!
//! What can be taken from the code is: shapes of answers from the models, rules of bodies from what reads them
//! ([`crate::object::Rule`]), errors and header fields from what writes them. A resource's `docs.rs` adds the words and an
//! example.

pub mod body;
pub mod errors;
pub mod fields;

use std::collections::BTreeMap;

use axum::response::Response;
use http::HeaderMap;
use serde_json::{Value, json};
use utoipa::{
    ToSchema,
    openapi::{RefOr, Schema},
};

use crate::{
    body::{DRAINED_BYTES_MAX, ended_early},
    cache_policy::{CacheHeaders, CachePolicy, Change},
    error::{Error, Result},
    extract::{self, FromObject},
    idempotency::Created,
    page::Page,
    reply,
};

/// A JSON Schema, and those it refers to, by name.
#[derive(Clone, Debug)]
pub struct Shape {
    schema: Value,
    parts: BTreeMap<String, Value>,
}

impl Shape {
    /// What a model is sent as.
    pub fn of<T: ToSchema>() -> Self {
        let mut parts = Vec::new();
        T::schemas(&mut parts);
        parts.push((T::name().into_owned(), T::schema()));
        let value = |schema: RefOr<Schema>| serde_json::to_value(schema).unwrap_or_default();
        Self {
            schema: component("schemas", &T::name()),
            parts: parts
                .into_iter()
                .map(|(name, schema)| (name, value(schema)))
                .collect(),
        }
    }

    /// A list of what a model is sent as.
    pub fn list_of<T: ToSchema>() -> Self {
        let Self { schema, parts } = Self::of::<T>();
        Self {
            schema: json!({ "type": "array", "items": schema }),
            parts,
        }
    }

    /// The same, with a part that a model only refers to.
    pub fn with(mut self, name: &str, schema: Value) -> Self {
        self.parts.insert(name.to_owned(), schema);
        self
    }

    /// The schemas that this one refers to, and the models' own, by name.
    pub fn into_parts(self) -> BTreeMap<String, Value> {
        self.parts
    }

    /// A schema in words of its own.
    pub fn new(schema: Value) -> Self {
        Self {
            schema,
            parts: BTreeMap::new(),
        }
    }
}

/// Refers to a part of the document that has a name.
pub fn component(kind: &str, name: &str) -> Value {
    json!({ "$ref": format!("#/components/{kind}/{name}") })
}

/// Stands for the digest of the build in examples.
const RELEASE: &str = "0123456789ab";

/// One method of a path.
#[derive(Debug)]
pub struct Operation {
    /// The method, in lower case, as the document names it.
    pub method: &'static str,
    /// The schemas that the operation refers to.
    pub parts: BTreeMap<String, Value>,
    id: &'static str,
    summary: &'static str,
    description: String,
    parameters: Vec<Value>,
    body: Option<Value>,
    responses: BTreeMap<u16, Value>,
    errors: Vec<Error>,
}

impl Operation {
    fn new(method: &'static str, id: &'static str, summary: &'static str) -> Self {
        Self {
            method,
            parts: BTreeMap::new(),
            id,
            summary,
            description: String::new(),
            parameters: Vec::new(),
            body: None,
            responses: BTreeMap::new(),
            errors: Vec::new(),
        }
    }

    /// A GET, with an example of its answer.
    pub fn read(
        id: &'static str,
        summary: &'static str,
        policy: CachePolicy,
        shape: Shape,
        example: &Value,
    ) -> Self {
        let mut operation = Self::new("get", id, summary).drains_body();
        let is_public = policy.is_public();
        let fields = sent(reply::json(policy, example));
        let response = json!({
            "description": "What was asked for.",
            "headers": fields::describe(std::slice::from_ref(&fields)),
            "content": { "application/json": { "schema": shape.schema, "example": example } },
        });
        operation.parts = shape.parts;
        operation.responses.insert(200, response);
        if is_public {
            let unchanged = json!({
                "description": "The client has this answer already: `If-None-Match` names its \
                    `ETag`.",
                "headers": fields::describe(&[fields]),
            });
            operation.responses.insert(304, unchanged);
            operation
                .parameters
                .push(component("parameters", "IfNoneMatch"));
        }
        operation
    }

    /// A POST, with a word about each field of its body, and an example of it.
    pub fn create<T: FromObject>(
        id: &'static str,
        summary: &'static str,
        words: &[(&str, &str)],
        example: &Value,
    ) -> Self {
        let mut operation = Self::new("post", id, summary);
        operation.body = Some(body::request::<T>(words, example));
        operation
            .parameters
            .push(component("parameters", "IdempotencyKey"));
        operation.errors = vec![
            body::not_json::<T>(),
            extract::bad_idempotency_key(),
            ended_early(),
            Error::TooLarge(T::BYTES_MAX),
            Error::UnsupportedMediaType,
            Error::IdempotencyInProgress,
            body::empty::<T>(),
            Error::IdempotencyKeyReused,
        ];
        operation
    }

    /// What a POST answers: where the created thing is, which groups are out of date, and what else may be among the
    /// fields.
    pub fn created(mut self, location: Option<&str>, groups: &[&str], more: HeaderMap) -> Self {
        let answer = |is_replay| {
            sent(Ok(reply::created(Created {
                location: location.map(str::to_owned),
                change: change_of(groups),
                is_replay,
            })))
        };
        let mut first = answer(false);
        first.extend(more);
        let response = json!({
            "description": "Stored, durably.",
            "headers": fields::describe(&[first, answer(true)]),
            "content": { "text/plain": {
                "schema": { "type": "string", "const": "Created" },
                "example": "Created",
            } },
        });
        self.responses.insert(201, response);
        self
    }

    /// A PUT, and an example of the groups that are out of date.
    pub fn change(id: &'static str, summary: &'static str, groups: &[&str]) -> Self {
        // For an unknown id nothing is out of date.
        let samples = [
            sent(Ok(reply::changed(Some(change_of(groups))))),
            sent(Ok(reply::changed(None))),
        ];
        let response = json!({
            "description": "Done; also if there is nothing with this id.",
            "headers": fields::describe(&samples),
        });
        let mut operation = Self::new("put", id, summary).drains_body();
        operation.responses.insert(204, response);
        operation
    }

    /// A body means nothing here, but may be sent.
    fn drains_body(mut self) -> Self {
        self.errors.push(Error::TooLarge(DRAINED_BYTES_MAX));
        self.errors.push(ended_early());
        self
    }

    /// Says more about the operation.
    pub fn about(mut self, text: &str) -> Self {
        self.description.push_str(text);
        self
    }

    /// Takes a parameter of the query.
    pub fn query(mut self, name: &str, about: &str, schema: Value, example: Value) -> Self {
        self.parameters
            .push(parameter("query", name, about, schema, example));
        self
    }

    /// Takes a cookie.
    pub fn cookie(mut self, name: &str, about: &str, schema: Value, example: Value) -> Self {
        self.parameters
            .push(parameter("cookie", name, about, schema, example));
        self
    }

    /// Takes the parameter that every list of a product needs.
    pub fn of_product(mut self) -> Self {
        self.parameters.push(component("parameters", "ProductId"));
        self.errors.push(Error::InvalidProductId);
        self
    }

    /// Takes the parameters of a list.
    pub fn paged(mut self, count_max: u32) -> Self {
        let name = format!("Count{count_max}");
        self.parameters.push(component("parameters", "Page"));
        self.parameters.push(component("parameters", &name));
        self
    }

    /// May end in this error, too.
    pub fn or(mut self, error: Error) -> Self {
        self.errors.push(error);
        self
    }

    /// The Operation Object of the document.
    pub fn render(mut self, path: &str, tag: &str) -> Value {
        if let Some(resource) = extract::path_resource(path) {
            self.errors.insert(0, Error::InvalidId(resource));
        }
        let mut responses: BTreeMap<String, Value> = errors::responses(&self.errors);
        for (status, response) in self.responses {
            responses.insert(status.to_string(), response);
        }
        let mut operation = json!({
            "operationId": self.id,
            "summary": self.summary,
            "tags": [tag],
            "parameters": self.parameters,
            "responses": responses,
        });
        if !self.description.is_empty() {
            operation["description"] = self.description.into();
        }
        if let Some(body) = self.body {
            operation["requestBody"] = body;
        }
        operation
    }
}

/// A write's transaction, as an example.
const TOKEN: &str = "751@7412345678901234567.00000001.1b4e28ba-2fa1-4d2e-883f-0016d3cca427";

/// What a write has made out of date, as an example.
fn change_of(groups: &[&str]) -> Change {
    Change {
        groups: groups.iter().map(|group| (*group).to_owned()).collect(),
        token: (!groups.is_empty()).then(|| TOKEN.to_owned()),
    }
}

/// The header fields of an answer, cache fields included.
fn sent(response: Result<Response>) -> HeaderMap {
    let (mut parts, _) = response.unwrap_or_default().into_parts();
    let policy = parts.extensions.remove().unwrap_or(CachePolicy::NoStore);
    CacheHeaders::new(RELEASE).write(&policy, &mut parts.headers);
    parts.headers
}

fn parameter(place: &str, name: &str, about: &str, schema: Value, example: Value) -> Value {
    json!({ "name": name, "in": place, "description": about, "schema": schema, "example": example })
}

/// The parameters of a path, which are ids.
pub fn path_parameters(path: &str) -> Vec<Value> {
    path.split('/')
        .filter_map(|segment| segment.strip_prefix('{')?.strip_suffix('}'))
        .map(|name| {
            let about = "The id; one that names nothing may be of any size.";
            let mut parameter = parameter("path", name, about, id(), 2.into());
            parameter["required"] = true.into();
            parameter
        })
        .collect()
}

/// An id in a path or a query.
fn id() -> Value {
    json!({ "type": "integer", "minimum": 1 })
}

/// The parameters that more than one operation takes, by name.
pub fn shared_parameters() -> Value {
    // Nothing is refused, so nothing is malformed: a number outside the bounds, or no number at all, has a meaning.
    let number = |default: u32, max: u32| {
        json!({
            "anyOf": [{ "type": "integer", "minimum": 1, "maximum": max }, { "type": "string" }],
            "default": default,
        })
    };
    let count = |max: u32| {
        let about = format!(
            "Rows on a page. More than {max} is taken for {max}; what is no whole number from \
             1, for the default."
        );
        parameter(
            "query",
            "count",
            &about,
            number(Page::COUNT_DEFAULT, max),
            5.into(),
        )
    };
    let page = "Which page, from 1. More than the maximum is taken for it; what is no whole \
        number from 1, for the default. A page past the end has no rows.";
    let if_none_match = "The `ETag` of an answer that the client has, or a list of them, or `*`.";
    let key = "Makes a request safe to send again: the same key and body within 24 hours store \
        nothing twice, and the first answer is given again. A key belongs to its path, and to \
        the `Authorization` token or cart it was sent with.";
    let mut product_id = parameter("query", "product_id", "The product's id.", id(), 2.into());
    product_id["required"] = true.into();
    let mut parameters = json!({
        "ProductId": product_id,
        "Page": parameter("query", "page", page, number(1, Page::PAGE_MAX), 1.into()),
        "IfNoneMatch": parameter(
            "header", "If-None-Match", if_none_match, json!({ "type": "string" }),
            "\"e3b0c44298fc1c149afbf4c8996fb924\"".into(),
        ),
        "IdempotencyKey": parameter(
            "header", "Idempotency-Key", key,
            json!({ "type": "string", "pattern": "^[!-~]+$", "minLength": 1, "maxLength": extract::KEY_BYTES_MAX }),
            "5e6c2f3a-0d1b".into(),
        ),
    });
    for max in [Page::PRODUCTS_MAX, Page::ROWS_MAX] {
        parameters[format!("Count{max}")] = count(max);
    }
    parameters
}
