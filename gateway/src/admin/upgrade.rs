//! `POST /upgrade`: a new process of the program on disk takes over.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use serde_json::{Value, json};

use super::{Admin, Failed};
use crate::error::Problem;

/// A new process of the program on disk takes over the listeners.
#[utoipa::path(post, path = "/upgrade", responses((status = 200, body = Object, description = "`pid` of the new process"),
    (status = 409, description = "it did not start; this one goes on")))]
pub(super) async fn upgrade(State(admin): State<Arc<Admin>>) -> Result<Json<Value>, Failed> {
    let upgrader = Arc::clone(&admin.upgrader);
    // On a task of its own: an operator who hangs up stops nothing half-way.
    let outcome = tokio::spawn(async move { upgrader.upgrade().await }).await;
    match outcome {
        Ok(Ok(pid)) => Ok(Json(json!({ "pid": pid }))),
        Ok(Err(error)) => {
            tracing::error!("no upgrade: {error:#}");
            let detail = format!("This process goes on: {error:#}.");
            Err(Failed(Problem::new(StatusCode::CONFLICT, detail)))
        }
        Err(error) => {
            tracing::error!(%error, "an upgrade ended early");
            Err(Failed(Problem::of_status(
                StatusCode::INTERNAL_SERVER_ERROR,
            )))
        }
    }
}
