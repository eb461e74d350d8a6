//! Proxy errors to statuses: the only such table; and the problem documents that carry them.

use http::StatusCode;
use pingora::{Error, ErrorSource, ErrorType};

/// The status that answers a proxy error; `None` when the client has gone.
pub fn status(error: &Error) -> Option<StatusCode> {
    let status = match (error.esource(), error.etype()) {
        (_, ErrorType::HTTPStatus(code)) => {
            return Some(StatusCode::from_u16(*code).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR));
        }
        (ErrorSource::Downstream, ErrorType::ReadTimedout) => StatusCode::REQUEST_TIMEOUT,
        (
            ErrorSource::Downstream,
            ErrorType::WriteError
            | ErrorType::WriteTimedout
            | ErrorType::ReadError
            | ErrorType::ConnectionClosed,
        ) => return None,
        (ErrorSource::Downstream, _) => StatusCode::BAD_REQUEST,
        (ErrorSource::Upstream, ErrorType::ReadTimedout | ErrorType::WriteTimedout) => {
            StatusCode::GATEWAY_TIMEOUT
        }
        // No origin was reached: nothing was sent, and any request may come again.
        (
            ErrorSource::Upstream,
            ErrorType::ConnectTimedout
            | ErrorType::ConnectRefused
            | ErrorType::ConnectNoRoute
            | ErrorType::ConnectError,
        ) => StatusCode::SERVICE_UNAVAILABLE,
        (ErrorSource::Upstream, _) => StatusCode::BAD_GATEWAY,
        (ErrorSource::Internal | ErrorSource::Unset, _) => StatusCode::INTERNAL_SERVER_ERROR,
    };
    Some(status)
}

/// An RFC 9457 problem document.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// The status it is sent with.
    pub status: StatusCode,
    /// What this occurrence is about, for people.
    pub detail: String,
}

impl Problem {
    /// A problem with its own words.
    pub fn new(status: StatusCode, detail: impl Into<String>) -> Self {
        Self {
            status,
            detail: detail.into(),
        }
    }

    /// The problem that tells a client of a proxy error, without internals.
    pub fn of_status(status: StatusCode) -> Self {
        let detail = match status {
            StatusCode::BAD_GATEWAY => "The origin's answer was broken.",
            StatusCode::SERVICE_UNAVAILABLE => "No origin can answer at the moment.",
            StatusCode::GATEWAY_TIMEOUT => "The origin did not answer in time.",
            StatusCode::REQUEST_TIMEOUT => "The request did not arrive in time.",
            StatusCode::PAYLOAD_TOO_LARGE => "The request body is too large.",
            StatusCode::BAD_REQUEST => "The request is malformed.",
            _ => "The request could not be served.",
        };
        Self::new(status, detail)
    }

    /// The seconds after which a client may try again, for the statuses that say so.
    pub fn retry_after(&self) -> Option<u32> {
        matches!(
            self.status,
            StatusCode::SERVICE_UNAVAILABLE | StatusCode::TOO_MANY_REQUESTS
        )
        .then_some(1)
    }

    /// The JSON document.
    pub fn to_json(&self) -> String {
        let (slug, title) = name(self.status);
        serde_json::json!({
            "type": format!("/problems/{slug}"),
            "title": title,
            "status": self.status.as_u16(),
            "detail": self.detail,
        })
        .to_string()
    }
}

fn name(status: StatusCode) -> (&'static str, &'static str) {
    match status {
        StatusCode::BAD_REQUEST => ("malformed-request", "Malformed request"),
        StatusCode::UNAUTHORIZED => ("unauthorized", "Unauthorized"),
        StatusCode::NOT_FOUND => ("not-found", "Not found"),
        StatusCode::CONFLICT => ("conflict", "Conflict"),
        StatusCode::METHOD_NOT_ALLOWED => ("method-not-allowed", "Method not allowed"),
        StatusCode::REQUEST_TIMEOUT => ("timeout", "Timeout"),
        StatusCode::PAYLOAD_TOO_LARGE => ("too-large", "Too large"),
        StatusCode::UNPROCESSABLE_ENTITY => ("invalid-request", "Invalid request"),
        StatusCode::URI_TOO_LONG => ("uri-too-long", "URI too long"),
        StatusCode::TOO_MANY_REQUESTS => ("rate-limited", "Rate limited"),
        StatusCode::BAD_GATEWAY => ("bad-gateway", "Bad gateway"),
        StatusCode::SERVICE_UNAVAILABLE => ("unavailable", "Unavailable"),
        StatusCode::GATEWAY_TIMEOUT => ("timeout", "Timeout"),
        StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE => ("too-large", "Too large"),
        _ => ("internal", "Internal error"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_client_that_has_gone_gets_no_answer() {
        let gone = Error::new_down(ErrorType::ConnectionClosed);
        assert_eq!(status(&gone), None);
    }

    #[test]
    fn an_origin_that_is_too_slow_is_a_gateway_timeout_and_a_broken_one_a_bad_gateway() {
        let statuses = [
            (ErrorType::ReadTimedout, 504),
            (ErrorType::WriteTimedout, 504),
            (ErrorType::ConnectTimedout, 503),
            (ErrorType::ConnectNoRoute, 503),
            (ErrorType::ConnectionClosed, 502),
            (ErrorType::InvalidHTTPHeader, 502),
            (ErrorType::ConnectRefused, 503),
        ];
        for (kind, expected) in statuses {
            let answer = status(&Error::new_up(kind.clone())).map(|status| status.as_u16());
            assert_eq!(answer, Some(expected), "{kind:?}");
        }
    }

    #[test]
    fn a_problem_names_its_type_and_only_an_overload_says_when_to_come_back() {
        let problem = Problem::of_status(StatusCode::SERVICE_UNAVAILABLE);
        let json: serde_json::Value = serde_json::from_str(&problem.to_json()).unwrap();
        assert_eq!(json["type"], "/problems/unavailable");
        assert_eq!(json["status"], 503);
        assert_eq!(problem.retry_after(), Some(1));
        assert_eq!(
            Problem::of_status(StatusCode::BAD_GATEWAY).retry_after(),
            None
        );
    }
}
