//! Everything that can go wrong with a request, and the one place where it becomes an answer.

use std::borrow::Cow;

use axum::{
    body::Body,
    response::{IntoResponse, Response},
};
use http::{
    HeaderMap, HeaderValue, StatusCode,
    header::{ACCEPT, CONNECTION, CONTENT_LENGTH, CONTENT_TYPE, ETAG, RETRY_AFTER},
};
use serde::Serialize;
use utoipa::ToSchema;

use crate::database::link;
use crate::{cache_policy::CachePolicy, id::Id, reply};

/// The result of everything that serves a request.
pub type Result<T> = std::result::Result<T, Error>;

/// An outcome that a client can tell apart from the others.
#[derive(Clone, Debug, thiserror::Error)]
pub enum Error {
    /// The id in the path is malformed.
    #[error("malformed {} id in the path", .0.name())]
    InvalidId(Resource),
    /// The query's `product_id` is missing or malformed.
    #[error("missing or malformed product_id in the query")]
    InvalidProductId,
    /// The body is JSON, but not what the endpoint takes.
    #[error("invalid {} body", .0.name())]
    InvalidBody(Entity, Vec<FieldError>),
    /// There is no such product.
    #[error("unknown product")]
    UnknownProduct(Id),
    /// There is no such question.
    #[error("unknown question")]
    UnknownQuestion(Id),
    /// There is no such path.
    #[error("unknown path")]
    NotFound,
    /// The path has no such method; the `Allow` field is the router's.
    #[error("method not allowed")]
    MethodNotAllowed,
    /// The request cannot be read: says what is wrong with it.
    #[error("malformed request: {0}")]
    Malformed(Cow<'static, str>),
    /// The body has more bytes than the endpoint takes.
    #[error("body of more than {0} bytes")]
    TooLarge(usize),
    /// The path and query are too long.
    #[error("URI too long")]
    UriTooLong,
    /// The body's media type or coding is not one the API reads.
    #[error("unsupported media type")]
    UnsupportedMediaType,
    /// The first request with this idempotency key is still running.
    #[error("idempotency key in use")]
    IdempotencyInProgress,
    /// The idempotency key was used with another body.
    #[error("idempotency key used with another body")]
    IdempotencyKeyReused,
    /// A constraint of the database refused the statement, so that it may be tried again.
    #[error("violates {0}")]
    Conflict(String),
    /// A load is replacing what the request would change.
    #[error("a load is running")]
    Loading,
    /// The service cannot answer now: says why, for the log only.
    #[error("unavailable: {0}")]
    Unavailable(Cow<'static, str>),
    /// The request took longer than it may.
    #[error("request deadline passed")]
    Timeout,
    /// A fault of ours: says which, for the log only.
    #[error("internal: {0}")]
    Internal(Cow<'static, str>),
}

/// What an id in a path names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Resource {
    /// `/products/{id}…`
    Product,
    /// `/qa/questions/{id}/…`
    Question,
    /// `/qa/answers/{id}/…`
    Answer,
    /// `/reviews/{id}/…`
    Review,
}

impl Resource {
    /// The word that messages use.
    pub fn name(self) -> &'static str {
        match self {
            Self::Product => "product",
            Self::Question => "question",
            Self::Answer => "answer",
            Self::Review => "review",
        }
    }
}

/// What a POST creates.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Entity {
    /// `POST /reviews`
    Review,
    /// `POST /qa/questions`
    Question,
    /// `POST /qa/questions/{id}/answers`
    Answer,
    /// `POST /cart`
    Cart,
    /// `POST /interactions`
    Interaction,
}

impl Entity {
    /// The word that messages use.
    pub fn name(self) -> &'static str {
        match self {
            Self::Review => "Review",
            Self::Question => "Question",
            Self::Answer => "Answer",
            Self::Cart => "Cart",
            Self::Interaction => "Interaction",
        }
    }
}

/// What is wrong with one field of a request.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, ToSchema)]
pub struct FieldError {
    /// The field's name.
    pub field: &'static str,
    /// What is wrong with it.
    #[schema(value_type = String)]
    pub detail: Cow<'static, str>,
}

impl FieldError {
    /// Names a field and what is wrong with it.
    pub fn new(field: &'static str, detail: impl Into<Cow<'static, str>>) -> Self {
        Self {
            field,
            detail: detail.into(),
        }
    }
}

/// An error, as RFC 9457 has it.
#[derive(Debug, Serialize, ToSchema)]
pub struct Problem<'a> {
    /// Identifies the kind of error; there is nothing at this path.
    #[schema(pattern = "^/problems/[a-z-]+$")]
    r#type: String,
    /// Names the kind of error.
    title: &'static str,
    /// The status of the answer.
    #[schema(minimum = 400, maximum = 599)]
    status: u16,
    /// What is wrong with this request.
    detail: &'a str,
    /// The fields at fault, if it is fields.
    #[serde(skip_serializing_if = "<[_]>::is_empty")]
    errors: &'a [FieldError],
}

/// Seconds after which a refused request may be sent again.
const RETRY_AFTER_SECONDS: HeaderValue = HeaderValue::from_static("1");

impl Error {
    /// The status, the code in the problem's type, and the title.
    fn kind(&self) -> (StatusCode, &'static str, &'static str) {
        match self {
            Self::InvalidId(_) => (StatusCode::NOT_FOUND, "invalid-id", "Invalid id"),
            Self::InvalidProductId => (
                StatusCode::UNPROCESSABLE_ENTITY,
                "invalid-product-id",
                "Invalid product id",
            ),
            Self::InvalidBody(..) => (
                StatusCode::UNPROCESSABLE_ENTITY,
                "invalid-body",
                "Invalid body",
            ),
            Self::UnknownProduct(_) => {
                (StatusCode::NOT_FOUND, "unknown-product", "Unknown product")
            }
            Self::UnknownQuestion(_) => (
                StatusCode::NOT_FOUND,
                "unknown-question",
                "Unknown question",
            ),
            Self::NotFound => (StatusCode::NOT_FOUND, "not-found", "Not found"),
            Self::MethodNotAllowed => (
                StatusCode::METHOD_NOT_ALLOWED,
                "method-not-allowed",
                "Method not allowed",
            ),
            Self::Malformed(_) => (
                StatusCode::BAD_REQUEST,
                "malformed-request",
                "Malformed request",
            ),
            Self::TooLarge(_) => (StatusCode::PAYLOAD_TOO_LARGE, "too-large", "Too large"),
            Self::UriTooLong => (StatusCode::URI_TOO_LONG, "uri-too-long", "URI too long"),
            Self::UnsupportedMediaType => (
                StatusCode::UNSUPPORTED_MEDIA_TYPE,
                "unsupported-media-type",
                "Unsupported media type",
            ),
            Self::IdempotencyInProgress => (
                StatusCode::CONFLICT,
                "idempotency-in-progress",
                "Idempotency key in progress",
            ),
            Self::IdempotencyKeyReused => (
                StatusCode::UNPROCESSABLE_ENTITY,
                "idempotency-key-reused",
                "Idempotency key reused",
            ),
            Self::Loading => (StatusCode::SERVICE_UNAVAILABLE, "loading", "Loading"),
            Self::Unavailable(_) => (
                StatusCode::SERVICE_UNAVAILABLE,
                "unavailable",
                "Service unavailable",
            ),
            Self::Timeout => (StatusCode::GATEWAY_TIMEOUT, "timeout", "Timeout"),
            Self::Conflict(_) | Self::Internal(_) => (
                StatusCode::INTERNAL_SERVER_ERROR,
                "internal",
                "Internal error",
            ),
        }
    }

    /// The status of the answer.
    pub fn status(&self) -> StatusCode {
        self.kind().0
    }

    /// The code in the problem's type.
    pub fn code(&self) -> &'static str {
        self.kind().1
    }

    /// The problem's title.
    pub fn title(&self) -> &'static str {
        self.kind().2
    }

    /// What a client is told; nothing of how the service is made.
    fn detail(&self) -> Cow<'_, str> {
        match self {
            Self::InvalidId(resource) => {
                format!("The {} id must be a whole number from 1.", resource.name()).into()
            }
            Self::InvalidProductId => "product_id must be a whole number from 1.".into(),
            Self::InvalidBody(entity, _) => {
                format!("{} body contains invalid entries.", entity.name()).into()
            }
            Self::UnknownProduct(id) => format!("No product {id}.").into(),
            Self::UnknownQuestion(id) => format!("No question {id}.").into(),
            Self::NotFound => "There is nothing at this path.".into(),
            Self::MethodNotAllowed => "See the Allow field for the methods of this path.".into(),
            Self::Malformed(detail) => detail.as_ref().into(),
            Self::TooLarge(bytes_max) => {
                format!("The body may have up to {bytes_max} bytes.").into()
            }
            Self::UriTooLong => "The path and query are too long.".into(),
            Self::UnsupportedMediaType => {
                "Send JSON, as application/json, without a coding.".into()
            }
            Self::IdempotencyInProgress => {
                "The first request with this Idempotency-Key is still running.".into()
            }
            Self::IdempotencyKeyReused => "This Idempotency-Key was used with another body.".into(),
            Self::Loading => "Data is being loaded, and nothing can be changed meanwhile.".into(),
            Self::Unavailable(_) => "The service cannot answer now; try again.".into(),
            Self::Timeout => "The request took too long.".into(),
            Self::Conflict(_) | Self::Internal(_) => "The request could not be served.".into(),
        }
    }

    /// The body that shipped clients rely on, for the errors that have one.
    pub fn text(&self) -> Option<String> {
        match self {
            Self::InvalidId(resource) => {
                Some(format!("Error: invalid {} id provided", resource.name()))
            }
            Self::InvalidProductId => Some("Error: invalid product_id provided".into()),
            Self::InvalidBody(entity, _) => Some(format!(
                "Error: {} body contains invalid entries",
                entity.name()
            )),
            Self::UnknownProduct(_)
            | Self::UnknownQuestion(_)
            | Self::NotFound
            | Self::MethodNotAllowed
            | Self::Malformed(_)
            | Self::TooLarge(_)
            | Self::UriTooLong
            | Self::UnsupportedMediaType
            | Self::IdempotencyInProgress
            | Self::IdempotencyKeyReused
            | Self::Conflict(_)
            | Self::Loading
            | Self::Unavailable(_)
            | Self::Timeout
            | Self::Internal(_) => None,
        }
    }

    /// The fields at fault.
    fn fields(&self) -> Cow<'_, [FieldError]> {
        match self {
            Self::InvalidBody(_, errors) => errors.into(),
            Self::InvalidProductId => {
                vec![FieldError::new("product_id", self.detail_owned())].into()
            }
            Self::IdempotencyKeyReused => {
                vec![FieldError::new("Idempotency-Key", self.detail_owned())].into()
            }
            Self::InvalidId(_)
            | Self::UnknownProduct(_)
            | Self::UnknownQuestion(_)
            | Self::NotFound
            | Self::MethodNotAllowed
            | Self::Malformed(_)
            | Self::TooLarge(_)
            | Self::UriTooLong
            | Self::UnsupportedMediaType
            | Self::IdempotencyInProgress
            | Self::Conflict(_)
            | Self::Loading
            | Self::Unavailable(_)
            | Self::Timeout
            | Self::Internal(_) => Cow::Borrowed(&[]),
        }
    }

    fn detail_owned(&self) -> String {
        self.detail().into_owned()
    }

    /// The problem document.
    pub fn problem(&self) -> Vec<u8> {
        let (status, code, title) = self.kind();
        let problem = Problem {
            r#type: format!("/problems/{code}"),
            title,
            status: status.as_u16(),
            detail: &self.detail(),
            errors: &self.fields(),
        };
        serde_json::to_vec(&problem).unwrap_or_default()
    }

    /// Writes this error into a response, in the form that the client asked for; gives its cache policy.
    pub fn write(&self, response: &mut Response, accepts_problem: bool) -> CachePolicy {
        *response.status_mut() = self.status();
        let text = self.text().filter(|_| !accepts_problem);
        let (body, content_type) = match text {
            Some(text) => (text.into_bytes(), reply::TEXT),
            None => (self.problem(), PROBLEM),
        };
        let headers = response.headers_mut();
        headers.insert(CONTENT_TYPE, content_type);
        headers.insert(CONTENT_LENGTH, body.len().into());
        match self {
            Self::Loading | Self::Unavailable(_) | Self::IdempotencyInProgress => {
                headers.insert(RETRY_AFTER, RETRY_AFTER_SECONDS);
            }
            // What the client is still sending will not be read.
            Self::TooLarge(_) | Self::Timeout => {
                headers.insert(CONNECTION, HeaderValue::from_static("close"));
            }
            _ => {}
        }
        let policy = match self {
            Self::UnknownProduct(id) => {
                headers.insert(ETAG, reply::etag(&body));
                CachePolicy::Product(id.clone())
            }
            _ => CachePolicy::NoStore,
        };
        *response.body_mut() = Body::from(body);
        policy
    }
}

/// The media type of RFC 9457.
const PROBLEM: HeaderValue = HeaderValue::from_static("application/problem+json");

/// Whether `Accept` names `application/problem+json`, and does not refuse it.
pub fn accepts_problem(headers: &HeaderMap) -> bool {
    headers.get_all(ACCEPT).iter().any(|value| {
        value.to_str().is_ok_and(|value| {
            value.split(',').any(|range| {
                let mut parts = range.split(';').map(str::trim);
                let is_problem = parts
                    .next()
                    .is_some_and(|name| name.eq_ignore_ascii_case("application/problem+json"));
                is_problem && !parts.any(is_refusal)
            })
        })
    })
}

/// Whether a parameter of a media range says "not this one".
fn is_refusal(parameter: &str) -> bool {
    parameter
        .split_once('=')
        .filter(|(name, _)| name.eq_ignore_ascii_case("q"))
        .and_then(|(_, weight)| weight.parse::<f32>().ok())
        .is_some_and(|weight| weight <= 0.0)
}

/// Carries the error to the layer that knows what the client accepts.
impl IntoResponse for Error {
    fn into_response(self) -> Response {
        let mut response = Response::new(Body::empty());
        *response.status_mut() = self.status();
        response.extensions_mut().insert(self);
        response
    }
}

/// The SQLSTATE with which `coherence.mark()` refuses a change while a load runs.
const CHANGES_HELD_BACK: &str = "LD001";

/// What became of a statement.
impl From<sqlx::Error> for Error {
    fn from(error: sqlx::Error) -> Self {
        let sqlx::Error::Database(database) = &error else {
            return match error {
                sqlx::Error::Io(_) | sqlx::Error::Tls(_) | sqlx::Error::Protocol(_) => {
                    Self::Unavailable(error.to_string().into())
                }
                _ => Self::Internal(error.to_string().into()),
            };
        };
        match database.code().as_deref() {
            // A row appeared, or went, between the statement's snapshot and its insert.
            Some("23503" | "23505") => {
                Self::Conflict(database.constraint().unwrap_or_default().to_owned())
            }
            Some(CHANGES_HELD_BACK) => Self::Loading,
            Some(code) if is_temporary(code) => Self::Unavailable(error.to_string().into()),
            Some(_) | None => Self::Internal(error.to_string().into()),
        }
    }
}

impl From<tokio_postgres::Error> for Error {
    fn from(error: tokio_postgres::Error) -> Self {
        let is_temporary = match error.code() {
            Some(code) => is_temporary(code.code()),
            None => error.is_closed() || link::is_io(&error),
        };
        let message = link::describe(&error).into();
        if is_temporary {
            Self::Unavailable(message)
        } else {
            Self::Internal(message)
        }
    }
}

/// Whether a statement that failed with this SQLSTATE may well succeed later, unchanged.
fn is_temporary(code: &str) -> bool {
    // Connection, resources (a full disk too), operator intervention (shut-down, cancelled by a timeout), I/O.
    matches!(code.get(..2), Some("08" | "53" | "57" | "58"))
        // Serialization failure, deadlock, lock timeout; a standby; wrong password or database, which operators mend.
        || matches!(code, "40001" | "40P01" | "55P03" | "25006" | "28000" | "28P01" | "3D000" | "55000")
        // The schema is not there, or was replaced under this very statement.
        || matches!(code, "42P01" | "3F000" | "42883" | "XX000")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn accepts(value: &'static str) -> bool {
        let mut headers = HeaderMap::new();
        headers.insert(ACCEPT, HeaderValue::from_static(value));
        accepts_problem(&headers)
    }

    #[test]
    fn only_a_client_that_names_problems_gets_them_for_the_text_errors() {
        assert!(accepts("application/problem+json"));
        assert!(accepts("text/html, Application/Problem+JSON;q=0.5"));
        assert!(!accepts("*/*"));
        assert!(!accepts("application/json"));
        assert!(!accepts("application/*"));
        assert!(!accepts("application/problem+json;q=0"));
        assert!(!accepts_problem(&HeaderMap::new()));
    }

    #[test]
    fn what_the_log_may_know_is_not_in_the_answer() {
        let secret = "password authentication failed for user atelier_app";
        for error in [
            Error::Unavailable(secret.into()),
            Error::Internal(secret.into()),
            Error::Conflict(secret.into()),
        ] {
            let body = String::from_utf8(error.problem()).expect("UTF-8");
            assert!(!body.contains("password"), "{body}");
        }
    }
}
