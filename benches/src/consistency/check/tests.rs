mod model;

use std::time::Duration;

use super::*;
use crate::consistency::history::{Fault, Write};
use model::{Bug, LEASE};

const LEASE_MS: u64 = 100;
const BASE: u64 = 10;

fn at(ms: u64) -> Moment {
    Moment::after(Duration::from_millis(ms))
}

/// A history by hand: one counter, which starts at 10, and two gateways; times in milliseconds.
struct Story(History);

impl Story {
    fn new() -> Self {
        Self(History {
            bases: vec![BASE],
            gateways: 2,
            ..History::default()
        })
    }

    fn write(mut self, gateway: u8, began: u64, ended: u64) -> Self {
        self.push(Some(gateway), (began, ended), Fate::Ok, None);
        self
    }

    fn unknown(mut self, gateway: u8, began: u64, ended: u64) -> Self {
        self.push(Some(gateway), (began, ended), Fate::Unknown, None);
        self
    }

    fn refused(mut self, gateway: u8, began: u64, ended: u64) -> Self {
        self.push(Some(gateway), (began, ended), Fate::Fail, None);
        self
    }

    fn sql(mut self, began: u64, ended: u64, value: u64) -> Self {
        self.push(None, (began, ended), Fate::Ok, Some(value));
        self
    }

    fn push(&mut self, gateway: Option<u8>, during: (u64, u64), fate: Fate, value: Option<u64>) {
        self.0.writes.push(Write {
            object: 0,
            gateway,
            began: at(during.0),
            ended: at(during.1),
            fate,
            value,
        });
    }

    fn read(mut self, gateway: u8, began: u64, ended: u64, value: u64) -> Self {
        self.0.reads.push(Read {
            object: 0,
            gateway,
            began: at(began),
            ended: at(ended),
            value,
            is_marked: false,
            after: None,
        });
        self
    }

    /// The last read presented the token of this write.
    fn presenting(mut self, write: u32) -> Self {
        self.last().after = Some(write);
        self
    }

    fn marked(mut self) -> Self {
        self.last().is_marked = true;
        self
    }

    fn last(&mut self) -> &mut Read {
        self.0.reads.last_mut().unwrap()
    }

    fn judged(&self, is_strict: bool) -> Judgement {
        let lease = Duration::from_millis(LEASE_MS);
        check(&self.0, Promises { lease, is_strict })
    }

    fn broken(&self) -> Vec<Rule> {
        rules(&self.judged(false))
    }
}

fn rules(judgement: &Judgement) -> Vec<Rule> {
    judgement.violations.iter().map(|one| one.rule).collect()
}

#[test]
fn a_read_after_its_gateway_acknowledged_a_write_must_show_it() {
    let story = Story::new().write(0, 0, 5);
    assert_eq!(story.read(0, 6, 7, 10).broken(), [Rule::OwnWrite]);
    let story = Story::new().write(0, 0, 5);
    assert_eq!(story.read(0, 6, 7, 11).broken(), []);
    let story = Story::new().write(0, 0, 5);
    assert_eq!(story.read(0, 4, 9, 10).broken(), [], "it began before");
    let story = Story::new().write(0, 0, 5);
    assert_eq!(story.read(0, 5, 9, 10).broken(), [], "it began no later");
    let story = Story::new().write(0, 0, 5);
    assert_eq!(story.read(1, 6, 7, 10).broken(), [], "another gateway");
}

#[test]
fn an_acknowledged_write_stands_on_what_it_found() {
    // SQL had made 12 before the write was sent: whoever sees the write sees 13.
    let story = Story::new().sql(0, 1, 11).sql(2, 3, 12).write(0, 4, 5);
    let judgement = story.read(0, 6, 7, 12).judged(false);
    assert_eq!(
        judgement.violations,
        [Violation {
            rule: Rule::OwnWrite,
            read: 0,
            bound: 13
        }]
    );
    // Not so if it may have come first.
    let story = Story::new().sql(0, 1, 11).sql(2, 5, 12).write(0, 4, 5);
    assert_eq!(story.read(0, 6, 7, 12).broken(), []);
}

#[test]
fn a_presented_token_counts_at_every_gateway() {
    let story = || Story::new().write(0, 0, 5).read(1, 6, 7, 10);
    assert_eq!(story().broken(), []);
    assert_eq!(story().presenting(0).broken(), [Rule::Token]);
    let sql = Story::new().sql(0, 1, 11).sql(0, 2, 12);
    assert_eq!(sql.read(1, 3, 4, 11).presenting(1).broken(), [Rule::Token]);
}

#[test]
fn whatever_was_committed_shows_after_a_lease_unless_the_answer_is_marked() {
    let story = || Story::new().sql(0, 1, 11);
    assert_eq!(story().read(0, 101, 102, 10).broken(), []);
    assert_eq!(story().read(0, 102, 103, 10).broken(), [Rule::Lease]);
    let marked = story().read(0, 102, 103, 10).marked();
    assert_eq!(marked.broken(), []);
    assert_eq!(
        marked.judged(false).stale_marked,
        [Duration::from_millis(101)]
    );
    assert_eq!(rules(&marked.judged(true)), [Rule::Lease]);
    // A mark excuses nothing else.
    let own = Story::new().write(0, 0, 1).read(0, 2, 3, 10).marked();
    assert_eq!(own.broken(), [Rule::OwnWrite]);
}

#[test]
fn in_strict_mode_every_acknowledged_write_shows_everywhere_at_once() {
    let story = || Story::new().write(0, 0, 5).read(1, 6, 7, 10);
    assert_eq!(rules(&story().judged(false)), []);
    assert_eq!(rules(&story().judged(true)), [Rule::AnyWrite]);
    let sql = Story::new().sql(0, 1, 11).read(1, 6, 7, 10);
    assert_eq!(rules(&sql.judged(true)), [], "SQL waits for nobody");
}

#[test]
fn a_write_of_unknown_fate_may_show_or_not_until_somebody_has_seen_it() {
    let story = || Story::new().unknown(0, 0, 5);
    assert_eq!(story().read(0, 6, 7, 10).broken(), []);
    assert_eq!(story().read(0, 6, 7, 11).broken(), []);
    // Seen once, it is there.
    let seen = story().read(0, 6, 7, 11).read(1, 108, 109, 10);
    assert_eq!(seen.broken(), [Rule::Lease]);
    // It hides no acknowledged one: 11 was seen before that was sent.
    let hidden = story().read(0, 6, 7, 11).write(0, 8, 9).read(0, 10, 11, 11);
    assert_eq!(hidden.broken(), [Rule::OwnWrite]);
}

#[test]
fn what_nobody_wrote_is_never_seen() {
    assert_eq!(Story::new().read(0, 0, 1, 11).broken(), [Rule::Invented]);
    let refused = Story::new().refused(0, 0, 5);
    assert_eq!(refused.read(0, 6, 7, 11).broken(), [Rule::Invented]);
    // On its way is enough.
    let sent = Story::new().write(0, 0, 5).read(0, 1, 2, 11);
    assert_eq!(sent.broken(), []);
}

#[test]
fn a_value_under_the_start_is_as_old_as_the_run() {
    let story = Story::new().read(0, 200, 201, 9);
    assert_eq!(story.broken(), [Rule::OwnWrite, Rule::Lease]);
}

#[test]
fn writes_that_overlap_are_counted_each() {
    let story = Story::new().write(0, 0, 9).write(0, 1, 8).write(1, 2, 7);
    // Two by this gateway; the third only after a lease.
    let story = story.read(0, 10, 11, 12).read(0, 10, 11, 11);
    assert_eq!(story.broken(), [Rule::OwnWrite]);
    let later = Story::new().write(0, 0, 9).write(0, 1, 8).write(1, 2, 7);
    assert_eq!(later.read(0, 110, 111, 12).broken(), [Rule::Lease]);
}

#[test]
fn a_violation_is_told_with_what_was_done_and_broken_before() {
    let story = Story::new()
        .sql(0, 1, 11)
        .unknown(1, 2, 3)
        .read(0, 300, 301, 10);
    let fault = Fault {
        kind: "origin killed",
        target: "1".into(),
        began: at(150),
        ended: at(400),
    };
    let violation = story.judged(false).violations[0];
    let told = tell(&story.0, &[fault], &violation);
    for part in [
        "Lease: counter 0 through gateway 0 must be at least 11",
        "write #0 by SQL: Ok, made 11",
        "write #1 through gateway 1: Unknown",
        "origin killed 1",
    ] {
        assert!(told.contains(part), "{part} is not in\n{told}");
    }
}

/// Of so many runs, those in which something was found.
const RUNS: u64 = 60;

fn caught(bug: Bug) -> Vec<Judgement> {
    let promises = Promises {
        lease: LEASE,
        is_strict: false,
    };
    (0..RUNS)
        .map(|seed| check(&model::run(bug, seed), promises))
        .collect()
}

fn count(judgements: &[Judgement]) -> usize {
    let found = judgements.iter().filter(|one| !one.violations.is_empty());
    found.count()
}

#[test]
fn gateways_that_keep_their_promises_are_never_accused() {
    let judgements = caught(Bug::None);
    for (seed, judgement) in judgements.iter().enumerate() {
        assert_eq!(judgement.violations, [], "seed {seed}");
        assert!(judgement.bounded > 100, "seed {seed}: nothing was at stake");
    }
    assert!(
        judgements.iter().any(|one| !one.stale.is_empty()),
        "nothing was old"
    );
}

#[test]
fn a_gateway_that_drops_one_event_is_caught() {
    let judgements = caught(Bug::DroppedEvent);
    assert!(count(&judgements) > 40, "{}", count(&judgements));
    let mut broken = judgements.iter().flat_map(rules);
    assert!(broken.any(|rule| rule == Rule::Lease));
}

#[test]
fn a_gateway_that_keeps_fills_which_a_purge_overtook_is_caught() {
    let judgements = caught(Bug::SkippedRaceRule);
    assert!(count(&judgements) > 40, "{}", count(&judgements));
    let broken: Vec<Rule> = judgements.iter().flat_map(rules).collect();
    assert!(broken.contains(&Rule::OwnWrite) && broken.contains(&Rule::Lease));
}

#[test]
fn a_gateway_that_trusts_its_position_after_transaction_numbers_were_used_again_is_caught() {
    let judgements = caught(Bug::ReusedNumbers);
    assert!(count(&judgements) > 40, "{}", count(&judgements));
}

#[test]
fn a_replica_that_lags_is_caught() {
    let judgements = caught(Bug::LaggingReplica);
    assert!(count(&judgements) > 40, "{}", count(&judgements));
    let broken: Vec<Rule> = judgements.iter().flat_map(rules).collect();
    assert!(broken.contains(&Rule::OwnWrite) && broken.contains(&Rule::Token));
}
