//! Asking a running gateway, and showing its answer.

use std::fmt::Write as _;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::PathBuf;

use anyhow::Result;
use clap::Args;
use http::Method;
use serde_json::Value;

use crate::client::AdminClient;

const DEFAULT_ADMIN: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 8081);

/// Which gateway, and how its answer is shown.
#[derive(Debug, Args)]
pub(super) struct Asked {
    /// Where the gateway's operators connect.
    #[arg(long, value_name = "ADDR", default_value_t = DEFAULT_ADMIN)]
    admin: SocketAddr,
    /// The file that holds the admin token; by default the one a gateway on this loopback address makes.
    #[arg(long, value_name = "FILE")]
    admin_token_file: Option<PathBuf>,
    /// The answer as JSON, as it came.
    #[arg(long)]
    json: bool,
}

impl Asked {
    /// Calls and prints the answer, as it came or as `told` tells it.
    ///
    /// # Errors
    /// No answer, or a refusal in the gateway's own words.
    pub(super) async fn show(
        self,
        method: Method,
        target: &str,
        body: Option<&Value>,
        told: fn(&Value) -> String,
    ) -> Result<()> {
        let client = AdminClient::new(self.admin, self.admin_token_file)?;
        let answer = client.call(method, target, body).await?;
        if self.json {
            println!("{answer:#}");
        } else {
            print!("{}", told(&answer));
        }
        Ok(())
    }
}

/// Each value on a line of its own, under its path.
pub(super) fn lines(answer: &Value) -> String {
    let mut text = String::new();
    tell(&mut text, "", answer);
    text
}

fn tell(text: &mut String, path: &str, value: &Value) {
    let below = |name: &str| match path {
        "" => name.to_owned(),
        path => format!("{path}.{name}"),
    };
    match value {
        Value::Object(members) => {
            for (name, value) in members {
                tell(text, &below(name), value);
            }
        }
        Value::Array(values) if values.iter().any(Value::is_object) => {
            for (index, value) in values.iter().enumerate() {
                tell(text, &format!("{path}[{index}]"), value);
            }
        }
        Value::Array(values) => {
            let words: Vec<_> = values.iter().map(word).collect();
            line(text, path, &words.join(", "));
        }
        value => line(text, path, &word(value)),
    }
}

fn line(text: &mut String, path: &str, value: &str) {
    // Writing to a string cannot fail.
    let _ = writeln!(text, "{path:<36} {value}");
}

/// A value for a terminal, which is shown no control characters.
pub(super) fn word(value: &Value) -> String {
    let text = match value {
        Value::String(text) => text.clone(),
        Value::Null => "-".to_owned(),
        other => other.to_string(),
    };
    text.replace(char::is_control, "\u{fffd}")
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn an_answer_is_told_a_value_a_line_without_control_characters() {
        let answer =
            json!({ "a": { "b": 1, "c": [1, 2] }, "n": [{ "x": "y\u{1b}[31m" }], "z": null });
        let told: Vec<_> = lines(&answer).lines().map(str::to_owned).collect();
        assert_eq!(told.len(), 4, "{told:?}");
        for (line, (path, value)) in told.iter().zip([
            ("a.b", "1"),
            ("a.c", "1, 2"),
            ("n[0].x", "y\u{fffd}[31m"),
            ("z", "-"),
        ]) {
            assert!(line.starts_with(path) && line.ends_with(value), "{line}");
        }
    }
}
