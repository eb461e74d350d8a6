use super::*;

fn headers(fields: &[(&'static str, &str)]) -> HeaderMap {
    let mut headers = HeaderMap::new();
    for (name, value) in fields {
        headers.append(*name, HeaderValue::from_str(value).unwrap());
    }
    headers
}

fn rules() -> EncodingRules {
    EncodingRules {
        codings: vec![Coding::Brotli],
        bytes_min: 1_024,
        targeted: vec![HeaderName::from_static("cdn-cache-control")],
    }
}

fn is_allowed(fields: &[(&'static str, &str)]) -> bool {
    rules().allows(StatusCode::OK, &headers(fields))
}

#[test]
fn documents_are_encoded_and_what_is_packed_already_is_not() {
    for media_type in [
        "text/html; charset=utf-8",
        "TEXT/CSS",
        "application/json",
        "application/problem+json",
        "image/svg+xml",
        "application/wasm",
    ] {
        assert!(is_allowed(&[("content-type", media_type)]), "{media_type}");
    }
    for media_type in [
        "image/png",
        "application/zip",
        "font/woff2",
        "video/mp4",
        "text/event-stream",
        "application/octet-stream",
        "",
    ] {
        assert!(!is_allowed(&[("content-type", media_type)]), "{media_type}");
    }
    assert!(!is_allowed(&[]), "an unknown type");
}

#[test]
fn what_the_origin_forbids_or_has_done_itself_is_left_alone() {
    const JSON: (&str, &str) = ("content-type", "application/json");
    for field in [
        ("cache-control", "max-age=60, no-transform"),
        ("cdn-cache-control", "max-age=60, no-transform"),
        ("content-encoding", "gzip"),
        ("content-encoding", "identity"),
        ("content-range", "bytes 0-1/2"),
        ("content-digest", "sha-256=:AA==:"),
        ("repr-digest", "sha-256=:AA==:"),
        ("content-length", "1023"),
    ] {
        assert!(!is_allowed(&[JSON, field]), "{field:?}");
    }
    assert!(is_allowed(&[JSON, ("content-length", "1024")]));
    assert!(!rules().allows(StatusCode::NOT_FOUND, &headers(&[JSON])));
    let off = EncodingRules {
        codings: Vec::new(),
        ..rules()
    };
    assert!(!off.allows(StatusCode::OK, &headers(&[JSON])));
}

#[test]
fn a_strong_tag_gets_a_suffix_and_any_other_stays() {
    let tag = |own: &'static str| entity_tag(&HeaderValue::from_static(own), Coding::Brotli);
    assert_eq!(tag("\"abc\""), "\"abc-br\"");
    assert_eq!(tag("\"\""), "\"-br\"");
    assert_eq!(tag("W/\"abc\""), "W/\"abc\"");
    assert_eq!(tag("abc"), "abc");
    assert_eq!(tag("\""), "\"");
    let own = HeaderValue::from_static("\"abc\"");
    assert_eq!(entity_tag(&own, Coding::Identity), own);
    let seen = validators(&headers(&[("etag", "\"a\""), ("foo", "1")]), Coding::Zstd);
    assert_eq!(
        (&seen["etag"], &seen["foo"]),
        (
            &HeaderValue::from_static("\"a-zstd\""),
            &HeaderValue::from_static("1")
        )
    );
}

#[test]
fn vary_names_the_negotiation_once() {
    let vary_of = |lines: &[&str]| {
        let fields: Vec<_> = lines.iter().map(|line| ("vary", *line)).collect();
        vary(&headers(&fields))
    };
    assert_eq!(vary_of(&[]).unwrap(), "Accept-Encoding");
    assert_eq!(
        vary_of(&["Foo", "bar"]).unwrap(),
        "Foo, bar, Accept-Encoding"
    );
    assert_eq!(vary_of(&["foo, ACCEPT-encoding"]), None);
    assert_eq!(vary_of(&["*"]), None);
}

#[test]
fn a_request_can_forbid_it() {
    assert!(is_forbidden_by(&headers(&[(
        "cache-control",
        "max-age=0, No-Transform"
    )])));
    assert!(!is_forbidden_by(&headers(&[(
        "cache-control",
        "max-age=0"
    )])));
}
