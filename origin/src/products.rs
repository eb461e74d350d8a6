//! The catalogue: the list of products, one product, its styles, its related products.

pub mod db;
pub mod docs;
pub mod model;

use axum::{extract::State, response::Response, routing::get};

use crate::{
    cache_policy::CachePolicy,
    database::Reads,
    error::{Error, Result},
    extract::{Drained, FromParameters, Parameters, ProductId, Query},
    page::Page,
    reply,
    routes::Route,
    state::AppState,
};

/// The paths of this module.
pub fn routes() -> Vec<Route> {
    vec![
        Route::new("/products", get(list), || vec![docs::list()]),
        Route::new("/products/{product_id}", get(product), || {
            vec![docs::product()]
        }),
        Route::new("/products/{product_id}/styles", get(styles), || {
            vec![docs::styles()]
        }),
        Route::new("/products/{product_id}/related", get(related), || {
            vec![docs::related()]
        }),
    ]
}

/// The query of the list.
struct List(Page);

impl FromParameters for List {
    fn from_parameters(parameters: Parameters<'_>) -> Result<Self> {
        let page = parameters.first("page");
        let count = parameters.first("count");
        let page = Page::parse(page.as_deref(), count.as_deref(), Page::PRODUCTS_MAX);
        Ok(Self(page))
    }
}

async fn list(
    State(state): State<AppState>,
    reads: Reads,
    Query(List(page)): Query<List>,
) -> Result<Response> {
    let products = db::list(&reads, page).await?;
    let campus = &state.config.campus;
    let products: Vec<_> = products.iter().map(|product| product.on(campus)).collect();
    reply::json(CachePolicy::Products, &products)
}

async fn product(
    State(state): State<AppState>,
    reads: Reads,
    ProductId(id): ProductId,
    _: Drained,
) -> Result<Response> {
    let found = match id.row() {
        Some(row) => db::get(&reads, row).await?,
        None => None,
    };
    let (product, features) = found.ok_or_else(|| Error::UnknownProduct(id.clone()))?;
    let product = model::ProductWithFeatures {
        product: product.on(&state.config.campus),
        features: &features,
    };
    reply::json(CachePolicy::Product(id), &product)
}

async fn styles(reads: Reads, ProductId(id): ProductId, _: Drained) -> Result<Response> {
    let found = match id.row() {
        Some(row) => db::styles(&reads, row).await?,
        None => None,
    };
    let results = found.ok_or_else(|| Error::UnknownProduct(id.clone()))?;
    let styles = model::Styles {
        product_id: &id,
        results: &results,
    };
    reply::json(CachePolicy::Product(id.clone()), &styles)
}

async fn related(reads: Reads, ProductId(id): ProductId, _: Drained) -> Result<Response> {
    let found = match id.row() {
        Some(row) => db::related(&reads, row).await?,
        None => None,
    };
    let ids = found.ok_or_else(|| Error::UnknownProduct(id.clone()))?;
    reply::json(CachePolicy::Related(id), &ids)
}
