//! The operators' calls from the other side: what `gateway explain` and its like ask a running gateway.

use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, anyhow, bail};
use bytes::Bytes;
use http::{Method, Request, header};
use http_body_util::{BodyExt, Full, Limited};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use serde_json::Value;

/// An answer has to be there within this time: a purge of everything takes milliseconds.
const TIMEOUT: Duration = Duration::from_secs(30);
/// The longest answer that is read.
const ANSWER_BYTES_MAX: usize = 64 * 1024 * 1024;

/// A running gateway's operators' listener.
pub struct AdminClient {
    address: SocketAddr,
    bearer: String,
    http: Client<HttpConnector, Full<Bytes>>,
}

impl AdminClient {
    /// A client that knows the token in a file; without one, in the file that a gateway on this loopback address makes.
    ///
    /// # Errors
    /// The file cannot be read.
    pub fn new(address: SocketAddr, token_file: Option<PathBuf>) -> Result<Self> {
        let file = token_file.unwrap_or_else(|| default_token_file(address));
        Ok(Self {
            address,
            bearer: format!("Bearer {}", read_token(&file)?),
            http: Client::builder(TokioExecutor::new()).build_http(),
        })
    }

    /// Calls and reads the answer; `body` is sent as JSON.
    ///
    /// # Errors
    /// No answer, one that is no JSON, or a refusal, with the gateway's own words.
    pub async fn call(&self, method: Method, target: &str, body: Option<&Value>) -> Result<Value> {
        let body = body.map(Value::to_string).unwrap_or_default();
        let request = Request::builder()
            .method(method)
            .uri(format!("http://{}{target}", self.address))
            .header(header::AUTHORIZATION, &self.bearer)
            .header(header::CONTENT_TYPE, "application/json")
            .body(Full::new(Bytes::from(body)))?;
        let exchange = async {
            let answer = self.http.request(request).await?;
            let status = answer.status();
            let body = Limited::new(answer.into_body(), ANSWER_BYTES_MAX);
            let body = body.collect().await.map_err(|error| anyhow!(error))?;
            anyhow::Ok((status, body.to_bytes()))
        };
        let (status, body) = tokio::time::timeout(TIMEOUT, exchange)
            .await
            .with_context(|| format!("{} did not answer within {TIMEOUT:?}", self.address))?
            .with_context(|| format!("asking the gateway's admin listener {}", self.address))?;
        let answer: Option<Value> = serde_json::from_slice(&body).ok();
        if !status.is_success() {
            let detail = answer.as_ref().and_then(|answer| answer["detail"].as_str());
            let problems = answer
                .as_ref()
                .and_then(|answer| answer["problems"].as_array());
            let problems: String = problems
                .into_iter()
                .flatten()
                .filter_map(Value::as_str)
                .map(|problem| format!("\n  {problem}"))
                .collect();
            bail!(
                "{status}: {}{problems}",
                detail.unwrap_or("no reason given")
            );
        }
        answer.with_context(|| format!("{} answered with no JSON", self.address))
    }
}

/// Where a gateway keeps the token of a loopback listener unless it is told another file.
pub fn default_token_file(listen: SocketAddr) -> PathBuf {
    std::env::temp_dir().join(format!("gateway-admin-{}.token", listen.port()))
}

fn read_token(file: &Path) -> Result<String> {
    let text = fs::read_to_string(file)
        .with_context(|| format!("reading the admin token file {}", file.display()))?;
    let token = text.lines().next().unwrap_or_default().trim();
    if token.is_empty() {
        bail!("the admin token file {} is empty", file.display());
    }
    Ok(token.to_owned())
}
