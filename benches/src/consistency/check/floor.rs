//! A value that a counter cannot be under any more.

use crate::consistency::history::Moment;

/// The highest value that follows from the writes acknowledged so far.
///
/// Two counts are kept: of all writes from the start, and of those that were sent after the last moment at which the value was
/// known to be higher than counted; each of these made a step above that value.
#[derive(Clone, Copy, Debug)]
pub(super) struct Floor {
    value: u64,
    from_start: u64,
    anchor: Moment,
    from_anchor: u64,
}

impl Floor {
    pub(super) fn new(base: u64) -> Self {
        Self {
            value: base,
            from_start: base,
            anchor: Moment::default(),
            from_anchor: base,
        }
    }

    pub(super) fn value(&self) -> u64 {
        self.value
    }

    /// A write sent at `began` is acknowledged now, and made at least `made`.
    pub(super) fn acknowledge(&mut self, began: Moment, made: u64, now: Moment) {
        self.from_start += 1;
        if began >= self.anchor {
            self.from_anchor += 1;
        }
        self.raise(self.from_start.max(self.from_anchor).max(made), now);
    }

    /// Now it is known to be at least this.
    pub(super) fn raise(&mut self, value: u64, now: Moment) {
        self.value = self.value.max(value);
        if self.value > self.from_anchor {
            self.from_anchor = self.value;
            self.anchor = now;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn at(ms: u64) -> Moment {
        Moment::after(Duration::from_millis(ms))
    }

    #[test]
    fn every_acknowledged_write_is_a_step() {
        let mut floor = Floor::new(7);
        floor.acknowledge(at(1), 8, at(3));
        // Sent before the first was acknowledged: by itself it says 8.
        floor.acknowledge(at(2), 8, at(4));
        assert_eq!(floor.value(), 9);
    }

    #[test]
    fn writes_sent_after_a_higher_value_was_seen_count_from_there() {
        let mut floor = Floor::new(0);
        floor.raise(5, at(10));
        // One that was on its way may be among the five.
        floor.acknowledge(at(9), 1, at(11));
        assert_eq!(floor.value(), 5);
        floor.acknowledge(at(12), 6, at(14));
        floor.acknowledge(at(13), 6, at(15));
        assert_eq!(floor.value(), 7);
    }
}
