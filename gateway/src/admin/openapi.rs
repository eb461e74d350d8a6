//! `GET /openapi.json`: the operators' calls described by their own code (`OpenAPI` 3.1).

use axum::Json;
use utoipa::openapi::security::{HttpAuthScheme, HttpBuilder, SecurityScheme};
use utoipa::{Modify, OpenApi};

#[derive(OpenApi)]
#[openapi(
    info(
        title = "gateway: operators' calls",
        description = "Each but /healthz asks for a bearer token. The token for reading may call what is GET."
    ),
    paths(
        super::status,
        super::metrics,
        super::explain::explain,
        super::purge::purge,
        super::nodes::list,
        super::nodes::add,
        super::nodes::remove,
        super::nodes::drain,
        super::nodes::enable,
        super::nodes::weigh,
        super::log::show,
        super::log::set,
        super::reload::reload,
        super::upgrade::upgrade,
        document,
    ),
    components(schemas(crate::coherence::CoherenceStatus)),
    security(("token" = [])),
    modifiers(&Bearer)
)]
struct Description;

struct Bearer;

impl Modify for Bearer {
    fn modify(&self, document: &mut utoipa::openapi::OpenApi) {
        let bearer = HttpBuilder::new().scheme(HttpAuthScheme::Bearer).build();
        let components = document.components.get_or_insert_default();
        components.add_security_scheme("token", SecurityScheme::Http(bearer));
    }
}

/// This description.
#[utoipa::path(get, path = "/openapi.json", responses((status = 200, body = Object)))]
pub(super) async fn document() -> Json<utoipa::openapi::OpenApi> {
    Json(Description::openapi())
}
