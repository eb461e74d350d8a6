//! Questions about products.

pub mod db;
pub mod docs;
pub mod model;

use axum::{
    extract::State,
    response::Response,
    routing::{get, put},
};

use crate::{
    cache_policy::CachePolicy,
    database::Reads,
    error::{Entity, Error, FieldError, Result},
    extract::{Drained, FromParameters, Parameters, Post, Query, QuestionId},
    id::Id,
    page::Page,
    ranked, reply,
    routes::Route,
    state::AppState,
};
use model::NewQuestion;

/// The paths of this module.
pub fn routes() -> Vec<Route> {
    vec![
        Route::new("/qa/questions", get(list).post(create), || {
            vec![docs::list(), docs::create()]
        }),
        Route::new(
            "/qa/questions/{question_id}/helpful",
            put(mark_helpful),
            || vec![docs::mark_helpful()],
        ),
        Route::new("/qa/questions/{question_id}/report", put(report), || {
            vec![docs::report()]
        }),
    ]
}

/// The query of the list.
struct List {
    product_id: Id,
    page: Page,
}

impl FromParameters for List {
    fn from_parameters(parameters: Parameters<'_>) -> Result<Self> {
        let page = parameters.first("page");
        let count = parameters.first("count");
        Ok(Self {
            product_id: parameters.product_id()?,
            page: Page::parse(page.as_deref(), count.as_deref(), Page::ROWS_MAX),
        })
    }
}

async fn list(
    State(state): State<AppState>,
    reads: Reads,
    Query(list): Query<List>,
) -> Result<Response> {
    let results = match list.product_id.row() {
        Some(row) => {
            let by_ranks = state.ranked.serves(ranked::List::Questions, row, list.page);
            db::list(&reads, row, list.page, by_ranks).await?
        }
        None => Vec::new(),
    };
    let questions = model::Questions {
        product_id: &list.product_id,
        results: &results,
    };
    reply::json(CachePolicy::Questions(list.product_id.clone()), &questions)
}

async fn create(State(state): State<AppState>, post: Post<NewQuestion>) -> Result<Response> {
    let unknown = || {
        let error = FieldError::new("product_id", "is no product");
        Error::InvalidBody(Entity::Question, vec![error])
    };
    let product = post.value.product_id.row().ok_or_else(unknown)?;
    let claim = post.claim_by_token();
    let mut conn = state.db.write().await?;
    let created = db::create(&mut conn, product, &post.value, claim.as_ref()).await?;
    Ok(reply::created(created.ok_or_else(unknown)?))
}

async fn mark_helpful(
    State(state): State<AppState>,
    QuestionId(id): QuestionId,
    _: Drained,
) -> Result<Response> {
    let groups = match id.row() {
        Some(row) => db::mark_helpful(&mut state.db.write().await?, row).await?,
        None => None,
    };
    Ok(reply::changed(groups))
}

async fn report(
    State(state): State<AppState>,
    QuestionId(id): QuestionId,
    _: Drained,
) -> Result<Response> {
    let groups = match id.row() {
        Some(row) => db::report(&mut state.db.write().await?, row).await?,
        None => None,
    };
    Ok(reply::changed(groups))
}
