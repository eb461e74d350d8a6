//! Operators take out what they name, and are told what it was.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use serde_json::json;

use crate::support::{
    FakeOrigin, Gate, Gateway, Reply, Request, assert_hit, assert_miss, assert_problem, get, until,
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
    assert_eq!(purged["objects"], 50, "{purged}");
    // The names of groups are paid for by the index, not by an entry.
    let names = before["cache"]["used_bytes"].as_u64().unwrap() - purged["bytes"].as_u64().unwrap();
    assert!((1..400).contains(&names), "{purged} of {before}");
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
        r#"{"all":true,"softly":true}"#,
        r#"{"soft":true}"#,
        r#"{"all":true,"refill":-1}"#,
        r#"{"all":true,"refill":1001}"#,
        r#"{"prefixes":["/standard?a=1"]}"#,
        r#"{"prefixes":["standard"]}"#,
        r#"{"prefixes":["/../"]}"#,
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

#[tokio::test]
async fn a_prefix_purges_what_begins_so_on_every_host_or_on_one() {
    let origin = tagged().await;
    let gateway = Gateway::general(&[&origin]).await;
    let client = gateway.client();
    let targets = [
        "/products",
        "/products/",
        "/products/1",
        "/products/1/styles?x=1",
        "/other",
    ];
    let on = |host: &str, target: &str| get(target).header("Host", host);
    for target in targets {
        for host in ["one.test", "two.test"] {
            client.send(&on(host, target)).await;
        }
    }
    let purged = gateway
        .purge(json!({ "prefixes": ["http://one.test/products/"] }))
        .await;
    assert_eq!(purged["objects"], 3, "{purged}");
    assert_hit(&client.send(&on("one.test", "/products")).await);
    assert_hit(&client.send(&on("two.test", "/products/1")).await);
    assert_miss(&client.send(&on("one.test", "/products/1")).await);
    let purged = gateway
        .purge(json!({ "prefixes": ["/products/", "/products/1"] }))
        .await;
    assert_eq!(purged["objects"], 4, "no entry counts twice: {purged}");
    assert_eq!(
        gateway.purge(json!({ "prefixes": ["/"] })).await["objects"],
        4
    );
}

#[tokio::test]
async fn a_prefix_is_read_as_paths_are() {
    let origin = FakeOrigin::start(|_| Reply::public("page", &["g"])).await;
    let gateway = Gateway::shop(&[&origin]).await;
    for prefix in [
        "/products/",
        "/api/fec2/hr-rfp/products/",
        "http://any.host/products/%32",
    ] {
        gateway.client().get("/products/2/styles").await;
        let purged = gateway.purge(json!({ "prefixes": [prefix] })).await;
        assert_eq!(purged["objects"], 1, "{prefix}: {purged}");
    }
}

#[tokio::test]
async fn a_dry_run_counts_each_entry_once_and_changes_nothing() {
    let origin = tagged().await;
    let gateway = Gateway::general(&[&origin]).await;
    let client = gateway.client();
    for target in ["/standard", "/surrogate", "/untouched"] {
        client.get(target).await;
    }
    let before = gateway.purge(json!({ "urls": ["/nothing"] })).await;
    let what = json!({ "tags": ["g", "h"], "urls": ["/standard"], "prefixes": ["/s"] });
    let mut dry = what.clone();
    dry["dry_run"] = true.into();
    let counted = gateway.purge(dry).await;
    assert_eq!(counted["objects"], 2, "{counted}");
    assert_eq!(
        counted["sequence"], before["sequence"],
        "no number was given"
    );
    for target in ["/standard", "/surrogate", "/untouched"] {
        assert_hit(&client.get(target).await);
    }
    let purged = gateway.purge(what).await;
    assert_eq!(
        (&purged["objects"], &purged["bytes"]),
        (&counted["objects"], &counted["bytes"])
    );
}

#[tokio::test]
async fn a_soft_purge_lets_the_stale_windows_apply_from_then_on() {
    let versions = Arc::new(AtomicUsize::new(0));
    let version = Arc::clone(&versions);
    let origin = FakeOrigin::start(move |_| {
        Reply::new(200, version.fetch_add(1, Ordering::SeqCst).to_string()).header(
            "Cache-Control",
            "max-age=3600, stale-while-revalidate=60, stale-if-error=60",
        )
    })
    .await;
    let gateway = Gateway::general(&[&origin]).await;
    let client = gateway.client();
    assert_miss(&client.get("/page").await);
    let purged = gateway
        .purge(json!({ "urls": ["/page"], "soft": true }))
        .await;
    assert_eq!(purged["objects"], 1, "{purged}");
    let stale = client.get("/page").await;
    assert_eq!(stale.text(), "0", "{stale:#?}");
    assert!(
        stale
            .cache_status()
            .contains("detail=stale-while-revalidate"),
        "{stale:#?}"
    );
    until("the background refresh is kept", || async {
        let answer = client.get("/page").await;
        answer.is_hit() && answer.text() == "1"
    })
    .await;
    assert_eq!(origin.count(), 2, "one refresh");
}

#[tokio::test]
async fn a_soft_purge_covers_a_failing_origin_and_else_asks_it() {
    let fails = Arc::new(AtomicBool::new(false));
    let failing = Arc::clone(&fails);
    let origin = FakeOrigin::start(move |request| {
        match failing.load(Ordering::SeqCst) {
            true => Reply::new(503, "down"),
            false if request.header("if-none-match").is_some() => Reply::new(304, ""),
            false => Reply::new(200, "good"),
        }
        .header("ETag", "\"a\"")
        .header("Cache-Control", "max-age=3600, stale-if-error=60")
    })
    .await;
    let gateway = Gateway::general(&[&origin]).await;
    let client = gateway.client();
    client.get("/page").await;
    gateway.purge(json!({ "all": true, "soft": true })).await;
    fails.store(true, Ordering::SeqCst);
    let covered = client.get("/page").await;
    assert_eq!(
        (covered.status, covered.text()),
        (200, "good"),
        "{covered:#?}"
    );
    assert!(
        covered.cache_status().contains("detail=stale-if-error"),
        "{covered:#?}"
    );
    fails.store(false, Ordering::SeqCst);
    let validated = client.get("/page").await;
    assert_eq!(validated.text(), "good");
    assert!(
        origin.last().header("if-none-match").is_some(),
        "{:?}",
        origin.last()
    );
    assert_hit(&client.get("/page").await);
}

#[tokio::test]
async fn the_hottest_are_fetched_again_a_few_at_a_time() {
    let gate = Gate::closed();
    let (held, purged) = (gate.clone(), Arc::new(AtomicBool::new(false)));
    let holds = Arc::clone(&purged);
    let origin = FakeOrigin::start(move |request| {
        let reply = Reply::public(request.target.clone(), &["g"]);
        match holds.load(Ordering::SeqCst) {
            true => reply.held(&held),
            false => reply,
        }
    })
    .await;
    let settings = "[cache]\nrefill_concurrency = 2";
    let gateway = Gateway::with(&[&origin], settings).await;
    let client = gateway.client();
    for page in 0..10 {
        for _ in 0..=page {
            client.get(&format!("/page/{page}?q=1")).await;
        }
    }
    let filled = origin.count();
    purged.store(true, Ordering::SeqCst);
    let answer = gateway.purge(json!({ "tags": ["g"], "refill": 5 })).await;
    assert_eq!(
        (&answer["objects"], &answer["refill"]),
        (&json!(10), &json!(5))
    );
    gate.reached(2).await;
    assert_eq!(gateway.status().await["refill"]["waiting"], 5);
    assert_eq!(origin.count(), filled + 2, "two at once and no more");
    gate.open();
    until("the refill is done", || async {
        gateway.status().await["refill"] == json!({ "waiting": 0, "done": 5, "failed": 0 })
    })
    .await;
    for page in 5..10 {
        assert_hit(&client.get(&format!("/page/{page}?q=1")).await);
    }
    assert_eq!(origin.count(), filled + 5);
    assert_miss(&client.get("/page/4?q=1").await);
}

#[tokio::test]
async fn a_refill_needs_no_clients_token_and_no_place_among_the_connections() {
    let origin = FakeOrigin::start(|_| Reply::public("page", &["g"])).await;
    let directory = tempfile::tempdir().unwrap();
    let tokens = directory.path().join("tokens");
    std::fs::write(&tokens, "known-token-of-a-client\n").unwrap();
    let auth = format!("[auth]\nrequired = true\ntokens_file = {tokens:?}");
    let gateway = Gateway::with(&[&origin], &auth).await;
    let bearer = "Bearer known-token-of-a-client";
    let page = get("/page").header("Authorization", bearer);
    for _ in 0..2 {
        gateway.client().send(&page).await;
    }
    gateway
        .purge(json!({ "all": true, "soft": true, "refill": 1 }))
        .await;
    until("the refill is done", || async {
        gateway.status().await["refill"]["done"] == 1
    })
    .await;
    assert_hit(&gateway.client().send(&page).await);
    assert_eq!(origin.count(), 2);
    assert_eq!(gateway.client().get("/page").await.status, 401);
}
