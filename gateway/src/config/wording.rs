//! What is said about a setting that cannot be read: the parser's finding, with what would be right.
//!
//! No text of the file is repeated but names and what a value's own rule quotes: a secret in the wrong place stays unsaid.

/// Letters that may differ between a name and the one that was meant, as a share of its length.
const DIFFERENT_LETTERS: usize = 3;

/// The names that a message of serde about an unknown one offers instead.
pub(super) fn names(message: &str) -> Vec<&str> {
    let expected = message
        .split_once("expected")
        .map_or("", |(_, known)| known);
    expected.split('`').skip(1).step_by(2).collect()
}

/// The name that a message says is unknown.
pub(super) fn unknown_name(message: &str) -> Option<&str> {
    message.strip_prefix("unknown field `")?.split('`').next()
}

/// Whether a message says that a setting is missing.
pub(super) fn is_missing(message: &str) -> bool {
    message.starts_with("missing field")
}

/// What is wrong and what would be right.
pub(super) fn explain(message: &str) -> String {
    if let Some(name) = unknown_name(message) {
        return no_such_setting(name, &names(message));
    }
    if let Some(rest) = message.strip_prefix("missing field `") {
        return format!("`{}` is required", rest.trim_end_matches('`'));
    }
    if let Some(rest) = message.strip_prefix("unknown variant `") {
        let (word, _) = rest.split_once('`').unwrap_or((rest, ""));
        let known: Vec<_> = names(message)
            .iter()
            .map(|name| format!("\"{name}\""))
            .collect();
        return format!("`{word}` is none of {}", known.join(", "));
    }
    if let Some((found, expected)) = wrong_type(message) {
        return format!("expected {}, found {found}", expected_kind(expected));
    }
    if message == "invalid socket address syntax" {
        return format!("expected {}", expected_kind("socket address"));
    }
    message.replace('\n', ", ")
}

/// A fault of syntax, with what is meant by most who make it.
pub(super) fn syntax(message: &str) -> String {
    let said = message.replace('\n', ", ");
    if message.starts_with("invalid float") || message.starts_with("string values must be quoted") {
        return "expected a value; a text stands in quotes, as in \"127.0.0.1:8080\"".to_owned();
    }
    said
}

/// A setting that does not exist, and the one that was meant.
pub(super) fn no_such_setting(name: &str, known: &[&str]) -> String {
    if let Some(meant) = nearest(name, known) {
        return format!("no such setting; did you mean `{meant}`?");
    }
    let elsewhere: Vec<_> = super::schema::settings()
        .into_iter()
        .filter(|setting| setting.rsplit('.').next() == Some(name))
        .collect();
    if elsewhere.is_empty() {
        format!("no such setting; there are {}", known.join(", "))
    } else {
        format!("no such setting here; there is {}", elsewhere.join(" and "))
    }
}

/// The known name that differs least, if it differs little.
fn nearest<'a>(name: &str, known: &[&'a str]) -> Option<&'a str> {
    let distance = |other: &str| strsim::damerau_levenshtein(name, other);
    let (distance, meant) = known.iter().map(|other| (distance(other), *other)).min()?;
    if distance <= (name.chars().count() / DIFFERENT_LETTERS).max(1) {
        return Some(meant);
    }
    known
        .iter()
        .copied()
        .find(|other| other.starts_with(name) || name.starts_with(other))
}

/// What was found and what was expected, without a text's own words.
fn wrong_type(message: &str) -> Option<(&str, &str)> {
    let rest = message
        .strip_prefix("invalid type: ")
        .or_else(|| message.strip_prefix("invalid value: "))?;
    let (found, expected) = rest.split_once(", expected ")?;
    let found = match found.split(' ').next() {
        Some("string") => "a text",
        Some("sequence") => "a list",
        Some("map") => "a table",
        Some("boolean") if found.contains("true") => "true",
        Some("boolean") => "false",
        _ => found
            .trim_start_matches("integer ")
            .trim_start_matches("floating point "),
    };
    Some((found, expected))
}

/// What serde calls a kind of value, in the words of the file, with an example.
fn expected_kind(expected: &str) -> &str {
    match expected {
        "u8" | "u16" | "u32" | "u64" | "usize" => "a whole number from 0",
        "f32" | "f64" => "a number",
        "a boolean" => "true or false",
        "a string" | "path string" => "a text in quotes",
        "a sequence" => "a list, as in [\"a\", \"b\"]",
        "a map" => "a table",
        "socket address" => "an address as in \"127.0.0.1:8080\"",
        text if text.starts_with("struct ") => "a table of settings",
        text => text,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_that_is_nearly_known_is_told_and_one_of_another_section_is_placed() {
        let known = ["budget", "object_max", "name"];
        assert_eq!(
            no_such_setting("budgte", &known),
            "no such setting; did you mean `budget`?"
        );
        assert_eq!(
            no_such_setting("header_fields_max", &known),
            "no such setting here; there is limits.header_fields_max"
        );
        assert_eq!(
            no_such_setting("color", &known),
            "no such setting; there are budget, object_max, name"
        );
    }

    #[test]
    fn a_text_in_the_wrong_place_is_not_repeated() {
        let said = explain("invalid type: string \"hunter2\", expected usize");
        assert_eq!(said, "expected a whole number from 0, found a text");
        let said = explain("invalid type: integer `8080`, expected socket address");
        assert_eq!(
            said,
            "expected an address as in \"127.0.0.1:8080\", found `8080`"
        );
    }
}
