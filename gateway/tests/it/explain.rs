//! Whoever asks why is told: key, route, what was said, what was decided, which purge it was.

use std::process::Command;

use serde_json::{Value, json};

use crate::support::{FakeOrigin, Gateway, Reply, Request, get};

async fn explained(gateway: &Gateway, url: &str) -> Value {
    let url = url.replace('&', "%26");
    let answer = gateway.call(get(&format!("/explain?url={url}"))).await;
    assert_eq!(answer.status, 200, "{answer:#?}");
    answer.json()
}

#[tokio::test]
async fn an_entry_is_told_with_its_key_its_fields_its_groups_and_its_windows() {
    let origin = FakeOrigin::start(|_| Reply::public("page", &["product-2-reviews"])).await;
    let gateway = Gateway::shop(&[&origin]).await;
    for _ in 0..3 {
        gateway.client().get("/reviews?product_id=2").await;
    }
    let told = explained(&gateway, "/api/fec2/hr-rfp/reviews?product_id=2").await;
    assert_eq!(told["route"], "/reviews", "{told:#}");
    assert!(
        told["target"].as_str().unwrap().contains("product_id=2"),
        "{told:#}"
    );
    let key = &told["keys"][0];
    assert!(
        key["key"]
            .as_str()
            .unwrap()
            .ends_with(told["target"].as_str().unwrap())
    );
    assert_eq!(key["last_purge"], Value::Null, "{told:#}");
    let entry = &key["entries"][0];
    assert_eq!(
        entry["decision"],
        json!({ "verdict": "hit", "reason": "fresh" })
    );
    assert_eq!(entry["tags"], json!(["product-2-reviews"]));
    assert_eq!(entry["reads"], 2, "{told:#}");
    let directives = &entry["directives"];
    assert_eq!(
        directives["cdn-cache-control"],
        json!(["public, max-age=86400, stale-if-error=86400"])
    );
    assert_eq!(
        directives["cache-control"],
        json!(["public, max-age=0, must-revalidate"])
    );
    let fresh = entry["fresh_seconds"].as_i64().unwrap();
    assert!((86_300..=86_400).contains(&fresh), "{told:#}");
    assert_eq!(entry["stale_if_error_seconds"], 86_400, "{told:#}");
    assert_eq!(origin.count(), 1, "nobody was asked");
    assert_eq!(
        explained(&gateway, "/reviews?product_id=2").await["keys"][0]["entries"][0]["reads"],
        2,
        "a look is no read"
    );
}

#[tokio::test]
async fn what_is_gone_is_told_with_the_purge_that_took_it() {
    let origin = FakeOrigin::start(|request| match request.method.as_str() {
        "POST" => Reply::new(201, "").header("Cache-Group-Invalidation", "\"g\""),
        _ => Reply::public("page", &["g"]).header("ETag", "\"a\""),
    })
    .await;
    let gateway = Gateway::general(&[&origin]).await;
    gateway.client().get("/page").await;
    let soft = gateway.purge(json!({ "tags": ["g"], "soft": true })).await;
    let told = explained(&gateway, "http://shop.test/page").await;
    let key = &told["keys"][0];
    let entry = &key["entries"][0];
    assert_eq!(entry["soft_purged_by"], soft["sequence"], "{told:#}");
    assert_eq!(entry["decision"]["verdict"], "revalidate", "{told:#}");
    let purge = &key["last_purge"];
    assert_eq!(purge["sequence"], soft["sequence"]);
    let details = &purge["details"];
    assert_eq!(
        (&details["soft"], &details["cause"], &details["names"]),
        (&json!(true), &json!("operator"), &json!("tag g")),
        "{told:#}"
    );
    gateway.client().post("/other", "").await;
    let purge = gateway
        .purge(json!({ "urls": ["/page"], "prefixes": ["/pa"] }))
        .await;
    let told = explained(&gateway, "http://shop.test/page").await;
    let key = &told["keys"][0];
    assert_eq!(key["entries"], json!([]), "{told:#}");
    assert_eq!(key["decision"]["verdict"], "fetch");
    assert_eq!(key["last_purge"]["sequence"], purge["sequence"]);
    assert_eq!(
        key["last_purge"]["details"]["names"],
        "path /page, prefix /pa"
    );
    gateway.client().get("/page").await;
    gateway.client().post("/page", "").await;
    let told = explained(&gateway, "http://shop.test/page").await;
    assert_eq!(
        told["keys"][0]["last_purge"]["details"]["cause"], "write",
        "{told:#}"
    );
    gateway.client().get("/page").await;
    let tagged = gateway.purge(json!({ "tags": ["g"] })).await;
    let told = explained(&gateway, "http://shop.test/page").await;
    let purge = &told["keys"][0]["last_purge"];
    assert_eq!(
        (&purge["sequence"], &purge["details"]["names"]),
        (&tagged["sequence"], &json!("tag g")),
        "its groups are gone with it: {told:#}"
    );
}

#[tokio::test]
async fn what_was_not_kept_is_told_with_the_reason() {
    let origin = FakeOrigin::start(|request| match request.target.as_str() {
        "/secret" => Reply::new(200, "page").header("Cache-Control", "private"),
        _ => Reply::fresh("page").header("Vary", "Accept-Language"),
    })
    .await;
    let gateway = Gateway::general(&[&origin]).await;
    gateway.client().get("/secret").await;
    let told = explained(&gateway, "http://shop.test/secret").await;
    let key = &told["keys"][0];
    assert_eq!(key["last_refusal"]["reason"], "private", "{told:#}");
    assert!(
        key["decision"]["reason"]
            .as_str()
            .unwrap()
            .contains("private"),
        "{told:#}"
    );
    for language in ["de", "fr"] {
        let request = get("/page").header("Accept-Language", language);
        gateway.client().send(&request).await;
        gateway
            .client()
            .send(&request.header("Host", "other.test"))
            .await;
    }
    let told = explained(&gateway, "/page").await;
    let keys = told["keys"].as_array().unwrap();
    assert!(!keys.is_empty(), "{told:#}");
    for key in keys {
        let entries = key["entries"].as_array().unwrap();
        assert_eq!(entries.len(), 2, "{told:#}");
        assert_ne!(entries[0]["variant"], entries[1]["variant"]);
    }
    assert_eq!(
        explained(&gateway, "/unknown").await["otherwise"]["verdict"],
        "fetch"
    );
    for query in [
        "",
        "?url=no-url",
        "?url=/../a",
        "?urls=/a",
        "?url=/a&more=1",
    ] {
        let answer = gateway.call(get(&format!("/explain{query}"))).await;
        assert_eq!(answer.status, 422, "{query}: {answer:#?}");
    }
}

fn command(gateway: &Gateway, arguments: &[&str]) -> (bool, String, String) {
    let output = Command::new(env!("CARGO_BIN_EXE_gateway"))
        .arg("explain")
        .args(arguments)
        .args(["--admin", &gateway.admin.to_string()])
        .arg("--admin-token-file")
        .arg(gateway.token_file())
        .output()
        .expect("the built gateway");
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    (
        output.status.success(),
        text(&output.stdout),
        text(&output.stderr),
    )
}

#[tokio::test]
async fn the_command_tells_a_reader_and_with_json_a_program() {
    let origin = FakeOrigin::start(|_| Reply::public("page", &["g", "h"])).await;
    let gateway = Gateway::general(&[&origin]).await;
    let page = "http://shop.test/page?a=1&b=2";
    gateway.client().get("/page?a=1&b=2").await;
    gateway.purge(json!({ "tags": ["h"], "soft": true })).await;
    let (good, told, said) = command(&gateway, &[page]);
    assert!(good, "{said}");
    for part in [
        page,
        "soft purge 1",
        "tag h",
        "g, h",
        "stale-if-error 86",
        "cdn-cache-control",
    ] {
        assert!(told.contains(part), "{part} is missing: {told}");
    }
    let (good, told, said) = command(&gateway, &[page, "--json"]);
    assert!(good, "{said}");
    let told: Value = serde_json::from_str(&told).expect("JSON");
    assert_eq!(
        told["keys"][0]["entries"][0]["tags"],
        json!(["g", "h"]),
        "{told:#}"
    );
}

#[tokio::test]
async fn the_command_fails_with_the_gateways_own_words() {
    let origin = FakeOrigin::start(|_| Reply::fresh("page")).await;
    let gateway = Gateway::general(&[&origin]).await;
    let (good, told, said) = command(&gateway, &["no-url"]);
    assert!(!good && told.is_empty(), "{told}");
    assert!(said.contains("422") && said.contains("no-url"), "{said}");
    std::fs::write(gateway.token_file(), "another\n").unwrap();
    let (good, _, said) = command(&gateway, &["/"]);
    assert!(!good && said.contains("401"), "{said}");
    assert_eq!(
        gateway
            .admin()
            .send(&Request::new("GET", "/explain?url=/"))
            .await
            .status,
        401
    );
}

#[tokio::test]
async fn what_gave_an_entry_its_lifetime_is_named() {
    let origin = FakeOrigin::start(|request| {
        let reply = Reply::new(200, "page");
        let modified = "Thu, 01 Jan 2015 00:00:00 GMT";
        match request.target.as_str() {
            "/targeted" => reply
                .header("CDN-Cache-Control", "max-age=60")
                .header("Cache-Control", "max-age=5"),
            "/shared" => reply.header("Cache-Control", "max-age=5, s-maxage=60"),
            "/private" => reply.header("Cache-Control", "max-age=60"),
            "/expires" => reply.header("Expires", "Thu, 01 Jan 2099 00:00:00 GMT"),
            _ => reply.header("Last-Modified", modified),
        }
    })
    .await;
    let gateway = Gateway::general(&[&origin]).await;
    for (target, expected) in [
        ("/targeted", "cdn-cache-control: max-age"),
        ("/shared", "cache-control: s-maxage"),
        ("/private", "cache-control: max-age"),
        ("/expires", "expires"),
        ("/guessed", "last-modified"),
    ] {
        gateway.client().get(target).await;
        let told = explained(&gateway, target).await;
        let entry = &told["keys"][0]["entries"][0];
        assert_eq!(entry["lifetime_from"], expected, "{told:#}");
    }
}

#[tokio::test]
async fn a_key_its_entries_and_the_rest_never_contradict_each_other() {
    let origin = FakeOrigin::start(|request| match request.header("x-secret") {
        Some(_) => Reply::new(200, "page").header("Cache-Control", "no-store"),
        None if request.target == "/varied" => {
            Reply::fresh("page").header("Vary", "Accept-Language")
        }
        None => Reply::fresh("page"),
    })
    .await;
    let gateway = Gateway::general(&[&origin]).await;
    let client = gateway.client();
    client.send(&get("/page").header("X-Secret", "1")).await;
    let told = explained(&gateway, "http://shop.test/page").await;
    assert_eq!(told["keys"][0]["last_refusal"]["reason"], "no-store");
    client.get("/page").await;
    let told = explained(&gateway, "http://shop.test/page").await;
    let key = &told["keys"][0];
    assert_eq!(key["decision"], key["entries"][0]["decision"], "{told:#}");
    assert_eq!(key["decision"]["verdict"], "hit", "{told:#}");
    assert_eq!(
        key["last_refusal"],
        Value::Null,
        "it was kept since: {told:#}"
    );
    assert_eq!(told.get("otherwise"), None, "there is a key: {told:#}");
    client.get("/varied").await;
    let told = explained(&gateway, "http://shop.test/varied").await;
    let key = &told["keys"][0];
    assert_eq!(key["entries"][0]["decision"]["verdict"], "hit", "{told:#}");
    assert_eq!(
        key["decision"],
        json!({ "verdict": "fetch", "reason": "a variant that is not kept" })
    );
}

#[tokio::test]
async fn the_windows_for_an_error_and_for_no_origin_are_told_apart() {
    let origin = FakeOrigin::start(|request| {
        let directives = match request.target.as_str() {
            "/granted" => "max-age=60, stale-if-error=30",
            "/silent" => "max-age=60",
            _ => "max-age=60, must-revalidate, stale-if-error=30",
        };
        Reply::new(200, "page").header("Cache-Control", directives)
    })
    .await;
    let settings = "[cache]\nstale_if_unreachable = \"10m\"";
    let gateway = Gateway::with(&[&origin], settings).await;
    for (target, on_error, unreachable) in
        [("/granted", 30, 30), ("/silent", 0, 600), ("/strict", 0, 0)]
    {
        gateway.client().get(target).await;
        let told = explained(&gateway, target).await;
        let entry = &told["keys"][0]["entries"][0];
        assert_eq!(entry["stale_if_error_seconds"], on_error, "{told:#}");
        assert_eq!(
            entry["stale_if_unreachable_seconds"], unreachable,
            "{told:#}"
        );
    }
}
