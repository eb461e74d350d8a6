//! `gateway explain URL`: asks a running gateway why a URL is answered as it is.

use std::fmt::Write as _;

use anyhow::Result;
use clap::Args;
use http::Method;
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use serde_json::Value;

use super::ask::Asked;

#[derive(Debug, Args)]
pub(super) struct Explain {
    /// A path, on every host, or an absolute URL; with its query.
    url: String,
    #[command(flatten)]
    asked: Asked,
}

impl Explain {
    pub(super) async fn run(self) -> Result<()> {
        let url = utf8_percent_encode(&self.url, NON_ALPHANUMERIC);
        let target = format!("/explain?url={url}");
        self.asked.show(Method::GET, &target, None, told).await
    }
}

/// The answer for a reader.
fn told(answer: &Value) -> String {
    let mut text = String::new();
    line(&mut text, 0, "target", &answer["target"]);
    let route = match (&answer["route"], &answer["is_cached_route"]) {
        (Value::String(route), cached) => format!("{route}, cached: {cached}"),
        (_, cached) => format!("none configured, cached: {cached}"),
    };
    line(&mut text, 0, "route", &route.into());
    let keys = answer["keys"].as_array().map_or(&[][..], Vec::as_slice);
    if keys.is_empty() {
        line(&mut text, 0, "decision", &verdict(&answer["otherwise"]));
    }
    for key in keys {
        tell_key(&mut text, key);
    }
    text
}

fn tell_key(text: &mut String, key: &Value) {
    line(text, 0, "key", &key["key"]);
    let entries = key["entries"].as_array().map_or(&[][..], Vec::as_slice);
    line(text, 1, "decision", &verdict(&key["decision"]));
    let refusal = &key["last_refusal"];
    if refusal.is_object() {
        let told = format!(
            "{}, {} s ago",
            word(&refusal["reason"]),
            refusal["seconds_ago"]
        );
        line(text, 1, "last refusal", &told.into());
    }
    let purge = &key["last_purge"];
    if purge.is_object() {
        let details = &purge["details"];
        let told = if details.is_object() {
            let soft = if details["soft"] == true {
                "soft, "
            } else {
                ""
            };
            format!(
                "{} ({soft}by {}, {}): {}",
                purge["sequence"],
                word(&details["cause"]),
                word(&details["at"]),
                word(&details["names"])
            )
        } else {
            format!("{}", purge["sequence"])
        };
        line(text, 1, "last purge", &told.into());
    }
    for entry in entries {
        tell_entry(text, entry);
    }
}

fn tell_entry(text: &mut String, entry: &Value) {
    let name = match entry["variant"].as_str() {
        Some(variant) => format!("variant {variant}"),
        None => "entry".to_owned(),
    };
    let state = if entry["is_filling"] == true {
        ", arriving"
    } else {
        ""
    };
    let kept = format!(
        "status {}{state}, {} bytes, {} reads, begun after purge {}",
        entry["status"], entry["bytes"], entry["reads"], entry["began"]
    );
    line(text, 1, &name, &kept.into());
    line(text, 2, "decision", &verdict(&entry["decision"]));
    let windows = format!(
        "fresh {} s, stale-while-revalidate {} s, stale-if-error {} s, without an origin {} s; age {} s",
        entry["fresh_seconds"],
        entry["stale_while_revalidate_seconds"],
        entry["stale_if_error_seconds"],
        entry["stale_if_unreachable_seconds"],
        entry["age_seconds"]
    );
    line(text, 2, "left", &windows.into());
    line(text, 2, "lifetime from", &entry["lifetime_from"]);
    let tags: Vec<&str> = entry["tags"]
        .as_array()
        .into_iter()
        .flatten()
        .filter_map(Value::as_str)
        .collect();
    line(text, 2, "tags", &tags.join(", ").into());
    for (name, lines) in entry["directives"].as_object().into_iter().flatten() {
        for value in lines.as_array().into_iter().flatten() {
            line(text, 2, name, value);
        }
    }
}

fn verdict(decision: &Value) -> Value {
    format!(
        "{}: {}",
        word(&decision["verdict"]),
        word(&decision["reason"])
    )
    .into()
}

fn word(value: &Value) -> &str {
    value.as_str().unwrap_or("-")
}

fn line(text: &mut String, depth: usize, name: &str, value: &Value) {
    let value = match value {
        Value::String(value) => value.clone(),
        other => other.to_string(),
    };
    // What an origin sent may hold anything; a terminal is shown no control characters.
    let value = value.replace(char::is_control, "\u{fffd}");
    let indent = "  ".repeat(depth);
    // Writing to a string cannot fail.
    let _ = writeln!(text, "{indent}{name:<18} {value}");
}
