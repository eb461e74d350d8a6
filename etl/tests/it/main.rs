//! The loader on real Postgres: hand-written files, generated ones, and everything that may come
//! between.

#![expect(clippy::unwrap_used, reason = "a helper that fails fails its test")]

mod any_bytes;
mod clean;
mod coherence;
mod command;
mod disk_full;
mod dump;
mod generated;
mod kept;
mod layout;
mod memory;
mod merge;
mod migrate;
mod older;
mod online;
mod progress;
mod purged;
mod ranks;
mod refused;
mod repaired;
mod restart;
mod side_by_side;
mod sources;
mod support;
mod verify;
mod writes;
