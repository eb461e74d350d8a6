use http::{HeaderName, HeaderValue};
use proptest::prelude::*;

use super::*;

const EARLY: &str = "Sun, 06 Nov 1994 08:49:37 GMT";
const LATE: &str = "Mon, 07 Nov 1994 08:49:37 GMT";

fn headers(fields: &[(&'static str, &str)]) -> HeaderMap {
    let mut headers = HeaderMap::new();
    for (name, value) in fields {
        headers.append(
            HeaderName::from_static(name),
            HeaderValue::from_bytes(value.as_bytes()).unwrap(),
        );
    }
    headers
}

#[test]
fn if_none_match_follows_rfc_9110_13_1_2() {
    let strong = &[("etag", "\"a\"")][..];
    let weak = &[("etag", "W/\"a\"")][..];
    let cases = [
        ("same", "\"a\"", strong, true),
        ("other", "\"b\"", strong, false),
        ("weak against strong", "W/\"a\"", strong, true),
        ("strong against weak", "\"a\"", weak, true),
        ("list", "\"x\", \"a\"", strong, true),
        ("list without spaces", "\"x\",W/\"a\",\"y\"", strong, true),
        ("comma inside a tag", "\"x,\"a\"", strong, false),
        (
            "whole tag with comma",
            "\"p,q\"",
            &[("etag", "\"p,q\"")],
            true,
        ),
        ("any", "*", strong, true),
        ("any without etag", "*", &[], true),
        ("case matters", "\"A\"", strong, false),
        ("lower-case weak mark is no mark", "w/\"a\"", strong, false),
        ("no etag stored", "\"a\"", &[], false),
        ("unquoted on both sides", "a", &[("etag", "a")], true),
        ("unquoted against quoted", "a", strong, false),
        (
            "bytes above ASCII",
            "\"\u{e9}\"",
            &[("etag", "\"\u{e9}\"")],
            true,
        ),
        ("empty", "", strong, false),
    ];
    for (what, condition, stored, expected) in cases {
        let request = headers(&[("if-none-match", condition)]);
        assert_eq!(not_modified(&request, &headers(stored)), expected, "{what}");
    }
    let lines = headers(&[("if-none-match", "\"x\""), ("if-none-match", "\"a\"")]);
    assert!(
        not_modified(&lines, &headers(strong)),
        "several lines are one list"
    );
}

#[test]
fn if_modified_since_follows_rfc_9111_4_3_2() {
    let cases = [
        ("unchanged", EARLY, &[("last-modified", EARLY)][..], true),
        ("older than asked", LATE, &[("last-modified", EARLY)], true),
        ("changed", EARLY, &[("last-modified", LATE)], false),
        ("date stands in", LATE, &[("date", EARLY)], true),
        ("date stands in, changed", EARLY, &[("date", LATE)], false),
        (
            "last-modified wins over date",
            EARLY,
            &[("last-modified", EARLY), ("date", LATE)],
            true,
        ),
        ("nothing to compare", EARLY, &[], false),
        (
            "broken condition",
            "yesterday",
            &[("last-modified", EARLY)],
            false,
        ),
        (
            "obsolete format",
            "Sunday, 06-Nov-94 08:49:37 GMT",
            &[("last-modified", EARLY)],
            true,
        ),
    ];
    for (what, condition, stored, expected) in cases {
        let request = headers(&[("if-modified-since", condition)]);
        assert_eq!(not_modified(&request, &headers(stored)), expected, "{what}");
    }
}

#[test]
fn if_none_match_wins_over_if_modified_since() {
    let stored = headers(&[("etag", "\"a\""), ("last-modified", EARLY)]);
    let request = headers(&[("if-none-match", "\"b\""), ("if-modified-since", LATE)]);
    assert!(!not_modified(&request, &stored));
    let request = headers(&[("if-none-match", "\"a\""), ("if-modified-since", "x")]);
    assert!(not_modified(&request, &stored));
    assert!(!not_modified(&HeaderMap::new(), &stored));
}

proptest! {
    #[test]
    fn no_condition_panics(bytes in proptest::collection::vec(any::<u8>(), 0..100)) {
        if let Ok(value) = HeaderValue::from_bytes(&bytes) {
            let mut request = HeaderMap::new();
            request.insert(IF_NONE_MATCH, value.clone());
            request.insert(IF_MODIFIED_SINCE, value.clone());
            let mut stored = HeaderMap::new();
            stored.insert(ETAG, value);
            let _ = not_modified(&request, &stored);
            request.remove(IF_NONE_MATCH);
            prop_assert!(!not_modified(&request, &stored));
        }
    }

    #[test]
    fn a_tag_is_found_anywhere_in_a_list(
        tags in proptest::collection::vec("[!#-~]{0,12}", 1..8), index in any::<prop::sample::Index>()
    ) {
        let list: Vec<_> = tags.iter().map(|tag| format!("\"{tag}\"")).collect();
        let request = headers(&[("if-none-match", &list.join(", "))]);
        let stored = headers(&[("etag", index.get(&list[..]).as_str())]);
        prop_assert!(not_modified(&request, &stored));
    }
}
