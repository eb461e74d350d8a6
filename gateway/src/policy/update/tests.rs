use std::time::Duration;

use super::*;
use crate::policy::samples::headers;

type Fields<'a> = &'a [(&'static str, &'a str)];

const NOW: &str = "Sun, 06 Nov 1994 08:49:37 GMT";

fn freshen(stored: Fields<'_>, validation: Fields<'_>) -> Result<HeaderMap, Unfit> {
    freshened(
        &headers(stored),
        &headers(validation),
        SystemTime::UNIX_EPOCH + Duration::from_secs(784_111_777),
    )
}

#[test]
fn every_field_of_a_304_replaces_all_stored_lines_of_it() {
    let merged = freshen(
        &[("a", "1"), ("a", "2"), ("b", "1"), ("date", "old")],
        &[("a", "3"), ("c", "4"), ("c", "5"), ("date", "new")],
    );
    let expected = headers(&[
        ("a", "3"),
        ("b", "1"),
        ("c", "4"),
        ("c", "5"),
        ("date", "new"),
    ]);
    assert_eq!(merged, Ok(expected));
}

#[test]
fn fields_of_the_stored_bytes_and_of_the_connection_stay_as_they_are() {
    let stored: Fields<'_> = &[
        ("content-length", "5"),
        ("content-encoding", "gzip"),
        ("content-range", "bytes 0-4/5"),
        ("content-md5", "x"),
        ("nominated", "1"),
        ("date", NOW),
    ];
    let merged = freshen(
        stored,
        &[
            ("content-length", "6"),
            ("content-encoding", "br"),
            ("content-range", "bytes 0-5/6"),
            ("content-md5", "y"),
            ("connection", "nominated"),
            ("nominated", "2"),
            ("keep-alive", "timeout=5"),
            ("transfer-encoding", "chunked"),
        ],
    );
    assert_eq!(merged, Ok(headers(stored)));
}

#[test]
fn a_304_without_a_date_is_dated_by_its_arrival() {
    let merged = freshen(&[("date", "old")], &[]).unwrap();
    assert_eq!(merged[DATE], NOW);
}

#[test]
fn a_304_about_another_representation_updates_nothing() {
    let cases: [(Fields<'_>, Fields<'_>, bool); 9] = [
        (&[("etag", "\"a\"")], &[("etag", "\"a\"")], true),
        (&[("etag", "\"a\"")], &[("etag", "\"b\"")], false),
        // A weak one that the origin made of the strong one, as servers do that encode on the way.
        (&[("etag", "\"a\"")], &[("etag", "W/\"a\"")], true),
        (&[("etag", "W/\"a\"")], &[("etag", "W/\"b\"")], false),
        (&[("etag", "W/\"a\"")], &[("etag", "\"a\"")], false),
        (&[], &[("etag", "\"a\"")], false),
        (&[("etag", "\"a\"")], &[], true),
        (&[("last-modified", "x")], &[("last-modified", "x")], true),
        // An origin that went back to an older version answers 304 to If-Modified-Since.
        (&[("last-modified", "x")], &[("last-modified", "y")], false),
    ];
    for (stored, validation, fits) in cases {
        let outcome = freshen(stored, validation).map(drop);
        let expected = if fits { Ok(()) } else { Err(Unfit::Validator) };
        assert_eq!(outcome, expected, "{stored:?} {validation:?}");
    }
}

#[test]
fn a_304_that_varies_on_something_else_updates_nothing() {
    assert_eq!(
        freshen(&[("vary", "a")], &[("vary", "b")]),
        Err(Unfit::Vary)
    );
    assert_eq!(freshen(&[], &[("vary", "b")]), Err(Unfit::Vary));
    assert!(freshen(&[("vary", "a")], &[("vary", "a")]).is_ok());
    assert!(freshen(&[("vary", "a")], &[]).is_ok());
}

#[test]
fn groups_of_a_304_take_the_place_of_the_stored_ones() {
    let stored: Fields<'_> = &[("cache-groups", "\"a\", \"b\"")];
    let merged = freshen(stored, &[("cache-groups", "\"c\"")]).unwrap();
    assert_eq!(merged["cache-groups"], "\"c\"");
    let merged = freshen(stored, &[]).unwrap();
    assert_eq!(merged["cache-groups"], "\"a\", \"b\"");
}
