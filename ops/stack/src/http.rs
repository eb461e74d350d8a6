//! A small HTTP client: to wait for services, and for the tests of the whole system.

use std::time::Duration;

use anyhow::{Context, Result, anyhow};
use http_body_util::{BodyExt, Full, Limited};
use hyper::{HeaderMap, Request, body::Bytes};
use hyper_util::{
    client::legacy::{self, connect::HttpConnector},
    rt::TokioExecutor,
};

const ANSWER_LIMIT: Duration = Duration::from_secs(10);
const BODY_BYTES_MAX: usize = 64 << 20;

/// Sends requests, over connections it keeps.
#[derive(Clone, Debug)]
pub struct Client(legacy::Client<HttpConnector, Full<Bytes>>);

/// A whole response.
#[derive(Debug)]
pub struct Answer {
    /// The status code.
    pub status: u16,
    /// The header fields.
    pub headers: HeaderMap,
    /// The body.
    pub body: Bytes,
}

impl Client {
    /// A client without connections yet.
    pub fn new() -> Self {
        Self(legacy::Client::builder(TokioExecutor::new()).build_http())
    }

    /// Gets a URL, with one header field if that is wanted.
    pub async fn get(&self, url: &str, header: Option<(&str, &str)>) -> Result<Answer> {
        let mut request = Request::get(url);
        if let Some((name, value)) = header {
            request = request.header(name, value);
        }
        self.send(request.body(Full::default()).context("malformed request")?)
            .await
    }

    /// Posts JSON to a URL.
    pub async fn post_json(&self, url: &str, json: &serde_json::Value) -> Result<Answer> {
        let request = Request::post(url)
            .header("Content-Type", "application/json")
            .body(Full::from(json.to_string()))
            .context("malformed request")?;
        self.send(request).await
    }

    async fn send(&self, request: Request<Full<Bytes>>) -> Result<Answer> {
        let url = request.uri().to_string();
        let exchange = async {
            let (parts, body) = self.0.request(request).await?.into_parts();
            let body = Limited::new(body, BODY_BYTES_MAX).collect().await;
            let body = body.map_err(|error| anyhow!(error))?.to_bytes();
            Ok(Answer {
                status: parts.status.as_u16(),
                headers: parts.headers,
                body,
            })
        };
        let answer: Result<Result<Answer>, _> = tokio::time::timeout(ANSWER_LIMIT, exchange).await;
        answer
            .with_context(|| format!("{url} gave no answer in {} s", ANSWER_LIMIT.as_secs()))?
            .with_context(|| format!("no answer from {url}"))
    }
}

impl Default for Client {
    fn default() -> Self {
        Self::new()
    }
}

impl Answer {
    /// The value of a header field, or nothing.
    pub fn header(&self, name: &str) -> &str {
        self.headers
            .get(name)
            .and_then(|value| value.to_str().ok())
            .unwrap_or_default()
    }

    /// The body as JSON.
    pub fn json(&self) -> Result<serde_json::Value> {
        let text = String::from_utf8_lossy(&self.body);
        serde_json::from_str(&text).with_context(|| format!("not JSON: {text:.200}"))
    }
}
