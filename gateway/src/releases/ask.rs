//! Asks origins for their build: answers that are kept name it too, but a gateway that gives hits only gets none of those.

use std::time::Duration;

use bytes::Bytes;
use http::header::HOST;
use http::{HeaderValue, Request, Uri};
use http_body_util::{BodyExt, Empty, Limited};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;

use crate::balance::Place;
use crate::config;
use crate::policy::groups::{self, TagLimits};

/// What is asked of a private listener whose health is a connection: every answer there names the build.
const PRIVATE_PATH: &str = "/healthz";
/// Bytes of an answer at most: what it says is in its header.
const ANSWER_BYTES_MAX: usize = 64 * 1024;

/// Asks where an origin's health is asked.
pub(super) struct Asker {
    http: Client<HttpConnector, Empty<Bytes>>,
    path: Option<String>,
    private_path: String,
    timeout: Duration,
}

impl Asker {
    /// Asks for the paths of the health checks, if they have one, and gives up as they do.
    pub(super) fn new(health: &config::Health) -> Self {
        Self {
            http: Client::builder(TokioExecutor::new()).build_http(),
            path: health.path.clone(),
            private_path: health
                .private_path
                .as_ref()
                .or(health.path.as_ref())
                .map_or_else(|| PRIVATE_PATH.to_owned(), Clone::clone),
            timeout: health.timeout,
        }
    }

    /// The groups that the answer of an origin names. `None` if it has neither a private listener nor a path to ask for, and
    /// if it gave no answer that can be read.
    pub(super) async fn groups(&self, place: &Place) -> Option<Vec<Box<str>>> {
        let path = if place.checks_private {
            &self.private_path
        } else {
            self.path.as_ref()?
        };
        let answer = tokio::time::timeout(self.timeout, self.ask(place, path));
        answer.await.ok()?
    }

    async fn ask(&self, place: &Place, path: &str) -> Option<Vec<Box<str>>> {
        let mut request = Request::new(Empty::new());
        *request.uri_mut() = Uri::builder()
            .scheme("http")
            .authority(place.check_at.to_string())
            .path_and_query(path)
            .build()
            .ok()?;
        let host = HeaderValue::from_static("health");
        request.headers_mut().insert(HOST, host);
        let (head, body) = self.http.request(request).await.ok()?.into_parts();
        // To its end: then the next question goes over the same connection.
        let body = Limited::new(body, ANSWER_BYTES_MAX);
        body.collect().await.ok()?;
        groups::tags(&head.headers, &TagLimits::default()).ok()
    }
}
