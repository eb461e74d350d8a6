use proptest::prelude::*;
use sfv::{Item, List, ListEntry, Parser};

use super::*;

fn text(status: &CacheStatus<'_>) -> String {
    status.to_value().to_str().unwrap().to_owned()
}

const HIT: CacheStatus<'_> = CacheStatus {
    cache: "gateway",
    outcome: Outcome::Hit,
    fwd_status: None,
    ttl: None,
    stored: false,
    collapsed: false,
    key: None,
    detail: None,
};
const MISS: CacheStatus<'_> = CacheStatus {
    outcome: Outcome::Forward(Forward::UriMiss),
    ..HIT
};

#[test]
fn entries_follow_rfc_9211() {
    let stale = CacheStatus::new("gateway", Outcome::Forward(Forward::Stale));
    let cases = [
        (
            CacheStatus {
                ttl: Some(545),
                ..HIT
            },
            "hit; ttl=545",
        ),
        (
            CacheStatus {
                ttl: Some(-3),
                detail: Some("swr"),
                ..HIT
            },
            "hit; ttl=-3; detail=swr",
        ),
        (
            CacheStatus {
                stored: true,
                collapsed: true,
                ..MISS
            },
            "fwd=uri-miss; stored; collapsed",
        ),
        (
            CacheStatus {
                fwd_status: Some(304),
                ..stale
            },
            "fwd=stale; fwd-status=304",
        ),
    ];
    for (status, expected) in cases {
        assert_eq!(text(&status), format!("gateway; {expected}"));
    }
}

#[test]
fn names_and_details_are_tokens_or_strings() {
    let key = "http://a/\"b\"\\";
    let cases = [
        (
            CacheStatus {
                key: Some(key),
                ..HIT
            },
            r#"gateway; hit; key="http://a/\"b\"\\""#,
        ),
        (
            CacheStatus {
                detail: Some("purge 7"),
                ..HIT
            },
            r#"gateway; hit; detail="purge 7""#,
        ),
        (
            CacheStatus {
                cache: "edge.example",
                ..HIT
            },
            "edge.example; hit",
        ),
        (
            CacheStatus {
                cache: "1st",
                ..HIT
            },
            r#""1st"; hit"#,
        ),
        (CacheStatus { cache: "", ..HIT }, r#"""; hit"#),
        (
            CacheStatus {
                detail: Some("a\r\nb\u{e9}"),
                ..HIT
            },
            r#"gateway; hit; detail="ab""#,
        ),
    ];
    for (status, expected) in cases {
        assert_eq!(text(&status), expected);
    }
}

proptest! {
    #[test]
    fn every_entry_is_a_structured_item(
        cache in ".{0,20}", key in proptest::option::of(".{0,40}"), detail in proptest::option::of(".{0,40}"),
        ttl in proptest::option::of(any::<i64>()), fwd_status in proptest::option::of(any::<u16>())
    ) {
        let status = CacheStatus {
            ttl, fwd_status, key: key.as_deref(), detail: detail.as_deref(),
            ..CacheStatus::new(&cache, Outcome::Forward(Forward::Miss))
        };
        let text = text(&status);
        let list: List = Parser::new(&text).parse().unwrap();
        prop_assert_eq!(list.len(), 1);
        let is_item = matches!(&list[0], ListEntry::Item(Item { params, .. }) if params.contains_key("fwd"));
        prop_assert!(is_item);
    }
}
