//! An edge caching gateway: balances by least connections, caches by RFC 9111, invalidates by group.
//!
//! One request: [`proxy`] is called by Pingora filter by filter; each filter asks a module below. [`site`] reads the
//! target, [`policy`] decides, [`store`] keeps, [`purge`] numbers what is taken out, [`balance`] picks the origin,
//! [`coherence`] knows when the data changes, [`admin`] is the operators' side, [`client`] the programs' that calls it.

pub mod access_log;
pub mod admin;
pub mod balance;
pub mod cli;
pub mod client;
pub mod coherence;
pub mod config;
pub mod encode;
pub mod error;
pub mod explain;
pub mod guard;
pub mod hot;
pub mod log_level;
pub mod metrics;
pub mod notify;
pub mod policy;
pub mod proxy;
pub mod purge;
pub mod refill;
pub mod refusals;
pub mod releases;
pub mod reload;
pub mod server;
pub mod site;
pub mod store;
mod sync;
pub mod tls;
pub mod upgrade;
