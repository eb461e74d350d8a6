//! Cross-origin answers, prepared once from the configuration.

use http::header::{
    ACCESS_CONTROL_ALLOW_HEADERS, ACCESS_CONTROL_ALLOW_METHODS, ACCESS_CONTROL_ALLOW_ORIGIN,
    ACCESS_CONTROL_EXPOSE_HEADERS, ACCESS_CONTROL_MAX_AGE, InvalidHeaderValue,
};
use http::{HeaderName, HeaderValue};

use crate::config::Cors;

/// The fields to send, as they are sent.
#[derive(Debug, Clone)]
pub struct Answers {
    preflight: Vec<(HeaderName, HeaderValue)>,
    every: Vec<(HeaderName, HeaderValue)>,
}

impl Answers {
    /// Prepares the configured values.
    ///
    /// # Errors
    /// A value that no header field may hold; a checked configuration has none.
    pub fn compile(cors: &Cors) -> Result<Self, InvalidHeaderValue> {
        let origin = HeaderValue::from_str(&cors.allow_origin)?;
        let methods: Vec<_> = cors
            .allow_methods
            .iter()
            .map(http::Method::as_str)
            .collect();
        let list = |names: &[String]| HeaderValue::from_str(&names.join(", "));
        let mut preflight = vec![
            (ACCESS_CONTROL_ALLOW_ORIGIN, origin.clone()),
            (
                ACCESS_CONTROL_ALLOW_METHODS,
                HeaderValue::from_str(&methods.join(", "))?,
            ),
            (ACCESS_CONTROL_ALLOW_HEADERS, list(&cors.allow_headers)?),
            (
                ACCESS_CONTROL_MAX_AGE,
                HeaderValue::from(cors.max_age.as_secs()),
            ),
        ];
        let mut every = vec![(ACCESS_CONTROL_ALLOW_ORIGIN, origin)];
        if !cors.expose_headers.is_empty() {
            every.push((ACCESS_CONTROL_EXPOSE_HEADERS, list(&cors.expose_headers)?));
        }
        preflight.retain(|(_, value)| !value.is_empty());
        Ok(Self { preflight, every })
    }

    /// The fields of the 204 that answers `OPTIONS`.
    pub fn preflight(&self) -> &[(HeaderName, HeaderValue)] {
        &self.preflight
    }

    /// The fields of every other response; they replace what the origin sent under these names.
    pub fn every(&self) -> &[(HeaderName, HeaderValue)] {
        &self.every
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use http::Method;

    use super::*;

    fn cors() -> Cors {
        Cors {
            allow_origin: "*".to_owned(),
            allow_methods: vec![Method::GET, Method::PUT],
            allow_headers: vec!["Authorization".to_owned(), "Content-Type".to_owned()],
            expose_headers: vec!["ETag".to_owned(), "Age".to_owned()],
            max_age: Duration::from_secs(86400),
        }
    }

    fn printed(fields: &[(HeaderName, HeaderValue)]) -> Vec<String> {
        fields
            .iter()
            .map(|(name, value)| format!("{name}: {}", value.to_str().unwrap()))
            .collect()
    }

    #[test]
    fn a_preflight_lists_methods_headers_and_age() {
        let answers = Answers::compile(&cors()).unwrap();
        let expected = [
            "access-control-allow-origin: *",
            "access-control-allow-methods: GET, PUT",
            "access-control-allow-headers: Authorization, Content-Type",
            "access-control-max-age: 86400",
        ];
        assert_eq!(printed(answers.preflight()), expected);
    }

    #[test]
    fn every_other_response_exposes_the_configured_fields() {
        let answers = Answers::compile(&cors()).unwrap();
        let expected = [
            "access-control-allow-origin: *",
            "access-control-expose-headers: ETag, Age",
        ];
        assert_eq!(printed(answers.every()), expected);
        let silent = Cors {
            expose_headers: Vec::new(),
            ..cors()
        };
        assert_eq!(Answers::compile(&silent).unwrap().every().len(), 1);
    }

    #[test]
    fn a_value_no_header_may_hold_is_refused() {
        let broken = Cors {
            allow_origin: "a\nb".to_owned(),
            ..cors()
        };
        assert!(Answers::compile(&broken).is_err());
    }
}
