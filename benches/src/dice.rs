//! Random choices that are the same in every run of one seed.

use rand_chacha::{
    ChaCha8Rng,
    rand_core::{Rng as _, SeedableRng as _},
};

/// A source of random numbers.
#[derive(Clone, Debug)]
pub struct Dice(ChaCha8Rng);

impl Dice {
    /// The numbers of one seed.
    pub fn new(seed: u64) -> Self {
        Self(ChaCha8Rng::seed_from_u64(seed))
    }

    /// A number from `min` to `max`, both included.
    pub fn between(&mut self, min: u32, max: u32) -> u32 {
        let choices = u64::from(max - min) + 1;
        min + ((u64::from(self.0.next_u32()) * choices) >> 32) as u32
    }

    /// One of some.
    pub fn pick<'a, T>(&mut self, choices: &'a [T]) -> Option<&'a T> {
        let last = choices.len().checked_sub(1)?;
        choices.get(self.between(0, last as u32) as usize)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_stay_between_their_bounds_and_reach_both() {
        let mut dice = Dice::new(1);
        let thrown: Vec<u32> = (0..1_000).map(|_| dice.between(1, 6)).collect();
        assert_eq!(thrown.iter().min(), Some(&1));
        assert_eq!(thrown.iter().max(), Some(&6));
        assert_eq!(dice.pick::<u32>(&[]), None);
    }
}
