//! The private listener, and the work done in the background.

use crate::support::{RELEASE, TestApp, fixture, question};

#[tokio::test]
async fn a_healthy_origin_is_alive_and_ready() {
    let app = TestApp::start(&[]).await;
    let alive = app.get_private("/healthz").await;
    assert_eq!((alive.status.as_u16(), alive.text()), (200, "ok"));
    let ready = app.get_private("/readyz").await;
    assert_eq!((ready.status.as_u16(), ready.text()), (200, "ready"));
}

#[tokio::test]
async fn every_answer_of_the_private_listener_names_the_build() {
    let app = TestApp::start(&[]).await;
    let release = format!("\"release-{RELEASE}\"");
    for path in ["/healthz", "/readyz", "/metrics", "/nowhere"] {
        let answer = app.get_private(path).await;
        assert_eq!(answer.field("cache-groups"), release, "{path}");
    }
    let stream = app.open_private("/events", &[]).await;
    assert_eq!(stream.headers()["cache-groups"], release.as_str());
}

#[tokio::test]
async fn a_missing_or_disabled_trigger_or_a_missing_table_makes_it_unready() {
    let app = TestApp::start(&[]).await;
    for (breaking, said, mending) in [
        (
            "alter table shop.reviews disable trigger coherence_update",
            "no trigger coherence_update on shop.reviews",
            "alter table shop.reviews enable always trigger coherence_update",
        ),
        (
            "alter event trigger coherence_ddl disable",
            "no trigger coherence_ddl on event",
            "alter event trigger coherence_ddl enable always",
        ),
        (
            "alter table service.cart_items rename to moved",
            "no table service.cart_items",
            "alter table service.moved rename to cart_items",
        ),
        (
            "alter table shop.review_ranks rename to moved",
            "no table shop.review_ranks",
            "alter table shop.moved rename to review_ranks",
        ),
    ] {
        app.sql(breaking).await;
        let unready = app.get_private("/readyz").await;
        assert_eq!(unready.status, 503, "{breaking}");
        assert!(unready.text().contains(said), "{}", unready.text());
        assert_eq!(app.get_private("/healthz").await.status, 200);
        app.sql(mending).await;
        assert_eq!(app.get_private("/readyz").await.status, 200, "{mending}");
    }
}

#[tokio::test]
async fn metrics_count_requests_by_route_and_statements_by_name() {
    let app = TestApp::start(&[fixture::QUESTIONS_WITH_ANSWERS]).await;
    app.get("/qa/questions?product_id=5").await;
    app.send("HEAD", "/qa/questions/?product_id=5", &[], "")
        .await;
    app.get("/qa/questions?product_id=x").await;
    app.post("/qa/questions", &question()).await;
    app.get("/nowhere/4711").await;
    let metrics = app.get_private("/metrics").await;
    assert_eq!(metrics.status, 200);
    let text = metrics.text();
    for line in [
        r#"origin_requests_total{method="GET",route="/qa/questions",status="2xx"} 2"#,
        r#"origin_requests_total{method="GET",route="/qa/questions",status="4xx"} 1"#,
        r#"origin_requests_total{method="POST",route="/qa/questions",status="2xx"} 1"#,
        r#"origin_requests_total{method="other",route="none",status="4xx"} 1"#,
        r#"origin_request_duration_seconds_count{method="POST",route="/qa/questions"} 1"#,
        r#"origin_statement_duration_seconds_count{statement="questions.list"} 2"#,
        r#"origin_statement_duration_seconds_count{statement="questions.create"} 1"#,
        "origin_in_flight_requests 0",
        "origin_shed_requests_total 0",
        "origin_refused_connections_total 0",
        r#"origin_responses_total{code="200"} 2"#,
        r#"origin_responses_total{code="201"} 1"#,
        r#"origin_responses_total{code="404"} 1"#,
        r#"origin_responses_total{code="422"} 1"#,
        r#"origin_responses_total{code="503"} 0"#,
        r#"origin_breaker_open{pool="primary"} 0"#,
        r#"origin_pool_connections{pool="primary",state="used"} 0"#,
    ] {
        assert!(text.contains(line), "{line} not in {text}");
    }
    assert!(!text.contains("4711") && text.contains("process_resident_memory_bytes"));
}

#[tokio::test]
async fn the_private_paths_are_not_public_and_the_public_ones_not_private() {
    let app = TestApp::start(&[]).await;
    for path in ["/healthz", "/readyz", "/metrics"] {
        app.get(path).await.assert_problem(404, "not-found");
    }
    assert_eq!(app.get_private("/products").await.status, 404);
}

#[tokio::test]
async fn expired_keys_and_old_interactions_are_removed_in_batches_and_the_rest_stays() {
    let app = TestApp::start(&[
        "insert into service.idempotency_keys (scope, digest, status, groups, created_at)
         select sha256(n::text::bytea), sha256(''), 201, '{}', now() - make_interval(hours => n) from generate_series(1, 3000) as n",
        "insert into service.interactions (element, widget, time, created_at)
         select 'e', 'w', 't', now() - make_interval(days => 3000 - n) from generate_series(1, 3000) as n",
    ])
    .await;
    origin::maintenance::round(&app.state).await.unwrap();
    assert_eq!(app.count("service.idempotency_keys").await, 23);
    let left = app.count("service.interactions").await;
    assert!((90..=91).contains(&left), "{left}");
    origin::maintenance::round(&app.state).await.unwrap();
    assert_eq!(app.count("service.idempotency_keys").await, 23);
}

#[tokio::test]
async fn a_round_of_maintenance_says_whether_it_left_something() {
    let app = TestApp::start(&[
        "insert into service.interactions (element, widget, time, created_at)
         select 'e', 'w', 't', '2001-01-01' from generate_series(1, 20500) as n",
    ])
    .await;
    assert!(origin::maintenance::round(&app.state).await.unwrap());
    assert_eq!(app.count("service.interactions").await, 500);
    assert!(!origin::maintenance::round(&app.state).await.unwrap());
    assert_eq!(app.count("service.interactions").await, 0);
}

#[tokio::test]
async fn what_a_round_has_left_is_removed_long_before_the_interval_is_over() {
    let app = TestApp::start_with(
        &[
            "insert into service.interactions (element, widget, time, created_at)
             select 'e', 'w', 't', '2001-01-01' from generate_series(1, 60500) as n",
        ],
        &["--maintenance-every-s=4"],
    )
    .await;
    // Four rounds: at the interval's pace the last would come a quarter of a minute after the first.
    TestApp::until("the first round is over", async || {
        app.count("service.interactions").await <= 40_500
    })
    .await;
    let first = tokio::time::Instant::now();
    TestApp::until("nothing is left", async || {
        app.count("service.interactions").await == 0
    })
    .await;
    assert!(first.elapsed().as_secs() < 9, "{:?}", first.elapsed());
}

#[tokio::test]
async fn interactions_are_kept_for_ever_if_the_setting_says_so() {
    let old = "insert into service.interactions (element, widget, time, created_at) values ('e', 'w', 't', '2001-01-01')";
    let app = TestApp::start_with(&[old], &["--interactions-days=0"]).await;
    origin::maintenance::round(&app.state).await.unwrap();
    assert_eq!(app.count("service.interactions").await, 1);
}

#[tokio::test]
async fn the_outbox_is_rotated_when_its_time_has_come() {
    let app = TestApp::start(&[]).await;
    let slot = "select slot::int4 from coherence.rotation";
    let before: i32 = app.value(slot).await;
    origin::maintenance::round(&app.state).await.unwrap();
    assert_eq!(app.value::<i32>(slot).await, before);
    app.sql("update coherence.rotation set rotated_at = now() - interval '2 hours'")
        .await;
    origin::maintenance::round(&app.state).await.unwrap();
    assert_ne!(app.value::<i32>(slot).await, before);
}
