//! How long one connection may take for what it is at: pure, over the time it is told.

use std::time::Duration;

use tokio::time::Instant;

/// The bounds on the time of one connection.
#[derive(Debug, Clone, Copy)]
pub struct Times {
    /// From the connection to the end of its first header, and from the first byte of a later one to its end.
    pub header: Duration,
    /// How long a connection may be idle between two requests.
    pub keepalive: Duration,
    /// What a client may fall behind the rates below.
    pub slack: Duration,
    /// Bytes a second at least of a request's body.
    pub read_rate_min: u64,
    /// Bytes a second at least that a client takes of an answer.
    pub write_rate_min: u64,
}

/// What a connection is at, and since when.
#[derive(Debug)]
pub(super) struct Clock {
    times: Times,
    phase: Phase,
    body: Option<Pace>,
    answer: Option<Pace>,
    /// A header is coming beside requests that are worked on, as over HTTP/2; it has to be whole before this.
    next_header: Option<Instant>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    /// No header has come yet; it has to be whole before this.
    New(Instant),
    /// Nothing of the next header has come; it has to before this.
    Idle(Instant),
    /// A header is coming; it has to be whole before this.
    Header(Instant),
    /// A request is worked on.
    Serving,
}

/// How far behind a client may still fall: every byte earns it time, and waiting for it costs.
#[derive(Debug, Clone, Copy)]
pub(super) struct Pace {
    slack: Duration,
    waiting_since: Option<Instant>,
}

impl Pace {
    pub(super) fn new(slack: Duration) -> Self {
        Self {
            slack,
            waiting_since: None,
        }
    }

    pub(super) fn waits(&mut self, now: Instant) {
        self.waiting_since.get_or_insert(now);
    }

    pub(super) fn moves(&mut self, bytes: usize, rate: u64, slack_max: Duration, now: Instant) {
        if let Some(since) = self.waiting_since.take() {
            self.slack = self
                .slack
                .saturating_sub(now.saturating_duration_since(since));
        }
        let earned = (bytes as u64).saturating_mul(1_000) / rate.max(1);
        self.slack = slack_max.min(self.slack + Duration::from_millis(earned));
    }

    pub(super) fn due(&self) -> Option<Instant> {
        Some(self.waiting_since? + self.slack)
    }
}

/// What is to be done with a connection that took too long.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Overdue {
    /// It has asked nothing more: it is dropped.
    Idle,
    /// Its header has not come: it is dropped.
    Header,
    /// The body of a request that is worked on comes too slowly: its socket is shut, so that the request ends as when a
    /// client goes.
    Body,
    /// The same for an answer that is taken too slowly.
    Answer,
}

impl Clock {
    /// A connection that came now.
    pub(super) fn new(times: Times, now: Instant) -> Self {
        Self {
            times,
            phase: Phase::New(now + times.header),
            body: None,
            answer: None,
            next_header: None,
        }
    }

    /// The first byte of a header has come.
    pub(super) fn header_begins(&mut self, now: Instant) {
        self.phase = match self.phase {
            // The first one has its time from the connection on.
            Phase::New(due) => Phase::Header(due),
            _ => Phase::Header(now + self.times.header),
        };
    }

    /// A whole header has come.
    pub(super) fn header_ends(&mut self) {
        self.phase = Phase::Serving;
        self.answer = Some(Pace::new(self.times.slack));
    }

    /// A header is coming beside whatever else goes on; said again when more of it comes.
    pub(super) fn next_header_begins(&mut self, now: Instant) {
        self.next_header.get_or_insert(now + self.times.header);
    }

    /// That header is whole.
    pub(super) fn next_header_ends(&mut self) {
        self.next_header = None;
    }

    /// A body is to come from the client.
    pub(super) fn body_begins(&mut self) {
        self.body = Some(Pace::new(self.times.slack));
    }

    /// Nothing more is awaited from the client.
    pub(super) fn body_ends(&mut self) {
        self.body = None;
    }

    /// Nothing more is sent to the client.
    pub(super) fn answer_ends(&mut self) {
        self.answer = None;
    }

    /// The request has been answered.
    pub(super) fn request_ends(&mut self, now: Instant) {
        self.phase = Phase::Idle(now + self.times.keepalive);
        self.body = None;
        self.answer = None;
    }

    /// A read finds nothing.
    pub(super) fn read_waits(&mut self, now: impl FnOnce() -> Instant) {
        if let Some(body) = &mut self.body {
            body.waits(now());
        }
    }

    /// A read finds something.
    pub(super) fn read_moves(&mut self, bytes: usize, now: impl FnOnce() -> Instant) {
        let (rate, slack) = (self.times.read_rate_min, self.times.slack);
        if let Some(body) = &mut self.body {
            body.moves(bytes, rate, slack, now());
        }
    }

    /// A write finds no room.
    pub(super) fn write_waits(&mut self, now: impl FnOnce() -> Instant) {
        if let Some(answer) = &mut self.answer {
            answer.waits(now());
        }
    }

    /// A write finds room, after it had found none.
    pub(super) fn write_moves(&mut self, bytes: usize, now: impl FnOnce() -> Instant) {
        let (rate, slack) = (self.times.write_rate_min, self.times.slack);
        // Without a wait there is nothing to earn back.
        if let Some(answer) = &mut self.answer
            && (answer.waiting_since.is_some() || answer.slack < slack)
        {
            answer.moves(bytes, rate, slack, now());
        }
    }

    /// When it is overdue unless something happens before.
    pub(super) fn due(&self) -> Option<Instant> {
        let pace = |pace: Option<Pace>| pace.and_then(|pace| pace.due());
        let dues = match self.phase {
            Phase::New(due) | Phase::Idle(due) | Phase::Header(due) => [Some(due), None],
            Phase::Serving => [pace(self.body), pace(self.answer)],
        };
        dues.into_iter().flatten().chain(self.next_header).min()
    }

    /// What is overdue now, if anything is.
    pub(super) fn overdue(&self, now: Instant) -> Option<Overdue> {
        self.due().filter(|due| *due <= now)?;
        let is_due = |pace: Pace| pace.due().is_some_and(|due| due <= now);
        Some(match self.phase {
            _ if self.next_header.is_some_and(|due| due <= now) => Overdue::Header,
            Phase::Serving if self.body.is_some_and(is_due) => Overdue::Body,
            Phase::Serving => Overdue::Answer,
            Phase::Idle(_) => Overdue::Idle,
            Phase::New(_) | Phase::Header(_) => Overdue::Header,
        })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const SECOND: Duration = Duration::from_secs(1);
    const TIMES: Times = Times {
        header: Duration::from_secs(10),
        keepalive: Duration::from_secs(60),
        slack: Duration::from_secs(5),
        read_rate_min: 100,
        write_rate_min: 100,
    };

    #[test]
    fn a_first_header_has_its_time_from_the_connection_on_and_a_later_one_from_its_first_byte() {
        let began = Instant::now();
        let mut clock = Clock::new(TIMES, began);
        assert_eq!(clock.due(), Some(began + 10 * SECOND));
        clock.header_begins(began + 9 * SECOND);
        assert_eq!(clock.due(), Some(began + 10 * SECOND));
        assert_eq!(clock.overdue(began + 10 * SECOND), Some(Overdue::Header));
        clock.header_ends();
        assert_eq!(clock.due(), None);
        let ended = began + 100 * SECOND;
        clock.request_ends(ended);
        assert_eq!(clock.due(), Some(ended + 60 * SECOND));
        let next = ended + 59 * SECOND;
        clock.header_begins(next);
        assert_eq!(clock.due(), Some(next + 10 * SECOND));
    }

    #[test]
    fn a_request_that_waits_for_nothing_of_its_client_has_no_end() {
        let now = Instant::now();
        let mut clock = Clock::new(TIMES, now);
        clock.header_ends();
        clock.read_waits(|| now);
        assert_eq!(clock.overdue(now + 1_000_000 * SECOND), None);
    }

    #[test]
    fn a_header_beside_requests_has_its_time_and_is_forgotten_when_it_is_whole() {
        let now = Instant::now();
        let mut clock = Clock::new(TIMES, now);
        clock.header_ends();
        clock.next_header_begins(now);
        clock.next_header_begins(now + 9 * SECOND); // more of the same one
        assert_eq!(clock.overdue(now + 9 * SECOND), None);
        assert_eq!(clock.overdue(now + 10 * SECOND), Some(Overdue::Header));
        clock.next_header_ends();
        assert_eq!(clock.due(), None);
        clock.next_header_begins(now + 9 * SECOND);
        assert_eq!(clock.due(), Some(now + 19 * SECOND));
    }

    #[test]
    fn a_body_that_drips_is_overdue_when_its_slack_is_used_up() {
        let mut now = Instant::now();
        let mut clock = Clock::new(TIMES, now);
        clock.header_ends();
        clock.body_begins();
        let mut seconds = 0;
        while clock.overdue(now).is_none() {
            clock.read_waits(|| now);
            now += SECOND;
            if clock.overdue(now).is_none() {
                clock.read_moves(10, || now); // a tenth of the rate
            }
            seconds += 1;
            assert!(seconds < 100);
        }
        // Each second costs a second and earns a tenth.
        assert!((5..=6).contains(&seconds), "{seconds}");
        assert_eq!(clock.overdue(now), Some(Overdue::Body));
    }

    #[test]
    fn time_in_which_nobody_waits_for_the_client_costs_it_nothing() {
        let mut now = Instant::now();
        let mut clock = Clock::new(TIMES, now);
        clock.header_ends();
        clock.body_begins();
        for _ in 0..50 {
            clock.read_waits(|| now);
            clock.read_moves(1, || now);
            now += 60 * SECOND; // the origin takes its time
            assert_eq!(clock.overdue(now), None);
        }
        clock.body_ends();
        clock.read_waits(|| now);
        assert_eq!(clock.overdue(now + 60 * SECOND), None);
    }

    #[test]
    fn an_answer_that_is_not_read_is_overdue_and_one_that_is_read_is_not() {
        let mut now = Instant::now();
        let mut clock = Clock::new(TIMES, now);
        clock.header_ends();
        for _ in 0..50 {
            clock.write_waits(|| now);
            now += SECOND;
            assert_eq!(clock.overdue(now), None);
            clock.write_moves(100, || now);
        }
        clock.write_waits(|| now);
        assert_eq!(clock.overdue(now + 5 * SECOND), Some(Overdue::Answer));
    }

    proptest! {
        /// What comes at the rate or above it is never cut, in whatever pieces; and nobody saves up more than the slack.
        #[test]
        fn a_client_at_the_rate_is_never_cut(waits_ms in prop::collection::vec(1_u64..5_000, 1..300)) {
            let mut now = Instant::now();
            let mut clock = Clock::new(TIMES, now);
            clock.header_ends();
            clock.body_begins();
            for wait in waits_ms {
                clock.read_waits(|| now);
                now += Duration::from_millis(wait);
                prop_assert_eq!(clock.overdue(now), None);
                let bytes = usize::try_from(wait * TIMES.read_rate_min).unwrap().div_ceil(1_000);
                clock.read_moves(bytes, || now);
            }
            clock.read_waits(|| now);
            prop_assert!(clock.overdue(now + TIMES.slack).is_some());
        }
    }
}
