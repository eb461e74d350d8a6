//! Answers as they are sent and received.

use serde::Serialize;
use utoipa::ToSchema;

use crate::{
    date::Date,
    error::Entity,
    extract::FromObject,
    id::Id,
    object::{Object, limit},
    reply::Photo,
};

/// A page of a question's answers.
#[derive(Debug, Serialize, ToSchema)]
pub struct AnswerPage<'a> {
    /// The question's id, as text.
    pub question: &'a Id,
    /// The page's number, from 1.
    #[schema(minimum = 1)]
    pub page: u32,
    /// How many answers a page has at most.
    #[schema(minimum = 1)]
    pub count: u32,
    /// The answers.
    pub results: &'a [Answer],
}

/// An answer in a list of its own.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct Answer {
    /// The answer's id.
    pub answer_id: i32,
    /// The answer itself.
    pub body: String,
    /// When it was given.
    pub date: Date,
    /// Who answered.
    pub answerer_name: String,
    /// How often it was found helpful.
    #[schema(minimum = 0)]
    pub helpfulness: i32,
    /// Its photos, by id.
    pub photos: Vec<Photo>,
}

/// An answer that a client sends.
#[derive(Debug)]
pub struct NewAnswer {
    /// The answer itself.
    pub body: String,
    /// Who answers.
    pub name: String,
    /// Who answers, never shown.
    pub email: String,
    /// Where the photos are.
    pub photos: Vec<String>,
}

impl FromObject for NewAnswer {
    const ENTITY: Entity = Entity::Answer;
    const FIELDS: &'static [&'static str] = &["body", "name", "email", "photos"];

    fn from_object(object: &mut Object<'_>) -> Option<Self> {
        let body = object.text("body", limit::BODY);
        let name = object.text("name", limit::NAME);
        let email = object.text("email", limit::NAME);
        let photos = object.strings("photos", limit::PHOTOS, true);
        Some(Self {
            body: body?,
            name: name?,
            email: email?,
            photos: photos?,
        })
    }
}
