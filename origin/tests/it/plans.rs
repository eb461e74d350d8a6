//! Every statement of the program finds its rows by an index.

use std::collections::BTreeSet;

use serde_json::Value;
use sqlx::{AssertSqlSafe, Row as _};

use crate::support::{TestApp, execute};

/// The plan that a statement runs with, whatever its arguments.
async fn plan(conn: &mut sqlx::PgConnection, sql: &str) -> Value {
    let arguments = (1..=20)
        .rev()
        .find(|n| sql.contains(&format!("${n}")))
        .unwrap_or(0);
    execute(conn, &format!("prepare tested as {sql}")).await;
    let nulls = vec!["null"; arguments].join(", ");
    let call = if arguments == 0 {
        "tested".to_owned()
    } else {
        format!("tested({nulls})")
    };
    let explain = AssertSqlSafe(format!("explain (format json, costs off) execute {call}"));
    let row = sqlx::raw_sql(explain).fetch_one(&mut *conn).await.unwrap();
    let text: String = row.try_get_unchecked(0).unwrap();
    execute(conn, "deallocate tested").await;
    serde_json::from_str::<Value>(&text).unwrap()[0]["Plan"].clone()
}

/// The relations that a plan reads from end to end.
fn scanned(plan: &Value, found: &mut BTreeSet<String>) {
    if plan["Node Type"] == "Seq Scan" {
        found.insert(plan["Relation Name"].as_str().unwrap().to_owned());
    }
    for child in plan["Plans"].as_array().into_iter().flatten() {
        scanned(child, found);
    }
}

/// The indexes that a plan uses.
fn indexes(plan: &Value, found: &mut BTreeSet<String>) {
    if let Some(name) = plan["Index Name"].as_str() {
        found.insert(name.to_owned());
    }
    for child in plan["Plans"].as_array().into_iter().flatten() {
        indexes(child, found);
    }
}

async fn connection() -> (TestApp, sqlx::PgConnection) {
    let app = TestApp::start(&[]).await;
    let mut conn = app.owner().await;
    execute(
        &mut conn,
        "set enable_seqscan = off; set plan_cache_mode = force_generic_plan",
    )
    .await;
    (app, conn)
}

#[tokio::test]
async fn no_statement_reads_a_table_from_end_to_end() {
    let (_app, mut conn) = connection().await;
    // Tables of one row, and what readiness looks at; functions are not looked into.
    let allowed = [
        "rotation",
        "mapping",
        "incarnation",
        "pg_trigger",
        "pg_event_trigger",
    ];
    let mut read = 0;
    for statement in origin::statements() {
        let plan = plan(&mut conn, statement.sql).await;
        let mut tables = BTreeSet::new();
        scanned(&plan, &mut tables);
        tables.retain(|table| !allowed.contains(&table.as_str()));
        assert!(
            tables.is_empty(),
            "{} scans {tables:?}: {plan:#}",
            statement.name
        );
        read += 1;
    }
    assert!(read >= 25, "{read} statements");
}

/// The indexes of the hot statements.
const LOOK_UPS: [(&str, &[&str]); 14] = [
    ("products.list", &["product_counts_pkey", "products_pkey"]),
    (
        "products.get",
        &["features_product_id_idx", "products_pkey"],
    ),
    (
        "products.styles",
        &[
            "photos_product_id_idx",
            "products_pkey",
            "skus_product_id_idx",
            "styles_product_id_idx",
        ],
    ),
    (
        "products.related",
        &["products_pkey", "related_product_id_idx"],
    ),
    (
        "reviews.list_newest",
        &["review_photos_product_id_idx", "reviews_product_id_idx"],
    ),
    (
        "reviews.list_helpful",
        &["review_photos_product_id_idx", "reviews_product_id_idx"],
    ),
    (
        "reviews.list_relevant",
        &["review_photos_product_id_idx", "reviews_product_id_idx"],
    ),
    (
        "reviews.list_ranked_relevant",
        &[
            "ranked_products_pkey",
            "review_photos_review_id_idx",
            "review_ranks_product_id_helpfulness_date_review_id_idx",
            "reviews_pkey",
            "reviews_product_id_idx",
        ],
    ),
    ("reviews.meta", &["review_meta_pkey"]),
    (
        "questions.list",
        &[
            "answer_photos_product_id_question_id_idx",
            "answers_product_id_idx",
            "questions_product_id_idx",
        ],
    ),
    (
        "answers.list",
        &[
            "answer_photos_product_id_question_id_idx",
            "answers_question_id_idx",
        ],
    ),
    (
        "reviews.mark_helpful",
        &["review_ranks_pkey", "reviews_pkey"],
    ),
    (
        "questions.mark_helpful",
        &["question_ranks_pkey", "questions_pkey"],
    ),
    ("answers.mark_helpful", &["answers_pkey"]),
];

#[tokio::test]
async fn the_children_of_a_page_are_found_by_the_product_not_one_by_one() {
    let (_app, mut conn) = connection().await;
    for (name, expected) in LOOK_UPS {
        let all = origin::statements();
        let statement = all
            .iter()
            .find(|statement| statement.name == name)
            .expect(name);
        let plan = plan(&mut conn, statement.sql).await;
        let mut used = BTreeSet::new();
        indexes(&plan, &mut used);
        assert_eq!(
            used.into_iter().collect::<Vec<_>>(),
            expected,
            "{name}: {plan:#}"
        );
    }
}

#[test]
fn every_statement_has_a_name_of_its_own() {
    let statements = origin::statements();
    let names: BTreeSet<_> = statements.iter().map(|statement| statement.name).collect();
    assert_eq!(names.len(), statements.len());
}
