//! The stream of changes from outside: over HTTP, on a real Postgres.

use std::{collections::BTreeSet, time::Duration};

use http::Response;
use http_body_util::BodyExt as _;
use hyper::body::Incoming;
use origin::tail::position::Position;
use serde_json::Value;
use stack::TestCluster;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpSocket,
    time::timeout,
};

use crate::support::{DEADLINE, TestApp, execute, fixture, migrate, review};

/// A stream, and what has come over it and was not yet looked at.
pub(crate) struct Events {
    body: Incoming,
    text: String,
}

/// An event of a stream.
#[derive(Clone, Debug)]
pub(crate) struct Event {
    name: String,
    id: Option<String>,
    data: Value,
}

impl Events {
    pub(crate) fn read(response: Response<Incoming>) -> Self {
        assert_eq!(response.status(), 200);
        assert_eq!(response.headers()["content-type"], "text/event-stream");
        assert_eq!(response.headers()["cache-control"], "no-store");
        Self {
            body: response.into_body(),
            text: String::new(),
        }
    }

    async fn open(app: &TestApp) -> Self {
        Self::read(app.open_private("/events", &[]).await)
    }

    async fn resume(app: &TestApp, position: &str) -> Self {
        let fields = [("last-event-id", position)];
        Self::read(app.open_private("/events", &fields).await)
    }

    /// The next event; `None` when the stream has ended.
    async fn try_next(&mut self) -> Option<Event> {
        loop {
            if let Some((event, rest)) = self.text.split_once("\n\n") {
                let event = Event::parse(event);
                self.text = rest.to_owned();
                return Some(event);
            }
            let frame = timeout(DEADLINE, self.body.frame()).await.expect("in time");
            let bytes = frame?.ok()?.into_data().unwrap();
            self.text.push_str(std::str::from_utf8(&bytes).unwrap());
        }
    }

    pub(crate) async fn next(&mut self) -> Event {
        self.try_next().await.expect("an event")
    }

    /// The next event that is more than a position.
    pub(crate) async fn news(&mut self) -> Event {
        loop {
            let event = self.next().await;
            if event.name != "position" {
                return event;
            }
        }
    }

    /// Reads until every one of these groups has been told; nothing else may be.
    pub(crate) async fn expect_groups(&mut self, groups: &[&str]) -> Event {
        let expected: BTreeSet<_> = groups.iter().map(|group| (*group).to_owned()).collect();
        let mut told = BTreeSet::new();
        loop {
            let event = self.news().await;
            told.extend(event.groups());
            assert!(told.is_subset(&expected), "{told:?}");
            if told == expected {
                return event;
            }
        }
    }
}

impl Events {
    /// Reads until a group has been told, among others: what was read from the outbox may come once more.
    async fn until_told(&mut self, group: &str) -> Event {
        loop {
            let event = self.news().await;
            if event.groups().contains(group) {
                return event;
            }
        }
    }
}

impl Event {
    fn parse(text: &str) -> Self {
        let field = |name: &str| {
            let mut lines = text.lines();
            lines.find_map(|line| line.strip_prefix(&format!("{name}: ")).map(str::to_owned))
        };
        Self {
            name: field("event").expect("a name"),
            id: field("id"),
            data: serde_json::from_str(&field("data").expect("data")).expect("JSON"),
        }
    }

    fn groups(&self) -> BTreeSet<String> {
        assert_eq!(self.name, "change", "{self:?}");
        let transactions = self.data["transactions"].as_array().unwrap();
        let groups = transactions
            .iter()
            .flat_map(|one| one["groups"].as_array().unwrap());
        groups
            .map(|group| group.as_str().unwrap().to_owned())
            .collect()
    }

    #[track_caller]
    pub(crate) fn assert_everything(&self, reason: &str) {
        assert_eq!(self.name, "everything", "{self:?}");
        assert_eq!(self.data["reason"], reason, "{self:?}");
    }

    fn position(&self) -> Position {
        self.id
            .as_ref()
            .expect("an id")
            .parse()
            .expect("a position")
    }

    fn id(&self) -> &str {
        self.id.as_ref().expect("an id")
    }
}

/// Tells by itself only what it is woken for.
const NEVER_POLLS: [&str; 2] = ["--tail-busy-ms=3600000", "--tail-idle-ms=3600000"];

async fn append(app: &TestApp, group: &str) {
    app.sql(&format!("select coherence.append(array['{group}'])"))
        .await;
}

#[tokio::test]
async fn a_stream_begins_with_everything_and_tells_each_write_under_the_token_of_its_answer() {
    let app = TestApp::start(&[fixture::REVIEWS_WITH_TIES]).await;
    let mut events = Events::open(&app).await;
    let first = events.next().await;
    first.assert_everything("position");
    let created = app.post("/reviews", &review()).await;
    created.assert_created("/reviews/");
    let told = events
        .expect_groups(&["product-2-reviews", "product-2-meta"])
        .await;
    let token = created.field("cache-coherence-token");
    let (xid, incarnation) = token.split_once('@').unwrap();
    assert_eq!(told.data["transactions"][0]["id"], xid);
    assert!(told.id().ends_with(&format!("@{incarnation}")), "{told:?}");
    let xid: u64 = xid.parse().unwrap();
    assert!(!first.position().snapshot.is_visible(xid));
    assert!(told.position().snapshot.is_visible(xid));
    assert_eq!(told.data["tailer"], first.data["tailer"]);
    assert!(told.data["poll"].as_u64() > first.data["poll"].as_u64());
    for event in [first, told] {
        assert!(
            event.data["at"].as_str().unwrap().ends_with('Z'),
            "{event:?}"
        );
        assert!(
            event.data["wal"].as_str().unwrap().contains('/'),
            "{event:?}"
        );
    }
}

#[tokio::test]
async fn plain_sql_is_told_and_what_concerns_all_rows_is_everything() {
    let app = TestApp::start(&[fixture::REVIEWS_WITH_TIES]).await;
    let mut events = Events::open(&app).await;
    events.next().await.assert_everything("position");
    app.sql("update shop.reviews set helpfulness = 99 where id = 5")
        .await;
    events.expect_groups(&["product-2-reviews"]).await;
    app.sql("set session_replication_role = replica; update shop.reviews set helpfulness = 98 where id = 5").await;
    events.expect_groups(&["product-2-reviews"]).await;
    for statement in [
        "truncate shop.photos",
        "alter table shop.reviews add column more int",
        "drop table shop.photos cascade",
    ] {
        app.sql(statement).await;
        events.news().await.assert_everything("database");
    }
}

#[tokio::test]
async fn an_open_transaction_delays_nobody_and_is_told_when_it_commits() {
    let app = TestApp::start(&[fixture::REVIEWS_WITH_TIES]).await;
    let mut open = app.owner().await;
    execute(&mut open, "begin; select coherence.append(array['late'])").await;
    let mut events = Events::open(&app).await;
    events.next().await.assert_everything("position");
    for _ in 0..3 {
        app.put("/reviews/5/helpful").await;
        events.expect_groups(&["product-2-reviews"]).await;
    }
    execute(&mut open, "commit").await;
    events.expect_groups(&["late"]).await;
}

#[tokio::test]
async fn a_write_is_told_at_once_by_every_origin_without_a_poll_of_its_own_accord() {
    let one = TestApp::start_with(&[fixture::REVIEWS_WITH_TIES], &NEVER_POLLS).await;
    let other = TestApp::beside(&one, &NEVER_POLLS).await;
    let mut streams = [Events::open(&one).await, Events::open(&other).await];
    for events in &mut streams {
        events.next().await.assert_everything("position");
    }
    for _ in 0..3 {
        one.put("/reviews/5/helpful").await;
        for events in &mut streams {
            events.expect_groups(&["product-2-reviews"]).await;
        }
    }
}

#[tokio::test]
async fn a_stream_resumes_on_any_origin_from_memory_or_from_the_outbox() {
    let one = TestApp::start(&[fixture::REVIEWS_WITH_TIES]).await;
    let mut events = Events::open(&one).await;
    let begin = events.next().await;
    for group in ["a", "b"] {
        append(&one, group).await;
    }
    let end = events.expect_groups(&["a", "b"]).await;
    let committed_by: String = app_clock(&one).await;
    // This one has nothing in memory of before its start.
    let other = TestApp::beside(&one, &[]).await;
    for app in [&one, &other] {
        TestApp::until("a pause", async || {
            let passed = format!(
                "select clock_timestamp() > '{committed_by}'::timestamptz + interval '300 ms'"
            );
            app.value(&passed).await
        })
        .await;
        let mut events = Events::resume(app, begin.id()).await;
        let told = events.until_told("a").await;
        let visible_since = told.data["visible_since"].as_str().unwrap();
        assert!(visible_since < committed_by.as_str(), "{told:?}");
        append(app, "c").await;
        events.until_told("c").await;
        let path = format!("/events?position={}", events_end(app).await);
        let mut events = Events::read(app.open_private(&path, &[]).await);
        assert_eq!(
            events.next().await.name,
            "position",
            "nothing that was seen"
        );
        append(app, "d").await;
        events.expect_groups(&["d"]).await;
    }
    let metrics = other.get_private("/metrics").await;
    let from_outbox = "origin_events_resumes_total{from=\"outbox\"} 1";
    assert!(metrics.text().contains(from_outbox), "{}", metrics.text());
    assert!(end.position().includes(&begin.position()));
}

/// The database's clock, as events tell times.
async fn app_clock(app: &TestApp) -> String {
    let clock =
        "select to_char(clock_timestamp() at time zone 'utc', 'YYYY-MM-DD\"T\"HH24:MI:SS.US\"Z\"')";
    app.value(clock).await
}

/// A position of now.
async fn events_end(app: &TestApp) -> String {
    let probe = app.post_private("/events/probe").await;
    probe.json()["position"].as_str().unwrap().to_owned()
}

#[tokio::test]
async fn a_position_that_cannot_be_resumed_from_is_everything() {
    let app = TestApp::start(&[]).await;
    let here = events_end(&app).await;
    let (snapshot, incarnation) = here.split_once('@').unwrap();
    let long = format!("{snapshot}@{}", "a".repeat(100));
    for (position, reason) in [
        ("", "position"),
        ("nonsense", "position"),
        (snapshot, "position"),
        (&long, "position"),
        (&format!("{snapshot}@1{incarnation}"), "incarnation"),
    ] {
        let mut events = Events::resume(&app, position).await;
        let event = events.next().await;
        event.assert_everything(reason);
        append(&app, "after").await;
        events.expect_groups(&["after"]).await;
    }
    let encoded = here
        .replace(':', "%3A")
        .replace('@', "%40")
        .replace(',', "%2C");
    let path = format!("/events?x=1&position={encoded}");
    let mut events = Events::read(app.open_private(&path, &[("last-event-id", "worse")]).await);
    let event = events.next().await;
    assert_ne!(event.name, "everything", "{event:?}");
}

#[tokio::test]
async fn trimmed_history_is_everything_and_nothing_else_is() {
    let app = TestApp::start(&[]).await;
    let old = events_end(&app).await;
    append(&app, "trimmed").await;
    let rotate = "do $$ begin
        while not coherence.rotate('0') loop perform pg_sleep(0.01); end loop;
      end $$";
    for _ in 0..2 {
        app.sql(rotate).await;
    }
    let recent = events_end(&app).await;
    append(&app, "kept").await;
    app.sql(rotate).await;
    // Another origin has to read all of it from the outbox.
    let other = TestApp::beside(&app, &[]).await;
    let mut events = Events::resume(&other, &old).await;
    events.next().await.assert_everything("trimmed");
    let mut events = Events::resume(&other, &recent).await;
    events.expect_groups(&["kept"]).await;
}

#[tokio::test]
async fn a_new_incarnation_is_everything_for_streams_and_positions() {
    let app = TestApp::start(&[]).await;
    let mut events = Events::open(&app).await;
    let before = events.next().await;
    append(&app, "a").await;
    events.expect_groups(&["a"]).await;
    // As crash recovery leaves it.
    app.sql("truncate coherence.incarnation").await;
    let event = events.news().await;
    event.assert_everything("incarnation");
    assert_ne!(event.position().incarnation, before.position().incarnation);
    append(&app, "b").await;
    events.expect_groups(&["b"]).await;
    let mut resumed = Events::resume(&app, before.id()).await;
    resumed.next().await.assert_everything("incarnation");
}

#[tokio::test]
async fn each_event_follows_upon_the_last_that_told_of_a_change() {
    let app = TestApp::start(&[]).await;
    let mut events = Events::open(&app).await;
    let mut last = events.next().await;
    for group in ["a", "b", "c"] {
        // Numbers that are nobody's news move positions, not what changes follow upon.
        app.sql("select pg_current_xact_id()").await;
        events_end(&app).await;
        append(&app, group).await;
        loop {
            let event = events.next().await;
            let since: Position = event.data["since"].as_str().unwrap().parse().unwrap();
            assert!(last.position().includes(&since), "{event:?} after {last:?}");
            let is_change = event.name == "change";
            if is_change {
                last = event;
                break;
            }
        }
    }
    let end = events_end(&app).await;
    let mut resumed = Events::resume(&app, &end).await;
    let since = resumed.next().await.data["since"].clone();
    assert_eq!(since, last.id(), "the last change, not the last poll");
}

#[tokio::test]
async fn the_first_write_after_a_crash_is_of_the_new_incarnation_before_any_poll() {
    let app = TestApp::start_with(&[fixture::REVIEWS_WITH_TIES], &NEVER_POLLS).await;
    let incarnation = |token: &str| token.split_once('@').unwrap().1.to_owned();
    let token = async || {
        let answer = app.put("/reviews/5/helpful").await;
        incarnation(answer.field("cache-coherence-token"))
    };
    let before = token().await;
    assert_eq!(before, token().await);
    app.sql("truncate coherence.incarnation").await;
    let after = token().await;
    assert_ne!(before, after);
    assert_eq!(incarnation(&events_end(&app).await), after);
    // A row that was restored from another server names that one.
    app.sql("update coherence.incarnation set server = '1.00000001'")
        .await;
    assert_ne!(incarnation(&events_end(&app).await), after);
}

#[tokio::test]
async fn after_a_crash_of_the_server_everything_is_out_of_date() {
    let cluster = tokio::task::spawn_blocking(|| {
        let cluster: &'static _ = Box::leak(Box::new(TestCluster::start()));
        let database = cluster.create_database(None);
        migrate(cluster.owner_url(&database));
        (cluster, database)
    });
    let (cluster, database) = cluster.await.unwrap();
    let app = TestApp::start_on(cluster, database, &[], &[]).await;
    let mut events = Events::open(&app).await;
    let before = events.next().await;
    let server = cluster.cluster();
    tokio::task::spawn_blocking(|| server.kill9().and_then(|()| server.start()))
        .await
        .unwrap()
        .unwrap();
    // The same stream goes on.
    events.news().await.assert_everything("incarnation");
    append(&app, "a").await;
    events.expect_groups(&["a"]).await;
    let mut resumed = Events::resume(&app, before.id()).await;
    resumed.next().await.assert_everything("incarnation");
    // One that ends in order forgets nothing.
    tokio::task::spawn_blocking(|| server.stop().and_then(|()| server.start()))
        .await
        .unwrap()
        .unwrap();
    append(&app, "b").await;
    events.expect_groups(&["b"]).await;
    tokio::task::spawn_blocking(|| server.stop_immediate())
        .await
        .unwrap()
        .unwrap();
}

#[tokio::test]
async fn a_probe_answers_with_a_snapshot_of_later_and_the_stream_reaches_it_at_once() {
    let app = TestApp::start_with(&[], &NEVER_POLLS).await;
    let mut events = Events::open(&app).await;
    let mut last = events.next().await;
    for _ in 0..5 {
        append(&app, "a").await;
        let xid: String = app
            .value("select max(xid::text::int8)::text from coherence.outbox")
            .await;
        let probe = app.post_private("/events/probe").await;
        assert_eq!(probe.status, 200);
        assert_eq!(
            probe.field("content-type"),
            "application/json; charset=utf-8"
        );
        let answer = probe.json();
        let position: Position = answer["position"].as_str().unwrap().parse().unwrap();
        assert!(position.snapshot.is_visible(xid.parse().unwrap()));
        assert_eq!(answer["tailer"], last.data["tailer"]);
        let mut told = false;
        while last.data["poll"].as_u64() < answer["poll"].as_u64() {
            last = events.next().await;
            told |= last.name == "change";
        }
        assert!(told, "the change precedes the position");
        // The same when nothing has changed.
        let answer = app.post_private("/events/probe").await.json();
        while last.data["poll"].as_u64() < answer["poll"].as_u64() {
            last = events.next().await;
        }
        assert_eq!(last.name, "position");
    }
}

#[tokio::test]
async fn probes_are_refused_while_changes_go_untold_and_then_everything_is_out_of_date() {
    let app = TestApp::start(&[]).await;
    let mut events = Events::open(&app).await;
    events.next().await.assert_everything("position");
    for (breaking, mending) in [
        (
            "alter table shop.reviews disable trigger coherence_update",
            "alter table shop.reviews enable always trigger coherence_update",
        ),
        // Of which no event trigger tells.
        (
            "alter event trigger coherence_ddl disable",
            "alter event trigger coherence_ddl enable always",
        ),
    ] {
        assert_eq!(app.post_private("/events/probe").await.status, 200);
        app.sql(breaking).await;
        TestApp::until(breaking, async || {
            app.post_private("/events/probe").await.status == 503
        })
        .await;
        let refused = app.post_private("/events/probe").await;
        assert_eq!(refused.field("retry-after"), "1");
        let told = events_told(&mut events, &app, "meanwhile").await;
        app.sql(mending).await;
        TestApp::until(mending, async || {
            app.post_private("/events/probe").await.status == 200
        })
        .await;
        let mut resumed = Events::resume(&app, told.id()).await;
        resumed.news().await.assert_everything("database");
        events = Events::open(&app).await;
    }
}

/// Appends a group, and reads until it is told.
async fn events_told(events: &mut Events, app: &TestApp, group: &str) -> Event {
    append(app, group).await;
    loop {
        let event = events.news().await;
        if event.name == "change" {
            return event;
        }
    }
}

#[tokio::test]
async fn a_quiet_stream_tells_where_it_is() {
    let app = TestApp::start(&[]).await;
    let mut events = Events::open(&app).await;
    let mut last = events.next().await;
    for _ in 0..2 {
        let event = events.next().await;
        assert_eq!(event.name, "position");
        assert!(event.position().includes(&last.position()));
        assert!(event.data["at"].as_str() > last.data["at"].as_str());
        last = event;
    }
}

#[tokio::test]
async fn streams_are_bounded_and_a_reader_that_leaves_makes_room() {
    let app = TestApp::start_with(&[], &["--tail-streams-max=2"]).await;
    let mut one = Events::open(&app).await;
    let mut two = Events::open(&app).await;
    one.next().await;
    two.next().await;
    let refused = app.get_private("/events").await;
    assert_eq!(refused.status, 503);
    assert_eq!(refused.field("retry-after"), "1");
    drop(one);
    TestApp::until("there is room", async || {
        app.open_private("/events", &[]).await.status() == 200
    })
    .await;
}

#[tokio::test]
async fn a_reader_that_falls_behind_is_dropped_and_the_others_are_not() {
    let app = TestApp::start_with(&[], &["--tail-history-bytes=65536"]).await;
    let socket = TcpSocket::new_v4().unwrap();
    socket.set_recv_buffer_size(4096).unwrap();
    let mut slow = socket.connect(app.private).await.unwrap();
    slow.write_all(b"GET /events HTTP/1.1\r\nhost: o\r\nconnection: close\r\n\r\n")
        .await
        .unwrap();
    let mut quick = Events::open(&app).await;
    quick.next().await.assert_everything("position");
    // More than the buffers of both sockets hold.
    for round in 0..12 {
        app.sql(&format!(
            "select coherence.append(array(select repeat('x', 100) || {round} || n from generate_series(1, 10000) as n))"
        ))
        .await;
        let mut groups = 0;
        while groups < 10_000 {
            groups += quick.news().await.groups().len();
        }
    }
    let mut rest = Vec::new();
    timeout(DEADLINE, slow.read_to_end(&mut rest))
        .await
        .unwrap()
        .unwrap();
    let metrics = app.get_private("/metrics").await;
    assert!(
        metrics
            .text()
            .contains("origin_events_dropped_readers_total 1")
    );
    append(&app, "after").await;
    quick.expect_groups(&["after"]).await;
}

#[tokio::test]
async fn what_the_stream_does_is_counted() {
    let app = TestApp::start(&[fixture::REVIEWS_WITH_TIES]).await;
    let mut events = Events::open(&app).await;
    events.next().await;
    app.put("/reviews/5/helpful").await;
    let told = events.expect_groups(&["product-2-reviews"]).await;
    drop(Events::resume(&app, told.id()).await);
    app.post_private("/events/probe").await;
    let metrics = app.get_private("/metrics").await;
    for line in [
        "origin_events_transactions_total 1",
        "origin_events_delay_seconds_count 1",
        "origin_events_resumes_total{from=\"memory\"} 1",
        "origin_events_resumes_total{from=\"nothing\"} 1",
        "origin_events_resumes_total{from=\"outbox\"} 0",
        "origin_events_probes_total 1",
        "origin_events_poll_failures_total 0",
        "origin_events_position_age_ms ",
        "origin_events_polls_total ",
        "origin_events_streams ",
    ] {
        assert!(metrics.text().contains(line), "{line}: {}", metrics.text());
    }
}

#[tokio::test]
async fn an_origin_that_ends_ends_its_streams() {
    let app = TestApp::start(&[]).await;
    let mut events = Events::open(&app).await;
    events.next().await;
    let stopped = timeout(Duration::from_secs(8), app.stop());
    stopped
        .await
        .expect("no longer than without streams")
        .unwrap();
    while let Some(event) = events.try_next().await {
        assert_eq!(event.name, "position");
    }
}
