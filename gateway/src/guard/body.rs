//! How fast the body of one HTTP/2 request has to come. The streams of a connection share its bytes, so its own clock knows
//! nothing of one of them.

use std::time::Duration;

use tokio::time::Instant;

use super::clock::Pace;

/// The pace of one body, from the first wait for it on.
#[derive(Debug, Clone, Copy)]
pub struct BodyPace {
    pace: Pace,
    slack: Duration,
    /// Bytes a second at least.
    rate: u64,
}

impl BodyPace {
    /// A body that is awaited from now on; its client may fall `slack` behind the rate, in bytes a second.
    pub fn new(rate: u64, slack: Duration, now: Instant) -> Self {
        let mut pace = Pace::new(slack);
        pace.waits(now);
        Self { pace, slack, rate }
    }

    /// When the next piece has to be here.
    pub fn due(&self) -> Instant {
        // It is always waited for.
        self.pace.due().unwrap_or_else(Instant::now)
    }

    /// A piece has come, and the next one is awaited. False if this one came too late.
    pub fn has_come(&mut self, bytes: usize, now: Instant) -> bool {
        let is_in_time = now <= self.due();
        self.pace.moves(bytes, self.rate, self.slack, now);
        self.pace.waits(now);
        is_in_time
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_body_at_its_rate_is_in_time_for_ever_and_one_that_drips_is_not() {
        let (slack, step) = (Duration::from_secs(1), Duration::from_millis(500));
        for (bytes, expected) in [(50, 100), (10, 2)] {
            let mut now = Instant::now();
            let mut pace = BodyPace::new(100, slack, now);
            let mut pieces = 0;
            while pieces < 100 {
                now += step;
                if !pace.has_come(bytes, now) {
                    break;
                }
                pieces += 1;
            }
            assert_eq!(pieces, expected, "{bytes} bytes each");
            assert!(pace.due() <= now + slack);
        }
    }
}
