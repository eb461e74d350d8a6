//! A private Postgres cluster and process supervision: serves `ops/up`, the tests and the benches.
//!
//! Nothing here touches or assumes a server that it did not start itself: a cluster lives in a directory
//! of its own and listens on a Unix socket inside it only. Nothing outlives its owner either: a
//! [`guardian`] stops what was started even when the owner is killed with SIGKILL.

pub mod account;
pub mod binaries;
pub mod cluster;
pub mod console;
pub mod gateway_config;
pub mod guardian;
pub mod http;
pub mod ports;
pub mod process;
pub mod replica;
pub mod settings;
pub mod signals;
pub mod supervisor;
mod test_cluster;
pub mod up;
mod wait;

pub use cluster::Cluster;
pub use replica::Replica;
pub use settings::Settings;
pub use supervisor::{Service, Supervisor};
pub use test_cluster::TestCluster;
