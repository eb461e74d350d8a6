//! A clock that goes on while the machine sleeps: a lease that was granted before a suspend must be over after it.

use std::ops::Add;
use std::time::Duration;

use nix::time::ClockId;

/// A moment since the machine started, its sleep included.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub struct Moment(Duration);

impl Moment {
    /// This moment.
    ///
    /// Linux always has this clock. Without it every moment would be the end of time, at which no lease holds.
    pub fn now() -> Self {
        let now = ClockId::CLOCK_BOOTTIME.now();
        Self(now.map_or(Duration::MAX, Duration::from))
    }

    /// The time since an earlier moment; none since a later one.
    pub fn since(self, earlier: Self) -> Duration {
        self.0.saturating_sub(earlier.0)
    }

    /// Nanoseconds, for counters that are read without a lock; 584 years fit.
    pub fn nanoseconds(self) -> u64 {
        u64::try_from(self.0.as_nanos()).unwrap_or(u64::MAX)
    }
}

impl From<Duration> for Moment {
    fn from(since_start: Duration) -> Self {
        Self(since_start)
    }
}

impl Add<Duration> for Moment {
    type Output = Self;

    fn add(self, length: Duration) -> Self {
        Self(self.0.saturating_add(length))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_clock_goes_on() {
        let first = Moment::now();
        let second = Moment::now();
        assert!(second >= first && second.since(first) < Duration::from_secs(60));
        assert_eq!(first.since(second + Duration::from_secs(1)), Duration::ZERO);
    }
}
