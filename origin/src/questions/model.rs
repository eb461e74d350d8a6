//! Questions as they are sent and received.

use serde::{Serialize, Serializer, ser::SerializeMap as _};
use utoipa::ToSchema;

use super::docs;
use crate::{
    date::Date,
    error::Entity,
    extract::FromObject,
    id::Id,
    object::{Object, limit},
};

/// A page of a product's questions.
#[derive(Debug, Serialize, ToSchema)]
pub struct Questions<'a> {
    /// The product's id, as text.
    pub product_id: &'a Id,
    /// The questions.
    pub results: &'a [Question],
}

/// A question with all of its answers.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct Question {
    /// The question's id.
    pub question_id: i32,
    /// The question itself.
    pub question_body: String,
    /// When it was asked.
    pub question_date: Date,
    /// Who asked.
    pub asker_name: String,
    /// How often it was found helpful.
    #[schema(minimum = 0)]
    pub question_helpfulness: i32,
    /// Always false: a reported question is not sent.
    #[schema(schema_with = docs::never)]
    pub reported: bool,
    /// All of its answers, by id.
    #[serde(serialize_with = "by_id")]
    #[schema(value_type = BTreeMap<Id, Answer>)]
    pub answers: Vec<Answer>,
}

/// An answer among those of its question.
#[derive(Clone, Debug, Serialize, ToSchema)]
#[schema(as = AnswerOfQuestion)]
pub struct Answer {
    /// The answer's id.
    pub id: i32,
    /// The answer itself.
    pub body: String,
    /// When it was given.
    pub date: Date,
    /// Who answered.
    pub answerer_name: String,
    /// How often it was found helpful.
    #[schema(minimum = 0)]
    pub helpfulness: i32,
    /// Where its photos are, by the photos' ids.
    pub photos: Vec<String>,
}

fn by_id<S: Serializer>(answers: &[Answer], serializer: S) -> Result<S::Ok, S::Error> {
    let mut map = serializer.serialize_map(Some(answers.len()))?;
    for answer in answers {
        map.serialize_entry(&answer.id, answer)?;
    }
    map.end()
}

/// A question that a client sends.
#[derive(Debug)]
pub struct NewQuestion {
    /// About which product.
    pub product_id: Id,
    /// The question itself.
    pub body: String,
    /// Who asks.
    pub name: String,
    /// Who asks, never shown.
    pub email: String,
}

impl FromObject for NewQuestion {
    const ENTITY: Entity = Entity::Question;
    const FIELDS: &'static [&'static str] = &["product_id", "body", "name", "email"];

    fn from_object(object: &mut Object<'_>) -> Option<Self> {
        let product_id = object.id("product_id");
        let body = object.text("body", limit::BODY);
        let name = object.text("name", limit::NAME);
        let email = object.text("email", limit::NAME);
        Some(Self {
            product_id: product_id?,
            body: body?,
            name: name?,
            email: email?,
        })
    }
}
