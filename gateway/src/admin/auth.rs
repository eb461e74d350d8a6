//! Who may call: the bearer of the token.

use std::sync::Arc;

use axum::extract::{Request, State};
use axum::http::{StatusCode, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};

use super::{Admin, Failed};
use crate::error::Problem;
use crate::policy::auth;

/// Passes a request on if it carries the token, else answers 401.
pub(super) async fn require_token(
    State(admin): State<Arc<Admin>>,
    request: Request,
    next: Next,
) -> Response {
    if auth::token(request.headers()).is_some_and(|token| admin.token.matches(token)) {
        return next.run(request).await;
    }
    let problem = Problem::new(StatusCode::UNAUTHORIZED, "The admin token is required.");
    ([(header::WWW_AUTHENTICATE, "Bearer")], Failed(problem)).into_response()
}
