use proptest::prelude::*;

use super::*;
use crate::config::{Config, Overrides};
use crate::policy::key::Key;

/// The shop's routes, as they are configured.
fn shop() -> Routes {
    let text = include_str!("../../../../ops/shop.toml");
    let config = Config::parse("shop.toml", text, &Overrides::default()).unwrap();
    Routes::compile(&config.http, &config.routes).unwrap()
}

/// A gateway for any origin: no routes.
fn general() -> Routes {
    Routes::compile(&Http::default(), &[]).unwrap()
}

fn resolve(routes: &Routes, target: &str) -> Result<Target, BadTarget> {
    let (path, query) = target
        .split_once('?')
        .map_or((target, None), |(path, query)| (path, Some(query)));
    routes.resolve(path, query)
}

#[track_caller]
fn canonical(routes: &Routes, target: &str) -> String {
    let Target { path, query, .. } = resolve(routes, target).unwrap();
    match query {
        Some(query) => format!("{path}?{query}"),
        None => path,
    }
}

#[test]
fn every_spelling_of_a_question_has_one_target() {
    let routes = shop();
    let expected = "/reviews?product_id=2&page=1&count=5&sort=relevant";
    let spellings = [
        "/reviews?product_id=2",
        "/reviews/?product_id=2",
        "//reviews//?product_id=2",
        "/api/reviews?product_id=2",
        "/api/fec2/hr-rfp/reviews/?product_id=2",
        "/%72eviews?product%5Fid=%32",
        "/reviews?product_id=2&page=1&count=5&sort=relevant",
        "/reviews?sort=relevance&count=5&page=1&product_id=2",
        "/reviews?product_id=2&sort=RELEVANT",
        "/reviews?product_id=2&sort=nonsense",
        "/reviews?product_id=2&sort=",
        "/reviews?product_id=2&page=0&count=-3",
        "/reviews?product_id=2&page=one&count=5.5",
        "/reviews?product_id=2&page=&count",
        "/reviews?product_id=2&page=+1",
        "/reviews?product_id=2&count=%2B7",
        "/reviews?product_id=2&page=0001&count=05",
        "/reviews?product_id=2&product_id=3",
        "/reviews?product_id=2&utm_source=x&_=123",
        "/reviews?&&product_id=2&",
    ];
    for spelling in spellings {
        assert_eq!(canonical(&routes, spelling), expected, "{spelling}");
    }
}

#[test]
fn different_questions_have_different_targets() {
    let routes = shop();
    let cases = [
        (
            "/reviews?product_id=2&page=2",
            "/reviews?product_id=2&page=2&count=5&sort=relevant",
        ),
        (
            "/reviews?product_id=2&count=99999",
            "/reviews?product_id=2&page=1&count=10000&sort=relevant",
        ),
        ("/products?count=99999", "/products?page=1&count=1000"),
        (
            "/products?page=99999999999999999999999",
            "/products?page=2147483647&count=5",
        ),
        (
            "/reviews?product_id=2&sort=Date",
            "/reviews?product_id=2&page=1&count=5&sort=newest",
        ),
        (
            "/reviews?product_id=2&sort=helpfulness",
            "/reviews?product_id=2&page=1&count=5&sort=helpful",
        ),
        // What the origin refuses stays as it is, so that it can be refused.
        ("/reviews", "/reviews?page=1&count=5&sort=relevant"),
        (
            "/reviews?product_id=",
            "/reviews?product_id=&page=1&count=5&sort=relevant",
        ),
        (
            "/reviews?product_id=02",
            "/reviews?product_id=02&page=1&count=5&sort=relevant",
        ),
        (
            "/reviews?product_id=2+x%26%ff",
            "/reviews?product_id=2%20x%26%FF&page=1&count=5&sort=relevant",
        ),
        (
            "/reviews/meta?product_id=2&page=4",
            "/reviews/meta?product_id=2",
        ),
        ("/products/2?page=4", "/products/2"),
        ("/products/2/styles/", "/products/2/styles"),
        ("/products/%00/related", "/products/%00/related"),
        (
            "/qa/questions/7/answers",
            "/qa/questions/7/answers?page=1&count=5",
        ),
        ("/Reviews?product_id=2", "/Reviews?product_id=2"),
    ];
    for (target, expected) in cases {
        assert_eq!(canonical(&routes, target), expected, "{target}");
    }
}

#[test]
fn routes_decide_what_is_cached() {
    let routes = shop();
    let cases = [
        ("/products", Some("/products"), true),
        ("/products/2", Some("/products/{product_id}"), true),
        (
            "/products/2/related",
            Some("/products/{product_id}/related"),
            true,
        ),
        ("/reviews/meta?product_id=2", Some("/reviews/meta"), true),
        (
            "/reviews/7/helpful",
            Some("/reviews/{review_id}/helpful"),
            false,
        ),
        (
            "/qa/answers/7/report",
            Some("/qa/answers/{answer_id}/report"),
            false,
        ),
        ("/cart", Some("/cart"), false),
        ("/interactions", Some("/interactions"), false),
        ("/products//styles", Some("/products/{product_id}"), true),
        ("/products/2/styles/3", None, false),
        ("/", None, false),
        ("/nothing?x=1", None, false),
    ];
    for (target, name, cache) in cases {
        let found = resolve(&routes, target).unwrap();
        assert_eq!(found.route.map(|id| routes.name(id)), name, "{target}");
        assert_eq!(found.cache, cache, "{target}");
    }
    let reviews = resolve(&routes, "/reviews").unwrap().route.unwrap();
    assert_eq!(
        routes.methods(reviews),
        [Method::GET, Method::HEAD, Method::POST]
    );
    assert_eq!(
        routes.iter().nth(reviews.index()),
        Some((reviews, "/reviews"))
    );
}

#[test]
fn an_uncached_route_keeps_its_query() {
    let routes = shop();
    assert_eq!(
        canonical(&routes, "/cart/?user_token=a+b&x=%zz"),
        "/cart?user_token=a+b&x=%zz"
    );
    assert_eq!(canonical(&routes, "/nothing?b=2&a=1"), "/nothing?b=2&a=1");
}

#[test]
fn one_prefix_is_stripped_the_longest_first() {
    let routes = shop();
    let cases = [
        ("/api/products", Some("/api"), "/products"),
        (
            "/api/fec2/hr-rfp/products",
            Some("/api/fec2/hr-rfp"),
            "/products",
        ),
        ("/api/fec2/products", Some("/api/fec2/products"), "/"),
        ("/api", Some("/api"), "/"),
        ("/api/", Some("/api"), "/"),
        ("/api/fec2", Some("/api"), "/fec2"),
        (
            "/api/fec2/hr_rfp/products",
            Some("/api"),
            "/fec2/hr_rfp/products",
        ),
        ("/%61pi/products", Some("/api"), "/products"),
        ("/apiary", None, "/apiary"),
        ("/API/products", None, "/API/products"),
    ];
    for (target, prefix, path) in cases {
        let found = resolve(&routes, target).unwrap();
        assert_eq!(
            (found.prefix.as_deref(), found.path.as_str()),
            (prefix, path),
            "{target}"
        );
    }
    for target in [
        "/api/api/products",
        "/api/fec2/x/api/fec2/y/products",
        "/api/fec2/x/api",
    ] {
        assert_eq!(
            resolve(&routes, target),
            Err(BadTarget::RepeatedPrefix),
            "{target}"
        );
    }
}

#[test]
fn without_routes_everything_may_be_cached_and_stays_as_sent() {
    let routes = general();
    let found = resolve(&routes, "//a/b%2f/?b=2&a=1&a").unwrap();
    let expected = Target {
        path: "//a/b%2F/".to_owned(),
        query: Some("b=2&a=1&a".to_owned()),
        prefix: None,
        route: None,
        cache: true,
    };
    assert_eq!(found, expected);
    assert_eq!(resolve(&routes, "/a?").unwrap().query.as_deref(), Some(""));
    assert_eq!(resolve(&routes, "/a").unwrap().query, None);
}

#[test]
fn refused_targets_are_refused_with_their_reason() {
    for routes in [shop(), general()] {
        assert_eq!(
            resolve(&routes, "/products/../cart"),
            Err(BadTarget::DotSegment)
        );
        assert_eq!(
            resolve(&routes, "/products?page=1 2"),
            Err(BadTarget::ForbiddenByte)
        );
        assert_eq!(
            resolve(&routes, "/reviews?product_id=2#x"),
            Err(BadTarget::ForbiddenByte)
        );
        assert_eq!(resolve(&routes, "products"), Err(BadTarget::NoLeadingSlash));
    }
}

#[test]
fn literal_segments_win_over_free_ones() {
    let route = |path: &str| Route {
        path: path.to_owned(),
        methods: vec![Method::GET],
        cache: true,
        query: Vec::new(),
        query_keep: Vec::new(),
        negative_ttl: None,
    };
    let list = [route("/{a}/x"), route("/a/{b}"), route("/a/x"), route("/")];
    let routes = Routes::compile(&Http::default(), &list).unwrap();
    let cases = [
        ("/a/x", "/a/x"),
        ("/a/y", "/a/{b}"),
        ("/b/x", "/{a}/x"),
        ("/", "/"),
    ];
    for (path, expected) in cases {
        let found = resolve(&routes, path).unwrap().route.unwrap();
        assert_eq!(routes.name(found), expected);
    }
    let broken = Routes::compile(&Http::default(), &[route("a")]).unwrap_err();
    assert_eq!(broken.to_string(), "route `a`: a path starts with a slash");
}

fn key(target: &Target) -> [u8; 16] {
    Key::new("http", "shop", &target.path, target.query.as_deref()).hash()
}

/// A target of the shop's alphabet, right or wrong.
fn targets() -> impl Strategy<Value = String> {
    let path = prop::sample::select(vec![
        "/reviews",
        "/reviews/",
        "/api/reviews",
        "/products",
        "/products/7",
        "/qa/questions/%37/answers",
        "/cart",
        "//x%2f",
    ]);
    let pair =
        "(product_id|page|count|sort|p%61ge|x)(=([0-9]{0,3}|newest|DATE|%3[0-9]|[%+&=.a-z]{0,4}))?";
    (path, proptest::collection::vec(pair, 0..6))
        .prop_map(|(path, pairs)| format!("{path}?{}", pairs.join("&")))
}

proptest! {
    #[test]
    fn resolving_a_canonical_target_gives_itself(target in targets()) {
        let routes = shop();
        let once = resolve(&routes, &target).unwrap();
        let twice = routes.resolve(&once.path, once.query.as_deref()).unwrap();
        prop_assert_eq!(Target { prefix: None, ..once }, twice);
    }

    #[test]
    fn no_target_panics_and_all_are_stable(path in "/.{0,40}", query in proptest::option::of(".{0,40}")) {
        for routes in [shop(), general()] {
            if let Ok(once) = routes.resolve(&path, query.as_deref()) {
                let twice = routes.resolve(&once.path, once.query.as_deref()).unwrap();
                prop_assert_eq!(Target { prefix: None, ..once }, twice);
            }
        }
    }

    #[test]
    fn effective_parameters_alone_make_the_key(
        first in (0_u64..40, 0_u64..20_000, 0_usize..4), second in (0_u64..40, 0_u64..20_000, 0_usize..4)
    ) {
        let routes = shop();
        let effective = |(page, count, sort): (u64, u64, usize)| {
            let count = if count == 0 { 5 } else { count.min(10_000) };
            (page.max(1), count, sort.min(2))
        };
        let words = [["newest", "date"], ["helpful", "HELPFULNESS"], ["relevant", "relevance"], ["", "x"]];
        let target = |(page, count, sort): (u64, u64, usize), alias: usize| {
            let word = words[sort][alias];
            resolve(&routes, &format!("/reviews?count={count}&sort={word}&page={page}&product_id=2")).unwrap()
        };
        let equal = effective(first) == effective(second);
        prop_assert_eq!(key(&target(first, 0)) == key(&target(second, 1)), equal);
    }

    #[test]
    fn the_order_of_parameters_is_no_difference(
        pairs in Just(vec!["product_id=2", "page=3", "count=9", "sort=date", "x=1"]).prop_shuffle()
    ) {
        let found = resolve(&shop(), &format!("/reviews?{}", pairs.join("&"))).unwrap();
        prop_assert_eq!(found.query.as_deref(), Some("product_id=2&page=3&count=9&sort=newest"));
    }
}
