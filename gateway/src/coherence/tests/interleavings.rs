//! Fills, own writes and the stream under a scheduler that decides at each lock and each counter who goes on.
//!
//! A primary commits, a replica replays later, the stream tells later still. Whatever the order, nobody finds what an
//! answered own write made old, when the stream has told everything, nothing old is left, and for no transaction is purged
//! twice.

use std::sync::atomic::Ordering;
use std::time::Instant as Monotonic;

use bytes::Bytes;
use http::{HeaderMap, StatusCode};
use shuttle::scheduler::{PctScheduler, RandomScheduler, Scheduler};
use shuttle::{Config, Runner, future, thread};

use super::*;
use crate::coherence::follower::Follower;
use crate::policy::key::Key;
use crate::purge::{Journal, Scope};
use crate::store::{Freshness, Head, Limits, NewFill, Object, Store};
use crate::sync::{AtomicU64, explore};

/// Orders tried by each of the two schedulers.
const ORDERS: usize = 1_000;
/// Preemptions that the second one places.
const PREEMPTIONS: usize = 3;
const STACK_BYTES: usize = 512 * 1024;
const GROUP: &str = "g";
const WRITES: u64 = 2;

/// What is done in the wrong order, to show that it would be noticed.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Fault {
    None,
    /// A fill reads what it has to ask for before it notes the newest purge.
    AsksFirst,
    /// A write is purged for before it is pending.
    PurgesFirst,
    /// An event is purged for although fills do not ask for it yet.
    AsksNothing,
    /// A write is purged for while its event is.
    TakesNoTurn,
}

struct World {
    store: Arc<Store>,
    coherence: Arc<Coherence>,
    follower: Follower,
    /// Transactions that have committed, each of which changes the page: their number is its version, and the place in the log.
    primary: AtomicU64,
    /// Transactions that the replica has replayed.
    replica: AtomicU64,
    /// Transactions that the stream has told.
    told: AtomicU64,
    /// The version that the newest answered own write made.
    answered: AtomicU64,
    fault: Fault,
}

impl World {
    fn new(fault: Fault) -> Self {
        let store = Store::new(Limits {
            budget_bytes: 1 << 20,
            object_bytes_max: 1 << 20,
            variants_max: 8,
            shards: 1,
        });
        let coherence = Arc::new(coherence());
        lease(&coherence, 1, 0, 0, at(0));
        let journal = Arc::<Journal>::default();
        let streams = Box::new(Vec::new);
        let follower = Follower::new(Arc::clone(&coherence), Arc::clone(&store), journal, streams);
        Self {
            store,
            coherence,
            follower,
            primary: AtomicU64::new(0),
            replica: AtomicU64::new(0),
            told: AtomicU64::new(0),
            answered: AtomicU64::new(0),
            fault,
        }
    }

    fn key() -> Arc<Key> {
        Arc::new(Key::new("http", "shop", "/page", None))
    }

    fn find(&self) -> Option<u64> {
        let key = Self::key();
        let found = self.store.lookup(&key.hash(), key.as_bytes(), None);
        found.map(|found| version_of(&found))
    }

    /// A fetch by an origin that asks the replica where that has what is needed.
    fn fill(&self) {
        let now = at(1);
        let (began, after) = if self.fault == Fault::AsksFirst {
            let after = self.coherence.after(now);
            (self.store.sequence(), after)
        } else {
            let began = self.store.sequence();
            (began, self.coherence.after(now))
        };
        let replayed = self.replica.load(Ordering::SeqCst);
        let version = match after {
            After::Lsn(Lsn(needed)) if replayed >= needed => replayed,
            After::Lsn(_) | After::Primary => self.primary.load(Ordering::SeqCst),
        };
        let mut headers = HeaderMap::new();
        headers.insert("etag", version.into());
        let writer = self.store.begin_fill(NewFill {
            key: Self::key(),
            variance: None,
            head: Head {
                status: StatusCode::OK,
                headers,
            },
            freshness: Freshness {
                stored_at: Monotonic::now(),
                initial_age: Duration::ZERO,
                fresh_for: Duration::from_secs(60),
                stale_while_revalidate: Duration::ZERO,
                stale_if_error: Duration::ZERO,
                must_revalidate: false,
            },
            tags: vec![GROUP.into()],
            began,
            encodable: false,
        });
        finish(writer);
    }

    fn commit(&self) -> Token {
        token(self.primary.fetch_add(1, Ordering::SeqCst))
    }

    /// A write through this gateway, as `proxy/invalidate.rs` treats its answer.
    fn write(&self) {
        let token = self.commit();
        let groups = [GROUP.into()];
        let purge = || {
            let taken = (self.fault != Fault::TakesNoTurn).then_some(&token);
            let turn = future::block_on(self.coherence.turn(taken));
            let unpurged = self.coherence.unpurged(Some(&token), &groups);
            let scopes: Vec<_> = unpurged.into_iter().map(Scope::Tag).collect();
            if !scopes.is_empty() {
                self.store.purge(&scopes);
            }
            turn
        };
        let early = (self.fault == Fault::PurgesFirst).then(purge);
        self.coherence.begin_write(Some(&token), true, at(1));
        let turn = early.unwrap_or_else(purge);
        self.coherence.purged(Some(&token), &groups);
        drop(turn);
        self.answered.fetch_max(token.xid + 1, Ordering::SeqCst);
    }

    fn replay(&self) {
        let committed = self.primary.load(Ordering::SeqCst);
        self.replica.fetch_max(committed, Ordering::SeqCst);
    }

    /// A poll, and what the follower does with its event.
    fn tell(&self) {
        let (told, committed) = (
            self.told.load(Ordering::SeqCst),
            self.primary.load(Ordering::SeqCst),
        );
        let transactions: Vec<_> = (told..committed)
            .map(|id| format!(r#"{{"id":"{id}","groups":["{GROUP}"]}}"#))
            .collect();
        let wal = if self.fault == Fault::AsksNothing {
            0
        } else {
            committed
        };
        let message = Message {
            event: "change".to_owned(),
            id: Some(format!("{committed}:{committed}:@7.1.a")),
            data: format!(
                r#"{{"tailer":"t","poll":{},"wal":"0/{wal:X}","since":"{told}:{told}:@7.1.a","transactions":[{}]}}"#,
                committed + 2,
                transactions.join(",")
            ),
        };
        future::block_on(self.follower.hear(&message)).unwrap();
        self.told.fetch_max(committed, Ordering::SeqCst);
    }

    /// A request: what it finds is no older than the last answered own write.
    fn read(&self) {
        let floor = self.answered.load(Ordering::SeqCst);
        if let Some(version) = self.find() {
            assert!(
                version >= floor,
                "found {version} after the answer of {floor}"
            );
        }
    }

    fn settle(&self) {
        self.tell();
        let committed = self.primary.load(Ordering::SeqCst);
        if let Some(version) = self.find() {
            assert_eq!(version, committed, "old, and nothing will take it out");
        }
        let purges = self.store.sequence();
        assert!(
            purges <= committed,
            "{purges} purges for {committed} transactions"
        );
        // Nothing keeps the next fill out.
        self.fill();
        assert_eq!(self.find(), Some(committed));
    }
}

fn finish(mut writer: crate::store::FillWriter) {
    writer.write(Bytes::from_static(b"page")).unwrap();
    writer.finish();
}

fn version_of(object: &Object) -> u64 {
    object.head.headers["etag"]
        .to_str()
        .unwrap()
        .parse()
        .unwrap()
}

fn run(scheduler: impl Scheduler + 'static, fault: Fault) {
    let mut config = Config::new();
    config.stack_size = STACK_BYTES;
    explore(|| {
        Runner::new(scheduler, config).run(move || race(&Arc::new(World::new(fault))));
    });
}

fn race(world: &Arc<World>) {
    world.fill();
    let spawn = |act: fn(&World)| {
        let world = Arc::clone(world);
        thread::spawn(move || act(&world))
    };
    let threads = [
        spawn(|world| (0..2).for_each(|_| world.fill())),
        spawn(|world| (0..WRITES).for_each(|_| world.write())),
        spawn(|world| {
            world.commit();
        }),
        spawn(|world| (0..2).for_each(|_| world.tell())),
        spawn(|world| {
            world.replay();
            (0..3).for_each(|_| world.read());
        }),
    ];
    threads
        .into_iter()
        .for_each(|thread| thread.join().unwrap());
    world.read();
    world.settle();
}

fn try_orders(fault: Fault) {
    run(RandomScheduler::new_from_seed(1, ORDERS), fault);
    run(PctScheduler::new_from_seed(1, PREEMPTIONS, ORDERS), fault);
}

#[test]
fn no_order_of_fills_writes_and_events_leaves_what_is_old() {
    try_orders(Fault::None);
}

/// The order of steps is not there for show: each of them done in another order is found out.
#[test]
fn the_orders_tried_would_find_steps_that_are_out_of_order() {
    for fault in [
        Fault::AsksFirst,
        Fault::PurgesFirst,
        Fault::AsksNothing,
        Fault::TakesNoTurn,
    ] {
        let tried = std::panic::catch_unwind(move || try_orders(fault));
        assert!(tried.is_err(), "no order was found that breaks the rule");
    }
}
