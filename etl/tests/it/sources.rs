//! Where files may come from: plain, compressed, by standard input. And how many of their rows may
//! be refused.

use std::{
    fs,
    io::Write as _,
    path::Path,
    process::{Output, Stdio},
};

use etl::load::{self, LoadOptions};
use flate2::{Compression, write::GzEncoder};
use tempfile::TempDir;

use crate::{
    command::{etl, stderr},
    generated::generate,
    support::{Shop, collect, options},
};

fn gzip(text: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
    encoder.write_all(text).unwrap();
    encoder.finish().unwrap()
}

/// Puts a compressed file in the place of a plain one.
fn compress(dir: &Path, name: &str, suffix: &str) {
    let plain = dir.join(name);
    let text = fs::read(&plain).unwrap();
    let stored = match suffix {
        "gz" => gzip(&text),
        _ => zstd::encode_all(text.as_slice(), 3).unwrap(),
    };
    fs::write(dir.join(format!("{name}.{suffix}")), stored).unwrap();
    fs::remove_file(plain).unwrap();
}

const LOADED_AT: &str = "2021-08-13T14:38:44.509Z";

/// Runs the program with a file for its standard input.
fn load_with_stdin(arguments: &[&str], input: &[u8]) -> Output {
    let mut load = etl(&["load", "--loaded-at", LOADED_AT]);
    load.args(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    let mut child = load.spawn().unwrap();
    let mut stdin = child.stdin.take().unwrap();
    let input = input.to_vec();
    // The program may stop before it has read all of it.
    let writing = std::thread::spawn(move || drop(stdin.write_all(&input)));
    let output = child.wait_with_output().unwrap();
    writing.join().unwrap();
    output
}

#[tokio::test]
async fn compressed_files_give_the_same_rows_as_plain_ones() {
    let (dir, planted) = generate(60, 21);
    let loaded_at = std::time::UNIX_EPOCH + std::time::Duration::from_millis(1_628_865_524_509);
    let options = LoadOptions {
        loaded_at: Some(loaded_at),
        ..options(dir.path())
    };
    let (plain, compressed) = (Shop::new(), Shop::new());
    load::run(&plain.url, &options).await.unwrap();
    for (name, suffix) in [
        ("reviews.csv", "gz"),
        ("photos.csv", "zst"),
        ("product.csv", "zst"),
    ] {
        compress(dir.path(), name, suffix);
    }
    let report = load::run(&compressed.url, &options).await.unwrap();
    assert_eq!(compressed.checksum().await, plain.checksum().await);
    assert_eq!(
        report.files["reviews.csv.gz"].counts,
        planted.files["reviews.csv"]
    );
    assert_eq!(
        report.loaded,
        planted.files.values().map(|file| file.loaded).sum::<u64>()
    );
}

#[tokio::test]
async fn one_file_may_come_by_standard_input_compressed_or_not() {
    let (dir, _) = generate(20, 22);
    let (whole, piped) = (Shop::new(), Shop::new());
    let csv = dir.path().to_str().unwrap().to_owned();
    let arguments = ["--csv", &csv, "--database-url", &whole.url];
    let output = load_with_stdin(&arguments, b"");
    assert!(output.status.success(), "{}", stderr(&output));
    let reviews = fs::read(dir.path().join("reviews.csv")).unwrap();
    fs::remove_file(dir.path().join("reviews.csv")).unwrap();
    let arguments = [
        "--csv",
        &csv,
        "--stdin",
        "reviews.csv",
        "--database-url",
        &piped.url,
    ];
    for input in [&reviews, &gzip(&reviews)] {
        let output = load_with_stdin(&arguments, input);
        assert!(output.status.success(), "{}", stderr(&output));
        assert_eq!(piped.checksum().await, whole.checksum().await);
    }
    // A second one of the same table, a wrong header, none at all.
    fs::write(dir.path().join("reviews.csv"), &reviews).unwrap();
    let output = load_with_stdin(&arguments, &reviews);
    assert_eq!(output.status.code(), Some(3), "{}", stderr(&output));
    assert!(stderr(&output).contains("reviews.csv, reviews.csv (standard input)"));
    fs::remove_file(dir.path().join("reviews.csv")).unwrap();
    for (input, told) in [("id,name\n", "bad_header"), ("", "the file is empty")] {
        let output = load_with_stdin(&arguments, input.as_bytes());
        assert_eq!(output.status.code(), Some(3), "{}", stderr(&output));
        assert!(stderr(&output).contains(told), "{}", stderr(&output));
    }
}

#[tokio::test]
async fn a_compressed_file_that_was_cut_off_stops_the_load_and_is_named() {
    let (dir, _) = generate(20, 23);
    let shop = Shop::new();
    compress(dir.path(), "skus.csv", "gz");
    let path = dir.path().join("skus.csv.gz");
    let stored = fs::read(&path).unwrap();
    fs::write(&path, &stored[..stored.len() / 2]).unwrap();
    let error = shop.load(dir.path()).await.unwrap_err();
    assert_eq!(error.exit_code(), 1);
    assert!(error.to_string().contains("skus.csv.gz: "), "{error}");
    assert_eq!(shop.rows("select id from products").await, [""; 0]);
}

#[tokio::test]
async fn too_many_refused_rows_stop_a_load_with_its_own_exit_code() {
    let (shop, dir) = (Shop::new(), TempDir::new().unwrap());
    collect("bad_price", &[], dir.path());
    let before = shop.checksum().await;
    let out = TempDir::new().unwrap();
    let rejects = out.path().join("rejects.csv");
    // 11 rows of 13 are refused.
    let load = |limit: &str| {
        etl(&["load", "--csv", dir.path().to_str().unwrap()])
            .args(["--database-url", &shop.url, "--max-rejects", limit])
            .arg("--rejects")
            .arg(&rejects)
            .output()
            .unwrap()
    };
    for (limit, written, place) in [
        (
            "3",
            4,
            "product.csv:6: column default_price: bad_price: 4 of",
        ),
        (
            "10",
            11,
            "styles.csv:8: column sale_price: bad_price: 11 of",
        ),
        ("84%", 11, "11 of 13 rows"),
    ] {
        let output = load(limit);
        assert_eq!(output.status.code(), Some(7), "{}", stderr(&output));
        assert!(
            stderr(&output).contains(&format!("--max-rejects is {limit}")),
            "{}",
            stderr(&output)
        );
        assert_eq!(shop.checksum().await, before);
        assert!(stderr(&output).contains(place), "{}", stderr(&output));
        // What was refused until then can be read.
        let lines = fs::read_to_string(&rejects).unwrap().lines().count();
        assert!(lines > written, "{limit}: {lines}");
    }
    assert_eq!(load("several").status.code(), Some(2));
    for limit in ["11", "85%"] {
        let output = load(limit);
        assert!(output.status.success(), "{}", stderr(&output));
    }
    assert_ne!(shop.checksum().await, before);
}
