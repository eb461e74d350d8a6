//! `/nodes`: the origins, and what an operator orders about them until the next start, which an upgrade is not.

use std::sync::Arc;
use std::time::Instant;

use axum::extract::rejection::{JsonRejection, QueryRejection};
use axum::extract::{Path, Query, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use axum::{Extension, Json};
use serde::Deserialize;
use utoipa::ToSchema;

use super::auth::Subject;
use super::{Admin, Failed};
use crate::balance::{BadOrder, NodeStatus, Pool, places_of};
use crate::config::{self, Address};
use crate::error::Problem;

/// A node's share of the load.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Weight {
    /// From 1 to 1000.
    weight: u32,
}

/// An origin that is added.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct NewNode {
    /// Where it serves, `HOST:PORT`.
    #[schema(example = "10.0.0.9:3001")]
    address: String,
    /// Its share of the load beside the others, from 1 to 1000.
    #[serde(default = "one")]
    #[schema(default = 1, minimum = 1, maximum = 1000)]
    weight: u32,
    /// Its private listener (health, events), when that is another one.
    #[schema(example = "10.0.0.9:4001")]
    private: Option<String>,
}

fn one() -> u32 {
    1
}

/// How an origin is removed.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Removal {
    /// Even if no other would take requests.
    #[serde(default)]
    last: bool,
}

type Answer = Result<Json<Vec<NodeStatus>>, Failed>;

/// Every origin with its load and standing.
#[utoipa::path(get, path = "/nodes", responses((status = 200, body = Vec<NodeStatus>)))]
pub(super) async fn list(State(admin): State<Arc<Admin>>) -> Json<Vec<NodeStatus>> {
    Json(nodes(&admin))
}

/// Adds an origin until the next start. It stays over reloads, unless the file then names it.
#[utoipa::path(post, path = "/nodes", request_body = NewNode,
    responses((status = 200, description = "every origin, the new one too", body = Vec<NodeStatus>),
        (status = 400, description = "no address, or the gateway's own", content_type = "application/problem+json", body = Object,
            example = json!({"type": "/problems/malformed-request", "title": "Malformed request", "status": 400,
                "detail": "It stays as it is: `10.0.0.9` is not an address: write HOST:PORT, as in \"127.0.0.1:3001\"."})),
        (status = 401, description = "no known token"), (status = 403, description = "a token for reading"),
        (status = 409, description = "there already, or as many as there may be", content_type = "application/problem+json",
            body = Object, example = json!({"type": "/problems/conflict", "title": "Conflict", "status": 409,
                "detail": "It stays as it is: 10.0.0.9:3001 is an origin already."})),
        (status = 422, description = "no origin is written so, its name does not resolve, or no weight",
            content_type = "application/problem+json", body = Object,
            example = json!({"type": "/problems/invalid-request", "title": "Invalid request", "status": 422,
                "detail": "It stays as it is: a weight is between 1 and 1000."}))))]
pub(super) async fn add(
    State(admin): State<Arc<Admin>>,
    node: Result<Json<NewNode>, JsonRejection>,
) -> Response {
    let node = match node
        .map_err(not_written)
        .and_then(|Json(node)| read(&admin, node))
    {
        Ok(node) => node,
        Err(failed) => return failed.into_response(),
    };
    let subject = Subject(node.address.to_string());
    (Extension(subject), add_found(&admin, node).await).into_response()
}

fn not_written(rejection: JsonRejection) -> Failed {
    let detail = format!("Write {{\"address\": \"HOST:PORT\"}}: {rejection}.");
    Failed(Problem::new(StatusCode::UNPROCESSABLE_ENTITY, detail))
}

/// The origin that is meant, if its addresses are some.
fn read(admin: &Admin, node: NewNode) -> Result<config::Node, Failed> {
    let address = address(&node.address)?;
    let gateway = admin.current.gateway();
    let config = gateway.config();
    let tls = config.tls.as_ref().map(|tls| tls.listen);
    let own = [Some(config.listen), tls].into_iter().flatten();
    if own.map(Address::Ip).any(|own| own == address) {
        return Err(malformed(
            "requests to the gateway itself would go round in circles",
        ));
    }
    let private = node.private.as_deref().map(self::address).transpose()?;
    Ok(config::Node {
        address,
        weight: node.weight,
        private,
    })
}

async fn add_found(admin: &Admin, node: config::Node) -> Answer {
    let asked = node.clone();
    // Names are looked up, which blocks.
    let found = tokio::task::spawn_blocking(move || places_of(&[asked])).await;
    let places = found
        .map_err(anyhow::Error::from)
        .flatten()
        .map_err(|error| {
            let detail = format!("It stays as it is: {error:#}.");
            Failed(Problem::new(StatusCode::UNPROCESSABLE_ENTITY, detail))
        })?;
    follow(admin, |pool| pool.add(node, places, Instant::now()))
}

/// Removes an origin: no new request goes there, and those in flight end as they will. One that the file names stays out until
/// it is added again, a file that does not name it is taken over, or the next start.
#[utoipa::path(delete, path = "/nodes/{node}", params(("node", description = "an address as configured or added"),
        ("last" = Option<bool>, Query, description = "remove it even if no other would take requests")),
    responses((status = 200, description = "every origin that is left", body = Vec<NodeStatus>),
        (status = 400, description = "no address", content_type = "application/problem+json", body = Object,
            example = json!({"type": "/problems/malformed-request", "title": "Malformed request", "status": 400,
                "detail": "It stays as it is: `x` is not an address: write HOST:PORT, as in \"127.0.0.1:3001\"."})),
        (status = 401, description = "no known token"), (status = 403, description = "a token for reading"),
        (status = 404, description = "no such origin", content_type = "application/problem+json", body = Object,
            example = json!({"type": "/problems/not-found", "title": "Not found", "status": 404,
                "detail": "It stays as it is: no origin has the address or name 10.0.0.9:3001."})),
        (status = 409, description = "no other would take requests", content_type = "application/problem+json", body = Object,
            example = json!({"type": "/problems/conflict", "title": "Conflict", "status": 409,
                "detail": "It stays as it is: no origin would be left that takes requests but 10.0.0.9:3001; \
                    `?last=true` removes it all the same."}))))]
pub(super) async fn remove(
    State(admin): State<Arc<Admin>>,
    Path(node): Path<String>,
    removal: Result<Query<Removal>, QueryRejection>,
) -> Answer {
    let Query(removal) = removal.map_err(|_| malformed("the query may be `last=true`"))?;
    let address = address(&node)?;
    follow(&admin, |pool| {
        pool.remove(&address, removal.last, Instant::now())
    })
}

fn address(text: &str) -> Result<Address, Failed> {
    text.parse().map_err(|problem: String| malformed(&problem))
}

fn malformed(problem: &str) -> Failed {
    let detail = format!("It stays as it is: {problem}.");
    Failed(Problem::new(StatusCode::BAD_REQUEST, detail))
}

/// Keeps new requests from an origin; those in flight end as they will.
#[utoipa::path(post, path = "/nodes/{node}/drain", params(("node", description = "an address or name as configured")),
    responses((status = 200, body = Vec<NodeStatus>), (status = 404, description = "no such origin"),
        (status = 409, description = "a new process takes over")))]
pub(super) async fn drain(State(admin): State<Arc<Admin>>, Path(node): Path<String>) -> Answer {
    follow(&admin, |pool| pool.drain(&node, Instant::now()))
}

/// Ends a drain; the origin's share grows slowly.
#[utoipa::path(post, path = "/nodes/{node}/enable", params(("node", description = "an address or name as configured")),
    responses((status = 200, body = Vec<NodeStatus>), (status = 404, description = "no such origin"),
        (status = 409, description = "a new process takes over")))]
pub(super) async fn enable(State(admin): State<Arc<Admin>>, Path(node): Path<String>) -> Answer {
    follow(&admin, |pool| pool.enable(&node, Instant::now()))
}

/// Gives an origin another share of the load.
#[utoipa::path(post, path = "/nodes/{node}/weight", params(("node", description = "an address or name as configured")),
    request_body = Weight,
    responses((status = 200, body = Vec<NodeStatus>), (status = 404, description = "no such origin"),
        (status = 409, description = "a new process takes over"), (status = 422, description = "no weight")))]
pub(super) async fn weigh(
    State(admin): State<Arc<Admin>>,
    Path(node): Path<String>,
    weight: Result<Json<Weight>, JsonRejection>,
) -> Answer {
    let Json(Weight { weight }) = weight.map_err(|rejection| {
        let detail = format!("Write {{\"weight\": NUMBER}}: {rejection}.");
        Failed(Problem::new(StatusCode::UNPROCESSABLE_ENTITY, detail))
    })?;
    follow(&admin, |pool| pool.set_weight(&node, weight))
}

fn follow(admin: &Admin, order: impl FnOnce(&Pool) -> Result<(), BadOrder>) -> Answer {
    if admin.upgrader.handover().has_begun() {
        // What was ordered has been handed over.
        let detail =
            "It stays as it is: a new process takes over, and takes orders on a new connection.";
        return Err(Failed(Problem::new(StatusCode::CONFLICT, detail)));
    }
    match order(&admin.pool) {
        Ok(()) => Ok(Json(nodes(admin))),
        Err(bad) => {
            let status = match bad {
                BadOrder::Unknown(_) => StatusCode::NOT_FOUND,
                BadOrder::Known(_) | BadOrder::Last(_) | BadOrder::TooMany => StatusCode::CONFLICT,
                BadOrder::Weight => StatusCode::UNPROCESSABLE_ENTITY,
            };
            let way_out = match bad {
                BadOrder::Last(_) => "; `?last=true` removes it all the same",
                _ => "",
            };
            Err(Failed(Problem::new(
                status,
                format!("It stays as it is: {bad}{way_out}."),
            )))
        }
    }
}

/// What is known of every origin now.
pub(super) fn nodes(admin: &Admin) -> Vec<NodeStatus> {
    admin.pool.node_statuses(Instant::now())
}
