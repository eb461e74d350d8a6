//! Sections 6.1 and 6.2 of the contract: carts.

use serde_json::json;

use crate::support::{TestApp, fixture};

async fn app() -> TestApp {
    TestApp::start(&[fixture::ONE_PRODUCT_WITH_EVERYTHING]).await
}

const JSON: (&str, &str) = ("content-type", "application/json");

#[tokio::test]
async fn a_cart_without_identity_or_contents_is_empty_and_never_stored() {
    let app = app().await;
    for fields in [
        vec![],
        vec![("authorization", "t")],
        vec![("cookie", "atelier_cart=x")],
    ] {
        let cart = app.send("GET", "/cart", &fields, "").await;
        assert_eq!(cart.status, 200);
        assert_eq!(cart.text(), "[]");
        cart.assert_never_stored();
        assert_eq!(cart.field("set-cookie"), "");
    }
}

#[tokio::test]
async fn a_cart_ascends_by_sku_and_counts_are_text() {
    let app = app().await;
    let token = [JSON, ("authorization", "t")];
    for body in [
        r#"{"sku_id":38}"#,
        r#"{"sku_id":"37","count":"2"}"#,
        r#"{"sku_id":38,"count":4}"#,
    ] {
        let added = app.send("POST", "/cart", &token, body).await;
        added.assert_created("");
        added.assert_invalidates(&[]);
        assert_eq!(added.field("set-cookie"), "");
    }
    let cart = app.send("GET", "/cart/", &token, "").await;
    assert_eq!(
        cart.text(),
        r#"[{"sku_id":37,"count":"2"},{"sku_id":38,"count":"5"}]"#
    );
    cart.assert_never_stored();
}

#[tokio::test]
async fn equal_tokens_name_one_cart_however_they_are_sent() {
    let app = app().await;
    app.send(
        "POST",
        "/cart",
        &[JSON, ("authorization", "Bearer 5")],
        r#"{"sku_id":37}"#,
    )
    .await
    .assert_created("");
    app.send(
        "POST",
        "/cart",
        &[JSON, ("authorization", "token 5")],
        r#"{"sku_id":37}"#,
    )
    .await
    .assert_created("");
    app.send(
        "POST",
        "/cart",
        &[JSON],
        r#"{"sku_id":37,"user_token":"5"}"#,
    )
    .await
    .assert_created("");
    app.send("POST", "/cart", &[JSON], r#"{"sku_id":37,"user_token":5}"#)
        .await
        .assert_created("");
    app.send("POST", "/cart?user_token=5", &[JSON], r#"{"sku_id":37}"#)
        .await
        .assert_created("");
    app.send(
        "POST",
        "/cart",
        &[JSON, ("cookie", "a=b; atelier_cart=5")],
        r#"{"sku_id":37}"#,
    )
    .await
    .assert_created("");
    for (path, field) in [
        ("/cart", ("authorization", "5")),
        ("/cart?user_token=5", ("x-none", "")),
        ("/cart?user_token=%35", ("x-none", "")),
        ("/cart", ("cookie", "atelier_cart=5")),
    ] {
        let cart = app.send("GET", path, &[field], "").await;
        assert_eq!(
            cart.text(),
            r#"[{"sku_id":37,"count":"6"}]"#,
            "{path} {field:?}"
        );
    }
    assert_eq!(
        app.send("GET", "/cart", &[("authorization", "6")], "")
            .await
            .text(),
        "[]"
    );
}

#[tokio::test]
async fn the_first_identity_present_counts() {
    let app = app().await;
    let fields = [
        JSON,
        ("authorization", "header"),
        ("cookie", "atelier_cart=cookie"),
    ];
    app.send(
        "POST",
        "/cart?user_token=query",
        &fields,
        r#"{"sku_id":37,"user_token":"body"}"#,
    )
    .await
    .assert_created("");
    app.send(
        "POST",
        "/cart?user_token=query",
        &[JSON, fields[2]],
        r#"{"sku_id":38,"user_token":"body"}"#,
    )
    .await
    .assert_created("");
    app.send(
        "POST",
        "/cart?user_token=query",
        &[JSON, fields[2]],
        r#"{"sku_id":39,"user_token":""}"#,
    )
    .await
    .assert_created("");
    app.send(
        "POST",
        "/cart?user_token=",
        &[JSON, fields[2]],
        r#"{"sku_id":40,"user_token":null}"#,
    )
    .await
    .assert_created("");
    for (token, sku) in [("header", 37), ("body", 38), ("query", 39), ("cookie", 40)] {
        let cart = app
            .send("GET", "/cart", &[("authorization", token)], "")
            .await;
        assert_eq!(
            cart.text(),
            format!(r#"[{{"sku_id":{sku},"count":"1"}}]"#),
            "{token}"
        );
    }
}

#[tokio::test]
async fn a_post_without_identity_sets_a_cookie_that_names_the_cart() {
    let app = app().await;
    let added = app.post("/cart", &json!({ "sku_id": 37 })).await;
    added.assert_created("");
    let cookie = added.field("set-cookie").to_owned();
    let (pair, attributes) = cookie.split_once("; ").unwrap();
    assert!(
        pair.starts_with("atelier_cart=") && pair.len() >= 13 + 32,
        "{cookie}"
    );
    assert_eq!(
        attributes,
        "Path=/; Max-Age=2592000; HttpOnly; SameSite=Lax"
    );
    let cart = app.send("GET", "/cart", &[("cookie", pair)], "").await;
    assert_eq!(cart.text(), r#"[{"sku_id":37,"count":"1"}]"#);
    let other = app.post("/cart", &json!({ "sku_id": 37 })).await;
    assert_ne!(other.field("set-cookie"), cookie);
}

#[tokio::test]
async fn only_a_digest_of_the_token_is_stored() {
    let app = app().await;
    app.send(
        "POST",
        "/cart",
        &[JSON, ("authorization", "secret-token")],
        r#"{"sku_id":37}"#,
    )
    .await
    .assert_created("");
    let stored: String = app
        .value("select encode(identity, 'hex') from service.cart_items")
        .await;
    let digest: String = app
        .value("select encode(sha256('secret-token'), 'hex')")
        .await;
    assert_eq!(stored, digest);
}

#[tokio::test]
async fn a_cart_saturates_at_a_million_units() {
    let app = app().await;
    let token = [JSON, ("authorization", "t")];
    app.send("POST", "/cart", &token, r#"{"sku_id":37,"count":10000}"#)
        .await
        .assert_created("");
    app.sql("update service.cart_items set count = 999999")
        .await;
    app.send("POST", "/cart", &token, r#"{"sku_id":37,"count":10000}"#)
        .await
        .assert_created("");
    let cart = app.send("GET", "/cart", &token, "").await;
    assert_eq!(cart.text(), r#"[{"sku_id":37,"count":"1000000"}]"#);
}

#[tokio::test]
async fn stock_is_not_checked() {
    let app = app().await;
    let token = [JSON, ("authorization", "t")];
    app.send("POST", "/cart", &token, r#"{"sku_id":39,"count":7}"#)
        .await
        .assert_created("");
}

#[tokio::test]
async fn an_invalid_cart_is_422_text() {
    let app = app().await;
    for body in [
        "{}",
        r#"{"sku_id":777}"#,
        r#"{"sku_id":"99999999999"}"#,
        r#"{"sku_id":0}"#,
        r#"{"sku_id":"abc"}"#,
        r#"{"sku_id":37,"count":0}"#,
        r#"{"sku_id":37,"count":10001}"#,
        r#"{"sku_id":37,"count":-1}"#,
        r#"{"sku_id":37,"count":1.5}"#,
        r#"{"sku_id":37,"count":"x"}"#,
        r#"{"sku_id":37,"user_token":true}"#,
        r#"{"sku_id":37,"user_token":{}}"#,
        r#"{"sku_id":37,"user_token":"\u0000"}"#,
        "[]",
        "",
    ] {
        let refused = app.send("POST", "/cart", &[JSON], body).await;
        refused.assert_text_error(422, "Error: Cart body contains invalid entries");
        assert_eq!(refused.field("set-cookie"), "");
    }
    assert_eq!(app.count("service.cart_items").await, 0);
}

#[tokio::test]
async fn a_cart_survives_the_removal_of_its_sku() {
    let app = app().await;
    let token = [JSON, ("authorization", "t")];
    app.send("POST", "/cart", &token, r#"{"sku_id":37}"#)
        .await
        .assert_created("");
    app.sql("delete from shop.skus").await;
    assert_eq!(
        app.send("GET", "/cart", &token, "").await.text(),
        r#"[{"sku_id":37,"count":"1"}]"#
    );
}
