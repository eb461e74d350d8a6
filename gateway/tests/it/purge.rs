//! Operators take out what they name, and are told what it was.

use serde_json::json;

use crate::support::{
    FakeOrigin, Gateway, Reply, Request, assert_hit, assert_miss, assert_problem, get,
};

async fn tagged() -> FakeOrigin {
    FakeOrigin::start(|request| {
        let reply = Reply::fresh(request.target.clone());
        match request.target.as_str() {
            "/standard" => reply.header("Cache-Groups", "\"g\", \"h\""),
            "/surrogate" => reply.header("Surrogate-Key", "x g"),
            "/tag" => reply.header("Cache-Tag", "g,y"),
            _ => reply.header("Cache-Groups", "\"other\""),
        }
    })
    .await
}

#[tokio::test]
async fn a_path_is_purged_on_every_host_and_an_absolute_url_on_its_own() {
    let origin = tagged().await;
    let gateway = Gateway::general(&[&origin]).await;
    let client = gateway.client();
    let on = |host: &str| get("/page?a=1").header("Host", host);
    for host in ["one.test", "two.test"] {
        client.send(&on(host)).await;
    }
    let purged = gateway
        .purge(json!({ "urls": ["http://one.test/page?a=1"] }))
        .await;
    assert_eq!(purged["objects"], 1, "{purged}");
    assert!(purged["bytes"].as_u64().unwrap() > 0, "{purged}");
    assert_hit(&client.send(&on("two.test")).await);
    assert_miss(&client.send(&on("one.test")).await);
    let purged = gateway.purge(json!({ "urls": ["/page?a=1"] })).await;
    assert_eq!(purged["objects"], 2, "{purged}");
    for host in ["one.test", "two.test"] {
        assert_miss(&client.send(&on(host)).await);
    }
    assert_eq!(
        gateway
            .purge(json!({ "urls": ["/page", "/page?a=2"] }))
            .await["objects"],
        0
    );
}

#[tokio::test]
async fn any_spelling_of_a_url_purges_its_entry() {
    let origin = FakeOrigin::start(|_| Reply::public("page", &["g"])).await;
    let gateway = Gateway::shop(&[&origin]).await;
    let client = gateway.client();
    for url in [
        "/reviews?product_id=2",
        "/api/reviews/?sort=relevant&product_id=2",
        "http://any.host/api/fec2/hr-rfp/reviews?product_id=2&page=1",
    ] {
        client.get("/reviews?product_id=2").await;
        assert_eq!(
            gateway.purge(json!({ "urls": [url] })).await["objects"],
            1,
            "{url}"
        );
        assert_miss(&client.get("/reviews?product_id=2").await);
    }
}

#[tokio::test]
async fn a_group_is_purged_whichever_field_named_it() {
    let origin = tagged().await;
    let gateway = Gateway::general(&[&origin]).await;
    let client = gateway.client();
    let targets = ["/standard", "/surrogate", "/tag", "/untouched"];
    for target in targets {
        client.get(target).await;
    }
    let first = gateway.purge(json!({ "tags": ["g"] })).await;
    assert_eq!(first["objects"], 3, "{first}");
    for target in &targets[..3] {
        assert_miss(&client.get(target).await);
    }
    assert_hit(&client.get("/untouched").await);
    let second = gateway
        .purge(json!({ "tags": ["h", "y", "unknown"] }))
        .await;
    assert_eq!(second["objects"], 2, "{second}");
    assert!(
        second["sequence"].as_u64() > first["sequence"].as_u64(),
        "purges are numbered upwards"
    );
}

#[tokio::test]
async fn everything_is_purged_and_the_account_is_empty_again() {
    let origin = tagged().await;
    let gateway = Gateway::general(&[&origin]).await;
    let client = gateway.client();
    for number in 0..50 {
        client.get(&format!("/page/{number}")).await;
    }
    let before = gateway.status().await;
    assert_eq!(before["cache"]["objects"], 50, "{before}");
    let purged = gateway.purge(json!({ "all": true })).await;
    assert_eq!(
        (&purged["objects"], &purged["bytes"]),
        (&json!(50), &before["cache"]["used_bytes"])
    );
    let after = gateway.status().await;
    for account in ["objects", "used_bytes", "tags"] {
        assert_eq!(after["cache"][account], 0, "{after}");
    }
    assert_miss(&client.get("/page/0").await);
}

#[tokio::test]
async fn every_variant_of_a_url_goes_with_it() {
    let origin =
        FakeOrigin::start(|_| Reply::fresh("page").header("Vary", "Accept-Language")).await;
    let gateway = Gateway::general(&[&origin]).await;
    let client = gateway.client();
    for language in ["de", "fr", "it"] {
        client
            .send(&get("/page").header("Accept-Language", language))
            .await;
    }
    assert_eq!(
        gateway.purge(json!({ "urls": ["/page"] })).await["objects"],
        3
    );
    for language in ["de", "fr", "it"] {
        assert_miss(
            &client
                .send(&get("/page").header("Accept-Language", language))
                .await,
        );
    }
}

#[tokio::test]
async fn a_purge_that_cannot_be_understood_is_refused_and_purges_nothing() {
    let origin = tagged().await;
    let gateway = Gateway::general(&[&origin]).await;
    let client = gateway.client();
    client.get("/standard").await;
    for body in [
        r#"{"all":true,"soft":true}"#,
        r#"{"tag":["g"]}"#,
        r#"{"tags":"g"}"#,
        r#"{"urls":["/standard","no url"]}"#,
        r#"{"urls":["ftp://shop.test/standard"]}"#,
        r#"{"urls":["/../standard"]}"#,
        r#"{"all":"yes"}"#,
        r#"{"all":false}"#,
        "{}",
        "[]",
        "",
        "not json",
    ] {
        let answer = gateway
            .call(Request::new("POST", "/purge").body(body))
            .await;
        assert_eq!(answer.status, 422, "{body}: {answer:#?}");
        assert_eq!(
            answer.header("content-type"),
            Some("application/problem+json")
        );
        assert_eq!(answer.json()["status"], 422);
    }
    assert_hit(&client.get("/standard").await);
}

#[tokio::test]
async fn a_method_called_purge_is_not_served_in_public() {
    let origin = tagged().await;
    let gateway = Gateway::general(&[&origin]).await;
    gateway.client().get("/standard").await;
    for method in ["PURGE", "BAN"] {
        assert_problem(
            &gateway
                .client()
                .send(&Request::new(method, "/standard"))
                .await,
            405,
        );
    }
    assert_hit(&gateway.client().get("/standard").await);
    assert_eq!(origin.count(), 1);
}
