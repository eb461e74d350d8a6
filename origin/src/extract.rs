//! What handlers take from a request, in the order in which the API checks: path, size, type, syntax, contents.

use std::{borrow::Cow, convert::Infallible};

use axum::extract::{FromRef, FromRequest, FromRequestParts, RawPathParams, Request};
use http::{
    HeaderMap, HeaderName, HeaderValue,
    header::{AUTHORIZATION, CONTENT_ENCODING, CONTENT_TYPE},
    request::Parts,
};
use percent_encoding::percent_decode;
use sha2::{Digest, Sha256};

use crate::{
    body::{self, Received},
    database::{Reads, db::position},
    error::{Entity, Error, Resource, Result},
    id::Id,
    idempotency::Claim,
    object::Object,
    state::AppState,
};

/// The only parameter of a path.
fn path_id(params: &RawPathParams, resource: Resource) -> Result<Id> {
    params
        .iter()
        .next()
        .and_then(|(_, value)| Id::parse(value.as_bytes()))
        .ok_or(Error::InvalidId(resource))
}

/// Defines the extractor of a path's id.
macro_rules! path_id {
    ($(#[$doc:meta])* $name:ident, $resource:expr) => {
        $(#[$doc])*
        #[derive(Clone, Debug)]
        pub struct $name(pub Id);

        impl<S: Send + Sync> FromRequestParts<S> for $name {
            type Rejection = Error;

            async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self> {
                // Fails only for text that is not UTF-8.
                let params = RawPathParams::from_request_parts(parts, state)
                    .await
                    .map_err(|_| Error::InvalidId($resource))?;
                path_id(&params, $resource).map(Self)
            }
        }
    };
}

path_id!(
    /// The id in `/products/{id}…`.
    ProductId,
    Resource::Product
);
path_id!(
    /// The id in `/qa/questions/{id}/…`.
    QuestionId,
    Resource::Question
);
path_id!(
    /// The id in `/qa/answers/{id}/…`.
    AnswerId,
    Resource::Answer
);
path_id!(
    /// The id in `/reviews/{id}/…`.
    ReviewId,
    Resource::Review
);

/// What the id in a path names, if the path has one.
pub fn path_resource(route: &str) -> Option<Resource> {
    match route {
        _ if !route.contains('{') => None,
        _ if route.starts_with("/products/") => Some(Resource::Product),
        _ if route.starts_with("/qa/questions/") => Some(Resource::Question),
        _ if route.starts_with("/qa/answers/") => Some(Resource::Answer),
        _ => Some(Resource::Review),
    }
}

/// Checks the id of a path whose method is not allowed: a path that cannot exist comes first.
pub fn check_path_id<E>(route: &str, params: std::result::Result<RawPathParams, E>) -> Result<()> {
    let Some(resource) = path_resource(route) else {
        return Ok(());
    };
    let params = params.map_err(|_| Error::InvalidId(resource))?;
    path_id(&params, resource).map(|_| ())
}

/// Says after which position in the primary's write-ahead log the answer must have been read: what whoever sends it has
/// seen of changes. Without it, or with anything else in it, the primary answers.
pub const AFTER: HeaderName = HeaderName::from_static("cache-coherence-after");

/// The reads that a request may make: of a replica only if it says what that must show.
impl<S> FromRequestParts<S> for Reads
where
    S: Send + Sync,
    AppState: FromRef<S>,
{
    type Rejection = Infallible;

    async fn from_request_parts(
        parts: &mut Parts,
        state: &S,
    ) -> std::result::Result<Self, Infallible> {
        let mut fields = parts.headers.get_all(AFTER).iter();
        let position = match (fields.next(), fields.next()) {
            (Some(only), None) => position(only.as_bytes()),
            _ => None,
        };
        Ok(AppState::from_ref(state).db.reads().after(position))
    }
}

/// A request whose body means nothing, read to its end.
#[derive(Debug)]
pub struct Drained;

impl<S: Send + Sync> FromRequest<S> for Drained {
    type Rejection = Error;

    async fn from_request(request: Request, _: &S) -> Result<Self> {
        body::drain(request.into_body()).await.map(|()| Self)
    }
}

/// The parameters of a query, as they stand in it.
#[derive(Clone, Copy, Debug)]
pub struct Parameters<'a>(&'a str);

impl<'a> Parameters<'a> {
    /// The parameters of a request.
    pub fn new(query: Option<&'a str>) -> Self {
        Self(query.unwrap_or_default())
    }

    /// The first value of a parameter, decoded; it need not be UTF-8.
    pub fn first(&self, name: &str) -> Option<Cow<'a, [u8]>> {
        self.0.split('&').find_map(|pair| {
            let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
            (decode(key).as_ref() == name.as_bytes()).then(|| decode(value))
        })
    }

    /// The parameter that every list of a product needs.
    pub fn product_id(&self) -> Result<Id> {
        self.first("product_id")
            .and_then(|value| Id::parse(&value))
            .ok_or(Error::InvalidProductId)
    }
}

/// Decodes a name or value of a form-encoded query.
fn decode(text: &str) -> Cow<'_, [u8]> {
    if text.contains('+') {
        let spaced = text.replace('+', " ");
        return Cow::Owned(percent_decode(spaced.as_bytes()).collect());
    }
    percent_decode(text.as_bytes()).into()
}

/// Parameters that a list takes.
pub trait FromParameters: Sized {
    /// Reads them; unknown ones are ignored.
    ///
    /// # Errors
    /// If a required one is missing or malformed.
    fn from_parameters(parameters: Parameters<'_>) -> Result<Self>;
}

/// The query of a GET, after its body has been drained.
#[derive(Debug)]
pub struct Query<T>(pub T);

impl<S: Send + Sync, T: FromParameters> FromRequest<S> for Query<T> {
    type Rejection = Error;

    async fn from_request(request: Request, _: &S) -> Result<Self> {
        let (parts, body) = request.into_parts();
        body::drain(body).await?;
        T::from_parameters(Parameters::new(parts.uri.query())).map(Self)
    }
}

/// What a POST takes.
pub trait FromObject: Sized {
    /// What it creates.
    const ENTITY: Entity;
    /// The fields it knows.
    const FIELDS: &'static [&'static str];
    /// How large its body may be.
    const BYTES_MAX: usize = 1024 * 1024;

    /// Reads the fields. `None`: at least one was refused, by a call of the object's.
    fn from_object(object: &mut Object<'_>) -> Option<Self>;
}

/// A POST that has passed every check that needs no database.
#[derive(Debug)]
pub struct Post<T> {
    /// What was sent.
    pub value: T,
    /// The head of the request.
    pub parts: Parts,
    key: Option<(HeaderValue, [u8; 32])>,
    _received: Received,
}

impl<T> Post<T> {
    /// What the request's idempotency key is bound to, if it has one: its path, and the identity given here.
    pub fn claim(&self, identity: &[u8]) -> Option<Claim> {
        let (key, digest) = self.key.as_ref()?;
        Some(Claim::new(
            key.as_bytes(),
            self.parts.uri.path(),
            identity,
            *digest,
        ))
    }

    /// The same, bound to the request's token, if it has one.
    pub fn claim_by_token(&self) -> Option<Claim> {
        self.claim(token(&self.parts.headers).unwrap_or_default())
    }
}

impl<S, T> FromRequest<S> for Post<T>
where
    S: Send + Sync,
    T: FromObject,
    AppState: FromRef<S>,
{
    type Rejection = Error;

    async fn from_request(request: Request, state: &S) -> Result<Self> {
        let (parts, body) = request.into_parts();
        let state = AppState::from_ref(state);
        let received = body::receive(body, T::BYTES_MAX, &state.body_memory).await?;
        if !is_json(&parts.headers) {
            return Err(Error::UnsupportedMediaType);
        }
        let key = idempotency_key(&parts.headers)?;
        let mut object = Object::parse(T::ENTITY, &received.bytes, T::FIELDS)?;
        let value = T::from_object(&mut object);
        let value = object.finish(value)?;
        let key = key.map(|key| (key, Sha256::digest(&received.bytes).into()));
        Ok(Self {
            value,
            parts,
            key,
            _received: received,
        })
    }
}

/// Whether a body is sent as something that may be JSON.
fn is_json(headers: &HeaderMap) -> bool {
    let is_plain = headers
        .get(CONTENT_ENCODING)
        .is_none_or(|coding| coding.as_bytes().eq_ignore_ascii_case(b"identity"));
    let Some(content_type) = headers.get(CONTENT_TYPE) else {
        return is_plain;
    };
    let essence = content_type
        .as_bytes()
        .split(|byte| *byte == b';')
        .next()
        .unwrap_or_default()
        .trim_ascii()
        .to_ascii_lowercase();
    let is_json = matches!(
        essence.as_slice(),
        b"" | b"application/json" | b"text/plain"
    ) || (essence.ends_with(b"+json") && essence.contains(&b'/'));
    is_plain && is_json
}

/// The longest idempotency key.
pub const KEY_BYTES_MAX: usize = 255;

/// The request's idempotency key, if it has one.
fn idempotency_key(headers: &HeaderMap) -> Result<Option<HeaderValue>> {
    let mut keys = headers.get_all("idempotency-key").iter();
    let Some(key) = keys.next() else {
        return Ok(None);
    };
    let bytes = key.as_bytes();
    let is_valid =
        (1..=KEY_BYTES_MAX).contains(&bytes.len()) && bytes.iter().all(u8::is_ascii_graphic);
    if is_valid && keys.next().is_none() {
        Ok(Some(key.clone()))
    } else {
        Err(bad_idempotency_key())
    }
}

/// What a key that is none is refused with.
pub fn bad_idempotency_key() -> Error {
    let detail = format!("Idempotency-Key must be 1 to {KEY_BYTES_MAX} visible ASCII characters.");
    Error::Malformed(detail.into())
}

/// The token of `Authorization`, whose scheme, if it has one that we know, is left out.
pub fn token(headers: &HeaderMap) -> Option<&[u8]> {
    let value = headers.get(AUTHORIZATION)?.as_bytes().trim_ascii();
    let token = match value.iter().position(|byte| *byte == b' ') {
        Some(at)
            if value[..at].eq_ignore_ascii_case(b"token")
                || value[..at].eq_ignore_ascii_case(b"bearer") =>
        {
            value[at..].trim_ascii()
        }
        Some(_) | None => value,
    };
    (!token.is_empty()).then_some(token)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn first(query: &str, name: &str) -> Option<Vec<u8>> {
        Parameters::new(Some(query))
            .first(name)
            .map(Cow::into_owned)
    }

    #[test]
    fn of_a_repeated_parameter_the_first_value_counts() {
        assert_eq!(first("a=1&a=2", "a").as_deref(), Some(&b"1"[..]));
        assert_eq!(first("a=&a=2", "a").as_deref(), Some(&b""[..]));
        assert_eq!(first("a&a=2", "a").as_deref(), Some(&b""[..]));
        assert_eq!(first("b=1", "a"), None);
        assert_eq!(Parameters::new(None).first("a"), None);
    }

    #[test]
    fn names_and_values_are_decoded() {
        assert_eq!(
            first("product%5Fid=%32", "product_id").as_deref(),
            Some(&b"2"[..])
        );
        assert_eq!(first("a=x+y%2B", "a").as_deref(), Some(&b"x y+"[..]));
        assert_eq!(first("a=%zz%ff", "a").as_deref(), Some(&b"%zz\xff"[..]));
    }

    #[test]
    fn json_comes_under_several_types() {
        let accepted = |value: &'static str| {
            let mut headers = HeaderMap::new();
            headers.insert(CONTENT_TYPE, HeaderValue::from_static(value));
            is_json(&headers)
        };
        for value in [
            "application/json",
            "Application/JSON; charset=utf-8",
            "text/plain",
            "text/plain;charset=UTF-8",
            "application/vnd.api+json",
            "",
        ] {
            assert!(accepted(value), "{value}");
        }
        for value in [
            "application/x-www-form-urlencoded",
            "multipart/form-data; boundary=x",
            "text/html",
            "application/jsonx",
            "json",
            "+json",
            "application/octet-stream",
        ] {
            assert!(!accepted(value), "{value}");
        }
        assert!(is_json(&HeaderMap::new()));
        let mut coded = HeaderMap::new();
        coded.insert(CONTENT_ENCODING, HeaderValue::from_static("gzip"));
        assert!(!is_json(&coded));
    }

    #[test]
    fn every_spelling_of_a_token_is_the_same_token() {
        for value in ["t", "token t", "Bearer t", "TOKEN t", "bearer  t", " t "] {
            let mut headers = HeaderMap::new();
            headers.insert(
                AUTHORIZATION,
                HeaderValue::from_str(value).expect("a value"),
            );
            assert_eq!(token(&headers), Some(&b"t"[..]), "{value:?}");
        }
        for value in ["", "  "] {
            let mut headers = HeaderMap::new();
            headers.insert(
                AUTHORIZATION,
                HeaderValue::from_str(value).expect("a value"),
            );
            assert_eq!(token(&headers), None, "{value:?}");
        }
    }

    proptest! {
        #[test]
        fn any_query_is_read_without_a_panic(query in "\\PC{0,60}", name in "[a-z_]{1,10}") {
            let _ = Parameters::new(Some(&query)).first(&name);
        }
    }
}
