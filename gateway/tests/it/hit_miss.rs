//! What is kept is served again, in every form a client may ask for it.

use crate::support::{
    FakeOrigin, Gate, Gateway, Reply, Request, assert_hit, assert_miss, assert_passed, get,
};

#[tokio::test]
async fn a_second_request_is_a_hit_and_tells_its_age_and_what_is_left() {
    let origin = FakeOrigin::start(|_| Reply::fresh("one").header("X-Own", "kept")).await;
    let gateway = Gateway::general(&[&origin]).await;
    let client = gateway.client();
    let miss = client.get("/page").await;
    assert_miss(&miss);
    let hit = client.get("/page").await;
    assert_hit(&hit);
    assert_eq!((hit.text(), hit.header("x-own")), ("one", Some("kept")));
    assert!(matches!(hit.header("age"), Some("0" | "1")), "{hit:#?}");
    let left = hit.cache_status().split("ttl=").nth(1).expect("a ttl");
    let left: u64 = left.split(';').next().unwrap().trim().parse().unwrap();
    assert!((3590..=3600).contains(&left), "{hit:#?}");
    assert!(hit.cache_status().starts_with("gateway; hit"), "{hit:#?}");
    assert_eq!(origin.count(), 1);
}

#[tokio::test]
async fn the_age_an_answer_arrives_with_is_counted() {
    let origin = FakeOrigin::start(|_| Reply::fresh("old already").header("Age", "100")).await;
    let gateway = Gateway::general(&[&origin]).await;
    let client = gateway.client();
    client.get("/page").await;
    let hit = client.get("/page").await;
    assert!(matches!(hit.header("age"), Some("100" | "101")), "{hit:#?}");
    assert!(
        hit.cache_status().contains("ttl=34") || hit.cache_status().contains("ttl=3500"),
        "{hit:#?}"
    );
}

#[tokio::test]
async fn a_kept_answer_is_fetched_again_when_its_lifetime_is_over() {
    let origin =
        FakeOrigin::start(|_| Reply::new(200, "short").header("Cache-Control", "max-age=1")).await;
    let gateway = Gateway::general(&[&origin]).await;
    let client = gateway.client();
    assert_miss(&client.get("/page").await);
    assert_hit(&client.get("/page").await);
    gateway.becomes("/page", "fetch").await;
    let again = client.get("/page").await;
    assert!(again.cache_status().contains("fwd=stale"), "{again:#?}");
    assert_eq!(origin.count(), 2);
}

#[tokio::test]
async fn a_head_is_answered_from_a_kept_get_with_its_length_and_no_body() {
    let origin = FakeOrigin::start(|_| Reply::fresh("eleven byte")).await;
    let gateway = Gateway::general(&[&origin]).await;
    let client = gateway.client();
    client.get("/page").await;
    // The second answer on the connection would begin with the body if one were sent.
    let mut connection = client.connect().await;
    let head = connection.send(&Request::new("HEAD", "/page")).await;
    assert_hit(&head);
    assert_eq!(head.header("content-length"), Some("11"));
    assert_hit(&connection.send(&get("/page")).await);
    assert_eq!(origin.count(), 1);
}

#[tokio::test]
async fn a_head_fills_the_cache_for_the_get_that_follows() {
    let origin = FakeOrigin::start(|_| Reply::fresh("whole body")).await;
    let gateway = Gateway::general(&[&origin]).await;
    let client = gateway.client();
    let mut connection = client.connect().await;
    let head = connection.send(&Request::new("HEAD", "/page")).await;
    assert_miss(&head);
    assert_eq!(head.header("content-length"), Some("10"));
    assert_eq!(origin.last().method, "GET");
    let hit = connection.send(&get("/page")).await;
    assert_hit(&hit);
    assert_eq!(hit.text(), "whole body");
}

#[tokio::test]
async fn a_known_etag_is_answered_304_from_the_cache() {
    let origin = FakeOrigin::start(|_| Reply::fresh("tagged").header("ETag", "\"v1\"")).await;
    let gateway = Gateway::general(&[&origin]).await;
    let client = gateway.client();
    client.get("/page").await;
    let mut connection = client.connect().await;
    for condition in ["\"v1\"", "W/\"v1\"", "\"v0\", \"v1\"", "*"] {
        let answer = connection
            .send(&get("/page").header("If-None-Match", condition))
            .await;
        assert_eq!(
            (answer.status, answer.body.len()),
            (304, 0),
            "{condition}: {answer:#?}"
        );
        assert_hit(&answer);
        assert_eq!(answer.header("etag"), Some("\"v1\""));
    }
    let changed = connection
        .send(&get("/page").header("If-None-Match", "\"v0\""))
        .await;
    assert_eq!((changed.status, changed.text()), (200, "tagged"));
    assert_eq!(origin.count(), 1);
}

#[tokio::test]
async fn a_condition_on_a_cold_key_still_fills_the_cache() {
    let origin = FakeOrigin::start(|_| Reply::fresh("tagged").header("ETag", "\"v1\"")).await;
    let gateway = Gateway::general(&[&origin]).await;
    let client = gateway.client();
    let first = client
        .send(&get("/page").header("If-None-Match", "\"v1\""))
        .await;
    assert_eq!(first.status, 304, "{first:#?}");
    assert_eq!(
        origin.last().header("if-none-match"),
        None,
        "one client's condition is not everybody's"
    );
    let hit = client.get("/page").await;
    assert_hit(&hit);
    assert_eq!((hit.status, hit.text()), (200, "tagged"));
}

#[tokio::test]
async fn a_range_is_cut_from_the_stored_body() {
    let origin = FakeOrigin::start(|_| Reply::fresh("0123456789").header("ETag", "\"v1\"")).await;
    let gateway = Gateway::general(&[&origin]).await;
    let client = gateway.client();
    client.get("/page").await;
    let cases = [
        ("bytes=2-4", "234", "bytes 2-4/10"),
        ("bytes=7-", "789", "bytes 7-9/10"),
        ("bytes=-2", "89", "bytes 8-9/10"),
    ];
    for (range, body, content_range) in cases {
        let part = client.send(&get("/page").header("Range", range)).await;
        assert_eq!(
            (part.status, part.text()),
            (206, body),
            "{range}: {part:#?}"
        );
        assert_eq!(part.header("content-range"), Some(content_range));
        assert_hit(&part);
    }
    let beyond = client
        .send(&get("/page").header("Range", "bytes=50-60"))
        .await;
    assert_eq!(beyond.status, 416, "{beyond:#?}");
    let other = get("/page")
        .header("Range", "bytes=2-4")
        .header("If-Range", "\"v0\"");
    assert_eq!(
        client.send(&other).await.status,
        200,
        "a range of another version is not cut from this one"
    );
    assert_eq!(origin.count(), 1);
}

#[tokio::test]
async fn a_range_on_a_cold_key_fills_the_cache_with_the_whole_body() {
    let origin = FakeOrigin::start(|_| Reply::fresh("0123456789")).await;
    let gateway = Gateway::general(&[&origin]).await;
    let client = gateway.client();
    let part = client
        .send(&get("/page").header("Range", "bytes=2-4"))
        .await;
    assert_eq!(origin.last().header("range"), None);
    assert!(
        part.text() == "234" || part.text() == "0123456789",
        "{part:#?}"
    );
    assert_eq!(client.get("/page").await.text(), "0123456789");
    assert_eq!(origin.count(), 1);
}

#[tokio::test]
async fn a_body_of_unknown_length_is_kept_whole() {
    let body = "chunk ".repeat(5_000);
    let expected = body.clone();
    let origin = FakeOrigin::start(move |request| {
        let reply = Reply::fresh(body.clone());
        if request.target == "/chunked" {
            reply.chunked()
        } else {
            reply.closing()
        }
    })
    .await;
    let gateway = Gateway::general(&[&origin]).await;
    let client = gateway.client();
    for target in ["/chunked", "/to-the-end"] {
        assert_eq!(client.get(target).await.text(), expected, "{target}");
        let hit = client.get(target).await;
        assert_hit(&hit);
        assert_eq!(hit.text(), expected, "{target}");
        assert!(hit.whole, "{target}");
    }
}

#[tokio::test]
async fn a_large_body_is_kept_byte_for_byte_and_one_over_the_limit_is_passed_on_whole() {
    let bytes = |length: usize| {
        (0..length)
            .map(|at| (at * 31 % 251) as u8)
            .collect::<Vec<u8>>()
    };
    let origin = FakeOrigin::start(move |request| {
        Reply::fresh(bytes(if request.target == "/kept" {
            900_000
        } else {
            1_200_000
        }))
    })
    .await;
    let gateway = Gateway::with(&[&origin], "[cache]\nobject_max = \"1MiB\"").await;
    let client = gateway.client();
    client.get("/kept").await;
    let hit = client.get("/kept").await;
    assert_hit(&hit);
    assert!(hit.whole && hit.body == bytes(900_000));
    for _ in 0..2 {
        let passed = client.get("/too-large").await;
        assert!(
            passed.whole && passed.body == bytes(1_200_000),
            "{}",
            passed.body.len()
        );
        assert_passed(&passed);
        assert!(
            passed.cache_status().ends_with("detail=too-large"),
            "{passed:#?}"
        );
    }
    assert_eq!(origin.hits("/too-large"), 2);
}

#[tokio::test]
async fn a_slow_client_gets_a_body_that_is_too_large_to_keep_whole() {
    const BYTES: usize = 40_000_000;
    let origin = FakeOrigin::start(|request| {
        let reply = Reply::fresh(vec![b'x'; BYTES]);
        if request.target == "/chunked" {
            reply.chunked()
        } else {
            reply
        }
    })
    .await;
    let gateway = Gateway::with(&[&origin], "[cache]\nobject_max = \"1MiB\"").await;
    for target in ["/known", "/chunked"] {
        let mut slow = gateway.client().connect().await;
        slow.write(&get(target)).await;
        // Everything on the way is full before the first byte is read.
        origin.stuck().await;
        let answer = slow.answer(&get(target)).await;
        assert!(
            answer.whole && answer.body.len() == BYTES,
            "{target}: {} bytes",
            answer.body.len()
        );
    }
    assert_eq!(gateway.status().await["cache"]["used_bytes"], 0);
}

#[tokio::test]
async fn readers_join_a_body_that_is_still_arriving() {
    let gate = Gate::closed();
    let held = gate.clone();
    let origin =
        FakeOrigin::start(move |_| Reply::fresh("late body").chunked().held_after_header(&held))
            .await;
    let gateway = Gateway::general(&[&origin]).await;
    let client = gateway.client();
    let (mut first, mut second) = (client.connect().await, client.connect().await);
    first.write(&get("/page")).await;
    gate.reached(1).await;
    second.write(&get("/page")).await;
    // The header of the second answer comes while the origin still holds the body back.
    let head = second.answer_head().await;
    assert!(
        head.header("cache-status")
            .unwrap_or_default()
            .contains("hit"),
        "{head:#?}"
    );
    gate.open();
    assert_eq!(first.answer(&get("/page")).await.text(), "late body");
    assert_eq!(origin.count(), 1);
}

#[tokio::test]
async fn a_fill_goes_on_when_its_client_goes_away() {
    let gate = Gate::closed();
    let held = gate.clone();
    let origin = FakeOrigin::start(move |_| {
        Reply::fresh("finished alone")
            .chunked()
            .held_after_header(&held)
    })
    .await;
    let gateway = Gateway::general(&[&origin]).await;
    let client = gateway.client();
    let mut first = client.connect().await;
    first.write(&get("/page")).await;
    first.answer_head().await;
    first.abort();
    let second = tokio::spawn(async move { client.get("/page").await });
    gate.open();
    let answer = second.await.unwrap();
    assert_eq!(answer.text(), "finished alone");
    assert_eq!(origin.count(), 1, "{answer:#?}");
}

#[tokio::test]
async fn a_body_that_breaks_off_is_not_kept() {
    let origin = FakeOrigin::start(|request| {
        let reply = Reply::fresh("only half of this");
        if request.target == "/broken" {
            reply.broken_after(6)
        } else {
            reply.chunked().broken_after(6)
        }
    })
    .await;
    let gateway = Gateway::general(&[&origin]).await;
    let client = gateway.client();
    for target in ["/broken", "/broken-chunks"] {
        for count in 1..=2 {
            let answer = client.get(target).await;
            assert!(
                answer.status == 502 || !answer.whole,
                "what is broken must look broken: {answer:#?}"
            );
            assert_eq!(origin.hits(target), count, "{answer:#?}");
        }
    }
}

#[tokio::test]
async fn variants_of_one_url_are_kept_apart_by_what_they_vary_on() {
    let origin = FakeOrigin::start(|request| {
        let language = request
            .header("accept-language")
            .unwrap_or("none")
            .to_owned();
        Reply::fresh(language).header("Vary", "Accept-Language")
    })
    .await;
    let gateway = Gateway::general(&[&origin]).await;
    let client = gateway.client();
    for round in 0..2 {
        for language in ["de", "fr", "none"] {
            let request = match language {
                "none" => get("/page"),
                language => get("/page").header("Accept-Language", language),
            };
            let answer = client.send(&request).await;
            assert_eq!(answer.text(), language, "{answer:#?}");
            assert_eq!(answer.is_hit(), round == 1, "{answer:#?}");
        }
    }
    assert_eq!(origin.count(), 3);
}

#[tokio::test]
async fn a_url_has_no_more_variants_than_the_limit_and_the_newest_stay() {
    let origin = FakeOrigin::start(|_| Reply::fresh("page").header("Vary", "X-Kind")).await;
    let gateway = Gateway::with(&[&origin], "[cache]\nvariants_max = 4").await;
    let client = gateway.client();
    for number in 0..50 {
        client
            .send(&get("/page").header("X-Kind", &number.to_string()))
            .await;
    }
    assert_eq!(gateway.status().await["cache"]["objects"], 4);
    for number in 46..50 {
        assert_hit(
            &client
                .send(&get("/page").header("X-Kind", &number.to_string()))
                .await,
        );
    }
}

#[tokio::test]
async fn a_client_that_demands_fresh_news_gets_them_where_clients_are_obeyed() {
    let origin = FakeOrigin::start(|_| Reply::fresh("news")).await;
    let gateway = Gateway::general(&[&origin]).await;
    let client = gateway.client();
    client.get("/page").await;
    let asked = client
        .send(&get("/page").header("Cache-Control", "no-cache"))
        .await;
    assert!(asked.cache_status().contains("fwd=request"), "{asked:#?}");
    assert_eq!(origin.count(), 2);
    let unkept = client
        .send(&get("/other").header("Cache-Control", "no-store"))
        .await;
    assert_passed(&unkept);
    assert_eq!(
        client
            .send(&get("/none").header("Cache-Control", "only-if-cached"))
            .await
            .status,
        504
    );
    assert_eq!(origin.hits("/none"), 0, "only-if-cached asks nobody");
}

#[tokio::test]
async fn a_client_cannot_make_the_shop_ask_its_origin() {
    let origin = FakeOrigin::start(|_| Reply::public("page", &["products"])).await;
    let gateway = Gateway::shop(&[&origin]).await;
    let client = gateway.client();
    client.get("/products").await;
    for (name, value) in [
        ("Cache-Control", "no-cache"),
        ("Cache-Control", "no-store"),
        ("Pragma", "no-cache"),
        ("Cache-Control", "max-age=0"),
    ] {
        assert_hit(&client.send(&get("/products").header(name, value)).await);
    }
    assert_eq!(origin.count(), 1);
}

#[tokio::test]
async fn the_targeted_lifetime_wins_and_stays_between_origin_and_gateway() {
    let origin = FakeOrigin::start(|_| {
        Reply::public("page", &["products", "release-1"])
            .header("Cache-Group-Invalidation", "\"nothing\"")
            .header("Surrogate-Key", "a b")
            .header("Cache-Tag", "c")
    })
    .await;
    let gateway = Gateway::shop(&[&origin]).await;
    let client = gateway.client();
    for round in 0..2 {
        let answer = client.get("/products").await;
        // Cache-Control alone says max-age=0.
        assert_eq!(answer.is_hit(), round == 1, "{answer:#?}");
        assert_eq!(
            answer.header("cache-control"),
            Some("public, max-age=0, must-revalidate")
        );
        for control in [
            "cdn-cache-control",
            "cache-groups",
            "cache-group-invalidation",
            "surrogate-key",
            "cache-tag",
        ] {
            assert_eq!(answer.header(control), None, "{answer:#?}");
        }
    }
}

/// An origin whose answers vary on one field or another, depending on who asks.
async fn of_two_minds() -> FakeOrigin {
    FakeOrigin::start(|request| {
        let said = |name: &str| request.header(name).unwrap_or("none").to_owned();
        let body = format!("{} {}", said("accept-language"), said("x-device"));
        let field = match request.header("x-device") {
            Some(_) => "Accept-Language, X-Device",
            None => "Accept-Language",
        };
        Reply::fresh(body).header("Vary", field)
    })
    .await
}

#[tokio::test]
async fn a_url_whose_answers_vary_on_different_fields_is_hit_by_each_of_them() {
    let origin = of_two_minds().await;
    let gateway = Gateway::general(&[&origin]).await;
    let client = gateway.client();
    let requests = [
        get("/page").header("Accept-Language", "de"),
        get("/page")
            .header("Accept-Language", "fr")
            .header("X-Device", "phone"),
        get("/page").header("Accept-Language", "en"),
        get("/page")
            .header("Accept-Language", "en")
            .header("X-Device", "desk"),
    ];
    let expected = ["de none", "fr phone", "en none", "en desk"];
    for (request, expected) in requests[..3].iter().zip(expected) {
        let answer = client.send(request).await;
        assert_miss(&answer);
        assert_eq!(answer.text(), expected);
    }
    for _ in 0..3 {
        for (request, expected) in requests[..3].iter().zip(expected) {
            let answer = client.send(request).await;
            assert_hit(&answer);
            assert_eq!(answer.text(), expected);
        }
    }
    // What is kept for `en` varies on the language alone: it fits this device too, by the origin's own word.
    let fits = client.send(&requests[3]).await;
    assert_hit(&fits);
    assert_eq!(fits.text(), "en none");
    assert_eq!(origin.count(), 3);
}

#[tokio::test]
async fn variants_of_different_fields_are_revalidated_and_purged_like_others() {
    let origin = FakeOrigin::start(|request| {
        let field = if request.header("x-device").is_some() {
            "X-Device"
        } else {
            "Accept-Language"
        };
        let reply = match request.header("if-none-match") {
            Some(_) => Reply::new(304, ""),
            None => Reply::new(200, field.to_owned()),
        };
        reply
            .header("Cache-Control", "max-age=0")
            .header("ETag", &format!("\"{field}\""))
            .header("Vary", field)
    })
    .await;
    let gateway = Gateway::general(&[&origin]).await;
    let client = gateway.client();
    let requests = [
        get("/page").header("Accept-Language", "de"),
        get("/page").header("X-Device", "phone"),
    ];
    for round in 0..4 {
        for (request, field) in requests.iter().zip(["Accept-Language", "X-Device"]) {
            let answer = client.send(request).await;
            assert_eq!((answer.status, answer.text()), (200, field), "{answer:#?}");
            let asked = origin.last();
            let expected = (round > 0).then(|| format!("\"{field}\""));
            assert_eq!(asked.header("if-none-match"), expected.as_deref());
        }
    }
    let purged = gateway
        .purge(serde_json::json!({ "urls": ["/page"] }))
        .await;
    assert_eq!(purged["objects"], 2, "{purged}");
}
