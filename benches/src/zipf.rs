//! Choices of which few are taken often and many seldom.

use crate::dice::Dice;

/// Places from 0 on; the n-th is taken in proportion to 1/n.
#[derive(Clone, Debug)]
pub struct Zipf {
    /// Sums of the weights up to each place, as parts of 2³².
    sums: Vec<u32>,
}

impl Zipf {
    /// So many places, at least one.
    pub fn new(places: usize) -> Self {
        let weights = (1..=places.max(1)).map(|rank| 1.0 / rank as f64);
        let total: f64 = weights.clone().sum();
        let mut sum = 0.0;
        let sums = weights
            .map(|weight| {
                sum += weight;
                (sum / total * f64::from(u32::MAX)) as u32
            })
            .collect();
        Self { sums }
    }

    /// One of the places.
    pub fn pick(&self, dice: &mut Dice) -> usize {
        let thrown = dice.between(0, u32::MAX);
        let place = self.sums.partition_point(|sum| *sum < thrown);
        place.min(self.sums.len() - 1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_place_is_taken_as_often_as_its_weight_says() {
        let (zipf, mut dice) = (Zipf::new(100), Dice::new(1));
        let mut taken = [0_u32; 100];
        for _ in 0..100_000 {
            taken[zipf.pick(&mut dice)] += 1;
        }
        // The hundredth harmonic number is 5.187.
        assert!((18_800..19_800).contains(&taken[0]), "{}", taken[0]);
        assert!((9_300..10_000).contains(&taken[1]), "{}", taken[1]);
        assert!(taken[99] > 100);
        assert_eq!(Zipf::new(1).pick(&mut dice), 0);
    }
}
