//! Ratings and reviews.

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
    extract::{Drained, FromParameters, Parameters, Post, Query, ReviewId},
    id::Id,
    page::Page,
    ranked, reply,
    routes::Route,
    state::AppState,
};
use db::Sort;
use model::NewReview;

/// The paths of this module.
pub fn routes() -> Vec<Route> {
    vec![
        Route::new("/reviews", get(list).post(create), || {
            vec![docs::list(), docs::create()]
        }),
        Route::new("/reviews/meta", get(meta), || vec![docs::meta()]),
        Route::new("/reviews/{review_id}/helpful", put(mark_helpful), || {
            vec![docs::mark_helpful()]
        }),
        Route::new("/reviews/{review_id}/report", put(report), || {
            vec![docs::report()]
        }),
    ]
}

/// The query of the list.
struct List {
    product_id: Id,
    page: Page,
    sort: Sort,
}

impl FromParameters for List {
    fn from_parameters(parameters: Parameters<'_>) -> Result<Self> {
        let page = parameters.first("page");
        let count = parameters.first("count");
        let sort = parameters.first("sort");
        Ok(Self {
            product_id: parameters.product_id()?,
            page: Page::parse(page.as_deref(), count.as_deref(), Page::ROWS_MAX),
            sort: Sort::parse(sort.as_deref().unwrap_or_default()),
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
            let by_ranks = state.ranked.serves(ranked::List::Reviews, row, list.page);
            db::list(&reads, row, list.sort, list.page, by_ranks).await?
        }
        None => Vec::new(),
    };
    let page = model::ReviewPage {
        product: &list.product_id,
        page: list.page.offset(),
        count: list.page.count,
        results: &results,
    };
    reply::json(CachePolicy::Reviews(list.product_id.clone()), &page)
}

/// The query of meta.
struct OfProduct(Id);

impl FromParameters for OfProduct {
    fn from_parameters(parameters: Parameters<'_>) -> Result<Self> {
        parameters.product_id().map(Self)
    }
}

async fn meta(reads: Reads, Query(OfProduct(id)): Query<OfProduct>) -> Result<Response> {
    let counts = match id.row() {
        Some(row) => db::meta(&reads, row).await?,
        None => None,
    };
    let meta = model::Meta::new(&id, counts.unwrap_or_default());
    reply::json(CachePolicy::Meta(id.clone()), &meta)
}

async fn create(State(state): State<AppState>, post: Post<NewReview>) -> Result<Response> {
    let unknown = || {
        let error = FieldError::new("product_id", "is no product");
        Error::InvalidBody(Entity::Review, vec![error])
    };
    let product = post.value.product_id.row().ok_or_else(unknown)?;
    let claim = post.claim_by_token();
    let mut conn = state.db.write().await?;
    let created = db::create(&mut conn, product, &post.value, claim.as_ref()).await?;
    Ok(reply::created(created.ok_or_else(unknown)?))
}

async fn mark_helpful(
    State(state): State<AppState>,
    ReviewId(id): ReviewId,
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
    ReviewId(id): ReviewId,
    _: Drained,
) -> Result<Response> {
    let groups = match id.row() {
        Some(row) => db::report(&mut state.db.write().await?, row).await?,
        None => None,
    };
    Ok(reply::changed(groups))
}
