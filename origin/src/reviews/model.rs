//! Reviews as they are sent and received.

use serde::{Serialize, Serializer, ser::SerializeMap as _};
use utoipa::ToSchema;

use super::docs;
use crate::{
    date::Date,
    error::Entity,
    extract::FromObject,
    id::Id,
    object::{Object, limit},
    reply::Photo,
};

/// A page of a product's reviews.
#[derive(Debug, Serialize, ToSchema)]
pub struct ReviewPage<'a> {
    /// The product's id, as text.
    pub product: &'a Id,
    /// How many reviews come before this page.
    #[schema(minimum = 0)]
    pub page: i64,
    /// How many reviews a page has at most.
    #[schema(minimum = 1)]
    pub count: u32,
    /// The reviews.
    pub results: &'a [Review],
}

/// A review.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct Review {
    /// The review's id.
    pub review_id: i32,
    /// From 1 to 5.
    #[schema(minimum = 1, maximum = 5)]
    pub rating: i16,
    /// A line, possibly empty.
    pub summary: String,
    /// Whether the product is recommended.
    pub recommend: bool,
    /// What the shop answered.
    #[schema(required)]
    pub response: Option<String>,
    /// The review itself.
    pub body: String,
    /// When it was written.
    pub date: Date,
    /// Who wrote it.
    pub reviewer_name: String,
    /// How often it was found helpful.
    #[schema(minimum = 0)]
    pub helpfulness: i32,
    /// Its photos, by id.
    pub photos: Vec<Photo>,
}

/// What is counted of a product's reviews, as it is stored.
#[derive(Clone, Debug, Default)]
pub struct Counts {
    /// Reviews by rating, from 1.
    pub ratings: Vec<i32>,
    /// Reviews that do not recommend the product.
    pub recommended_false: i32,
    /// Reviews that do.
    pub recommended_true: i32,
    /// The characteristics, ascending by id.
    pub characteristics: Vec<Characteristic>,
}

/// The votes on a characteristic.
#[derive(Clone, Debug)]
pub struct Characteristic {
    /// The characteristic's id.
    pub id: i32,
    /// Its name, by which clients know it.
    pub name: String,
    /// The sum of the votes.
    pub sum: i64,
    /// How many there are.
    pub count: i32,
}

/// The ratings of a product.
#[derive(Debug, Serialize, ToSchema)]
pub struct Meta<'a> {
    /// The product's id, as text.
    product_id: &'a Id,
    #[serde(serialize_with = "sparse_ratings")]
    #[schema(schema_with = docs::ratings)]
    ratings: Vec<i32>,
    recommended: Recommended,
    /// The characteristics that are voted on, by name.
    #[serde(serialize_with = "by_name")]
    #[schema(value_type = BTreeMap<String, Votes>)]
    characteristics: Vec<Characteristic>,
}

/// How many reviews recommend the product, and how many do not.
#[derive(Debug, Serialize, ToSchema)]
struct Recommended {
    /// A number as text.
    #[serde(rename = "false", serialize_with = "text")]
    #[schema(value_type = String, pattern = "^(0|[1-9][0-9]*)$")]
    no: i32,
    /// A number as text.
    #[serde(rename = "true", serialize_with = "text")]
    #[schema(value_type = String, pattern = "^(0|[1-9][0-9]*)$")]
    yes: i32,
}

/// What is sent of the votes on a characteristic.
#[derive(Debug, Serialize, ToSchema)]
struct Votes {
    /// The characteristic's id, under which votes are sent.
    id: i32,
    /// The average vote, with 16 decimals; none without votes.
    #[schema(required, pattern = r"^[0-9]+\.[0-9]{16}$")]
    value: Option<String>,
}

impl<'a> Meta<'a> {
    /// The ratings of a product, from what is counted of it.
    pub fn new(product_id: &'a Id, mut counts: Counts) -> Self {
        // If a name is there twice, the lowest id has it.
        let mut names = std::collections::HashSet::new();
        counts.characteristics.sort_unstable_by_key(|one| one.id);
        counts
            .characteristics
            .retain(|one| names.insert(one.name.clone()));
        Self {
            product_id,
            ratings: counts.ratings,
            recommended: Recommended {
                no: counts.recommended_false,
                yes: counts.recommended_true,
            },
            characteristics: counts.characteristics,
        }
    }
}

fn text<S: Serializer>(count: &i32, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_str(count)
}

/// A count as it is sent.
struct Text(i32);

impl Serialize for Text {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        text(&self.0, serializer)
    }
}

/// Only the ratings that occur.
fn sparse_ratings<S: Serializer>(ratings: &[i32], serializer: S) -> Result<S::Ok, S::Error> {
    let mut map = serializer.serialize_map(None)?;
    for (rating, count) in (1..).zip(ratings).filter(|(_, count)| **count > 0) {
        map.serialize_entry::<i32, _>(&rating, &Text(*count))?;
    }
    map.end()
}

fn by_name<S: Serializer>(all: &[Characteristic], serializer: S) -> Result<S::Ok, S::Error> {
    let mut map = serializer.serialize_map(Some(all.len()))?;
    for one in all {
        let sent = Votes {
            id: one.id,
            value: average(one.sum, one.count),
        };
        map.serialize_entry(&one.name, &sent)?;
    }
    map.end()
}

/// A quotient with 16 decimals, rounded half away from zero, computed in integers; nothing without votes.
fn average(sum: i64, count: i32) -> Option<String> {
    const UNIT: u128 = 10_u128.pow(16);
    let count = u128::try_from(count).ok().filter(|count| *count > 0)?;
    let sum = u128::try_from(sum).ok()?;
    let scaled = (sum * UNIT * 2 + count) / (count * 2);
    Some(format!("{}.{:016}", scaled / UNIT, scaled % UNIT))
}

/// A review that a client sends.
#[derive(Debug)]
pub struct NewReview {
    /// Of which product.
    pub product_id: Id,
    /// From 1 to 5.
    pub rating: i32,
    /// A line, possibly empty.
    pub summary: String,
    /// The review itself.
    pub body: String,
    /// Whether the product is recommended.
    pub recommend: bool,
    /// Who writes.
    pub name: String,
    /// Who writes, never shown.
    pub email: String,
    /// Where the photos are.
    pub photos: Vec<String>,
    /// Votes by characteristic.
    pub votes: Vec<(i32, i16)>,
}

impl FromObject for NewReview {
    const ENTITY: Entity = Entity::Review;
    const FIELDS: &'static [&'static str] = &[
        "product_id",
        "rating",
        "summary",
        "body",
        "recommend",
        "name",
        "email",
        "photos",
        "characteristics",
    ];

    fn from_object(object: &mut Object<'_>) -> Option<Self> {
        let product_id = object.id("product_id");
        let rating = object.integer("rating", limit::RATING, None);
        let summary = object.optional_text("summary", limit::SUMMARY);
        let body = object.text("body", limit::BODY);
        let recommend = object.boolean("recommend");
        let name = object.text("name", limit::NAME);
        let email = object.text("email", limit::NAME);
        let photos = object.strings("photos", limit::PHOTOS, false);
        let votes = object.votes("characteristics");
        Some(Self {
            product_id: product_id?,
            rating: rating?,
            summary: summary?,
            body: body?,
            recommend: recommend?,
            name: name?,
            email: email?,
            photos: photos?,
            votes: votes?,
        })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn an_average_has_16_decimals_rounded_half_away_from_zero() {
        for (sum, count, expected) in [
            (47, 18, "2.6111111111111111"),
            (2, 3, "0.6666666666666667"),
            (3, 2, "1.5000000000000000"),
            (5, 1, "5.0000000000000000"),
            (1, 3, "0.3333333333333333"),
            // 1 / 2^17: the 17th decimal is a 5 and the last.
            (1, 131_072, "0.0000076293945313"),
        ] {
            assert_eq!(
                average(sum, count).as_deref(),
                Some(expected),
                "{sum}/{count}"
            );
        }
        assert_eq!(average(0, 0), None);
    }

    #[test]
    fn meta_without_reviews_has_both_recommendations() {
        let id = Id::Row(5);
        let meta = Meta::new(&id, Counts::default());
        assert_eq!(
            serde_json::to_string(&meta).expect("serialises"),
            r#"{"product_id":"5","ratings":{},"recommended":{"false":"0","true":"0"},"characteristics":{}}"#
        );
    }

    proptest! {
        #[test]
        fn an_average_is_the_quotient(sum in 0..10_000_000_i64, count in 1..2_000_000_i32) {
            let text = average(sum, count).expect("votes");
            let value: f64 = text.parse().expect("a number");
            let expected = sum as f64 / f64::from(count);
            prop_assert!((value - expected).abs() <= 1e-15 * expected.max(1.0));
            prop_assert_eq!(text.split_once('.').map(|(_, decimals)| decimals.len()), Some(16));
        }
    }
}
