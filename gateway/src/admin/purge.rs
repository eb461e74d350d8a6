//! `POST /purge`: URLs, groups, or everything.

use std::sync::Arc;

use axum::Json;
use axum::body::Bytes;
use axum::extract::State;
use axum::extract::rejection::BytesRejection;
use axum::http::StatusCode;
use serde::{Deserialize, Serialize};

use super::{Admin, Failed};
use crate::error::Problem;
use crate::purge::Scope;
use crate::site::Named;

/// Things one purge may name.
const NAMES_MAX: usize = 10_000;

/// What to purge; at least one thing has to be named.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct Request {
    /// Paths (on every host) or absolute URLs, each with its query; all variants go.
    urls: Vec<String>,
    /// Groups: those of `Cache-Groups`, `Surrogate-Key` and `Cache-Tag`.
    tags: Vec<String>,
    /// Everything.
    all: bool,
}

/// What was purged.
#[derive(Debug, Serialize)]
pub(super) struct Answer {
    /// The purge's number.
    sequence: u64,
    /// Entries removed, each variant counted.
    objects: usize,
    /// Their bytes.
    bytes: usize,
}

pub(super) async fn purge(
    State(admin): State<Arc<Admin>>,
    body: Result<Bytes, BytesRejection>,
) -> Result<Json<Answer>, Failed> {
    let body = body.map_err(|rejection| Failed(Problem::of_status(rejection.status())))?;
    let request: Request = serde_json::from_slice(&body)
        .map_err(|error| unprocessable(format!("The body is no purge request: {error}.")))?;
    let names = request.urls.len() + request.tags.len();
    if names > NAMES_MAX {
        return Err(unprocessable(format!(
            "One purge names at most {NAMES_MAX} things, this one {names}."
        )));
    }
    if names == 0 && !request.all {
        return Err(unprocessable(
            "Name something to purge: urls, tags or all.".to_owned(),
        ));
    }
    let urls = request
        .urls
        .iter()
        .map(|url| {
            admin
                .site
                .named(url)
                .map_err(|bad| unprocessable(format!("The URL {url:?} cannot be purged: {bad}.")))
        })
        .collect::<Result<Vec<_>, _>>()?;
    let purged = admin.store.purge(&scopes(&request, &urls));
    tracing::info!(
        urls = request.urls.len(),
        tags = request.tags.len(),
        all = request.all,
        sequence = purged.sequence,
        objects = purged.objects,
        "purge"
    );
    Ok(Json(Answer {
        sequence: purged.sequence,
        objects: purged.objects,
        bytes: purged.bytes,
    }))
}

fn scopes<'a>(request: &'a Request, urls: &'a [Named]) -> Vec<Scope<'a>> {
    if request.all {
        return vec![Scope::All];
    }
    let urls = urls.iter().map(|named| match named {
        Named::Key(key) => Scope::Key(key.hash()),
        Named::Path(target) => Scope::Path(&target.path, target.query.as_deref()),
    });
    urls.chain(request.tags.iter().map(|tag| Scope::Tag(tag)))
        .collect()
}

fn unprocessable(detail: String) -> Failed {
    Failed(Problem::new(StatusCode::UNPROCESSABLE_ENTITY, detail))
}
