//! The ids of what has been loaded, and what they belong to: checks of parents and repeated ids
//! without the database.
//!
//! Memory follows the number of ids, never the largest one: ids are kept in pages of 65,536, and a
//! page that holds few of them is a sorted list.

use roaring::RoaringBitmap;

use crate::reject::Reason;

/// A set of ids.
#[derive(Debug, Default)]
pub struct IdSet(RoaringBitmap);

impl IdSet {
    /// Whether it holds an id.
    #[must_use]
    pub fn contains(&self, id: i32) -> bool {
        self.0.contains(id.cast_unsigned())
    }

    /// Adds an id; says whether it was new.
    pub fn insert(&mut self, id: i32) -> bool {
        self.0.insert(id.cast_unsigned())
    }

    /// Whether it holds none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

/// What each id belongs to: a map from id to id.
#[derive(Debug, Default)]
pub struct IdMap {
    pages: Vec<Page>,
}

impl IdMap {
    /// What an id belongs to.
    #[must_use]
    pub fn get(&self, id: i32) -> Option<i32> {
        let (page, slot) = split(id);
        self.pages.get(page)?.get(slot)
    }

    /// Adds an id and its owner, which is not 0.
    pub fn insert(&mut self, id: i32, owner: i32) {
        let (page, slot) = split(id);
        if page >= self.pages.len() {
            self.pages.resize_with(page + 1, Page::default);
        }
        self.pages[page].insert(slot, owner);
    }
}

fn split(id: i32) -> (usize, u16) {
    let id = id.cast_unsigned();
    ((id >> 16) as usize, (id & 0xffff) as u16)
}

/// From this many ids on a page is an array over all its slots. Then an id costs 4 bytes in a page that
/// is full and 32 in one with this many, and a page that ids enter in any order never has much to move.
const SPARSE_MAX: usize = 8192;

#[derive(Debug)]
enum Page {
    /// Slots in order, and their owners.
    Sparse(Vec<u16>, Vec<i32>),
    /// Owners by slot; 0 is none.
    Dense(Box<[i32]>),
}

impl Default for Page {
    fn default() -> Self {
        Self::Sparse(Vec::new(), Vec::new())
    }
}

impl Page {
    fn get(&self, slot: u16) -> Option<i32> {
        match self {
            Self::Sparse(slots, owners) => slots.binary_search(&slot).ok().map(|at| owners[at]),
            Self::Dense(owners) => Some(owners[usize::from(slot)]).filter(|owner| *owner != 0),
        }
    }

    fn insert(&mut self, slot: u16, owner: i32) {
        match self {
            Self::Sparse(slots, owners) => {
                match slots.binary_search(&slot) {
                    Ok(at) => owners[at] = owner,
                    Err(at) => {
                        slots.insert(at, slot);
                        owners.insert(at, owner);
                    }
                }
                if slots.len() > SPARSE_MAX {
                    let mut dense = vec![0; 1 << 16].into_boxed_slice();
                    for (slot, owner) in slots.iter().zip(owners) {
                        dense[usize::from(*slot)] = *owner;
                    }
                    *self = Self::Dense(dense);
                }
            }
            Self::Dense(owners) => owners[usize::from(slot)] = owner,
        }
    }
}

/// What the tables loaded so far hold, as far as later ones need it.
#[derive(Debug, Default)]
pub struct Ids {
    /// Products.
    pub products: IdSet,
    /// The product of each style.
    pub styles: IdMap,
    /// The product of each review.
    pub reviews: IdMap,
    /// Characteristics.
    pub characteristics: IdSet,
    /// The product of each question.
    pub questions: IdMap,
    /// The question of each answer.
    pub answers: IdMap,
    /// The ids of the present table, if no later one needs them.
    pub seen: IdSet,
}

impl Ids {
    /// Refuses an id that is not new to the present table, of which nothing else is kept.
    ///
    /// # Errors
    /// [`Reason::DuplicateId`].
    pub fn unseen(&self, id: i32) -> Result<(), Reason> {
        if self.seen.contains(id) {
            Err(Reason::DuplicateId)
        } else {
            Ok(())
        }
    }

    /// Refuses a product that was not loaded.
    ///
    /// # Errors
    /// [`Reason::DanglingParent`].
    pub fn product(&self, id: i32) -> Result<(), Reason> {
        if self.products.contains(id) {
            Ok(())
        } else {
            Err(Reason::DanglingParent)
        }
    }

    /// As [`product`](Self::product), but any product will do while none are loaded: reviews and
    /// questions can be loaded without a catalogue.
    ///
    /// # Errors
    /// [`Reason::DanglingParent`].
    pub fn product_if_any(&self, id: i32) -> Result<(), Reason> {
        if self.products.is_empty() {
            Ok(())
        } else {
            self.product(id)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeMap;

    #[test]
    fn a_page_that_fills_up_keeps_what_it_held() {
        let mut map = IdMap::default();
        let ids = (1..=70_000).map(|n| (n * 7919) % 200_003 + 1);
        for id in ids.clone() {
            map.insert(id, id + 1);
        }
        assert!(ids.clone().all(|id| map.get(id) == Some(id + 1)));
        assert_eq!(
            (1..=200_003).filter(|id| map.get(*id).is_some()).count(),
            70_000
        );
    }

    #[test]
    fn the_largest_id_costs_no_more_than_any_other() {
        let mut map = IdMap::default();
        map.insert(i32::MAX, 5);
        assert_eq!((map.get(i32::MAX), map.get(1)), (Some(5), None));
        assert!(map.pages.len() * size_of::<Page>() <= 2 << 20);
    }

    proptest! {
        #[test]
        fn a_map_of_ids_is_a_map(entries in prop::collection::vec((1..i32::MAX, 1..i32::MAX), 0..200)) {
            let mut map = IdMap::default();
            let expected: BTreeMap<i32, i32> = entries.iter().copied().collect();
            for (id, owner) in entries {
                map.insert(id, owner);
            }
            for (id, owner) in expected {
                prop_assert_eq!(map.get(id), Some(owner));
            }
        }
    }
}
