//! The index of what the API promises names tests that exist, and leaves no section out.

use std::{collections::BTreeSet, fs, path::Path};

const INDEX: &str = include_str!("../CONTRACT.md");

/// Sections of the contract that an origin keeps.
const SECTIONS: [&str; 27] = [
    "1.1", "1.2", "1.3", "1.4", "1.5", "1.6", "1.7", "1.8", "2.1", "2.2", "2.3", "3.1", "3.2",
    "3.3", "3.4", "4.1", "4.2", "4.3", "4.4", "5.1", "5.2", "5.3", "5.4", "5.5", "6.1", "6.2",
    "6.3",
];

/// The cells of each row of the table.
fn rows() -> impl Iterator<Item = [&'static str; 3]> {
    let lines = INDEX.lines().filter(|line| line.starts_with('|'));
    lines.skip(2).map(|line| {
        let cells: Vec<_> = line.trim_matches('|').split('|').collect();
        cells.try_into().unwrap_or_else(|cells| panic!("{cells:?}"))
    })
}

/// The names of this crate's tests: functions that follow the attribute of a test.
fn tests_in(folder: &Path, found: &mut BTreeSet<String>) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            tests_in(&path, found);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            let text = fs::read_to_string(&path).unwrap();
            let mut is_test = false;
            for line in text.lines().map(str::trim) {
                let is_attribute = line.starts_with("#[test]") || line.starts_with("#[tokio::test");
                // Of a property, the attribute stands within a macro, as here.
                is_test |= is_attribute;
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
fn every_test_that_the_index_of_the_contract_names_exists() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut known = BTreeSet::new();
    tests_in(&root.join("src"), &mut known);
    tests_in(&root.join("tests"), &mut known);
    assert!(known.contains("every_test_that_the_index_of_the_contract_names_exists"));
    let mut named = 0;
    for [section, promise, tests] in rows() {
        for test in tests.split(", ") {
            let name = test.trim_matches('`');
            assert!(known.contains(name), "{section} {promise}: no test {name}");
            named += 1;
        }
    }
    assert!(named > 100, "{named} tests");
}

#[test]
fn the_index_of_the_contract_has_every_section_in_order() {
    let mut sections: Vec<_> = rows().map(|[section, ..]| section).collect();
    assert!(sections.is_sorted(), "{sections:?}");
    sections.dedup();
    assert_eq!(sections, SECTIONS);
}
