//! The writes that passed through this gateway, until the stream has shown them; and which groups were purged for which
//! transaction, so that none is purged twice.

use std::collections::{BTreeSet, VecDeque};

use rustc_hash::FxHashMap;

use super::clock::Moment;
use super::position::{Position, Token};

/// Writes that are remembered one by one; with more, the gateway waits until all that are as old are over.
const PENDING_MAX: usize = 4_096;
/// Transactions of which it is remembered what was purged for them.
const PURGED_MAX: usize = 4_096;
/// Groups that are remembered of one transaction; one with more is purged twice.
const GROUPS_MAX: usize = 16;

/// What is known of writes.
#[derive(Debug, Default)]
pub struct Writes {
    pending: BTreeSet<Token>,
    /// Writes up to this one were too many to remember.
    overflow: Option<Token>,
    /// When a write that named groups but no token was answered.
    nameless: Option<Moment>,
    purged: FxHashMap<Token, Vec<Box<str>>>,
    /// The transactions of `purged`, the oldest first.
    order: VecDeque<Token>,
}

impl Writes {
    /// A write of this gateway was answered: what it changed is read from the primary until the stream has shown it.
    pub fn begin(&mut self, token: Token, position: Option<&Position>) {
        if position.is_some_and(|position| position.includes(token)) {
            return;
        }
        self.pending.insert(token);
        if self.pending.len() > PENDING_MAX {
            self.overflow = self.overflow.max(self.pending.pop_last());
        }
    }

    /// A write of this gateway was answered that named groups, but not itself.
    pub fn begin_nameless(&mut self, now: Moment) {
        self.nameless = Some(now);
    }

    /// The position has moved, and everything that had committed before `applied_from` has been applied.
    pub fn shown(&mut self, position: &Position, applied_from: Option<Moment>) {
        self.pending.retain(|token| !position.includes(*token));
        self.overflow = self.overflow.filter(|token| *token >= position.floor());
        self.proven(applied_from);
    }

    /// Everything that had committed before `applied_from` has been applied.
    pub fn proven(&mut self, applied_from: Option<Moment>) {
        let is_open = |answered: &Moment| applied_from.is_none_or(|from| *answered >= from);
        self.nameless = self.nameless.filter(is_open);
    }

    /// Writes that the stream has not shown yet.
    pub fn pending(&self) -> usize {
        self.pending.len()
            + usize::from(self.overflow.is_some())
            + usize::from(self.nameless.is_some())
    }

    /// Whether this gateway took this write, and purged for it.
    pub fn took(&self, token: Token) -> bool {
        self.pending.contains(&token)
    }

    /// The groups of a transaction that were not yet purged for it.
    pub fn unpurged<'g>(&self, token: Option<Token>, groups: &'g [Box<str>]) -> Vec<&'g str> {
        let purged = token.and_then(|token| self.purged.get(&token));
        let is_new = |group: &&str| {
            purged.is_none_or(|purged| purged.iter().all(|known| **known != **group))
        };
        let groups = groups.iter().map(|group| &**group);
        groups.filter(is_new).collect()
    }

    /// These groups of a transaction have been purged: call it when the purge has taken effect, not before.
    pub fn purged<'g>(&mut self, token: Token, groups: impl Iterator<Item = &'g str>) {
        if !self.purged.contains_key(&token) {
            if self.order.len() == PURGED_MAX
                && let Some(oldest) = self.order.pop_front()
            {
                self.purged.remove(&oldest);
            }
            self.order.push_back(token);
        }
        let known = self.purged.entry(token).or_default();
        for group in groups {
            if known.len() == GROUPS_MAX {
                break;
            }
            if !known.iter().any(|other| &**other == group) {
                known.push(group.into());
            }
        }
    }

    /// Another life of the server: transactions of before, other than acknowledged writes, may have their numbers used again.
    pub fn forget_purged(&mut self) {
        self.purged.clear();
        self.order.clear();
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn position(text: &str) -> Position {
        format!("{text}@7.1.a").parse().unwrap()
    }

    #[test]
    fn a_write_is_pending_until_the_position_includes_it() {
        let mut writes = Writes::default();
        writes.begin(Token(5), Some(&position("5:5:")));
        writes.begin(Token(3), Some(&position("5:5:")));
        assert_eq!((writes.pending(), writes.took(Token(5))), (1, true));
        writes.shown(&position("5:9:5"), None);
        assert_eq!(writes.pending(), 1);
        writes.shown(&position("9:9:"), None);
        assert_eq!((writes.pending(), writes.took(Token(5))), (0, false));
    }

    #[test]
    fn too_many_writes_are_pending_together_until_all_as_old_are_over() {
        let mut writes = Writes::default();
        for number in 0..2 * PENDING_MAX as u64 {
            writes.begin(Token(number), None);
        }
        assert!(writes.pending() <= PENDING_MAX + 1);
        let last = 2 * PENDING_MAX as u64 - 1;
        writes.shown(&position(&format!("{last}:{last}:")), None);
        assert_eq!(writes.pending(), 1, "the newest of them");
        writes.shown(&position("9999:9999:"), None);
        assert_eq!(writes.pending(), 0);
    }

    #[test]
    fn a_write_without_a_name_is_pending_until_a_lease_begins_after_it() {
        let at = |seconds| Moment::from(Duration::from_secs(seconds));
        let mut writes = Writes::default();
        writes.begin_nameless(at(5));
        writes.shown(&position("9:9:"), Some(at(5)));
        assert_eq!(writes.pending(), 1);
        writes.proven(Some(at(6)));
        assert_eq!(writes.pending(), 0);
    }

    #[test]
    fn a_group_is_purged_once_for_one_transaction() {
        let mut writes = Writes::default();
        let groups: [Box<str>; 2] = ["a".into(), "b".into()];
        assert_eq!(writes.unpurged(Some(Token(1)), &groups), ["a", "b"]);
        writes.purged(Token(1), ["a"].into_iter());
        assert_eq!(writes.unpurged(Some(Token(1)), &groups), ["b"]);
        assert_eq!(writes.unpurged(Some(Token(2)), &groups), ["a", "b"]);
        assert_eq!(writes.unpurged(None, &groups), ["a", "b"]);
        writes.forget_purged();
        assert_eq!(writes.unpurged(Some(Token(1)), &groups), ["a", "b"]);
    }

    #[test]
    fn what_is_remembered_is_bounded() {
        let mut writes = Writes::default();
        let many: Vec<Box<str>> = (0..100).map(|n| n.to_string().into()).collect();
        for number in 0..2 * PURGED_MAX as u64 {
            writes.purged(Token(number), many.iter().map(|group| &**group));
        }
        assert_eq!(
            (writes.purged.len(), writes.order.len()),
            (PURGED_MAX, PURGED_MAX)
        );
        let newest = Token(2 * PURGED_MAX as u64 - 1);
        assert_eq!(writes.unpurged(Some(newest), &many).len(), 100 - GROUPS_MAX);
    }
}
