//! What `gateway check` says of wrong files, compared whole with what is kept beside them in `tests/wrong`.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

const WRONG: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/wrong");

fn check(directory: &Path, file: &Path) -> Output {
    Command::new(env!("CARGO_BIN_EXE_gateway"))
        .arg("check")
        .arg(file)
        .current_dir(directory)
        .output()
        .expect("the built gateway")
}

fn said(output: &Output) -> String {
    let (out, err) = (&output.stdout, &output.stderr);
    format!(
        "{}{}",
        String::from_utf8_lossy(out),
        String::from_utf8_lossy(err)
    )
}

fn wrong_files() -> Vec<PathBuf> {
    let entries = fs::read_dir(WRONG).expect("the folder of wrong files");
    let mut files: Vec<_> = entries
        .map(|entry| entry.expect("an entry").path())
        .collect();
    files.retain(|file| {
        file.extension()
            .is_some_and(|extension| extension == "toml")
    });
    files.sort();
    files
}

#[test]
fn each_wrong_file_is_told_every_problem_with_its_place_and_what_would_be_right() {
    let files = wrong_files();
    assert!(files.len() >= 20, "{files:?}");
    for file in files {
        let name = PathBuf::from(file.file_name().expect("a name"));
        let output = check(Path::new(WRONG), &name);
        let expected = fs::read_to_string(file.with_extension("txt")).unwrap_or_default();
        assert_eq!(said(&output), expected, "{}", name.display());
        assert_eq!(output.status.code(), Some(1), "{}", name.display());
    }
}

#[test]
fn what_is_secret_is_never_repeated() {
    for file in wrong_files() {
        let text = fs::read_to_string(file.with_extension("txt")).expect("what is said of it");
        assert!(!text.contains("horse"), "{}: {text}", file.display());
    }
}

#[test]
fn a_valid_file_the_example_and_the_shops_are_ok() {
    let directory = tempfile::tempdir().expect("a directory");
    let example = Command::new(env!("CARGO_BIN_EXE_gateway"))
        .arg("example")
        .output();
    let example = example.expect("the built gateway").stdout;
    let shop = fs::read(concat!(env!("CARGO_MANIFEST_DIR"), "/../ops/shop.toml"));
    for (text, expected) in [
        (example, "file.toml: ok (origins: 1, routes: 0)\n"),
        (
            shop.expect("the shop's file"),
            "file.toml: ok (origins: 3, routes: 16)\n",
        ),
    ] {
        fs::write(directory.path().join("file.toml"), text).expect("a file");
        let output = check(directory.path(), Path::new("file.toml"));
        assert_eq!(said(&output), expected);
        assert!(output.status.success());
    }
}

#[test]
fn the_schema_is_json_and_knows_the_sections() {
    let output = Command::new(env!("CARGO_BIN_EXE_gateway"))
        .arg("schema")
        .output();
    let schema: serde_json::Value =
        serde_json::from_slice(&output.expect("the built gateway").stdout).expect("JSON");
    assert_eq!(
        schema["$schema"],
        "https://json-schema.org/draft/2020-12/schema"
    );
    for section in [
        "admin", "upstream", "cache", "limits", "http", "cors", "auth", "route",
    ] {
        assert!(
            schema["properties"][section].is_object(),
            "{section}: {schema:#}"
        );
    }
    assert_eq!(schema["additionalProperties"], false);
}
