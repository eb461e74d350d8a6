//! The gateway from outside: the built binary between plain sockets.

mod support;

mod admin;
mod auth;
mod balance;
mod check;
mod coalesce;
mod coherence;
mod conditional;
mod cors;
mod ejection;
mod encoding;
mod exact;
mod explain;
mod failure;
mod headers;
mod hit_miss;
mod hot;
mod hung;
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
mod release;
mod shutdown;
mod smuggling;
mod stale;
mod targeted;
mod uncacheable;
mod validate;
