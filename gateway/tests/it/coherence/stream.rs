//! The stream: what it tells is purged, where it goes on, and what happens when it cannot.

use std::sync::Arc;

use serde_json::json;

use super::{
    asked_after, caught_up, following, leased, metric, pages, settings, standing, unleased, write,
};
use crate::support::{
    FakeOrigin, FakeTail, Gate, Gateway, Probes, Reply, Request, assert_hit, assert_miss, get,
    until,
};

#[tokio::test]
async fn a_change_takes_its_groups_and_nothing_else() {
    let (origin, tail) = (pages().await, FakeTail::start("a").await);
    let gateway = following(&origin, &[&tail], "").await;
    let client = gateway.client();
    for target in ["/a", "/b", "/c"] {
        assert_miss(&client.get(target).await);
        assert_hit(&client.get(target).await);
    }
    tail.commit(&["a", "b"]);
    caught_up(&gateway, &tail).await;
    assert_miss(&client.get("/a").await);
    assert_miss(&client.get("/b").await);
    assert_hit(&client.get("/c").await);
    assert!(metric(&gateway, "gateway_coherence_transactions_total").await >= 1.0);
    assert!(metric(&gateway, "gateway_coherence_delay_seconds_count").await >= 1.0);
}

#[tokio::test]
async fn the_status_tells_the_delay_of_changes_and_what_became_of_streams() {
    let (origin, tail) = (pages().await, FakeTail::start("a").await);
    let gateway = following(&origin, &[&tail], "").await;
    let before = standing(&gateway).await;
    assert_eq!(
        (&before["delay"]["count"], &before["delay"]["p50_ms"]),
        (&0.into(), &json!(null))
    );
    assert_eq!(
        (&before["beginnings"], &before["expirations"]),
        (&1.into(), &1.into())
    );
    tail.commit(&["a"]);
    caught_up(&gateway, &tail).await;
    tail.cut();
    tail.commit(&["b"]);
    caught_up(&gateway, &tail).await;
    let told = standing(&gateway).await;
    let delay = &told["delay"];
    assert_eq!(
        (&delay["count"], &told["transactions"]),
        (&2.into(), &2.into()),
        "{told}"
    );
    let lengths = ["mean_ms", "p50_ms", "p99_ms", "max_ms"].map(|name| delay[name].as_f64());
    assert!(lengths.iter().all(Option::is_some), "{told}");
    assert!(
        lengths[1] <= lengths[2] && lengths[2] <= lengths[3],
        "{told}"
    );
    assert_eq!(
        (&told["resumes"], &told["stream_ends"]),
        (&1.into(), &1.into()),
        "{told}"
    );
    assert_eq!(
        (&told["expirations"], &told["lease_losses"]),
        (&1.into(), &0.into()),
        "{told}"
    );
    tail.fall_silent();
    unleased(&gateway).await;
    until("the lost lease is counted", || async {
        standing(&gateway).await["lease_losses"] == 1
    })
    .await;
}

#[tokio::test]
async fn a_fill_that_a_change_overtakes_is_never_found() {
    let gate = Gate::closed();
    let held = gate.clone();
    let origin = FakeOrigin::start(move |_| Reply::public("old", &["g"]).held(&held)).await;
    let tail = FakeTail::start("a").await;
    let gateway = following(&origin, &[&tail], "").await;
    let client = gateway.client();
    let before = tokio::spawn(async move { client.get("/page").await });
    gate.reached(1).await;
    tail.commit(&["g"]);
    caught_up(&gateway, &tail).await;
    gate.open();
    assert_eq!(
        before.await.unwrap().text(),
        "old",
        "it came before the change"
    );
    assert_miss(&client.get("/page").await);
    assert_eq!(origin.count(), 2);
}

#[tokio::test]
async fn an_own_write_costs_one_fetch_whichever_comes_first_its_answer_or_its_event() {
    let (origin, tail) = (pages().await, FakeTail::start("a").await);
    let gateway = following(&origin, &[&tail], "").await;
    let client = gateway.client();
    client.get("/g").await;
    for round in 0..20 {
        let token = tail.next();
        let event_first = round % 2 == 0;
        if event_first {
            tail.commit(&["g"]);
            caught_up(&gateway, &tail).await;
            assert_miss(&client.get("/g").await);
        }
        client.send(&write("g", &token)).await;
        if !event_first {
            assert_miss(&client.get("/g").await);
            tail.commit(&["g"]);
            caught_up(&gateway, &tail).await;
        }
        assert_hit(&client.get("/g").await);
    }
    tail.commit(&["g"]);
    caught_up(&gateway, &tail).await;
    assert_miss(&client.get("/g").await);
}

#[tokio::test]
async fn readers_who_never_pause_cost_one_fetch_a_write_though_its_answer_and_its_event_come_at_once()
 {
    const WRITES: usize = 1_000;
    let tail = Arc::new(FakeTail::start("a").await);
    let commits = Arc::clone(&tail);
    let origin = FakeOrigin::start(move |request| {
        if request.method == "GET" {
            return Reply::public("page", &["g"]);
        }
        let token = commits.commit(&["g"]);
        Reply::new(201, "made")
            .header("Cache-Control", "private, no-store")
            .header("Cache-Group-Invalidation", "\"g\"")
            .header("Cache-Coherence-Token", &token)
    })
    .await;
    let gateway = following(&origin, &[&tail], "").await;
    let client = gateway.client();
    assert_miss(&client.get("/g").await);
    let readers: Vec<_> = (0..4)
        .map(|_| {
            tokio::spawn(async move {
                let mut connection = client.connect().await;
                loop {
                    connection.send(&get("/g")).await;
                }
            })
        })
        .collect();
    let mut writer = client.connect().await;
    for _ in 0..WRITES {
        let write = Request::new("POST", "/write").body("{}");
        assert_eq!(writer.send(&write).await.status, 201);
    }
    caught_up(&gateway, &tail).await;
    readers.iter().for_each(tokio::task::JoinHandle::abort);
    let fetches = origin.hits("/g") - 1; // without the one before the first write
    assert!(fetches <= WRITES, "{fetches} fetches for {WRITES} writes");
}

#[tokio::test]
async fn fills_ask_for_what_the_stream_has_told_and_for_the_primary_while_an_own_write_is_not() {
    let (origin, tail) = (pages().await, FakeTail::start("a").await);
    let gateway = following(&origin, &[&tail], "").await;
    let client = gateway.client();
    let forged = get("/1").header("Cache-Coherence-After", "0/0");
    client.send(&forged).await;
    assert_eq!(asked_after(&origin), Some(tail.wal()));
    tail.commit(&["x"]);
    caught_up(&gateway, &tail).await;
    client.get("/2").await;
    assert_eq!(asked_after(&origin), Some(tail.wal()));

    let token = tail.next();
    client.send(&write("g", &token)).await;
    client.get("/3").await;
    assert_eq!(asked_after(&origin).as_deref(), Some("primary"));
    assert_eq!(standing(&gateway).await["pending_writes"], 1);
    tail.commit(&["g"]);
    caught_up(&gateway, &tail).await;
    client.get("/4").await;
    assert_eq!(asked_after(&origin), Some(tail.wal()));
    assert_eq!(standing(&gateway).await["pending_writes"], 0);
}

#[tokio::test]
async fn without_the_section_nothing_is_asked_for() {
    let origin = pages().await;
    let gateway = Gateway::general(&[&origin]).await;
    let request = get("/1").header("Cache-Coherence-After", "0/0");
    gateway.client().send(&request).await;
    assert_eq!(asked_after(&origin), None);
    assert!(standing(&gateway).await.is_null());
}

#[tokio::test]
async fn a_stream_that_was_cut_goes_on_where_it_was() {
    let (origin, tail) = (pages().await, FakeTail::start("a").await);
    let gateway = following(&origin, &[&tail], "").await;
    let client = gateway.client();
    client.get("/a").await;
    client.get("/b").await;
    caught_up(&gateway, &tail).await;
    let position = tail.position();
    tail.cut();
    tail.commit(&["a"]);
    caught_up(&gateway, &tail).await;
    assert_eq!(tail.begun(), [None, Some(position)]);
    assert_miss(&client.get("/a").await);
    assert_hit(&client.get("/b").await);
    assert_eq!(
        metric(
            &gateway,
            "gateway_coherence_streams_total{from=\"position\"}"
        )
        .await,
        1.0
    );
}

#[tokio::test]
async fn another_origin_goes_on_from_the_same_position() {
    let (origin, first, second) = (
        pages().await,
        FakeTail::start("a").await,
        FakeTail::start("b").await,
    );
    let gateway = following(&origin, &[&first, &second], "").await;
    let client = gateway.client();
    client.get("/a").await;
    client.get("/b").await;
    let on_first = standing(&gateway).await["following"] == first.address().to_string();
    let (followed, other) = if on_first {
        (first, second)
    } else {
        (second, first)
    };
    followed.commit(&["x"]);
    caught_up(&gateway, &followed).await;
    let position = followed.position();
    other.catch_up(&followed);
    other.commit(&["a"]);
    followed.stop().await;
    caught_up(&gateway, &other).await;
    assert_eq!(other.begun(), [Some(position)]);
    assert_miss(&client.get("/a").await);
    assert_hit(&client.get("/b").await);
    leased(&gateway).await;
}

#[tokio::test]
async fn history_that_is_gone_and_a_server_that_crashed_make_everything_stale() {
    for reason in ["trimmed", "incarnation"] {
        let (origin, tail) = (pages().await, FakeTail::start("a").await);
        let gateway = following(&origin, &[&tail], "").await;
        let client = gateway.client();
        client.get("/a").await;
        assert_hit(&client.get("/a").await);
        if reason == "trimmed" {
            tail.trim();
            tail.cut();
            tail.commit(&["x"]);
        } else {
            tail.crash();
        }
        caught_up(&gateway, &tail).await;
        let read = client.get("/a").await;
        assert!(read.cache_status().contains("fwd=stale"), "{read:#?}");
        assert_eq!(read.text(), "1");
        assert_eq!(standing(&gateway).await["everything"]["reason"], reason);
        let name = format!("gateway_coherence_everything_total{{reason=\"{reason}\"}}");
        assert_eq!(metric(&gateway, &name).await, 1.0);
    }
}

/// After a load the old shop used to cover for an origin that failed.
#[tokio::test]
async fn what_has_changed_for_certain_covers_for_no_origin_that_fails() {
    for reason in ["database", "amount"] {
        let (origin, tail) = (pages().await, FakeTail::start("a").await);
        let gateway = following(&origin, &[&tail], "").await;
        let client = gateway.client();
        client.get("/a").await;
        assert_hit(&client.get("/a").await);
        tail.everything(reason);
        caught_up(&gateway, &tail).await;
        let read = client.get("/a").await;
        assert_miss(&read);
        assert!(!read.cache_status().contains("fwd=stale"), "{read:#?}");
        assert_eq!(standing(&gateway).await["everything"]["reason"], reason);
    }
}

#[tokio::test]
async fn an_event_that_is_lost_on_its_way_makes_everything_stale_when_the_next_comes() {
    let (origin, tail) = (pages().await, FakeTail::start("a").await);
    let gateway = following(&origin, &[&tail], "").await;
    let client = gateway.client();
    client.get("/a").await;
    assert_hit(&client.get("/a").await);
    tail.commit_in_silence(&["a"]);
    caught_up(&gateway, &tail).await;
    let read = client.get("/a").await;
    assert!(read.cache_status().contains("fwd=stale"), "{read:#?}");
    assert_eq!(standing(&gateway).await["everything"]["reason"], "missed");
    let name = "gateway_coherence_everything_total{reason=\"missed\"}";
    assert_eq!(metric(&gateway, name).await, 1.0);
    assert_hit(&client.get("/a").await);
    assert_eq!(tail.begun().len(), 1, "the stream goes on");
    leased(&gateway).await;
}

#[tokio::test]
async fn an_origin_that_hangs_is_left_for_another() {
    hangs(FakeTail::fall_silent).await;
}

#[tokio::test]
async fn a_stream_that_is_silent_is_left_for_another() {
    hangs(|tail| tail.probes(Probes::Untold)).await;
}

async fn hangs(hang: impl Fn(&FakeTail)) {
    let (origin, first, second) = (
        pages().await,
        FakeTail::start("a").await,
        FakeTail::start("b").await,
    );
    let gateway = following(&origin, &[&first, &second], "").await;
    let on_first = standing(&gateway).await["following"] == first.address().to_string();
    let (followed, other) = if on_first {
        (first, second)
    } else {
        (second, first)
    };
    hang(&followed);
    until("the other origin is followed", || async {
        standing(&gateway).await["following"] == other.address().to_string()
    })
    .await;
    leased(&gateway).await;
    assert!(other.begun()[0].is_some());
}

#[tokio::test]
async fn what_cannot_be_understood_makes_everything_stale_and_begins_anew() {
    for text in [
        "event: change\nid: 1:1:@a\ndata: {no JSON}\n\n",
        "event: everything\ndata: {}\n\n",
        "data: \u{fffd}\u{0}\nevent: position\nid: nonsense\n\n",
    ] {
        let (origin, tail) = (pages().await, FakeTail::start("a").await);
        let gateway = following(&origin, &[&tail], "").await;
        let client = gateway.client();
        client.get("/a").await;
        tail.say(text);
        until("the stream begins anew", || async {
            tail.begun() == [None, None]
        })
        .await;
        until("everything was made stale twice", || async {
            let name = "gateway_coherence_everything_total{reason=\"position\"}";
            metric(&gateway, name).await >= 2.0
        })
        .await;
        assert_eq!(client.get("/a").await.text(), "1", "{text}");
    }
}

#[tokio::test]
async fn events_of_other_kinds_and_comments_say_nothing() {
    let (origin, tail) = (pages().await, FakeTail::start("a").await);
    let gateway = following(&origin, &[&tail], "").await;
    let client = gateway.client();
    client.get("/a").await;
    tail.say(": a comment\n\nevent: hello\nid: 5\ndata: anything\n\n");
    tail.commit(&["x"]);
    caught_up(&gateway, &tail).await;
    assert_hit(&client.get("/a").await);
    assert_eq!(tail.begun().len(), 1);
}

#[tokio::test]
async fn a_change_is_named_when_somebody_asks_why_an_entry_is_gone() {
    let (origin, tail) = (pages().await, FakeTail::start("a").await);
    let gateway = following(&origin, &[&tail], "").await;
    gateway.client().get("/a").await;
    tail.commit(&["a"]);
    caught_up(&gateway, &tail).await;
    let told = gateway
        .call(get("/explain?url=http://shop.test/a"))
        .await
        .json();
    let details = &told["keys"][0]["last_purge"]["details"];
    assert_eq!(
        (&details["cause"], &details["names"]),
        (&json!("stream"), &json!("tag a"))
    );
}

#[tokio::test]
async fn the_private_listeners_of_the_nodes_are_followed_unless_others_are_named() {
    let (origin, tail) = (pages().await, FakeTail::start("a").await);
    let node = format!(
        "[upstream]\nnodes = [{{ address = \"{}\", private = \"{}\" }}]\n[coherence]\n",
        origin.address(),
        tail.address()
    );
    let gateway = Gateway::start(&[], Some(node)).await;
    leased(&gateway).await;
    assert_eq!(
        standing(&gateway).await["following"],
        tail.address().to_string()
    );
}

#[tokio::test]
async fn a_gateway_whose_origins_tell_nothing_yet_serves_all_the_same() {
    let origin = pages().await;
    let tail = FakeTail::start("a").await;
    let settings = settings(&[&tail], "fresh_without_lease = \"1m\"");
    tail.stop().await;
    let gateway = Gateway::with(&[&origin], &settings).await;
    let client = gateway.client();
    assert_eq!(client.get("/a").await.status, 200);
    let read = client.get("/a").await;
    assert_hit(&read);
    assert!(read.cache_status().contains("detail=no-lease"), "{read:#?}");
    assert_eq!(asked_after(&origin).as_deref(), Some("primary"));
}

#[tokio::test]
async fn groups_of_the_database_are_those_of_every_host_whoever_tells_of_the_change() {
    let (origin, tail) = (pages().await, FakeTail::start("a").await);
    let gateway = following(&origin, &[&tail], "").await;
    let client = gateway.client();
    let on = |host: &str| get("/g").header("Host", host);
    let hosts = ["one.test", "two.test"];
    for host in hosts {
        client.send(&on(host)).await;
    }
    tail.commit(&["g"]);
    caught_up(&gateway, &tail).await;
    for host in hosts {
        assert_miss(&client.send(&on(host)).await);
    }
    // An own write purges for its event, which then purges nothing: so it is of every host too.
    client
        .send(&write("g", &tail.next()).header("Host", "one.test"))
        .await;
    tail.commit(&["g"]);
    caught_up(&gateway, &tail).await;
    for host in hosts {
        assert_miss(&client.send(&on(host)).await);
    }
}

#[tokio::test]
async fn an_explanation_says_what_the_lack_of_a_lease_means() {
    for (mode, verdict) in [("available", "revalidate"), ("strict", "pass")] {
        let (origin, tail) = (pages().await, FakeTail::start("a").await);
        let more = format!("lease = \"500ms\"\nmode = \"{mode}\"\nfresh_without_lease = \"0ms\"");
        let gateway = following(&origin, &[&tail], &more).await;
        gateway.client().get("/a").await;
        assert_eq!(gateway.verdict("/a").await, "hit");
        tail.probes(Probes::Refused);
        unleased(&gateway).await;
        assert_eq!(gateway.verdict("/a").await, verdict, "{mode}");
    }
}
