//! Black-box tests of the private cluster, of supervision, and of the whole system.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod cluster;
mod guardian;
mod replica;
mod supervisor;
mod support;
mod system;
mod up;
