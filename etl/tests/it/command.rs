//! The program itself: arguments, exit codes, files, and a kill.

use std::{
    fs,
    io::{BufRead as _, BufReader},
    process::{Command, Output, Stdio},
};

use etl::report::{LoadReport, Planted};
use tempfile::TempDir;

use crate::{generated::generate, support::Shop};

fn etl(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_etl"));
    command.args(arguments).env_remove("DATABASE_URL");
    command
}

fn run(arguments: &[&str]) -> Output {
    etl(arguments).output().unwrap()
}

fn stderr(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

#[tokio::test]
async fn generate_migrate_and_load_work_from_the_command_line() {
    let (shop, dir) = (Shop::without_schema(), TempDir::new().unwrap());
    let path = |name: &str| dir.path().join(name).to_str().unwrap().to_owned();
    let (csv, report, rejects) = (path("csv"), path("report.json"), path("rejects.csv"));

    let output = run(&["generate", "--out", &csv, "--products", "20", "--seed", "3"]);
    assert!(output.status.success(), "{}", stderr(&output));
    let output = etl(&["migrate"])
        .env("DATABASE_URL", &shop.url)
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", stderr(&output));
    let load = [
        "load",
        "--csv",
        &csv,
        "--database-url",
        &shop.url,
        "--report",
        &report,
        "--rejects",
        &rejects,
    ];
    let output = run(&load);
    assert!(output.status.success(), "{}", stderr(&output));

    let table = String::from_utf8(output.stdout).unwrap();
    for text in [
        "product.csv",
        "unclosed_quote 1",
        "duplicate_id",
        "all in all",
    ] {
        assert!(table.contains(text), "{text} is not in {table}");
    }
    let report: LoadReport = serde_json::from_slice(&fs::read(report).unwrap()).unwrap();
    let planted: Planted =
        serde_json::from_slice(&fs::read(path("csv/planted.json")).unwrap()).unwrap();
    assert_eq!(report.files.len(), planted.files.len());
    assert!(
        planted
            .files
            .iter()
            .all(|(name, counts)| report.files[name].counts == *counts)
    );
    let stored = shop
        .rows("select report->>'rows', report->>'rejected' from service.loads")
        .await;
    assert_eq!(stored, [format!("({},{})", report.rows, report.rejected)]);
    // Every refused row has its line; some of them more than one.
    assert!(
        fs::read(rejects)
            .unwrap()
            .split(|byte| *byte == b'\n')
            .count() as u64
            > report.rejected
    );
}

#[test]
fn exit_codes_tell_what_went_wrong() {
    let empty = TempDir::new().unwrap();
    let empty = empty.path().to_str().unwrap();
    let nowhere = "postgres://nobody:secret@localhost:1/none?host=/nonexistent";
    assert_eq!(run(&["--help"]).status.code(), Some(0));
    assert_eq!(run(&["load"]).status.code(), Some(2));
    assert_eq!(
        run(&["load", "--csv", empty, "--database-url", nowhere])
            .status
            .code(),
        Some(3)
    );
    assert_eq!(
        run(&["generate", "--out", empty, "--products", "0"])
            .status
            .code(),
        Some(3)
    );
    let output = run(&["migrate", "--database-url", nowhere]);
    assert_eq!(output.status.code(), Some(1));
    assert!(
        stderr(&output).starts_with("etl: connecting to the database: "),
        "{}",
        stderr(&output)
    );
    assert!(!stderr(&output).contains("secret"));
}

#[tokio::test]
async fn a_load_that_is_killed_can_be_run_again() {
    let shop = Shop::new();
    let (dir, _) = generate(200, 13);
    shop.load(dir.path()).await.unwrap();
    let undisturbed = shop.checksum().await;
    for killed_after in [
        "product.csv",
        "reviews.csv",
        "derived rows",
        "keys and indexes",
    ] {
        let csv = dir.path().to_str().unwrap();
        let mut load = etl(&["load", "--csv", csv, "--database-url", &shop.url]);
        let mut child = load
            .stderr(Stdio::piped())
            .stdout(Stdio::null())
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(child.stderr.take().unwrap()).lines();
        let is_there = lines.any(|line| line.unwrap().starts_with(killed_after));
        assert!(is_there, "the load ended before {killed_after}");
        child.kill().unwrap();
        child.wait().unwrap();
        assert_eq!(
            shop.checksum().await,
            undisturbed,
            "killed after {killed_after}"
        );
    }
    wait_for_lock(&shop).await;
    let report = shop.load(dir.path()).await.unwrap();
    assert!(report.loaded > 0);
    assert_eq!(shop.checksum().await, undisturbed);
}

/// The server notices soon that the program has gone, and lets go of its lock.
async fn wait_for_lock(shop: &Shop) {
    let gone = "select count(*) from pg_stat_activity where application_name = 'etl' and datname = current_database()";
    let waiting = async {
        while shop.rows(gone).await != ["(0)"] {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(std::time::Duration::from_secs(30), waiting)
        .await
        .unwrap();
}
