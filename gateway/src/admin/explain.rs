//! `GET /explain?url=URL`: why a URL is answered as it is.

use std::sync::Arc;
use std::time::Instant;

use axum::Json;
use axum::extract::rejection::QueryRejection;
use axum::extract::{Query, State};
use axum::http::StatusCode;
use serde::Deserialize;

use super::{Admin, Failed};
use crate::error::Problem;
use crate::explain::{self, Explanation, Sources};

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Asked {
    /// A path, on every host, or an absolute URL.
    url: String,
}

/// Why a URL is answered as it is.
#[utoipa::path(get, path = "/explain", params(("url" = String, Query, description = "a path, on every host, or an absolute URL")),
    responses((status = 200, body = Object), (status = 422, description = "no URL")))]
pub(super) async fn explain(
    State(admin): State<Arc<Admin>>,
    asked: Result<Query<Asked>, QueryRejection>,
) -> Result<Json<Explanation>, Failed> {
    let refused = |detail: String| Failed(Problem::new(StatusCode::UNPROCESSABLE_ENTITY, detail));
    let Query(asked) =
        asked.map_err(|_| refused("Name the URL to explain: /explain?url=URL.".to_owned()))?;
    let gateway = admin.current.gateway();
    let sources = Sources {
        site: gateway.site(),
        store: &admin.store,
        journal: &admin.journal,
        refusals: &admin.refusals,
        targeted: &gateway.config().cache.targeted,
        stale_if_unreachable: gateway.config().cache.stale_if_unreachable,
        coherence: admin.coherence.as_deref(),
    };
    let explained = explain::explain(&asked.url, &sources, Instant::now());
    explained.map(Json).map_err(|bad| {
        refused(format!(
            "The URL {:?} cannot be explained: {bad}.",
            asked.url
        ))
    })
}
