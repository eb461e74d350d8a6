//! How many further attempts all requests together may make: a failing origin must not be asked twice as much as before.

use std::sync::atomic::{AtomicU64, Ordering};

/// One attempt, in the unit of the account.
const ATTEMPT: u64 = 100;

/// An account: every request pays its percentage in, every further attempt takes a whole one out.
#[derive(Debug)]
pub(super) struct RetryBudget {
    /// Hundredths of attempts.
    account: AtomicU64,
    percent: u64,
    most: u64,
}

impl RetryBudget {
    /// A full account that holds `attempts_max` attempts: as many as may be lost at once with one origin.
    pub(super) fn new(percent: u32, attempts_max: usize) -> Self {
        let most = if percent == 0 {
            0
        } else {
            attempts_max as u64 * ATTEMPT
        };
        Self {
            account: AtomicU64::new(most),
            percent: u64::from(percent),
            most,
        }
    }

    /// A request makes its first attempt.
    pub(super) fn pay(&self) {
        let filled =
            |account: u64| (account < self.most).then(|| self.most.min(account + self.percent));
        // A full account takes nothing more.
        let _ = self
            .account
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, filled);
    }

    /// Whether a request may make a further attempt; then it is paid for.
    pub(super) fn take(&self) -> bool {
        self.account
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |account| {
                account.checked_sub(ATTEMPT)
            })
            .is_ok()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn the_attempts_lost_with_one_origin_are_all_made_again_and_then_only_a_share() {
        let budget = RetryBudget::new(20, 3);
        assert_eq!((0..5).filter(|_| budget.take()).count(), 3);
        for _ in 0..5 {
            assert!(!budget.take());
            budget.pay();
        }
        assert!(budget.take() && !budget.take());
    }

    #[test]
    fn without_a_share_nothing_is_tried_again() {
        let budget = RetryBudget::new(0, 100);
        budget.pay();
        assert!(!budget.take());
    }

    proptest! {
        #[test]
        fn attempts_never_pass_the_reserve_and_the_share(
            percent in 1_u32..=100,
            reserve in 0_usize..50,
            steps in prop::collection::vec(any::<bool>(), 0..2_000),
        ) {
            let budget = RetryBudget::new(percent, reserve);
            let (mut requests, mut attempts) = (0, 0);
            for is_request in steps {
                if is_request {
                    budget.pay();
                    requests += 1;
                } else if budget.take() {
                    attempts += 1;
                }
                prop_assert!(attempts * 100 <= reserve as u64 * 100 + requests * u64::from(percent));
            }
        }
    }
}
