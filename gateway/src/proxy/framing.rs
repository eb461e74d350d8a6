//! Where a request's body ends: only what every reader must read alike is let in (RFC 9112 section 6.3).

use http::HeaderMap;
use http::header::{self, HeaderValue};
use pingora::http::RequestHeader;

/// The announced length of a body.
pub(super) fn content_length(headers: &HeaderMap) -> Option<u64> {
    let length = headers.get(header::CONTENT_LENGTH)?;
    length.to_str().ok()?.parse().ok()
}

/// Whether two readers could disagree about where the header or the body ends. `raw` is the header as it came: the parser
/// below us has taken out what it could not reconcile, and the next reader must not have to trust its choice.
pub(super) fn is_ambiguous(req: &RequestHeader, raw: &[u8]) -> bool {
    has_bare_line_feed(raw) || is_odd_length(req) || is_odd_coding(req, raw)
}

fn is_odd_length(req: &RequestHeader) -> bool {
    let mut lengths = req.headers.get_all(header::CONTENT_LENGTH).iter();
    let Some(first) = lengths.next() else {
        return false;
    };
    let digits = !first.is_empty() && first.as_bytes().iter().all(u8::is_ascii_digit);
    !digits || content_length(&req.headers).is_none() || lengths.next().is_some()
}

/// One `chunked` and nothing else, and no length beside it.
fn is_odd_coding(req: &RequestHeader, raw: &[u8]) -> bool {
    let mut codings = req.headers.get_all(header::TRANSFER_ENCODING).iter();
    let Some(first) = codings.next() else {
        return false;
    };
    let chunked = |coding: &HeaderValue| coding.as_bytes().eq_ignore_ascii_case(b"chunked");
    !chunked(first) || codings.next().is_some() || names_length(raw)
}

fn names_length(raw: &[u8]) -> bool {
    const NAME: &[u8] = b"content-length";
    raw.split(|byte| *byte == b'\n').any(|line| {
        line.get(..NAME.len())
            .is_some_and(|name| name.eq_ignore_ascii_case(NAME))
    })
}

fn has_bare_line_feed(raw: &[u8]) -> bool {
    let mut before = 0;
    raw.iter().any(|byte| {
        let bare = *byte == b'\n' && before != b'\r';
        before = *byte;
        bare
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn is_refused(fields: &[(&'static str, &str)], raw: &[u8]) -> bool {
        let mut req = RequestHeader::build("POST", b"/", None).unwrap();
        for (name, value) in fields {
            req.append_header(*name, *value).unwrap();
        }
        is_ambiguous(&req, raw)
    }

    #[test]
    fn one_length_or_one_chunked_is_clear_and_everything_else_is_not() {
        let clear: [&[_]; 5] = [
            &[],
            &[("content-length", "0")],
            &[("content-length", "12")],
            &[("transfer-encoding", "chunked")],
            &[("transfer-encoding", "Chunked")],
        ];
        for fields in clear {
            assert!(
                !is_refused(fields, b"POST / HTTP/1.1\r\n\r\n"),
                "{fields:?}"
            );
        }
        let odd: [&[_]; 9] = [
            &[("content-length", "")],
            &[("content-length", "+1")],
            &[("content-length", "5, 5")],
            &[("content-length", "99999999999999999999999")],
            &[("content-length", "5"), ("content-length", "5")],
            &[("transfer-encoding", "gzip, chunked")],
            &[("transfer-encoding", "chunked, chunked")],
            &[
                ("transfer-encoding", "chunked"),
                ("transfer-encoding", "chunked"),
            ],
            &[("transfer-encoding", "")],
        ];
        for fields in odd {
            assert!(is_refused(fields, b"POST / HTTP/1.1\r\n\r\n"), "{fields:?}");
        }
    }

    #[test]
    fn a_length_that_the_parser_dropped_is_still_seen() {
        let raw = b"POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\ncONTENT-length : 5\r\n\r\n";
        assert!(is_refused(&[("transfer-encoding", "chunked")], raw));
    }

    #[test]
    fn a_line_ends_in_carriage_return_and_line_feed() {
        assert!(is_refused(&[], b"GET / HTTP/1.1\nHost: a\r\n\r\n"));
        assert!(!is_refused(&[], b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"));
    }
}
