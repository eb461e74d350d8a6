//! Clean files: what is loaded from them is what is loaded from the dirty ones.

use std::{collections::BTreeMap, fs, path::Path};

use etl::{
    clean::{self, CleanOptions},
    dataset::Sources,
    progress::Progress,
    report::LoadReport,
};
use tempfile::TempDir;

use crate::{
    command::{etl, stderr},
    generated::generate,
    support::{Shop, collect},
};

fn clean(from: &Path, to: &Path) -> LoadReport {
    clean::run(&CleanOptions {
        sources: Sources::folder(from),
        out: to.to_owned(),
        rejects: None,
        max_rejects: None,
        progress: Progress::silent(),
    })
    .unwrap()
}

fn files(dir: &Path) -> BTreeMap<String, Vec<u8>> {
    fs::read_dir(dir)
        .unwrap()
        .map(|entry| {
            let entry = entry.unwrap();
            let name = entry.file_name().into_string().unwrap();
            (name, fs::read(entry.path()).unwrap())
        })
        .collect()
}

#[tokio::test]
async fn clean_files_load_to_the_same_rows_without_repairs_and_refusals() {
    let (dirty, planted) = generate(120, 31);
    let (once, twice) = (TempDir::new().unwrap(), TempDir::new().unwrap());
    let report = clean(dirty.path(), once.path());
    for (name, counts) in &planted.files {
        assert_eq!(report.files[name].counts, *counts, "{name}");
    }
    let (from_dirty, from_clean) = (Shop::new(), Shop::new());
    from_dirty.load(dirty.path()).await.unwrap();
    let report = from_clean.load(once.path()).await.unwrap();
    assert_eq!(from_clean.checksum().await, from_dirty.checksum().await);
    assert_eq!(report.rejected, 0);
    for (name, file) in &report.files {
        assert!(file.counts.repaired.is_empty(), "{name}: {:?}", file.counts);
    }
    clean(once.path(), twice.path());
    assert!(
        files(once.path()) == files(twice.path()),
        "clean files changed"
    );
}

#[tokio::test]
async fn hand_written_cases_survive_being_cleaned() {
    for case in [
        "kept",
        "nulls",
        "wrapped_quotes",
        "date_text",
        "booleans",
        "earlier_release",
    ] {
        let (dirty, out) = (TempDir::new().unwrap(), TempDir::new().unwrap());
        let base = [
            "product.csv",
            "styles.csv",
            "reviews.csv",
            "questions.csv",
            "answers.csv",
        ];
        collect(case, &base, dirty.path());
        clean(dirty.path(), out.path());
        let (from_dirty, from_clean) = (Shop::new(), Shop::new());
        from_dirty.load(dirty.path()).await.unwrap();
        let report = from_clean.load(out.path()).await.unwrap();
        assert_eq!(
            from_clean.checksum().await,
            from_dirty.checksum().await,
            "{case}"
        );
        assert!(
            report
                .files
                .values()
                .all(|file| file.counts.repaired.is_empty()),
            "{case}"
        );
    }
}

#[test]
fn the_program_cleans_into_another_folder_only_and_leaves_no_half_file() {
    let (dirty, out) = (TempDir::new().unwrap(), TempDir::new().unwrap());
    collect("bad_price", &[], dirty.path());
    let run = |to: &Path, more: &[&str]| {
        etl(&["clean", "--csv", dirty.path().to_str().unwrap(), "--out"])
            .arg(to)
            .args(more)
            .output()
            .unwrap()
    };
    let output = run(dirty.path(), &[]);
    assert_eq!(output.status.code(), Some(3), "{}", stderr(&output));
    let output = run(out.path(), &["--max-rejects", "5"]);
    assert_eq!(output.status.code(), Some(7), "{}", stderr(&output));
    assert_eq!(
        files(out.path()).keys().collect::<Vec<_>>(),
        ["product.csv", "styles.csv.part"],
        "the sixth refused row is one of styles"
    );
    let output = run(out.path(), &[]);
    assert!(output.status.success(), "{}", stderr(&output));
    assert_eq!(
        String::from_utf8(files(out.path())["product.csv"].clone())
            .unwrap()
            .lines()
            .count(),
        2
    );
    assert!(!files(out.path()).contains_key("styles.csv.part"));
}
