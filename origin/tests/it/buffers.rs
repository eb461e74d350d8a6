//! What every hot statement touches, as the planner runs it by itself with the settings of production.
//!
//! The catalogue is large enough for that, and smaller than a shop: its trees are a level lower, so that one look-up
//! costs 3 buffers (root, leaf, row) where 4 are touched at 1,000,011 products; for those figures see `benches`.

use etl::{
    generate::{self, GenerateOptions},
    load::{self, LoadOptions, Mode},
    progress::Progress,
    schema::Jobs,
};
use serde_json::Value;
use sqlx::{AssertSqlSafe, Connection as _, PgConnection, Row as _};
use stack::TestCluster;

use std::collections::BTreeSet;

use tokio::sync::OnceCell;

use crate::{
    plans::scanned,
    support::{cluster_of_its_own, execute},
};

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
    is_write: bool,
}

/// `P` is the product, `Q` its first question, `R` its first review.
#[rustfmt::skip]
const BOUNDS: [Bound; 29] = [
    bound("products.list", "5, 0", 7, 0, 0),
    // The last page: the runs before it are added up, which are a page of them at this size.
    bound("products.list", "5, 11990", 10, 0, 0),
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
    bound("cart.list", "sha256('7')", 4, 0, 0),
    write("reviews.create", "null, null, null, P, 5, 's', 'b', true, 'n', 'e', '{u}', '{1}', '{5}'", 52),
    write("reviews.mark_helpful", "R", 29),
    write("reviews.report", "R", 26),
    write("questions.create", "null, null, null, P, 'b', 'n', 'e'", 27),
    write("questions.mark_helpful", "Q", 25),
    write("questions.report", "Q", 26),
    write("answers.create", "null, null, null, Q, 'b', 'n', 'e', '{u}'", 40),
    write("answers.mark_helpful", "A", 14),
    write("answers.report", "A", 17),
    write("cart.add", "null, null, null, sha256('7'), 37, 1", 15),
    // The same with a key.
    write("cart.add", "sha256('key'), sha256('9'), 8, sha256('7'), 37, 1", 25),
    write("interactions.create", "null, null, null, 'e', 'w', 't'", 9),
    write("idempotency.forget", "sha256('7')", 4),
];

/// What no request runs, or not once for each: the private listener's, the tasks in the background, new connections.
const NOT_OF_REQUESTS: [&str; 15] = [
    "health.problems",
    "database.unsafe_settings",
    "database.role",
    "database.has_replayed",
    "maintenance.remove_keys",
    "maintenance.remove_interactions",
    "maintenance.rotate",
    "ranked.list",
    "ranked.rank",
    "tail.hello",
    "tail.incarnate",
    "tail.poll",
    "tail.untold",
    "tail.tell",
    "tail.rotate",
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
        is_write: false,
    }
}

/// The bound of a statement that writes, for all products alike.
const fn write(statement: &'static str, arguments: &'static str, at_most: u64) -> Bound {
    Bound {
        is_write: true,
        ..bound(statement, arguments, at_most, at_most, at_most)
    }
}

/// A loaded catalogue, and tables of the service as full as those of a shop; a connection as the origin's role, with the
/// origin's settings. Made once a process.
async fn catalogue() -> PgConnection {
    static URL: OnceCell<String> = OnceCell::const_new();
    let url = URL.get_or_init(load_catalogue).await;
    let mut conn = PgConnection::connect(url).await.unwrap();
    execute(
        &mut conn,
        "set plan_cache_mode = force_generic_plan; set jit = off; set timezone = 'UTC'",
    )
    .await;
    conn
}

/// Rows of those who have been there before.
const FILL_SERVICE: &str = "
  insert into service.cart_items (identity, sku_id, count)
  select sha256((n / 4)::text::bytea), n, 1 from generate_series(1, 20000) as n;
  insert into service.interactions (element, widget, time)
  select 'e', 'w', 't' from generate_series(1, 20000) as n;
  insert into service.idempotency_keys (scope, digest, status, groups)
  select sha256(n::text::bytea), sha256(''), 201, '{}' from generate_series(1, 20000) as n;
  vacuum analyze service.cart_items, service.interactions, service.idempotency_keys";

async fn load_catalogue() -> String {
    // Whether a write finds room on its page depends on the snapshots of all databases of the server.
    let (cluster, name) = cluster_of_its_own(TestCluster::start).await;
    let owner = cluster.owner_url(&name);
    let dir = tempfile::tempdir().unwrap();
    let options = GenerateOptions {
        out: dir.path().to_owned(),
        products: PRODUCTS,
        // Votes are of no page: enough characteristics that they are looked up.
        rows: vec![("characteristics".to_owned(), 5000)],
        seed: 1,
        progress: Progress::silent(),
    };
    tokio::task::spawn_blocking(move || generate::run(&options))
        .await
        .unwrap()
        .unwrap();
    let options = LoadOptions {
        sources: etl::dataset::Sources::folder(dir.path()),
        mode: Mode::Replace,
        rejects: None,
        max_rejects: None,
        discard_writes: false,
        loaded_at: None,
        jobs: Jobs::default(),
        gateways: None,
        progress: Progress::silent(),
    };
    load::run(&owner, &options).await.unwrap();
    let mut owner = PgConnection::connect(&owner).await.unwrap();
    for statement in FILL_SERVICE.split(';') {
        execute(&mut owner, statement).await;
    }
    cluster.app_url(&name)
}

/// A product, its first question, its first review and its first answer.
type Ids = (i32, i32, i32, i32);

/// Products with so many rows as most have, from an id on.
async fn usual(conn: &mut PgConnection, from: u64) -> Vec<Ids> {
    let rows = sqlx::query_as(
        "select p.id,
                (select min(q.id) from shop.questions q where q.product_id = p.id),
                (select min(r.id) from shop.reviews r where r.product_id = p.id and not r.reported),
                (select min(a.id) from shop.answers a where a.product_id = p.id and not a.reported)
           from shop.products p
          where p.id >= $1
            and (select count(*) from shop.reviews r where r.product_id = p.id and not r.reported) between 2 and 8
            and (select count(*) from shop.questions q where q.product_id = p.id) between 1 and 5
            and (select count(*) from shop.answers a where a.product_id = p.id and not a.reported) between 1 and 12
          order by p.id
          limit $2",
    )
    .bind(i32::try_from(from).unwrap())
    .bind(USUAL)
    .fetch_all(conn)
    .await
    .unwrap();
    assert!(rows.len() > 20, "{} usual products", rows.len());
    rows
}

/// The product with the most reviews, which is the one with the most questions too.
async fn fattest(conn: &mut PgConnection) -> Vec<Ids> {
    let (product, reviews): (i32, i64) = sqlx::query_as(
        "select r.product_id, count(*) from shop.reviews r group by 1 order by 2 desc, 1 limit 1",
    )
    .fetch_one(&mut *conn)
    .await
    .unwrap();
    assert!(reviews > 500, "the fattest has {reviews} reviews");
    let row = sqlx::query_as(
        "select $1,
                (select min(q.id) from shop.questions q where q.product_id = $1),
                (select min(r.id) from shop.reviews r where r.product_id = $1 and not r.reported),
                (select min(a.id) from shop.answers a where a.product_id = $1 and not a.reported)",
    )
    .bind(product)
    .fetch_one(conn)
    .await
    .unwrap();
    vec![row]
}

/// Explains an execution of a prepared statement after a first one, which is undone: what a write changes, it changes once.
async fn explain(conn: &mut PgConnection, arguments: &str) -> Value {
    execute(
        conn,
        &format!("begin; execute tested({arguments}); rollback; begin"),
    )
    .await;
    let sql =
        format!("explain (analyze, buffers, timing off, format json) execute tested({arguments})");
    let row = sqlx::raw_sql(AssertSqlSafe(sql))
        .fetch_one(&mut *conn)
        .await
        .unwrap();
    execute(conn, "rollback").await;
    let text: String = row.try_get_unchecked(0).unwrap();
    serde_json::from_str::<Value>(&text).unwrap()[0]["Plan"].clone()
}

fn buffers(plan: &Value) -> u64 {
    plan["Shared Hit Blocks"].as_u64().unwrap() + plan["Shared Read Blocks"].as_u64().unwrap()
}

/// What a write touches of the shop's and the service's tables and indexes, by the server's own count for the
/// transaction: a plan's figures leave out the parts that nothing reads from, and the checks of foreign keys.
async fn touched_by_write(conn: &mut PgConnection, arguments: &str) -> u64 {
    let call = format!("execute tested({arguments})");
    execute(conn, &format!("begin; {call}; rollback; begin")).await;
    // The server adds up until a session is idle for a while: what this one did before counts too.
    let before = fetched(conn).await;
    execute(conn, &call).await;
    let touched = fetched(conn).await - before;
    execute(conn, "rollback").await;
    touched.unsigned_abs()
}

/// Pages that this session has asked for and the server has not booked yet.
async fn fetched(conn: &mut PgConnection) -> i64 {
    sqlx::query_scalar(
        "select sum(pg_stat_get_xact_blocks_fetched(c.oid))::int8
           from pg_class c
          where c.relnamespace in ('shop'::regnamespace, 'service'::regnamespace, 'coherence'::regnamespace)",
    )
    .fetch_one(conn)
    .await
    .unwrap()
}

/// Tables of one page.
const SMALL: [&str; 3] = ["product_counts", "ranked_products", "rotation"];

/// Fails on a table or an index that is read from end to end.
fn assert_looked_up(statement: &str, plan: &Value) {
    let node = plan["Node Type"].as_str().unwrap();
    // Of one page, in a shop of this size; or not run, as it would be to find out whether there are any products.
    let is_small = SMALL.iter().any(|table| plan["Relation Name"] == *table);
    let is_idle = plan["Actual Loops"] == 0;
    let is_scan = node == "Seq Scan" && !is_small && !is_idle;
    assert!(!is_scan, "{statement}: {plan:#}");
    if ["Index Scan", "Index Only Scan", "Bitmap Index Scan"].contains(&node) {
        assert!(plan["Index Cond"].is_string(), "{statement}: {plan:#}");
    }
    for child in plan["Plans"].as_array().into_iter().flatten() {
        assert_looked_up(statement, child);
    }
}

/// The median over the products.
async fn median(conn: &mut PgConnection, bound: &Bound, products: &[Ids]) -> u64 {
    let mut touched = Vec::new();
    for (product, question, review, answer) in products {
        let arguments = bound
            .arguments
            .replace('P', &product.to_string())
            .replace('Q', &question.to_string())
            .replace('R', &review.to_string())
            .replace('A', &answer.to_string());
        let plan = explain(conn, &arguments).await;
        assert_looked_up(bound.statement, &plan);
        touched.push(if bound.is_write {
            touched_by_write(conn, &arguments).await
        } else {
            buffers(&plan)
        });
    }
    touched.sort_unstable();
    touched[touched.len() / 2]
}

#[tokio::test]
async fn no_hot_statement_touches_more_buffers_than_are_stated() {
    let mut conn = catalogue().await;
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
    assert!(!is_more, "{figures:#?}");
}

#[test]
fn every_statement_of_a_request_has_a_bound() {
    let bounded = BOUNDS.iter().map(|bound| bound.statement);
    let known: BTreeSet<_> = bounded.chain(NOT_OF_REQUESTS).collect();
    let all = origin::statements();
    let all: BTreeSet<_> = all.iter().map(|statement| statement.name).collect();
    assert_eq!(known, all);
}

/// What the planner reads from end to end, by statement: tables of one row or one page, and for `exists` one row of the
/// products, if there is no such product.
const READ_WHOLE: [(&str, &[&str]); 15] = [
    ("products.list", &["product_counts"]),
    ("reviews.list_ranked_newest", &["ranked_products"]),
    ("reviews.list_ranked_helpful", &["ranked_products"]),
    ("reviews.list_ranked_relevant", &["ranked_products"]),
    (
        "reviews.create",
        &["products", "ranked_products", "rotation"],
    ),
    ("reviews.mark_helpful", &["rotation"]),
    ("reviews.report", &["rotation"]),
    ("questions.list_ranked", &["ranked_products"]),
    (
        "questions.create",
        &["products", "ranked_products", "rotation"],
    ),
    ("questions.mark_helpful", &["rotation"]),
    ("questions.report", &["rotation"]),
    ("answers.create", &["rotation"]),
    ("answers.mark_helpful", &["rotation"]),
    ("answers.report", &["rotation"]),
    ("tail.poll", &["incarnation", "rotation"]),
];

#[tokio::test]
async fn the_planner_left_alone_reads_no_table_from_end_to_end() {
    let mut conn = catalogue().await;
    let mut wrong = Vec::new();
    for statement in origin::statements() {
        let plan = crate::plans::plan(&mut conn, statement.sql).await;
        let mut tables = BTreeSet::new();
        scanned(&plan, &mut tables);
        let allowed = READ_WHOLE.iter().find(|(name, _)| *name == statement.name);
        let allowed = allowed.map_or(&[][..], |(_, tables)| tables);
        if !tables
            .iter()
            .map(String::as_str)
            .eq(allowed.iter().copied())
        {
            wrong.push(format!(
                "{} scans {tables:?}, not {allowed:?}",
                statement.name
            ));
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}
