//! The example of a configuration file: every setting with its meaning and its default, from the types that read them.

use std::fmt::Write as _;

use serde_json::Value;

use super::schema::{self, schema};

/// A comment is folded at this width.
const WIDTH: usize = 100;
/// The one setting without which no file is valid.
const REQUIRED: &str = "nodes";

/// A commented configuration file that is valid as it stands and names every setting.
///
/// A line that begins with `#` and no space after it is a setting with its default, or with a value for one that has none.
pub fn example() -> String {
    let root = schema();
    let mut text = String::new();
    comment(&mut text, &root);
    text.push('\n');
    settings(&mut text, "", &root, &root);
    text
}

/// Writes the settings of a table, then the tables below it.
fn settings(text: &mut String, path: &str, section: &Value, root: &Value) {
    let Some(properties) = schema::properties(section, root) else {
        return;
    };
    let names = schema::names(path);
    let found = names
        .iter()
        .filter_map(|name| Some((name, properties.get(name)?)));
    let is_table = |property: &Value| {
        property["examples"].is_null()
            && schema::properties(schema::section_of(property, root), root).is_some()
    };
    let (tables, values): (Vec<_>, Vec<_>) = found.partition(|(_, property)| is_table(property));
    for (name, property) in values {
        setting(text, name, property);
    }
    for (name, property) in tables {
        let path = if path.is_empty() {
            name.clone()
        } else {
            format!("{path}.{name}")
        };
        table(text, &path, property, root);
    }
}

/// Writes a table under its header; one whose presence means something is not there.
fn table(text: &mut String, path: &str, property: &Value, root: &Value) {
    let section = schema::section_of(property, root);
    text.push('\n');
    comment(text, section);
    let _ = if property["type"] == "array" {
        writeln!(text, "#[[{path}]]")
    } else if property["anyOf"].is_array() {
        writeln!(text, "#[{path}]")
    } else {
        writeln!(text, "[{path}]")
    };
    settings(text, path, section, root);
}

/// Writes one setting; the one that has to be there stands without a mark.
fn setting(text: &mut String, name: &str, property: &Value) {
    comment(text, property);
    let default = property.get("default").filter(|value| !value.is_null());
    let sample = property["examples"]
        .as_array()
        .and_then(|examples| examples.first());
    let is_required = name == REQUIRED;
    // An empty list shows less than a sample.
    let shown = default.filter(|value| sample.is_none() || *value != &Value::Array(Vec::new()));
    let value = shown.or(sample);
    let Some(value) = value else {
        return;
    };
    let mark = if is_required { "" } else { "#" };
    let _ = writeln!(text, "{mark}{name} = {}", toml_text(value));
}

fn comment(text: &mut String, schema: &Value) {
    let description = schema["description"].as_str().unwrap_or_default();
    for paragraph in description.split("\n\n") {
        let mut line = String::from("#");
        for word in paragraph.split_whitespace() {
            if line.len() + 1 + word.len() > WIDTH {
                let _ = writeln!(text, "{line}");
                line.truncate(1);
            }
            line.push(' ');
            line.push_str(word);
        }
        if line.len() > 1 {
            let _ = writeln!(text, "{line}");
        }
    }
}

fn toml_text(value: &Value) -> String {
    match toml::Value::try_from(value) {
        Ok(value) => value.to_string(),
        Err(_) => value.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Config, Overrides};

    fn parse(text: &str) -> Result<Config, String> {
        let parsed = Config::parse("example.toml", text, &Overrides::default());
        parsed.map_err(|problems| problems.to_string())
    }

    #[test]
    fn the_example_is_a_gateway_with_every_default() {
        let least = parse("upstream.nodes = [\"127.0.0.1:3001\"]\n").unwrap();
        assert_eq!(parse(&example()).unwrap(), least, "{}", example());
    }

    /// The example with every setting in force but those of this name: a token comes from a file or from a variable.
    fn whole_without(name: &str) -> String {
        let is_setting =
            |line: &str| line.starts_with(|first: char| first.is_ascii_lowercase() || first == '[');
        let left_out = format!("{name} = ");
        example()
            .lines()
            .filter(|line| !line.contains(&left_out))
            .map(|line| match line.strip_prefix('#') {
                Some(rest) if is_setting(rest) => format!("{rest}\n"),
                _ => format!("{line}\n"),
            })
            .collect()
    }

    #[test]
    fn every_line_of_the_example_is_accepted() {
        let whole = whole_without("token_env");
        let config = parse(&whole).unwrap_or_else(|problems| panic!("{problems}\n{whole}"));
        assert!(config.admin.is_some() && config.cors.is_some(), "{whole}");
        assert_eq!(config.routes.len(), 1, "{whole}");
        // Of variables all that is wrong is that they are not set here.
        let problems = parse(&whole_without("token_file")).unwrap_err();
        assert_eq!(problems.lines().count(), 2, "{problems}");
        assert!(
            problems
                .lines()
                .all(|line| line.contains("no variable GATEWAY_")),
            "{problems}"
        );
    }

    #[test]
    fn the_example_names_every_setting() {
        let example = example();
        for setting in schema::settings() {
            let name = setting.rsplit('.').next().unwrap_or_default();
            let named = [
                format!("\n{name} = "),
                format!("\n#{name} = "),
                format!(" {name} = "),
            ];
            assert!(
                named.iter().any(|named| example.contains(named)),
                "{setting} is missing\n{example}"
            );
        }
    }
}
