//! A load puts new tables in the place of the old ones while the origin serves.

use etl::schema::{self, Jobs, build, post_data::PostData, swap, writes};
use serde_json::json;

use crate::support::{TestApp, answer, execute, fixture, interaction, question, review};

/// Builds new tables beside the live ones, with other rows in them, and swaps the two.
async fn load(owner_url: String, rows: String) {
    let mut conn = schema::connect(&owner_url).await.unwrap();
    build::create_tables(&mut conn).await.unwrap();
    build::create_sums(&mut conn).await.unwrap();
    execute(&mut conn, &rows).await;
    let post_data = PostData::of_load(Jobs::default()).unwrap();
    post_data.finish(&owner_url).await.unwrap();
    build::drop_sums(&mut conn).await.unwrap();
    build::refer(&owner_url, Jobs::default()).await.unwrap();
    build::set_sequence(&mut conn, "reviews", 500)
        .await
        .unwrap();
    build::attach(&mut conn).await.unwrap();
    swap::swap(&mut conn, &json!({}), None, false)
        .await
        .unwrap();
    assert!(build::drop_old(&mut conn).await.unwrap());
}

/// The rows of a load: products and reviews, whose text names the load.
fn rows(number: u32) -> String {
    format!(
        "insert into shop_next.products (id, name, slogan, description, category, default_price)
         select id, 'load {number}', '', '', '', 1 from generate_series(1, 20) as id;
         insert into shop_next.reviews (id, product_id, rating, date, summary, body, recommend, reported, reviewer_name,
                                        reviewer_email, response, helpfulness)
         select id, 2, 5, now(), 'load {number}', '', true, false, '', '', null, 0 from generate_series(1, 500) as id;
         insert into shop_next.review_sums values (2, 0, 0, 0, 0, 500, 0, 500)"
    )
}

#[tokio::test]
async fn reads_and_writes_go_on_while_the_schema_is_swapped_under_them() {
    let app = TestApp::start(&[fixture::REVIEWS_WITH_TIES]).await;
    // Every connection has its plans for the old tables.
    for _ in 0..20 {
        assert_eq!(app.get("/products/2").await.status, 200);
        assert_eq!(app.put("/reviews/5/helpful").await.status, 204);
        app.post("/reviews", &review())
            .await
            .assert_created("/reviews/");
    }
    for number in 1..=2 {
        let url = stack::TestCluster::shared().owner_url(&app.database);
        let loading = tokio::spawn(load(url, rows(number)));
        let mut served = 0;
        while !loading.is_finished() {
            assert_eq!(app.get("/products/2").await.status, 200);
            assert_eq!(app.get("/reviews?product_id=2").await.status, 200);
            assert_eq!(app.get("/reviews/meta?product_id=2").await.status, 200);
            assert_eq!(app.put("/reviews/5/helpful").await.status, 204);
            app.post("/reviews", &review())
                .await
                .assert_created("/reviews/");
            served += 1;
        }
        loading.await.unwrap();
        assert!(served > 0);
        // Every connection sees the new tables at once.
        for _ in 0..20 {
            assert_eq!(
                app.get("/products/2").await.json()["name"],
                format!("load {number}")
            );
        }
        let meta = app.get("/reviews/meta?product_id=2").await.json();
        let count = app
            .count("shop.reviews where product_id = 2 and rating = 5")
            .await;
        assert_eq!(meta["ratings"]["5"], count.to_string());
        let created = app.post("/reviews", &review()).await;
        created.assert_created("/reviews/");
        let id: i32 = created.field("location")["/reviews/".len()..]
            .parse()
            .unwrap();
        assert!(id > 500, "{id}");
    }
    assert!(app.outbox().await.contains(&vec!["*".to_owned()]));
    assert_eq!(app.get_private("/readyz").await.status, 200);
}

#[tokio::test]
async fn writes_to_the_shop_are_refused_while_a_load_runs_and_nothing_else_is() {
    let app = TestApp::start(&[fixture::REVIEWS_WITH_TIES]).await;
    let mut about_shoes = question();
    about_shoes["product_id"] = json!(2);
    let asked = app
        .post("/qa/questions", &about_shoes)
        .await
        .assert_created("/qa/questions/")
        .field("location")
        .to_owned();
    let mut load = app.owner().await;
    writes::hold(&mut load).await.unwrap();
    let told = app.outbox().await.len();
    for refused in [
        app.post("/reviews", &review()).await,
        app.put("/reviews/5/helpful").await,
        app.put("/reviews/5/report").await,
        app.post("/qa/questions", &about_shoes).await,
        app.post(&format!("{asked}/answers"), &answer()).await,
        app.put(&format!("{asked}/helpful")).await,
    ] {
        refused.assert_problem(503, "loading").assert_never_stored();
        assert_eq!(refused.field("retry-after"), "1");
    }
    assert_eq!(app.outbox().await.len(), told);
    assert_eq!(app.get("/reviews?product_id=2").await.status, 200);
    assert_eq!(app.post("/interactions", &interaction()).await.status, 201);
    assert_eq!(app.get_private("/readyz").await.status, 200);
    // However the load ends.
    drop(load);
    TestApp::until("writes are let in again", async || {
        app.put("/reviews/5/helpful").await.status == 204
    })
    .await;
    app.post("/reviews", &review())
        .await
        .assert_created("/reviews/");
}
