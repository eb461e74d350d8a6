//! Every statement of the program finds its rows by an index, and by which.
//!
//! The tables are empty, and an empty table is best read whole: the planner is told not to. So this says which index is there
//! for a statement, and that no other is needed. What the planner does when it is left alone, at a size where it matters, is
//! in `buffers.rs`.

use std::collections::BTreeSet;

use serde_json::Value;
use sqlx::{AssertSqlSafe, Row as _};

use crate::support::{TestApp, execute};

/// The plan that a statement runs with, whatever its arguments.
pub(crate) async fn plan(conn: &mut sqlx::PgConnection, sql: &str) -> Value {
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
pub(crate) fn scanned(plan: &Value, found: &mut BTreeSet<String>) {
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

/// The indexes of every statement. Those of a page's children are by the product: they are not found one by one.
const LOOK_UPS: [(&str, &[&str]); 42] = [
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
    (
        "reviews.list_ranked_newest",
        &[
            "ranked_products_pkey",
            "review_photos_review_id_idx",
            "review_ranks_product_id_date_review_id_idx",
            "reviews_pkey",
            "reviews_product_id_idx",
        ],
    ),
    (
        "reviews.list_ranked_helpful",
        &[
            "ranked_products_pkey",
            "review_photos_review_id_idx",
            "review_ranks_product_id_helpfulness_review_id_idx",
            "reviews_pkey",
            "reviews_product_id_idx",
        ],
    ),
    (
        "reviews.create",
        &[
            "characteristics_product_id_idx",
            "idempotency_keys_pkey",
            "products_pkey",
            "ranked_products_pkey",
        ],
    ),
    ("reviews.report", &["review_ranks_pkey", "reviews_pkey"]),
    (
        "questions.list_ranked",
        &[
            "answer_photos_product_id_question_id_idx",
            "answers_question_id_idx",
            "question_ranks_product_id_helpfulness_date_question_id_idx",
            "questions_pkey",
            "questions_product_id_idx",
            "ranked_products_pkey",
        ],
    ),
    (
        "questions.create",
        &[
            "idempotency_keys_pkey",
            "products_pkey",
            "ranked_products_pkey",
        ],
    ),
    (
        "questions.report",
        &["question_ranks_pkey", "questions_pkey"],
    ),
    (
        "answers.create",
        &["idempotency_keys_pkey", "questions_pkey"],
    ),
    ("answers.report", &["answers_pkey"]),
    ("cart.list", &["cart_items_pkey"]),
    ("cart.add", &["idempotency_keys_pkey", "skus_pkey"]),
    ("interactions.create", &["idempotency_keys_pkey"]),
    ("idempotency.forget", &["idempotency_keys_pkey"]),
    ("database.unsafe_settings", &[]),
    ("database.role", &[]),
    ("database.has_replayed", &[]),
    ("health.problems", &[]),
    (
        "maintenance.remove_keys",
        &["idempotency_keys_created_at_idx", "idempotency_keys_pkey"],
    ),
    ("maintenance.remove_interactions", &["interactions_pkey"]),
    ("maintenance.rotate", &[]),
    ("ranked.list", &["ranked_products_pkey"]),
    ("ranked.rank", &[]),
    ("tail.hello", &[]),
    ("tail.incarnate", &[]),
    (
        "tail.poll",
        &["outbox_0_xid_idx", "outbox_1_xid_idx", "outbox_2_xid_idx"],
    ),
    ("tail.untold", &[]),
    ("tail.tell", &[]),
    ("tail.rotate", &[]),
];

#[tokio::test]
async fn every_statement_uses_the_indexes_that_are_stated_and_no_others() {
    let (_app, mut conn) = connection().await;
    let mut wrong = Vec::new();
    for statement in origin::statements() {
        let plan = plan(&mut conn, statement.sql).await;
        let mut used = BTreeSet::new();
        indexes(&plan, &mut used);
        let expected = LOOK_UPS.iter().find(|(name, _)| *name == statement.name);
        let expected = expected.map(|(_, indexes)| indexes);
        if expected.is_none_or(|expected| !used.iter().eq(*expected)) {
            wrong.push(format!("(\"{}\", &{used:?}),", statement.name));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn every_statement_has_a_name_of_its_own() {
    let statements = origin::statements();
    let names: BTreeSet<_> = statements.iter().map(|statement| statement.name).collect();
    assert_eq!(names.len(), statements.len());
}
