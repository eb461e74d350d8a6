//! Which of several usable nodes is next: pure arithmetic over their load and weight.

use std::cmp::Ordering as Order;
use std::sync::atomic::{AtomicI64, Ordering};

use crate::config::Algorithm;

/// A node that may be picked.
#[derive(Debug)]
pub(super) struct Candidate<'n> {
    /// Requests it is working on.
    pub(super) in_flight: usize,
    /// Its share beside the others at this moment, in thousandths of a weight; at least 1.
    pub(super) weight: u64,
    /// Its credit in the turns that go round.
    pub(super) credit: &'n AtomicI64,
}

impl Candidate<'_> {
    /// Orders by requests in flight for the weight, multiplied out. The next request is not counted in: idle ones are equal,
    /// whatever their weight, and take turns by it.
    fn compare_load(&self, other: &Self) -> Order {
        let load = |one: &Self, by: &Self| one.in_flight as u128 * u128::from(by.weight);
        load(self, other).cmp(&load(other, self))
    }
}

/// The place of the next node among the candidates; `None` when there are none. `random` is 64 random bits.
pub(super) fn choose(
    algorithm: Algorithm,
    candidates: &[Candidate<'_>],
    random: u64,
) -> Option<usize> {
    match algorithm {
        Algorithm::RoundRobin => next_turn(candidates, |_| true),
        Algorithm::LeastConnections => {
            let least = candidates
                .iter()
                .min_by(|left, right| left.compare_load(right))?;
            next_turn(candidates, |one| one.compare_load(least) == Order::Equal)
        }
        Algorithm::PowerOfTwo => less_loaded_of_two(candidates, random),
    }
}

/// Smooth weighted round robin over those that are eligible: every turn adds each one's weight to its credit, and the one
/// with the most pays for all. So a weight of two comes twice as often, and never twice in a row without need.
///
/// Two turns at the same moment may read each other's half-done accounts: the shares stay right, the order may not.
fn next_turn(
    candidates: &[Candidate<'_>],
    is_eligible: impl Fn(&Candidate<'_>) -> bool,
) -> Option<usize> {
    let mut total = 0;
    let mut best: Option<(usize, i64)> = None;
    for (index, one) in candidates.iter().enumerate() {
        if !is_eligible(one) {
            continue;
        }
        let weight = i64::try_from(one.weight).unwrap_or(i64::MAX / 1_024);
        total += weight;
        let credit = one.credit.fetch_add(weight, Ordering::Relaxed) + weight;
        if best.is_none_or(|(_, most)| credit > most) {
            best = Some((index, credit));
        }
    }
    let (index, _) = best?;
    candidates[index].credit.fetch_sub(total, Ordering::Relaxed);
    Some(index)
}

/// Draws two different candidates by weight; the less loaded one, the first of equals.
fn less_loaded_of_two(candidates: &[Candidate<'_>], random: u64) -> Option<usize> {
    let first = draw(candidates, random >> 32, None)?;
    let Some(second) = draw(candidates, random & 0xffff_ffff, Some(first)) else {
        return Some(first);
    };
    match candidates[second].compare_load(&candidates[first]) {
        Order::Less => Some(second),
        Order::Equal | Order::Greater => Some(first),
    }
}

/// One candidate by weight, but not the one at `but`; `random` is 32 random bits.
fn draw(candidates: &[Candidate<'_>], random: u64, but: Option<usize>) -> Option<usize> {
    let eligible = || {
        let all = candidates.iter().enumerate();
        all.filter(move |(index, _)| Some(*index) != but)
    };
    let total: u128 = eligible().map(|(_, one)| u128::from(one.weight)).sum();
    // As a share of 2^32, so that no remainder favours the first ones.
    let mut at = (total * u128::from(random)) >> 32;
    for (index, one) in eligible() {
        let weight = u128::from(one.weight);
        if at < weight {
            return Some(index);
        }
        at -= weight;
    }
    None
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    struct Nodes(Vec<(usize, u64, AtomicI64)>);

    impl Nodes {
        fn new(loads: &[(usize, u64)]) -> Self {
            let node = |&(in_flight, weight)| (in_flight, weight, AtomicI64::new(0));
            Self(loads.iter().map(node).collect())
        }

        fn choose(&self, algorithm: Algorithm, random: u64) -> Option<usize> {
            let candidate = |node| {
                let (in_flight, weight, credit): &(usize, u64, AtomicI64) = node;
                Candidate {
                    in_flight: *in_flight,
                    weight: *weight,
                    credit,
                }
            };
            let candidates: Vec<_> = self.0.iter().map(candidate).collect();
            choose(algorithm, &candidates, random)
        }
    }

    #[test]
    fn turns_come_as_often_as_the_weights_say_and_smoothly() {
        let nodes = Nodes::new(&[(9, 5_000), (0, 1_000), (4, 1_000)]);
        let turns: Vec<_> = (0..7)
            .map(|_| nodes.choose(Algorithm::RoundRobin, 0).unwrap())
            .collect();
        assert_eq!(turns, [0, 0, 1, 0, 2, 0, 0]);
    }

    #[test]
    fn of_two_drawn_the_less_loaded_one_is_taken_and_nobody_is_left_out() {
        let nodes = Nodes::new(&[(10, 1_000), (0, 1_000), (10, 1_000), (10, 1_000)]);
        let mut counts = [0; 4];
        let mut random = 7_u64;
        for _ in 0..4_000 {
            random = random
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1_442_695_040_888_963_407);
            counts[nodes.choose(Algorithm::PowerOfTwo, random).unwrap()] += 1;
        }
        // The idle one is among two of four in half of all draws.
        assert!((1_800..2_200).contains(&counts[1]), "{counts:?}");
        assert!(counts.iter().all(|count| *count > 400), "{counts:?}");
    }

    #[test]
    fn one_candidate_is_always_it_and_none_is_none() {
        for algorithm in [
            Algorithm::LeastConnections,
            Algorithm::RoundRobin,
            Algorithm::PowerOfTwo,
        ] {
            assert_eq!(Nodes::new(&[]).choose(algorithm, u64::MAX), None);
            assert_eq!(
                Nodes::new(&[(3, 1)]).choose(algorithm, u64::MAX),
                Some(0),
                "{algorithm:?}"
            );
        }
    }

    proptest! {
        #[test]
        fn least_connections_never_takes_a_node_that_is_busier_than_another(
            loads in prop::collection::vec((0_usize..50, 1_u64..3_000), 1..9),
            turns in 1_usize..20,
        ) {
            let nodes = Nodes::new(&loads);
            for _ in 0..turns {
                let chosen = nodes.choose(Algorithm::LeastConnections, 0).unwrap();
                let (load, weight) = loads[chosen];
                for (other_load, other_weight) in &loads {
                    prop_assert!(load as u64 * other_weight <= *other_load as u64 * weight);
                }
            }
        }

        #[test]
        fn every_algorithm_picks_one_that_is_there(
            loads in prop::collection::vec((0_usize..usize::MAX, 1_u64..1_000_000), 1..9),
            random in any::<u64>(),
        ) {
            for algorithm in [Algorithm::LeastConnections, Algorithm::RoundRobin, Algorithm::PowerOfTwo] {
                let chosen = Nodes::new(&loads).choose(algorithm, random);
                prop_assert!(chosen.is_some_and(|index| index < loads.len()));
            }
        }

        #[test]
        fn shares_over_many_turns_are_the_weights(
            weights in prop::collection::vec(1_u64..20, 1..6),
        ) {
            let loads: Vec<_> = weights.iter().map(|weight| (0, *weight)).collect();
            let nodes = Nodes::new(&loads);
            let total: u64 = weights.iter().sum();
            let mut counts = vec![0; weights.len()];
            for _ in 0..total {
                counts[nodes.choose(Algorithm::LeastConnections, 0).unwrap()] += 1;
            }
            prop_assert_eq!(counts, weights);
        }
    }
}
