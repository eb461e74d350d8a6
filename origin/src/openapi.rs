//! The API's description as a document (`OpenAPI` 3.1), made from the routes, and the pages that show it.
//!
//! The document is made when it is first asked for; the pages come with the program and load nothing from elsewhere.

use std::sync::{Arc, OnceLock};

use axum::{
    Router,
    body::Body,
    extract::RawPathParams,
    response::{IntoResponse, Redirect, Response},
    routing::get,
};
use bytes::Bytes;
use http::{
    HeaderValue, StatusCode,
    header::{CONTENT_ENCODING, CONTENT_TYPE},
};
use serde_json::{Map, Value, json};
use utoipa_swagger_ui::Config;

use crate::{
    describe::{self, Shape, body, errors},
    error::Problem,
    reply, routes,
};

/// What every operation has in common, for readers.
const ABOUT: &str = "\
Products, reviews, questions and answers, carts.

**Paths.** Every path is also valid with one slash at its end. HEAD works wherever GET does. An unknown path is 404, another \
method 405 with `Allow`. Gateways also serve everything below `/api`.

**Ids** are whole numbers from 1 without a sign or leading zeros. One that no row can have is unknown, not malformed.

**Bodies** are read to their end. Those of GET and PUT mean nothing and may have up to 64 KiB.

**Errors** that shipped clients know are plain text, unless `Accept` names `application/problem+json`; all others are always \
problems (RFC 9457). Checks come in this order: 401, 404 for the path, 405, 413, 415, 400, 422, 404 for what the body refers to.

**X-Request-Id** in a request names it in all logs, and is in its answer; without one it is given one.

**Caching.** Reads but the cart may be kept by gateways until a write invalidates them; a read after a write has seen it. \
Clients ask again each time, with `If-None-Match`.
";

/// The document, of a service at this address.
pub fn document(server: &str) -> Value {
    let mut paths = Map::new();
    let mut schemas: Map<_, _> = [body::shared_schema()].into_iter().collect();
    schemas.extend(Shape::of::<Problem<'_>>().into_parts());
    for (tag, routes) in routes::by_resource() {
        for route in routes {
            let mut item = Map::new();
            let parameters = describe::path_parameters(route.path);
            if !parameters.is_empty() {
                item.insert("parameters".into(), parameters.into());
            }
            for mut operation in (route.describe)() {
                schemas.extend(std::mem::take(&mut operation.parts));
                item.insert(operation.method.into(), operation.render(route.path, tag));
            }
            paths.insert(route.path.into(), item.into());
        }
    }
    let tags = routes::by_resource().map(|(name, _)| json!({ "name": name }));
    json!({
        "openapi": "3.1.0",
        "info": {
            "title": "Atelier",
            "version": env!("CARGO_PKG_VERSION"),
            "description": ABOUT,
            "license": { "name": "MIT OR Apache-2.0", "identifier": env!("CARGO_PKG_LICENSE") },
        },
        "servers": [{ "url": server }],
        // A token is never needed by the service itself: a gateway may ask for one, and a cart can be named by one.
        "security": [{}, { "token": [] }],
        "tags": tags,
        "paths": paths,
        "components": {
            "schemas": schemas,
            "parameters": describe::shared_parameters(),
            "responses": errors::shared(),
            "securitySchemes": { "token": {
                "type": "apiKey", "in": "header", "name": "Authorization",
                "description": "A token, alone or behind `token` or `Bearer`.",
            } },
        },
    })
}

/// The document and the pages: for operators, and whoever they let in.
pub fn router<S: Clone + Send + Sync + 'static>(server: String) -> Router<S> {
    let json: Arc<OnceLock<Bytes>> = Arc::default();
    let document = move || {
        let json = json.get_or_init(|| document(&server).to_string().into());
        std::future::ready(([(CONTENT_TYPE, reply::JSON)], json.clone()))
    };
    Router::new()
        .route("/openapi.json", get(document))
        // The page names its parts relative to itself, and this server knows no slash at the end of a path.
        .route("/docs", get(async || Redirect::to("/docs/index.html")))
        .route("/docs/{file}", get(page))
}

/// A file of the pages.
async fn page(params: RawPathParams) -> Response {
    let name = params.iter().next().map_or("", |(_, name)| name);
    // Without this name the page would send the document's address to a validator elsewhere.
    let config = Config::from("/openapi.json").validator_url("none");
    let Ok(Some(file)) = utoipa_swagger_ui::serve(name, Arc::new(config)) else {
        return StatusCode::NOT_FOUND.into_response();
    };
    let mut response = Response::new(Body::from(file.bytes.into_owned()));
    if let Ok(content_type) = HeaderValue::try_from(file.content_type) {
        response.headers_mut().insert(CONTENT_TYPE, content_type);
    }
    if file.gzpipped {
        response
            .headers_mut()
            .insert(CONTENT_ENCODING, HeaderValue::from_static("gzip"));
    }
    response
}
