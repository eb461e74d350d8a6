//! The index of what the API promises of the gateway names tests that exist, and leaves no section out.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

const INDEX: &str = include_str!("../CONTRACT.md");

/// Sections of the contract with a sentence that a gateway keeps.
const SECTIONS: [&str; 10] = [
    "1.1", "1.2", "1.3", "1.4", "1.6", "1.8", "2.1", "2.2", "2.3", "8",
];

/// The cells of each row of the table.
fn rows() -> impl Iterator<Item = [&'static str; 3]> {
    let lines = INDEX.lines().filter(|line| line.starts_with('|'));
    lines.skip(2).map(|line| {
        let cells: Vec<_> = line.trim_matches('|').split('|').collect();
        cells.try_into().unwrap_or_else(|cells| panic!("{cells:?}"))
    })
}

fn text(path: &Path) -> String {
    fs::read_to_string(path).expect("a file of text")
}

/// The names of functions that follow the attribute of a test, a table or property of several included.
fn tests_in(folder: &Path, found: &mut BTreeSet<String>) {
    for entry in fs::read_dir(folder).expect("a folder") {
        let path = entry.expect("an entry").path();
        if path.is_dir() {
            tests_in(&path, found);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            let mut is_test = false;
            for line in text(&path).lines().map(str::trim) {
                is_test |= line.starts_with("#[test]") || line.starts_with("#[tokio::test");
                let declared = line.trim_start_matches("async ").strip_prefix("fn ");
                if let Some(name) = declared.filter(|_| is_test) {
                    found.extend(name.split(['(', '<']).next().map(str::to_owned));
                    is_test = false;
                }
            }
        }
    }
}

#[test]
fn every_test_that_the_index_names_exists() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut known = BTreeSet::new();
    tests_in(&root.join("src"), &mut known);
    tests_in(&root.join("tests"), &mut known);
    for [section, promise, tests] in rows() {
        for test in tests.split(", ").map(|test| test.trim_matches('`')) {
            assert!(known.contains(test), "{section} {promise}: no test {test}");
        }
    }
}

#[test]
fn the_index_has_every_section_in_order() {
    let mut sections: Vec<_> = rows().map(|[section, ..]| section).collect();
    sections.dedup();
    assert_eq!(sections, SECTIONS);
}
