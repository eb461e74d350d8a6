//! A bound on requests a second, with a small burst.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use super::clock::Moment;

/// The share of a second's permits that may be taken at once.
const BURST_DIVISOR: u32 = 10;

/// Gives so many permits a second: in no second more than that and a tenth.
#[derive(Debug)]
pub struct Bucket {
    /// Nanoseconds for which one permit counts.
    interval: u64,
    /// Nanoseconds that may be taken in advance.
    burst: u64,
    /// The moment up to which permits are taken, in nanoseconds.
    taken_until: AtomicU64,
}

impl Bucket {
    /// A bucket that is full.
    pub fn new(per_second: u32) -> Self {
        let interval = Duration::from_secs(1) / per_second.max(1);
        let burst = interval * (per_second / BURST_DIVISOR).saturating_sub(1);
        let nanoseconds = |length| Moment::from(length).nanoseconds();
        Self {
            interval: nanoseconds(interval),
            burst: nanoseconds(burst),
            taken_until: AtomicU64::new(0),
        }
    }

    /// Takes a permit, if there is one now.
    pub fn take(self: &Arc<Self>, now: Moment) -> Option<Permit> {
        let now = now.nanoseconds();
        let take = |until: u64| {
            let from = until.max(now);
            (from - now <= self.burst).then(|| from.saturating_add(self.interval))
        };
        let taken = self
            .taken_until
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, take);
        taken.is_ok().then(|| Permit {
            bucket: Some(Arc::clone(self)),
        })
    }

    fn give_back(&self) {
        let give_back = |until: u64| Some(until.saturating_sub(self.interval));
        let _ = self
            .taken_until
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, give_back);
    }
}

/// One permit: given back when it is dropped without having been used.
#[derive(Debug)]
pub struct Permit {
    bucket: Option<Arc<Bucket>>,
}

impl Permit {
    /// The request for which it was taken is sent.
    pub fn spend(&mut self) {
        self.bucket = None;
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        if let Some(bucket) = &self.bucket {
            bucket.give_back();
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::collection::vec;
    use proptest::prelude::*;

    use super::*;

    fn at(milliseconds: u64) -> Moment {
        Moment::from(Duration::from_millis(milliseconds))
    }

    fn spent(bucket: &Arc<Bucket>, now: Moment) -> bool {
        let mut permit = bucket.take(now);
        permit.iter_mut().for_each(Permit::spend);
        permit.is_some()
    }

    #[test]
    fn one_a_second_is_one_a_second() {
        let bucket = Arc::new(Bucket::new(1));
        let taken: Vec<_> = (0..5_000).filter(|now| spent(&bucket, at(*now))).collect();
        assert_eq!(taken, [0, 1_000, 2_000, 3_000, 4_000]);
    }

    #[test]
    fn a_permit_that_is_not_used_comes_back() {
        let bucket = Arc::new(Bucket::new(1));
        drop(bucket.take(at(10_000)));
        assert!(spent(&bucket, at(10_000)));
        assert!(!spent(&bucket, at(10_001)));
    }

    proptest! {
        #[test]
        fn no_second_has_more_than_its_share_and_a_tenth(
            per_second in 1..300_u32, pauses in vec(0..20_u64, 1..2_000),
        ) {
            let bucket = Arc::new(Bucket::new(per_second));
            let mut now = 0;
            let mut taken = Vec::new();
            for pause in pauses {
                now += pause;
                if spent(&bucket, at(now)) {
                    taken.push(now);
                }
            }
            let most = per_second + per_second / BURST_DIVISOR + 1;
            for (index, first) in taken.iter().enumerate() {
                let within = taken[index..].iter().take_while(|at| **at < first + 1_000);
                prop_assert!(within.count() <= most as usize);
            }
        }
    }
}
