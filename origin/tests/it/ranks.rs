//! Pages of popular products are found by ranks, and are those that sorting gives, whoever writes meanwhile.

use origin::{page::Page, ranked::List};
use serde_json::json;
use sqlx::{AssertSqlSafe, Connection as _, PgConnection};

use stack::TestCluster;

use crate::support::{Answer, TestApp, cluster_of_its_own, execute};

/// Product 1 is popular, product 2 will be soon, and product 3 never. Counters and dates have many ties.
const PRODUCTS: &str = "
  insert into shop.products (id, name, slogan, description, category, default_price)
  select id, 'n', 's', 'd', 'c', 1 from generate_series(1, 3) as id;
  insert into shop.reviews (id, product_id, rating, date, summary, body, recommend, reported, reviewer_name, reviewer_email,
                            response, helpfulness)
  select n, case when n <= 280 then 1 when n <= 530 then 2 else 3 end, 1 + n % 5,
         timestamptz '2024-01-01' + n * 7919 % 40 * interval '1 day', 's', 'b', true, n % 11 = 0, 'r', 'e', null, n * 31 % 9
    from generate_series(1, 560) as n;
  insert into shop.review_photos (review_id, url) select id, 'u' from shop.reviews where id % 3 = 0;
  insert into shop.questions (id, product_id, body, date, asker_name, asker_email, reported, helpfulness)
  select id, product_id, body, date, reviewer_name, reviewer_email, reported, helpfulness from shop.reviews;
  insert into shop.answers (id, question_id, body, date, answerer_name, answerer_email, reported, helpfulness)
  select n, 1 + n * 13 % 560, 'b', timestamptz '2024-02-01', 'a', 'e', n % 7 = 0, n % 4 from generate_series(1, 900) as n;
  insert into shop.answer_photos (answer_id, url) select id, 'u' from shop.answers where id % 5 = 0;
  select setval('shop.reviews_id_seq', 1000), setval('shop.questions_id_seq', 1000);
  analyze shop.reviews, shop.questions, shop.answers, shop.review_photos, shop.answer_photos;";

const SORTS: [&str; 3] = ["relevant", "newest", "helpful"];

/// Rows of ranks that are not as the rows they are of, or are missing, or too many; in one snapshot.
const WRONG: &str = "
  select count(*) from (
    (select r.date, r.id, r.product_id, r.helpfulness, r.reported
       from shop.reviews r join shop.ranked_products p on p.list = 'reviews' and p.product_id = r.product_id
     except all
     select date, review_id, product_id, helpfulness, reported from shop.review_ranks)
    union all
    (select date, review_id, product_id, helpfulness, reported from shop.review_ranks
     except all
     select date, id, product_id, helpfulness, reported from shop.reviews)
    union all
    (select q.date, q.id, q.product_id, q.helpfulness, q.reported
       from shop.questions q join shop.ranked_products p on p.list = 'questions' and p.product_id = q.product_id
     except all
     select date, question_id, product_id, helpfulness, reported from shop.question_ranks)
    union all
    (select date, question_id, product_id, helpfulness, reported from shop.question_ranks
     except all
     select date, id, product_id, helpfulness, reported from shop.questions)
  ) as wrong";

const FIXTURES: [&str; 2] = [PRODUCTS, "select service.rank_products(5000, 4)"];

async fn app() -> TestApp {
    let app = TestApp::start(&FIXTURES).await;
    refresh(&app).await;
    app
}

async fn refresh(app: &TestApp) {
    app.state
        .ranked
        .refresh(app.state.db.reads())
        .await
        .unwrap();
}

fn serves(app: &TestApp, list: List, product: i32) -> bool {
    app.state
        .ranked
        .serves(list, product, Page { page: 1, count: 5 })
}

/// Reads all pages of a product by both origins, of which only the first knows the ranks.
async fn assert_same_pages(ranked: &TestApp, sorting: &TestApp, product: i32, count: usize) {
    let lists = SORTS
        .iter()
        .map(|sort| format!("/reviews?product_id={product}&sort={sort}"))
        .chain([format!("/qa/questions?product_id={product}")]);
    for list in lists {
        for page in 1.. {
            let path = format!("{list}&count={count}&page={page}");
            let (by_ranks, sorted): (Answer, Answer) =
                tokio::join!(ranked.get(&path), sorting.get(&path));
            assert_eq!(by_ranks.text(), sorted.text(), "{path}");
            if by_ranks.json()["results"].as_array().unwrap().is_empty() {
                assert!(page * count > 200 || product > 1, "{path}: too few pages");
                break;
            }
        }
    }
}

#[tokio::test]
async fn every_page_by_ranks_is_the_page_that_sorting_gives() {
    let app = app().await;
    let sorting = TestApp::beside(&app, &[]).await;
    assert!(serves(&app, List::Reviews, 1) && serves(&app, List::Questions, 1));
    assert!(!serves(&app, List::Reviews, 2) && !serves(&sorting, List::Reviews, 1));
    for count in [1, 7, 100] {
        assert_same_pages(&app, &sorting, 1, count).await;
    }
    assert_same_pages(&app, &sorting, 2, 50).await;
}

#[tokio::test]
async fn an_origin_that_believes_in_ranks_which_are_gone_sorts() {
    let app = app().await;
    let sorting = TestApp::beside(&app, &[]).await;
    app.sql(
        "delete from shop.ranked_products; delete from shop.review_ranks where review_id % 2 = 0",
    )
    .await;
    assert!(serves(&app, List::Reviews, 1));
    assert_same_pages(&app, &sorting, 1, 50).await;
}

#[tokio::test]
async fn a_large_page_is_sorted_as_that_is_cheaper() {
    let app = app().await;
    let page = |count| Page { page: 1, count };
    assert!(app.state.ranked.serves(List::Reviews, 1, page(100)));
    assert!(!app.state.ranked.serves(List::Reviews, 1, page(101)));
}

#[tokio::test]
async fn other_programs_writes_keep_the_ranks() {
    let app = app().await;
    let sorting = TestApp::beside(&app, &[]).await;
    for change in [
        "update shop.reviews set helpfulness = helpfulness + 3 where id % 4 = 0",
        "update shop.reviews set reported = not reported where id % 10 = 0",
        "update shop.questions set date = date - interval '9 days' where id % 6 = 0",
        "delete from shop.reviews where id % 13 = 0",
        "insert into shop.questions (product_id, body, date, asker_name, asker_email, reported, helpfulness)
         select 1 + n % 3, 'new', now(), 'n', 'e', false, n from generate_series(1, 30) as n",
        // From a product without ranks to one with them, and back.
        "update shop.reviews set product_id = 1 where id in (300, 301)",
        "update shop.questions set product_id = 3 where id in (10, 20)",
        "insert into shop.reviews (id, product_id, rating, date, summary, body, recommend, reported, reviewer_name,
                                   reviewer_email, helpfulness)
         values (900, 1, 3, now(), 's', 'b', true, false, 'r', 'e', 8)",
        "update shop.reviews set id = 901 where id = 900",
        "delete from shop.questions where product_id = 1 and id % 2 = 1",
        "truncate shop.reviews cascade",
    ] {
        app.sql(change).await;
        assert_eq!(app.value::<i64>(WRONG).await, 0, "{change}");
        if !change.starts_with("truncate") && !change.starts_with("delete") {
            assert_same_pages(&app, &sorting, 1, 60).await;
        }
    }
}

/// Numbers that look random, the same each time.
struct Dice(u64);

impl Dice {
    fn below(&mut self, n: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % n
    }
}

/// One writer: votes, reports and additions by the API and by SQL, on few rows, so that they meet.
async fn write(app: &TestApp, conn: &mut PgConnection, seed: u64, writes: usize) {
    let mut dice = Dice(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1);
    for _ in 0..writes {
        let id = 1 + dice.below(12);
        let product = 1 + dice.below(2);
        let review = json!({
            "product_id": product, "rating": 3, "body": "b", "recommend": true, "name": "n", "email": "e"
        });
        let question = json!({ "product_id": product, "body": "b", "name": "n", "email": "e" });
        let answer = match dice.below(10) {
            0..=3 => app.put(&format!("/reviews/{id}/helpful")).await,
            4..=5 => app.put(&format!("/qa/questions/{id}/helpful")).await,
            6 => app.post("/reviews", &review).await,
            7 => app.post("/qa/questions", &question).await,
            8 => {
                app.put(&format!("/reviews/{}/report", 1 + dice.below(280)))
                    .await
            }
            _ => {
                let sql = format!(
                    "update shop.reviews set reported = not reported, helpfulness = helpfulness + 2 where id = {id};
                     update shop.questions set reported = false, helpfulness = helpfulness + 1 where id = {id}"
                );
                execute(conn, &sql).await;
                continue;
            }
        };
        assert!(answer.status.is_success(), "{answer:?}");
    }
}

#[tokio::test]
async fn whoever_writes_at_the_same_time_the_ranks_are_right_at_every_moment() {
    const WRITERS: u64 = 6;
    let app = app().await;
    let sorting = TestApp::beside(&app, &[]).await;
    for seed in 1..=3 {
        let writers = futures_util::future::join_all((0..WRITERS).map(|writer| {
            let app = &app;
            async move {
                let mut conn = app.owner().await;
                write(app, &mut conn, seed * 100 + writer, 40).await;
                conn.close().await.unwrap();
            }
        }));
        let watched = async {
            let mut conn = app.owner().await;
            loop {
                let wrong: i64 = sqlx::query_scalar(AssertSqlSafe(WRONG.to_owned()))
                    .fetch_one(&mut conn)
                    .await
                    .unwrap();
                assert_eq!(wrong, 0);
                // The next product becomes popular by what is written.
                execute(&mut conn, "select service.rank_products(5000, 4)").await;
            }
        };
        tokio::select! {
            _ = writers => {}
            () = watched => {}
        }
        assert_eq!(app.value::<i64>(WRONG).await, 0);
        refresh(&app).await;
        assert_same_pages(&app, &sorting, 1, 30).await;
        assert_same_pages(&app, &sorting, 2, 30).await;
    }
    assert!(
        serves(&app, List::Reviews, 2),
        "product 2 has become popular"
    );
}

#[tokio::test]
async fn maintenance_ranks_what_has_become_popular() {
    let app = TestApp::start(&[PRODUCTS]).await;
    assert!(!serves(&app, List::Reviews, 1));
    origin::maintenance::round(&app.state).await.unwrap();
    assert!(serves(&app, List::Reviews, 1) && serves(&app, List::Questions, 1));
    assert!(!serves(&app, List::Reviews, 2));
    assert_eq!(app.value::<i64>(WRONG).await, 0);
}

#[tokio::test]
async fn who_cannot_be_kept_waiting_is_not_and_the_next_round_ranks() {
    let app = TestApp::start(&[PRODUCTS]).await;
    let mut other = app.owner().await;
    execute(
        &mut other,
        "begin; update shop.reviews set rating = 1 where id = 1",
    )
    .await;
    let ranked = "select service.rank_products(5000, 4)";
    assert_eq!(app.value::<i32>(ranked).await, 0);
    execute(&mut other, "commit").await;
    assert_eq!(app.value::<i32>(ranked).await, 2);
    assert_eq!(app.value::<i64>(WRONG).await, 0);
}

#[tokio::test]
async fn votes_are_heap_only_updates_also_of_a_popular_product() {
    // Room is made of versions that no snapshot of any database of the server can see.
    let (cluster, database) = cluster_of_its_own(TestCluster::start).await;
    let app = TestApp::start_on(cluster, database, &FIXTURES, &[]).await;
    refresh(&app).await;
    let updates = async |table: &str, column: &str| -> i64 {
        let query = format!(
            "select {column} from pg_stat_user_tables where schemaname = 'shop' and relname = '{table}'"
        );
        app.value(&query).await
    };
    for table in ["reviews", "questions", "answers"] {
        app.sql(&format!("vacuum shop.{table}")).await;
    }
    app.sql("select pg_stat_reset()").await;
    for n in 1..=150 {
        for path in ["reviews", "qa/questions", "qa/answers"] {
            let id = 1 + n * 7 % 560;
            app.put(&format!("/{path}/{id}/helpful")).await;
        }
    }
    for table in ["reviews", "questions", "answers"] {
        TestApp::until("all updates are counted", async || {
            updates(table, "n_tup_upd").await == 150
        })
        .await;
        let heap_only = updates(table, "n_tup_hot_upd").await;
        assert!(heap_only >= 145, "{table}: {heap_only} of 150");
    }
}
