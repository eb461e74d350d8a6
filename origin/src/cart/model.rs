//! Carts as they are sent and received.

use serde::{Serialize, Serializer};
use utoipa::ToSchema;

use crate::{error::Entity, extract::FromObject, id::Id, object::Object};

/// So many units of a sku.
#[derive(Clone, Debug, Serialize, ToSchema)]
#[schema(as = CartItem)]
pub struct Item {
    /// The sku's id.
    pub sku_id: i32,
    /// How many units; sent as text.
    #[serde(serialize_with = "text")]
    #[schema(value_type = String, pattern = "^[1-9][0-9]*$")]
    pub count: i32,
}

fn text<S: Serializer>(count: &i32, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_str(count)
}

/// The most units that one request adds.
const COUNT_MAX: i32 = 10_000;

/// Units that a client adds.
#[derive(Debug)]
pub struct NewItem {
    /// Of which sku.
    pub sku_id: Id,
    /// How many.
    pub count: i32,
    /// Names the cart.
    pub user_token: Option<String>,
}

impl FromObject for NewItem {
    const ENTITY: Entity = Entity::Cart;
    const FIELDS: &'static [&'static str] = &["sku_id", "count", "user_token"];

    fn from_object(object: &mut Object<'_>) -> Option<Self> {
        let sku_id = object.id("sku_id");
        let count = object.integer("count", COUNT_MAX, Some(1));
        let user_token = object.optional_text_or_number("user_token");
        Some(Self {
            sku_id: sku_id?,
            count: count?,
            user_token: user_token?,
        })
    }
}
