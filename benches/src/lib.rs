//! What the measurements share: a load generator, peers to compare with, and reports that keep their raw data.
//!
//! Each program under `src/bin` measures us and a named peer in turn within one run, and prints medians and their ratio.

pub mod load;
pub mod nginx;
pub mod report;
pub mod running;
