//! The settings as JSON Schema (draft 2020-12), from the types that read them: for editors, and for the example.

use std::net::SocketAddr;

use schemars::JsonSchema;
use schemars::generate::SchemaSettings;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

use super::access_log::AccessLog;
use super::coherence::Coherence;
use super::kind;
use super::route::RouteTable;
use super::section::{Admin, Auth, Cache, Cors, Http, Limits, LoadTest, Upstream};
use super::tls::Tls;
use super::wording;

/// The settings of one gateway.
///
/// Sizes are whole numbers with B, KiB, MiB or GiB, durations with ms, s, m, h or d. Unknown settings are errors.
#[derive(Deserialize, Serialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub(super) struct Document {
    /// Where clients connect.
    listen: SocketAddr,
    /// Worker threads of the proxy; 1 on a machine of one virtual CPU.
    threads: usize,
    admin: Option<Admin>,
    tls: Option<Tls>,
    upstream: Upstream,
    cache: Cache,
    limits: Limits,
    http: Http,
    cors: Option<Cors>,
    auth: Auth,
    access_log: Option<AccessLog>,
    loadtest: LoadTest,
    coherence: Option<Coherence>,
    route: Vec<RouteTable>,
}

impl Default for Document {
    fn default() -> Self {
        Self::of(&super::Config::default())
    }
}

impl Document {
    /// The settings of a configuration, but for its routes.
    pub(super) fn of(config: &super::Config) -> Self {
        let config = config.clone();
        Self {
            listen: config.listen,
            threads: config.threads,
            admin: config.admin,
            tls: config.tls,
            upstream: config.upstream,
            cache: config.cache,
            limits: config.limits,
            http: config.http,
            cors: config.cors,
            auth: config.auth,
            access_log: config.access_log,
            loadtest: config.loadtest,
            coherence: config.coherence,
            route: Vec::new(),
        }
    }

    /// The same as JSON.
    pub(super) fn settings(&self) -> Value {
        serde_json::to_value(self).unwrap_or_default()
    }
}

/// No setting has this name: asked for it, a section answers with its own.
const NO_NAME: &str = "?";

/// The settings of a section such as `cache`, or of the top level for no path, in their order.
pub(super) fn names(path: &str) -> Vec<String> {
    let unknown: toml::Table = [(NO_NAME.to_owned(), toml::Value::Boolean(true))]
        .into_iter()
        .collect();
    let steps = path.split('.').filter(|step| !step.is_empty());
    let table = steps
        .rev()
        .fold(toml::Value::Table(unknown), |below, step| {
            let below = if matches!(step, "route" | "rewrites") {
                toml::Value::Array(vec![below])
            } else {
                below
            };
            toml::Value::Table([(step.to_owned(), below)].into_iter().collect())
        });
    match Document::deserialize(table) {
        Ok(_) => Vec::new(),
        Err(error) => wording::names(error.message())
            .into_iter()
            .map(str::to_owned)
            .collect(),
    }
}

/// The schema of the configuration file.
pub fn schema() -> Value {
    let settings = SchemaSettings::draft2020_12();
    let mut schema = settings
        .into_generator()
        .into_root_schema_for::<Document>()
        .to_value();
    durations_are_texts(&mut schema);
    schema
}

/// Every setting there is, as `cache.budget`, those of a route as `route.path`.
pub fn settings() -> Vec<String> {
    let schema = schema();
    let mut found = Vec::new();
    collect(&schema, &schema, "", &mut found);
    found
}

fn collect(schema: &Value, root: &Value, path: &str, found: &mut Vec<String>) {
    for (name, property) in properties(schema, root).into_iter().flatten() {
        let path = if path.is_empty() {
            name.clone()
        } else {
            format!("{path}.{name}")
        };
        let below = section_of(property, root);
        if properties(below, root).is_some() {
            collect(below, root, &path, found);
        } else {
            found.push(path);
        }
    }
}

/// The settings of a table.
pub(super) fn properties<'a>(schema: &'a Value, root: &'a Value) -> Option<&'a Map<String, Value>> {
    resolve(schema, root)["properties"].as_object()
}

/// What a property holds: the table behind a reference, an option or a list.
pub(super) fn section_of<'a>(property: &'a Value, root: &'a Value) -> &'a Value {
    let resolved = resolve(property, root);
    if let Some(choices) = resolved["anyOf"].as_array() {
        let is_table = |choice: &&Value| properties(choice, root).is_some();
        // A node is a text or a table: what is written most is the text, so it is no section.
        let has_text = choices
            .iter()
            .any(|choice| resolve(choice, root)["type"] == "string");
        return match choices.iter().find(is_table) {
            Some(table) if !has_text => resolve(table, root),
            _ => resolved,
        };
    }
    match &resolved["items"] {
        Value::Null => resolved,
        items if properties(items, root).is_some() => resolve(items, root),
        _ => resolved,
    }
}

/// The schema behind a reference.
fn resolve<'a>(schema: &'a Value, root: &'a Value) -> &'a Value {
    let target = schema["$ref"]
        .as_str()
        .and_then(|target| target.strip_prefix('#'));
    target
        .and_then(|target| root.pointer(target))
        .unwrap_or(schema)
}

/// Durations are texts in the file, where their type has two numbers.
fn durations_are_texts(value: &mut Value) {
    if let Some(text) = as_duration(value) {
        *value = Value::String(text);
        return;
    }
    match value {
        Value::Object(object) => {
            if let Some(definition) = object.get_mut("Duration") {
                *definition = json!({
                    "type": "string",
                    "description": "A duration such as \"500ms\" or \"15s\".",
                    "pattern": kind::duration_pattern(),
                });
            }
            object.values_mut().for_each(durations_are_texts);
        }
        Value::Array(array) => array.iter_mut().for_each(durations_are_texts),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}

fn as_duration(value: &Value) -> Option<String> {
    let object = value.as_object().filter(|object| object.len() == 2)?;
    let seconds = object.get("secs")?.as_u64()?;
    let nanoseconds = u32::try_from(object.get("nanos")?.as_u64()?).ok()?;
    Some(kind::duration_text(std::time::Duration::new(
        seconds,
        nanoseconds,
    )))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_schema_tells_types_and_defaults_as_the_file_has_them() {
        let schema = schema();
        let cache = &schema["$defs"]["Cache"]["properties"];
        assert_eq!(cache["budget"]["default"], "96MiB", "{cache:#}");
        assert_eq!(cache["lock_wait"]["default"], "20s", "{cache:#}");
        assert_eq!(cache["encodings"]["default"], json!(["br", "zstd", "gzip"]));
        assert_eq!(schema["$defs"]["Cache"]["additionalProperties"], false);
        assert_eq!(schema["$defs"]["Duration"]["type"], "string");
    }

    #[test]
    fn every_setting_is_listed_by_its_path() {
        let settings = settings();
        for name in [
            "listen",
            "upstream.nodes",
            "upstream.health.path",
            "cors.max_age",
            "route.path",
        ] {
            assert!(
                settings.iter().any(|setting| setting == name),
                "{name}: {settings:#?}"
            );
        }
        assert!(
            !settings.iter().any(|setting| setting == "cache"),
            "{settings:#?}"
        );
    }
}
