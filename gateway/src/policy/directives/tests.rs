use http::HeaderValue;
use proptest::prelude::*;

use super::*;

fn read(lines: &[&str]) -> Directives {
    let mut headers = HeaderMap::new();
    for line in lines {
        headers.append(CACHE_CONTROL, HeaderValue::from_str(line).unwrap());
    }
    Directives::from_cache_control(&headers)
}

fn read_targeted(lines: &[&str]) -> Option<Directives> {
    let field = HeaderName::from_static("cdn-cache-control");
    let mut headers = HeaderMap::new();
    for line in lines {
        headers.append(&field, HeaderValue::from_str(line).unwrap());
    }
    Directives::from_targeted(&headers, &[field])
}

fn fields(names: &[&'static str]) -> Listed {
    Listed::Fields(
        names
            .iter()
            .map(|name| HeaderName::from_static(name))
            .collect(),
    )
}

#[test]
fn max_age_follows_rfc_9111_4_2_1() {
    let cases: [(&[&str], Option<u64>); 21] = [
        (&[], None),
        (&["max-age=60"], Some(60)),
        (&["MaX-aGe=60"], Some(60)),
        (&["max-age=\"60\""], Some(60)),
        (&["max-age=003600"], Some(3600)),
        (&["max-age=99999999999"], Some(1 << 31)),
        (&["foobar, max-age=60"], Some(60)),
        (&[",, ,max-age=60,"], Some(60)),
        (&["max-age=60, max-age=60"], Some(60)),
        (&["max-age=60, max-age=1"], Some(0)),
        (&["max-age=1", "max-age=60"], Some(0)),
        (&["max-age"], Some(0)),
        (&["max-age="], Some(0)),
        (&["max-age='60'"], Some(0)),
        (&["max-age=-60"], Some(0)),
        (&["max-age=60.0"], Some(0)),
        (&["max-age=60s"], Some(0)),
        (&["max-age =60"], Some(0)),
        (&["max-age= 60"], Some(0)),
        (&["max-age=\"60\"x"], Some(0)),
        (&["extension=\"max-age=100\", max-age=1"], Some(1)),
    ];
    for (lines, seconds) in cases {
        assert_eq!(
            read(lines).max_age,
            seconds.map(Duration::from_secs),
            "{lines:?}"
        );
    }
}

#[test]
fn restrictions_count_however_they_are_spelled() {
    for line in [
        "no-store",
        "No-StOrE",
        "no-store=1",
        "no-store=\"x\"",
        "a=\"b, no-store",
        " \tno-store",
    ] {
        assert!(read(&[line]).no_store, "{line}");
    }
    for line in [
        "x=\"no-store\"",
        "no-stored",
        "no store",
        "x=\"\\\", no-store\"",
    ] {
        assert!(!read(&[line]).no_store, "{line}");
    }
}

#[test]
fn permissions_count_only_when_spelled_right() {
    assert!(read(&["public"]).public);
    for line in ["public=1", "public=\"\"", "publicly", "x=\"public\""] {
        assert!(!read(&[line]).public, "{line}");
    }
}

#[test]
fn private_and_no_cache_may_name_fields() {
    let cases = [
        ("private", Listed::Whole),
        ("private=\"set-cookie\"", fields(&["set-cookie"])),
        (
            "private=\"Set-Cookie, X-User\"",
            fields(&["set-cookie", "x-user"]),
        ),
        ("private=set-cookie", fields(&["set-cookie"])),
        ("private=\"a\", private=\"b\"", fields(&["a", "b"])),
        ("private=\"a\", private", Listed::Whole),
        ("private=\"\"", Listed::Whole),
        ("private=", Listed::Whole),
        ("private=\"a b\"", Listed::Whole),
        ("max-age=1", Listed::Absent),
    ];
    for (line, expected) in cases {
        assert_eq!(read(&[line]).private, expected, "{line}");
        let other = line.replace("private", "no-cache");
        assert_eq!(read(&[&other]).no_cache, expected, "{other}");
    }
}

#[test]
fn the_other_directives_are_known() {
    let line = "s-maxage=7, stale-while-revalidate=8, stale-if-error=9, must-revalidate, \
                proxy-revalidate, no-transform, must-understand";
    let expected = Directives {
        s_maxage: Some(Duration::from_secs(7)),
        stale_while_revalidate: Some(Duration::from_secs(8)),
        stale_if_error: Some(Duration::from_secs(9)),
        must_revalidate: true,
        proxy_revalidate: true,
        no_transform: true,
        must_understand: true,
        ..Directives::default()
    };
    assert_eq!(read(&[line]), expected);
}

#[test]
fn a_targeted_field_is_a_dictionary_of_rfc_9213() {
    let found = read_targeted(&["public, max-age=60;x=1", "stale-if-error=30, other=?0"]).unwrap();
    let expected = Directives {
        public: true,
        max_age: Some(Duration::from_secs(60)),
        stale_if_error: Some(Duration::from_secs(30)),
        ..Directives::default()
    };
    assert_eq!(found, expected);
    let found =
        read_targeted(&["max-age=-5, public=?0, private=\"set-cookie\", no-cache=(\"a\" b)"]);
    let found = found.unwrap();
    assert_eq!(found.max_age, Some(Duration::ZERO));
    assert!(!found.public);
    assert_eq!(found.private, fields(&["set-cookie"]));
    assert_eq!(found.no_cache, fields(&["a", "b"]));
    // Of a repeated key the last counts (RFC 9651 4.2.2).
    assert_eq!(
        read_targeted(&["max-age=1, max-age=2"]).unwrap().max_age,
        Some(Duration::from_secs(2))
    );
}

#[test]
fn an_unusable_targeted_field_counts_as_missing() {
    let cases = [
        "",
        "max-age=10000, &&&&&",
        "max-age=\"10000\"",
        "max-age",
        "max-age=1.5",
        "max-age=(1)",
        "MaX-aGe=60",
        "max-age =60",
        "max-age= 60",
        "no-store=1",
        "public=yes",
        "private=1",
        "private=(1)",
        "max-age=60,",
    ];
    for line in cases {
        assert_eq!(read_targeted(&[line]), None, "{line:?}");
    }
    assert_eq!(read_targeted(&[]), None);
}

#[test]
fn the_first_usable_targeted_field_wins() {
    let ours = HeaderName::from_static("gateway-cache-control");
    let cdn = HeaderName::from_static("cdn-cache-control");
    let mut headers = HeaderMap::new();
    headers.insert(&cdn, HeaderValue::from_static("max-age=2"));
    let order = [ours.clone(), cdn];
    let seconds = |headers: &HeaderMap| {
        Directives::from_targeted(headers, &order)
            .unwrap()
            .max_age
            .unwrap()
            .as_secs()
    };
    assert_eq!(seconds(&headers), 2);
    headers.insert(&ours, HeaderValue::from_static("max-age=1"));
    assert_eq!(seconds(&headers), 1);
    headers.insert(&ours, HeaderValue::from_static("max-age=!"));
    assert_eq!(seconds(&headers), 2);
}

proptest! {
    #[test]
    fn no_line_panics_and_members_stay_inside_it(line in proptest::collection::vec(any::<u8>(), 0..200)) {
        for member in members(&line) {
            prop_assert!(member.name.len() <= line.len());
        }
        if let Ok(value) = HeaderValue::from_bytes(&line) {
            let mut headers = HeaderMap::new();
            let field = HeaderName::from_static("cdn-cache-control");
            headers.insert(CACHE_CONTROL, value.clone());
            headers.insert(&field, value);
            let _ = Directives::from_cache_control(&headers);
            let _ = Directives::from_targeted(&headers, &[field]);
        }
    }

    #[test]
    fn no_store_is_found_behind_whatever_else(
        before in "[a-z=\\\\ ,]{0,10}(=\"[a-z=\\\\ ]{0,5})?", after in "[a-z=\\\\ ,]{0,20}"
    ) {
        let line = format!("{before},no-store,{after}");
        prop_assert!(read(&[&line]).no_store);
    }
}
