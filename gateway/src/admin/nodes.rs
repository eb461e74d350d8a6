//! `/nodes`: the origins, and what an operator orders about them until the next start.

use std::sync::Arc;
use std::time::Instant;

use axum::Json;
use axum::extract::rejection::JsonRejection;
use axum::extract::{Path, State};
use axum::http::StatusCode;
use serde::Deserialize;
use utoipa::ToSchema;

use super::{Admin, Failed};
use crate::balance::{BadOrder, NodeStatus};
use crate::error::Problem;

/// A node's share of the load.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Weight {
    /// From 1 to 1000.
    weight: u32,
}

type Answer = Result<Json<Vec<NodeStatus>>, Failed>;

/// Every origin with its load and standing.
#[utoipa::path(get, path = "/nodes", responses((status = 200, body = Vec<NodeStatus>)))]
pub(super) async fn list(State(admin): State<Arc<Admin>>) -> Json<Vec<NodeStatus>> {
    Json(nodes(&admin))
}

/// Keeps new requests from an origin; those in flight end as they will.
#[utoipa::path(post, path = "/nodes/{node}/drain", params(("node", description = "an address or name as configured")),
    responses((status = 200, body = Vec<NodeStatus>), (status = 404, description = "no such origin")))]
pub(super) async fn drain(State(admin): State<Arc<Admin>>, Path(node): Path<String>) -> Answer {
    follow(&admin, admin.pool.drain(&node, Instant::now()))
}

/// Ends a drain; the origin's share grows slowly.
#[utoipa::path(post, path = "/nodes/{node}/enable", params(("node", description = "an address or name as configured")),
    responses((status = 200, body = Vec<NodeStatus>), (status = 404, description = "no such origin")))]
pub(super) async fn enable(State(admin): State<Arc<Admin>>, Path(node): Path<String>) -> Answer {
    follow(&admin, admin.pool.enable(&node, Instant::now()))
}

/// Gives an origin another share of the load.
#[utoipa::path(post, path = "/nodes/{node}/weight", params(("node", description = "an address or name as configured")),
    request_body = Weight,
    responses((status = 200, body = Vec<NodeStatus>), (status = 404, description = "no such origin"),
        (status = 422, description = "no weight")))]
pub(super) async fn weigh(
    State(admin): State<Arc<Admin>>,
    Path(node): Path<String>,
    weight: Result<Json<Weight>, JsonRejection>,
) -> Answer {
    let Json(Weight { weight }) = weight.map_err(|rejection| {
        let detail = format!("Write {{\"weight\": NUMBER}}: {rejection}.");
        Failed(Problem::new(StatusCode::UNPROCESSABLE_ENTITY, detail))
    })?;
    follow(&admin, admin.pool.set_weight(&node, weight))
}

fn follow(admin: &Admin, order: Result<(), BadOrder>) -> Answer {
    match order {
        Ok(()) => Ok(Json(nodes(admin))),
        Err(bad) => {
            let status = match bad {
                BadOrder::Unknown(_) => StatusCode::NOT_FOUND,
                BadOrder::Weight => StatusCode::UNPROCESSABLE_ENTITY,
            };
            Err(Failed(Problem::new(
                status,
                format!("It stays as it is: {bad}."),
            )))
        }
    }
}

/// What is known of every origin now.
pub(super) fn nodes(admin: &Admin) -> Vec<NodeStatus> {
    let now = Instant::now();
    admin
        .pool
        .nodes()
        .iter()
        .map(|node| node.status(now))
        .collect()
}
