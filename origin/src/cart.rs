//! Carts: whoever names the same token has the same cart; only a digest of the token is stored.

pub mod db;
pub mod docs;
pub mod model;

use axum::{extract::State, response::Response, routing::get};
use http::{
    HeaderMap, HeaderValue,
    header::{COOKIE, SET_COOKIE},
};
use sha2::{Digest, Sha256};

use crate::{
    cache_policy::CachePolicy,
    database::Row,
    error::{Entity, Error, FieldError, Result},
    extract::{self, FromParameters, Parameters, Post, Query},
    reply,
    routes::Route,
    state::AppState,
};
use model::NewItem;

/// The paths of this module.
pub fn routes() -> Vec<Route> {
    vec![Route::new("/cart", get(list).post(create), || {
        vec![docs::list(), docs::create()]
    })]
}

/// Names the cart of a client that has no token.
const COOKIE_NAME: &str = "atelier_cart";
/// Thirty days.
const COOKIE_MAX_AGE_SECONDS: u32 = 30 * 24 * 60 * 60;

/// The query of a cart.
struct UserToken(Option<Vec<u8>>);

impl FromParameters for UserToken {
    fn from_parameters(parameters: Parameters<'_>) -> Result<Self> {
        let token = parameters.first("user_token");
        Ok(Self(token.map(std::borrow::Cow::into_owned)))
    }
}

async fn list(
    State(state): State<AppState>,
    headers: HeaderMap,
    Query(UserToken(in_query)): Query<UserToken>,
) -> Result<Response> {
    let items = match identity(&headers, None, in_query.as_deref()) {
        // The primary, whatever reads go to: a client sees what it has just added.
        Some(identity) => db::list(state.db.reads(), digest(&identity)).await?,
        None => Vec::new(),
    };
    reply::json(CachePolicy::NoStore, &items)
}

async fn create(State(state): State<AppState>, post: Post<NewItem>) -> Result<Response> {
    let unknown = || {
        let error = FieldError::new("sku_id", "is no sku");
        Error::InvalidBody(Entity::Cart, vec![error])
    };
    let sku = post.value.sku_id.row().ok_or_else(unknown)?;
    let in_body = post.value.user_token.as_deref().map(str::as_bytes);
    let in_query = Parameters::new(post.parts.uri.query()).first("user_token");
    let known = identity(&post.parts.headers, in_body, in_query.as_deref());
    // Without an identity a repeated request cannot be told from somebody else's.
    let claim = known.as_deref().and_then(|identity| post.claim(identity));
    let (identity, cookie) = match known {
        Some(identity) => (identity, None),
        None => new_identity()?,
    };
    let cart = digest(&identity);
    let mut conn = state.db.write_to(Row::Cart(cart)).await?;
    let created = db::add(&mut conn, cart, sku, post.value.count, claim.as_ref()).await?;
    let mut response = reply::created(created.ok_or_else(unknown)?);
    if let Some(cookie) = cookie {
        response.headers_mut().insert(SET_COOKIE, cookie);
    }
    Ok(response)
}

/// The token that names the cart: the first there is of those of the header, the body, the query and the cookie.
fn identity(
    headers: &HeaderMap,
    in_body: Option<&[u8]>,
    in_query: Option<&[u8]>,
) -> Option<Vec<u8>> {
    let is_there = |token: &&[u8]| !token.is_empty();
    extract::token(headers)
        .or_else(|| in_body.filter(is_there))
        .or_else(|| in_query.filter(is_there))
        .or_else(|| cookie(headers))
        .map(<[u8]>::to_vec)
}

/// The value of our cookie.
fn cookie(headers: &HeaderMap) -> Option<&[u8]> {
    headers
        .get_all(COOKIE)
        .iter()
        .flat_map(|field| field.as_bytes().split(|byte| *byte == b';'))
        .filter_map(|pair| {
            let pair = pair.trim_ascii();
            pair.strip_prefix(COOKIE_NAME.as_bytes())?
                .strip_prefix(b"=")
        })
        .find(|value| !value.is_empty())
}

/// A token that nobody can guess, and the cookie that will bring it back.
fn new_identity() -> Result<(Vec<u8>, Option<HeaderValue>)> {
    let mut random = [0; 16];
    getrandom::fill(&mut random).map_err(|error| Error::Internal(error.to_string().into()))?;
    let token = format!("{:032x}", u128::from_be_bytes(random));
    let cookie = set_cookie(&token);
    Ok((token.into_bytes(), cookie))
}

/// The cookie of a token.
fn set_cookie(token: &str) -> Option<HeaderValue> {
    let cookie = format!(
        "{COOKIE_NAME}={token}; Path=/; Max-Age={COOKIE_MAX_AGE_SECONDS}; HttpOnly; SameSite=Lax"
    );
    HeaderValue::try_from(cookie).ok()
}

fn digest(identity: &[u8]) -> [u8; 32] {
    Sha256::digest(identity).into()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(fields: &[(&'static str, &'static str)]) -> HeaderMap {
        fields
            .iter()
            .map(|(name, value)| {
                (
                    http::HeaderName::from_static(name),
                    HeaderValue::from_static(value),
                )
            })
            .collect()
    }

    #[test]
    fn the_first_token_present_names_the_cart() {
        let all = headers(&[("authorization", "Bearer a"), ("cookie", "atelier_cart=d")]);
        let only_cookie = headers(&[("cookie", "x=1; atelier_cart=d; y=2")]);
        let none = HeaderMap::new();
        let body = Some(&b"b"[..]);
        let query = Some(&b"c"[..]);
        assert_eq!(identity(&all, body, query).as_deref(), Some(&b"a"[..]));
        assert_eq!(
            identity(&only_cookie, body, query).as_deref(),
            Some(&b"b"[..])
        );
        assert_eq!(
            identity(&only_cookie, None, query).as_deref(),
            Some(&b"c"[..])
        );
        assert_eq!(
            identity(&only_cookie, None, None).as_deref(),
            Some(&b"d"[..])
        );
        assert_eq!(identity(&none, Some(b""), Some(b"")), None);
    }

    #[test]
    fn a_cookie_of_a_longer_name_is_not_ours() {
        assert_eq!(
            cookie(&headers(&[(
                "cookie",
                "atelier_cart2=x; xatelier_cart=y; atelier_cart="
            )])),
            None
        );
    }

    #[test]
    fn new_identities_differ() {
        let (one, _) = new_identity().expect("randomness");
        let (other, _) = new_identity().expect("randomness");
        assert_ne!(one, other);
        assert_eq!(one.len(), 32);
    }
}
