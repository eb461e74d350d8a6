//! The other gateways on the same database: in mode `strict` a write's answer waits until none of them can answer with
//! what was before the write.
//!
//! A peer says that its position includes the write: what the write made old is gone there. A peer that does not say so
//! holds no lease that began before the write once a lease's length has passed since the write had committed. So nobody
//! has to know who holds a lease.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{Request, Uri};
use http_body_util::{BodyExt, Empty, Limited};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, timeout_at};

use super::position::Token;
use crate::config;

/// Between two questions to a peer that gave no answer.
const RETRY_AFTER: Duration = Duration::from_millis(50);
/// Bytes of an answer at most.
const ANSWER_BYTES_MAX: usize = 4 * 1024;
/// The clocks of two machines may run apart by one part in this many.
const DRIFT: u32 = 50;

type Http = Client<HttpConnector, Empty<Bytes>>;

/// The other gateways.
pub struct Peers {
    addresses: Vec<String>,
    http: Arc<Http>,
    /// After this long none of them has a lease from before.
    longest: Duration,
}

impl Peers {
    /// The peers of the settings.
    pub fn new(settings: &config::Coherence) -> Self {
        let mut connector = HttpConnector::new();
        connector.set_connect_timeout(Some(settings.lease));
        connector.set_nodelay(true);
        Self {
            addresses: settings.peers.iter().map(ToString::to_string).collect(),
            http: Arc::new(Client::builder(TokioExecutor::new()).build(connector)),
            longest: settings.lease + settings.lease / DRIFT,
        }
    }

    /// Returns when no peer can answer with what was before a write that has just been answered. One without a token
    /// cannot be asked about.
    pub async fn settle(&self, token: Option<Token>) {
        let deadline = Instant::now() + self.longest;
        let Some(token) = token else {
            if !self.addresses.is_empty() {
                tokio::time::sleep_until(deadline).await;
            }
            return;
        };
        let mut questions = JoinSet::new();
        for address in &self.addresses {
            let http = Arc::clone(&self.http);
            let uri = format!("http://{address}/coherence/includes?token={}", token.0);
            questions.spawn(async move {
                let asked = timeout_at(deadline, ask(&http, &uri)).await;
                if asked.is_err() {
                    tracing::debug!(%uri, "a peer did not say that it has seen a write: its lease is over");
                }
            });
        }
        while questions.join_next().await.is_some() {}
    }
}

/// Asks until the answer is yes.
async fn ask(http: &Http, uri: &str) {
    while !includes(http, uri).await.unwrap_or(false) {
        sleep(RETRY_AFTER).await;
    }
}

async fn includes(http: &Http, uri: &str) -> Option<bool> {
    let mut request = Request::new(Empty::new());
    *request.uri_mut() = uri.parse::<Uri>().ok()?;
    let answer = http.request(request).await.ok()?;
    if !answer.status().is_success() {
        return None;
    }
    let body = Limited::new(answer.into_body(), ANSWER_BYTES_MAX);
    let body = body.collect().await.ok()?.to_bytes();
    let answer: serde_json::Value = serde_json::from_slice(&body).ok()?;
    answer["included"].as_bool()
}
