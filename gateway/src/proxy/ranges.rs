//! Whether a range of a stored body is given, and which (RFC 9110 section 14).

use http::header::{ACCEPT_RANGES, RANGE};
use pingora::http::{RequestHeader, ResponseHeader};
use pingora::proxy::{RangeType, range_header_filter};

use crate::policy::range;

/// The ranges that answer, with the answer's header made for them; the whole where `Range` or `If-Range` does not hold.
pub(super) fn choose(client: &RequestHeader, resp: &mut ResponseHeader) -> RangeType {
    if client.headers.contains_key(RANGE)
        && !range::applies(&client.method, &client.headers, &resp.headers)
    {
        // Adding a field to a header that has room for it does not fail.
        let _ = resp.insert_header(ACCEPT_RANGES, "bytes");
        return RangeType::None;
    }
    range_header_filter(client, resp, Some(range::RANGES_MAX + 1))
}
