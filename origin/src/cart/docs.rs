//! Carts in the API's description.

use http::{HeaderMap, header::SET_COOKIE};
use serde_json::{Value, json};

use super::{
    COOKIE_NAME,
    model::{Item, NewItem},
    set_cookie,
};
use crate::{
    cache_policy::CachePolicy,
    describe::{Operation, Shape},
    error::{Entity, Error, FieldError},
};

/// How a request says which cart it means.
const IDENTITY: &str = "The cart is named by the first there is of: the token of \
    `Authorization`, `user_token` in the body, `user_token` in the query, the cookie \
    `atelier_cart`.";

/// `GET /cart`
pub fn list() -> Operation {
    let shape = Shape::list_of::<Item>();
    let example = json!([{ "sku_id": 37, "count": "2" }]);
    let operation = Operation::read(
        "getCart",
        "What is in the cart",
        CachePolicy::NoStore,
        shape,
        &example,
    )
    .about("Ascending by sku. A request that names no cart gets an empty one. ")
    .about(IDENTITY);
    identified(operation)
}

/// `POST /cart`
pub fn create() -> Operation {
    let words = [
        ("sku_id", "The sku's id; of a sku that exists."),
        (
            "count",
            "How many units are added to those in the cart, which has up to 1,000,000 of a sku.",
        ),
        ("user_token", "Names the cart."),
    ];
    let example = json!({ "sku_id": 37, "count": 2 });
    let mut cookie = HeaderMap::new();
    cookie.extend(set_cookie("0123456789abcdef0123456789abcdef").map(|value| (SET_COOKIE, value)));
    let unknown = FieldError::new("sku_id", "is no sku");
    let operation = Operation::create::<NewItem>("addToCart", "Add to the cart", &words, &example)
        .about("Stock is not checked. Without a name a cart is made, and a cookie names it. ")
        .about(IDENTITY)
        .created(None, &[], cookie)
        .or(Error::InvalidBody(Entity::Cart, vec![unknown]));
    identified(operation)
}

fn identified(operation: Operation) -> Operation {
    let token = || json!({ "type": "string" });
    let example = || Value::from("6f1d");
    operation
        .query("user_token", "Names the cart.", token(), example())
        .cookie(COOKIE_NAME, "Names the cart.", token(), example())
}
