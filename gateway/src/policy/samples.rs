//! What the tests of several rules begin with.

use http::{HeaderMap, HeaderName, HeaderValue};

/// A header of these fields in this order.
pub(super) fn headers<V: AsRef<str>>(fields: &[(&'static str, V)]) -> HeaderMap {
    let mut headers = HeaderMap::new();
    for (name, value) in fields {
        headers.append(
            HeaderName::from_static(name),
            HeaderValue::from_str(value.as_ref()).unwrap(),
        );
    }
    headers
}
