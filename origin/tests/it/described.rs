//! Every answer that a test gets is held against the API's description.

use std::{
    collections::HashMap,
    sync::{Arc, LazyLock, Mutex},
};

use jsonschema::{Draft, Registry, Resource, Validator};
use serde_json::{Map, Value, json};

use crate::support::Answer;

static DESCRIPTION: LazyLock<Description> = LazyLock::new(Description::new);

/// Fields that answers have and the document need not name; the router says `Allow` to a malformed id, too.
const PLUMBING: [&str; 6] = [
    "allow",
    "connection",
    "content-length",
    "content-type",
    "date",
    "x-request-id",
];

/// Asserts that the document says that a request may be answered so.
#[track_caller]
pub(crate) fn assert_described(method: &str, path: &str, answer: &Answer) {
    if let Err(fault) = check(method, path, answer) {
        panic!("{method} {path}: {fault}: {answer:?}");
    }
}

/// What the document says against an answer.
pub(crate) fn check(method: &str, path: &str, answer: &Answer) -> Result<(), String> {
    DESCRIPTION.check(method, path, answer)
}

/// Asserts that a value is what the schema at a place of the document says.
#[track_caller]
pub(crate) fn assert_valid(pointer: &str, value: &Value) {
    if let Err(fault) = DESCRIPTION.validate(pointer, value) {
        panic!("{pointer}: {fault}: {value}");
    }
}

/// The document, its models closed: what they do not name is a fault.
pub(crate) struct Description {
    document: Value,
    registry: Registry<'static>,
    validators: Mutex<HashMap<String, Arc<Validator>>>,
}

const NAME: &str = "urn:atelier";

impl Description {
    fn new() -> Self {
        let open = origin::openapi::document("/");
        let mut document = open.clone();
        for schema in document["components"]["schemas"]
            .as_object_mut()
            .unwrap()
            .values_mut()
        {
            close(schema, &open);
        }
        let resource = Resource::from_contents(document.clone());
        let registry = Registry::new()
            .add(NAME, resource)
            .unwrap()
            .prepare()
            .unwrap();
        Self {
            document,
            registry,
            validators: Mutex::default(),
        }
    }

    fn validate(&self, pointer: &str, value: &Value) -> Result<(), String> {
        let known = self.validators.lock().unwrap().get(pointer).cloned();
        let validator = known.unwrap_or_else(|| {
            let fragment = pointer.replace('{', "%7B").replace('}', "%7D");
            let validator = jsonschema::options()
                .with_draft(Draft::Draft202012)
                .with_registry(&self.registry)
                .should_validate_formats(true)
                .build(&json!({ "$ref": format!("{NAME}#{fragment}") }))
                .unwrap_or_else(|error| panic!("{pointer}: {error}"));
            let validator = Arc::new(validator);
            self.validators
                .lock()
                .unwrap()
                .insert(pointer.to_owned(), Arc::clone(&validator));
            validator
        });
        validator
            .validate(value)
            .map_err(|error| format!("{} at {}", error, error.instance_path()))
    }

    /// The place of the description of an answer.
    fn place(&self, method: &str, path: &str, status: u16) -> Result<String, String> {
        let method = if method == "HEAD" {
            "get".to_owned()
        } else {
            method.to_lowercase()
        };
        let paths = self.document["paths"].as_object().unwrap();
        let shared = |name: &str| format!("/components/responses/{name}");
        let path = path.split('?').next().unwrap_or_default();
        let Some((route, item)) = paths.iter().find(|(route, _)| matches(route, path)) else {
            return match status {
                404 => Ok(shared("NotFound")),
                414 => Ok(shared("UriTooLong")),
                503 => Ok(shared("ServiceUnavailable")),
                _ => Err("no such path is described".to_owned()),
            };
        };
        let operations = item.as_object().unwrap();
        // Of an undescribed method: a malformed id comes first, for which any operation will do.
        let method = match operations.get(&method) {
            Some(_) => method,
            None if status == 405 => return Ok(shared("MethodNotAllowed")),
            None => operations
                .keys()
                .find(|key| *key != "parameters")
                .unwrap()
                .clone(),
        };
        let response = &operations[&method]["responses"][status.to_string()];
        if response.is_null() {
            return Err("no such status is described".to_owned());
        }
        let route = route.replace('/', "~1");
        let place = response["$ref"].as_str().map(|name| name[1..].to_owned());
        Ok(place.unwrap_or_else(|| format!("/paths/{route}/{method}/responses/{status}")))
    }

    fn check(&self, method: &str, path: &str, answer: &Answer) -> Result<(), String> {
        let place = self.place(method, path, answer.status.as_u16())?;
        let response = self.document.pointer(&place).unwrap();
        self.check_fields(&place, &response["headers"], answer)?;
        let Some(content) = response["content"].as_object() else {
            return if answer.body.is_empty() {
                Ok(())
            } else {
                Err("a body".to_owned())
            };
        };
        let essence = answer
            .field("content-type")
            .split(';')
            .next()
            .unwrap_or_default();
        if !content.contains_key(essence) {
            return Err(format!("no body of type {essence:?} is described"));
        }
        if method == "HEAD" {
            return Ok(());
        }
        let value = match essence {
            "text/plain" => Value::from(answer.text()),
            _ => answer.json(),
        };
        let media_type = essence.replace('/', "~1");
        self.validate(&format!("{place}/content/{media_type}/schema"), &value)
    }

    fn check_fields(&self, place: &str, described: &Value, answer: &Answer) -> Result<(), String> {
        let none = Map::new();
        let described = described.as_object().unwrap_or(&none);
        for (name, field) in described {
            let Some(value) = answer.headers.get(name) else {
                if field["required"] == true {
                    return Err(format!("no field {name}"));
                }
                continue;
            };
            let text = value.to_str().map_err(|error| error.to_string())?;
            let value = match field["schema"]["type"].as_str() {
                Some("integer") => text
                    .parse::<u64>()
                    .map_err(|error| error.to_string())?
                    .into(),
                _ => Value::from(text),
            };
            self.validate(&format!("{place}/headers/{name}/schema"), &value)?;
        }
        let undescribed = answer
            .headers
            .keys()
            .map(http::HeaderName::as_str)
            .find(|name| {
                !PLUMBING.contains(name)
                    && !described.keys().any(|key| key.eq_ignore_ascii_case(name))
            });
        undescribed.map_or(Ok(()), |name| Err(format!("an undescribed field {name}")))
    }
}

/// Whether a path is one of a route's, in any of its spellings.
fn matches(route: &str, path: &str) -> bool {
    let route: Vec<_> = route.split('/').skip(1).collect();
    let path: Vec<_> = path
        .split('/')
        .filter(|segment| !segment.is_empty())
        .collect();
    let same =
        |(expected, segment): (&&str, &&str)| expected.starts_with('{') || expected == segment;
    route.len() == path.len() && route.iter().zip(&path).all(same)
}

/// Has a model refuse fields that it does not name, at any depth.
fn close(schema: &mut Value, document: &Value) {
    match schema {
        Value::Object(fields) => {
            let parts = fields.get_mut("allOf").and_then(Value::as_array_mut);
            if let Some(parts) = parts.filter(|parts| parts.len() > 1) {
                // The parts know each other's fields only together.
                for part in parts {
                    if let Some(name) = part["$ref"].as_str() {
                        *part = document.pointer(&name[1..]).unwrap().clone();
                    }
                }
                fields.insert("unevaluatedProperties".into(), false.into());
                return;
            }
            for inner in fields.values_mut() {
                close(inner, document);
            }
            if fields.get("properties").is_some_and(Value::is_object)
                && fields.get("type") == Some(&"object".into())
            {
                fields.entry("additionalProperties").or_insert(false.into());
            }
        }
        Value::Array(items) => items.iter_mut().for_each(|item| close(item, document)),
        _ => {}
    }
}
