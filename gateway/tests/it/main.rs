//! The gateway from outside: the built binary between plain sockets.

mod support;

mod admin;
mod auth;
mod balance;
mod coalesce;
mod conditional;
mod cors;
mod ejection;
mod encoding;
mod exact;
mod explain;
mod failure;
mod forwarded;
mod guard;
mod headers;
mod hit_miss;
mod hot;
mod interim;
mod invalidate;
mod key;
mod limits;
mod loaderio;
mod purge;
mod queue;
mod race;
mod range;
mod readme;
mod rewrite;
mod shutdown;
mod smuggling;
mod stale;
mod targeted;
mod uncacheable;
mod validate;
