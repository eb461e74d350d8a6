//! A loaded database on another server: the commands of the README.

use std::process::Command;

use etl::schema;
use stack::TestCluster;

use crate::{generated::generate, support::Shop, verify::verify};

/// Runs a program of Postgres against a database, with what the README gives it.
fn run(program: &str, url: &str, arguments: &[&str]) {
    let output = Command::new(TestCluster::shared().cluster().binaries().program(program))
        .arg("--dbname")
        .arg(url)
        .args(arguments)
        .output()
        .unwrap();
    let told = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{program}: {told}");
}

#[tokio::test]
async fn a_dump_that_is_restored_is_the_same_shop() {
    let (dir, _) = generate(30, 61);
    let (from, to) = (Shop::new(), Shop::without_schema());
    from.load(dir.path()).await.unwrap();
    from.execute("update shop.reviews set helpfulness = helpfulness + 1 where id = 1")
        .await;
    // As on a server that has seen more transactions than the other.
    from.execute(
        "insert into coherence.outbox (slot, xid, groups) values (0, '9000000000000', '{products}');
         update coherence.rotation set snapshot = '9000000000000:9000000000000:'",
    )
    .await;
    let file = dir.path().join("shop.dump");
    let file = file.to_str().unwrap();
    run(
        "pg_dump",
        &from.url,
        &[
            "--format=custom",
            "--exclude-table-data=coherence.incarnation",
            "--file",
            file,
        ],
    );
    run(
        "pg_restore",
        &to.url,
        &["--exit-on-error", "--jobs=2", file],
    );
    schema::migrate(&to.url).await.unwrap();
    assert_eq!(to.checksum().await, from.checksum().await);
    // Whoever tails the outbox begins anew, and rotation is not stuck.
    let future = "select count(*) from coherence.outbox where xid > '8000000000000'";
    assert_eq!(to.rows(future).await, ["(0)"]);
    assert_eq!(
        to.rows("select coherence.rotate('0') is not null").await,
        ["(t)"]
    );
    // The changes since the load are still counted.
    let error = to.load(dir.path()).await.unwrap_err();
    assert_eq!(error.to_string().split(' ').next(), Some("2"), "{error}");
    to.load_over(dir.path()).await;
    assert_eq!(verify(&to, dir.path()).await.differences, [""; 0]);
}
