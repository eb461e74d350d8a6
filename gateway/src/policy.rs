//! What HTTP caching demands, as pure functions over headers and times: no I/O, no clock, no framework.
//!
//! Each "no" is a named reason, so that `Cache-Status`, metrics and an explanation can say why. Sections are cited where a
//! rule is met: RFC 9110 (semantics), 9111 (caching), 9211 (`Cache-Status`), 9213 (targeted control), 5861 (stale), 9875
//! (groups).

pub mod auth;
pub mod conditional;
pub mod cors;
pub mod directives;
pub mod encoding;
pub mod forwarded;
pub mod freshness;
pub mod groups;
pub mod key;
pub mod loadtest;
pub mod query;
pub mod range;
pub mod reference;
pub mod request;
pub mod rewrite;
pub mod route;
#[cfg(test)]
mod samples;
pub mod source;
pub mod stale;
pub mod status;
pub mod storable;
pub mod surrogate;
pub mod target;
pub mod time;
pub mod update;
pub mod vary;
