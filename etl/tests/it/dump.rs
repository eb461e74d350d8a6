//! A loaded database on another server: the commands of the README.

use std::process::Command;

use etl::schema;
use sqlx::{Connection as _, PgConnection};
use stack::{
    Cluster, TestCluster,
    cluster::{APPLICATION, OWNER},
};

use crate::{
    command::{etl, stderr},
    generated::generate,
    support::Shop,
    verify::verify,
};

/// Whom the other server belongs to; the dump names another.
const KEEPER: &str = "keeper";

fn here() -> &'static Cluster {
    TestCluster::shared().cluster()
}

/// Runs a program of Postgres against a database, with what the README gives it.
fn run(program: &str, url: &str, arguments: &[&str]) {
    let output = Command::new(here().binaries().program(program))
        .arg("--dbname")
        .arg(url)
        .args(arguments)
        .output()
        .unwrap();
    let told = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{program}: {told}");
}

fn dump_and_restore(from: &str, to: &str, file: &str) {
    let incarnation = "--exclude-table-data=coherence.incarnation";
    run(
        "pg_dump",
        from,
        &["--format=custom", incarnation, "--file", file],
    );
    run(
        "pg_restore",
        to,
        &["--no-owner", "--exit-on-error", "--jobs=2", file],
    );
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
    dump_and_restore(&from.url, &to.url, file);
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

/// The loads, the dump and the roles of all other tests are on one server.
#[tokio::test]
async fn a_dump_is_the_same_shop_on_another_server_that_has_roles_of_its_own() {
    let (dir, _) = generate(30, 62);
    let (from, there) = (Shop::new(), TestCluster::start());
    from.load(dir.path()).await.unwrap();
    let postgres = there.owner_url("postgres");
    let roles = format!("create role {KEEPER} superuser login");
    run("psql", &postgres, &["--command", &roles]);
    let keeper = |url: String| url.replacen(OWNER, KEEPER, 1);
    let create_role = format!("create role {APPLICATION} login");
    let create = [
        "--command",
        &create_role,
        "--command",
        "create database shop",
    ];
    run("psql", &keeper(postgres), &create);
    let to = Shop::at(keeper(there.owner_url("shop")));
    let file = dir.path().join("shop.dump");
    dump_and_restore(&from.url, &to.url, file.to_str().unwrap());
    schema::migrate(&to.url).await.unwrap();

    let mut verify = etl(&["verify", "--database-url", &to.url, "--csv"]);
    let output = verify.arg(dir.path()).output().unwrap();
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    // All rows, those that are derived too, and where each sequence stands.
    assert_eq!(to.checksum().await, from.checksum().await);
    assert_eq!(
        to.rows("select distinct pg_get_userbyid(relowner) from pg_class where relnamespace = 'shop'::regnamespace").await,
        [format!("({KEEPER})")]
    );

    // The origins' role may write, is given the next id, keeps what is derived, and tells the caches.
    let told = to.outbox().await.len();
    let largest = to.rows("select max(id) + 1 from reviews").await;
    let counted =
        "select sum(recommended_true + recommended_false) from review_meta where product_id = 1";
    let before = to.rows(counted).await;
    let mut origin = PgConnection::connect(&there.app_url("shop")).await.unwrap();
    let id: i32 = sqlx::query_scalar(
        "insert into shop.reviews (product_id, rating, date, summary, body, recommend, reported, reviewer_name, reviewer_email, helpfulness)
         values (1, 5, now(), 's', 'b', true, false, 'n', 'e', 0) returning id",
    )
    .fetch_one(&mut origin)
    .await
    .unwrap();
    assert_eq!([format!("({id})")], *largest);
    assert_ne!(to.rows(counted).await, before);
    assert!(to.outbox().await.len() > told);
    let temporary = "create temporary table x ()";
    assert!(sqlx::raw_sql(temporary).execute(&mut origin).await.is_err());
}
