//! Whether readers are ever given the past: a history of writes and reads, recorded while things break, held against what
//! is promised.
//!
//! Every object is a counter that only grows, one step a write: a read is older than a write if it gives less.

pub mod check;
pub mod clients;
pub mod history;
pub mod nemesis;
pub mod objects;
