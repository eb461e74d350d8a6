//! Origins say on their private listener whether they can serve, and what happens when none of them can.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use crate::support::{
    Answer, FakeOrigin, Gateway, Received, Reply, Request, assert_hit, free_address, get, until,
};

/// For an answer while no origin can serve.
const PROMPT: Duration = Duration::from_millis(100);
/// For everything to be as before, once origins can.
const RECOVERY: Duration = Duration::from_secs(1);
/// More than an origin's answers are judged by, so that their errors count against it.
const ASKED: usize = 60;

/// An origin with its two listeners.
struct Origin {
    public: FakeOrigin,
    private: FakeOrigin,
}

impl Origin {
    /// It can serve as long as its database is there; without it the public listener answers 503 at once.
    async fn before(database: &Arc<AtomicBool>) -> Self {
        let (for_public, for_private) = (Arc::clone(database), Arc::clone(database));
        let public = FakeOrigin::start(move |request| {
            if for_public.load(Ordering::SeqCst) {
                page(request)
            } else {
                unkept(503, "no database").header("Retry-After", "3")
            }
        });
        let private = FakeOrigin::start(move |_| match for_private.load(Ordering::SeqCst) {
            true => unkept(200, "ready"),
            false => unkept(503, "no database"),
        });
        Self {
            public: public.await,
            private: private.await,
        }
    }

    fn node(&self) -> String {
        let (address, private) = (self.public.address(), self.private.address());
        format!("{{ address = \"{address}\", private = \"{private}\" }}")
    }
}

fn unkept(status: u16, body: &'static str) -> Reply {
    Reply::new(status, body).header("Cache-Control", "no-store")
}

fn page(request: &Received) -> Reply {
    match request.target.as_str() {
        "/fresh" => Reply::public("fresh", &[]),
        "/stale" => Reply::public("stale", &[]).header("Age", "86401"),
        _ if request.method == "POST" => unkept(201, "written"),
        _ => unkept(200, "page"),
    }
}

const CHECKS: &str = "[upstream.health]\nprivate_path = \"/readyz\"\ninterval = \"100ms\"\n";

async fn gateway_before(origins: &[Origin], more: &str) -> Gateway {
    let nodes: Vec<_> = origins.iter().map(Origin::node).collect();
    let settings = format!("[upstream]\nnodes = [{}]\n{CHECKS}{more}", nodes.join(", "));
    Gateway::start(&[], Some(settings)).await
}

/// Returns when this is the verdict on every node.
async fn all_are(gateway: &Gateway, healthy: bool) {
    until(&format!("healthy is {healthy} of every origin"), || async {
        let status = gateway.status().await;
        let mut nodes = status["nodes"].as_array().expect("nodes").iter();
        nodes.all(|node| node["healthy"] == healthy)
    })
    .await;
}

fn write() -> Request {
    Request::new("POST", "/write").body("{}")
}

/// Asks many times; every answer, and the time that half of them took less than.
async fn ask(gateway: &Gateway, request: &Request) -> (Vec<Answer>, Duration) {
    let mut answers = Vec::new();
    let mut times = Vec::new();
    for _ in 0..ASKED {
        let began = Instant::now();
        answers.push(gateway.client().send(request).await);
        times.push(began.elapsed());
    }
    times.sort_unstable();
    (answers, times[ASKED / 2])
}

#[tokio::test]
async fn while_no_origin_can_serve_what_is_kept_is_served_all_else_is_refused_at_once_and_recovers()
{
    let database = Arc::new(AtomicBool::new(true));
    let mut origins = Vec::new();
    for _ in 0..3 {
        origins.push(Origin::before(&database).await);
    }
    let gateway = gateway_before(&origins, "").await;
    let client = gateway.client();
    for target in ["/fresh", "/stale"] {
        assert_eq!(client.get(target).await.status, 200);
    }
    database.store(false, Ordering::SeqCst);
    all_are(&gateway, false).await;

    assert_hit(&client.get("/fresh").await);
    let (covered, took) = ask(&gateway, &get("/stale")).await;
    assert!(took < PROMPT, "{took:?}");
    for answer in covered {
        assert_eq!(
            (answer.status, answer.text()),
            (200, "stale"),
            "{answer:#?}"
        );
        assert!(answer.cache_status().contains("stale-if-error"));
    }
    for request in [get("/page"), write()] {
        let (refused, took) = ask(&gateway, &request).await;
        assert!(took < PROMPT, "{took:?}");
        for answer in refused {
            assert_eq!(answer.status, 503, "{answer:#?}");
            assert!(answer.header("retry-after").is_some(), "{answer:#?}");
        }
    }

    database.store(true, Ordering::SeqCst);
    let began = Instant::now();
    for request in [write(), get("/page")] {
        let answer = client.send(&request).await;
        assert!(answer.status < 300, "the first one already: {answer:#?}");
    }
    all_are(&gateway, true).await;
    assert!(began.elapsed() < RECOVERY, "{:?}", began.elapsed());
    let before: Vec<_> = origins.iter().map(|one| one.public.count()).collect();
    until("every origin serves again", || async {
        assert_eq!(client.get("/page").await.status, 200);
        let mut counts = origins.iter().zip(&before);
        counts.all(|(one, before)| one.public.count() > *before)
    })
    .await;
}

#[tokio::test]
async fn an_origin_that_is_not_ready_gets_no_request_until_it_is() {
    let ready = Arc::new(AtomicBool::new(true));
    let unready = Arc::new(AtomicBool::new(true));
    let origins = [Origin::before(&ready).await, Origin::before(&unready).await];
    let gateway = gateway_before(&origins, "").await;
    unready.store(false, Ordering::SeqCst);
    until("it is passed over", || async {
        gateway.status().await["nodes"][1]["healthy"] == false
    })
    .await;
    let before = origins[1].public.count();
    for request in [get("/page"), write()] {
        let (answers, _) = ask(&gateway, &request).await;
        assert!(answers.iter().all(|answer| answer.status < 300));
    }
    assert_eq!(origins[1].public.count(), before);
    unready.store(true, Ordering::SeqCst);
    until("it serves", || async {
        gateway.client().get("/page").await;
        origins[1].public.count() > before
    })
    .await;
}

#[tokio::test]
async fn a_path_of_private_listeners_is_asked_nowhere_else() {
    let database = Arc::new(AtomicBool::new(true));
    let origins = [Origin::before(&database).await];
    let plain = FakeOrigin::start(|_| unkept(404, "no such page")).await;
    let dead = free_address();
    let nodes = [origins[0].node(), format!("\"{}\"", plain.address())];
    let nodes = format!("{}, \"{dead}\"", nodes.join(", "));
    let settings = format!("[upstream]\nnodes = [{nodes}]\n{CHECKS}");
    let gateway = Gateway::start(&[], Some(settings)).await;
    until("a connection is the check of the others", || async {
        gateway.status().await["nodes"][2]["healthy"] == false
    })
    .await;
    until("the private listener was asked", || async {
        origins[0].private.hits("/readyz") > 2
    })
    .await;
    let nodes = gateway.status().await["nodes"].clone();
    assert_eq!(
        (&nodes[0]["healthy"], &nodes[1]["healthy"]),
        (&true.into(), &true.into())
    );
    assert_eq!((plain.count(), origins[0].public.count()), (0, 0));
}

#[tokio::test]
async fn which_statuses_are_healthy_is_for_the_settings_to_say() {
    let empty = FakeOrigin::start(|_| unkept(204, "")).await;
    let plain = FakeOrigin::start(|_| unkept(200, "ok")).await;
    let settings =
        "[upstream.health]\npath = \"/healthz\"\ninterval = \"20ms\"\nstatus = [204, 429]\n";
    let gateway = Gateway::with(&[&empty, &plain], settings).await;
    until("200 is none of them", || async {
        gateway.status().await["nodes"][1]["healthy"] == false
    })
    .await;
    until("the other was asked", || async {
        empty.hits("/healthz") > 3
    })
    .await;
    assert_eq!(gateway.status().await["nodes"][0]["healthy"], true);
}
