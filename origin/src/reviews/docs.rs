//! Reviews in the API's description.

use http::HeaderMap;
use serde_json::{Value, json};
use utoipa::openapi::Ref;

use super::model::{Meta, NewReview, ReviewPage};
use crate::{
    cache_policy::CachePolicy,
    describe::{Operation, Shape},
    error::{Entity, Error, FieldError},
    id::Id,
    page::Page,
};

const PRODUCT: Id = Id::Row(2);

/// `GET /reviews`
pub fn list() -> Operation {
    let shape = Shape::of::<ReviewPage<'_>>();
    let example = json!({ "product": "2", "page": 0, "count": 5, "results": [{
        "review_id": 5, "rating": 3, "summary": "I'm enjoying wearing these shades", "recommend": false,
        "response": null, "body": "Comfortable and practical.", "date": "2019-04-14T00:00:00.000Z",
        "reviewer_name": "shortandsweeet", "helpfulness": 5,
        "photos": [{ "id": 1, "url": "https://example.com/5.jpg" }],
    }] });
    let sort = json!({
        "anyOf": [
            { "enum": ["relevant", "relevance", "newest", "date", "recent", "helpful", "helpfulness"] },
            { "type": "string" },
        ],
        "default": "relevant",
    });
    let policy = CachePolicy::Reviews(PRODUCT);
    Operation::read(
        "listReviews",
        "A page of a product's reviews",
        policy,
        shape,
        &example,
    )
    .about("Reported reviews are left out. A product that is unknown has none.")
    .of_product()
    .paged(Page::ROWS_MAX)
    .query(
        "sort",
        "`newest` (also `date`, `recent`): the newest first. `helpful` (also \
             `helpfulness`): the most helpful first. `relevant` (also `relevance`, and anything \
             else): the most helpful first, of equally helpful ones the newest. Upper and lower \
             case are the same.",
        sort,
        "newest".into(),
    )
}

/// `GET /reviews/meta`
pub fn meta() -> Operation {
    let shape = Shape::of::<Meta<'_>>().with(RATINGS, ratings_schema());
    let example = json!({
        "product_id": "2",
        "ratings": { "1": "15", "3": "19", "5": "72" },
        "recommended": { "false": "70", "true": "36" },
        "characteristics": {
            "Fit": { "id": 14, "value": "2.6117647058823529" },
            "Quality": { "id": 15, "value": null },
        },
    });
    Operation::read(
        "getReviewMeta",
        "The ratings of a product",
        CachePolicy::Meta(PRODUCT),
        shape,
        &example,
    )
    .about("Reported reviews count. A product that is unknown has no ratings.")
    .of_product()
}

/// `POST /reviews`
pub fn create() -> Operation {
    let words = [
        ("product_id", "The product's id; of a product that exists."),
        ("rating", "From 1 to 5."),
        ("summary", "A line."),
        ("body", "The review itself."),
        ("recommend", "Whether the product is recommended."),
        ("name", "Who writes."),
        ("email", "Who writes; never shown."),
        ("photos", "Where the photos are; empty strings are dropped."),
        (
            "characteristics",
            "A vote from 1 to 5 for each characteristic, by its id; those of other products are \
             ignored.",
        ),
    ];
    let example = json!({
        "product_id": 2, "rating": 4, "summary": "Good", "body": "I like it.", "recommend": true, "name": "maria",
        "email": "maria@example.com", "photos": ["https://example.com/1.jpg"],
        "characteristics": { "14": 5, "15": 1 },
    });
    let unknown = FieldError::new("product_id", "is no product");
    Operation::create::<NewReview>("createReview", "Write a review", &words, &example)
        .created(
            Some("/reviews/5774953"),
            &["product-2-reviews", "product-2-meta"],
            HeaderMap::new(),
        )
        .or(Error::InvalidBody(Entity::Review, vec![unknown]))
}

/// `PUT /reviews/{review_id}/helpful`
pub fn mark_helpful() -> Operation {
    Operation::change(
        "markReviewHelpful",
        "Say that a review was helpful",
        &["product-2-reviews"],
    )
    .about("Adds one, whoever asks.")
}

/// `PUT /reviews/{review_id}/report`
pub fn report() -> Operation {
    Operation::change("reportReview", "Report a review", &["product-2-reviews"])
        .about("Takes it off the list for good; it still counts in the ratings.")
}

/// Refers to the schema of a product's ratings.
pub fn ratings() -> Ref {
    Ref::from_schema_name(RATINGS)
}

const RATINGS: &str = "Ratings";

fn ratings_schema() -> Value {
    json!({
        "description": "How many reviews, as text, gave each rating that at least one gave.",
        "type": "object",
        "propertyNames": { "enum": ["1", "2", "3", "4", "5"] },
        "additionalProperties": { "type": "string", "pattern": "^[1-9][0-9]*$" },
    })
}
