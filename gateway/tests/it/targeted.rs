//! Control fields meant for this cache win over what is meant for every cache (RFC 9213), one test a rule.

use crate::support::{Answer, FakeOrigin, Gateway, Reply, assert_hit, assert_not_stored, get};

const TARGETED: &str = "CDN-Cache-Control";
const PAST: &str = "Sun, 06 Nov 1994 08:49:37 GMT";

/// What the second of two requests for an answer with these fields gets.
async fn second(fields: &'static [(&'static str, &'static str)]) -> Answer {
    let origin = FakeOrigin::start(move |_| {
        let reply = Reply::new(200, "page");
        fields
            .iter()
            .fold(reply, |reply, (name, value)| reply.header(name, value))
    })
    .await;
    let gateway = Gateway::general(&[&origin]).await;
    gateway.client().get("/page").await;
    gateway.client().get("/page").await
}

#[tokio::test]
async fn a_targeted_field_grants_what_cache_control_and_expires_forbid() {
    let answer = second(&[
        (TARGETED, "max-age=60"),
        ("Cache-Control", "no-store, private"),
        ("Expires", PAST),
    ])
    .await;
    assert_hit(&answer);
    // What other caches are told stays as the origin said it.
    assert_eq!(answer.header("cache-control"), Some("no-store, private"));
    assert_eq!(answer.header("expires"), Some(PAST));
}

#[tokio::test]
async fn a_targeted_field_forbids_what_cache_control_grants() {
    for fields in [
        &[(TARGETED, "no-store"), ("Cache-Control", "max-age=60")],
        &[(TARGETED, "private"), ("Cache-Control", "max-age=60")],
        &[(TARGETED, "max-age=0"), ("Cache-Control", "s-maxage=60")],
        &[(TARGETED, "no-cache"), ("Cache-Control", "max-age=60")],
    ] {
        assert!(!second(fields).await.is_hit(), "{fields:?}");
    }
}

#[tokio::test]
async fn nothing_is_taken_from_cache_control_where_the_targeted_field_is_silent() {
    // The lifetime is not completed from the other field, and a lifetime is not guessed either.
    let answer = second(&[
        (TARGETED, "must-revalidate"),
        ("Cache-Control", "max-age=60"),
    ])
    .await;
    assert!(!answer.is_hit(), "{answer:#?}");
}

#[tokio::test]
async fn a_targeted_field_that_is_no_dictionary_is_as_if_it_were_missing() {
    for fields in [
        &[
            (TARGETED, "no-store, max-age=0;;"),
            ("Cache-Control", "max-age=60"),
        ],
        &[(TARGETED, ""), ("Cache-Control", "max-age=60")],
        &[(TARGETED, "&&&&&"), ("Cache-Control", "max-age=60")],
    ] {
        assert_hit(&second(fields).await);
    }
}

#[tokio::test]
async fn a_value_of_the_wrong_type_makes_the_field_as_if_it_were_missing() {
    for fields in [
        &[(TARGETED, "max-age=\"0\""), ("Cache-Control", "max-age=60")],
        &[(TARGETED, "max-age=0.0"), ("Cache-Control", "max-age=60")],
        &[(TARGETED, "max-age"), ("Cache-Control", "max-age=60")],
        &[(TARGETED, "no-store=1"), ("Cache-Control", "max-age=60")],
    ] {
        assert_hit(&second(fields).await);
    }
}

#[tokio::test]
async fn unknown_directives_and_parameters_are_ignored() {
    let answer = second(&[
        (TARGETED, "max-age=60;no-store, unknown=(a b), other=?0"),
        ("Cache-Control", "no-store"),
    ])
    .await;
    assert_hit(&answer);
}

#[tokio::test]
async fn the_lines_of_a_targeted_field_are_one_dictionary_whose_last_member_counts() {
    let later = &[
        (TARGETED, "max-age=60"),
        (TARGETED, "max-age=0"),
        ("Cache-Control", "max-age=60"),
    ];
    assert!(!second(later).await.is_hit());
    let separate = &[(TARGETED, "public"), (TARGETED, "max-age=60")];
    assert_hit(&second(separate).await);
}

#[tokio::test]
async fn age_counts_against_a_targeted_lifetime_too() {
    assert!(
        !second(&[(TARGETED, "max-age=60"), ("Age", "60")])
            .await
            .is_hit()
    );
    assert_hit(&second(&[(TARGETED, "max-age=60"), ("Age", "30")]).await);
}

#[tokio::test]
async fn of_two_targeted_fields_the_first_configured_one_counts() {
    let answer = second(&[("Surrogate-Control", "no-store"), (TARGETED, "max-age=60")]).await;
    assert_hit(&answer);
    assert_eq!(answer.header("surrogate-control"), None);
}

#[tokio::test]
async fn an_origin_may_address_this_cache_by_the_name_it_was_told() {
    let origin = FakeOrigin::start(|request| match request.target.as_str() {
        "/mine" => Reply::new(200, "x").header("Surrogate-Control", "max-age=60;gateway"),
        _ => Reply::new(200, "x").header("Surrogate-Control", "max-age=60;another"),
    })
    .await;
    let gateway = Gateway::general(&[&origin]).await;
    let client = gateway.client();
    let claimed = get("/mine").header("Surrogate-Capability", "another=\"Surrogate/1.0\"");
    client.send(&claimed).await;
    assert_eq!(
        origin.last().header("surrogate-capability"),
        Some("gateway=\"Surrogate/1.0\"")
    );
    assert_hit(&client.get("/mine").await);
    assert_not_stored(&client, &origin, "/anothers").await;
}
