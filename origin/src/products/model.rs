//! Products as they are sent.

use serde::{Serialize, Serializer, ser::SerializeMap as _};
use utoipa::ToSchema;

use super::docs;
use crate::{date::Date, id::Id};

/// A product as it is stored.
#[derive(Clone, Debug)]
pub struct Product {
    /// The product's id.
    pub id: i32,
    /// Its name.
    pub name: String,
    /// A line about it.
    pub slogan: String,
    /// A paragraph about it.
    pub description: String,
    /// Its category.
    pub category: String,
    /// The price, with two decimals.
    pub default_price: String,
    /// When it was loaded.
    pub created_at: Date,
    /// When it was last loaded.
    pub updated_at: Date,
}

impl Product {
    /// The product as it is sent: with the campus, which is a setting.
    pub fn on<'a>(&'a self, campus: &'a str) -> ProductOnCampus<'a> {
        ProductOnCampus {
            id: self.id,
            campus,
            name: &self.name,
            slogan: &self.slogan,
            description: &self.description,
            category: &self.category,
            default_price: &self.default_price,
            created_at: self.created_at,
            updated_at: self.updated_at,
        }
    }
}

/// A product in the list.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Product)]
pub struct ProductOnCampus<'a> {
    /// The product's id.
    id: i32,
    /// The same for every product.
    campus: &'a str,
    /// Its name.
    name: &'a str,
    /// A line about it.
    slogan: &'a str,
    /// A paragraph about it.
    description: &'a str,
    /// Its category.
    category: &'a str,
    /// The price, with two decimals.
    #[schema(pattern = r"^[0-9]+\.[0-9]{2}$")]
    default_price: &'a str,
    /// When it was loaded.
    created_at: Date,
    /// When it was last loaded.
    updated_at: Date,
}

/// One product.
#[derive(Debug, Serialize, ToSchema)]
pub struct ProductWithFeatures<'a> {
    /// The fields of the list.
    #[serde(flatten)]
    pub product: ProductOnCampus<'a>,
    /// Its features, in load order.
    pub features: &'a [Feature],
}

/// A feature of a product.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, ToSchema)]
pub struct Feature {
    /// What it is about.
    pub feature: String,
    /// What is so about it.
    #[schema(required)]
    pub value: Option<String>,
}

/// The styles of a product.
#[derive(Debug, Serialize, ToSchema)]
pub struct Styles<'a> {
    /// The product's id, as text.
    pub product_id: &'a Id,
    /// Ascending by id.
    pub results: &'a [Style],
}

/// A style.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct Style {
    /// The style's id.
    pub style_id: i32,
    /// Its name.
    pub name: String,
    /// The price, with two decimals.
    #[schema(pattern = r"^[0-9]+\.[0-9]{2}$")]
    pub original_price: String,
    /// The price in a sale, if there is one.
    #[schema(required, pattern = r"^[0-9]+\.[0-9]{2}$")]
    pub sale_price: Option<String>,
    /// Whether it is the one to show first.
    #[serde(rename = "default?")]
    pub is_default: bool,
    /// Its photos; without any, one that is nowhere.
    #[serde(serialize_with = "photos_or_placeholder")]
    #[schema(min_items = 1)]
    pub photos: Vec<Photo>,
    /// What can be bought.
    #[serde(serialize_with = "skus_or_placeholder")]
    #[schema(schema_with = docs::skus)]
    pub skus: Vec<Sku>,
}

/// A photo of a style.
#[derive(Clone, Debug, Serialize, ToSchema)]
#[schema(as = StylePhoto)]
pub struct Photo {
    /// Orders the photos of a style; not sent.
    #[serde(skip)]
    pub id: i32,
    /// The small picture.
    #[schema(required)]
    pub thumbnail_url: Option<String>,
    /// The large picture.
    #[schema(required)]
    pub url: Option<String>,
}

/// A size of a style that can be bought.
#[derive(Clone, Debug)]
pub struct Sku {
    /// The sku's id.
    pub id: i32,
    /// How many there are.
    pub quantity: i32,
    /// The size's name.
    pub size: String,
}

/// What is sent under a sku's id.
#[derive(Serialize)]
struct Stock<'a> {
    quantity: Option<i32>,
    size: Option<&'a str>,
}

/// Clients read `photos[0]` without looking whether there is one.
fn photos_or_placeholder<S: Serializer>(
    photos: &[Photo],
    serializer: S,
) -> Result<S::Ok, S::Error> {
    if photos.is_empty() {
        let placeholder = Photo {
            id: 0,
            thumbnail_url: None,
            url: None,
        };
        return [placeholder].serialize(serializer);
    }
    photos.serialize(serializer)
}

/// Clients read `skus.null` when there is nothing to buy.
fn skus_or_placeholder<S: Serializer>(skus: &[Sku], serializer: S) -> Result<S::Ok, S::Error> {
    let mut map = serializer.serialize_map(Some(skus.len().max(1)))?;
    for sku in skus {
        let stock = Stock {
            quantity: Some(sku.quantity),
            size: Some(&sku.size),
        };
        map.serialize_entry(&sku.id, &stock)?;
    }
    if skus.is_empty() {
        let none = Stock {
            quantity: None,
            size: None,
        };
        map.serialize_entry("null", &none)?;
    }
    map.end()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_style_without_photos_and_skus_has_placeholders() {
        let style = Style {
            style_id: 1,
            name: "Plain".into(),
            original_price: "140.00".into(),
            sale_price: None,
            is_default: true,
            photos: Vec::new(),
            skus: Vec::new(),
        };
        assert_eq!(
            serde_json::to_string(&style).expect("serialises"),
            concat!(
                r#"{"style_id":1,"name":"Plain","original_price":"140.00","sale_price":null,"default?":true,"#,
                r#""photos":[{"thumbnail_url":null,"url":null}],"skus":{"null":{"quantity":null,"size":null}}}"#
            )
        );
    }
}
