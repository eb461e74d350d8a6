//! How much of everything there is, which ids it has and what belongs to what: all of it integers
//! from the seed, so that each file can be written without the others, on any machine, in constant
//! memory.

use rand_chacha::{
    ChaCha8Rng,
    rand_core::{Rng as _, SeedableRng as _},
};

/// Products of the full-size release, which the rows below are those of.
const FULL_PRODUCTS: u64 = 1_000_011;
/// Ids leave one out about as often as the photos of the full-size release do.
const ROWS_PER_ID_GAP: u64 = 89_771;

/// A table of the data set, as [`TABLES`](crate::tables::TABLES) has them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Products,
    Features,
    Styles,
    Skus,
    Photos,
    Related,
    Characteristics,
    Reviews,
    Votes,
    ReviewPhotos,
    Questions,
    Answers,
    AnswerPhotos,
}

/// How many kinds there are.
const KINDS: usize = Kind::AnswerPhotos as usize + 1;

impl Kind {
    /// Its rows in the full-size release that can be loaded.
    fn full_rows(self) -> u64 {
        match self {
            Self::Products => FULL_PRODUCTS,
            Self::Features => 2_219_279,
            Self::Styles => 1_958_102,
            Self::Skus => 11_323_917,
            Self::Photos => 5_655_656,
            Self::Related => 4_508_205,
            Self::Reviews => 5_774_952,
            Self::ReviewPhotos => 2_742_540,
            Self::Characteristics => 3_347_679,
            Self::Votes => 19_327_575,
            Self::Questions => 3_518_963,
            Self::Answers => 6_879_306,
            Self::AnswerPhotos => 2_063_759,
        }
    }

    /// Names its streams of random numbers. The same seed gives the same bytes wherever the table stands in the order of loading.
    pub(super) fn stream(self) -> u64 {
        match self {
            Self::Products => 0,
            Self::Features => 1,
            Self::Styles => 2,
            Self::Skus => 3,
            Self::Photos => 4,
            Self::Related => 5,
            Self::Reviews => 6,
            Self::ReviewPhotos => 7,
            Self::Characteristics => 8,
            Self::Votes => 9,
            Self::Questions => 10,
            Self::Answers => 11,
            Self::AnswerPhotos => 12,
        }
    }
}

/// Random numbers of a named stream: the same on every machine and with every version of the
/// libraries.
#[derive(Debug, Clone)]
pub(super) struct Dice(ChaCha8Rng);

impl Dice {
    /// Streams of one seed are independent of each other.
    pub(super) fn new(seed: u64, stream: u64) -> Self {
        let mut key = [0; 32];
        key[..8].copy_from_slice(&seed.to_le_bytes());
        let mut rng = ChaCha8Rng::from_seed(key);
        rng.set_stream(stream);
        Self(rng)
    }

    pub(super) fn bits(&mut self) -> u32 {
        self.0.next_u32()
    }

    /// A number below `n`.
    pub(super) fn below(&mut self, n: u32) -> u32 {
        ((u64::from(self.bits()) * u64::from(n)) >> 32) as u32
    }

    /// A number below `n`, which may be large.
    pub(super) fn below_large(&mut self, n: u64) -> u64 {
        ((u128::from(self.0.next_u64()) * u128::from(n)) >> 64) as u64
    }

    pub(super) fn one_in(&mut self, n: u32) -> bool {
        self.below(n) == 0
    }

    pub(super) fn pick<'a, T: ?Sized>(&mut self, choices: &[&'a T]) -> &'a T {
        choices[self.below(choices.len() as u32) as usize]
    }
}

/// How unevenly children are spread over their parents.
#[derive(Debug, Clone, Copy)]
pub(super) enum Skew {
    /// Most parents have about as many as the mean, one in 32 has none.
    Even,
    /// One in eight has none, and a few have a thousand times the mean.
    Fat,
}

/// Weights by how rare they are: each is 1.7 times the one before, and half as frequent.
const FAT_WEIGHTS: [u64; 17] = [
    100, 170, 289, 491, 835, 1_420, 2_414, 4_103, 6_976, 11_859, 20_160, 34_272, 58_262, 99_046,
    168_378, 286_242, 486_612,
];

impl Skew {
    fn weight(self, dice: &mut Dice) -> u64 {
        let bits = dice.bits();
        match self {
            Self::Even if bits.is_multiple_of(32) => 0,
            Self::Even => u64::from(40 + (bits >> 8) % 120),
            Self::Fat if bits >> 29 == 0 => 0,
            Self::Fat => FAT_WEIGHTS[(bits.trailing_zeros() as usize).min(FAT_WEIGHTS.len() - 1)],
        }
    }
}

/// How many children each parent has, one parent after the other. They sum up to the total,
/// exactly.
#[derive(Debug, Clone)]
pub(super) struct Spread {
    dice: Dice,
    skew: Skew,
    total: u64,
    weights: u64,
    carried: u64,
}

impl Spread {
    fn new(dice: Dice, skew: Skew, parents: u64, total: u64) -> Self {
        let mut rehearsal = dice.clone();
        let weights = (0..parents)
            .map(|_| skew.weight(&mut rehearsal))
            .sum::<u64>();
        // With a single parent whose weight is 0 nobody would have the children.
        Self {
            dice,
            skew,
            total,
            weights,
            carried: 0,
        }
    }

    /// The number of children of the next parent.
    pub(super) fn next(&mut self) -> u64 {
        if self.weights == 0 {
            return std::mem::take(&mut self.total);
        }
        // At most 500,000 times 200 million: far from 64 bits.
        let due = self.carried + self.skew.weight(&mut self.dice) * self.total;
        self.carried = due % self.weights;
        due / self.weights
    }
}

/// A data set of a number of products.
#[derive(Debug, Clone, Copy)]
pub(super) struct Plan {
    pub(super) seed: u64,
    pub(super) products: u64,
    votes: u64,
    /// The rows of those tables that are not in proportion.
    fixed: [Option<u64>; KINDS],
}

/// The streams of random numbers that are not those of a file.
#[derive(Debug, Clone, Copy)]
#[repr(u64)]
pub(super) enum Stream {
    /// Added to the number of the table whose rows are spread.
    Spread = 100,
    /// How many reviews and questions a product draws.
    Popularity = 200,
    Texts = 300,
}

impl Plan {
    /// With some tables of another size, by the number of their kind.
    pub(super) fn sized(seed: u64, products: u64, fixed: &[Option<u64>; KINDS]) -> Self {
        let mut plan = Self {
            seed,
            products,
            votes: 0,
            fixed: *fixed,
        };
        // Each review votes on each characteristic of its product.
        let (mut characteristics, mut reviews) = (
            plan.spread(Kind::Characteristics),
            plan.spread(Kind::Reviews),
        );
        plan.votes = (0..products)
            .map(|_| characteristics.next() * reviews.next())
            .sum();
        plan
    }

    /// How many rows of a table can be loaded.
    pub(super) fn rows(&self, kind: Kind) -> u64 {
        match kind {
            Kind::Votes => self.votes,
            kind => self.fixed[kind as usize].unwrap_or_else(|| self.scaled(kind.full_rows())),
        }
    }

    /// A number of the full-size release, at this size: 1 at least.
    pub(super) fn scaled(&self, full: u64) -> u64 {
        (full * self.products / FULL_PRODUCTS).max(1)
    }

    /// The id of the row of a number, from 0. Products have no gaps, so that any of them can be
    /// asked for.
    pub(super) fn id(&self, kind: Kind, row: u64) -> u64 {
        let rows_per_gap = match kind {
            Kind::Products => u64::MAX,
            kind => ROWS_PER_ID_GAP.min((self.rows(kind) / 2).max(1)),
        };
        row + 1 + row / rows_per_gap
    }

    /// The lowest id that no row of a table has.
    pub(super) fn spare_id(&self, kind: Kind) -> u64 {
        self.id(kind, self.rows(kind))
    }

    /// How many rows of a table each of its parents has.
    pub(super) fn spread(&self, kind: Kind) -> Spread {
        let (parents, skew) = match kind {
            Kind::Skus | Kind::Photos => (Kind::Styles, Skew::Even),
            Kind::ReviewPhotos => (Kind::Reviews, Skew::Even),
            Kind::Answers => (Kind::Questions, Skew::Fat),
            Kind::AnswerPhotos => (Kind::Answers, Skew::Even),
            Kind::Reviews | Kind::Questions => (Kind::Products, Skew::Fat),
            _ => (Kind::Products, Skew::Even),
        };
        let stream = match kind {
            Kind::Reviews | Kind::Questions => Stream::Popularity as u64,
            kind => Stream::Spread as u64 + kind.stream(),
        };
        Spread::new(
            Dice::new(self.seed, stream),
            skew,
            self.rows(parents),
            self.rows(kind),
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn children_sum_up_to_their_total() {
        for products in [1, 2, 10, 999] {
            let plan = Plan::sized(7, products, &[None; KINDS]);
            for (kind, parents) in [
                (Kind::Reviews, Kind::Products),
                (Kind::Photos, Kind::Styles),
            ] {
                let mut spread = plan.spread(kind);
                let sum: u64 = (0..plan.rows(parents)).map(|_| spread.next()).sum();
                assert_eq!(sum, plan.rows(kind), "{kind:?} of {products}");
            }
        }
    }

    #[test]
    fn a_few_products_are_fat_and_some_have_nothing() {
        let plan = Plan::sized(1, 100_000, &[None; KINDS]);
        let mut spread = plan.spread(Kind::Reviews);
        let counts: Vec<u64> = (0..plan.products).map(|_| spread.next()).collect();
        assert!(counts.iter().max() > Some(&1000));
        assert!(counts.iter().filter(|count| **count == 0).count() > 10_000);
    }

    #[test]
    fn the_full_size_has_the_rows_of_the_release() {
        let plan = Plan {
            seed: 1,
            products: FULL_PRODUCTS,
            votes: 0,
            fixed: [None; KINDS],
        };
        assert_eq!(plan.rows(Kind::Skus), 11_323_917);
        // As in the release: 63 ids are left out.
        assert_eq!(
            plan.id(Kind::Photos, plan.rows(Kind::Photos) - 1),
            5_655_719
        );
    }

    #[test]
    fn numbers_are_the_same_on_every_machine() {
        let mut dice = Dice::new(42, 3);
        assert_eq!(
            [dice.below(1000), dice.below(1000), dice.below(1000)],
            [274, 456, 239]
        );
    }
}
