//! Passive health: what a node's own answers say about it, and how long it is passed over for them.

use std::time::{Duration, Instant};

use crate::config;

/// Doublings of the first time out at most: past any cap that a configuration may name.
const DOUBLINGS_MAX: u32 = 22;

/// How a request at a node ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// With an answer that is no sign of trouble.
    Answered,
    /// With 500, 502, 503 or 504.
    Erred,
    /// The connection broke before the answer was whole.
    Broke,
    /// No answer came in time.
    Late,
    /// No connection came up: the request was not sent.
    Unreachable,
}

impl Outcome {
    /// What an answer of this status says of its node.
    pub fn of_status(status: http::StatusCode) -> Self {
        match status.as_u16() {
            500 | 502..=504 => Self::Erred,
            _ => Self::Answered,
        }
    }
}

/// The record of one node.
#[derive(Debug, Default)]
pub(super) struct Record {
    out_until: Option<Instant>,
    /// Times out in a row, without a time of good service as long as the longest of them.
    times_out: u32,
    in_a_row: u32,
    /// Counts of the present and the last half of the window.
    halves: [Counts; 2],
    half_began: Option<Instant>,
}

#[derive(Debug, Clone, Copy, Default)]
struct Counts {
    requests: u32,
    failures: u32,
}

impl Record {
    /// Notes an outcome. Returns how long the node is out for it, if it is.
    pub(super) fn note(
        &mut self,
        outcome: Outcome,
        now: Instant,
        policy: &config::Ejection,
    ) -> Option<Duration> {
        self.turn_window(now, policy.window / 2);
        let failed = outcome != Outcome::Answered;
        self.halves[0].requests = self.halves[0].requests.saturating_add(1);
        self.halves[0].failures = self.halves[0].failures.saturating_add(u32::from(failed));
        // An error is an answer all the same: only its share counts.
        self.in_a_row = match outcome {
            Outcome::Answered | Outcome::Erred => 0,
            Outcome::Broke | Outcome::Late | Outcome::Unreachable => self.in_a_row + 1,
        };
        let ejects = failed
            && !self.is_out(now) // what was in flight before says nothing new
            && (outcome == Outcome::Unreachable
                || self.in_a_row >= policy.failures_in_a_row
                || self.fails_too_often(policy));
        ejects.then(|| self.eject(now, policy))
    }

    fn turn_window(&mut self, now: Instant, half: Duration) {
        let age = self
            .half_began
            .map_or(Duration::MAX, |began| now.saturating_duration_since(began));
        if age < half {
            return;
        }
        let last = if age < half * 2 {
            self.halves[0]
        } else {
            Counts::default()
        };
        self.halves = [Counts::default(), last];
        self.half_began = Some(now);
    }

    fn fails_too_often(&self, policy: &config::Ejection) -> bool {
        let [this, last] = self.halves;
        let requests = u64::from(this.requests) + u64::from(last.requests);
        let failures = u64::from(this.failures) + u64::from(last.failures);
        requests >= u64::from(policy.requests_min)
            && failures * 100 >= requests * u64::from(policy.failure_percent)
    }

    fn eject(&mut self, now: Instant, policy: &config::Ejection) -> Duration {
        let served_well = self
            .out_until
            .is_none_or(|until| now.saturating_duration_since(until) >= policy.max);
        if served_well {
            self.times_out = 0;
        }
        let factor = 1_u32 << self.times_out.min(DOUBLINGS_MAX);
        let length = policy.base.saturating_mul(factor).min(policy.max);
        *self = Self {
            out_until: Some(now + length),
            times_out: self.times_out + 1,
            ..Self::default()
        };
        length
    }

    /// Whether the node is passed over.
    pub(super) fn is_out(&self, now: Instant) -> bool {
        self.out_until.is_some_and(|until| now < until)
    }

    /// When the last time out ended, if one has.
    pub(super) fn came_in(&self, now: Instant) -> Option<Instant> {
        self.out_until.filter(|until| *until <= now)
    }

    /// Ends a time out: something better informed says that the node serves.
    pub(super) fn let_in(&mut self, now: Instant) {
        if self.is_out(now) {
            self.out_until = Some(now);
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn policy() -> config::Ejection {
        config::Ejection::default()
    }

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn a_connection_that_does_not_come_up_ejects_at_once_and_the_time_out_ends() {
        let (mut record, now) = (Record::default(), Instant::now());
        assert_eq!(
            record.note(Outcome::Unreachable, now, &policy()),
            Some(SECOND)
        );
        assert!(record.is_out(now) && !record.is_out(now + SECOND));
        assert_eq!(record.came_in(now), None);
        assert_eq!(record.came_in(now + SECOND), Some(now + SECOND));
    }

    #[test]
    fn each_time_out_is_twice_as_long_up_to_the_cap_and_good_service_forgives() {
        let (mut record, mut now) = (Record::default(), Instant::now());
        let mut lengths = Vec::new();
        for _ in 0..8 {
            let length = record.note(Outcome::Unreachable, now, &policy()).unwrap();
            lengths.push(length.as_secs());
            now += length;
        }
        assert_eq!(lengths, [1, 2, 4, 8, 16, 30, 30, 30]);
        now += policy().max;
        assert_eq!(
            record.note(Outcome::Unreachable, now, &policy()),
            Some(SECOND)
        );
    }

    #[test]
    fn failures_of_requests_that_were_in_flight_before_count_once() {
        let (mut record, now) = (Record::default(), Instant::now());
        assert!(record.note(Outcome::Unreachable, now, &policy()).is_some());
        for _ in 0..100 {
            assert_eq!(record.note(Outcome::Broke, now, &policy()), None);
        }
        assert!(!record.is_out(now + SECOND));
    }

    #[test]
    fn a_row_of_late_answers_ejects_and_one_answer_ends_the_row() {
        let (mut record, now) = (Record::default(), Instant::now());
        for outcome in [
            Outcome::Late,
            Outcome::Broke,
            Outcome::Erred,
            Outcome::Late,
            Outcome::Late,
        ] {
            assert_eq!(record.note(outcome, now, &policy()), None);
        }
        assert_eq!(record.note(Outcome::Late, now, &policy()), Some(SECOND));
    }

    #[test]
    fn a_share_of_errors_ejects_once_there_are_enough_answers_to_judge() {
        let (mut record, now) = (Record::default(), Instant::now());
        for number in 1..20 {
            let outcome = if number % 2 == 0 {
                Outcome::Answered
            } else {
                Outcome::Erred
            };
            assert_eq!(record.note(outcome, now, &policy()), None, "{number}");
        }
        assert_eq!(record.note(Outcome::Erred, now, &policy()), Some(SECOND));
    }

    #[test]
    fn errors_older_than_the_window_are_forgotten() {
        let (mut record, now) = (Record::default(), Instant::now());
        for _ in 0..19 {
            record.note(Outcome::Erred, now, &policy());
        }
        let later = now + policy().window + SECOND;
        for _ in 0..19 {
            assert_eq!(record.note(Outcome::Erred, later, &policy()), None);
        }
    }

    #[test]
    fn who_knows_better_may_let_a_node_in_again() {
        let (mut record, now) = (Record::default(), Instant::now());
        record.note(Outcome::Unreachable, now, &policy());
        record.let_in(now);
        assert!(!record.is_out(now));
        assert_eq!(record.came_in(now), Some(now));
    }

    proptest! {
        #[test]
        fn no_time_out_is_longer_than_the_cap_or_shorter_than_the_base(
            steps in prop::collection::vec((0_u64..40_000, 0_usize..5), 1..200),
        ) {
            let outcomes = [
                Outcome::Answered, Outcome::Erred, Outcome::Broke, Outcome::Late, Outcome::Unreachable,
            ];
            let (mut record, mut now) = (Record::default(), Instant::now());
            for (wait_ms, outcome) in steps {
                now += Duration::from_millis(wait_ms);
                let was_out = record.is_out(now);
                let length = record.note(outcomes[outcome], now, &policy());
                prop_assert!(length.is_none() || !was_out);
                if let Some(length) = length {
                    prop_assert!(length >= policy().base && length <= policy().max);
                    prop_assert!(record.is_out(now) && !record.is_out(now + length));
                }
            }
        }
    }
}
