//! Postgres ends in the middle of a load, or a load does and Postgres goes on with it.

use std::{
    io::{BufRead as _, BufReader},
    path::Path,
    process::Stdio,
};

use etl::{load, schema};
use sqlx::{Connection as _, Executor as _, PgConnection};
use stack::TestCluster;

use crate::{
    command::{etl, stderr},
    generated::generate,
    support::{Shop, options},
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
    for crash_after in ["product.csv", "characteristic_reviews.csv"] {
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
    crash_behind_counts(&server, &url, new.path()).await;
    let (code, told) = run("verify", old.path(), &url);
    assert_eq!(code, Some(0), "{told}");
    let (code, told) = run("load", new.path(), &url);
    assert_eq!(code, Some(0), "{told}");
    assert_eq!(run("verify", new.path(), &url).0, Some(0));
}

/// Crashes once the counts of reviews have been derived, and have no key yet.
async fn crash_behind_counts(server: &TestCluster, url: &str, csv: &Path) {
    let mut holder = PgConnection::connect(url).await.unwrap();
    let hold = "create function public.hold() returns event_trigger language plpgsql as $$
                begin
                  if exists (select from pg_event_trigger_ddl_commands() where object_identity = 'shop_next.review_meta') then
                    perform pg_advisory_lock(42);
                  end if;
                end $$;
                create event trigger hold on ddl_command_end when tag in ('ALTER TABLE') execute function public.hold();
                select pg_advisory_lock(42)";
    holder.execute(hold).await.unwrap();
    let mut load = etl(&[
        "load",
        "--csv",
        csv.to_str().unwrap(),
        "--database-url",
        url,
    ]);
    let mut child = load
        .stderr(Stdio::null())
        .stdout(Stdio::null())
        .spawn()
        .unwrap();
    let waits = "select exists (select from pg_locks where locktype = 'advisory' and objid = 42 and not granted)";
    while !sqlx::query_scalar::<_, bool>(waits)
        .fetch_one(&mut holder)
        .await
        .unwrap()
    {
        assert_eq!(child.try_wait().unwrap(), None, "the load ended too early");
    }
    server.cluster().stop_immediate().unwrap();
    assert_eq!(child.wait().unwrap().code(), Some(1));
    server.cluster().start().unwrap();
    let mut owner = PgConnection::connect(url).await.unwrap();
    let release = "drop event trigger hold; drop function public.hold()";
    owner.execute(release).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_load_lets_what_a_killed_one_left_running_come_to_its_end() {
    let shop = Shop::new();
    let (csv, _) = generate(20, 73);
    // Removing the tables takes one lock after the other. So does what still runs, in another order.
    let mut left = PgConnection::connect(&shop.url).await.unwrap();
    let tables = "create schema shop_next; create table shop_next.reviews (); create table shop_next.review_ranks ()";
    left.execute(tables).await.unwrap();
    let mut running = left.begin().await.unwrap();
    let first = "lock table shop_next.review_ranks in access exclusive mode";
    running.execute(first).await.unwrap();
    let (url, options) = (shop.url.clone(), options(csv.path()));
    let loading = tokio::spawn(async move { load::run(&url, &options).await });
    let waits = "select exists (select from pg_locks where not granted)";
    while shop.rows(waits).await != ["(t)"] {
        assert!(!loading.is_finished(), "it waits for nobody");
    }
    let then = "lock table shop_next.reviews in access share mode";
    running.execute(then).await.unwrap();
    running.commit().await.unwrap();
    assert!(loading.await.unwrap().unwrap().loaded > 0);
}
