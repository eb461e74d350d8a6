//! Postgres ends in the middle of a load.

use std::{
    io::{BufRead as _, BufReader},
    path::Path,
    process::Stdio,
};

use etl::schema;
use stack::TestCluster;

use crate::{
    command::{etl, stderr},
    generated::generate,
};

/// Runs the program over a folder and says how it ended.
fn run(command: &str, csv: &Path, url: &str) -> (Option<i32>, String) {
    let output = etl(&[
        command,
        "--csv",
        csv.to_str().unwrap(),
        "--database-url",
        url,
    ])
    .output()
    .unwrap();
    (output.status.code(), stderr(&output))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_load_during_which_postgres_crashes_leaves_what_is_live_and_can_be_run_again() {
    let server = TestCluster::start();
    let url = server.owner_url(&server.create_database(None));
    schema::migrate(&url).await.unwrap();
    let ((old, _), (new, _)) = (generate(20, 71), generate(150, 72));
    assert_eq!(run("load", old.path(), &url).0, Some(0));
    for crash_after in ["product.csv", "characteristic_reviews.csv", "derived rows"] {
        let csv = new.path().to_str().unwrap();
        let mut child = etl(&["load", "--csv", csv, "--database-url", &url])
            .stderr(Stdio::piped())
            .stdout(Stdio::null())
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(child.stderr.take().unwrap()).lines();
        assert!(lines.any(|line| line.unwrap().starts_with(crash_after)));
        server.cluster().stop_immediate().unwrap();
        assert_eq!(child.wait().unwrap().code(), Some(1), "{crash_after}");
        server.cluster().start().unwrap();
        let (code, told) = run("verify", old.path(), &url);
        assert_eq!(code, Some(0), "{crash_after}: {told}");
    }
    let (code, told) = run("load", new.path(), &url);
    assert_eq!(code, Some(0), "{told}");
    assert_eq!(run("verify", new.path(), &url).0, Some(0));
}
