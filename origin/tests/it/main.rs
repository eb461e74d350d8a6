//! The origin from outside: real sockets, a real Postgres.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod answers;
mod bad_values;
mod bodies;
mod buffers;
mod cart;
mod conventions;
mod described;
mod errors;
mod failure;
mod health;
mod idempotency;
mod interactions;
mod link;
mod logs;
mod openapi;
mod openapi_errors;
mod outbox;
mod paging;
mod plans;
mod products;
mod program;
mod questions;
mod ranks;
mod raw;
mod read_links;
mod replicas;
mod reviews;
mod routes;
mod support;
mod swap;
mod tail;
mod tail_order;
mod tls;
