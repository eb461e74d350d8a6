//! Answers to questions.

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
    error::{Error, Result},
    extract::{AnswerId, Drained, FromParameters, Parameters, Post, Query, QuestionId},
    page::Page,
    reply,
    routes::Route,
    state::AppState,
};
use model::NewAnswer;

/// The paths of this module.
pub fn routes() -> Vec<Route> {
    vec![
        Route::new(
            "/qa/questions/{question_id}/answers",
            get(list).post(create),
            || vec![docs::list(), docs::create()],
        ),
        Route::new("/qa/answers/{answer_id}/helpful", put(mark_helpful), || {
            vec![docs::mark_helpful()]
        }),
        Route::new("/qa/answers/{answer_id}/report", put(report), || {
            vec![docs::report()]
        }),
    ]
}

/// The query of the list.
struct List(Page);

impl FromParameters for List {
    fn from_parameters(parameters: Parameters<'_>) -> Result<Self> {
        let page = parameters.first("page");
        let count = parameters.first("count");
        let page = Page::parse(page.as_deref(), count.as_deref(), Page::ROWS_MAX);
        Ok(Self(page))
    }
}

async fn list(
    reads: Reads,
    QuestionId(id): QuestionId,
    Query(List(page)): Query<List>,
) -> Result<Response> {
    let results = match id.row() {
        Some(row) => db::list(&reads, row, page).await?,
        None => Vec::new(),
    };
    let answers = model::AnswerPage {
        question: &id,
        page: page.page,
        count: page.count,
        results: &results,
    };
    reply::json(CachePolicy::Answers(id.clone()), &answers)
}

async fn create(
    State(state): State<AppState>,
    QuestionId(id): QuestionId,
    post: Post<NewAnswer>,
) -> Result<Response> {
    let unknown = || Error::UnknownQuestion(id.clone());
    let question = id.row().ok_or_else(unknown)?;
    let claim = post.claim_by_token();
    let mut conn = state.db.write().await?;
    let created = db::create(&mut conn, question, &post.value, claim.as_ref()).await?;
    Ok(reply::created(created.ok_or_else(unknown)?))
}

async fn mark_helpful(
    State(state): State<AppState>,
    AnswerId(id): AnswerId,
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
    AnswerId(id): AnswerId,
    _: Drained,
) -> Result<Response> {
    let groups = match id.row() {
        Some(row) => db::report(&mut state.db.write().await?, row).await?,
        None => None,
    };
    Ok(reply::changed(groups))
}
