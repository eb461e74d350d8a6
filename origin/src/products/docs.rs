//! The catalogue in the API's description.

use serde_json::{Value, json};
use utoipa::openapi::Ref;

use super::model::{ProductOnCampus, ProductWithFeatures, Styles};
use crate::{
    cache_policy::CachePolicy,
    describe::{Operation, Shape},
    error::Error,
    id::Id,
    page::Page,
};

const ID: Id = Id::Row(2);

/// An id that is well-formed and no product's.
fn unknown() -> Error {
    Error::UnknownProduct(Id::Row(99_999_999))
}

/// `GET /products`
pub fn list() -> Operation {
    let shape = Shape::list_of::<ProductOnCampus<'_>>();
    let example = json!([example()]);
    Operation::read(
        "listProducts",
        "A page of the catalogue",
        CachePolicy::Products,
        shape,
        &example,
    )
    .about("Ascending by id.")
    .paged(Page::PRODUCTS_MAX)
}

/// `GET /products/{product_id}`
pub fn product() -> Operation {
    let shape = Shape::of::<ProductWithFeatures<'_>>();
    let mut example = example();
    example["features"] = json!([
        { "feature": "Lenses", "value": "Ultrasheen" },
        { "feature": "UV Protection", "value": null },
    ]);
    Operation::read(
        "getProduct",
        "One product",
        CachePolicy::Product(ID),
        shape,
        &example,
    )
    .about("With its features, in the order in which they were loaded.")
    .or(unknown())
}

/// `GET /products/{product_id}/styles`
pub fn styles() -> Operation {
    let shape = Shape::of::<Styles<'_>>().with(SKUS, skus_schema());
    let example = json!({ "product_id": "2", "results": [
        {
            "style_id": 7, "name": "Forest Green & Black", "original_price": "140.00", "sale_price": "100.00",
            "default?": true,
            "photos": [{ "thumbnail_url": "https://example.com/7-small.jpg", "url": "https://example.com/7.jpg" }],
            "skus": { "37": { "quantity": 8, "size": "XS" }, "38": { "quantity": 16, "size": "S" } },
        },
        {
            "style_id": 8, "name": "Desert Brown & Tan", "original_price": "140.00", "sale_price": null,
            "default?": false,
            "photos": [{ "thumbnail_url": null, "url": null }],
            "skus": { "null": { "quantity": null, "size": null } },
        },
    ] });
    Operation::read(
        "listStyles",
        "The styles of a product",
        CachePolicy::Product(ID),
        shape,
        &example,
    )
    .about(
        "Ascending by id. A style without photos has one that is nowhere; one without skus has \
         one under the name `null`.",
    )
    .or(unknown())
}

/// `GET /products/{product_id}/related`
pub fn related() -> Operation {
    let shape = Shape::new(json!({
        "type": "array", "items": { "type": "integer", "format": "int32", "minimum": 1 }, "uniqueItems": true,
    }));
    let example = json!([3, 4, 9, 8]);
    Operation::read(
        "listRelatedProducts",
        "The related products of a product",
        CachePolicy::Related(ID),
        shape,
        &example,
    )
    .about(
        "The ids of products that exist, each once, in the order in which they were loaded; a \
         product may be related to itself.",
    )
    .or(unknown())
}

fn example() -> Value {
    json!({
        "id": 2, "campus": "hr-rfp", "name": "Bright Future Sunglasses", "slogan": "You've got \
            to wear shades",
        "description": "Where you're going you might not need roads.", "category": "Accessories",
        "default_price": "69.00", "created_at": "2021-08-13T14:38:44.509Z", "updated_at": "2021-08-13T14:38:44.509Z",
    })
}

/// Refers to the schema of a style's skus.
pub fn skus() -> Ref {
    Ref::from_schema_name(SKUS)
}

const SKUS: &str = "Skus";

fn skus_schema() -> Value {
    let stock = |quantity: Value, size: Value| {
        json!({
            "type": "object",
            "required": ["quantity", "size"],
            "properties": { "quantity": quantity, "size": size },
        })
    };
    let some = stock(
        json!({ "type": "integer", "format": "int32", "minimum": 0 }),
        json!({ "type": "string" }),
    );
    let none = stock(json!({ "type": "null" }), json!({ "type": "null" }));
    json!({ "oneOf": [
        {
            "description": "By the sku's id: how many there are, and the size's name, which may \
                repeat.",
            "type": "object",
            "minProperties": 1,
            "propertyNames": { "pattern": "^[1-9][0-9]*$" },
            "additionalProperties": some,
        },
        {
            "description": "There is nothing to buy.",
            "type": "object",
            "required": ["null"],
            "properties": { "null": none },
            "additionalProperties": false,
        },
    ] })
}
