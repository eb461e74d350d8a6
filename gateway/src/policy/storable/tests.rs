use http::HeaderValue;
use proptest::prelude::*;

use super::*;
use crate::policy::samples::headers;

/// The second at which the response arrives in every case.
const ARRIVAL: u64 = 1_800_000_000;

fn at(second: i64) -> SystemTime {
    SystemTime::UNIX_EPOCH + Duration::from_secs(ARRIVAL.checked_add_signed(second).unwrap())
}

fn http_date(second: i64) -> String {
    httpdate::fmt_http_date(at(second))
}

fn seconds(number: u64) -> Duration {
    Duration::from_secs(number)
}

/// A gateway for any origin.
fn general() -> Rules {
    Rules {
        targeted: vec![HeaderName::from_static("cdn-cache-control")],
        marked_only: false,
        heuristic_max: Some(seconds(86_400)),
        fresh_max: seconds(365 * 86_400),
        stale_while_revalidate: Duration::ZERO,
        stale_if_error: Duration::ZERO,
        store_set_cookie: false,
        obey_request: true,
        vary: VaryRules::default(),
        tags: TagLimits::default(),
    }
}

/// The shop's rules.
fn shop() -> Rules {
    Rules {
        marked_only: true,
        heuristic_max: None,
        obey_request: false,
        vary: VaryRules {
            allow: Some(vec![http::header::ACCEPT_ENCODING]),
            names_max: 8,
        },
        ..general()
    }
}

type Fields<'a> = &'a [(&'static str, &'a str)];

struct Case<'a> {
    method: Method,
    status: u16,
    request: Fields<'a>,
    response: Fields<'a>,
}

impl<'a> Case<'a> {
    fn get(response: Fields<'a>) -> Self {
        Self {
            method: Method::GET,
            status: 200,
            request: &[],
            response,
        }
    }

    fn decide(&self, rules: &Rules) -> Decision {
        let exchange = Exchange {
            method: &self.method,
            request: &headers(self.request),
            status: StatusCode::from_u16(self.status).unwrap(),
            response: &headers(self.response),
            request_time: at(0),
            response_time: at(0),
        };
        decide(&exchange, rules)
    }

    #[track_caller]
    fn stored(&self, rules: &Rules) -> Lifetime {
        match self.decide(rules) {
            Decision::Store(lifetime) => lifetime,
            Decision::Refuse(reason) => panic!("refused: {}", reason.as_str()),
        }
    }

    #[track_caller]
    fn assert_refused(&self, rules: &Rules, reason: Reason) {
        assert_eq!(
            self.decide(rules),
            Decision::Refuse(reason),
            "{:?}",
            self.response
        );
    }
}

const FRESH: (&str, &str) = ("cache-control", "max-age=60");

#[test]
fn only_get_and_head_are_stored() {
    for method in [Method::GET, Method::HEAD] {
        let case = Case {
            method,
            ..Case::get(&[FRESH])
        };
        assert_eq!(case.stored(&general()).fresh, seconds(60));
    }
    for method in [Method::POST, Method::PUT, Method::DELETE, Method::PATCH] {
        Case {
            method,
            ..Case::get(&[FRESH])
        }
        .assert_refused(&general(), Reason::Method);
    }
}

#[test]
fn partial_and_interim_answers_are_never_stored() {
    let cases = [
        (100, Reason::Interim),
        (103, Reason::Interim),
        (206, Reason::Partial),
        (304, Reason::NotModified),
    ];
    for (status, reason) in cases {
        Case {
            status,
            ..Case::get(&[FRESH])
        }
        .assert_refused(&general(), reason);
    }
}

#[test]
fn every_other_final_status_is_stored_with_a_stated_lifetime() {
    for status in [
        200, 203, 204, 299, 301, 302, 303, 307, 308, 400, 404, 410, 499, 500, 503, 599,
    ] {
        let case = Case {
            status,
            ..Case::get(&[FRESH])
        };
        assert_eq!(case.stored(&general()).source, Source::MaxAge, "{status}");
    }
}

#[test]
fn must_understand_needs_a_known_status_and_lifts_no_store() {
    let response: Fields<'_> = &[("cache-control", "max-age=60, no-store, must-understand")];
    assert_eq!(Case::get(response).stored(&general()).fresh, seconds(60));
    for status in [299, 499, 599] {
        let case = Case {
            status,
            ..Case::get(response)
        };
        case.assert_refused(&general(), Reason::NotUnderstood);
    }
}

#[test]
fn no_store_and_private_are_obeyed() {
    Case::get(&[("cache-control", "max-age=60, no-store")])
        .assert_refused(&general(), Reason::NoStore);
    Case::get(&[("cache-control", "max-age=60, private")])
        .assert_refused(&general(), Reason::Private);
    Case::get(&[FRESH, ("cache-control", "no-store")]).assert_refused(&general(), Reason::NoStore);
}

#[test]
fn a_requests_no_store_is_obeyed_if_the_rules_say_so() {
    let case = Case {
        request: &[("cache-control", "no-store")],
        ..Case::get(&[FRESH])
    };
    case.assert_refused(&general(), Reason::RequestNoStore);
    let deaf = Rules {
        obey_request: false,
        ..general()
    };
    assert_eq!(case.stored(&deaf).fresh, seconds(60));
}

#[test]
fn authorization_needs_permission_to_share() {
    let request: Fields<'_> = &[("authorization", "Bearer t")];
    for line in [
        "max-age=60, public",
        "s-maxage=60",
        "max-age=60, must-revalidate",
    ] {
        let response: Fields<'_> = &[("cache-control", line)];
        let case = Case {
            request,
            ..Case::get(response)
        };
        assert_eq!(case.stored(&general()).fresh, seconds(60), "{line}");
    }
    for line in [
        "max-age=60",
        "max-age=60, proxy-revalidate",
        "max-age=60, public=1",
    ] {
        let response: Fields<'_> = &[("cache-control", line)];
        Case {
            request,
            ..Case::get(response)
        }
        .assert_refused(&general(), Reason::Authorization);
    }
}

#[test]
fn set_cookie_is_stored_by_rule_or_not_at_all() {
    let cookie = ("set-cookie", "a=b");
    Case::get(&[FRESH, cookie]).assert_refused(&general(), Reason::SetCookie);
    let lax = Rules {
        store_set_cookie: true,
        ..general()
    };
    assert!(Case::get(&[FRESH, cookie]).stored(&lax).omit.is_empty());
    // Where the origin states no lifetime, it says nothing about sharing either.
    let unchanged = ("last-modified", "Sun, 06 Nov 1994 08:49:37 GMT");
    Case::get(&[unchanged, cookie]).assert_refused(&lax, Reason::SetCookie);
    for line in [
        "max-age=60, private=\"set-cookie\"",
        "max-age=60, no-cache=\"set-cookie\"",
    ] {
        let lifetime = Case::get(&[("cache-control", line), cookie]).stored(&general());
        assert_eq!(lifetime.omit, [SET_COOKIE], "{line}");
        assert_eq!(lifetime.fresh, seconds(60));
    }
}

#[test]
fn a_request_cookie_matters_only_to_heuristics() {
    let request: Fields<'_> = &[("cookie", "a=b")];
    assert_eq!(
        Case {
            request,
            ..Case::get(&[FRESH])
        }
        .stored(&general())
        .fresh,
        seconds(60)
    );
    let modified = http_date(-1000);
    let response: Fields<'_> = &[("last-modified", &modified)];
    Case {
        request,
        ..Case::get(response)
    }
    .assert_refused(&general(), Reason::CookieHeuristic);
}

#[test]
fn a_targeted_field_replaces_cache_control_and_expires() {
    let past = http_date(-1000);
    let cases: [(Fields<'_>, u64); 5] = [
        (
            &[
                ("cdn-cache-control", "max-age=60"),
                ("cache-control", "no-store"),
            ],
            60,
        ),
        (
            &[
                ("cdn-cache-control", "max-age=60"),
                ("cache-control", "max-age=1"),
            ],
            60,
        ),
        (&[("cdn-cache-control", "max-age=1"), FRESH], 1),
        (
            &[("cdn-cache-control", "max-age=60"), ("expires", &past)],
            60,
        ),
        (&[("cdn-cache-control", "max-age=\"1\""), FRESH], 60),
    ];
    for (response, fresh) in cases {
        assert_eq!(
            Case::get(response).stored(&general()).fresh,
            seconds(fresh),
            "{response:?}"
        );
    }
    let refused: [(Fields<'_>, Reason); 4] = [
        (&[("cdn-cache-control", "no-store"), FRESH], Reason::NoStore),
        (&[("cdn-cache-control", "private"), FRESH], Reason::Private),
        (&[("cdn-cache-control", "no-cache"), FRESH], Reason::NoCache),
        (
            &[
                ("cdn-cache-control", "max-age=10, &"),
                ("cache-control", "no-store"),
            ],
            Reason::NoStore,
        ),
    ];
    for (response, reason) in refused {
        Case::get(response).assert_refused(&general(), reason);
    }
}

#[test]
fn the_shop_stores_what_the_origin_marks_and_nothing_else() {
    let class_p: Fields<'_> = &[
        ("cache-control", "public, max-age=0, must-revalidate"),
        (
            "cdn-cache-control",
            "public, max-age=86400, stale-if-error=86400",
        ),
        ("cache-groups", "\"product-2-reviews\", \"release-1\""),
        ("vary", "Accept-Encoding"),
        ("etag", "\"x\""),
    ];
    let request: Fields<'_> = &[
        ("authorization", "t"),
        ("cookie", "a=b"),
        ("cache-control", "no-store"),
    ];
    for status in [200, 404] {
        let lifetime = Case {
            request,
            status,
            ..Case::get(class_p)
        }
        .stored(&shop());
        assert_eq!(lifetime.fresh, seconds(86_400));
        assert_eq!(lifetime.stale_if_error, seconds(86_400));
        assert_eq!(lifetime.stale_while_revalidate, Duration::ZERO);
        assert!(!lifetime.must_revalidate);
        assert_eq!(lifetime.source, Source::Targeted);
        assert_eq!(
            lifetime.tags,
            [Box::from("product-2-reviews"), Box::from("release-1")]
        );
        assert_eq!(lifetime.vary, Vec::<HeaderName>::new());
    }
    let modified = http_date(-1000);
    let refused: [(Fields<'_>, Reason); 7] = [
        (&[("cache-control", "private, no-store")], Reason::NotMarked),
        (
            &[("cache-control", "public, max-age=60")],
            Reason::NotMarked,
        ),
        (&[("cdn-cache-control", "max-age=60")], Reason::NotMarked),
        (
            &[("cdn-cache-control", "public; max-age=60,,")],
            Reason::NotMarked,
        ),
        (&[("last-modified", &modified)], Reason::NotMarked),
        (
            &[
                ("cdn-cache-control", "public"),
                ("last-modified", &modified),
            ],
            Reason::NoLifetime,
        ),
        (
            &[
                ("cdn-cache-control", "public, max-age=60"),
                ("set-cookie", "a=b"),
            ],
            Reason::SetCookie,
        ),
    ];
    for (response, reason) in refused {
        Case::get(response).assert_refused(&shop(), reason);
    }
}

#[test]
fn what_cannot_be_matched_or_purged_is_refused() {
    let refused: [(Fields<'_>, Rules, Reason); 6] = [
        (&[FRESH, ("vary", "*")], general(), Reason::VaryAny),
        (&[FRESH, ("vary", "a b")], general(), Reason::VaryAny),
        (
            &[FRESH, ("vary", "a,b,c,d,e,f,g,h,i")],
            general(),
            Reason::VaryTooMany,
        ),
        (
            &[
                ("cdn-cache-control", "public, max-age=60"),
                ("vary", "Cookie"),
            ],
            shop(),
            Reason::VaryName,
        ),
        (
            &[FRESH, ("cache-groups", "nonsense")],
            general(),
            Reason::TagsMalformed,
        ),
        (
            &[FRESH, ("cache-groups", "\"a\", \"b\"")],
            Rules {
                tags: TagLimits {
                    tags_max: 1,
                    tag_bytes_max: 9,
                },
                ..general()
            },
            Reason::TagsTooMany,
        ),
    ];
    for (response, rules, reason) in refused {
        Case::get(response).assert_refused(&rules, reason);
    }
    let short = Rules {
        tags: TagLimits {
            tags_max: 1,
            tag_bytes_max: 1,
        },
        ..general()
    };
    Case::get(&[FRESH, ("surrogate-key", "ab")]).assert_refused(&short, Reason::TagTooLong);
}

#[test]
fn an_age_on_arrival_is_taken_off() {
    let date = http_date(-20);
    let cases: [(Fields<'_>, u64, u64); 3] = [
        (&[FRESH, ("age", "15")], 45, 15),
        (&[FRESH, ("date", &date)], 40, 20),
        (&[FRESH, ("date", &date), ("age", "30")], 30, 30),
    ];
    for (response, fresh, age) in cases {
        let lifetime = Case::get(response).stored(&general());
        assert_eq!(
            (lifetime.fresh, lifetime.initial_age),
            (seconds(fresh), seconds(age)),
            "{response:?}"
        );
    }
    Case::get(&[FRESH, ("age", "60")]).assert_refused(&general(), Reason::Stale);
}

#[test]
fn stale_windows_are_the_origins_then_the_rules() {
    let rules = Rules {
        stale_while_revalidate: seconds(5),
        stale_if_error: seconds(7),
        ..general()
    };
    let cases = [
        ("max-age=60", 5, 7, false),
        (
            "max-age=60, stale-while-revalidate=1, stale-if-error=2",
            1,
            2,
            false,
        ),
        ("max-age=60, stale-while-revalidate=0", 0, 7, false),
        ("max-age=60, stale-while-revalidate=x", 0, 7, false),
        ("max-age=60, must-revalidate, stale-if-error=2", 0, 0, true),
        ("max-age=60, proxy-revalidate", 0, 0, true),
        // s-maxage forbids stale answers, unless the field itself asks for them.
        ("s-maxage=60", 0, 0, true),
        ("s-maxage=60, stale-while-revalidate=300", 300, 0, false),
    ];
    for (line, revalidate, error, must_revalidate) in cases {
        let lifetime = Case::get(&[("cache-control", line)]).stored(&rules);
        assert_eq!(
            lifetime.stale_while_revalidate,
            seconds(revalidate),
            "{line}"
        );
        assert_eq!(lifetime.stale_if_error, seconds(error), "{line}");
        assert_eq!(lifetime.must_revalidate, must_revalidate, "{line}");
    }
}

#[test]
fn a_response_that_arrives_stale_has_used_up_a_part_of_its_windows() {
    let line = ("cache-control", "max-age=10, stale-while-revalidate=20");
    let lifetime = Case::get(&[line, ("age", "15")]).stored(&general());
    assert_eq!(
        (lifetime.fresh, lifetime.stale_while_revalidate),
        (Duration::ZERO, seconds(15))
    );
    Case::get(&[line, ("age", "30")]).assert_refused(&general(), Reason::Stale);
}

#[test]
fn no_cache_is_kept_only_to_be_validated() {
    let rules = Rules {
        stale_while_revalidate: seconds(5),
        stale_if_error: seconds(7),
        ..general()
    };
    let lifetime =
        Case::get(&[("cache-control", "max-age=60, no-cache"), ("etag", "\"a\"")]).stored(&rules);
    assert!(lifetime.no_cache && lifetime.must_revalidate);
    assert_eq!(
        (
            lifetime.fresh,
            lifetime.stale_while_revalidate,
            lifetime.stale_if_error
        ),
        Default::default()
    );
    Case::get(&[("cache-control", "max-age=60, no-cache")]).assert_refused(&rules, Reason::NoCache);
    let named = Case::get(&[
        ("cache-control", "max-age=60, no-cache=\"x-a\""),
        ("x-a", "1"),
    ])
    .stored(&rules);
    assert_eq!((named.fresh, named.no_cache), (seconds(60), false));
    assert_eq!(named.omit, [HeaderName::from_static("x-a")]);
}

#[test]
fn a_lifetime_is_guessed_only_where_the_rules_and_the_status_allow_it() {
    let modified = http_date(-1000);
    let response: Fields<'_> = &[("last-modified", &modified)];
    for status in [200, 203, 204, 300, 301, 308, 404, 405, 410, 414, 501] {
        let lifetime = Case {
            status,
            ..Case::get(response)
        }
        .stored(&general());
        assert_eq!(
            (lifetime.fresh, lifetime.source),
            (seconds(100), Source::Heuristic),
            "{status}"
        );
    }
    for status in [201, 302, 307, 400, 500, 503] {
        Case {
            status,
            ..Case::get(response)
        }
        .assert_refused(&general(), Reason::NoLifetime);
    }
    let public: Fields<'_> = &[("last-modified", &modified), ("cache-control", "public")];
    assert_eq!(
        Case {
            status: 302,
            ..Case::get(public)
        }
        .stored(&general())
        .fresh,
        seconds(100)
    );
    let strict = Rules {
        heuristic_max: None,
        ..general()
    };
    Case::get(response).assert_refused(&strict, Reason::NoLifetime);
    Case::get(&[]).assert_refused(&general(), Reason::NoLifetime);
    let validated = Case::get(&[("etag", "\"a\"")]).stored(&general());
    assert_eq!(
        (validated.fresh, validated.source),
        (Duration::ZERO, Source::Unknown)
    );
}

#[test]
fn a_lifetime_is_cut_to_the_longest_allowed() {
    let rules = Rules {
        fresh_max: seconds(30),
        ..general()
    };
    assert_eq!(Case::get(&[FRESH]).stored(&rules).fresh, seconds(30));
    assert_eq!(
        Case::get(&[FRESH, ("age", "10")]).stored(&rules).fresh,
        seconds(20)
    );
}

#[test]
fn hop_by_hop_fields_are_left_out() {
    let response: Fields<'_> = &[
        FRESH,
        ("connection", "close, X-Hop"),
        ("x-hop", "1"),
        ("keep-alive", "timeout=5"),
        ("transfer-encoding", "chunked"),
        ("age", "1"),
        ("x-stays", "1"),
    ];
    let omit = Case::get(response).stored(&general()).omit;
    let names: Vec<_> = omit.iter().map(HeaderName::as_str).collect();
    assert_eq!(
        names,
        [
            "age",
            "connection",
            "keep-alive",
            "transfer-encoding",
            "x-hop"
        ]
    );
}

#[test]
fn no_transform_is_remembered() {
    assert!(
        Case::get(&[("cache-control", "max-age=60, no-transform")])
            .stored(&general())
            .no_transform
    );
    assert!(!Case::get(&[FRESH]).stored(&general()).no_transform);
}

#[test]
fn a_lifetime_ends_to_the_second() {
    let line = "max-age=10, stale-while-revalidate=5, stale-if-error=8";
    let lifetime = Case::get(&[("cache-control", line), ("age", "2")]).stored(&general());
    let almost = seconds(8) - Duration::from_nanos(1);
    assert_eq!(lifetime.left(almost), Left::Fresh(Duration::from_nanos(1)));
    assert_eq!(lifetime.left(seconds(8)), Left::Stale(Duration::ZERO));
    assert_eq!(lifetime.left(seconds(11)), Left::Stale(seconds(3)));
    assert_eq!(lifetime.age(seconds(11)), seconds(13));
    let cases = [
        (0, true, true),
        (12, true, true),
        (13, false, true),
        (15, false, true),
        (16, false, false),
    ];
    for (kept, revalidating, on_error) in cases {
        assert_eq!(
            lifetime.serves_while_revalidating(seconds(kept)),
            revalidating,
            "{kept}"
        );
        assert_eq!(lifetime.serves_on_error(seconds(kept)), on_error, "{kept}");
    }
    assert_eq!(lifetime.age(Duration::MAX), Duration::MAX);
}

/// Fields a response may carry, with values near the grammar of each.
fn any_response() -> impl Strategy<Value = HeaderMap> {
    let name = prop::sample::select(vec![
        "age",
        "cache-control",
        "cache-groups",
        "cdn-cache-control",
        "connection",
        "date",
        "etag",
        "expires",
        "last-modified",
        "set-cookie",
        "vary",
    ]);
    let value = prop_oneof![
        "(public|private|no-store|no-cache|max-age|s-maxage|stale-if-error|[a-z])(=[0-9\"]{0,4})?(, .{0,9})?",
        (-200_i64..200).prop_map(http_date),
        "[0-9]{0,5}",
        proptest::collection::vec(any::<u8>(), 0..30)
            .prop_map(|bytes| String::from_utf8_lossy(&bytes).into_owned()),
    ];
    proptest::collection::vec((name, value), 0..8).prop_map(|fields| {
        let mut headers = HeaderMap::new();
        for (name, value) in fields {
            if let Ok(value) = HeaderValue::from_bytes(value.as_bytes()) {
                headers.append(HeaderName::from_static(name), value);
            }
        }
        headers
    })
}

proptest! {
    #[test]
    fn whatever_is_stored_is_useful_and_within_bounds(response in any_response(), status in 100_u16..600, sent in -9_i64..9) {
        let rules = Rules { fresh_max: seconds(100), ..general() };
        let exchange = Exchange {
            method: &Method::GET,
            request: &HeaderMap::new(),
            status: StatusCode::from_u16(status).unwrap(),
            response: &response,
            request_time: at(sent),
            response_time: at(0),
        };
        if let Decision::Store(lifetime) = decide(&exchange, &rules) {
            prop_assert!(lifetime.fresh <= rules.fresh_max);
            prop_assert!(!lifetime.no_cache || lifetime.fresh.is_zero());
            let has_window = lifetime.serves_on_error(lifetime.fresh) || lifetime.serves_while_revalidating(lifetime.fresh);
            prop_assert!(!(lifetime.must_revalidate && has_window));
            prop_assert!(has_window || !lifetime.fresh.is_zero() || has_validator(&response));
            prop_assert!(!response.contains_key(SET_COOKIE) || lifetime.omit.contains(&SET_COOKIE));
        }
    }
}
