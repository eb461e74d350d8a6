use proptest::prelude::*;

use super::*;
use crate::policy::samples::headers;

fn vary(lines: &[&str], rules: &VaryRules) -> Result<Vec<String>, BadVary> {
    let lines: Vec<_> = lines.iter().map(|line| ("vary", *line)).collect();
    Ok(names(&headers(&lines), rules)?
        .iter()
        .map(|name| name.as_str().to_owned())
        .collect())
}

#[test]
fn vary_is_a_list_of_names() {
    let cases: [(&[&str], &[&str]); 4] = [
        (&[], &[]),
        (&[""], &[]),
        (&["Foo"], &["foo"]),
        (&["Foo, bar", "BAR,, foo"], &["bar", "foo"]),
    ];
    for (lines, expected) in cases {
        let expected = expected.iter().map(|name| (*name).to_owned()).collect();
        assert_eq!(
            vary(lines, &VaryRules::default()),
            Ok(expected),
            "{lines:?}"
        );
    }
}

#[test]
fn a_vary_that_fits_no_other_request_is_refused() {
    let stars: [&[&str]; 6] = [
        &["*"],
        &["*, *"],
        &["", "*"],
        &["Foo, *"],
        &["*, Foo"],
        &["a b"],
    ];
    for lines in stars {
        assert_eq!(
            vary(lines, &VaryRules::default()),
            Err(BadVary::Any),
            "{lines:?}"
        );
    }
    let many = ["a,b,c,d,e,f,g,h,i"];
    assert_eq!(vary(&many, &VaryRules::default()), Err(BadVary::TooMany));
}

#[test]
fn only_configured_names_can_be_honoured() {
    let rules = VaryRules {
        allow: Some(vec![ACCEPT_LANGUAGE]),
        names_max: 8,
    };
    assert_eq!(
        vary(&["Accept-Language"], &rules),
        Ok(vec!["accept-language".to_owned()])
    );
    assert_eq!(
        vary(&["Accept-Language, Cookie"], &rules),
        Err(BadVary::Name)
    );
}

/// Whether two requests with these values (a value for each line) are the same to a `Vary` of the one name.
fn same(name: &'static str, one: &[&str], other: &[&str]) -> bool {
    let variant = |lines: &[&str]| {
        let fields: Vec<_> = lines.iter().map(|line| (name, *line)).collect();
        variance(&[HeaderName::from_static(name)], &headers(&fields)).unwrap()
    };
    variant(one) == variant(other)
}

#[test]
fn equal_values_select_one_variant() {
    assert!(same("foo", &["1"], &["1"]));
    assert!(same("foo", &[], &[]));
    assert!(same("foo", &["a, b"], &["a,b"]));
    assert!(same("foo", &["a, b"], &["a", "b"]));
    assert!(same("foo", &["a  ,\tb "], &["a,b"]));
    assert!(same("accept-language", &["EN-gb, de"], &["en-GB,de"]));
}

#[test]
fn different_values_select_different_variants() {
    assert!(!same("foo", &["1"], &["2"]));
    assert!(!same("foo", &[], &[""]));
    assert!(!same("foo", &["\"a, b\""], &["\"a,b\""]));
    assert!(!same("foo", &["a, b"], &["b, a"]));
    assert!(!same("foo", &["A"], &["a"]));
}

#[test]
fn values_of_several_names_are_told_apart() {
    let names = [
        HeaderName::from_static("bar"),
        HeaderName::from_static("foo"),
    ];
    let one = variance(
        &names,
        &headers(&[("foo", "ab"), ("bar", "c"), ("other", "1")]),
    );
    let other = variance(&names, &headers(&[("foo", "b"), ("bar", "ca")]));
    assert_ne!(one, other);
    assert_eq!(
        one,
        variance(&names, &headers(&[("bar", "c"), ("foo", "ab")]))
    );
    assert_eq!(variance(&[], &headers(&[("foo", "1")])), None);
}

/// The codings a client takes beside identity.
fn list(accepted: Accepted) -> String {
    let taken = [Coding::Brotli, Coding::Gzip, Coding::Zstd]
        .into_iter()
        .filter(|coding| accepted.accepts(*coding))
        .map(Coding::as_str);
    taken.collect::<Vec<_>>().join(", ")
}

#[test]
fn the_coding_makes_no_variant() {
    let rules = VaryRules::default();
    assert_eq!(vary(&["Accept-Encoding"], &rules), Ok(Vec::new()));
    assert_eq!(
        vary(&["accept-encoding, Foo"], &rules),
        Ok(vec!["foo".to_owned()])
    );
}

#[test]
fn accept_encoding_is_read_by_rfc_9110_12_5_3() {
    let cases = [
        ("gzip", "gzip"),
        ("GZIP", "gzip"),
        ("x-gzip", "gzip"),
        ("gzip, deflate, br", "br, gzip"),
        ("gzip, deflate, br, zstd", "br, gzip, zstd"),
        ("zstd;q=0.001", "zstd"),
        ("gzip;q=0", ""),
        ("gzip;q=0.000, br;q=1.000", "br"),
        ("*", "br, gzip, zstd"),
        ("*;q=0", ""),
        ("br;q=0, *", "gzip, zstd"),
        ("gzip; q=0.5", "gzip"),
        ("gzip;q=2", ""),
        ("gzip;q=1.1", ""),
        ("gzip;q=0.0001", ""),
        ("gzip;q=", ""),
        ("gzip;level=9", ""),
        ("identity", ""),
        ("", ""),
    ];
    for (line, expected) in cases {
        let accepted = Accepted::from_request(&headers(&[("accept-encoding", line)]));
        assert_eq!(list(accepted), expected, "{line}");
    }
    assert_eq!(list(Accepted::from_request(&HeaderMap::new())), "");
}

#[test]
fn the_best_coding_is_the_clients_then_ours() {
    let all = [Coding::Zstd, Coding::Brotli, Coding::Gzip, Coding::Identity];
    let cases: [(&str, &[Coding], Option<Coding>); 9] = [
        ("gzip, br, zstd", &all, Some(Coding::Zstd)),
        ("gzip, br;q=0.9", &all, Some(Coding::Gzip)),
        ("br;q=0.5, gzip;q=0.5", &all, Some(Coding::Brotli)),
        (
            "gzip",
            &[Coding::Brotli, Coding::Identity],
            Some(Coding::Identity),
        ),
        ("gzip;q=0.1", &all, Some(Coding::Gzip)),
        ("identity, gzip;q=0.5", &all, Some(Coding::Identity)),
        ("identity;q=0", &[Coding::Identity], None),
        ("*;q=0", &[Coding::Identity], None),
        (
            "gzip, identity;q=0",
            &[Coding::Identity, Coding::Gzip],
            Some(Coding::Gzip),
        ),
    ];
    for (line, offered, expected) in cases {
        let accepted = Accepted::from_request(&headers(&[("accept-encoding", line)]));
        assert_eq!(accepted.best(offered.iter().copied()), expected, "{line}");
    }
}

proptest! {
    #[test]
    fn no_value_panics_and_the_normal_form_is_stable(bytes in proptest::collection::vec(any::<u8>(), 0..80)) {
        if let Ok(value) = HeaderValue::from_bytes(&bytes) {
            let mut request = HeaderMap::new();
            request.insert(ACCEPT_ENCODING, value.clone());
            request.insert(VARY, value.clone());
            request.insert("foo", value);
            let _ = names(&request, &VaryRules::default());
            let foo = HeaderName::from_static("foo");
            let normal = normalised(&request, &foo).unwrap();
            request.insert("foo", HeaderValue::from_bytes(&normal).unwrap());
            prop_assert_eq!(normalised(&request, &foo).unwrap(), normal);
            let _ = Accepted::from_request(&request);
        }
    }
}
