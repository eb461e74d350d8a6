use proptest::prelude::*;

use super::*;

fn parse<'a>(body: &'a [u8], known: &[&'static str]) -> Result<Object<'a>> {
    Object::parse(Entity::Review, body, known)
}

fn object(body: &str) -> Object<'_> {
    parse(body.as_bytes(), &["a", "b"]).expect("an object")
}

#[test]
fn an_empty_body_is_an_empty_object() {
    for body in ["", "  \n", "{}", "\u{feff}{}"] {
        assert_eq!(object(body).fields.len(), 0, "{body:?}");
    }
}

#[test]
fn what_is_not_json_is_malformed() {
    for body in [
        "{",
        "}",
        "{]",
        "{\"a\":1,}",
        "{a:1}",
        "nul",
        "\"a",
        "{\"a\":01}",
        "{} {}",
        "{\"a\":\"\u{1}\"}",
        "{\"a\":\"\\x\"}",
        "{\"a\":\"\\u12\"}",
        "{\"a\":NaN}",
        "[1,",
        "'a'",
    ] {
        let error = parse(body.as_bytes(), &["a"]).expect_err(body);
        assert!(matches!(error, Error::Malformed(_)), "{body}: {error:?}");
    }
    let error = parse(b"{\"a\":\"\xff\"}", &[]).expect_err("invalid UTF-8");
    assert!(matches!(error, Error::Malformed(_)));
}

#[test]
fn what_is_json_but_no_object_is_invalid() {
    for body in ["[]", "1", "\"a\"", "null", "true", "[{\"a\":1}]"] {
        let error = parse(body.as_bytes(), &["a"]).expect_err(body);
        assert!(matches!(error, Error::InvalidBody(..)), "{body}: {error:?}");
    }
}

#[test]
fn an_unpaired_surrogate_is_malformed_wherever_it_stands() {
    for body in [
        r#"{"a":"\ud800"}"#,
        r#"{"a":"\udc00"}"#,
        r#"{"a":"\ud800\ud800"}"#,
        r#"{"a":"\ud800x"}"#,
        r#"{"unknown":["\uDBFF"]}"#,
        r#"{"\ud800":1}"#,
    ] {
        let error = parse(body.as_bytes(), &["a"]).expect_err(body);
        assert!(matches!(error, Error::Malformed(_)), "{body}: {error:?}");
    }
    let mut paired = object(r#"{"a":"\ud83d\ude00"}"#);
    assert_eq!(paired.text("a", 1).as_deref(), Some("\u{1f600}"));
}

#[test]
fn the_character_nul_is_invalid_wherever_it_stands() {
    for body in [
        r#"{"a":"\u0000"}"#,
        r#"{"unknown":["x\u0000"]}"#,
        r#"{"\u0000":1}"#,
        r#"{"a":"\\\u0000"}"#,
    ] {
        let error = parse(body.as_bytes(), &["a"]).expect_err(body);
        assert!(matches!(error, Error::InvalidBody(..)), "{body}: {error:?}");
    }
    // An escaped backslash before the letters: six harmless characters.
    let mut harmless = object(r#"{"a":"\\u0000"}"#);
    assert_eq!(harmless.text("a", 6).as_deref(), Some("\\u0000"));
}

#[test]
fn deep_nesting_in_an_unknown_field_is_skipped() {
    let deep = format!(
        "{{\"x\":{}1{},\"a\":\"y\"}}",
        "[".repeat(100_000),
        "]".repeat(100_000)
    );
    assert_eq!(object(&deep).text("a", 9).as_deref(), Some("y"));
}

#[test]
fn of_a_repeated_field_the_last_counts() {
    assert_eq!(
        object(r#"{"a":"x","a":"y"}"#).text("a", 9).as_deref(),
        Some("y")
    );
}

#[test]
fn numbers_may_be_strings_but_not_fractions() {
    // A number that is whole is an integer, however it is written; a tester that went by JSON Schema found 5.0 refused.
    for body in [
        r#"{"a":5}"#,
        r#"{"a":"5"}"#,
        r#"{"a":5.0}"#,
        r#"{"a":5.000}"#,
    ] {
        assert_eq!(object(body).integer("a", 5, None), Some(5), "{body}");
        assert_eq!(object(body).id("a"), Some(Id::Row(5)), "{body}");
    }
    for body in [
        r#"{"a":5.5}"#,
        r#"{"a":5.01}"#,
        r#"{"a":5.00000000000000000001}"#,
        r#"{"a":"5.0"}"#,
        r#"{"a":[5.0]}"#,
        r#"{"a":-5.0}"#,
        r#"{"a":0.0}"#,
        r#"{"a":5e0}"#,
        r#"{"a":true}"#,
        r#"{"a":null}"#,
        r#"{"a":[5]}"#,
        r#"{"a":{}}"#,
        r#"{"a":""}"#,
        r#"{"a":" 5"}"#,
        r#"{"a":"+5"}"#,
        r#"{"a":"05"}"#,
        "{}",
        r#"{"a":6}"#,
        r#"{"a":0}"#,
        r#"{"a":99999999999999999999}"#,
        r#"{"a":"-1"}"#,
    ] {
        assert_eq!(object(body).integer("a", 5, None), None, "{body}");
    }
    assert_eq!(
        object(r#"{"a":99999999999999999999}"#)
            .id("a")
            .and_then(|id| id.row()),
        None
    );
}

#[test]
fn truth_has_six_spellings() {
    for (value, expected) in [
        ("true", Some(true)),
        ("1", Some(true)),
        ("\"true\"", Some(true)),
        ("\"1\"", Some(true)),
        ("false", Some(false)),
        ("0", Some(false)),
        ("\"false\"", Some(false)),
        ("\"0\"", Some(false)),
        ("2", None),
        ("\"yes\"", None),
        ("null", None),
        ("\"True\"", None),
        ("0.5", None),
        ("[]", None),
    ] {
        let body = format!("{{\"a\":{value}}}");
        assert_eq!(object(&body).boolean("a"), expected, "{value}");
    }
}

#[test]
fn lengths_are_code_points() {
    let body = format!("{{\"a\":\"{}\"}}", "\u{1f600}".repeat(60));
    assert_eq!(
        object(&body).text("a", 60).map(|text| text.len()),
        Some(240)
    );
    assert_eq!(object(&body).text("a", 59), None);
    for blank in ["", " ", "\u{2003}\u{a0}\\n"] {
        assert_eq!(
            object(&format!("{{\"a\":\"{blank}\"}}")).text("a", 60),
            None,
            "{blank:?}"
        );
    }
}

#[test]
fn lists_drop_empty_strings_and_refuse_anything_else() {
    let mut list = object(r#"{"a":["x","","y"]}"#);
    assert_eq!(
        list.strings("a", 2, false),
        Some(vec!["x".to_owned(), "y".to_owned()])
    );
    for body in [
        r#"{"a":"x"}"#,
        r#"{"a":["x",1]}"#,
        r#"{"a":[null]}"#,
        r#"{"a":["1","2","3"]}"#,
        r#"{"a":[{"url":"x"}]}"#,
        r#"{"a":{}}"#,
    ] {
        assert_eq!(object(body).strings("a", 2, false), None, "{body}");
    }
    let mut objects = object(r#"{"a":[{"url":"x","z":1},"y"]}"#);
    assert_eq!(
        objects.strings("a", 2, true),
        Some(vec!["x".to_owned(), "y".to_owned()])
    );
    for body in [r#"{"a":[{"url":1}]}"#, r#"{"a":[{}]}"#, r#"{"a":[["x"]]}"#] {
        assert_eq!(object(body).strings("a", 2, true), None, "{body}");
    }
}

#[test]
fn votes_keep_what_can_be_an_id_and_refuse_what_is_no_vote() {
    let mut votes = object(r#"{"a":{"14":5,"15":"4","Fit":3,"99999999999":1,"05":2}}"#);
    assert_eq!(votes.votes("a"), Some(vec![(14, 5), (15, 4)]));
    for body in [
        r#"{"a":{"14":6}}"#,
        r#"{"a":{"Fit":0}}"#,
        r#"{"a":{"14":null}}"#,
        r#"{"a":{"14":2.5}}"#,
        r#"{"a":[]}"#,
        r#"{"a":1}"#,
    ] {
        assert_eq!(object(body).votes("a"), None, "{body}");
    }
}

#[test]
fn every_fault_is_named_not_only_the_first() {
    let mut object = object("{}");
    let _ = object.id("a");
    let _ = object.boolean("b");
    let Err(Error::InvalidBody(_, errors)) = object.finish::<()>(None) else {
        panic!("accepted");
    };
    let fields: Vec<_> = errors.iter().map(|error| error.field).collect();
    assert_eq!(fields, ["a", "b"]);
}

proptest! {
    #[test]
    fn any_bytes_are_judged_without_a_panic(bytes: Vec<u8>) {
        let _ = parse(&bytes, &["a"]);
    }

    #[test]
    fn any_string_comes_through_unchanged(text in "\\PC{1,40}") {
        prop_assume!(!text.trim().is_empty());
        let body = serde_json::json!({ "a": text }).to_string();
        prop_assert_eq!(object(&body).text("a", 40), Some(text));
    }

    #[test]
    fn our_judgement_of_syntax_is_the_parsers(body in r#"[\[\]{}:,"a1 \\u0dD8]{0,24}"#) {
        let ours = !matches!(parse(body.as_bytes(), &["a"]), Err(Error::Malformed(_)));
        let theirs = body.trim_matches(' ').is_empty() || serde_json::from_str::<serde_json::Value>(&body).is_ok();
        prop_assert_eq!(ours, theirs, "{}", body);
    }
}
