//! What collectors read: how long requests and origins take, by labels of few values, and counters that are counters.

use std::collections::BTreeMap;

use serde_json::json;

use crate::support::{FakeOrigin, Gate, Gateway, Reply, Request, get, until};

const README: &str = include_str!("../../README.md");

async fn metrics(gateway: &Gateway) -> String {
    let answer = gateway.call(get("/metrics")).await;
    assert_eq!(answer.status, 200, "{answer:#?}");
    answer.text().to_owned()
}

/// A request is counted after its answer has left.
async fn tells(gateway: &Gateway, line: &str) {
    until(line, || async {
        metrics(gateway).await.lines().any(|known| known == line)
    })
    .await;
}

fn unkept() -> Reply {
    Reply::new(200, "page").header("Cache-Control", "no-store")
}

#[tokio::test]
async fn how_long_requests_take_is_told_by_route_and_by_what_the_cache_did() {
    let origin = FakeOrigin::start(|request| match request.target.as_str() {
        "/old" => Reply::new(200, "old").header("Cache-Control", "max-age=0"),
        _ => Reply::fresh("item"),
    })
    .await;
    let routes =
        ["/items/{id}", "/lists", "/old"].map(|path| format!("[[route]]\npath = \"{path}\"\n"));
    let settings = format!("cache.stale_if_error = \"1h\"\n{}", routes.concat());
    let gateway = Gateway::with(&[&origin], &settings).await;
    for target in ["/items/1", "/items/1", "/items/2", "/lists", "/old", "/x"] {
        assert_eq!(gateway.client().get(target).await.status, 200);
    }
    for (labels, count) in [
        ("cache=\"hit\",route=\"/items/{id}\"", 1),
        ("cache=\"miss\",route=\"/items/{id}\"", 2),
        ("cache=\"miss\",route=\"/lists\"", 1),
        ("cache=\"miss\",route=\"/old\"", 1),
        ("cache=\"bypass\",route=\"none\"", 1),
    ] {
        let name = "gateway_route_duration_seconds";
        tells(&gateway, &format!("{name}_count{{{labels}}} {count}")).await;
        tells(
            &gateway,
            &format!("{name}_bucket{{{labels},le=\"+Inf\"}} {count}"),
        )
        .await;
        let requests = format!("gateway_route_requests_total{{{labels},status=\"2xx\"}} {count}");
        tells(&gateway, &requests).await;
    }
    // What has not been asked for is not listed.
    assert!(
        !metrics(&gateway)
            .await
            .contains("cache=\"hit\",route=\"/lists\"")
    );
    // The counts of a route are its own, wherever a new file has it.
    let [items, lists, old] = routes;
    gateway.write_settings(&format!(
        "cache.stale_if_error = \"1h\"\n{old}{lists}{items}"
    ));
    let reloaded = gateway.call(Request::new("POST", "/reload")).await;
    assert_eq!(reloaded.status, 200, "{reloaded:#?}");
    assert!(gateway.client().get("/lists").await.is_hit());
    origin.stop().await;
    assert_eq!(gateway.client().get("/old").await.text(), "old");
    for (labels, count) in [
        ("cache=\"hit\",route=\"/lists\"", 1),
        ("cache=\"miss\",route=\"/lists\"", 1),
        ("cache=\"hit\",route=\"/items/{id}\"", 1),
        ("cache=\"stale\",route=\"/old\"", 1),
    ] {
        let line = format!("gateway_route_duration_seconds_count{{{labels}}} {count}");
        tells(&gateway, &line).await;
    }
}

#[tokio::test]
async fn how_long_an_origin_takes_to_answer_is_told_until_it_is_removed() {
    let gate = Gate::closed();
    let held = gate.clone();
    let slow = FakeOrigin::start(move |_| unkept().held(&held)).await;
    let quick = FakeOrigin::start(|_| unkept()).await;
    let gateway = Gateway::general(&[&slow, &quick]).await;
    let client = gateway.client();
    let both = ["/one", "/two"].map(|target| tokio::spawn(async move { client.get(target).await }));
    gate.reached(1).await;
    let count = |node: &FakeOrigin| {
        let node = node.address();
        format!("gateway_node_duration_seconds_count{{node=\"{node}\"}}")
    };
    tells(&gateway, &format!("{} 1", count(&quick))).await;
    let before = metrics(&gateway).await;
    assert!(!before.contains(&count(&slow)), "it has not answered");
    gate.open();
    for answer in both {
        assert_eq!(answer.await.expect("an answer").status, 200);
    }
    tells(&gateway, &format!("{} 1", count(&slow))).await;
    let remove = Request::new("DELETE", &format!("/nodes/{}", slow.address()));
    assert_eq!(gateway.call(remove).await.status, 200);
    let after = metrics(&gateway).await;
    assert!(!after.contains(&slow.address().to_string()), "{after}");
    assert!(after.contains(&count(&quick)), "{after}");
}

#[tokio::test]
async fn an_answer_that_comes_after_its_origin_was_removed_brings_nothing_back() {
    let gate = Gate::closed();
    let held = gate.clone();
    let slow = FakeOrigin::start(move |_| unkept().held(&held)).await;
    let gateway = Gateway::general(&[&slow]).await;
    let client = gateway.client();
    let asking = tokio::spawn(async move { client.get("/").await });
    gate.reached(1).await;
    let remove = Request::new("DELETE", &format!("/nodes/{}?last=true", slow.address()));
    assert_eq!(gateway.call(remove).await.status, 200);
    gate.open();
    assert_eq!(asking.await.expect("an answer").status, 200);
    let after = metrics(&gateway).await;
    assert!(!after.contains(&slow.address().to_string()), "{after}");
}

#[tokio::test]
async fn counts_rise_by_what_happened_however_often_they_are_read() {
    let origin = FakeOrigin::start(|_| Reply::fresh("page")).await;
    let gateway = Gateway::general(&[&origin]).await;
    for purges in 1..=3 {
        gateway.purge(json!({"all": true})).await;
        gateway.client().get("/page").await;
        let requests = format!(
            "gateway_node_requests_total{{node=\"{}\"}}",
            origin.address()
        );
        for _ in 0..3 {
            let told = metrics(&gateway).await;
            for line in [
                format!("gateway_purges_total {purges}"),
                format!("{requests} {purges}"),
            ] {
                assert!(told.lines().any(|known| known == line), "{line}: {told}");
            }
        }
    }
}

/// Name and type of each metric in the table.
fn table() -> BTreeMap<&'static str, &'static str> {
    let rows = README
        .lines()
        .filter(|line| line.starts_with("| `gateway_"));
    rows.flat_map(|row| {
        let mut cells = row.trim_start_matches("| ").split(" | ");
        let names = cells.next().unwrap_or_default().split(", ");
        let kind = cells.next().unwrap_or_default();
        names.map(move |name| (name.trim_matches('`'), kind))
    })
    .collect()
}

#[tokio::test]
async fn every_metric_is_in_the_table_with_its_type() {
    let origin = FakeOrigin::start(|_| Reply::fresh("page")).await;
    let gateway = Gateway::general(&[&origin]).await;
    gateway.client().get("/page").await;
    tells(&gateway, "gateway_requests_total{cache=\"miss\"} 1").await;
    let told = metrics(&gateway).await;
    let types = told.lines().filter_map(|line| line.strip_prefix("# TYPE "));
    let told: BTreeMap<_, _> = types.filter_map(|line| line.split_once(' ')).collect();
    let mut table = table();
    table.retain(|name, _| !name.starts_with("gateway_coherence_")); // it follows no stream
    assert_eq!(told, table);
    for (name, kind) in table {
        assert_eq!(name.ends_with("_total"), kind == "counter", "{name}");
    }
}
