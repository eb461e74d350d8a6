//! Section 1.3 of the contract: paging, edge by edge.

use crate::support::{TestApp, fixture};

/// The ids of the first column of a list of products.
async fn products(app: &TestApp, query: &str) -> Vec<i64> {
    let answer = app.get(&format!("/products{query}")).await;
    answer.assert_cached_under(&["products"]);
    let list = answer.json();
    list.as_array()
        .unwrap()
        .iter()
        .map(|product| product["id"].as_i64().unwrap())
        .collect()
}

#[tokio::test]
async fn pages_of_products_follow_each_other_across_gaps_in_the_ids() {
    let app = TestApp::start(&[fixture::PRODUCT_IDS_WITH_GAPS]).await;
    let mut all = Vec::new();
    for page in 1..=5 {
        all.extend(products(&app, &format!("?page={page}&count=7")).await);
    }
    let expected: Vec<i64> = (1..=30).map(|n| n * 3).collect();
    assert_eq!(all, expected);
    assert!(products(&app, "?page=6&count=7").await.is_empty());
}

#[tokio::test]
async fn the_defaults_are_page_1_and_count_5() {
    let app = TestApp::start(&[fixture::PRODUCT_IDS_WITH_GAPS]).await;
    for query in [
        "",
        "?",
        "?page=&count=",
        "?page=0&count=0",
        "?page=-1&count=-1",
        "?page=1.5&count=2.5",
        "?page=abc&count=abc",
        "?page=%00&count=%ff",
        "?page=1e3&count=1e3",
        "?page=+2&count=+2",
        "?page=%202&count=2%20",
        "?unknown=1&PAGE=2",
        "?page=null&count=undefined",
        "?page=&page=2",
        "?count=&count=2",
    ] {
        assert_eq!(products(&app, query).await, [3, 6, 9, 12, 15], "{query}");
    }
}

#[tokio::test]
async fn of_a_repeated_parameter_the_first_value_counts() {
    let app = TestApp::start(&[fixture::PRODUCT_IDS_WITH_GAPS]).await;
    assert_eq!(
        products(&app, "?page=2&page=1&count=2&count=9").await,
        [9, 12]
    );
    assert_eq!(products(&app, "?p%61ge=%32&count=2").await, [9, 12]);
    assert_eq!(products(&app, "?page=0002&count=02").await, [9, 12]);
}

#[tokio::test]
async fn a_huge_page_or_count_is_never_rejected() {
    let app = TestApp::start(&[fixture::PRODUCT_IDS_WITH_GAPS]).await;
    let digits = "9".repeat(500);
    for huge in [
        "2147483647",
        "2147483648",
        "4294967296",
        "9223372036854775808",
        &digits,
    ] {
        assert!(
            products(&app, &format!("?page={huge}&count={huge}"))
                .await
                .is_empty()
        );
        let all = products(&app, &format!("?count={huge}")).await;
        assert_eq!(all.len() as i64, app.count("shop.products").await);

        let reviews = app
            .get(&format!("/reviews?product_id=2&page={huge}&count={huge}"))
            .await;
        assert_eq!(
            reviews.text(),
            r#"{"product":"2","page":21474836460000,"count":10000,"results":[]}"#
        );
        let answers = app
            .get(&format!("/qa/questions/1/answers?page={huge}&count={huge}"))
            .await;
        assert_eq!(
            answers.text(),
            r#"{"question":"1","page":2147483647,"count":10000,"results":[]}"#
        );
        let questions = app
            .get(&format!(
                "/qa/questions?product_id=2&page={huge}&count={huge}"
            ))
            .await;
        assert_eq!(questions.text(), r#"{"product_id":"2","results":[]}"#);
    }
}

#[tokio::test]
async fn count_is_capped_at_1000_on_products_and_at_10000_elsewhere() {
    let app = TestApp::start(&[]).await;
    app.sql(
        "insert into shop.products (id, name, slogan, description, category, default_price)
         select n, '', '', '', '', 1 from generate_series(1, 1100) as n;
         insert into shop.reviews (product_id, rating, date, summary, body, recommend, reported, reviewer_name,
                                   reviewer_email, response, helpfulness)
         select 1, 5, now(), '', '', true, false, '', '', null, 0 from generate_series(1, 10100)",
    )
    .await;
    assert_eq!(products(&app, "?count=1001").await.len(), 1000);
    assert_eq!(products(&app, "?count=1000&page=2").await.len(), 100);
    let reviews = app.get("/reviews?product_id=1&count=10001").await;
    assert_eq!(reviews.json()["count"], 10_000);
    assert_eq!(reviews.ids("review_id").len(), 10_000);
}

#[tokio::test]
async fn count_in_a_response_is_the_effective_count_not_the_number_of_rows() {
    let app = TestApp::start(&[fixture::REVIEWS_WITH_TIES]).await;
    for (query, page, count, ids) in [
        ("", 0, 5, vec![6, 3, 5, 8, 7]),
        ("&count=100", 0, 100, vec![6, 3, 5, 8, 7]),
        ("&count=2", 0, 2, vec![6, 3]),
        ("&count=2&page=3", 4, 2, vec![7]),
        ("&count=2&page=4", 6, 2, vec![]),
        ("&count=0&page=0", 0, 5, vec![6, 3, 5, 8, 7]),
        ("&page=2", 5, 5, vec![]),
    ] {
        let answer = app.get(&format!("/reviews?product_id=2{query}")).await;
        answer.assert_cached_under(&["product-2-reviews"]);
        assert_eq!(answer.json()["page"], page, "{query}");
        assert_eq!(answer.json()["count"], count, "{query}");
        assert_eq!(answer.ids("review_id"), ids, "{query}");
    }
}

#[tokio::test]
async fn pages_of_reviews_follow_each_other_in_every_order() {
    let app = TestApp::start(&[fixture::REVIEWS_WITH_TIES]).await;
    for sort in ["newest", "helpful", "relevant"] {
        let whole = app
            .get(&format!("/reviews?product_id=2&sort={sort}"))
            .await
            .ids("review_id");
        let mut pages = Vec::new();
        for page in 1..=5 {
            let one = app
                .get(&format!(
                    "/reviews?product_id=2&sort={sort}&count=1&page={page}"
                ))
                .await;
            pages.extend(one.ids("review_id"));
        }
        assert_eq!(pages, whole, "{sort}");
    }
}
