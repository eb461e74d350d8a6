//! The judge: one pass over a history in the order of time.
//!
//! For every counter it keeps *floors*: values that a read which begins now cannot be under, each for one promise. An
//! acknowledged write that found at least `n` when it was sent made at least `n + 1`. A value that anybody was given had been
//! committed by then, which settles writes of unknown fate that happened; of the others nothing is assumed.

mod floor;
mod tell;
#[cfg(test)]
mod tests;

use std::time::Duration;

use super::history::{History, Moment, Read};
use crate::writers::Fate;
use floor::Floor;
pub use tell::tell;

/// What is promised.
#[derive(Clone, Copy, Debug)]
pub struct Promises {
    /// After so long every answer that is not marked shows what was committed.
    pub lease: Duration,
    /// Whether a write acknowledged by any gateway shows in every read that begins later, and no mark excuses age.
    pub is_strict: bool,
}

/// A promise that can be broken by one read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Rule {
    /// It is older than a write that was acknowledged through the same gateway before it began.
    OwnWrite,
    /// It is older than the write whose token it presented.
    Token,
    /// It is older than what had been committed a lease before it began.
    Lease,
    /// It is older than a write that was acknowledged through any gateway before it began.
    AnyWrite,
    /// It shows more than was ever written.
    Invented,
}

/// A promise broken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Violation {
    /// Which promise.
    pub rule: Rule,
    /// By which read: its place in [`History::reads`].
    pub read: usize,
    /// What the read had to give at least; for [`Rule::Invented`] at most.
    pub bound: u64,
}

/// What a history came to.
#[derive(Clone, Debug, Default)]
pub struct Judgement {
    /// Every promise broken, in the order in which the reads ended.
    pub violations: Vec<Violation>,
    /// By how much each read that is not marked was out of date when it began, where it was.
    pub stale: Vec<Duration>,
    /// The same of marked ones.
    pub stale_marked: Vec<Duration>,
    /// Reads for which an acknowledged write of the same gateway, or a token, set a floor above the start: those that could fail.
    pub bounded: usize,
}

/// What is known of one counter at the present moment of the pass.
struct Counter {
    base: u64,
    /// Committed, by whomever.
    committed: Floor,
    /// When each value above the base was first known to be committed.
    known: Vec<Moment>,
    /// What each gateway has acknowledged.
    own: Vec<Floor>,
    /// What all gateways have acknowledged.
    any: Floor,
    /// Writes sent that were not refused.
    sent: u64,
}

/// What a read may not be under, as it was when the read began.
#[derive(Clone, Copy, Default)]
struct Bounds {
    own: u64,
    any: u64,
}

/// An operation's begin or end. At one moment begins come first: what ended then had not ended before.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Step {
    ReadBegins(u32),
    WriteBegins(u32),
    WriteEnds(u32),
    ReadEnds(u32),
}

/// Holds a history against promises. Linear in its length, but for sorting it by time.
pub fn check(history: &History, promises: Promises) -> Judgement {
    let mut pass = Pass {
        history,
        promises,
        counters: history
            .bases
            .iter()
            .map(|base| Counter::new(*base, history.gateways))
            .collect(),
        bounds: vec![Bounds::default(); history.reads.len()],
        made: vec![0; history.writes.len()],
        judgement: Judgement::default(),
    };
    for (_, step) in steps(history) {
        match step {
            Step::ReadBegins(read) => pass.read_begins(read as usize),
            Step::ReadEnds(read) => pass.read_ends(read as usize),
            Step::WriteBegins(write) => pass.write_begins(write as usize),
            Step::WriteEnds(write) => pass.write_ends(write as usize),
        }
    }
    pass.judgement
}

fn steps(history: &History) -> Vec<(Moment, Step)> {
    let reads = history.reads.iter().zip(0..).flat_map(|(read, place)| {
        [
            (read.began, Step::ReadBegins(place)),
            (read.ended, Step::ReadEnds(place)),
        ]
    });
    let writes = history.writes.iter().zip(0..).flat_map(|(write, place)| {
        [
            (write.began, Step::WriteBegins(place)),
            (write.ended, Step::WriteEnds(place)),
        ]
    });
    let mut steps: Vec<_> = reads.chain(writes).collect();
    steps.sort_unstable();
    steps
}

struct Pass<'a> {
    history: &'a History,
    promises: Promises,
    counters: Vec<Counter>,
    bounds: Vec<Bounds>,
    /// Of each write what it found at least when it was sent, and then what it made at least.
    made: Vec<u64>,
    judgement: Judgement,
}

impl Pass<'_> {
    fn read_begins(&mut self, place: usize) {
        let read = &self.history.reads[place];
        let counter = &self.counters[read.object as usize];
        self.bounds[place] = Bounds {
            own: counter.own[usize::from(read.gateway)].value(),
            any: counter.any.value(),
        };
    }

    fn write_begins(&mut self, place: usize) {
        let write = &self.history.writes[place];
        let counter = &mut self.counters[write.object as usize];
        self.made[place] = counter.committed.value();
        counter.sent += u64::from(write.fate != Fate::Fail);
    }

    fn write_ends(&mut self, place: usize) {
        let write = &self.history.writes[place];
        if write.fate != Fate::Ok {
            return;
        }
        let counter = &mut self.counters[write.object as usize];
        let made = write.value.unwrap_or(self.made[place] + 1);
        self.made[place] = made;
        counter
            .committed
            .acknowledge(write.began, made, write.ended);
        counter.note_known(write.ended);
        if let Some(gateway) = write.gateway {
            counter.own[usize::from(gateway)].acknowledge(write.began, made, write.ended);
            counter.any.acknowledge(write.began, made, write.ended);
        }
    }

    fn read_ends(&mut self, place: usize) {
        let read = &self.history.reads[place];
        let counter = &mut self.counters[read.object as usize];
        let most = counter.base + counter.sent;
        if read.value > most {
            self.judgement
                .violations
                .push(violation(Rule::Invented, place, most));
            return;
        }
        let bounds = self.bounds[place];
        // A token comes with the answer, so its write has ended.
        let token = read.after.map_or(0, |write| self.made[write as usize]);
        self.judgement.bounded += usize::from(bounds.own.max(token) > counter.base);
        for (rule, floor, holds) in [
            (Rule::OwnWrite, bounds.own, true),
            (Rule::Token, token, true),
            (Rule::AnyWrite, bounds.any, self.promises.is_strict),
        ] {
            if holds && read.value < floor {
                self.judgement
                    .violations
                    .push(violation(rule, place, floor));
            }
        }
        if let Some(stale) = counter.stale(read) {
            let excused = read.is_marked && !self.promises.is_strict;
            if stale > self.promises.lease && !excused {
                self.judgement
                    .violations
                    .push(violation(Rule::Lease, place, read.value + 1));
            }
            if read.is_marked {
                self.judgement.stale_marked.push(stale);
            } else {
                self.judgement.stale.push(stale);
            }
        }
        counter.committed.raise(read.value, read.ended);
        counter.note_known(read.ended);
    }
}

fn violation(rule: Rule, read: usize, bound: u64) -> Violation {
    Violation { rule, read, bound }
}

impl Counter {
    fn new(base: u64, gateways: usize) -> Self {
        Self {
            base,
            committed: Floor::new(base),
            known: Vec::new(),
            own: vec![Floor::new(base); gateways],
            any: Floor::new(base),
            sent: 0,
        }
    }

    fn note_known(&mut self, now: Moment) {
        let known = usize::try_from(self.committed.value() - self.base).unwrap_or(usize::MAX);
        if known > self.known.len() {
            self.known.resize(known, now);
        }
    }

    /// How long before the read began a value above what it gave was known to be committed, if it was.
    fn stale(&self, read: &Read) -> Option<Duration> {
        let above = match read.value.checked_sub(self.base) {
            Some(grown) => usize::try_from(grown).ok()?,
            // Under what there was at the start: as old as the run.
            None => return Some(read.began.since(Moment::default())),
        };
        let since = *self.known.get(above)?;
        (since < read.began).then(|| read.began.since(since))
    }
}
