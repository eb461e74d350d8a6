//! A plain hit from the bytes of its request: no session, no header map, no allocation.
//!
//! What is recognised is a GET for something fresh, with nothing in its header that could change the answer beyond the
//! choice of a coding. Everything else, and every doubt, is left to the normal path. How a target is spelled canonically is
//! that path's knowledge too: it teaches the spellings it has seen, so both always mean the same key.

mod alias;
mod head;
mod request;

use std::io::IoSlice;
use std::sync::Arc;
use std::time::{Instant, SystemTime};

use bytes::Bytes;

pub use alias::Aliases;
pub use head::{Finish, Variable};
pub use request::{Plain, recognise};

use crate::policy::freshness::Left;
use crate::policy::key::Key;
use crate::policy::vary::Coding;
use crate::store::{Body, Object, Store};

/// Answers plain hits from a store, by one set of settings: whoever loads others makes another one.
///
/// What this one learned goes with it, and the heads it prepared, which the entries keep, are of its generation: no other gives them.
pub struct Hot {
    store: Arc<Store>,
    generation: u64,
    aliases: Aliases,
    finish: Finish,
    codings: Vec<Coding>,
}

/// A whole answer, ready for one vectored write.
pub struct Ready {
    head: Bytes,
    variable: Variable,
    body: Bytes,
}

impl Ready {
    /// Prepared head, the fields of this moment with the end of the head, body.
    pub fn slices(&self) -> [IoSlice<'_>; 3] {
        [
            IoSlice::new(&self.head),
            IoSlice::new(self.variable.as_bytes()),
            IoSlice::new(&self.body),
        ]
    }
}

/// The moment of an answer.
#[derive(Debug, Clone, Copy)]
pub struct Present {
    /// For ages and lifetimes.
    pub now: Instant,
    /// For `Date`, where the origin stated none.
    pub wall: SystemTime,
    /// Whether what carries a group may be used: there is a lease, or no `[coherence]`.
    pub is_leased: bool,
}

impl Hot {
    /// For one store; `codings` as in `cache.encodings`.
    pub fn new(store: Arc<Store>, finish: Finish, codings: Vec<Coding>) -> Self {
        Self {
            generation: store.new_generation(),
            store,
            aliases: Aliases::new(),
            finish,
            codings,
        }
    }

    /// Learns what key the normal path gave to this spelling of host and target. A second call changes nothing.
    pub fn learn(&self, request: &Plain<'_>, key: &Arc<Key>) {
        self.aliases.learn(request.host, request.target, key);
    }

    /// The key of a request, if the normal path has taught it.
    pub fn key_of(&self, request: &Plain<'_>) -> Option<Arc<Key>> {
        self.aliases.find(request.host, request.target)
    }

    /// The answer to a request that is plain, known and fresh; `id` is the request's name. `None` leaves it to the normal
    /// path, which has lost nothing.
    pub fn answer(
        &self,
        request: &[u8],
        id: &str,
        Present {
            now,
            wall,
            is_leased,
        }: Present,
    ) -> Option<Ready> {
        let plain = recognise(request)?;
        let key = self.key_of(&plain)?;
        let object = self.store.lookup(&key.hash(), key.as_bytes(), None)?;
        let Left::Fresh(left) = object.freshness().left(now) else {
            return None;
        };
        if object.variance.is_some() {
            return None; // which variant it is depends on more than is read here
        }
        if !is_leased && !object.tags.is_empty() {
            return None; // what that means is for the normal path to say
        }
        let (coding, body) = self.representation(&plain, &object)?;
        let head = self.head(&object, coding, body.len())?;
        let age = object.freshness().age(now);
        let date = (!head::is_dated(&object)).then_some(wall);
        let variable = self.finish.variable(age, left, id, date)?;
        Some(Ready {
            head,
            variable,
            body,
        })
    }

    /// The representation that the normal path would give; none while a better one is to be asked for.
    fn representation(&self, plain: &Plain<'_>, object: &Object) -> Option<(Coding, Bytes)> {
        let Body::Complete(pieces) = &object.body else {
            return None;
        };
        if let (true, Some(accepted)) = (object.is_encodable(), plain.accepted) {
            let own = std::iter::once(Coding::Identity);
            let wanted = accepted.best(self.codings.iter().copied().chain(own))?;
            if wanted != Coding::Identity {
                return Some((wanted, object.encoded(wanted)?));
            }
        }
        match &pieces[..] {
            [] => Some((Coding::Identity, Bytes::new())),
            [body] => Some((Coding::Identity, body.clone())),
            [..] => None, // large: one write would not do
        }
    }

    /// The entry's prepared head, made by the first hit that wants it.
    fn head(&self, object: &Arc<Object>, coding: Coding, length: usize) -> Option<Bytes> {
        if let Some(head) = object.prepared(self.generation, coding) {
            return Some(head);
        }
        let head = self.finish.prepare(object, coding, length)?;
        self.store
            .keep_prepared(object, self.generation, coding, head.clone());
        Some(head)
    }
}

#[cfg(test)]
mod tests;
