//! The private listener: is the process alive, can it serve, and what has it counted.

pub mod db;

use std::sync::atomic::Ordering;

use axum::{
    Router,
    extract::State,
    response::{IntoResponse, Response},
    routing::get,
};
use http::{StatusCode, header::CONTENT_TYPE};

use crate::{error::Error, reply, state::AppState};

/// The paths of the private listener.
pub fn router() -> Router<AppState> {
    Router::new()
        .route("/healthz", get(async || "ok"))
        .route("/readyz", get(ready))
        .route("/metrics", get(metrics))
}

/// Whether requests sent here now would be served. Not public: says what is wrong.
async fn ready(State(state): State<AppState>) -> Response {
    match problems(&state).await {
        Ok(problems) if problems.is_empty() => "ready".into_response(),
        Ok(problems) => unready(&problems.join("\n")),
        Err(error) => unready(&error.to_string()),
    }
}

async fn problems(state: &AppState) -> Result<Vec<String>, Error> {
    if state.is_ending.load(Ordering::Relaxed) {
        return Ok(vec!["shutting down".into()]);
    }
    // Over the connections for reads, which no write holds up. Replicas are no condition: the primary answers for them.
    let reads = state.db.reads();
    let mut problems = db::problems(reads).await?;
    if !state.config.allow_unsafe_durability {
        let unsafe_settings = db::unsafe_settings(reads).await?;
        let said = |name| format!("the database has {name} off");
        problems.extend(unsafe_settings.into_iter().map(said));
    }
    if !state.db.takes_writes() {
        problems.push("no writes are sent to the database".into());
    }
    Ok(problems)
}

fn unready(detail: &str) -> Response {
    let fields = [(CONTENT_TYPE, reply::TEXT)];
    (StatusCode::SERVICE_UNAVAILABLE, fields, detail.to_owned()).into_response()
}

async fn metrics(State(state): State<AppState>) -> Response {
    state.tail.position_age();
    match state.metrics.render(&state.db) {
        Ok(text) => ([(CONTENT_TYPE, prometheus::TEXT_FORMAT)], text).into_response(),
        Err(error) => {
            tracing::error!(%error, "cannot render metrics");
            StatusCode::INTERNAL_SERVER_ERROR.into_response()
        }
    }
}
