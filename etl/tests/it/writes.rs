//! Changes of the live tables: those since the last load, which a load would lose, and those that
//! come while it runs.

use std::fs;

use etl::{
    error::Error,
    load::{self, LoadOptions, Mode},
    schema::{self, writes},
};
use tempfile::TempDir;

use crate::{
    command::{etl, stderr},
    support::{Shop, collect, options},
};

const VOTE: &str = "update shop.reviews set helpfulness = helpfulness + 1 where id = 1";

async fn loaded_base() -> (Shop, TempDir) {
    let (shop, dir) = (Shop::new(), TempDir::new().unwrap());
    collect("base", &[], dir.path());
    shop.load(dir.path()).await.unwrap();
    (shop, dir)
}

#[tokio::test]
async fn a_load_that_would_lose_changes_stops_and_says_how_many() {
    let (shop, dir) = loaded_base().await;
    for _ in 0..3 {
        shop.execute(VOTE).await;
    }
    // As the origin does it: one transaction, one row of the outbox.
    shop.execute(
        "begin; select coherence.mark(); update shop.reviews set helpfulness = 9 where id = 2;
         select coherence.append(array['product-1-reviews']); commit",
    )
    .await;
    // What is not replaced, or was not committed, does not count.
    shop.execute("insert into service.interactions (element, widget, time) values ('a', 'b', 'c')")
        .await;
    shop.execute(&format!("begin; {VOTE}; rollback")).await;
    let before = shop.checksum().await;
    let load = |more: &[&str]| {
        etl(&["load", "--csv", dir.path().to_str().unwrap()])
            .args(["--database-url", &shop.url])
            .args(more)
            .output()
            .unwrap()
    };
    let output = load(&[]);
    assert_eq!(output.status.code(), Some(8), "{}", stderr(&output));
    assert!(
        stderr(&output).starts_with("etl: 4 changes were made to the live tables"),
        "{}",
        stderr(&output)
    );
    assert_eq!(shop.checksum().await, before);
    let output = load(&["--discard-writes"]);
    assert!(output.status.success(), "{}", stderr(&output));
    assert_ne!(shop.checksum().await, before);
    // From here on there is nothing to lose.
    let output = load(&[]);
    assert!(output.status.success(), "{}", stderr(&output));
}

#[tokio::test]
async fn carts_interactions_keys_and_what_caches_were_told_stay_over_every_kind_of_load() {
    let (shop, dir) = loaded_base().await;
    shop.execute(
        "insert into service.cart_items (identity, sku_id, count) values (sha256('a'), 7, 2);
         insert into service.interactions (element, widget, time) values ('a', 'b', 'c');
         insert into service.idempotency_keys (scope, digest, status, groups)
         values (sha256('b'), sha256('c'), 201, array['products'])",
    )
    .await;
    let kept = async || {
        let mut rows = Vec::new();
        for table in ["cart_items", "interactions", "idempotency_keys"] {
            rows.extend(shop.rows(&format!("table service.{table}")).await);
        }
        rows
    };
    let (before, told) = (kept().await, shop.outbox().await);
    assert_eq!(before.len(), 3);
    shop.load(dir.path()).await.unwrap();
    shop.load_over(dir.path()).await;
    let merge = LoadOptions {
        mode: Mode::Merge,
        ..options(dir.path())
    };
    load::run(&shop.url, &merge).await.unwrap();
    assert_eq!(kept().await, before);
    assert!(!told.is_empty() && shop.outbox().await.starts_with(&told));
}

#[tokio::test]
async fn changes_are_counted_after_the_outbox_has_forgotten_them() {
    let (shop, dir) = loaded_base().await;
    shop.execute(VOTE).await;
    for _ in 0..4 {
        shop.execute("select coherence.rotate('0')").await;
    }
    shop.execute(VOTE).await;
    assert_eq!(
        shop.rows("select count(*) from coherence.outbox where groups <> '{*}'")
            .await,
        ["(1)"]
    );
    let error = shop.load(dir.path()).await.unwrap_err();
    assert!(matches!(error, Error::LiveWrites(2)), "{error}");
}

#[tokio::test]
async fn a_change_by_other_programs_during_a_load_is_not_lost_unseen() {
    let (shop, dir) = loaded_base().await;
    // The moment before the swap is that of the last statement of `attach`.
    shop.execute(
        "create function public.meddle() returns event_trigger language plpgsql as
         $$ begin update shop.reviews set helpfulness = 77 where id = 1; end $$;
         create event trigger meddle on ddl_command_end when tag in ('GRANT') execute function public.meddle()",
    )
    .await;
    let error = shop.load(dir.path()).await.unwrap_err();
    assert!(matches!(error, Error::LiveWrites(1..)), "{error}");
    let helpfulness = "select helpfulness from reviews where id = 1";
    assert_eq!(shop.rows(helpfulness).await, ["(77)"]);
    let options = LoadOptions {
        discard_writes: true,
        ..options(dir.path())
    };
    load::run(&shop.url, &options).await.unwrap();
    assert_ne!(shop.rows(helpfulness).await, ["(77)"]);
}

#[tokio::test]
async fn changes_by_origins_are_held_back_while_a_load_runs_and_end_with_it() {
    let (shop, dir) = loaded_base().await;
    let marked = "begin; select coherence.mark(); commit";
    let mut origin = shop.connect().await;
    let mut load = schema::connect(&shop.url).await.unwrap();
    writes::hold(&mut load).await.unwrap();
    let refused = sqlx::raw_sql(marked)
        .execute(&mut origin)
        .await
        .unwrap_err();
    let code = refused.as_database_error().unwrap().code();
    assert_eq!(code.as_deref(), Some("LD001"));
    sqlx::raw_sql("rollback")
        .execute(&mut origin)
        .await
        .unwrap();
    writes::release(&mut load).await.unwrap();
    sqlx::raw_sql(marked).execute(&mut origin).await.unwrap();
    // Also after a load that failed.
    fs::write(dir.path().join("styles.csv"), "id\n").unwrap();
    shop.load(dir.path()).await.unwrap_err();
    sqlx::raw_sql(marked).execute(&mut origin).await.unwrap();
}

#[tokio::test]
async fn a_load_waits_for_changes_that_have_begun() {
    let (shop, _dir) = loaded_base().await;
    let mut origin = shop.connect().await;
    sqlx::raw_sql("begin; select coherence.mark()")
        .execute(&mut origin)
        .await
        .unwrap();
    let url = shop.url.clone();
    let holding = tokio::spawn(async move {
        let mut load = schema::connect(&url).await.unwrap();
        writes::hold(&mut load).await.unwrap();
        load
    });
    let waiting =
        "select exists (select from pg_locks where locktype = 'advisory' and not granted)";
    while shop.rows(waiting).await != ["(t)"] {
        tokio::task::yield_now().await;
    }
    assert!(!holding.is_finished());
    sqlx::raw_sql("commit").execute(&mut origin).await.unwrap();
    drop(holding.await.unwrap());
}
