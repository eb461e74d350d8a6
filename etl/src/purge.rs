//! Purges the caches of gateways for a load, in the moment when its rows are in place: what they hold
//! is of before it.
//!
//! A gateway that follows the stream of changes hears of it there too. This is for those that do not,
//! and for a load that is to end only when none of them serves the past any more.

use std::{path::Path, time::Duration};

use bytes::Bytes;
use futures_util::future::join_all;
use http_body_util::{BodyExt as _, Full, Limited};
use hyper::{
    Request, Uri,
    header::{AUTHORIZATION, CONTENT_TYPE, HeaderValue},
};
use hyper_util::{
    client::legacy::{Client, connect::HttpConnector},
    rt::TokioExecutor,
};
use serde::{Deserialize, Serialize};

use crate::error::{self, Error, Result};

/// How long one gateway may take, from connecting to the end of its answer.
const ANSWER_LIMIT: Duration = Duration::from_secs(10);
/// Groups that a purge names, which is what a gateway takes; past it, everything goes.
pub const GROUPS_MAX: usize = 10_000;
/// An answer names three numbers, or a problem.
const ANSWER_BYTES_MAX: usize = 64 << 10;
/// What of an answer that is no success is shown.
const PROBLEM_CHARS_SHOWN: usize = 200;
const EVERYTHING: &str = r#"{"all":true}"#;

/// The body of a purge.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Order {
    /// All entries: `{"all":true}`.
    All(bool),
    /// The entries of these groups: `{"tags":["product-1"]}`.
    Tags(Vec<String>),
}

impl Order {
    /// What is out of date if these groups are, or if there are too many to be named.
    #[must_use]
    pub fn of(groups: Option<Vec<String>>) -> Self {
        match groups {
            Some(groups) if groups.len() <= GROUPS_MAX => Self::Tags(groups),
            Some(_) | None => Self::All(true),
        }
    }

    /// Whether it names nothing; gateways refuse that.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        matches!(self, Self::Tags(groups) if groups.is_empty())
    }
}

/// The gateways to purge.
#[derive(Debug, Clone)]
pub struct Gateways {
    /// The base URLs of their admin listeners, without a slash at the end.
    urls: Vec<String>,
    authorization: HeaderValue,
    /// The file of the token, as a command to run by hand names it.
    token_file: String,
}

/// What came of purging one gateway.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Purge {
    /// The base URL of its admin listener.
    pub gateway: String,
    /// Entries that it removed.
    pub objects: u64,
    /// Their bytes.
    pub bytes: u64,
    /// Why it may still hold what is out of date.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
}

type Http = Client<HttpConnector, Full<Bytes>>;

/// What a gateway answers; it says more.
#[derive(Deserialize)]
struct Removed {
    objects: u64,
    bytes: u64,
}

impl Gateways {
    /// Reads the token: the first line of its file.
    ///
    /// # Errors
    /// If the file cannot be read, or its first line is no token.
    pub fn new(urls: Vec<String>, token_file: &Path) -> Result<Self> {
        let text = std::fs::read_to_string(token_file).map_err(error::file(token_file))?;
        let token = text.lines().next().unwrap_or_default().trim();
        let bearer = HeaderValue::try_from(format!("Bearer {token}"));
        let (false, Ok(mut authorization)) = (token.is_empty(), bearer) else {
            return Err(Error::Input(vec![format!(
                "{}: the first line is no token",
                token_file.display()
            )]));
        };
        authorization.set_sensitive(true);
        Ok(Self {
            urls,
            authorization,
            token_file: token_file.display().to_string(),
        })
    }

    /// Purges all of them at once; one that fails does not keep the others from it.
    pub async fn purge(&self, order: &Order) -> Vec<Purge> {
        let client = Client::builder(TokioExecutor::new()).build_http();
        let body = Bytes::from(serde_json::json!(order).to_string());
        let purges = self.urls.iter().map(|url| {
            let body = Full::from(body.clone());
            self.purge_one(&client, url, body)
        });
        join_all(purges).await
    }

    async fn purge_one(&self, client: &Http, url: &str, body: Full<Bytes>) -> Purge {
        let outcome = tokio::time::timeout(ANSWER_LIMIT, self.ask(client, url, body)).await;
        let outcome = outcome
            .unwrap_or_else(|_| Err(format!("no answer within {} s", ANSWER_LIMIT.as_secs())));
        let (removed, error) = match outcome {
            Ok(removed) => (removed, None),
            Err(error) => (
                Removed {
                    objects: 0,
                    bytes: 0,
                },
                Some(error),
            ),
        };
        Purge {
            gateway: url.to_owned(),
            objects: removed.objects,
            bytes: removed.bytes,
            error,
        }
    }

    async fn ask(&self, client: &Http, url: &str, body: Full<Bytes>) -> Result<Removed, String> {
        let request = Request::post(format!("{url}/purge"))
            .header(AUTHORIZATION, &self.authorization)
            .header(CONTENT_TYPE, "application/json")
            .body(body)
            .map_err(|error| error.to_string())?;
        let answer = client
            .request(request)
            .await
            .map_err(|error| cause(&error))?;
        let status = answer.status();
        let body = Limited::new(answer.into_body(), ANSWER_BYTES_MAX).collect();
        let body = body.await.map_err(|error| error.to_string())?.to_bytes();
        if !status.is_success() {
            let text = String::from_utf8_lossy(&body);
            let shown: String = text.chars().take(PROBLEM_CHARS_SHOWN).collect();
            return Err(format!("it answered {status}: {}", shown.trim()));
        }
        serde_json::from_slice(&body)
            .map_err(|error| format!("it answered {status} and not what it removed: {error}"))
    }

    /// The failed ones among `purges` as one error that says what to run by hand.
    ///
    /// # Errors
    /// [`Error::Purge`] if any failed.
    pub fn check(&self, purges: &[Purge]) -> Result<()> {
        let failed: Vec<String> = purges
            .iter()
            .filter_map(|purge| {
                let (url, error) = (&purge.gateway, purge.error.as_ref()?);
                Some(format!(
                    "{url}: {error}; when it answers, run:\n  curl -f -H \"Authorization: Bearer $(head -n 1 '{}')\" \
                     -d '{EVERYTHING}' '{url}/purge'",
                    self.token_file
                ))
            })
            .collect();
        if failed.is_empty() {
            Ok(())
        } else {
            Err(Error::Purge(failed))
        }
    }
}

/// The innermost cause: the outer ones say only that there is one.
fn cause(error: &dyn std::error::Error) -> String {
    let mut error = error;
    while let Some(source) = error.source() {
        error = source;
    }
    error.to_string()
}

/// Reads the base URL of an admin listener, for the command line.
///
/// # Errors
/// If it is not one: the message says what is expected.
pub fn parse_url(text: &str) -> Result<String, String> {
    let expected = || "expected the base URL of an admin listener, such as http://127.0.0.1:8081";
    let uri: Uri = text.parse().map_err(|_| expected())?;
    let is_base = uri.scheme_str() == Some("http")
        && uri.query().is_none()
        && uri
            .authority()
            // The token is the only secret, and is in its file: URLs are shown.
            .is_some_and(|authority| !authority.as_str().contains('@'));
    if is_base {
        Ok(text.trim_end_matches('/').to_owned())
    } else {
        Err(expected().to_owned())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_base_url_of_an_admin_listener_has_no_query_and_no_password() {
        for (text, url) in [
            ("http://127.0.0.1:8081", "http://127.0.0.1:8081"),
            ("http://edge:8081/", "http://edge:8081"),
            ("http://[::1]:8081/admin/", "http://[::1]:8081/admin"),
        ] {
            assert_eq!(parse_url(text).as_deref(), Ok(url));
        }
        for text in [
            "",
            "127.0.0.1:8081",
            "https://edge:8081",
            "http://me:secret@edge",
            "http://edge/?x",
        ] {
            assert!(parse_url(text).is_err(), "{text}");
        }
    }

    #[test]
    fn groups_are_purged_by_name_up_to_what_a_gateway_takes() {
        let groups = |count: usize| Some(vec!["product-1".to_owned(); count]);
        let body = |groups| serde_json::json!(Order::of(groups)).to_string();
        assert_eq!(body(groups(1)), r#"{"tags":["product-1"]}"#);
        assert_eq!(body(groups(GROUPS_MAX + 1)), EVERYTHING);
        assert_eq!(body(None), EVERYTHING);
        assert!(Order::of(groups(0)).is_empty() && !Order::of(None).is_empty());
    }

    #[test]
    fn the_token_is_the_first_line_of_its_file_and_is_not_shown() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("token");
        std::fs::write(&path, "secret \nmore\n").unwrap();
        let gateways = Gateways::new(Vec::new(), &path).unwrap();
        assert_eq!(gateways.authorization, "Bearer secret");
        assert!(!format!("{gateways:?}").contains("secret"));
        for text in ["", "\nsecret", "a\0b"] {
            std::fs::write(&path, text).unwrap();
            let error = Gateways::new(Vec::new(), &path).unwrap_err();
            assert!(error.to_string().contains("no token"), "{text:?}: {error}");
        }
    }
}
