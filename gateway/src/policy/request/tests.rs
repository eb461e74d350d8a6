use super::*;
use crate::policy::samples::headers;

fn demand(fields: &[(&'static str, &str)]) -> Demand {
    read(&Method::GET, &headers(fields), ClientDirectives::Obey).unwrap()
}

fn seconds(number: u64) -> Duration {
    Duration::from_secs(number)
}

#[test]
fn only_get_and_head_use_the_cache() {
    for method in [Method::GET, Method::HEAD] {
        assert_eq!(
            read(&method, &HeaderMap::new(), ClientDirectives::Obey),
            Ok(Demand::default())
        );
    }
    for method in [
        Method::POST,
        Method::PUT,
        Method::DELETE,
        Method::OPTIONS,
        Method::TRACE,
    ] {
        let found = read(&method, &HeaderMap::new(), ClientDirectives::Obey);
        assert_eq!(found, Err(Bypass::Method), "{method}");
    }
}

#[test]
fn conditions_on_the_current_state_go_to_the_origin() {
    for field in ["if-match", "if-unmodified-since"] {
        let found = read(
            &Method::GET,
            &headers(&[(field, "\"a\"")]),
            ClientDirectives::Ignore,
        );
        assert_eq!(found, Err(Bypass::Precondition), "{field}");
    }
    let others = headers(&[
        ("if-none-match", "\"a\""),
        ("range", "bytes=0-1"),
        ("cookie", "a=b"),
        ("authorization", "t"),
    ]);
    assert_eq!(
        read(&Method::GET, &others, ClientDirectives::Ignore),
        Ok(Demand::default())
    );
}

#[test]
fn directives_of_rfc_9111_5_2_1_are_read() {
    let none = Demand::default();
    let max_age = |number| Demand {
        max_age: Some(seconds(number)),
        ..none
    };
    let min_fresh = |number| Demand {
        min_fresh: Some(seconds(number)),
        ..none
    };
    let max_stale = |number| Demand {
        max_stale: Some(seconds(number)),
        ..none
    };
    let cases = [
        (
            "no-cache",
            Demand {
                no_cache: true,
                ..none
            },
        ),
        (
            "No-Cache",
            Demand {
                no_cache: true,
                ..none
            },
        ),
        (
            "no-store",
            Demand {
                no_store: true,
                ..none
            },
        ),
        (
            "only-if-cached",
            Demand {
                only_if_cached: true,
                ..none
            },
        ),
        ("max-age=5", max_age(5)),
        ("max-age=x", max_age(0)),
        ("max-age=5, max-age=3", max_age(3)),
        ("min-fresh=5", min_fresh(5)),
        ("min-fresh=x", min_fresh(1 << 31)),
        ("max-stale", max_stale(1 << 31)),
        ("max-stale=5", max_stale(5)),
        ("max-stale=x", max_stale(0)),
        ("other, x=\"no-cache\"", none),
    ];
    for (line, expected) in cases {
        assert_eq!(demand(&[("cache-control", line)]), expected, "{line}");
    }
}

#[test]
fn pragma_counts_only_without_cache_control() {
    assert!(demand(&[("pragma", "no-cache")]).no_cache);
    assert!(demand(&[("pragma", "x, No-Cache")]).no_cache);
    assert!(!demand(&[("pragma", "no-cache"), ("cache-control", "max-age=5")]).no_cache);
}

#[test]
fn an_ignored_client_demands_nothing() {
    let fields = headers(&[
        (
            "cache-control",
            "no-cache, no-store, only-if-cached, max-age=0",
        ),
        ("pragma", "no-cache"),
    ]);
    assert_eq!(
        read(&Method::GET, &fields, ClientDirectives::Ignore),
        Ok(Demand::default())
    );
}

#[test]
fn a_stored_response_is_measured_against_the_demand() {
    let fresh = |number| Left::Fresh(seconds(number));
    let stale = |number| Left::Stale(seconds(number));
    let cases = [
        ("nothing asked, fresh", "", 5, fresh(5), false, true),
        ("nothing asked, stale", "", 5, stale(1), false, false),
        ("no-cache", "no-cache", 5, fresh(5), false, false),
        ("max-age reached", "max-age=5", 5, fresh(5), false, true),
        ("max-age passed", "max-age=4", 5, fresh(5), false, false),
        ("max-age=0", "max-age=0", 1, fresh(5), false, false),
        ("min-fresh kept", "min-fresh=5", 5, fresh(5), false, true),
        ("min-fresh broken", "min-fresh=6", 5, fresh(5), false, false),
        ("max-stale kept", "max-stale=2", 5, stale(2), false, true),
        ("max-stale broken", "max-stale=2", 5, stale(3), false, false),
        ("any staleness", "max-stale", 5, stale(99_999), false, true),
        (
            "must-revalidate forbids it",
            "max-stale",
            5,
            stale(1),
            true,
            false,
        ),
        (
            "max-age holds with max-stale",
            "max-age=4, max-stale",
            5,
            stale(1),
            false,
            false,
        ),
    ];
    for (what, line, age, left, must_revalidate, expected) in cases {
        let demand = demand(&[("cache-control", line)]);
        assert_eq!(
            demand.accepts(seconds(age), left, must_revalidate),
            expected,
            "{what}"
        );
    }
}
