//! The outbox over tables of any service.

use sqlx::{AssertSqlSafe, Connection as _, PgConnection};

use crate::support::Shop;

/// A database with the outbox and nothing else.
async fn outbox() -> Shop {
    let shop = Shop::without_schema();
    shop.execute(include_str!("../../../sql/coherence.sql"))
        .await;
    shop
}

/// The groups that statements tell, transaction by transaction.
async fn told(shop: &Shop, statements: &str) -> Vec<String> {
    shop.execute("truncate coherence.outbox").await;
    shop.execute(statements).await;
    shop.rows("select unnest(groups) from coherence.outbox order by 1")
        .await
}

async fn refusal(shop: &Shop, statements: &str) -> String {
    let mut conn = PgConnection::connect(&shop.url).await.unwrap();
    let statements = AssertSqlSafe(statements.to_owned());
    let refused = sqlx::raw_sql(statements).execute(&mut conn).await;
    refused.expect_err("it is not refused").to_string()
}

/// Rows used to be compared by the equality of their types: json has none, and every UPDATE failed; 1.0
/// equals 1.00, and nothing was told.
#[tokio::test]
async fn an_update_tells_whatever_changes_the_text_of_a_row_of_any_types() {
    let shop = outbox().await;
    shop.execute(
        "create table public.item (id int primary key, doc json, place point, price numeric, weight float8, note text);
         select coherence.watch('public.item', 'item-{id}');
         select coherence.watch('public.item', 'prices', array['price']);
         select coherence.install();
         insert into public.item values (1, '{\"a\": 1}', '(1,2)', 1.0, 0.1, ''), (2, null, null, null, null, null)",
    )
    .await;
    for (change, expected) in [
        ("doc = '{\"a\": 2}'", &["(item-1)"][..]),
        ("place = '(1,3)'", &["(item-1)"]),
        ("price = 1.00", &["(item-1)", "(prices)"]),
        ("price = null", &["(item-1)", "(prices)"]),
        ("note = null", &["(item-1)"]),
        ("note = ''", &["(item-1)"]),
        ("note = note, doc = doc", &[]),
    ] {
        let update = format!("update public.item set {change} where id = 1");
        assert_eq!(told(&shop, &update).await, expected, "{change}");
    }
    // Digits that a session does not show count as well.
    let update =
        "set extra_float_digits = -5; update public.item set weight = 0.1 + 1e-16 where id = 1";
    assert_eq!(told(&shop, update).await, ["(item-1)"]);
    let moved = "update public.item set id = 3 where id = 1";
    assert_eq!(told(&shop, moved).await, ["(item-1)", "(item-3)"]);
    // Without the columns that cannot be compared the same functions compare values.
    shop.execute(
        "alter table public.item drop doc, drop place, drop weight, alter price type numeric(8, 2)",
    )
    .await;
    for (change, expected) in [
        ("price = 7", &["(item-3)", "(prices)"][..]),
        ("price = 7.00", &[]),
        ("note = null", &["(item-3)"]),
    ] {
        let update = format!("update public.item set {change} where id = 3");
        assert_eq!(told(&shop, &update).await, expected, "{change}");
    }
}

/// The names of the three functions were cut to one, which then knew one kind of statement.
#[tokio::test]
async fn the_longest_names_have_triggers_of_their_own() {
    let shop = outbox().await;
    let (one, two) = (
        format!("{}1", "t".repeat(61)),
        format!("{}2", "t".repeat(61)),
    );
    for table in [&one, &two] {
        shop.execute(&format!(
            "create table public.{table} (id int primary key, note text);
             select coherence.watch('public.{table}', '{}-{{id}}')",
            &table[61..]
        ))
        .await;
    }
    shop.execute("select coherence.install()").await;
    for (table, group) in [(&one, "(1-7)"), (&two, "(2-7)")] {
        for statement in [
            format!("insert into public.{table} values (7, 'a')"),
            format!("update public.{table} set note = 'b'"),
            format!("delete from public.{table}"),
        ] {
            assert_eq!(told(&shop, &statement).await, [group], "{statement}");
        }
    }
    let missing = "select * from coherence.missing_triggers()";
    assert_eq!(shop.rows(missing).await, [""; 0]);
}

#[tokio::test]
async fn a_table_whose_parts_are_changed_past_it_is_refused_until_they_are_watched() {
    let shop = outbox().await;
    shop.execute(
        "create table public.event (id int, note text) partition by range (id);
         create table public.event_1 partition of public.event for values from (0) to (10)",
    )
    .await;
    let watch = "select coherence.watch('public.event', 'event-{id}'); select coherence.install()";
    let refused = refusal(&shop, watch).await;
    assert!(
        refused.contains("public.event: none on its part public.event_1"),
        "{refused}"
    );
    shop.execute(&format!(
        "select coherence.watch('public.event_1', 'event-{{id}}'); {watch}"
    ))
    .await;
    for statement in [
        "insert into public.event values (3, 'a')",
        "update public.event_1 set note = 'b'",
        "delete from public.event",
    ] {
        assert_eq!(told(&shop, statement).await, ["(event-3)"], "{statement}");
    }
}

#[tokio::test]
async fn a_table_that_a_subscription_fills_is_refused() {
    let shop = outbox().await;
    shop.execute(
        "create table public.item (id int primary key);
         create subscription taking connection 'dbname=nowhere' publication there
           with (connect = false, slot_name = none);
         insert into pg_subscription_rel (srsubid, srrelid, srsubstate)
         select oid, 'public.item'::regclass, 'r' from pg_subscription where subname = 'taking'",
    )
    .await;
    let watch = "select coherence.watch('public.item', 'item-{id}'); select coherence.install()";
    let refused = refusal(&shop, watch).await;
    assert!(
        refused.contains("public.item: none for rows of a subscription"),
        "{refused}"
    );
    shop.execute("drop subscription taking").await;
    shop.execute(watch).await;
}
