//! Until when this gateway knows that nothing which has committed is missing.
//!
//! A probe that was *sent* at some moment makes an origin look at the database after that moment. When the stream has
//! brought what that look found, everything that had committed before the moment has been applied here: for the length
//! of a lease from that moment, an entry that is still there is at most that much out of date. Nothing else extends a
//! lease: an event that arrives may have waited in a buffer.

use std::collections::VecDeque;
use std::time::Duration;

use super::clock::Moment;
use super::event::Probed;
use super::position::Position;

/// Answered probes that wait for the stream at most; with a probe every quarter of a lease, five of them can matter.
const WAITING_MAX: usize = 32;

/// How far the stream has been applied.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Progress {
    /// Who told it.
    pub tailer: Box<str>,
    /// The last poll of which all has been applied.
    pub poll: u64,
    /// Everything that has been applied.
    pub position: Position,
}

impl Progress {
    /// Whether everything that a probe found has been applied.
    fn proves(&self, probed: &Probed) -> bool {
        let same_tailer = self.tailer == probed.tailer && self.poll >= probed.poll;
        same_tailer || self.position.covers(&probed.position)
    }
}

/// The lease.
#[derive(Debug)]
pub struct Lease {
    length: Duration,
    /// Everything that had committed before this moment has been applied.
    from: Option<Moment>,
    /// Answered probes for which the stream has not yet brought everything, in the order in which they were sent.
    waiting: VecDeque<(Moment, Probed)>,
}

impl Lease {
    /// None yet; each will have this length.
    pub fn new(length: Duration) -> Self {
        Self {
            length,
            from: None,
            waiting: VecDeque::new(),
        }
    }

    /// Takes the answer to a probe that was sent at a moment; true when the lease was extended.
    pub fn answered(
        &mut self,
        sent: Moment,
        probed: Probed,
        progress: Option<&Progress>,
        now: Moment,
    ) -> bool {
        if progress.is_some_and(|progress| progress.proves(&probed)) {
            return self.extend(sent);
        }
        let length = self.length;
        self.waiting.retain(|(sent, _)| *sent + length > now);
        if self.waiting.len() < WAITING_MAX {
            self.waiting.push_back((sent, probed));
        }
        false
    }

    /// Takes what the stream has brought; true when the lease was extended.
    pub fn applied(&mut self, progress: &Progress) -> bool {
        let proven = |(_, probed): &(Moment, Probed)| progress.proves(probed);
        let Some(last) = self.waiting.iter().rposition(proven) else {
            return false;
        };
        // What was sent before it proves nothing more.
        let sent = self.waiting.drain(..=last).next_back();
        sent.is_some_and(|(sent, _)| self.extend(sent))
    }

    fn extend(&mut self, sent: Moment) -> bool {
        let is_later = self.from.is_none_or(|from| sent > from);
        if is_later {
            self.from = Some(sent);
        }
        is_later
    }

    /// Everything that had committed before this moment has been applied.
    pub fn from(&self) -> Option<Moment> {
        self.from
    }

    /// When the lease ends; none was granted yet if there is no such moment.
    pub fn until(&self) -> Option<Moment> {
        self.from.map(|from| from + self.length)
    }
}

#[cfg(test)]
mod tests {
    use proptest::collection::vec;
    use proptest::prelude::*;

    use super::*;

    const LENGTH: Duration = Duration::from_secs(2);

    fn at(milliseconds: u64) -> Moment {
        Moment::from(Duration::from_millis(milliseconds))
    }

    fn position(committed: u64) -> Position {
        format!("{committed}:{committed}:@7.1.a").parse().unwrap()
    }

    fn progress(tailer: &str, poll: u64, committed: u64) -> Progress {
        Progress {
            tailer: tailer.into(),
            poll,
            position: position(committed),
        }
    }

    fn probed(tailer: &str, poll: u64, committed: u64) -> Probed {
        Probed {
            tailer: tailer.into(),
            poll,
            position: position(committed),
        }
    }

    #[test]
    fn a_lease_runs_from_the_sending_of_the_probe() {
        let mut lease = Lease::new(LENGTH);
        assert_eq!(lease.until(), None);
        let here = progress("a", 5, 10);
        assert!(lease.answered(at(100), probed("a", 5, 10), Some(&here), at(900)));
        assert_eq!(lease.until(), Some(at(2_100)));
    }

    #[test]
    fn a_probe_is_worth_nothing_until_the_stream_has_brought_what_it_found() {
        let mut lease = Lease::new(LENGTH);
        let here = progress("a", 5, 10);
        assert!(!lease.answered(at(100), probed("a", 6, 11), Some(&here), at(110)));
        assert!(!lease.applied(&here), "a heartbeat of the poll before");
        assert!(lease.applied(&progress("a", 6, 11)));
        assert_eq!(lease.from(), Some(at(100)));
    }

    #[test]
    fn a_probe_of_another_tailer_counts_only_by_its_position() {
        let mut lease = Lease::new(LENGTH);
        let here = progress("a", 500, 10);
        assert!(!lease.answered(at(100), probed("b", 1, 11), Some(&here), at(110)));
        assert!(!lease.applied(&progress("a", 501, 10)));
        assert!(lease.applied(&progress("a", 502, 11)));
    }

    #[test]
    fn a_late_answer_does_not_shorten_the_lease() {
        let mut lease = Lease::new(LENGTH);
        let here = progress("a", 9, 10);
        assert!(lease.answered(at(500), probed("a", 9, 10), Some(&here), at(510)));
        assert!(!lease.answered(at(100), probed("a", 8, 10), Some(&here), at(520)));
        assert_eq!(lease.from(), Some(at(500)));
    }

    #[test]
    fn a_stream_that_stays_behind_by_more_than_a_probe_still_extends() {
        let mut lease = Lease::new(LENGTH);
        for round in 0..20 {
            let sent = at(round * 500);
            lease.answered(sent, probed("a", round, round), None, sent);
            if round >= 3 {
                assert!(lease.applied(&progress("a", round - 3, round - 3)));
                assert_eq!(lease.from(), Some(at((round - 3) * 500)));
            }
        }
    }

    #[test]
    fn answers_that_wait_are_bounded() {
        let mut lease = Lease::new(LENGTH);
        for round in 0..1_000 {
            lease.answered(at(round), probed("a", round, round), None, at(round));
        }
        assert_eq!(lease.waiting.len(), WAITING_MAX);
    }

    /// One step of a small world: a database that counts commits, two tailers, one gateway.
    #[derive(Debug, Clone)]
    enum Step {
        Commit,
        Poll(usize),
        Apply,
        Switch,
        Probe,
        Answer,
        Wait(u64),
    }

    fn steps() -> impl Strategy<Value = Vec<Step>> {
        let step = prop_oneof![
            2 => Just(Step::Commit),
            3 => (0..2_usize).prop_map(Step::Poll),
            4 => Just(Step::Apply),
            1 => Just(Step::Switch),
            3 => Just(Step::Probe),
            3 => Just(Step::Answer),
            2 => (0..900_u64).prop_map(Step::Wait),
        ];
        vec(step, 0..120)
    }

    #[derive(Default)]
    struct World {
        now: u64,
        /// When each transaction committed.
        commits: Vec<u64>,
        /// Of each tailer: polls so far and what the last one saw.
        tailers: [(u64, u64); 2],
        /// Which one is followed, and what is on its way.
        followed: usize,
        stream: VecDeque<Progress>,
        applied: Option<Progress>,
        /// Probes on their way back.
        answers: VecDeque<(u64, Probed)>,
    }

    const NAMES: [&str; 2] = ["a", "b"];

    impl World {
        fn poll(&mut self, tailer: usize) -> Progress {
            let seen = self.commits.len() as u64;
            self.tailers[tailer] = (self.tailers[tailer].0 + 1, seen);
            let told = progress(NAMES[tailer], self.tailers[tailer].0, seen);
            if tailer == self.followed {
                self.stream.push_back(told.clone());
            }
            told
        }

        fn applied(&self) -> u64 {
            let position = self.applied.as_ref().map(|progress| &progress.position);
            position.map_or(0, |position| position.floor().0)
        }
    }

    proptest! {
        /// While a lease holds, everything that had committed a lease's length ago has been applied.
        #[test]
        fn a_lease_never_covers_a_change_that_is_missing(steps in steps()) {
            let mut world = World::default();
            let mut lease = Lease::new(LENGTH);
            for step in steps {
                world.now += 1;
                match step {
                    Step::Commit => world.commits.push(world.now),
                    Step::Poll(tailer) => drop(world.poll(tailer)),
                    Step::Apply => if let Some(next) = world.stream.pop_front() {
                        lease.applied(&next);
                        world.applied = Some(next);
                    },
                    Step::Switch => {
                        world.followed = 1 - world.followed;
                        world.stream.clear();
                        world.poll(world.followed);
                    }
                    Step::Probe => {
                        let sent = world.now;
                        let told = world.poll(world.followed);
                        let answer = Probed { tailer: told.tailer, poll: told.poll, position: told.position };
                        world.answers.push_back((sent, answer));
                    }
                    Step::Answer => if let Some((sent, answer)) = world.answers.pop_front() {
                        lease.answered(at(sent), answer, world.applied.as_ref(), at(world.now));
                    },
                    Step::Wait(milliseconds) => world.now += milliseconds,
                }
                if lease.until().is_some_and(|until| until > at(world.now)) {
                    let bound = at(world.now);
                    let missing = world.commits.iter().skip(usize::try_from(world.applied()).unwrap());
                    for committed in missing {
                        prop_assert!(bound.since(at(*committed)) < LENGTH);
                    }
                }
            }
        }
    }
}
