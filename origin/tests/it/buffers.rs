//! What every hot read touches, as the planner runs it by itself with the settings of production.
//!
//! The catalogue is large enough for that, and smaller than a shop: its trees are a level lower, so that one look-up
//! costs 3 buffers (root, leaf, row) where 4 are touched at 1,000,011 products; for those figures see `benches`.

use etl::{
    generate::{self, GenerateOptions},
    load::{self, LoadOptions, Mode},
    progress::Progress,
    schema,
};
use serde_json::Value;
use sqlx::{AssertSqlSafe, Connection as _, PgConnection, Row as _};
use stack::TestCluster;

use crate::support::execute;

const PRODUCTS: u64 = 12_000;
/// Usual products that are measured; the median counts, as some have their rows on two pages.
const USUAL: i64 = 40;

/// What a statement may touch for a usual product, the fattest, and usual ones of the last tenth.
struct Bound {
    statement: &'static str,
    arguments: &'static str,
    usual: u64,
    fattest: u64,
    last_tenth: u64,
}

/// `P` is the product, `Q` its first question.
#[rustfmt::skip]
const BOUNDS: [Bound; 13] = [
    bound("products.get", "P", 6, 6, 6),
    bound("products.styles", "P", 12, 12, 12),
    bound("products.related", "P", 6, 6, 6),
    bound("reviews.list_relevant", "P, 5, 0", 6, 0, 6),
    bound("reviews.list_newest", "P, 5, 0", 6, 0, 6),
    bound("reviews.list_helpful", "P, 5, 0", 6, 0, 6),
    bound("reviews.list_ranked_relevant", "P, 5, 0", 0, 34, 0),
    bound("reviews.list_ranked_newest", "P, 5, 0", 0, 34, 0),
    bound("reviews.list_ranked_helpful", "P, 5, 0", 0, 34, 0),
    bound("reviews.meta", "P", 3, 3, 3),
    bound("questions.list", "P, 5, 0", 11, 0, 11),
    bound("questions.list_ranked", "P, 5, 0", 0, 62, 0),
    bound("answers.list", "Q, 5, 0", 6, 6, 6),
];

/// A bound of 0: the origin does not run the statement for such products.
const fn bound(
    statement: &'static str,
    arguments: &'static str,
    usual: u64,
    fattest: u64,
    last_tenth: u64,
) -> Bound {
    Bound {
        statement,
        arguments,
        usual,
        fattest,
        last_tenth,
    }
}

/// A loaded catalogue; a connection as the origin's role, with the origin's settings.
async fn catalogue() -> (String, PgConnection) {
    let cluster = TestCluster::shared();
    let name = tokio::task::spawn_blocking(|| TestCluster::shared().create_database(None))
        .await
        .unwrap();
    let owner = cluster.owner_url(&name);
    let dir = tempfile::tempdir().unwrap();
    let options = GenerateOptions {
        out: dir.path().to_owned(),
        products: PRODUCTS,
        // Votes are of no page.
        rows: vec![("characteristics".to_owned(), 100)],
        seed: 1,
        progress: Progress::silent(),
    };
    tokio::task::spawn_blocking(move || generate::run(&options))
        .await
        .unwrap()
        .unwrap();
    schema::migrate(&owner).await.unwrap();
    let options = LoadOptions {
        sources: etl::dataset::Sources::folder(dir.path()),
        mode: Mode::Replace,
        rejects: None,
        max_rejects: None,
        discard_writes: false,
        loaded_at: None,
        jobs: 2,
        progress: Progress::silent(),
    };
    load::run(&owner, &options).await.unwrap();
    let mut conn = PgConnection::connect(&cluster.app_url(&name))
        .await
        .unwrap();
    execute(
        &mut conn,
        "set plan_cache_mode = force_generic_plan; set jit = off; set timezone = 'UTC'",
    )
    .await;
    (name, conn)
}

/// Products with so many rows as most have, from an id on: each with its first question.
async fn usual(conn: &mut PgConnection, from: u64) -> Vec<[i32; 2]> {
    let rows = sqlx::query_as(
        "select p.id, (select min(q.id) from shop.questions q where q.product_id = p.id)
           from shop.products p
          where p.id >= $1
            and (select count(*) from shop.reviews r where r.product_id = p.id) between 2 and 8
            and (select count(*) from shop.questions q where q.product_id = p.id) between 1 and 5
            and (select count(*) from shop.answers a where a.product_id = p.id) between 1 and 12
          order by p.id
          limit $2",
    )
    .bind(i32::try_from(from).unwrap())
    .bind(USUAL)
    .fetch_all(conn)
    .await
    .unwrap();
    assert!(rows.len() > 20, "{} usual products", rows.len());
    rows.into_iter().map(|(p, q)| [p, q]).collect()
}

/// The product with the most reviews, which is the one with the most questions too.
async fn fattest(conn: &mut PgConnection) -> Vec<[i32; 2]> {
    let row: (i32, i32, i64) = sqlx::query_as(
        "select r.product_id, (select min(q.id) from shop.questions q where q.product_id = r.product_id), count(*)
           from shop.reviews r group by 1 order by 3 desc, 1 limit 1",
    )
    .fetch_one(conn)
    .await
    .unwrap();
    assert!(row.2 > 500, "the fattest has {} reviews", row.2);
    vec![[row.0, row.1]]
}

/// Explains the second execution of a prepared statement.
async fn explain(conn: &mut PgConnection, arguments: &str) -> Value {
    execute(conn, &format!("execute tested({arguments})")).await;
    let sql =
        format!("explain (analyze, buffers, timing off, format json) execute tested({arguments})");
    let row = sqlx::raw_sql(AssertSqlSafe(sql))
        .fetch_one(&mut *conn)
        .await
        .unwrap();
    let text: String = row.try_get_unchecked(0).unwrap();
    serde_json::from_str::<Value>(&text).unwrap()[0]["Plan"].clone()
}

fn buffers(plan: &Value) -> u64 {
    plan["Shared Hit Blocks"].as_u64().unwrap() + plan["Shared Read Blocks"].as_u64().unwrap()
}

/// Fails on a table or an index that is read from end to end.
fn assert_looked_up(statement: &str, plan: &Value) {
    let node = plan["Node Type"].as_str().unwrap();
    // Of one page, in a shop of this size.
    let is_small = plan["Relation Name"] == "ranked_products";
    assert!(is_small || node != "Seq Scan", "{statement}: {plan:#}");
    if ["Index Scan", "Index Only Scan", "Bitmap Index Scan"].contains(&node) {
        assert!(plan["Index Cond"].is_string(), "{statement}: {plan:#}");
    }
    for child in plan["Plans"].as_array().into_iter().flatten() {
        assert_looked_up(statement, child);
    }
}

/// The median over the products.
async fn median(conn: &mut PgConnection, bound: &Bound, products: &[[i32; 2]]) -> u64 {
    let mut touched = Vec::new();
    for [product, question] in products {
        let arguments = bound
            .arguments
            .replace('P', &product.to_string())
            .replace('Q', &question.to_string());
        let plan = explain(conn, &arguments).await;
        assert_looked_up(bound.statement, &plan);
        touched.push(buffers(&plan));
    }
    touched.sort_unstable();
    touched[touched.len() / 2]
}

#[tokio::test]
async fn no_hot_read_touches_more_buffers_than_are_stated() {
    let (name, mut conn) = catalogue().await;
    let sets = [
        usual(&mut conn, 1).await,
        fattest(&mut conn).await,
        usual(&mut conn, PRODUCTS - PRODUCTS / 10).await,
    ];
    let mut figures = Vec::new();
    let mut is_more = false;
    for bound in &BOUNDS {
        let all = origin::statements();
        let statement = all.iter().find(|other| other.name == bound.statement);
        let sql = statement.expect(bound.statement).sql;
        execute(&mut conn, &format!("prepare tested as {sql}")).await;
        for (set, at_most) in sets
            .iter()
            .zip([bound.usual, bound.fattest, bound.last_tenth])
        {
            if at_most == 0 {
                continue;
            }
            let touched = median(&mut conn, bound, set).await;
            is_more |= touched > at_most;
            figures.push(format!("{}: {touched}, at most {at_most}", bound.statement));
        }
        execute(&mut conn, "deallocate tested").await;
    }
    conn.close().await.unwrap();
    tokio::task::spawn_blocking(move || TestCluster::shared().drop_database(&name))
        .await
        .unwrap();
    assert!(!is_more, "{figures:#?}");
}
