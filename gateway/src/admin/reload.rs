//! `POST /reload`: the configuration file is read again, and taken over whole or not at all.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde_json::json;

use super::{Admin, Failed};
use crate::error::Problem;
use crate::reload::{Refused, Report, Trigger};

/// Reads the settings again: all of them are taken over, or none.
#[utoipa::path(post, path = "/reload", responses((status = 200, body = Report),
    (status = 409, description = "started without a file"),
    (status = 422, description = "each problem in `problems`; the settings of before stay in force")))]
pub(super) async fn reload(State(admin): State<Arc<Admin>>) -> Response {
    let reloader = Arc::clone(&admin.reloader);
    // Reading files and resolving names block.
    let outcome = tokio::task::spawn_blocking(move || reloader.reload(Trigger::Operator)).await;
    match outcome {
        Ok(Ok(report)) => Json(report).into_response(),
        Ok(Err(refused)) => answer(&refused),
        Err(error) => {
            tracing::error!(%error, "a reload ended early");
            Failed(Problem::of_status(StatusCode::INTERNAL_SERVER_ERROR)).into_response()
        }
    }
}

/// The refusal with each problem by itself; the settings of before are in force.
fn answer(refused: &Refused) -> Response {
    let status = match refused {
        Refused::NoFile => StatusCode::CONFLICT,
        Refused::Settings(_) | Refused::Other(_) => StatusCode::UNPROCESSABLE_ENTITY,
    };
    let detail = "The settings of before stay in force.";
    let mut problem = json!({
        "type": "about:blank",
        "title": status.canonical_reason(),
        "status": status.as_u16(),
        "detail": detail,
    });
    problem["problems"] = refused.lines().into();
    let content_type = [(header::CONTENT_TYPE, "application/problem+json")];
    (status, content_type, problem.to_string()).into_response()
}
