//! The settings table of the README is complete, and its defaults are the program's.

use gateway::config::{Config, Overrides};

const README: &str = include_str!("../../README.md");

const SECTIONS: [&str; 10] = [
    "admin",
    "upstream",
    "upstream.health",
    "cache",
    "limits",
    "http",
    "cors",
    "auth",
    "loadtest",
    "coherence",
];

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

#[test]
fn every_setting_is_in_the_table() {
    for section in SECTIONS {
        let refusal =
            parse(&format!("[{section}]\nno_such_setting = 1")).expect_err("an unknown setting");
        let (_, known) = refusal
            .split_once("expected")
            .expect("the settings that there are");
        let known = known.lines().next().unwrap_or_default();
        for name in known.split('`').skip(1).step_by(2) {
            let setting = format!("{section}.{name}");
            let is_section = SECTIONS.contains(&setting.as_str());
            let is_told = rows().iter().any(|(row, _)| *row == setting);
            assert!(is_section || is_told, "{setting} is missing in the README");
        }
    }
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
        let is_optional = matches!(section, "admin" | "cors" | "coherence");
        let empty = if is_optional {
            parse(&format!("{LEAST}{section} = {{}}"))
        } else {
            Ok(least.clone())
        };
        let stated = parse(&format!("{LEAST}{setting} = {value}"));
        assert_eq!(stated, empty, "{setting} = {value}");
        compared += 1;
    }
    assert!(compared > 40, "only {compared} defaults were found");
}
