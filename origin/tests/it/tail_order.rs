//! No order of transactions makes the tailer skip one, or wait for one.

use std::collections::BTreeSet;

use origin::tail::{
    db::{Change, News, Reading, Session},
    position::Position,
};
use sqlx::PgConnection;

use crate::support::{TestApp, execute};

/// Writers, or two and a reader.
const ACTORS: usize = 3;

/// What a writer does, one step after the other.
const STEPS: [fn(usize) -> String; 3] = [
    // It has a number from here on.
    |_| "begin; select pg_current_xact_id()".to_owned(),
    |writer| format!("select coherence.append(array['writer-{writer}'])"),
    |_| "commit".to_owned(),
];

/// Every order in which the actors' steps can follow each other: whose turn it is, and again.
fn orders(steps_left: [usize; ACTORS]) -> Vec<Vec<usize>> {
    let mut orders = Vec::new();
    for actor in 0..ACTORS {
        let mut left = steps_left;
        if left[actor] > 0 {
            left[actor] -= 1;
            for mut rest in self::orders(left) {
                rest.insert(0, actor);
                orders.push(rest);
            }
        }
    }
    if orders.is_empty() {
        orders.push(Vec::new());
    }
    orders
}

/// A reader that remembers the highest number it has seen, as most outboxes are read.
#[derive(Default)]
struct BySequence {
    highest: i64,
    seen: BTreeSet<String>,
}

impl BySequence {
    async fn poll(&mut self, conn: &mut PgConnection) {
        let query =
            "select xid::text::int8, groups from coherence.outbox where xid::text::int8 > $1";
        let rows: Vec<(i64, Vec<String>)> = sqlx::query_as(query)
            .bind(self.highest)
            .fetch_all(conn)
            .await
            .unwrap();
        for (xid, groups) in rows {
            self.highest = self.highest.max(xid);
            self.seen.extend(groups);
        }
    }
}

fn changes(reading: &Reading) -> &[Change] {
    match &reading.news {
        News::Changes(changes) => changes,
        News::Everything(_) => panic!("{reading:?}"),
    }
}

fn groups(reading: &Reading) -> Vec<String> {
    let changes = changes(reading).iter();
    changes.flat_map(|change| change.groups.clone()).collect()
}

fn names(writers: &BTreeSet<usize>) -> BTreeSet<String> {
    writers
        .iter()
        .map(|writer| format!("writer-{writer}"))
        .collect()
}

#[tokio::test]
async fn every_commit_is_told_once_by_the_next_poll_in_every_order_of_three_transactions() {
    let app = TestApp::start(&[]).await;
    let session = Session::open(app.state.tail.source(), None).await.unwrap();
    let mut writers = Vec::new();
    for _ in 0..ACTORS {
        writers.push(app.owner().await);
    }
    let mut reader = app.owner().await;
    let (mut tried, mut skipped_by_sequence) = (0, 0);
    for order in orders([STEPS.len(); ACTORS]) {
        execute(&mut reader, "truncate coherence.outbox").await;
        let mut position: Position = session.poll(None).await.unwrap().position;
        let mut by_sequence = BySequence::default();
        let mut done = [0; ACTORS];
        let mut committed = BTreeSet::new();
        let mut told = Vec::new();
        for writer in &order {
            execute(&mut writers[*writer], &STEPS[done[*writer]](*writer)).await;
            done[*writer] += 1;
            if done[*writer] == STEPS.len() {
                committed.insert(*writer);
            }
            let reading = session.poll(Some(&position)).await.unwrap();
            told.extend(groups(&reading));
            assert!(reading.position.includes(&position), "{order:?}");
            position = reading.position;
            by_sequence.poll(&mut reader).await;
            // At once, whatever else is open.
            assert_eq!(
                told.iter().cloned().collect::<BTreeSet<_>>(),
                names(&committed),
                "{order:?}"
            );
        }
        assert_eq!(told.len(), ACTORS, "told more than once: {order:?}");
        skipped_by_sequence += usize::from(by_sequence.seen != names(&committed));
        tried += 1;
    }
    // 9! / (3! 3! 3!)
    assert_eq!(tried, 1680);
    assert!(skipped_by_sequence > 100, "{skipped_by_sequence}");
}

/// Polls anywhere among the steps, not after each: what a poll finds has come since the last one whole, or was running then.
#[tokio::test]
async fn every_commit_is_told_once_wherever_polls_come_among_the_steps_of_two_transactions() {
    const POLLER: usize = 2;
    let app = TestApp::start(&[]).await;
    let session = Session::open(app.state.tail.source(), None).await.unwrap();
    let mut writers = [app.owner().await, app.owner().await];
    let mut owner = app.owner().await;
    let (mut tried, mut above_xmax, mut were_running) = (0, 0, 0);
    for mut order in orders([STEPS.len(), STEPS.len(), 3]) {
        execute(&mut owner, "truncate coherence.outbox").await;
        let mut position = session.poll(None).await.unwrap().position;
        let mut done = [0; 2];
        let mut committed = BTreeSet::new();
        let mut told = Vec::new();
        order.push(POLLER);
        for &actor in &order {
            if actor != POLLER {
                execute(&mut writers[actor], &STEPS[done[actor]](actor)).await;
                done[actor] += 1;
                if done[actor] == STEPS.len() {
                    committed.insert(actor);
                }
                continue;
            }
            let reading = session.poll(Some(&position)).await.unwrap();
            for change in changes(&reading) {
                match change.xid >= position.snapshot.xmax() {
                    true => above_xmax += 1,
                    false => were_running += 1,
                }
                told.extend(change.groups.clone());
            }
            assert!(reading.position.includes(&position), "{order:?}");
            position = reading.position;
            let all: BTreeSet<_> = told.iter().cloned().collect();
            assert_eq!(all, names(&committed), "{order:?}");
        }
        assert_eq!(told.len(), 2, "told more than once: {order:?}");
        tried += 1;
    }
    // 9! / (3! 3! 3!)
    assert_eq!(tried, 1680);
    // More were running where other sessions of the server take numbers in between.
    assert!(
        above_xmax > 1000 && were_running > 100,
        "{above_xmax}, {were_running}"
    );
}

#[tokio::test]
async fn a_transaction_that_rolls_back_is_never_told_and_its_savepoints_are_told_with_it() {
    let app = TestApp::start(&[]).await;
    let session = Session::open(app.state.tail.source(), None).await.unwrap();
    let position = session.poll(None).await.unwrap().position;
    let mut writer = app.owner().await;
    execute(
        &mut writer,
        "begin; select coherence.append(array['gone']); rollback",
    )
    .await;
    execute(
        &mut writer,
        "begin; savepoint s; select coherence.append(array['inner']); release s;
         savepoint t; select coherence.append(array['undone']); rollback to t",
    )
    .await;
    let before = session.poll(Some(&position)).await.unwrap();
    assert_eq!(groups(&before), Vec::<String>::new());
    execute(&mut writer, "commit").await;
    let after = session.poll(Some(&before.position)).await.unwrap();
    assert_eq!(groups(&after), ["inner"]);
}

#[tokio::test]
async fn a_poll_finds_its_rows_by_their_index_in_an_outbox_of_many() {
    let app = TestApp::start(&[]).await;
    app.sql(
        "insert into coherence.outbox (slot, xid, groups)
         select n % 3, n::text::xid8, array['old'] from generate_series(3, 200) as n, generate_series(1, 200)",
    )
    .await;
    let session = Session::open(app.state.tail.source(), None).await.unwrap();
    let position = session.poll(None).await.unwrap().position;
    let scans = "select sum(seq_scan)::int8 from pg_stat_user_tables where relname like 'outbox%'";
    let before: i64 = app.value(scans).await;
    app.sql("select coherence.append(array['new'])").await;
    let reading = session.poll(Some(&position)).await.unwrap();
    assert_eq!(groups(&reading), ["new"]);
    // A session's statistics are there when it has ended.
    drop(session);
    let after: i64 = app.value(scans).await;
    assert_eq!(after, before);
}

#[tokio::test]
async fn more_than_is_told_one_by_one_is_everything() {
    use origin::tail::db::{CHANGES_MAX, Reason};
    let app = TestApp::start(&[]).await;
    let session = Session::open(app.state.tail.source(), None).await.unwrap();
    let position = session.poll(None).await.unwrap().position;
    let append = |count| {
        format!(
            "select coherence.append(array(select 'g' || n from generate_series(1, {count}) as n))"
        )
    };
    app.sql(&append(CHANGES_MAX)).await;
    let much = session.poll(Some(&position)).await.unwrap();
    assert_eq!(groups(&much).len(), CHANGES_MAX);
    app.sql(&append(1)).await;
    let too_much = session.poll(Some(&position)).await.unwrap();
    assert_eq!(too_much.news, News::Everything(Reason::Amount));
}
