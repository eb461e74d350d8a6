//! `/log`: what is logged, changed while the gateway runs.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use axum::extract::rejection::JsonRejection;
use axum::http::StatusCode;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::{Admin, Failed};
use crate::error::Problem;

/// What is logged.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Filter {
    /// Directives such as `warn,gateway=debug`.
    filter: String,
}

/// What is logged now.
#[utoipa::path(get, path = "/log", responses((status = 200, body = Filter)))]
pub(super) async fn show(State(admin): State<Arc<Admin>>) -> Json<Filter> {
    Json(Filter {
        filter: admin.log.filter(),
    })
}

/// Logs something else from now on; changes by operators are logged in any case.
#[utoipa::path(put, path = "/log", request_body = Filter,
    responses((status = 200, body = Filter), (status = 422, description = "no filter")))]
pub(super) async fn set(
    State(admin): State<Arc<Admin>>,
    filter: Result<Json<Filter>, JsonRejection>,
) -> Result<Json<Filter>, Failed> {
    let refused = |detail: String| Failed(Problem::new(StatusCode::UNPROCESSABLE_ENTITY, detail));
    let Json(Filter { filter }) =
        filter.map_err(|rejection| refused(format!("Write {{\"filter\": TEXT}}: {rejection}.")))?;
    admin
        .log
        .set(&filter)
        .map_err(|error| refused(format!("{filter:?} is no filter: {error}.")))?;
    Ok(Json(Filter { filter }))
}
