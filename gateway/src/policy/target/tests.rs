use proptest::prelude::*;

use super::*;

const TIDY: Slashes = Slashes {
    collapse: true,
    drop_trailing: true,
};
const AS_SENT: Slashes = Slashes {
    collapse: false,
    drop_trailing: false,
};

#[test]
fn a_path_has_one_spelling() {
    let cases = [
        ("/", "/"),
        ("//", "/"),
        ("/reviews/", "/reviews"),
        ("//reviews///meta//", "/reviews/meta"),
        ("/%72eviews", "/reviews"),
        ("/a%2fb%2Fc", "/a%2Fb%2Fc"),
        ("/%7ea%2Da", "/~a-a"),
        ("/100%", "/100%25"),
        ("/%zz", "/%25zz"),
        ("/%2%35", "/%2525"),
        ("/%", "/%25"),
        ("/%00%ff", "/%00%FF"),
        ("/\u{e9}", "/%C3%A9"),
        ("/a\"<>\\^`{|}", "/a%22%3C%3E%5C%5E%60%7B%7C%7D"),
        ("/a;b=1,2:@!$&'()*+", "/a;b=1,2:@!$&'()*+"),
        ("/.hidden/...", "/.hidden/..."),
    ];
    for (raw, expected) in cases {
        assert_eq!(canonical_path(raw, TIDY).as_deref(), Ok(expected), "{raw}");
    }
}

#[test]
fn slashes_stay_where_the_origin_tells_them_apart() {
    assert_eq!(canonical_path("//a//b/", AS_SENT).as_deref(), Ok("//a//b/"));
    let collapse = Slashes {
        drop_trailing: false,
        ..TIDY
    };
    assert_eq!(canonical_path("//a//b//", collapse).as_deref(), Ok("/a/b/"));
}

#[test]
fn dot_segments_are_refused_in_every_spelling() {
    let cases = [
        "/.",
        "/..",
        "/a/./b",
        "/a/../b",
        "/a/..",
        "/%2e",
        "/%2E%2e/x",
        "/.%2e",
        "/a%2F..%2Fb",
        "/a%2f..",
        "/..%5Ca",
        "/..\\a",
        "/a\\..",
        "/..;x/y",
        "/.;",
        "//..//",
    ];
    for raw in cases {
        assert_eq!(
            canonical_path(raw, TIDY),
            Err(BadTarget::DotSegment),
            "{raw}"
        );
        assert_eq!(
            canonical_path(raw, AS_SENT),
            Err(BadTarget::DotSegment),
            "{raw}"
        );
    }
    for raw in ["/...", "/.a", "/a..", "/a.b/..c", "/..a;", "/a/...;x"] {
        assert!(canonical_path(raw, TIDY).is_ok(), "{raw}");
    }
}

#[test]
fn what_no_target_may_hold_is_refused() {
    for raw in ["/a b", "/a\tb", "/a\r\nb", "/\0", "/a#b", "/a?b", "/\u{7f}"] {
        assert_eq!(
            canonical_path(raw, TIDY),
            Err(BadTarget::ForbiddenByte),
            "{raw:?}"
        );
    }
    for raw in ["", "*", "a/b", "http://a/"] {
        assert_eq!(
            canonical_path(raw, TIDY),
            Err(BadTarget::NoLeadingSlash),
            "{raw:?}"
        );
    }
    for raw in ["a b", "a#b", "\n", "\0", "\u{7f}"] {
        assert_eq!(checked_query(raw), Err(BadTarget::ForbiddenByte), "{raw:?}");
    }
    assert_eq!(
        checked_query("a=%zz&b=?/\u{e9}").as_deref(),
        Ok("a=%zz&b=?/%C3%A9")
    );
}

#[test]
fn form_values_are_decoded_as_forms() {
    let cases: [(&str, &[u8]); 7] = [
        ("abc", b"abc"),
        ("a+b", b"a b"),
        ("a%2Bb", b"a+b"),
        ("%41%e9", b"A\xe9"),
        ("100%", b"100%"),
        ("%4", b"%4"),
        ("%zz+", b"%zz "),
    ];
    for (raw, plain) in cases {
        assert_eq!(&*form_decoded(raw), plain, "{raw}");
    }
}

#[test]
fn each_refusal_has_its_status() {
    assert_eq!(BadTarget::DotSegment.status(), StatusCode::BAD_REQUEST);
    assert_eq!(BadTarget::RepeatedPrefix.status(), StatusCode::NOT_FOUND);
    assert_eq!(BadTarget::ForbiddenByte.as_str(), "forbidden-byte");
}

proptest! {
    #[test]
    fn a_canonical_path_is_its_own_spelling(raw in "/(.|[a-c/%.;0-9A-Fx2\\\\]){0,40}", tidy in any::<bool>()) {
        let slashes = if tidy { TIDY } else { AS_SENT };
        if let Ok(path) = canonical_path(&raw, slashes) {
            prop_assert!(path.bytes().all(|byte| byte.is_ascii_graphic()));
            prop_assert_eq!(canonical_path(&path, slashes), Ok(path.clone()));
        }
    }

    #[test]
    fn escaping_unreserved_characters_changes_nothing(raw in "(/[a-zA-Z0-9_~-]{0,5}){1,5}", lower in any::<bool>()) {
        let escaped: String = raw
            .bytes()
            .map(|byte| match (byte, lower) {
                (b'/', _) => "/".to_owned(),
                (_, true) => format!("%{byte:02x}"),
                (_, false) => format!("%{byte:02X}"),
            })
            .collect();
        prop_assert_eq!(canonical_path(&escaped, TIDY), canonical_path(&raw, TIDY));
    }

    #[test]
    fn a_form_value_survives_encoding(plain in proptest::collection::vec(any::<u8>(), 0..30)) {
        let mut encoded = String::new();
        push_form_encoded(&mut encoded, &plain);
        prop_assert_eq!(&*form_decoded(&encoded), &plain[..]);
    }

    #[test]
    fn no_query_panics(raw in ".{0,60}") {
        if let Ok(query) = checked_query(&raw) {
            prop_assert_eq!(checked_query(&query), Ok(query.clone()));
        }
    }
}
