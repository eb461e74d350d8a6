//! Who may call, and what: the bearers of the tokens; and the audit of what they changed.

use std::net::SocketAddr;
use std::sync::Arc;

use axum::extract::{ConnectInfo, Request, State};
use axum::http::{Method, StatusCode, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};

use super::listener::Peer;
use super::token::Access;
use super::{Admin, Failed};
use crate::error::Problem;
use crate::policy::auth;

/// Passes on a request whose token is known, else answers 401. With the token for reading, what changes something is 403.
pub(super) async fn require_token(
    State(admin): State<Arc<Admin>>,
    request: Request,
    next: Next,
) -> Response {
    let reads = matches!(*request.method(), Method::GET | Method::HEAD);
    let access = auth::token(request.headers()).and_then(|token| admin.tokens.access(token));
    match access {
        Some(Access::Full) if !reads => audited(request, next).await,
        Some(_) if reads => next.run(request).await,
        Some(_) => {
            let detail = "This token is for reading; the call changes something.";
            Failed(Problem::new(StatusCode::FORBIDDEN, detail)).into_response()
        }
        None => {
            let problem = Problem::new(StatusCode::UNAUTHORIZED, "The admin token is required.");
            ([(header::WWW_AUTHENTICATE, "Bearer")], Failed(problem)).into_response()
        }
    }
}

/// What a change is about, where its path does not say: left with an answer for the audit.
#[derive(Clone)]
pub(super) struct Subject(pub(super) String);

/// Runs a change and logs it: who, what, and how it ended. The text of its body is not repeated.
async fn audited(request: Request, next: Next) -> Response {
    let peer = request.extensions().get::<ConnectInfo<Peer>>();
    let peer: Option<SocketAddr> = peer.map(|ConnectInfo(Peer(address))| *address);
    let (method, call) = (request.method().clone(), request.uri().path().to_owned());
    let response = next.run(request).await;
    let status = response.status().as_u16();
    let peer = peer.map(|peer| peer.to_string()).unwrap_or_default();
    let subject = response.extensions().get::<Subject>();
    let subject = subject.map(|Subject(subject)| tracing::field::debug(subject));
    // `?`: what a path holds is shown with its control characters escaped.
    tracing::info!(target: "gateway::audit", %peer, %method, ?call, subject, status, "change by an operator");
    response
}
