use http::HeaderValue;
use proptest::prelude::*;

use super::*;
use crate::policy::samples::headers;

const OLD: &str = "Sun, 06 Nov 1994 08:49:37 GMT";
const LATER: &str = "Sun, 06 Nov 1994 08:49:38 GMT";

type Fields<'a> = &'a [(&'static str, &'a str)];

fn holds(condition: &str, stored: Fields<'_>) -> bool {
    let request = headers(&[("range", "bytes=0-1"), ("if-range", condition)]);
    applies(&Method::GET, &request, &headers(stored))
}

#[test]
fn only_get_has_ranges() {
    let request = headers(&[("range", "bytes=0-1")]);
    assert!(applies(&Method::GET, &request, &HeaderMap::new()));
    assert!(!applies(&Method::HEAD, &request, &HeaderMap::new()));
    assert!(!applies(&Method::GET, &HeaderMap::new(), &HeaderMap::new()));
}

#[test]
fn if_range_compares_strongly() {
    let cases: [(&str, Fields<'_>, bool); 9] = [
        ("\"a\"", &[("etag", "\"a\"")], true),
        ("\"b\"", &[("etag", "\"a\"")], false),
        ("W/\"a\"", &[("etag", "W/\"a\"")], false),
        ("\"a\"", &[("etag", "W/\"a\"")], false),
        ("\"a\"", &[], false),
        (OLD, &[("last-modified", OLD), ("date", LATER)], true),
        // Made in the second of its last change: it may have changed once more in it.
        (OLD, &[("last-modified", OLD), ("date", OLD)], false),
        (LATER, &[("last-modified", OLD), ("date", LATER)], false),
        ("nonsense", &[("last-modified", "nonsense")], false),
    ];
    for (condition, stored, expected) in cases {
        assert_eq!(holds(condition, stored), expected, "{condition} {stored:?}");
    }
}

#[test]
fn ranges_that_overlap_or_go_back_or_are_too_many_are_ignored() {
    let many = |count: usize| {
        let ranges: Vec<String> = (0..count).map(|at| format!("{0}-{0}", at * 2)).collect();
        format!("bytes={}", ranges.join(","))
    };
    let cases: [(&str, bool); 15] = [
        ("bytes=0-1", true),
        ("bytes=5-", true),
        ("bytes=-5", true),
        ("bytes=0-1, 4-5,-3", true),
        ("bytes=0-1,1-2", false),
        ("bytes=4-5,0-1", false),
        ("bytes=0-,0-", false),
        ("bytes=0-,7-8", false),
        ("bytes=-5,-6", false),
        ("bytes=-0", false),
        ("bytes=-5,0-1", false),
        ("pages=1-2", true),
        ("bytes", true),
        (&many(RANGES_MAX), true),
        (&many(RANGES_MAX + 1), false),
    ];
    for (line, expected) in cases {
        let request = headers(&[("range", line)]);
        assert_eq!(
            applies(&Method::GET, &request, &HeaderMap::new()),
            expected,
            "{line}"
        );
    }
    let twice = headers(&[("range", "bytes=0-1"), ("range", "bytes=0-1")]);
    assert!(!applies(&Method::GET, &twice, &HeaderMap::new()));
}

proptest! {
    #[test]
    fn any_line_is_answered(line in "bytes=[-0-9, ]{0,80}|.{0,20}") {
        let mut request = HeaderMap::new();
        if let Ok(value) = HeaderValue::from_str(&line) {
            request.insert(RANGE, value);
        }
        let parts = line.split(',').count();
        let honoured = applies(&Method::GET, &request, &HeaderMap::new());
        prop_assert!(!honoured || parts <= RANGES_MAX || !line.starts_with("bytes="));
    }
}
