//! The groups of a shard's entries.

use std::sync::Arc;

use super::Shard;
use crate::store::ledger::Charge;
use crate::store::tags::{TagLink, relink};

impl Shard {
    /// Puts an entry under its object's groups in place of those it was under.
    pub(super) fn retag(&mut self, index: u32, purse: &mut Charge) {
        let Some(slot) = self.slots.get_mut(index) else {
            return;
        };
        let (names, was) = (
            Arc::clone(&slot.object.tags),
            std::mem::take(&mut slot.tags),
        );
        self.untag(was);
        let tags = self.tag(index, &names, purse);
        if let Some(slot) = self.slots.get_mut(index) {
            slot.tags = tags;
        }
    }

    pub(super) fn tag(
        &mut self,
        index: u32,
        names: &[Box<str>],
        purse: &mut Charge,
    ) -> Box<[TagLink]> {
        let names = names.iter();
        names
            .map(|name| self.tags.add(name, index, purse))
            .collect()
    }

    pub(super) fn untag(&mut self, links: Box<[TagLink]>) {
        for link in links {
            let slots = &mut self.slots;
            self.tags.remove(link, |moved, was, now| {
                if let Some(slot) = slots.get_mut(moved) {
                    relink(&mut slot.tags, was, now);
                }
            });
        }
    }
}
