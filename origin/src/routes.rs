//! The public paths, as one list.

use axum::{
    Router,
    extract::{MatchedPath, RawPathParams},
    routing::MethodRouter,
};

use crate::{
    answers, cart,
    error::{Error, Result},
    extract, interactions, products, questions, reviews,
    state::AppState,
};

/// A path and its methods.
#[derive(Clone, Debug)]
pub struct Route {
    /// The pattern, which is also the path's name in metrics and logs.
    pub path: &'static str,
    /// What answers there.
    pub methods: MethodRouter<AppState>,
}

impl Route {
    /// Names a path and its methods.
    pub fn new(path: &'static str, methods: MethodRouter<AppState>) -> Self {
        Self { path, methods }
    }
}

/// Every path of the API.
pub fn all() -> Vec<Route> {
    [
        products::routes(),
        reviews::routes(),
        questions::routes(),
        answers::routes(),
        cart::routes(),
        interactions::routes(),
    ]
    .concat()
}

/// The paths, and an answer for everything that is not among them.
pub fn router() -> Router<AppState> {
    all()
        .into_iter()
        .fold(Router::new(), |router, route| {
            router.route(route.path, route.methods)
        })
        .method_not_allowed_fallback(method_not_allowed)
        .fallback(async || Error::NotFound)
}

/// A path whose id is malformed cannot exist, which is said before what could be done with it.
async fn method_not_allowed(
    path: MatchedPath,
    params: std::result::Result<RawPathParams, axum::extract::rejection::RawPathParamsRejection>,
) -> Result<()> {
    extract::check_path_id(path.as_str(), params)?;
    Err(Error::MethodNotAllowed)
}
