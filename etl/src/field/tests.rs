use proptest::prelude::*;

use super::*;

fn codes(repairs: Repairs) -> Vec<&'static str> {
    Repair::ALL
        .iter()
        .filter(|repair| repairs.contains(**repair))
        .map(|repair| repair.code())
        .collect()
}

/// The outcome of a parser that repairs, and the codes of what it repaired.
fn with_repairs<T>(parse: impl FnOnce(&mut Repairs) -> T) -> (T, Vec<&'static str>) {
    let mut repairs = Repairs::default();
    let value = parse(&mut repairs);
    (value, codes(repairs))
}

#[test]
fn integers_are_those_of_32_bits() {
    for (text, value) in [
        ("0", 0),
        ("007", 7),
        ("-5", -5),
        ("2147483647", i32::MAX),
        ("-2147483648", i32::MIN),
    ] {
        assert_eq!(integer(text.as_bytes()), Ok(value), "{text}");
    }
    for text in [
        "",
        "-",
        "+5",
        "5.0",
        "5 ",
        "1e3",
        "2147483648",
        "-2147483649",
        "12x",
        "null",
        "99999999999999999999999",
    ] {
        assert_eq!(integer(text.as_bytes()), Err(Reason::BadInteger), "{text}");
    }
    assert_eq!(
        (id(b"1"), id(b"0"), id(b"-1")),
        (Ok(1), Err(Reason::BadInteger), Err(Reason::BadInteger))
    );
    assert_eq!(
        (count(b"0"), count(b"-1")),
        (Ok(0), Err(Reason::BadInteger))
    );
}

#[test]
fn ratings_are_from_1_to_5() {
    assert_eq!((stars(b"1"), stars(b"5")), (Ok(1), Ok(5)));
    for text in ["0", "6", "-1", "2147483647"] {
        assert_eq!(stars(text.as_bytes()), Err(Reason::OutOfRange), "{text}");
    }
    for text in ["", "4.5", "five", "2147483648"] {
        assert_eq!(stars(text.as_bytes()), Err(Reason::BadInteger), "{text}");
    }
}

#[test]
fn booleans_are_numbers_or_words_in_any_case() {
    for text in ["1", "true", "TRUE", "True"] {
        assert_eq!(boolean(text.as_bytes()), Ok(true), "{text}");
    }
    for text in ["0", "false", "FALSE", "fAlse"] {
        assert_eq!(boolean(text.as_bytes()), Ok(false), "{text}");
    }
    for text in ["", "2", "yes", "t", "null", "truee"] {
        assert_eq!(boolean(text.as_bytes()), Err(Reason::BadBoolean), "{text}");
    }
}

#[test]
fn prices_are_whole_dollars_up_to_five_million() {
    let read = |text: &str| with_repairs(|repairs| price(text.as_bytes(), repairs));
    for (text, cents) in [("140", 14_000), ("0", 0), ("5000000", 500_000_000)] {
        assert_eq!(read(text), (Ok(cents), vec![]), "{text}");
    }
    assert_eq!(read("$99"), (Ok(9900), vec!["dollar_sign"]));
    for text in [
        "",
        "null",
        "free",
        "-5",
        "$-5",
        "12.50",
        "$12.50",
        "0.00",
        "1.",
        ".5",
        "1,400",
        "12 EUR",
        "$",
        "$$5",
        "5000001",
        "99999999999999999999",
    ] {
        assert_eq!(read(text).0, Err(Reason::BadPrice), "{text}");
    }
}

#[test]
fn the_price_of_a_product_may_carry_its_label() {
    let read = |text: &str| with_repairs(|repairs| labelled_price(text.as_bytes(), repairs));
    for text in [
        "default_price: 99",
        "\"default_price\": 99",
        "default_price:99",
        "\"default_price\" : 99",
    ] {
        assert_eq!(read(text), (Ok(9900), vec!["price_label"]), "{text}");
    }
    assert_eq!(
        read("default_price: $99"),
        (Ok(9900), vec!["price_label", "dollar_sign"])
    );
    assert_eq!(read("99"), (Ok(9900), vec![]));
    for text in [
        "default_price",
        "default_price:",
        "price: 99",
        "default_price: free",
    ] {
        assert_eq!(read(text).0, Err(Reason::BadPrice), "{text}");
    }
}

#[test]
fn values_lose_one_pair_of_inner_quotes() {
    let read = |text: &'static str| with_repairs(|repairs| unwrapped(text.as_bytes(), repairs));
    let wrapped = vec!["wrapped_quotes"];
    assert_eq!(read("\"Loose\""), (b"Loose".as_slice(), wrapped.clone()));
    assert_eq!(
        read("\"\\\"Loose\\\"\""),
        (b"Loose".as_slice(), wrapped.clone())
    );
    assert_eq!(read("\"\""), (b"".as_slice(), wrapped));
    for text in [
        "Loose",
        "\"",
        "5\" wide",
        "\"Loose",
        "",
        "\"a\" and \"b\"",
        "\"5\" wide\"",
        "\"\"Loose\"\"",
        "\"\\\"a\" and \"b\\\"\"",
    ] {
        assert_eq!(read(text), (text.as_bytes(), vec![]), "{text}");
    }
}

/// Milliseconds since 1970.
fn millis(text: &str) -> Result<i64, Reason> {
    timestamp(text.as_bytes(), &mut Repairs::default()).map(|micros| (micros + EPOCH_2000) / 1000)
}

#[test]
fn dates_are_milliseconds_or_iso() {
    let cases = [
        ("1596080481467", 1_596_080_481_467),
        ("0", 0),
        ("-1", -1),
        ("2019-04-14", 1_555_200_000_000),
        ("2020-02-29", 1_582_934_400_000),
        ("2019-04-14T01:02:03.456Z", 1_555_203_723_456),
        ("2019-04-14T01:02:03Z", 1_555_203_723_000),
        ("2019-04-14 01:02:03", 1_555_203_723_000),
        ("2019-04-14T01:02Z", 1_555_203_720_000),
        ("2019-04-14T01:02:03.456789012+00:00", 1_555_203_723_456),
        ("2019-04-14T03:02:03.456+02:00", 1_555_203_723_456),
        ("2019-04-13T20:02:03.456-0500", 1_555_203_723_456),
        ("2019-04-14T02:02:03+01", 1_555_203_723_000),
        ("0001-01-01", -62_135_596_800_000),
        ("9999-12-31T23:59:59.999Z", 253_402_300_799_999),
    ];
    for (text, expected) in cases {
        assert_eq!(millis(text), Ok(expected), "{text}");
        let is_text = text.contains(':') || text.len() == 10;
        let (_, repairs) = with_repairs(|repairs| timestamp(text.as_bytes(), repairs));
        assert_eq!(
            repairs,
            if is_text { vec!["date_text"] } else { vec![] },
            "{text}"
        );
    }
}

#[test]
fn dates_that_do_not_exist_are_refused() {
    let cases = [
        "",
        "-",
        "null",
        "yesterday",
        "2021-02-29",
        "1900-02-29",
        "2021-13-01",
        "2021-00-10",
        "2021-04-31",
        "2021-4-3",
        "2021/04/03",
        "0000-01-01",
        "2021-04-03T",
        "2021-04-03T24:00:00Z",
        "2021-04-03T10:60:00Z",
        "2021-04-03T10:00:00.Z",
        "2021-04-03T10:00:00ZZ",
        "2021-04-03T10:00:00+25:00",
        "2021-04-03T10:00.5Z",
        "2021-04-03x10:00:00Z",
        "253402300800000",
        "-62135596800001",
        "9223372036854775807",
        "99999999999999999999",
        "2021-04-03\u{e9}",
    ];
    for text in cases {
        assert_eq!(millis(text), Err(Reason::BadDate), "{text}");
    }
}

#[test]
fn urls_are_absolute_and_of_a_scheme_that_pictures_have() {
    let good = [
        "https://a.example/x?y=1&q=80",
        "http://a",
        "HTTPS://A/",
        "data:image/png;base64,AAAA",
        "blob:https://a/1",
        "https://a/\\x",
    ];
    for text in good {
        assert_eq!(url(text.as_bytes()), Ok(text.as_bytes()), "{text}");
    }
    for text in [
        "",
        "null",
        "https://",
        "htp:/a",
        "http:a",
        "//a/b",
        "a.example/x",
        "uhttps://a",
        "https://a b",
        "https://a\"",
        "data:",
        "javascript:x",
    ] {
        assert_eq!(url(text.as_bytes()), Err(Reason::BadUrl), "{text}");
    }
}

#[test]
fn urls_of_photos_are_mended() {
    let cases: [(&str, &str, &[&str]); 5] = [
        ("https://a/x", "https://a/x", &[]),
        ("uhttps://a/x", "https://a/x", &["stray_prefix"]),
        ("https:\\//a\\/x\\", "https://a/x", &["stray_backslash"]),
        (
            "u\\https://a/x",
            "https://a/x",
            &["stray_prefix", "stray_backslash"],
        ),
        (
            "uhttps://a/\\x",
            "https://a/x",
            &["stray_prefix", "stray_backslash"],
        ),
    ];
    for (text, expected, codes) in cases {
        let mut copy = Vec::new();
        let (mended, repairs) = with_repairs(|repairs| {
            mended_url(text.as_bytes(), &mut copy, repairs).map(<[u8]>::to_vec)
        });
        assert_eq!(
            (mended, repairs.as_slice()),
            (Ok(expected.as_bytes().to_vec()), codes),
            "{text}"
        );
    }
    let mut copy = Vec::new();
    assert_eq!(
        mended_url(b"\\\\", &mut copy, &mut Repairs::default()),
        Err(Reason::BadUrl)
    );
}

#[test]
fn joined_urls_are_split_before_the_second() {
    let cases = [
        (
            "https://a?q=80https://b",
            Some(("https://a?q=80", "https://b")),
        ),
        (
            "uhttps://a?q=80https://b",
            Some(("uhttps://a?q=80", "https://b")),
        ),
        ("https://a\"https://b\"", Some(("https://a", "https://b"))),
        ("\"https://a\"https://b\"", Some(("https://a", "https://b"))),
        (
            "\"uhttps://a\",https://b",
            Some(("uhttps://a", "https://b")),
        ),
        ("\"\"", None),
        ("https://a,https://b", Some(("https://a", "https://b"))),
        ("https://a\"uhttps://b", Some(("https://a", "uhttps://b"))),
        ("https://a", None),
        ("http", None),
        ("", None),
    ];
    for (text, expected) in cases {
        let split = split_joined(text.as_bytes());
        assert_eq!(
            split,
            expected.map(|(first, second)| (first.as_bytes(), second.as_bytes())),
            "{text}"
        );
    }
}

proptest! {
    #[test]
    fn no_field_makes_a_parser_panic(field in prop::collection::vec(any::<u8>(), 0..40), dateish in "[0-9TZ:+. -]{0,32}") {
        for bytes in [field.as_slice(), dateish.as_bytes()] {
            let mut repairs = Repairs::default();
            let mut copy = Vec::new();
            let is_integer = integer(bytes).is_ok();
            prop_assert!(is_integer || (id(bytes).is_err() && count(bytes).is_err() && stars(bytes).is_err()));
            prop_assert!(boolean(bytes).is_err() || bytes.len() <= 5);
            // A price without its label is a price as well.
            prop_assert!(price(bytes, &mut repairs).is_err() || labelled_price(bytes, &mut repairs).is_ok());
            prop_assert!(timestamp(bytes, &mut repairs).is_err() || !bytes.is_empty());
            prop_assert!(url(bytes).is_err() || mended_url(bytes, &mut copy, &mut repairs).is_ok());
            let split = split_joined(bytes).map_or(0, |(first, second)| first.len() + second.len());
            prop_assert!(split <= bytes.len() && unwrapped(bytes, &mut repairs).len() <= bytes.len());
        }
    }

    #[test]
    fn dates_agree_with_the_calendar_of_chrono(millis in -62_135_596_800_000_i64..253_402_300_800_000) {
        let date = chrono::DateTime::from_timestamp_millis(millis).unwrap();
        let text = date.to_rfc3339_opts(chrono::SecondsFormat::Millis, true);
        prop_assert_eq!(self::millis(&text), Ok(millis));
        prop_assert_eq!(self::millis(&millis.to_string()), Ok(millis));
    }
}
