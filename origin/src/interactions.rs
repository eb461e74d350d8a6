//! Interactions: what visitors did on which part of a page.

pub mod db;
pub mod docs;
pub mod model;

use axum::{extract::State, response::Response, routing::post};

use crate::{
    error::{Entity, Error, Result},
    extract::Post,
    reply,
    routes::Route,
    state::AppState,
};
use model::NewInteraction;

/// The paths of this module.
pub fn routes() -> Vec<Route> {
    vec![Route::new("/interactions", post(create), || {
        vec![docs::create()]
    })]
}

async fn create(State(state): State<AppState>, post: Post<NewInteraction>) -> Result<Response> {
    let claim = post.claim_by_token();
    let mut conn = state.db.write().await?;
    let created = db::create(&mut conn, &post.value, claim.as_ref()).await?;
    // It refers to nothing that could be missing.
    let refused = || Error::InvalidBody(Entity::Interaction, Vec::new());
    Ok(reply::created(created.ok_or_else(refused)?))
}
