//! Section 3 of the contract.

use serde_json::json;

use crate::support::{TestApp, fixture};

async fn app() -> TestApp {
    TestApp::start(&[fixture::ONE_PRODUCT_WITH_EVERYTHING]).await
}

#[tokio::test]
async fn the_list_has_every_product_ascending_by_id_without_features() {
    let app = app().await;
    let answer = app.get("/products").await;
    answer.assert_cached_under(&["products"]);
    assert_eq!(
        answer.field("content-type"),
        "application/json; charset=utf-8"
    );
    let list = answer.json();
    assert_eq!(
        list[0],
        json!({
            "id": 1, "campus": "hr-rfp", "name": "Camo Onesie", "slogan": "Blend in to your crowd",
            "description": "The So Fatigues will wake you up and fit you in.", "category": "Jackets",
            "default_price": "140.00", "created_at": "2021-08-13T14:38:44.509Z",
            "updated_at": "2021-08-13T14:38:44.509Z"
        })
    );
    assert_eq!(list[1]["default_price"], "69.50");
    assert_eq!(list[1]["updated_at"], "2021-08-14T00:00:00.000Z");
    assert_eq!(list[2]["default_price"], "0.00");
    assert_eq!(list.as_array().unwrap().len(), 3);
}

#[tokio::test]
async fn a_product_has_its_features_in_load_order_with_duplicates_and_nulls() {
    let app = app().await;
    let answer = app.get("/products/1").await;
    answer.assert_cached_under(&["product-1"]);
    let product = answer.json();
    assert_eq!(
        product["features"],
        json!([
            { "feature": "Fabric", "value": "Canvas" },
            { "feature": "UV Protection", "value": null },
            { "feature": "Fabric", "value": "Canvas" },
        ])
    );
    assert_eq!(product["id"], 1);
    assert_eq!(product["campus"], "hr-rfp");
    assert_eq!(app.get("/products/3").await.json()["features"], json!([]));
}

#[tokio::test]
async fn the_campus_is_a_setting() {
    let app = TestApp::start_with(
        &[fixture::ONE_PRODUCT_WITH_EVERYTHING],
        &["--campus=hr-lax"],
    )
    .await;
    assert_eq!(app.get("/products/1").await.json()["campus"], "hr-lax");
    assert_eq!(app.get("/products").await.json()[0]["campus"], "hr-lax");
}

#[tokio::test]
async fn styles_ascend_by_id_and_have_photos_and_skus_by_id() {
    let app = app().await;
    let answer = app.get("/products/1/styles").await;
    answer.assert_cached_under(&["product-1"]);
    assert_eq!(
        answer.text(),
        concat!(
            r#"{"product_id":"1","results":["#,
            r#"{"style_id":20,"name":"Forest Green & Black","original_price":"140.00","sale_price":null,"default?":true,"#,
            r#""photos":[{"thumbnail_url":"https://example.com/a-small.jpg","url":"https://example.com/a.jpg"},"#,
            r#"{"thumbnail_url":null,"url":"https://example.com/b.jpg"}],"#,
            r#""skus":{"37":{"quantity":8,"size":"XS"},"38":{"quantity":16,"size":"S"},"39":{"quantity":0,"size":"S"}}},"#,
            r#"{"style_id":21,"name":"Desert Brown & Tan","original_price":"140.00","sale_price":"100.00","default?":false,"#,
            r#""photos":[{"thumbnail_url":null,"url":null}],"skus":{"null":{"quantity":null,"size":null}}}]}"#
        )
    );
}

#[tokio::test]
async fn a_product_without_styles_has_no_results() {
    let app = app().await;
    let answer = app.get("/products/3/styles").await;
    answer.assert_cached_under(&["product-3"]);
    assert_eq!(answer.text(), r#"{"product_id":"3","results":[]}"#);
}

#[tokio::test]
async fn related_keeps_stored_order_and_itself_and_leaves_out_zero_unknown_and_repeated_ids() {
    let app = app().await;
    let answer = app.get("/products/1/related").await;
    answer.assert_cached_under(&["product-1", "product-ids"]);
    assert_eq!(answer.text(), "[3,2,1]");
    assert_eq!(app.get("/products/3/related").await.text(), "[]");
}

#[tokio::test]
async fn related_follows_products_that_come_and_go() {
    let app = app().await;
    app.sql("delete from shop.products where id = 2").await;
    assert_eq!(app.get("/products/1/related").await.text(), "[3,1]");
    app.sql("insert into shop.products (id, name, slogan, description, category, default_price) values (99, '', '', '', '', 1)")
        .await;
    assert_eq!(app.get("/products/1/related").await.text(), "[3,1,99]");
}

#[tokio::test]
async fn an_unknown_product_is_a_problem_that_is_cached_under_its_group() {
    let app = app().await;
    for path in ["", "/styles", "/related", "/"] {
        let answer = app.get(&format!("/products/99999999{path}")).await;
        answer.assert_problem(404, "unknown-product");
        answer.assert_class_p(&["product-99999999"]);
        assert_eq!(
            answer.json(),
            json!({ "type": "/problems/unknown-product", "title": "Unknown product", "status": 404,
                    "detail": "No product 99999999." })
        );
    }
}

#[tokio::test]
async fn a_product_id_beyond_32_bits_is_unknown() {
    let app = app().await;
    for id in ["2147483648", "99999999999999999999999"] {
        for path in ["", "/styles", "/related"] {
            let answer = app.get(&format!("/products/{id}{path}")).await;
            answer.assert_problem(404, "unknown-product");
            answer.assert_class_p(&[&format!("product-{id}")]);
        }
    }
}

#[tokio::test]
async fn a_malformed_product_id_is_404_text() {
    let app = app().await;
    for id in [
        "hello",
        "5.55",
        "null",
        "0",
        "-1",
        "05",
        "+5",
        "2undefined",
        "%00",
        "%ff",
        "%20",
        "1%20",
        "1e3",
        "%D9%A3",
    ] {
        for path in ["", "/styles", "/related", "/"] {
            let answer = app.get(&format!("/products/{id}{path}")).await;
            answer.assert_text_error(404, "Error: invalid product id provided");
        }
    }
}

#[tokio::test]
async fn an_empty_catalogue_is_an_empty_list() {
    let app = TestApp::start(&[]).await;
    let answer = app.get("/products").await;
    answer.assert_cached_under(&["products"]);
    assert_eq!(answer.text(), "[]");
}
