//! The public paths, as one list.

use axum::{
    Router,
    extract::{MatchedPath, RawPathParams},
    routing::MethodRouter,
};

use crate::{
    answers, cart,
    describe::Operation,
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
    /// Describes each of its methods.
    pub describe: fn() -> Vec<Operation>,
}

impl Route {
    /// Names a path, what answers there, and what describes that.
    pub fn new(
        path: &'static str,
        methods: MethodRouter<AppState>,
        describe: fn() -> Vec<Operation>,
    ) -> Self {
        Self {
            path,
            methods,
            describe,
        }
    }
}

/// Every path of the API, by the name of what it is about.
pub fn by_resource() -> [(&'static str, Vec<Route>); 6] {
    [
        ("Products", products::routes()),
        ("Reviews", reviews::routes()),
        ("Questions", questions::routes()),
        ("Answers", answers::routes()),
        ("Cart", cart::routes()),
        ("Interactions", interactions::routes()),
    ]
}

/// Every path of the API.
pub fn all() -> Vec<Route> {
    let routes = by_resource().into_iter().flat_map(|(_, routes)| routes);
    routes.collect()
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
