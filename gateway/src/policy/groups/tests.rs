use http::HeaderValue;
use proptest::prelude::*;

use super::*;

fn response(lines: &[(HeaderName, &str)]) -> HeaderMap {
    let mut headers = HeaderMap::new();
    for (name, value) in lines {
        headers.append(name, HeaderValue::from_str(value).unwrap());
    }
    headers
}

fn read(lines: &[(HeaderName, &str)]) -> Result<Vec<String>, BadTags> {
    let found = tags(&response(lines), &TagLimits::default())?;
    Ok(found.into_iter().map(String::from).collect())
}

fn strings(texts: &[&str]) -> Vec<String> {
    texts.iter().map(|text| (*text).to_owned()).collect()
}

#[test]
fn cache_groups_is_a_list_of_strings() {
    let cases: [(&[&str], &[&str]); 6] = [
        (&["\"product-2-reviews\""], &["product-2-reviews"]),
        (&["\"b\", \"a\""], &["a", "b"]),
        (&["\"b\"", "\"a\", \"b\""], &["a", "b"]),
        (&["\"a\";x=1"], &["a"]),
        (&["\"a \\\"b\\\", c\""], &["a \"b\", c"]),
        (&[""], &[]),
    ];
    for (lines, expected) in cases {
        let lines: Vec<_> = lines.iter().map(|line| (CACHE_GROUPS, *line)).collect();
        assert_eq!(read(&lines), Ok(strings(expected)), "{lines:?}");
    }
}

#[test]
fn malformed_groups_are_an_error_and_not_a_shorter_list() {
    let cases = [
        "a",
        "\"a",
        "\"a\",",
        "\"a\" \"b\"",
        "\"a\", b",
        "1",
        "(\"a\")",
        "\"\u{e9}\"",
        "?1",
        "\"a\"; X",
    ];
    for line in cases {
        assert_eq!(
            read(&[(CACHE_GROUPS, line)]),
            Err(BadTags::Malformed),
            "{line}"
        );
    }
}

#[test]
fn surrogate_keys_and_cache_tags_share_the_namespace() {
    let lines = [
        (SURROGATE_KEY, " one  two"),
        (CACHE_TAG, "three, two,,four five"),
        (CACHE_GROUPS, "\"one\""),
    ];
    assert_eq!(
        read(&lines),
        Ok(strings(&["four five", "one", "three", "two"]))
    );
    assert_eq!(
        read(&[(SURROGATE_KEY, "caf\u{e9}")]),
        Err(BadTags::Malformed)
    );
    assert_eq!(read(&[(CACHE_TAG, "a\tb")]), Err(BadTags::Malformed));
}

#[test]
fn tags_are_bounded_in_number_and_length() {
    let many = |count: usize| {
        (0..count)
            .map(|n| format!("t{n}"))
            .collect::<Vec<_>>()
            .join(" ")
    };
    assert_eq!(read(&[(SURROGATE_KEY, &many(64))]).unwrap().len(), 64);
    assert_eq!(read(&[(SURROGATE_KEY, &many(65))]), Err(BadTags::TooMany));
    assert!(read(&[(CACHE_TAG, &"x".repeat(128))]).is_ok());
    assert_eq!(
        read(&[(CACHE_TAG, &"x".repeat(129))]),
        Err(BadTags::TooLong)
    );
}

#[test]
fn a_write_names_the_groups_it_changed() {
    let limits = TagLimits::default();
    let invalidation = |line: &str| {
        let headers = response(&[
            (CACHE_GROUP_INVALIDATION, line),
            (CACHE_GROUPS, "\"other\""),
        ]);
        let found = invalidated(&headers, &limits)?;
        Ok(found.into_iter().map(String::from).collect::<Vec<_>>())
    };
    assert_eq!(
        invalidation("\"b\", \"a\", \"b\""),
        Ok(strings(&["a", "b"]))
    );
    assert_eq!(invalidation("a"), Err(BadTags::Malformed));
    // More than one response may carry, but no more than one write can be meant to change.
    let list = |count: usize| {
        (0..count)
            .map(|n| format!("\"{n}\""))
            .collect::<Vec<_>>()
            .join(", ")
    };
    assert_eq!(invalidation(&list(100)).unwrap().len(), 100);
    assert_eq!(
        invalidation(&list(INVALIDATED_MAX + 1)),
        Err(BadTags::TooMany)
    );
    // Nothing that is stored can be in a group longer than the limit.
    assert_eq!(
        invalidation(&format!("\"a\", \"{}\"", "x".repeat(129))),
        Ok(strings(&["a"]))
    );
}

proptest! {
    #[test]
    fn no_field_panics(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
        if let Ok(value) = HeaderValue::from_bytes(&bytes) {
            let mut headers = HeaderMap::new();
            for name in [CACHE_GROUPS, SURROGATE_KEY, CACHE_TAG, CACHE_GROUP_INVALIDATION] {
                headers.insert(name, value.clone());
            }
            let _ = tags(&headers, &TagLimits::default());
            let _ = invalidated(&headers, &TagLimits::default());
        }
    }

    #[test]
    fn every_group_that_was_written_is_read(groups in proptest::collection::btree_set("[ -~]{1,40}", 1..20)) {
        let list: Vec<_> = groups
            .iter()
            .map(|group| format!("\"{}\"", group.replace('\\', "\\\\").replace('"', "\\\"")))
            .collect();
        let found = read(&[(CACHE_GROUPS, &list.join(", "))]).unwrap();
        prop_assert_eq!(found, groups.into_iter().collect::<Vec<_>>());
    }
}
