//! The settings table of the README is complete, and its defaults are the program's.

use gateway::config::{Config, Overrides, settings};

const README: &str = include_str!("../../README.md");

/// Setting and default of every row that has a value of TOML as its default.
fn rows() -> Vec<(&'static str, &'static str)> {
    README
        .lines()
        .filter_map(|line| {
            let mut cells = line.strip_prefix("| `")?.split(" | ");
            let setting = cells.next()?.strip_suffix('`')?;
            Some((setting, cells.next()?))
        })
        .collect()
}

fn parse(text: &str) -> Result<Config, String> {
    Config::parse("test.toml", text, &Overrides::default()).map_err(|problems| problems.to_string())
}

/// The smallest file that is valid.
const LEAST: &str =
    "upstream.nodes = [{ address = \"127.0.0.1:3001\", private = \"127.0.0.1:4001\" }]\n";

/// What `[tls]` has to say besides.
const KEYS: &str = "tls.certificate_file = \"chain.pem\"\ntls.key_file = \"key.pem\"\n";

#[test]
fn every_setting_is_in_the_table() {
    let missing: Vec<_> = settings()
        .into_iter()
        .filter(|setting| !setting.starts_with("route."))
        .filter(|setting| !rows().iter().any(|(row, _)| row == setting))
        .collect();
    assert!(missing.is_empty(), "the README lacks {missing:?}");
}

#[test]
fn every_default_in_the_table_is_the_programs() {
    let least = parse(LEAST).expect("a valid file");
    let mut compared = 0;
    for (setting, default) in rows() {
        let value = default
            .split('`')
            .nth(1)
            .filter(|_| default.starts_with('`'));
        let (Some(value), true) = (
            value,
            setting.contains('.') || matches!(setting, "listen" | "threads"),
        ) else {
            continue;
        };
        // A section that is off unless it is there has its defaults compared with an empty one.
        let section = setting.split('.').next().unwrap_or_default();
        let is_optional = matches!(section, "admin" | "cors" | "coherence" | "access_log");
        let empty = match section {
            "tls" => parse(&format!("{LEAST}{KEYS}")),
            _ if is_optional => parse(&format!("{LEAST}{section} = {{}}")),
            _ => Ok(least.clone()),
        };
        let keys = if section == "tls" { KEYS } else { "" };
        let stated = parse(&format!("{LEAST}{keys}{setting} = {value}"));
        assert_eq!(stated, empty, "{setting} = {value}");
        compared += 1;
    }
    assert!(compared > 40, "only {compared} defaults were found");
}
