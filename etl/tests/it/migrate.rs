//! Setting up a database.

use etl::schema;
use sqlx::{Connection as _, PgConnection};

use crate::support::{Shop, TABLES};

#[tokio::test]
async fn an_empty_database_is_set_up_for_origins_to_use() {
    let shop = Shop::without_schema();
    schema::migrate(&shop.url).await.unwrap();
    assert_eq!(
        shop.rows("select * from coherence.missing_triggers()")
            .await,
        [""; 0]
    );
    let mut app = PgConnection::connect(&shop.app_url()).await.unwrap();
    for table in TABLES {
        let statement = format!("select count(*) from shop.{table}");
        let count: i64 = sqlx::query_scalar(sqlx::AssertSqlSafe(statement))
            .fetch_one(&mut app)
            .await
            .unwrap();
        assert_eq!(count, 0, "{table}");
    }
    for definition in [
        "drop table shop.products",
        "create table shop.x (a int)",
        "create table public.x (a int)",
        "create temporary table x (a int)",
        "create schema x",
    ] {
        let refused = sqlx::raw_sql(definition).execute(&mut app).await;
        let refused = refused.expect_err(definition);
        let code = refused
            .as_database_error()
            .and_then(sqlx::error::DatabaseError::code);
        assert_eq!(code.as_deref(), Some("42501"), "{definition}: {refused}");
    }
}

#[tokio::test]
async fn a_second_run_changes_nothing_and_tells_no_cache() {
    let shop = Shop::new();
    let told = shop.outbox().await;
    let catalogue = "select oid, relname from pg_class where relnamespace in ('shop'::regnamespace, 'service'::regnamespace)
                     order by oid";
    let before = shop.rows(catalogue).await;
    schema::migrate(&shop.url).await.unwrap();
    assert_eq!(shop.rows(catalogue).await, before);
    assert_eq!(shop.outbox().await, told);
}

#[tokio::test]
async fn runs_at_the_same_time_wait_for_each_other() {
    let shop = Shop::without_schema();
    let runs = [(); 4].map(|()| {
        tokio::spawn({
            let url = shop.url.clone();
            async move { schema::migrate(&url).await }
        })
    });
    for run in runs {
        run.await.unwrap().unwrap();
    }
    assert_eq!(
        shop.rows("select count(*) from pg_tables where schemaname = 'shop'")
            .await,
        [format!("({})", TABLES.len())]
    );
}

#[tokio::test]
async fn indexes_that_lost_their_query_would_be_noticed() {
    let shop = Shop::new();
    // Every foreign key has an index on its columns: removing a parent must not read the whole
    // table of its children.
    let uncovered = "select c.conname from pg_constraint c
                      where c.contype = 'f' and c.connamespace = 'shop'::regnamespace
                        and not exists (select from pg_index i where i.indrelid = c.conrelid and i.indkey[0] = c.conkey[1])";
    assert_eq!(shop.rows(uncovered).await, [""; 0]);
}
