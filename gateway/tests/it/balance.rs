//! Requests go where the fewest are, and around what is dead.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use crate::support::{
    FakeOrigin, Gate, Gateway, Reply, Request, assert_problem, free_address, get, until,
};

fn unkept(body: &'static str) -> Reply {
    Reply::new(200, body).header("Cache-Control", "no-store")
}

#[tokio::test]
async fn equal_origins_share_the_load_evenly() {
    let origins = [
        FakeOrigin::start(|_| unkept("one")).await,
        FakeOrigin::start(|_| unkept("two")).await,
        FakeOrigin::start(|_| unkept("three")).await,
    ];
    let gateway = Gateway::general(&[&origins[0], &origins[1], &origins[2]]).await;
    for _ in 0..60 {
        gateway.client().get("/").await;
    }
    for origin in &origins {
        assert!(
            (19..=21).contains(&origin.count()),
            "{:?}",
            origins.each_ref().map(FakeOrigin::count)
        );
    }
}

#[tokio::test]
async fn new_requests_go_around_a_slow_origin() {
    let gate = Gate::closed();
    let held = gate.clone();
    let slow = FakeOrigin::start(move |_| unkept("slow").held(&held)).await;
    let quick = FakeOrigin::start(|_| unkept("quick")).await;
    let gateway = Gateway::general(&[&slow, &quick]).await;
    let client = gateway.client();
    // Ties go round: one of two requests sent together meets the slow one.
    let both: Vec<_> = (0..2)
        .map(|at| tokio::spawn(async move { client.get(&format!("/first/{at}")).await }))
        .collect();
    gate.reached(1).await;
    for at in 0..50 {
        assert_eq!(client.get(&format!("/then/{at}")).await.text(), "quick");
    }
    assert_eq!(slow.count(), 1);
    assert_eq!(gateway.in_flight().await.iter().sum::<u64>(), 1);
    gate.open();
    for answer in both {
        assert_eq!(answer.await.unwrap().status, 200);
    }
}

#[tokio::test]
async fn weights_share_what_is_in_flight() {
    let gate = Gate::closed();
    let (held, held_too) = (gate.clone(), gate.clone());
    let heavy = FakeOrigin::start(move |_| unkept("heavy").held(&held)).await;
    let light = FakeOrigin::start(move |_| unkept("light").held(&held_too)).await;
    let nodes = format!(
        "[upstream]\nnodes = [{{ address = \"{}\", weight = 3 }}, \"{}\"]",
        heavy.address(),
        light.address()
    );
    let gateway = Gateway::start(&[], Some(nodes)).await;
    let client = gateway.client();
    let asking: Vec<_> = (0..40)
        .map(|at| tokio::spawn(async move { client.get(&format!("/{at}")).await }))
        .collect();
    gate.reached(40).await;
    assert!(
        (29..=31).contains(&heavy.count()),
        "{} of 40",
        heavy.count()
    );
    gate.open();
    for answer in asking {
        assert_eq!(answer.await.unwrap().status, 200);
    }
}

#[tokio::test]
async fn a_slow_reader_does_not_make_its_origin_look_busy() {
    // More than the sockets between the two hold.
    let body = "x".repeat(24_000_000);
    let origin = FakeOrigin::start(move |_| Reply::fresh(body.clone())).await;
    let gateway = Gateway::with(&[&origin], "[cache]\nobject_max = \"32MiB\"").await;
    let mut reader = gateway.client().connect().await;
    reader.write(&get("/large")).await;
    reader.answer_head().await;
    // The body is not read here, yet the origin has given it all.
    until("the origin is free", || async {
        gateway.in_flight().await == [0]
    })
    .await;
}

#[tokio::test]
async fn counts_return_to_zero_after_a_storm_of_clients_that_go_away() {
    let gate = Gate::closed();
    let held = gate.clone();
    let script = move |request: &crate::support::Received| {
        let reply = if request.target.starts_with("/kept") {
            Reply::fresh("x".repeat(50_000))
        } else {
            unkept("x")
        };
        if request.target.ends_with('1') {
            reply.held(&held)
        } else {
            reply.held_after_header(&held)
        }
    };
    let (one, two) = (
        FakeOrigin::start(script.clone()).await,
        FakeOrigin::start(script).await,
    );
    let gateway = Gateway::general(&[&one, &two]).await;
    let mut connections = Vec::new();
    for number in 0..200 {
        let kind = if number % 3 == 0 { "kept" } else { "passed" };
        let target = format!("/{kind}/{number}/{}", number % 2);
        let mut connection = gateway.client().connect().await;
        let text = match number % 5 {
            0 => format!("POST {target} HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n\r\n{{}}"),
            // A body and a header that never come whole.
            1 => format!("POST {target} HTTP/1.1\r\nHost: a\r\nContent-Length: 9\r\n\r\nxx"),
            2 => format!("GET {target} HTTP/1.1\r\nHo"),
            _ => format!("GET {target} HTTP/1.1\r\nHost: a\r\n\r\n"),
        };
        connection.write_bytes(text.as_bytes()).await;
        connections.push(connection);
    }
    until("many requests are in flight", || async {
        gateway.in_flight().await.iter().sum::<u64>() > 100
    })
    .await;
    for (number, connection) in connections.into_iter().enumerate() {
        if number % 2 == 0 {
            connection.abort();
        }
    }
    gate.open();
    until("nothing is in flight", || async {
        gateway.in_flight().await == [0, 0]
    })
    .await;
    assert_eq!(gateway.client().get("/passed/after/0").await.status, 200);
}

#[tokio::test]
async fn no_get_fails_when_an_origin_dies_in_the_middle() {
    let script = |request: &crate::support::Received| match request.target.as_str() {
        "/kept" => Reply::fresh("ok"),
        _ => unkept("ok"),
    };
    let dying = FakeOrigin::start(script).await;
    let living = FakeOrigin::start(script).await;
    let gateway = Gateway::general(&[&dying, &living]).await;
    let client = gateway.client();
    let stop = Arc::new(AtomicBool::new(false));
    let loops: Vec<_> = (0..8)
        .map(|_| {
            let stop = Arc::clone(&stop);
            tokio::spawn(async move {
                let mut connection = client.connect().await;
                let mut count = 0;
                while !stop.load(Ordering::SeqCst) {
                    let answer = connection.send(&get("/passed")).await;
                    assert_eq!((answer.status, answer.text()), (200, "ok"), "{answer:#?}");
                    count += 1;
                }
                count
            })
        })
        .collect();
    until("both serve", || async {
        dying.count() > 100 && living.count() > 100
    })
    .await;
    dying.stop().await;
    let so_far = living.count();
    until("the other serves on", || async {
        living.count() > so_far + 1_000
    })
    .await;
    stop.store(true, Ordering::SeqCst);
    for handle in loops {
        assert!(handle.await.unwrap() > 0);
    }
}

#[tokio::test]
async fn an_origin_that_comes_back_is_used_again() {
    let other = FakeOrigin::start(|_| unkept("other")).await;
    let address = free_address();
    let gateway = Gateway::start(&[other.address(), address], None).await;
    for _ in 0..20 {
        assert_eq!(gateway.client().get("/").await.text(), "other");
    }
    let back = FakeOrigin::start_at(address, |_| unkept("back")).await;
    until("it serves", || async {
        gateway.client().get("/").await.text() == "back"
    })
    .await;
    assert!(back.count() > 0);
}

#[tokio::test]
async fn a_get_is_retried_elsewhere_when_an_origin_hangs_up_before_its_header() {
    let broken = FakeOrigin::start(|_| Reply::hang_up()).await;
    let good = FakeOrigin::start(|_| unkept("good")).await;
    let gateway = Gateway::general(&[&broken, &good]).await;
    for method in ["GET", "HEAD"] {
        for _ in 0..20 {
            assert_eq!(
                gateway
                    .client()
                    .send(&Request::new(method, "/"))
                    .await
                    .status,
                200
            );
        }
    }
    assert!(broken.count() > 0);
}

#[tokio::test]
async fn a_write_is_never_sent_twice() {
    for method in ["POST", "PUT", "PATCH", "DELETE"] {
        let one = FakeOrigin::start(|_| Reply::hang_up()).await;
        let two = FakeOrigin::start(|_| Reply::hang_up()).await;
        let gateway = Gateway::general(&[&one, &two]).await;
        for sent in 1..=20 {
            let answer = gateway
                .client()
                .send(&Request::new(method, "/write").body("{}"))
                .await;
            assert_problem(&answer, 502);
            assert_eq!(one.count() + two.count(), sent, "{method}");
        }
    }
}

#[tokio::test]
async fn a_write_is_not_sent_twice_over_a_connection_that_was_used_before() {
    let script = |request: &crate::support::Received| match request.method.as_str() {
        "GET" => unkept("page"),
        _ => Reply::hang_up(),
    };
    let (one, two) = (
        FakeOrigin::start(script).await,
        FakeOrigin::start(script).await,
    );
    let gateway = Gateway::general(&[&one, &two]).await;
    for round in 1..=20 {
        for _ in 0..2 {
            assert_eq!(gateway.client().get("/page").await.status, 200);
        }
        assert_problem(&gateway.client().put("/write").await, 502);
        assert_eq!(one.hits("/write") + two.hits("/write"), round);
    }
}

#[tokio::test]
async fn a_write_goes_to_a_living_origin_when_a_connection_is_refused() {
    let living = FakeOrigin::start(|_| Reply::new(201, "Created")).await;
    let gateway = Gateway::start(&[free_address(), living.address()], None).await;
    for sent in 1..=20 {
        let answer = gateway.client().post("/write", "{\"kept\":true}").await;
        assert_eq!(answer.status, 201, "{answer:#?}");
        assert_eq!(
            (living.count(), &living.last().body[..]),
            (sent, &b"{\"kept\":true}"[..])
        );
    }
}

#[tokio::test]
async fn an_origin_takes_no_more_than_its_share_at_once() {
    let gate = Gate::closed();
    let held = gate.clone();
    let origin = FakeOrigin::start(move |_| unkept("busy").held(&held)).await;
    let gateway = Gateway::with(&[&origin], "[upstream]\nin_flight_max = 3").await;
    let client = gateway.client();
    let asking: Vec<_> = (0..3)
        .map(|at| tokio::spawn(async move { client.get(&format!("/{at}")).await }))
        .collect();
    gate.reached(3).await;
    let shed = client.get("/").await;
    assert_problem(&shed, 503);
    assert!(shed.header("retry-after").is_some(), "{shed:#?}");
    gate.open();
    for answer in asking {
        assert_eq!(answer.await.unwrap().status, 200);
    }
    assert_eq!(
        (client.get("/").await.status, origin.most_in_flight()),
        (200, 3)
    );
}

#[tokio::test]
async fn connections_to_an_origin_are_used_again() {
    let origin = FakeOrigin::start(|_| unkept("page")).await;
    let gateway = Gateway::general(&[&origin]).await;
    for _ in 0..50 {
        gateway.client().get("/").await;
    }
    let mut connections: Vec<_> = origin
        .requests()
        .iter()
        .map(|request| request.connection)
        .collect();
    connections.sort_unstable();
    connections.dedup();
    assert!(
        connections.len() <= 2,
        "50 requests took {} connections",
        connections.len()
    );
}
