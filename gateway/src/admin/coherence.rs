//! What other gateways ask: whether a write has been heard of here.

use std::sync::Arc;

use axum::Json;
use axum::extract::{Query, State};
use axum::http::StatusCode;
use serde::Deserialize;
use serde_json::{Value, json};

use super::{Admin, Failed};
use crate::coherence::Token;
use crate::error::Problem;

#[derive(Deserialize)]
pub(super) struct Question {
    token: u64,
}

/// Answers whether the position includes a write, and waits for it as long as a lease: no token, as it tells nothing else.
pub(super) async fn includes(
    State(admin): State<Arc<Admin>>,
    Query(question): Query<Question>,
) -> Result<Json<Value>, Failed> {
    let Some(coherence) = &admin.coherence else {
        let detail = "This gateway follows no stream of changes.";
        return Err(Failed(Problem::new(StatusCode::NOT_FOUND, detail)));
    };
    match coherence.confirm(Token(question.token)).await {
        Some(included) => Ok(Json(json!({ "included": included }))),
        None => Err(Failed(Problem::of_status(StatusCode::SERVICE_UNAVAILABLE))),
    }
}
