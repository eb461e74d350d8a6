//! One fetch for many requests: who asks for a key that is being fetched waits for that fetch, unless a purge has come since it
//! began. Such a fetch brings nothing that a later request may have, so that request begins the next one, or joins it.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use http::Extensions;
use parking_lot::Mutex;
use pingora_cache::CacheKey;
use pingora_cache::key::CacheHashKey;
use pingora_cache::lock::{CacheKeyLock, LockStatus, LockStub, Locked, WritePermit};
use rustc_hash::FxHashMap;

use super::herd::Failures;
use super::refresh::Pinned;
use crate::policy::key::Key;
use crate::purge::Sequence;
use crate::store::Store;

/// Fetches of one key and variant at once: beyond it who comes after a purge waits for the newest of them.
const FETCHES_MAX: usize = 4;
/// Independent parts of the table.
const SHARDS: usize = 16;

/// A fetch on its way.
struct Fetch {
    id: u64,
    /// The purge number when it was begun: its origin request goes out later.
    began: Sequence,
    stub: LockStub,
}

impl Fetch {
    /// Whether its end can still be waited for.
    fn is_alive(&self) -> bool {
        !matches!(
            self.stub.0.lock_status(),
            LockStatus::Dangling | LockStatus::AgeTimeout
        )
    }
}

/// Which fetch a permit is for, whatever has become of the request's key.
struct Ticket {
    place: u128,
    id: u64,
}

type Shard = FxHashMap<u128, Vec<Fetch>>;

/// The fetches on their way, the newest of a key last.
pub(super) struct HerdLock {
    shards: [Mutex<Shard>; SHARDS],
    next_id: AtomicU64,
    age: Duration,
    failures: &'static Failures,
    store: Arc<Store>,
}

impl HerdLock {
    /// `age`: a fetch that takes longer holds nobody back.
    pub(super) fn new(age: Duration, failures: &'static Failures, store: Arc<Store>) -> Self {
        Self {
            shards: std::array::from_fn(|_| Mutex::default()),
            next_id: AtomicU64::new(1),
            age,
            failures,
            store,
        }
    }

    fn shard(&self, place: u128) -> &Mutex<Shard> {
        &self.shards[place as usize % SHARDS]
    }

    fn is_overtaken(&self, began: Sequence, key: &CacheKey) -> bool {
        began != self.store.sequence()
            && Key::from_bytes(key.primary_key())
                .is_some_and(|key| self.store.may_be_overtaken(&key, began))
    }

    /// Takes a fetch off the table. When it has brought an answer, with those begun before it: what they bring was purged.
    fn take(&self, ticket: &Ticket, has_answer: bool) -> Vec<Fetch> {
        let mut shard = self.shard(ticket.place).lock();
        let Some(fetches) = shard.get_mut(&ticket.place) else {
            return Vec::new();
        };
        let Some(index) = fetches.iter().position(|fetch| fetch.id == ticket.id) else {
            return Vec::new();
        };
        fetches.remove(index);
        let older = if has_answer {
            fetches.drain(..index).collect()
        } else {
            Vec::new()
        };
        if fetches.is_empty() {
            shard.remove(&ticket.place);
        }
        older
    }
}

impl CacheKeyLock for HerdLock {
    fn lock(&self, key: &CacheKey, stale_writer: bool) -> Locked {
        let place = u128::from_be_bytes(key.combined_bin());
        let mut shard = self.shard(place).lock();
        let fetches = shard.entry(place).or_default();
        fetches.retain(Fetch::is_alive);
        // A background refresh has the permit of the fetch it is, and only looks whether there is one: a purge since then
        // does not make it another.
        let is_refresh = key.extensions.get::<Pinned>().is_some();
        if let Some(newest) = fetches.last()
            && (is_refresh || fetches.len() >= FETCHES_MAX || !self.is_overtaken(newest.began, key))
        {
            return Locked::Read(newest.stub.read_lock());
        }
        let id = self.next_id.fetch_add(1, Ordering::Relaxed);
        let mut extensions = Extensions::new();
        extensions.insert(Arc::new(Ticket { place, id }));
        let (permit, stub) = WritePermit::new(self.age, stale_writer, extensions);
        fetches.push(Fetch {
            id,
            began: self.store.sequence(),
            stub,
        });
        Locked::Write(permit)
    }

    fn release(&self, key: &CacheKey, mut permit: WritePermit, reason: LockStatus) {
        let is_shared =
            reason == LockStatus::TransientError && self.failures.is_shared(&key.primary_bin());
        let reason = match permit.lock_status() {
            LockStatus::AgeTimeout => LockStatus::AgeTimeout, // its waiters have gone already
            _ if is_shared => LockStatus::GiveUp, // all go at once, instead of one after the other
            _ => reason,
        };
        let older = match permit.extensions().get::<Arc<Ticket>>() {
            Some(ticket) => self.take(ticket, reason == LockStatus::Done),
            None => Vec::new(),
        };
        permit.unlock(reason);
        for fetch in older {
            fetch.stub.0.unlock(LockStatus::Done);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use http::StatusCode;
    use pingora_cache::lock::ReadLock;

    use super::*;
    use crate::policy::stale::Failure;
    use crate::purge::Scope;
    use crate::store::Limits;

    const AGE: Duration = Duration::from_secs(20);

    fn herd() -> HerdLock {
        let store = Store::new(Limits {
            budget_bytes: 1 << 20,
            object_bytes_max: 1 << 20,
            variants_max: 8,
            shards: 1,
        });
        let failures = Box::leak(Box::new(Failures::new(AGE)));
        HerdLock::new(AGE, failures, store)
    }

    fn key(path: &str) -> CacheKey {
        let key = Key::new("http", "shop.test", path, None);
        let mut cache_key = CacheKey::new(key.as_bytes(), "");
        cache_key.set_primary_bin_override(key.hash());
        cache_key
    }

    fn begin(herd: &HerdLock, key: &CacheKey) -> WritePermit {
        match herd.lock(key, false) {
            Locked::Write(permit) => permit,
            Locked::Read(_) => panic!("a fetch that would wait"),
        }
    }

    fn waits(herd: &HerdLock, key: &CacheKey) -> ReadLock {
        match herd.lock(key, false) {
            Locked::Read(wait) => wait,
            Locked::Write(mut permit) => {
                permit.unlock(LockStatus::Done);
                panic!("a second fetch")
            }
        }
    }

    fn purge(herd: &HerdLock) {
        herd.store.purge(&[Scope::Path("/page", None)]);
    }

    /// A fetch with one who waits for it, and one after a purge.
    struct Parted {
        herd: HerdLock,
        page: CacheKey,
        first: WritePermit,
        before: ReadLock,
        second: WritePermit,
    }

    fn parted() -> Parted {
        let (herd, page) = (herd(), key("/page"));
        let first = begin(&herd, &page);
        let before = waits(&herd, &page);
        purge(&herd);
        let second = begin(&herd, &page);
        Parted {
            herd,
            page,
            first,
            before,
            second,
        }
    }

    fn is_empty(herd: &HerdLock) -> bool {
        herd.shards.iter().all(|shard| shard.lock().is_empty())
    }

    #[test]
    fn one_key_has_one_fetch_and_after_a_purge_of_it_one_more() {
        let herd = herd();
        let page = key("/page");
        let first = begin(&herd, &page);
        let before = waits(&herd, &page);
        herd.store.purge(&[Scope::Path("/other", None)]);
        drop(waits(&herd, &page));
        purge(&herd);
        let second = begin(&herd, &page);
        let after = waits(&herd, &page);
        herd.release(&page, first, LockStatus::Done);
        assert!(!before.locked() && after.locked());
        herd.release(&page, second, LockStatus::Done);
        assert!(!after.locked());
        assert!(is_empty(&herd));
    }

    #[test]
    fn the_answer_of_a_later_fetch_lets_those_go_who_wait_for_an_earlier_one() {
        let Parted {
            herd,
            page,
            first,
            before,
            second,
        } = parted();
        herd.release(&page, second, LockStatus::Done);
        assert_eq!(before.lock_status(), LockStatus::Done);
        assert!(is_empty(&herd), "the first one holds nobody back any more");
        let third = begin(&herd, &page);
        herd.release(&page, first, LockStatus::TransientError);
        let wait = waits(&herd, &page);
        herd.release(&page, third, LockStatus::Done);
        assert!(!wait.locked() && is_empty(&herd));
    }

    #[test]
    fn a_later_fetch_that_fails_leaves_the_earlier_one_to_its_waiters() {
        let Parted {
            herd,
            page,
            first,
            before,
            second,
        } = parted();
        herd.release(&page, second, LockStatus::TransientError);
        assert!(before.locked());
        herd.release(&page, first, LockStatus::Done);
        assert!(is_empty(&herd));
    }

    #[test]
    fn purges_without_end_begin_no_more_than_a_few_fetches() {
        let herd = herd();
        let page = key("/page");
        let mut permits = Vec::new();
        for _ in 0..FETCHES_MAX {
            permits.push(begin(&herd, &page));
            purge(&herd);
        }
        let wait = waits(&herd, &page);
        let newest = permits.pop().unwrap();
        herd.release(&page, newest, LockStatus::Done);
        assert!(!wait.locked() && is_empty(&herd));
        for permit in permits {
            herd.release(&page, permit, LockStatus::Done);
        }
    }

    #[tokio::test]
    async fn a_fetch_over_its_age_is_replaced_and_keeps_that_status() {
        let mut herd = herd();
        herd.age = Duration::ZERO;
        let page = key("/page");
        let late = begin(&herd, &page);
        waits(&herd, &page).wait().await;
        let next = begin(&herd, &page);
        herd.release(&page, late, LockStatus::Done);
        assert!(!is_empty(&herd));
        herd.release(&page, next, LockStatus::Done);
        assert!(is_empty(&herd));
    }

    #[test]
    fn the_second_failure_in_a_row_lets_everybody_go() {
        let herd = herd();
        let page = key("/page");
        let fail = |expected| {
            let permit = begin(&herd, &page);
            let wait = waits(&herd, &page);
            let hash = page.primary_bin();
            herd.failures.note(
                &hash,
                StatusCode::BAD_GATEWAY,
                Failure::Answered,
                Instant::now(),
            );
            herd.release(&page, permit, LockStatus::TransientError);
            assert_eq!(wait.lock_status(), expected);
        };
        fail(LockStatus::TransientError);
        fail(LockStatus::GiveUp);
    }
}
