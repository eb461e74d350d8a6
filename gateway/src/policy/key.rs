//! The cache key: scheme, host, path and query, each framed by its length.
//!
//! Framing makes two different requests two different byte strings, whatever the parts hold. The hash is the function
//! pingora-cache uses, so it can be handed over instead of being computed again.

use std::fmt;

use blake2::digest::consts::U16;
use blake2::{Blake2b, Digest};

pub use crate::config::{BadHost, canonical_host};

/// The identity of a stored response, without its variant.
#[derive(Clone, PartialEq, Eq)]
pub struct Key {
    bytes: Box<[u8]>,
    hash: [u8; 16],
}

/// Bytes of the length in front of each part.
const FRAME: usize = size_of::<u32>();

/// The frame of a missing query: no part can be that long.
const MISSING: u32 = u32::MAX;

impl Key {
    /// Frames the parts, which must be canonical: see [`canonical_host`] and [`super::route::Routes::resolve`].
    pub fn new(scheme: &str, host: &str, path: &str, query: Option<&str>) -> Self {
        let length = scheme.len() + host.len() + path.len() + query.map_or(0, str::len);
        let mut bytes = Vec::with_capacity(length + 4 * FRAME);
        for part in [Some(scheme), Some(host), Some(path), query] {
            let Some(part) = part else {
                bytes.extend_from_slice(&MISSING.to_be_bytes());
                continue;
            };
            // Request targets are bounded far below 4 GiB.
            let length = u32::try_from(part.len()).unwrap_or(MISSING - 1);
            bytes.extend_from_slice(&length.to_be_bytes());
            bytes.extend_from_slice(part.as_bytes());
        }
        Self::framed(bytes.into_boxed_slice())
    }

    fn framed(bytes: Box<[u8]>) -> Self {
        let hash = Blake2b::<U16>::digest(&bytes).into();
        Self { bytes, hash }
    }

    /// The key that has these framed bytes; `None` if none has.
    pub fn from_bytes(bytes: &[u8]) -> Option<Self> {
        let key = Self::framed(bytes.into());
        let again = Self::new(key.part(0)?, key.part(1)?, key.part(2)?, key.part(3));
        (again == key).then_some(key)
    }

    /// Blake2b of the framed bytes, in 128 bits.
    pub fn hash(&self) -> [u8; 16] {
        self.hash
    }

    /// The framed bytes.
    pub fn as_bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// The scheme.
    pub fn scheme(&self) -> &str {
        self.part(0).unwrap_or_default()
    }

    /// The canonical host.
    pub fn host(&self) -> &str {
        self.part(1).unwrap_or_default()
    }

    /// The canonical path.
    pub fn path(&self) -> &str {
        self.part(2).unwrap_or_default()
    }

    /// The canonical query.
    pub fn query(&self) -> Option<&str> {
        self.part(3)
    }

    fn part(&self, index: usize) -> Option<&str> {
        let mut rest = &self.bytes[..];
        for _ in 0..index {
            let (length, tail) = split_frame(rest)?;
            rest = tail.get(length?..)?;
        }
        let (length, tail) = split_frame(rest)?;
        std::str::from_utf8(tail.get(..length?)?).ok()
    }
}

/// The length in front, none if it marks a missing part, and what follows it.
fn split_frame(bytes: &[u8]) -> Option<(Option<usize>, &[u8])> {
    let (frame, rest) = bytes.split_first_chunk::<FRAME>()?;
    let length = u32::from_be_bytes(*frame);
    Some(((length != MISSING).then_some(length as usize), rest))
}

impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}://{}{}", self.scheme(), self.host(), self.path())?;
        self.query().map_or(Ok(()), |query| write!(f, "?{query}"))
    }
}

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Key({self})")
    }
}

#[cfg(test)]
mod tests;
