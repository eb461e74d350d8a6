//! Loads beside live data: what readers see, what caches are told, and what is left when a load
//! does not end.

use std::{fs, time::Duration};

use etl::{
    error::Error,
    load::{self, LoadOptions},
    schema,
};
use sqlx::{Connection as _, PgConnection};
use tempfile::TempDir;

use crate::{
    generated::generate,
    support::{Shop, collect, options},
};

/// How long a condition may take to come true.
const DEADLINE: Duration = Duration::from_secs(30);

/// Waits until a query says so.
async fn wait_until(shop: &Shop, query: &str) {
    let waiting = async {
        while shop.rows(query).await != ["(t)"] {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(DEADLINE, waiting)
        .await
        .unwrap_or_else(|_| panic!("never came true: {query}"));
}

async fn loaded_base() -> (Shop, TempDir) {
    let (shop, dir) = (Shop::new(), TempDir::new().unwrap());
    collect("base", &[], dir.path());
    shop.load(dir.path()).await.unwrap();
    (shop, dir)
}

#[tokio::test]
async fn a_second_load_of_the_same_files_changes_nothing() {
    let (dir, _) = generate(60, 11);
    let shop = Shop::new();
    shop.load(dir.path()).await.unwrap();
    let first = shop.checksum().await;
    shop.load(dir.path()).await.unwrap();
    assert_eq!(shop.checksum().await, first);
    assert_eq!(
        shop.rows("select count(*) from service.loads").await,
        ["(2)"]
    );
}

#[tokio::test]
async fn a_load_tells_the_caches_once_to_begin_anew() {
    let (shop, dir) = loaded_base().await;
    let told = shop.outbox().await.len();
    shop.load(dir.path()).await.unwrap();
    assert_eq!(shop.outbox().await[told..], ["({*})"]);
    assert_eq!(
        shop.rows("select * from coherence.missing_triggers()")
            .await,
        [""; 0]
    );
    // The new tables tell of their changes as the old ones did.
    shop.execute("update shop.products set name = 'New' where id = 2")
        .await;
    assert_eq!(
        shop.outbox().await.last().map(String::as_str),
        Some("(\"{product-2,products}\")")
    );
}

#[tokio::test]
async fn nothing_of_a_load_is_left_beside_the_tables_in_place() {
    let (shop, _dir) = loaded_base().await;
    assert_eq!(
        shop.rows("select nspname from pg_namespace where nspname like 'shop%'")
            .await,
        ["(shop)"]
    );
    let invalid = "select conname from pg_constraint where connamespace = 'shop'::regnamespace and not convalidated";
    assert_eq!(shop.rows(invalid).await, [""; 0]);
    let fresh = Shop::new();
    let shape = "select table_name, column_name, data_type, is_nullable, column_default
                   from information_schema.columns where table_schema = 'shop' order by 1, ordinal_position";
    assert_eq!(shop.rows(shape).await, fresh.rows(shape).await);
    let indexes = "select indexdef from pg_indexes where schemaname = 'shop' order by 1";
    assert_eq!(shop.rows(indexes).await, fresh.rows(indexes).await);
    let triggers = "select tgrelid::regclass::text, tgname, tgenabled, tgtype from pg_trigger where not tgisinternal order by 1, 2";
    assert_eq!(shop.rows(triggers).await, fresh.rows(triggers).await);
    let rights = "select relname, relacl from pg_class where relnamespace = 'shop'::regnamespace and relkind in ('r', 'S') order by 1";
    assert_eq!(shop.rows(rights).await, fresh.rows(rights).await);
}

#[tokio::test]
async fn readers_and_writers_of_the_origins_role_never_fail_during_a_load() {
    let (shop, dir) = loaded_base().await;
    let app_url = shop.app_url();
    let (stop, mut stopped) = tokio::sync::oneshot::channel::<()>();
    let using = tokio::spawn(async move {
        let mut app = PgConnection::connect(&app_url).await.unwrap();
        let mut rounds = 0;
        while stopped.try_recv().is_err() {
            let found: i64 = sqlx::query_scalar(
                "select count(*) from shop.products p join shop.styles s on s.product_id = p.id",
            )
            .fetch_one(&mut app)
            .await
            .unwrap();
            assert_eq!(found, 3);
            sqlx::query("update shop.reviews set helpfulness = helpfulness + 1 where id = $1")
                .bind(1)
                .execute(&mut app)
                .await
                .unwrap();
            rounds += 1;
        }
        rounds
    });
    for _ in 0..3 {
        shop.load_over(dir.path()).await;
    }
    stop.send(()).unwrap();
    assert!(using.await.unwrap() > 0);
}

#[tokio::test]
async fn a_reader_that_stays_does_not_keep_the_new_tables_from_their_place() {
    let (shop, dir) = loaded_base().await;
    let mut reader = shop.connect().await;
    let mut reading = reader.begin().await.unwrap();
    sqlx::raw_sql("select * from shop.products")
        .execute(&mut *reading)
        .await
        .unwrap();
    let loading = tokio::spawn({
        let (url, options) = (shop.url.clone(), options(dir.path()));
        async move { load::run(&url, &options).await }
    });
    wait_until(&shop, "select count(*) = 2 from service.loads").await;
    // It goes on reading what it read; only the removal of the old tables waits for it.
    sqlx::raw_sql("select * from shop_old.products")
        .execute(&mut *reading)
        .await
        .unwrap();
    reading.commit().await.unwrap();
    loading.await.unwrap().unwrap();
    assert_eq!(
        shop.rows("select to_regnamespace('shop_old') is null")
            .await,
        ["(t)"]
    );
}

#[tokio::test]
async fn a_load_waits_for_a_writer_to_commit() {
    let (shop, dir) = loaded_base().await;
    let mut writer = shop.connect().await;
    let mut writing = writer.begin().await.unwrap();
    sqlx::raw_sql("update shop.products set name = 'Written'")
        .execute(&mut *writing)
        .await
        .unwrap();
    let loading = tokio::spawn({
        let url = shop.url.clone();
        let options = LoadOptions {
            discard_writes: true,
            ..options(dir.path())
        };
        async move { load::run(&url, &options).await }
    });
    wait_until(
        &shop,
        "select exists (select from pg_locks where mode = 'ExclusiveLock' and not granted)",
    )
    .await;
    assert_eq!(
        shop.rows("select count(*) from service.loads").await,
        ["(1)"]
    );
    writing.commit().await.unwrap();
    loading.await.unwrap().unwrap();
    assert_eq!(
        shop.rows("select name from shop.products where id = 3")
            .await,
        ["(\"Morning Joggers\")"]
    );
}

#[tokio::test]
async fn a_load_that_fails_at_the_very_end_leaves_what_is_live() {
    let (shop, dir) = loaded_base().await;
    let (before, told) = (shop.checksum().await, shop.outbox().await);
    fs::write(
        dir.path().join("product.csv"),
        "id,name,slogan,description,category,default_price\n1,X,,,,1\n",
    )
    .unwrap();
    shop.execute("alter table service.loads add constraint refused check (false) not valid")
        .await;
    let error = shop.load(dir.path()).await.unwrap_err();
    assert_eq!(error.exit_code(), 1);
    assert!(
        error.to_string().contains("writing down the load"),
        "{error}"
    );
    assert_eq!(
        (shop.checksum().await, shop.outbox().await),
        (before.clone(), told)
    );
    // And the next one succeeds over what it left behind.
    shop.execute("alter table service.loads drop constraint refused")
        .await;
    shop.load(dir.path()).await.unwrap();
    assert_ne!(shop.checksum().await, before);
}

#[tokio::test]
async fn a_load_that_is_cut_off_leaves_what_is_live_and_can_be_run_again() {
    let (shop, _dir) = loaded_base().await;
    let before = shop.checksum().await;
    let (dir, _) = generate(300, 12);
    for steps in [
        "select to_regclass('shop_next.products') is not null",
        "select to_regclass('shop_next.reviews_pkey') is not null",
    ] {
        let loading = tokio::spawn({
            let (url, options) = (shop.url.clone(), options(dir.path()));
            async move { load::run(&url, &options).await.map(drop) }
        });
        wait_until(&shop, steps).await;
        loading.abort();
        let is_cut_off = loading.await.is_err();
        if is_cut_off {
            assert_eq!(shop.checksum().await, before);
        }
        // Its connections end when the server notices.
        wait_until(&shop, "select count(*) = 0 from pg_stat_activity where application_name = 'etl' and datname = current_database()").await;
    }
    shop.load(dir.path()).await.unwrap();
    let undisturbed = Shop::new();
    undisturbed.load(dir.path()).await.unwrap();
    assert_eq!(shop.checksum().await, undisturbed.checksum().await);
}

#[tokio::test]
async fn two_loads_do_not_run_at_once() {
    let (shop, dir) = loaded_base().await;
    let mut other = schema::connect(&shop.url).await.unwrap();
    schema::lock(&mut other).await.unwrap();
    let error = shop.load(dir.path()).await.unwrap_err();
    assert!(matches!(error, Error::Busy), "{error}");
    assert_eq!(error.exit_code(), 4);
    other.close().await.unwrap();
}

#[tokio::test]
async fn a_file_may_be_missing_only_while_its_table_is_empty() {
    let (shop, dir) = loaded_base().await;
    let before = shop.checksum().await;
    fs::remove_file(dir.path().join("reviews.csv")).unwrap();
    let error = shop.load(dir.path()).await.unwrap_err();
    assert_eq!(
        error.to_string(),
        "reviews.csv: missing, and table reviews holds rows that would be lost"
    );
    assert_eq!(shop.checksum().await, before);
}

#[tokio::test]
async fn a_database_without_the_schema_is_not_loaded_into() {
    let (shop, dir) = (Shop::without_schema(), TempDir::new().unwrap());
    collect("base", &[], dir.path());
    assert!(matches!(
        shop.load(dir.path()).await,
        Err(Error::NotMigrated)
    ));
}

#[tokio::test]
async fn products_are_as_old_as_the_newest_file_or_as_one_says() {
    let (shop, dir) = loaded_base().await;
    let newest = fs::read_dir(dir.path())
        .unwrap()
        .map(|entry| entry.unwrap().metadata().unwrap().modified().unwrap())
        .max()
        .unwrap();
    let millis = newest
        .duration_since(std::time::UNIX_EPOCH)
        .unwrap()
        .as_millis();
    let made = "select distinct (extract(epoch from created_at) * 1000)::bigint, created_at = updated_at from products";
    assert_eq!(shop.rows(made).await, [format!("({millis},t)")]);
    let loaded_at = std::time::UNIX_EPOCH + Duration::from_millis(1_628_865_524_509);
    let options = LoadOptions {
        loaded_at: Some(loaded_at),
        ..options(dir.path())
    };
    let report = load::run(&shop.url, &options).await.unwrap();
    assert_eq!(shop.rows(made).await, ["(1628865524509,t)"]);
    assert_eq!(report.loaded_at, "2021-08-13T14:38:44.509Z");
}
