//! A write's answer is sent when no reader can meet what it made old.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use crate::support::{FakeOrigin, Gateway, Reply, Request, assert_hit, assert_miss, get};

/// An origin of one number: POST adds one and invalidates a group, GET tells it.
async fn counter() -> FakeOrigin {
    let version = Arc::new(AtomicUsize::new(0));
    FakeOrigin::start(move |request| match request.method.as_str() {
        "GET" => Reply::public(
            version.load(Ordering::SeqCst).to_string(),
            &["product-2-reviews", "release-1"],
        ),
        _ => {
            version.fetch_add(1, Ordering::SeqCst);
            Reply::new(201, "Created")
                .header("Cache-Control", "private, no-store")
                .header(
                    "Cache-Group-Invalidation",
                    "\"product-2-reviews\", \"product-2-meta\"",
                )
        }
    })
    .await
}

#[tokio::test]
async fn a_write_is_read_back_by_whoever_got_its_answer() {
    let origin = counter().await;
    let gateway = Gateway::shop(&[&origin]).await;
    let client = gateway.client();
    let mut readers = client.connect().await;
    let mut writers = client.connect().await;
    for round in 1..=400 {
        assert!(readers.send(&get("/reviews?product_id=2")).await.status == 200);
        let written = writers
            .send(&Request::new("POST", "/reviews").body("{}"))
            .await;
        assert_eq!(written.status, 201);
        assert_eq!(written.header("cache-group-invalidation"), None);
        let read = readers.send(&get("/reviews?product_id=2")).await;
        assert_miss(&read);
        assert_eq!(read.text(), round.to_string());
    }
}

#[tokio::test]
async fn a_write_takes_every_page_and_spelling_of_its_groups_and_nothing_else() {
    let origin =
        FakeOrigin::start(
            |request| match (request.method.as_str(), request.target.as_str()) {
                ("GET", "/products/3") => Reply::public("other", &["product-3"]),
                ("GET", _) => Reply::public("page", &["product-2-reviews"]),
                _ => {
                    Reply::new(204, "").header("Cache-Group-Invalidation", "\"product-2-reviews\"")
                }
            },
        )
        .await;
    let gateway = Gateway::shop(&[&origin]).await;
    let client = gateway.client();
    let pages: Vec<String> = (1..=20)
        .map(|page| format!("/reviews?product_id=2&page={page}"))
        .collect();
    for target in pages.iter().map(String::as_str).chain(["/products/3"]) {
        client.get(target).await;
    }
    assert_eq!(client.put("/reviews/5/helpful").await.status, 204);
    for page in &pages {
        assert_miss(&client.get(page).await);
    }
    assert_hit(&client.get("/products/3").await);
}

#[tokio::test]
async fn a_failed_write_invalidates_nothing() {
    let origin = FakeOrigin::start(|request| match request.method.as_str() {
        "GET" => Reply::public("page", &["product-2-reviews"]),
        _ => {
            let status = request
                .header("x-status")
                .and_then(|status| status.parse().ok())
                .unwrap_or(500);
            Reply::new(status, "no").header("Cache-Group-Invalidation", "\"product-2-reviews\"")
        }
    })
    .await;
    let gateway = Gateway::shop(&[&origin]).await;
    let client = gateway.client();
    client.get("/reviews?product_id=2").await;
    for status in ["400", "404", "409", "422", "500", "503"] {
        let failed = client
            .send(
                &Request::new("POST", "/reviews")
                    .body("{}")
                    .header("X-Status", status),
            )
            .await;
        assert_eq!(failed.status.to_string(), status);
        assert_hit(&client.get("/reviews?product_id=2").await);
    }
}

#[tokio::test]
async fn a_write_takes_its_own_target_and_the_locations_it_names() {
    let origin = FakeOrigin::start(|request| match request.method.as_str() {
        "GET" => Reply::fresh(request.target.clone()),
        _ => Reply::new(201, "made")
            .header("Location", "/made")
            .header("Content-Location", "http://shop.test/named?a=1"),
    })
    .await;
    let gateway = Gateway::general(&[&origin]).await;
    let client = gateway.client();
    let taken = ["/target", "/made", "/named?a=1"];
    for target in taken.iter().chain(&["/untouched"]) {
        client.get(target).await;
        assert_hit(&client.get(target).await);
    }
    client.post("/target", "{}").await;
    for target in taken {
        assert_miss(&client.get(target).await);
    }
    assert_hit(&client.get("/untouched").await);
}

#[tokio::test]
async fn locations_are_references_to_be_resolved_against_the_writes_target() {
    let origin = FakeOrigin::start(|request| match request.method.as_str() {
        "GET" => Reply::fresh(request.target.clone()),
        _ => Reply::new(303, "see there")
            .header("Location", request.header("x-location").unwrap_or_default()),
    })
    .await;
    let gateway = Gateway::general(&[&origin]).await;
    let client = gateway.client();
    let host = "shop.test";
    for (location, taken) in [
        ("/thread#c5", "/thread"),
        ("../thread", "/thread"),
        ("list", "/shop/list"),
        ("?page=2#end", "/shop/target?page=2"),
        (&format!("//{host}/thread#c5"), "/thread"),
        (&format!("http://{host}/a/../thread"), "/thread"),
    ] {
        client.get(taken).await;
        assert_hit(&client.get(taken).await);
        let write = Request::new("POST", "/shop/target")
            .body("{}")
            .header("X-Location", location);
        assert_eq!(client.send(&write).await.status, 303);
        let read = client.get(taken).await;
        assert!(!read.is_hit(), "{location}: {read:#?}");
    }
}

#[tokio::test]
async fn locations_on_another_host_are_none_of_the_writes_business() {
    let origin = FakeOrigin::start(|request| match request.method.as_str() {
        "GET" => Reply::fresh("page"),
        _ => Reply::new(201, "made")
            .header("Location", "http://other.test/page")
            .header("Content-Location", "//other.test/page"),
    })
    .await;
    let gateway = Gateway::general(&[&origin]).await;
    let client = gateway.client();
    client.get("/page").await;
    client.post("/target", "{}").await;
    assert_hit(&client.get("/page").await);
}

#[tokio::test]
async fn a_write_whose_groups_cannot_be_read_takes_everything() {
    let origin = FakeOrigin::start(|request| match request.method.as_str() {
        "GET" => Reply::public("page", &["g"]),
        _ => Reply::new(204, "").header("Cache-Group-Invalidation", "not, \"a list"),
    })
    .await;
    let gateway = Gateway::shop(&[&origin]).await;
    let client = gateway.client();
    client.get("/products").await;
    assert_eq!(client.put("/reviews/1/helpful").await.status, 204);
    assert_miss(&client.get("/products").await);
}

#[tokio::test]
async fn a_read_cannot_invalidate() {
    let origin = FakeOrigin::start(|request| match request.target.as_str() {
        "/products/1" => Reply::public("page", &["g"]),
        _ => Reply::new(200, "reads").header("Cache-Group-Invalidation", "\"g\""),
    })
    .await;
    let gateway = Gateway::shop(&[&origin]).await;
    let client = gateway.client();
    client.get("/products/1").await;
    client.get("/products/2").await;
    assert_hit(&client.get("/products/1").await);
}

#[tokio::test]
async fn a_write_whose_answer_never_came_makes_its_own_target_old() {
    let version = Arc::new(AtomicUsize::new(0));
    let origin = FakeOrigin::start(move |request| match request.method.as_str() {
        "GET" => Reply::fresh(version.load(Ordering::SeqCst).to_string()),
        _ => {
            version.fetch_add(1, Ordering::SeqCst);
            Reply::hang_up()
        }
    })
    .await;
    let gateway = Gateway::general(&[&origin]).await;
    let client = gateway.client();
    assert_eq!(client.get("/page").await.text(), "0");
    assert_hit(&client.get("/page").await);
    assert_eq!(client.put("/page").await.status, 502);
    let after = client.get("/page").await;
    assert_miss(&after);
    assert_eq!(
        after.text(),
        "1",
        "the write may have been carried out, and was"
    );
}
