use proptest::prelude::*;

use super::*;

#[test]
fn sizes_have_units() {
    let cases = [
        ("0B", Some(0)),
        ("512B", Some(512)),
        ("64KiB", Some(65_536)),
        ("96MiB", Some(100_663_296)),
        ("96 MiB", Some(100_663_296)),
        ("1GiB", Some(1 << 30)),
        ("1MB", Some(1_000_000)),
        ("96", None),
        ("96mib", None),
        ("MiB", None),
        ("-1MiB", None),
        ("1.5MiB", None),
        ("99999999999999999999B", None),
        ("18446744073709551615GiB", None),
        ("", None),
    ];
    for (text, expected) in cases {
        assert_eq!(
            text.parse::<ByteSize>().ok(),
            expected.map(ByteSize),
            "{text}"
        );
    }
    assert_eq!(ByteSize::mebibytes(96).to_string(), "96MiB");
    assert_eq!(ByteSize(1500).to_string(), "1500B");
    assert_eq!(ByteSize(0).to_string(), "0B");
    assert_eq!(ByteSize::kibibytes(4).as_usize(), 4096);
}

#[test]
fn addresses_have_a_host_and_a_port() {
    let cases = [
        ("127.0.0.1:3001", Some("127.0.0.1:3001")),
        ("[::1]:3001", Some("[::1]:3001")),
        ("http://127.0.0.1:3001/", Some("127.0.0.1:3001")),
        ("Origin-1.internal:80", Some("origin-1.internal:80")),
        ("localhost:3001", Some("localhost:3001")),
        ("127.0.0.1", None),
        ("127.0.0.1:0", None),
        ("127.0.0.1:70000", None),
        ("300.0.0.1:80", None),
        (":3001", None),
        ("a b:80", None),
        ("https://a:80", None),
        ("a/b:80", None),
        ("", None),
    ];
    for (text, expected) in cases {
        let found = text
            .parse::<Address>()
            .ok()
            .map(|address| address.to_string());
        assert_eq!(found.as_deref(), expected, "{text}");
    }
}

#[test]
fn a_host_has_one_spelling() {
    let cases = [
        ("http", "Shop.Example", Some("shop.example")),
        ("http", "shop.example.", Some("shop.example")),
        ("http", "shop.example:80", Some("shop.example")),
        ("https", "shop.example:443", Some("shop.example")),
        ("https", "shop.example:80", Some("shop.example:80")),
        ("http", "shop.example:08080", Some("shop.example:8080")),
        ("http", "shop.example:", Some("shop.example")),
        ("http", "127.0.0.1:8080", Some("127.0.0.1:8080")),
        ("http", "[::0:1]:8080", Some("[::1]:8080")),
        ("http", "[2001:DB8::1]", Some("[2001:db8::1]")),
        ("http", "a_b", Some("a_b")),
        ("http", "", None),
        ("http", ".", None),
        ("http", "a..b", None),
        ("http", "user@shop", None),
        ("http", "a, b", None),
        ("http", "a b", None),
        ("http", "a/b", None),
        ("http", "a:0", None),
        ("http", "a:70000", None),
        ("http", "a:+1", None),
        ("http", "a:1:2", None),
        ("http", "::1", None),
        ("http", "[::1", None),
        ("http", "[::1]x", None),
        ("http", "[a]", None),
        ("http", "a%41", None),
        ("http", "\u{e9}", None),
    ];
    for (scheme, raw, expected) in cases {
        assert_eq!(
            canonical_host(scheme, raw).ok().as_deref(),
            expected,
            "{raw}"
        );
    }
    assert_eq!(canonical_host("http", &"a".repeat(300)), Err(BadHost));
}

proptest! {
    #[test]
    fn a_canonical_host_is_its_own_spelling(raw in "(.|[a-zA-Z0-9.:\\[\\]-]){0,30}") {
        if let Ok(host) = canonical_host("http", &raw) {
            prop_assert_eq!(canonical_host("http", &host), Ok(host.clone()));
        }
    }

    #[test]
    fn a_printed_size_reads_back(bytes in any::<u64>()) {
        prop_assert_eq!(ByteSize(bytes).to_string().parse(), Ok(ByteSize(bytes)));
    }

    #[test]
    fn no_text_panics(text in ".{0,40}") {
        let _ = text.parse::<ByteSize>();
        let _ = text.parse::<Address>();
        let _ = with_unit(&text, &UNITS_TIME_MS);
    }
}
