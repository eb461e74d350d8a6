//! No order of transactions makes the tailer skip one, or wait for one.

use std::collections::BTreeSet;

use origin::tail::{
    db::{News, Reading, Session},
    position::Position,
};
use sqlx::PgConnection;

use crate::support::{TestApp, execute};

const WRITERS: usize = 3;

/// What a writer does, one step after the other.
const STEPS: [fn(usize) -> String; 3] = [
    // It has a number from here on.
    |_| "begin; select pg_current_xact_id()".to_owned(),
    |writer| format!("select coherence.append(array['writer-{writer}'])"),
    |_| "commit".to_owned(),
];

/// Every order in which the writers' steps can follow each other: whose turn it is, and again.
fn orders(steps_left: [usize; WRITERS]) -> Vec<Vec<usize>> {
    let mut orders = Vec::new();
    for writer in 0..WRITERS {
        let mut left = steps_left;
        if left[writer] > 0 {
            left[writer] -= 1;
            for mut rest in self::orders(left) {
                rest.insert(0, writer);
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

fn groups(reading: &Reading) -> Vec<String> {
    let News::Changes(changes) = &reading.news else {
        panic!("{reading:?}");
    };
    changes
        .iter()
        .flat_map(|change| change.groups.clone())
        .collect()
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
    for _ in 0..WRITERS {
        writers.push(app.owner().await);
    }
    let mut reader = app.owner().await;
    let (mut tried, mut skipped_by_sequence) = (0, 0);
    for order in orders([STEPS.len(); WRITERS]) {
        execute(&mut reader, "truncate coherence.outbox").await;
        let mut position: Position = session.poll(None).await.unwrap().position;
        let mut by_sequence = BySequence::default();
        let mut done = [0; WRITERS];
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
        assert_eq!(told.len(), WRITERS, "told more than once: {order:?}");
        skipped_by_sequence += usize::from(by_sequence.seen != names(&committed));
        tried += 1;
    }
    // 9! / (3! 3! 3!)
    assert_eq!(tried, 1680);
    assert!(skipped_by_sequence > 100, "{skipped_by_sequence}");
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
