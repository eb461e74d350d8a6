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

#[test]
fn initial_age_follows_rfc_9111_4_2_3() {
    let age = |text: &str| ("age", text.to_owned());
    let date = |second| ("date", http_date(second));
    let cases = [
        ("nothing stated", vec![], 0, 0),
        ("date now", vec![date(0)], 0, 0),
        ("date 10 s ago", vec![date(-10)], 0, 10),
        ("date in the future", vec![date(3600)], 0, 0),
        ("age", vec![date(0), age("30")], 0, 30),
        ("age and delay add up", vec![date(0), age("30")], -2, 32),
        ("delay alone", vec![date(0)], -2, 2),
        (
            "the larger of apparent and stated",
            vec![date(-100), age("30")],
            -2,
            100,
        ),
        ("first member of age", vec![age("30, 7200")], 0, 30),
        ("first line of age", vec![age("30"), age("7200")], 0, 30),
        ("no number", vec![age("abc")], 0, 0),
        ("negative", vec![age("-7200")], 0, 0),
        ("decimal", vec![age("7200.0")], 0, 0),
        ("a parameter", vec![age("7200;foo=bar")], 0, 7200),
        ("only a parameter", vec![age(";foo=7200")], 0, 0),
        ("invalid date", vec![("date", "yesterday".to_owned())], 0, 0),
        ("clock set back during the exchange", vec![date(0)], 50, 0),
    ];
    for (what, fields, sent, expected) in cases {
        let found = initial_age(&headers(&fields), at(sent), at(0));
        assert_eq!(found, Duration::from_secs(expected), "{what}");
    }
}

#[test]
fn a_fraction_of_our_clock_is_no_age() {
    let arrival = at(0) + Duration::from_millis(900);
    let fields = headers(&[("date", http_date(0))]);
    assert_eq!(initial_age(&fields, arrival, arrival), Duration::ZERO);
}

#[test]
fn stated_lifetimes_have_their_order() {
    let fields = |expires: i64| headers(&[("date", http_date(0)), ("expires", http_date(expires))]);
    let seconds = |number| Some(Duration::from_secs(number));
    let both = Directives {
        s_maxage: seconds(1),
        max_age: seconds(2),
        ..Directives::default()
    };
    let max_age = Directives {
        max_age: seconds(2),
        ..Directives::default()
    };
    let none = Directives::default();
    let cases = [
        (&both, false, Some((1, Source::SharedMaxAge))),
        (&max_age, false, Some((2, Source::MaxAge))),
        (&max_age, true, Some((2, Source::Targeted))),
        (&none, false, Some((3, Source::Expires))),
        (&none, true, None),
    ];
    for (directives, is_targeted, expected) in cases {
        let found = explicit_lifetime(directives, is_targeted, &fields(3), at(0));
        assert_eq!(
            found,
            expected.map(|(number, source)| (Duration::from_secs(number), source))
        );
    }
}

#[test]
fn expires_is_measured_from_date_and_fails_stale() {
    let expires = |text: String| ("expires", text);
    let date = |second| ("date", http_date(second));
    let cases = [
        (
            "from date",
            vec![date(-100), expires(http_date(10))],
            Some(110),
        ),
        (
            "from arrival without date",
            vec![expires(http_date(10))],
            Some(10),
        ),
        (
            "from arrival with a broken date",
            vec![expires(http_date(10)), ("date", "x".to_owned())],
            Some(10),
        ),
        ("past", vec![date(0), expires(http_date(-10))], Some(0)),
        ("zero", vec![date(0), expires("0".to_owned())], Some(0)),
        (
            "two different",
            vec![date(0), expires(http_date(10)), expires(http_date(20))],
            Some(0),
        ),
        ("missing", vec![date(0)], None),
    ];
    for (what, fields, expected) in cases {
        let found = explicit_lifetime(&Directives::default(), false, &headers(&fields), at(0));
        assert_eq!(
            found.map(|(lifetime, _)| lifetime.as_secs()),
            expected,
            "{what}"
        );
    }
}

#[test]
fn a_heuristic_is_a_tenth_of_the_time_since_last_modified() {
    let day = Duration::from_secs(86_400);
    let modified = |second| ("last-modified", http_date(second));
    let cases = [
        (
            "a tenth",
            vec![modified(-1000), ("date", http_date(0))],
            Some(100),
        ),
        ("without date", vec![modified(-1000)], Some(100)),
        (
            "at most the limit",
            vec![modified(-100 * 86_400)],
            Some(86_400),
        ),
        ("in the future", vec![modified(10)], None),
        ("broken", vec![("last-modified", "x".to_owned())], None),
        ("missing", vec![], None),
    ];
    for (what, fields, expected) in cases {
        let found = heuristic_lifetime(&headers(&fields), at(0), day);
        assert_eq!(found.map(|lifetime| lifetime.as_secs()), expected, "{what}");
    }
}
