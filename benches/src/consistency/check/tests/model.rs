//! A small model of gateways that follow a database, in ticks of a millisecond: right, or with one thing wrong.

use std::collections::BTreeMap;
use std::time::Duration;

use super::at;
use crate::consistency::history::{History, Read, Write};
use crate::dice::Dice;
use crate::writers::Fate;

/// What is wrong with it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Bug {
    None,
    /// One gateway never hears of one change by SQL.
    DroppedEvent,
    /// A fill is kept although a purge came meanwhile.
    SkippedRaceRule,
    /// After a crash some new transactions have numbers that the gateways' positions include.
    ReusedNumbers,
    /// Fills read a copy that is behind.
    LaggingReplica,
}

pub(super) const LEASE: Duration = Duration::from_millis(LEASE_TICKS);
const LEASE_TICKS: u64 = 50;
const TICKS: u64 = 4_000;
const OBJECTS: usize = 4;
const GATEWAYS: usize = 2;
/// When the bug strikes that strikes once.
const STRIKES_AT: u64 = 1_000;
const REUSED: usize = 5;

#[derive(Clone, Debug)]
struct Gateway {
    cache: [Option<u64>; OBJECTS],
    purged: [u64; OBJECTS],
    /// How many commits it has been told of.
    told: usize,
    /// Everything that had committed by then has been applied.
    applied: u64,
    /// How long a change is on its way.
    delay: u64,
    held_until: u64,
}

#[derive(Clone, Copy)]
struct Commit {
    at: u64,
    object: usize,
    is_sql: bool,
}

enum Event {
    Commits { write: usize },
    Acknowledged { write: usize },
    Snapshot { read: Read, takes: u64 },
    Filled { read: Read, tick: u64 },
}

struct World {
    bug: Bug,
    dice: Dice,
    now: u64,
    commits: Vec<Commit>,
    /// Of each write the number of commits that included it.
    placed: Vec<usize>,
    gateways: Vec<Gateway>,
    agenda: BTreeMap<u64, Vec<Event>>,
    has_struck: bool,
    reused_from: Option<usize>,
    history: History,
}

pub(super) fn run(bug: Bug, seed: u64) -> History {
    let gateway = Gateway {
        cache: [None; OBJECTS],
        purged: [0; OBJECTS],
        told: 0,
        applied: 0,
        delay: 2,
        held_until: 0,
    };
    let mut world = World {
        bug,
        dice: Dice::new(seed),
        now: 0,
        commits: Vec::new(),
        placed: Vec::new(),
        gateways: vec![gateway; GATEWAYS],
        agenda: BTreeMap::new(),
        has_struck: false,
        reused_from: None,
        history: History {
            bases: vec![0; OBJECTS],
            gateways: GATEWAYS,
            ..History::default()
        },
    };
    for now in 1..TICKS {
        world.now = now;
        world.tick();
    }
    // What has not ended by now never will.
    let is_open = |write: &Write| write.ended == at(0);
    for write in world.history.writes.iter_mut().filter(|one| is_open(one)) {
        (write.ended, write.fate) = (at(TICKS), Fate::Unknown);
    }
    world.history
}

impl World {
    fn tick(&mut self) {
        if self.bug == Bug::ReusedNumbers && self.now == STRIKES_AT {
            self.reused_from = Some(self.commits.len());
        }
        for gateway in 0..GATEWAYS {
            self.deliver(gateway);
        }
        for event in self.agenda.remove(&self.now).unwrap_or_default() {
            self.happen(event);
        }
        if self.dice.between(0, 99) < 60 {
            self.begin_read();
        }
        if self.dice.between(0, 99) < 2 {
            self.begin_write();
        }
    }

    fn begin_read(&mut self) {
        let (object, gateway) = (self.object(), self.gateway());
        let written = self.history.writes.len() as u32;
        let recent = (0..written).rev().find(|place| {
            let write = &self.history.writes[*place as usize];
            write.object as usize == object && write.fate == Fate::Ok && write.ended > at(0)
        });
        let after = recent.filter(|_| self.dice.between(0, 3) == 0);
        let mut read = Read {
            object: object as u32,
            gateway: gateway as u8,
            began: at(self.now),
            ended: at(self.now + 1),
            value: 0,
            is_marked: false,
            after,
        };
        let state = &self.gateways[gateway];
        let is_covered = after.is_none_or(|write| self.placed[write as usize] <= state.told);
        let has_lease = self.now - state.applied <= LEASE_TICKS;
        if let Some(value) = state.cache[object].filter(|_| is_covered && has_lease) {
            read.value = value;
            self.history.reads.push(read);
            return;
        }
        let (until, takes) = (self.delay(1, 6), u64::from(self.dice.between(1, 12)));
        self.plan(until, Event::Snapshot { read, takes });
    }

    fn begin_write(&mut self) {
        let is_sql = self.dice.between(0, 2) == 0;
        let write = Write {
            object: self.object() as u32,
            gateway: Some(self.gateway() as u8).filter(|_| !is_sql),
            began: at(self.now),
            ended: at(0),
            fate: Fate::Ok,
            value: None,
        };
        self.history.writes.push(write);
        self.placed.push(usize::MAX);
        let until = self.delay(1, 6);
        let write = self.placed.len() - 1;
        self.plan(until, Event::Commits { write });
    }

    fn happen(&mut self, event: Event) {
        match event {
            Event::Commits { write } => {
                let of = &mut self.history.writes[write];
                self.commits.push(Commit {
                    at: self.now,
                    object: of.object as usize,
                    is_sql: of.gateway.is_none(),
                });
                self.placed[write] = self.commits.len();
                let object = of.object as usize;
                let value = self.value(object, self.now);
                let of = &mut self.history.writes[write];
                of.value = of.gateway.is_none().then_some(value);
                let until = self.delay(1, 3);
                self.plan(until, Event::Acknowledged { write });
            }
            Event::Acknowledged { write } => {
                let of = &mut self.history.writes[write];
                of.ended = at(self.now + 1);
                let (object, gateway) = (of.object as usize, of.gateway);
                match gateway {
                    // Now and then the answer is lost.
                    _ if self.dice.between(0, 9) == 0 => {
                        self.history.writes[write].fate = Fate::Unknown;
                    }
                    Some(gateway) => self.purge(usize::from(gateway), object),
                    None => {}
                }
            }
            Event::Snapshot { mut read, takes } => {
                let lag = match self.bug {
                    Bug::LaggingReplica => u64::from(self.dice.between(0, 80)),
                    _ => 0,
                };
                read.value = self.value(read.object as usize, self.now.saturating_sub(lag));
                let tick = self.now + takes;
                self.plan(tick, Event::Filled { read, tick });
            }
            Event::Filled { mut read, tick } => {
                read.ended = at(tick + 1);
                let gateway = &mut self.gateways[usize::from(read.gateway)];
                let object = read.object as usize;
                let was_overtaken = at(gateway.purged[object]) >= read.began;
                if !was_overtaken || self.bug == Bug::SkippedRaceRule {
                    gateway.cache[object] = Some(read.value);
                }
                self.history.reads.push(read);
            }
        }
    }

    /// The stream, as far as it has come: sometimes it stands still for longer than a lease.
    fn deliver(&mut self, place: usize) {
        if self.dice.between(0, 399) == 0 {
            let held_until = self.delay(10, 150);
            self.gateways[place].held_until = held_until;
        }
        if self.now < self.gateways[place].held_until {
            return;
        }
        let until = self.now - self.gateways[place].delay.min(self.now);
        while let Some(commit) = self.commits.get(self.gateways[place].told).copied() {
            if commit.at > until {
                break;
            }
            let number = self.gateways[place].told;
            self.gateways[place].told += 1;
            if !self.is_lost(place, number, commit) {
                self.purge(place, commit.object);
            }
        }
        self.gateways[place].applied = until;
    }

    fn is_lost(&mut self, gateway: usize, number: usize, commit: Commit) -> bool {
        if let Some(from) = self.reused_from {
            return (from..from + REUSED).contains(&number);
        }
        let strikes = self.bug == Bug::DroppedEvent && !self.has_struck;
        let strikes = strikes && gateway == 0 && commit.is_sql && commit.at >= STRIKES_AT;
        self.has_struck |= strikes;
        strikes
    }

    fn purge(&mut self, gateway: usize, object: usize) {
        let gateway = &mut self.gateways[gateway];
        gateway.cache[object] = None;
        gateway.purged[object] = self.now;
    }

    fn value(&self, object: usize, by: u64) -> u64 {
        let commits = self.commits.iter();
        let of_it = commits.filter(|commit| commit.object == object && commit.at <= by);
        of_it.count() as u64
    }

    fn plan(&mut self, tick: u64, event: Event) {
        self.agenda.entry(tick).or_default().push(event);
    }

    fn delay(&mut self, min: u32, max: u32) -> u64 {
        self.now + u64::from(self.dice.between(min, max))
    }

    fn object(&mut self) -> usize {
        self.dice.between(0, OBJECTS as u32 - 1) as usize
    }

    fn gateway(&mut self) -> usize {
        self.dice.between(0, GATEWAYS as u32 - 1) as usize
    }
}
