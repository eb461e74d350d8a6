//! Until the data changes: what the stream of changes tells takes effect, and what it cannot prove is said.

mod lease;
mod stream;
mod strict;
mod token;

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use serde_json::Value;

use crate::support::{FakeOrigin, FakeTail, Gateway, Received, Reply, Request, until};

/// A gateway that follows these tailers; `more` goes into the section.
async fn following(origin: &FakeOrigin, tails: &[&FakeTail], more: &str) -> Gateway {
    let gateway = Gateway::with(&[origin], &settings(tails, more)).await;
    leased(&gateway).await;
    gateway
}

fn settings(tails: &[&FakeTail], more: &str) -> String {
    let streams: Vec<_> = tails
        .iter()
        .map(|tail| format!("\"{}\"", tail.address()))
        .collect();
    format!("[coherence]\nstreams = [{}]\n{more}\n", streams.join(", "))
}

async fn standing(gateway: &Gateway) -> Value {
    gateway.status().await["coherence"].clone()
}

async fn leased(gateway: &Gateway) {
    until("there is a lease", || async {
        standing(gateway).await["lease_left_ms"].is_u64()
    })
    .await;
}

async fn unleased(gateway: &Gateway) {
    until("the lease has run out", || async {
        standing(gateway).await["lease_left_ms"].is_null()
    })
    .await;
}

/// Everything that the tailer knows has been applied.
async fn caught_up(gateway: &Gateway, tail: &FakeTail) {
    until("the position is the tailer's", || async {
        standing(gateway).await["position"] == tail.position()
    })
    .await;
}

/// A value of `/metrics`; nothing counted is zero.
async fn metric(gateway: &Gateway, name: &str) -> f64 {
    let answer = gateway.call(crate::support::get("/metrics")).await;
    let lines = answer.text().lines();
    let value = lines
        .filter_map(|line| line.strip_prefix(name)?.strip_prefix(' '))
        .next();
    value.map_or(0.0, |value| value.parse().expect("a number"))
}

/// An origin whose pages count how often they were asked for; a page's last segment is its group. POST makes `/made` old
/// under the transaction that it names.
async fn pages() -> FakeOrigin {
    let version = Arc::new(AtomicUsize::new(0));
    FakeOrigin::start(move |request| page(request, &version)).await
}

fn page(request: &Received, version: &AtomicUsize) -> Reply {
    let group = request.target.rsplit('/').next().unwrap_or_default();
    match request.method.as_str() {
        "GET" => {
            let version = version.fetch_add(1, Ordering::SeqCst);
            Reply::public(version.to_string(), &[group])
        }
        _ => {
            let reply = Reply::new(201, "made").header("Cache-Control", "private, no-store");
            let reply = match request.header("x-groups") {
                Some(groups) => reply.header("Cache-Group-Invalidation", groups),
                None => reply,
            };
            match request.header("x-token") {
                Some(token) => reply.header("Cache-Coherence-Token", token),
                None => reply,
            }
        }
    }
}

/// A write to `group` by the transaction with this number.
fn write(group: &str, token: u64) -> Request {
    Request::new("POST", "/write")
        .body("{}")
        .header("X-Groups", &format!("\"{group}\""))
        .header("X-Token", &token.to_string())
}

/// What the newest read asked for.
fn asked_after(origin: &FakeOrigin) -> Option<String> {
    let reads = origin.requests();
    let newest = reads.iter().rev().find(|request| request.method == "GET");
    newest
        .expect("a read")
        .header("cache-coherence-after")
        .map(str::to_owned)
}
