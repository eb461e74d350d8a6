//! A crash of the database gives numbers out again. Every order of polls and deliveries around one is tried: a token counts
//! as seen only where the write that it names has been told, or everything has.

use super::*;

/// What happens at the server, one after the other: the version of the page after each commit, and its number.
#[derive(Clone, Copy)]
enum Happens {
    /// A transaction that changes the page; it is acknowledged.
    Commits(u64),
    /// A transaction that is rolled back: nobody hears of it, but positions pass its number.
    RollsBack(u64),
    /// The log has not got the numbers of what was rolled back: they are given out again.
    Crashes,
}

const HISTORY: [Happens; 7] = [
    Happens::Commits(5),
    Happens::RollsBack(6),
    Happens::RollsBack(7),
    Happens::Crashes,
    Happens::Commits(6),
    Happens::Commits(7),
    Happens::Commits(8),
];

/// An event on its way: what it tells, and how many commits have been told with it.
struct OnItsWay {
    told: Told,
    commits: usize,
}

/// A server, a tailer that polls when it is told to, and a gateway that applies events when it is told to.
struct World {
    coherence: Coherence,
    /// Whether tokens and positions say of which life they are.
    names_lives: bool,
    life: char,
    xmax: u64,
    /// Commits so far, and those that the tailer has told.
    commits: usize,
    polled: usize,
    polled_life: char,
    poll: u64,
    stream: std::collections::VecDeque<OnItsWay>,
    /// Commits of which all that was old is gone from the gateway.
    applied: usize,
    tokens: Vec<Token>,
}

impl World {
    fn new(names_lives: bool) -> Self {
        let world = Self {
            coherence: coherence(),
            names_lives,
            life: 'a',
            xmax: 5,
            commits: 0,
            polled: 0,
            polled_life: 'a',
            poll: 1,
            stream: std::collections::VecDeque::new(),
            applied: 0,
            tokens: Vec::new(),
        };
        apply(&world.coherence, told(News::Nothing, 1, 5, 1), at(0));
        world
    }

    fn incarnation(&self) -> String {
        let life = if self.names_lives { self.life } else { 'a' };
        format!("7.1.{life}")
    }

    fn happen(&mut self, happens: Happens) {
        match happens {
            Happens::Commits(xid) => {
                self.commits += 1;
                self.xmax = xid + 1;
                let token = format!("{xid}@{}", self.incarnation());
                self.tokens.push(token.parse().unwrap());
            }
            Happens::RollsBack(xid) => self.xmax = xid + 1,
            Happens::Crashes => (self.life, self.xmax) = ('b', 6),
        }
    }

    fn poll(&mut self) {
        self.poll += 1;
        let news = if self.polled_life != self.life {
            let reason = "incarnation".into();
            News::Everything { reason }
        } else {
            let new = &self.tokens[self.polled..];
            let transactions = new.iter().map(|token| Transaction {
                id: Some(token.clone()),
                groups: vec!["g".into()],
            });
            News::Changes(transactions.collect())
        };
        let mut told = told(news, self.poll, self.xmax, self.poll);
        let position = format!("{0}:{0}:@{1}", self.xmax, self.incarnation());
        told.position = position.parse().ok();
        (self.polled, self.polled_life) = (self.commits, self.life);
        let commits = self.commits;
        self.stream.push_back(OnItsWay { told, commits });
    }

    fn apply(&mut self) {
        if let Some(OnItsWay { told, commits }) = self.stream.pop_front() {
            apply(&self.coherence, told, at(self.poll));
            self.applied = commits;
        }
    }

    /// Whether a token counts as seen although what it names has not been told.
    fn is_deceived(&self) -> bool {
        let untold = self.tokens.iter().skip(self.applied);
        untold
            .cloned()
            .any(|token| self.coherence.has_seen(&[token]))
    }
}

/// After each step of the history nothing, a poll, a delivery, both or a delivery first: how many of these runs are deceived.
fn deceived(names_lives: bool) -> usize {
    const BETWEEN: usize = 5;
    let runs = BETWEEN.pow(HISTORY.len() as u32);
    let is_deceived = |run: &usize| {
        let (mut world, mut choice) = (World::new(names_lives), *run);
        HISTORY.into_iter().any(|happens| {
            world.happen(happens);
            let acts: &[fn(&mut World)] = match choice % BETWEEN {
                0 => &[],
                1 => &[World::poll],
                2 => &[World::apply],
                3 => &[World::poll, World::apply],
                _ => &[World::apply, World::poll],
            };
            choice /= BETWEEN;
            world.is_deceived()
                || acts.iter().any(|act| {
                    act(&mut world);
                    world.is_deceived()
                })
        })
    };
    (0..runs).filter(is_deceived).count()
}

#[test]
fn no_order_of_a_crash_its_polls_and_their_events_makes_a_token_seen_too_early() {
    assert_eq!(deceived(true), 0);
}

#[test]
fn tokens_that_are_numbers_only_are_found_out() {
    assert!(deceived(false) > 0);
}
