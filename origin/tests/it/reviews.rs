//! Section 4 of the contract.

use serde_json::{Value, json};

use crate::support::{TestApp, fixture, review};

async fn app() -> TestApp {
    TestApp::start(&[fixture::REVIEWS_WITH_TIES]).await
}

#[tokio::test]
async fn a_page_of_reviews_has_the_contracts_fields_and_types() {
    let app = app().await;
    let answer = app.get("/reviews?product_id=2&count=3").await;
    answer.assert_cached_under(&["product-2-reviews"]);
    let page = answer.json();
    assert_eq!(page["product"], "2");
    assert_eq!(page["page"], 0);
    assert_eq!(page["count"], 3);
    assert_eq!(
        page["results"][2],
        json!({
            "review_id": 5, "rating": 3, "summary": "I'm enjoying", "recommend": true, "response": null,
            "body": "Comfortable and practical.", "date": "2019-04-14T00:00:00.000Z",
            "reviewer_name": "shortandsweeet", "helpfulness": 5,
            "photos": [
                { "id": 1, "url": "https://example.com/first.jpg" },
                { "id": 2, "url": "https://example.com/second.jpg" }
            ]
        })
    );
    assert_eq!(page["results"][1]["response"], "Thank you");
    assert_eq!(page["results"][1]["photos"], json!([]));
}

#[tokio::test]
async fn neither_email_nor_reported_nor_product_id_is_ever_sent() {
    let app = app().await;
    let text = app
        .get("/reviews?product_id=2&count=100")
        .await
        .text()
        .to_owned();
    for secret in ["gmail.com", "a@b.c", "email", "reported", "product_id"] {
        assert!(!text.contains(secret), "{secret} in {text}");
    }
}

#[tokio::test]
async fn every_sort_is_a_total_order() {
    let app = app().await;
    for (sorts, expected) in [
        (["newest", "date", "recent"], [7, 8, 6, 3, 5]),
        (["helpful", "helpfulness", "HELPFUL"], [6, 5, 3, 8, 7]),
        (["relevant", "relevance", "anything"], [6, 3, 5, 8, 7]),
    ] {
        for sort in sorts {
            let answer = app.get(&format!("/reviews?product_id=2&sort={sort}")).await;
            assert_eq!(answer.ids("review_id"), expected, "{sort}");
        }
    }
    for missing in ["", "&sort=", "&sort", "&sort=%ff"] {
        let answer = app.get(&format!("/reviews?product_id=2{missing}")).await;
        assert_eq!(answer.ids("review_id"), [6, 3, 5, 8, 7], "{missing}");
    }
}

#[tokio::test]
async fn reported_reviews_are_left_out_of_every_order() {
    let app = app().await;
    for sort in ["newest", "helpful", "relevant"] {
        let answer = app
            .get(&format!("/reviews?product_id=2&sort={sort}&count=100"))
            .await;
        assert!(!answer.ids("review_id").contains(&9), "{sort}");
    }
}

#[tokio::test]
async fn a_product_that_is_unknown_or_has_no_reviews_has_an_empty_page() {
    let app = app().await;
    for id in ["4", "777", "99999999999"] {
        let answer = app.get(&format!("/reviews?product_id={id}")).await;
        answer.assert_cached_under(&[&format!("product-{id}-reviews")]);
        assert_eq!(
            answer.text(),
            format!(r#"{{"product":"{id}","page":0,"count":5,"results":[]}}"#)
        );
    }
}

#[tokio::test]
async fn a_missing_or_malformed_product_id_in_a_query_is_422_text() {
    let app = app().await;
    for path in ["/reviews", "/reviews/meta", "/qa/questions"] {
        for query in [
            "",
            "?",
            "?product_id",
            "?product_id=",
            "?product_id=0",
            "?product_id=05",
            "?product_id=-1",
            "?product_id=abc",
            "?product_id=2.0",
            "?product_id=+2",
            "?product_id=2%00",
            "?product_id=%ff",
            "?product_id=&product_id=2",
            "?Product_id=2",
            "?product_id=null",
            "?product_id=2undefined",
            "?count=5",
        ] {
            let answer = app.get(&format!("{path}{query}")).await;
            answer.assert_text_error(422, "Error: invalid product_id provided");
        }
    }
}

#[tokio::test]
async fn meta_counts_every_review_reported_ones_too() {
    let app = app().await;
    let answer = app.get("/reviews/meta?product_id=2").await;
    answer.assert_cached_under(&["product-2-meta"]);
    // The order of keys is part of the contract; of the two named Fit the lower id is served.
    assert_eq!(
        answer.text(),
        concat!(
            r#"{"product_id":"2","ratings":{"1":"2","3":"1","4":"2","5":"1"},"recommended":{"false":"3","true":"3"},"#,
            r#""characteristics":{"Quality":{"id":13,"value":"1.0000000000000000"},"#,
            r#""Fit":{"id":14,"value":"2.6666666666666667"},"Length":{"id":15,"value":"5.0000000000000000"},"#,
            r#""Comfort":{"id":16,"value":null}}}"#
        )
    );
}

#[tokio::test]
async fn meta_of_an_unknown_product_is_empty_with_both_recommendations() {
    let app = app().await;
    for id in ["4", "777", "99999999999"] {
        let answer = app.get(&format!("/reviews/meta?product_id={id}")).await;
        answer.assert_cached_under(&[&format!("product-{id}-meta")]);
        assert_eq!(
            answer.text(),
            format!(
                r#"{{"product_id":"{id}","ratings":{{}},"recommended":{{"false":"0","true":"0"}},"characteristics":{{}}}}"#
            )
        );
    }
}

#[tokio::test]
async fn a_new_review_is_first_under_newest_and_counted_in_meta() {
    let app = app().await;
    let created = app.post("/reviews", &review()).await;
    created.assert_created("/reviews/");
    created.assert_invalidates(&["product-2-reviews", "product-2-meta"]);
    let id: i64 = created.field("location")["/reviews/".len()..]
        .parse()
        .unwrap();

    let page = app
        .get("/reviews?product_id=2&sort=newest&count=1")
        .await
        .json();
    let first = &page["results"][0];
    let date = first["date"].as_str().unwrap();
    assert!(
        date.starts_with("20") && date.ends_with('Z') && date.len() == 24,
        "{date}"
    );
    let photo = first["photos"][0]["id"].as_i64().unwrap();
    assert_eq!(
        *first,
        json!({
            "review_id": id, "rating": 4, "summary": "Good", "recommend": true, "response": null, "body": "I like it.",
            "date": date, "reviewer_name": "maria", "helpfulness": 0,
            "photos": [{ "id": photo, "url": "https://example.com/p.jpg" }]
        })
    );
    let meta = app.get("/reviews/meta?product_id=2").await.json();
    assert_eq!(meta["ratings"]["4"], "3");
    assert_eq!(meta["recommended"], json!({ "false": "3", "true": "4" }));
    assert_eq!(
        meta["characteristics"]["Fit"]["value"],
        "3.2500000000000000"
    );
    assert_eq!(
        meta["characteristics"]["Length"]["value"],
        "3.0000000000000000"
    );
    assert_eq!(meta["characteristics"]["Comfort"]["value"], Value::Null);
}

#[tokio::test]
async fn the_first_review_of_a_product_makes_its_meta() {
    let app = app().await;
    let mut first = review();
    first["product_id"] = json!("4");
    app.post("/reviews", &first)
        .await
        .assert_created("/reviews/");
    let meta = app.get("/reviews/meta?product_id=4").await;
    assert_eq!(
        meta.text(),
        r#"{"product_id":"4","ratings":{"4":"1"},"recommended":{"false":"0","true":"1"},"characteristics":{}}"#
    );
}

#[tokio::test]
async fn what_is_kept_in_meta_is_what_the_rows_add_up_to() {
    let app = app().await;
    for rating in 1..=5 {
        let mut body = review();
        body["rating"] = json!(rating);
        body["recommend"] = json!(rating % 2 == 0);
        body["characteristics"] = json!({ "13": rating, "14": 1, "17": 5 });
        app.post("/reviews", &body)
            .await
            .assert_created("/reviews/");
    }
    let before = app.get("/reviews/meta?product_id=2").await;
    app.sql("delete from shop.review_meta; set search_path = shop;")
        .await;
    let statements = [
        include_str!("../../../sql/sums/review_sums.sql"),
        include_str!("../../../sql/sums/vote_sums.sql"),
        include_str!("../../../sql/derive/review_meta.sql"),
    ];
    app.sql(&format!("set search_path = shop; {}", statements.concat()))
        .await;
    assert_eq!(
        app.get("/reviews/meta?product_id=2").await.text(),
        before.text()
    );
}

#[tokio::test]
async fn numeric_strings_and_every_form_of_truth_are_accepted() {
    let app = app().await;
    for (rating, recommend) in [
        (json!(5), json!(true)),
        (json!("5"), json!("true")),
        (json!(1), json!("false")),
        (json!("1"), json!(0)),
        (json!(2), json!(1)),
        (json!(2), json!("0")),
        (json!(2), json!("1")),
    ] {
        let mut body = review();
        body["product_id"] = json!("2");
        body["rating"] = rating.clone();
        body["recommend"] = recommend.clone();
        body["characteristics"] = json!({ "14": "3" });
        app.post("/reviews", &body)
            .await
            .assert_created("/reviews/");
        let newest = app
            .get("/reviews?product_id=2&sort=newest&count=1")
            .await
            .json();
        let truth = [json!(true), json!("true"), json!(1), json!("1")].contains(&recommend);
        assert_eq!(newest["results"][0]["recommend"], truth, "{recommend}");
    }
}

#[tokio::test]
async fn optional_fields_may_be_missing_or_null() {
    let app = app().await;
    for missing in [
        json!({}),
        json!({ "summary": null, "photos": null, "characteristics": null }),
        json!({ "summary": "", "photos": ["", ""], "characteristics": {} }),
    ] {
        let mut body = review();
        for name in ["summary", "photos", "characteristics"] {
            body.as_object_mut().unwrap().remove(name);
            if let Some(value) = missing.get(name) {
                body[name] = value.clone();
            }
        }
        app.post("/reviews", &body)
            .await
            .assert_created("/reviews/");
        let newest = app
            .get("/reviews?product_id=2&sort=newest&count=1")
            .await
            .json();
        assert_eq!(newest["results"][0]["summary"], "");
        assert_eq!(newest["results"][0]["photos"], json!([]));
    }
    assert_eq!(
        app.value::<i64>("select count(*) from shop.characteristic_reviews where review_id > 10")
            .await,
        0
    );
}

#[tokio::test]
async fn text_is_stored_as_sent_up_to_its_limit_in_code_points() {
    let app = app().await;
    let mut body = review();
    body["body"] = json!("\u{1f600}".repeat(1000));
    body["summary"] = json!("s".repeat(255));
    body["name"] = json!(format!(" <b>&\"'\\ \u{e9}{}", "x".repeat(45)));
    body["email"] = json!("not an address");
    app.post("/reviews", &body)
        .await
        .assert_created("/reviews/");
    let newest = app
        .get("/reviews?product_id=2&sort=newest&count=1")
        .await
        .json();
    assert_eq!(newest["results"][0]["body"], body["body"]);
    assert_eq!(newest["results"][0]["summary"], body["summary"]);
    assert_eq!(newest["results"][0]["reviewer_name"], body["name"]);
}

#[tokio::test]
async fn photos_keep_their_order_and_any_scheme() {
    let app = app().await;
    let urls: Vec<_> = (0..20).map(|n| format!("blob:{n}")).collect();
    let mut body = review();
    let sent: Vec<_> = urls.iter().flat_map(|url| [url.as_str(), ""]).collect();
    body["photos"] = json!(sent);
    app.post("/reviews", &body)
        .await
        .assert_created("/reviews/");
    let newest = app
        .get("/reviews?product_id=2&sort=newest&count=1")
        .await
        .json();
    let photos = newest["results"][0]["photos"].as_array().unwrap().clone();
    let stored: Vec<_> = photos
        .iter()
        .map(|photo| photo["url"].as_str().unwrap())
        .collect();
    assert_eq!(stored, urls);
}

#[tokio::test]
async fn characteristics_of_other_products_are_ignored() {
    let app = app().await;
    let mut body = review();
    body["characteristics"] =
        json!({ "90": 5, "Fit": 5, "123456": 5, "99999999999": 1, "014": 1, "14": 5 });
    app.post("/reviews", &body)
        .await
        .assert_created("/reviews/");
    assert_eq!(
        app.value::<i64>("select count(*) from shop.characteristic_reviews where review_id > 10")
            .await,
        1
    );
    let other = app.get("/reviews/meta?product_id=9").await.json();
    assert_eq!(
        other["characteristics"]["Fit"]["value"],
        "1.0000000000000000"
    );
}

#[tokio::test]
async fn no_post_can_set_what_the_server_sets() {
    let app = app().await;
    let mut body = review();
    body["id"] = json!(1);
    body["review_id"] = json!(1);
    body["date"] = json!("1999-01-01");
    body["helpfulness"] = json!(1000);
    body["reported"] = json!(true);
    body["response"] = json!("mine");
    app.post("/reviews", &body)
        .await
        .assert_created("/reviews/");
    let newest = app
        .get("/reviews?product_id=2&sort=newest&count=1")
        .await
        .json();
    let review = &newest["results"][0];
    assert_ne!(review["review_id"], 1);
    assert_eq!(review["helpfulness"], 0);
    assert_eq!(review["response"], Value::Null);
    assert!(!review["date"].as_str().unwrap().starts_with("1999"));
}

#[tokio::test]
async fn an_unknown_product_is_refused_while_products_are_loaded_and_not_before() {
    let app = TestApp::start(&[]).await;
    app.post("/reviews", &review())
        .await
        .assert_created("/reviews/");
    app.sql(fixture::PRODUCT_IDS_WITH_GAPS).await;
    let refused = app.post("/reviews", &review()).await;
    refused.assert_text_error(422, "Error: Review body contains invalid entries");
    let mut beyond = review();
    beyond["product_id"] = json!("99999999999");
    let refused = app.post("/reviews", &beyond).await;
    refused.assert_text_error(422, "Error: Review body contains invalid entries");
    assert_eq!(app.count("shop.reviews").await, 1);
    assert_eq!(
        app.outbox().await.len(),
        2,
        "one review, one change of the catalogue"
    );
}

#[tokio::test]
async fn helpful_adds_one_each_time_whoever_calls() {
    let app = app().await;
    for _ in 0..3 {
        let answer = app.put("/reviews/7/helpful").await;
        assert_eq!(answer.status, 204);
        assert!(answer.body.is_empty());
        answer.assert_invalidates(&["product-2-reviews"]);
    }
    assert_eq!(
        app.value::<i32>("select helpfulness from shop.reviews where id = 7")
            .await,
        3
    );
}

#[tokio::test]
async fn fifty_votes_at_once_are_fifty_votes() {
    let app = app().await;
    let votes =
        futures_util::future::join_all((0..50).map(|_| app.put("/reviews/7/helpful"))).await;
    assert!(votes.iter().all(|vote| vote.status == 204));
    assert_eq!(
        app.value::<i32>("select helpfulness from shop.reviews where id = 7")
            .await,
        50
    );
}

#[tokio::test]
async fn helpfulness_saturates_at_32_bits() {
    let app = app().await;
    app.sql("update shop.reviews set helpfulness = 2147483646 where id = 7")
        .await;
    for _ in 0..3 {
        assert_eq!(app.put("/reviews/7/helpful").await.status, 204);
    }
    assert_eq!(
        app.value::<i32>("select helpfulness from shop.reviews where id = 7")
            .await,
        i32::MAX
    );
}

#[tokio::test]
async fn a_report_takes_a_review_off_the_list_and_not_out_of_meta() {
    let app = app().await;
    let meta = app.get("/reviews/meta?product_id=2").await;
    for _ in 0..2 {
        let answer = app.put("/reviews/6/report").await;
        assert_eq!(answer.status, 204);
        answer.assert_invalidates(&["product-2-reviews"]);
    }
    assert_eq!(
        app.get("/reviews?product_id=2").await.ids("review_id"),
        [3, 5, 8, 7]
    );
    assert_eq!(
        app.get("/reviews/meta?product_id=2").await.text(),
        meta.text()
    );
}

#[tokio::test]
async fn a_vote_on_a_reported_review_still_names_its_group() {
    let app = app().await;
    app.put("/reviews/9/helpful")
        .await
        .assert_invalidates(&["product-2-reviews"]);
}

#[tokio::test]
async fn a_put_on_an_unknown_id_is_204_and_changes_nothing() {
    let app = app().await;
    for id in ["777", "2147483648", "99999999999999999999"] {
        for action in ["helpful", "report"] {
            let answer = app.put(&format!("/reviews/{id}/{action}")).await;
            assert_eq!(answer.status, 204);
            answer.assert_invalidates(&[]);
        }
    }
    assert_eq!(app.outbox().await, Vec::<Vec<String>>::new());
}

#[tokio::test]
async fn a_malformed_review_id_is_404_text() {
    let app = app().await;
    for id in ["hello", "0", "05", "-1", "%00", "1.5", "%ff", "null"] {
        for action in ["helpful", "report"] {
            let answer = app.put(&format!("/reviews/{id}/{action}")).await;
            answer.assert_text_error(404, "Error: invalid review id provided");
        }
    }
}
