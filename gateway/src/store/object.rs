//! One stored response.

use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use bytes::{Bytes, BytesMut};
use http::header::CONTENT_LENGTH;
use http::{HeaderMap, HeaderValue, StatusCode};
use parking_lot::Mutex;

use super::encoded::{Encodings, Prepared};
use super::fill::Fill;
use super::ledger::Charge;
use super::{NewFill, Renewed};
use crate::policy::freshness::Left;
use crate::policy::key::Key;
use crate::purge::Sequence;

/// What tells the variants of one key apart: a hash over the request fields that `Vary` names.
pub type Variance = [u8; 16];

/// Status and header fields as the origin sent them, hop-by-hop fields removed.
#[derive(Debug, Clone)]
pub struct Head {
    /// The final status code.
    pub status: StatusCode,
    /// The stored fields; of a complete entry without `Content-Length`.
    pub headers: HeaderMap,
}

impl Head {
    /// The same head with its values in one buffer of their own: as they came, they are slices of whatever was read with
    /// them, and would keep all of that in memory.
    pub(super) fn compact(&self) -> Self {
        let length = self.headers.values().map(HeaderValue::len).sum();
        let mut values = BytesMut::with_capacity(length);
        let mut headers = HeaderMap::with_capacity(self.headers.len());
        for (name, value) in &self.headers {
            values.extend_from_slice(value.as_bytes());
            let copy = HeaderValue::from_maybe_shared(values.split().freeze());
            headers.append(name, copy.unwrap_or_else(|_| value.clone()));
        }
        Self {
            status: self.status,
            headers,
        }
    }

    /// The same head without `Content-Length`: a body that is all there tells its length itself.
    pub(super) fn without_length(&self) -> Self {
        let mut headers = HeaderMap::with_capacity(self.headers.len());
        let kept = self
            .headers
            .iter()
            .filter(|(name, _)| *name != CONTENT_LENGTH);
        headers.extend(kept.map(|(name, value)| (name.clone(), value.clone())));
        Self {
            status: self.status,
            headers: headers.clone(), // a clone has no room to spare
        }
    }

    pub(super) fn cost(&self) -> usize {
        let fields: usize = self
            .headers
            .iter()
            .map(|(name, value)| name.as_str().len() + value.len())
            .sum();
        fields
            + self.headers.len() * HEADER_FIELD_BYTES
            + self.headers.capacity() * HEADER_SLOT_BYTES
    }
}

/// How long a response may be used, measured on the monotonic clock from the moment it arrived.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Freshness {
    /// When the response arrived.
    pub stored_at: Instant,
    /// Its age then (RFC 9111 section 4.2.3).
    pub initial_age: Duration,
    /// How much longer it was fresh then.
    pub fresh_for: Duration,
    /// How long after that it may be used while a validation runs (RFC 5861 section 3).
    pub stale_while_revalidate: Duration,
    /// How long after that it may be used when the origin fails (RFC 5861 section 4).
    pub stale_if_error: Duration,
    /// Whether a client may not ask for it stale either (RFC 9111 section 4.2.4).
    pub must_revalidate: bool,
}

impl Freshness {
    /// The current age of the response.
    pub fn age(&self, now: Instant) -> Duration {
        self.initial_age + now.saturating_duration_since(self.stored_at)
    }

    /// What is left of its freshness.
    pub fn left(&self, now: Instant) -> Left {
        Left::after(
            self.fresh_for,
            now.saturating_duration_since(self.stored_at),
        )
    }
}

/// The content of an entry.
#[derive(Clone)]
pub enum Body {
    /// All of it, in the pieces that came.
    Complete(Arc<[Bytes]>),
    /// Still arriving.
    Filling(Arc<Fill>),
}

impl Body {
    /// The length in bytes, as far as it is there.
    pub fn len(&self) -> usize {
        match self {
            Self::Complete(chunks) => chunks.iter().map(Bytes::len).sum(),
            Self::Filling(fill) => fill.len(),
        }
    }

    /// Whether there is no content (yet).
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// One stored response; immutable, shared by all its readers.
pub struct Object {
    /// Which fill made it: one number, never used again.
    pub id: u64,
    /// The key it is found under.
    pub key: Arc<Key>,
    /// The variant it is, if the response varies.
    pub variance: Option<Variance>,
    /// Status and fields.
    pub head: Head,
    /// How long it may be used, soft purges apart.
    freshness: Freshness,
    /// The first soft purge that found it.
    expired: OnceLock<Expired>,
    /// Its groups.
    pub tags: Arc<[Box<str>]>,
    /// The content.
    pub body: Body,
    /// What was made of the body for other codings; none where that is not allowed.
    pub(super) encodings: Option<Arc<Encodings>>,
    /// Heads prepared for a write, one for each coding; new ones after a validation, as the fields are.
    pub(super) heads: Mutex<Vec<Prepared>>,
    charge: Charge,
}

/// A soft purge that found an entry.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Expired {
    /// The purge's number.
    pub sequence: Sequence,
    /// When it came: the entry's freshness ends here, and its stale windows begin.
    pub at: Instant,
}

impl Object {
    pub(super) fn new(id: u64, new: &NewFill, head: Head, body: Body, charge: Charge) -> Self {
        Self {
            id,
            key: Arc::clone(&new.key),
            variance: new.variance,
            head,
            freshness: new.freshness,
            expired: OnceLock::new(),
            tags: new.tags.clone().into(),
            body,
            encodings: new.encodable.then(Arc::default),
            heads: Mutex::default(),
            charge,
        }
    }

    /// The same entry with other fields and groups, after a validation.
    pub(super) fn with(&self, renewed: Renewed, body: Body, charge: Charge) -> Self {
        let encodings = self.encodings.clone().unwrap_or_default();
        let same_tags = renewed.tags[..] == self.tags[..];
        Self {
            id: self.id,
            key: Arc::clone(&self.key),
            variance: self.variance,
            head: renewed.head,
            freshness: renewed.freshness,
            expired: OnceLock::new(),
            tags: if same_tags {
                Arc::clone(&self.tags)
            } else {
                renewed.tags.into()
            },
            body,
            encodings: renewed.encodable.then_some(encodings),
            heads: Mutex::default(),
            charge,
        }
    }

    /// How long it may be used: as the origin said, or until a soft purge.
    pub fn freshness(&self) -> Freshness {
        let Some(Expired { at, .. }) = self.expired.get() else {
            return self.freshness;
        };
        let kept = at.saturating_duration_since(self.freshness.stored_at);
        Freshness {
            fresh_for: self.freshness.fresh_for.min(kept),
            ..self.freshness
        }
    }

    /// The soft purge that ended its freshness, if one has.
    pub fn expired(&self) -> Option<Expired> {
        self.expired.get().copied()
    }

    /// Ends its freshness. The first soft purge counts: a later one does not open the stale windows anew.
    pub(super) fn expire(&self, expired: Expired) {
        let _ = self.expired.set(expired);
    }

    /// Its bytes on the ledger, encoded bodies included; those of a fill in flight are counted with the fill.
    pub fn cost(&self) -> usize {
        let encoded = self.encodings.as_ref().map_or(0, |made| made.cost());
        let heads = self.heads.lock();
        let heads: usize = heads.iter().map(Prepared::cost).sum();
        self.charge.bytes() + encoded + heads
    }

    /// Whether the content is all there.
    pub fn is_complete(&self) -> bool {
        matches!(self.body, Body::Complete(_))
    }
}

/// The allocations of one entry that do not depend on its content: object, slot, hash table share, reference counts.
const OBJECT_BYTES: usize = 512;
/// One group of one entry besides the bytes of its name: that copy's allocation, its link, its posting. The index pays for
/// its own copy of each name.
const TAG_BYTES: usize = 64;
/// One field of a header map: name, value and links.
const HEADER_FIELD_BYTES: usize = 104;
/// One slot of a header map's hash index, of which a quarter stays empty.
const HEADER_SLOT_BYTES: usize = 6;

/// The bytes of an entry without its body: head, key, tags and their index.
pub(super) fn cost_of(key: &Key, head: &Head, tags: &[Box<str>]) -> usize {
    let tag_bytes: usize = tags.iter().map(|tag| tag.len() + TAG_BYTES).sum();
    OBJECT_BYTES + key.as_bytes().len() + head.cost() + tag_bytes
}
