//! Encoded representations: made once for what is asked for, chosen by Accept-Encoding, validated by tags of their own.

use std::io::Read;

use crate::support::{Answer, Client, FakeOrigin, Gateway, Reply, Request, assert_hit, get, until};

/// A document that every coding makes smaller.
fn document() -> String {
    (0..500)
        .map(|line| format!("{{\"line\": {line}}}\n"))
        .collect()
}

fn reply() -> Reply {
    Reply::fresh(document())
        .header("Content-Type", "application/json")
        .header("ETag", "\"v1\"")
}

async fn origin() -> FakeOrigin {
    FakeOrigin::start(|_| reply()).await
}

fn accepting(coding: &str) -> Request {
    get("/doc").header("Accept-Encoding", coding)
}

fn coding_of(answer: &Answer) -> Option<&str> {
    answer.header("content-encoding")
}

/// Asks until the coding has been made.
async fn warm(client: &Client, coding: &str) -> Answer {
    let request = accepting(coding);
    until("the coding is made", || async {
        coding_of(&client.send(&request).await) == Some(coding)
    })
    .await;
    client.send(&request).await
}

fn decoded(answer: &Answer) -> String {
    let mut text = String::new();
    let bytes = &answer.body[..];
    match coding_of(answer) {
        None => text.push_str(answer.text()),
        Some("gzip") => {
            let mut reader = flate2::read::GzDecoder::new(bytes);
            reader.read_to_string(&mut text).expect("gzip");
        }
        Some("br") => {
            let mut reader = brotli::Decompressor::new(bytes, 4_096);
            reader.read_to_string(&mut text).expect("brotli");
        }
        Some("zstd") => {
            let bytes = zstd::decode_all(bytes).expect("zstd");
            text.push_str(std::str::from_utf8(&bytes).expect("text"));
        }
        Some(other) => panic!("nobody asked for {other}"),
    }
    text
}

#[tokio::test]
async fn each_coding_gives_the_origins_bytes_back_under_a_tag_of_its_own() {
    let origin = origin().await;
    let gateway = Gateway::general(&[&origin]).await;
    let client = gateway.client();
    for coding in ["br", "zstd", "gzip"] {
        let answer = warm(&client, coding).await;
        assert_hit(&answer);
        assert_eq!(decoded(&answer), document(), "{coding}");
        assert!(answer.body.len() < document().len() / 2, "{coding}");
        let length = answer.body.len().to_string();
        assert_eq!(answer.header("content-length"), Some(length.as_str()));
        assert_eq!(
            answer.header("etag"),
            Some(format!("\"v1-{coding}\"").as_str())
        );
        assert_eq!(answer.header("vary"), Some("Accept-Encoding"));
    }
    let plain = client.get("/doc").await;
    assert_eq!(
        (plain.text(), coding_of(&plain)),
        (document().as_str(), None)
    );
    assert_eq!(plain.header("etag"), Some("\"v1\""));
    assert_eq!(plain.header("vary"), Some("Accept-Encoding"));
    assert_eq!(origin.count(), 1, "one fetch serves every representation");
    let asked = &origin.requests()[0];
    assert_eq!(asked.header("accept-encoding"), Some("identity"));
}

#[tokio::test]
async fn a_fetch_and_the_first_hit_come_plain_and_say_that_there_is_a_choice() {
    let origin = origin().await;
    let gateway = Gateway::general(&[&origin]).await;
    let client = gateway.client();
    for _ in 0..2 {
        let answer = client.send(&accepting("br")).await;
        assert_eq!(
            (coding_of(&answer), answer.text()),
            (None, document().as_str())
        );
        assert_eq!(
            answer.header("vary"),
            Some("Accept-Encoding"),
            "{answer:#?}"
        );
    }
}

#[tokio::test]
async fn the_clients_weights_choose() {
    let origin = origin().await;
    let gateway = Gateway::general(&[&origin]).await;
    let client = gateway.client();
    for coding in ["br", "zstd", "gzip"] {
        warm(&client, coding).await;
    }
    for (accepted, expected) in [
        ("gzip, br, zstd", Some("br")),
        ("gzip, zstd", Some("zstd")),
        ("br;q=0.5, gzip;q=0.8", Some("gzip")),
        ("br;q=0, *", Some("zstd")),
        ("*", Some("br")),
        ("identity, br;q=0.9", None),
        ("deflate", None),
        ("", None),
        ("gzip;q=0, identity;q=0", None),
    ] {
        let answer = client.send(&accepting(accepted)).await;
        assert_eq!(coding_of(&answer), expected, "{accepted}");
        assert_eq!(decoded(&answer), document(), "{accepted}");
    }
}

#[tokio::test]
async fn head_and_conditions_agree_with_get_for_each_representation() {
    let origin = origin().await;
    let gateway = Gateway::general(&[&origin]).await;
    let client = gateway.client();
    for coding in ["br", "zstd", "gzip"] {
        let full = warm(&client, coding).await;
        let head = Request::new("HEAD", "/doc").header("Accept-Encoding", coding);
        let head = client.send(&head).await;
        for field in [
            "etag",
            "content-length",
            "content-encoding",
            "vary",
            "content-type",
        ] {
            assert_eq!(head.header(field), full.header(field), "{coding} {field}");
        }
        let tag = full.header("etag").expect("a tag");
        for method in ["GET", "HEAD"] {
            let request = Request::new(method, "/doc").header("Accept-Encoding", coding);
            let same = client
                .send(&request.clone().header("If-None-Match", tag))
                .await;
            assert_eq!(
                (same.status, same.header("etag")),
                (304, Some(tag)),
                "{same:#?}"
            );
            assert_eq!(same.header("vary"), Some("Accept-Encoding"));
            assert_eq!(coding_of(&same), None);
            let other = request.header("If-None-Match", "\"v0-br\"");
            assert_eq!(client.send(&other).await.status, 200);
        }
        // Another representation's tag is good for who may have that one only.
        let strange = get("/doc").header("If-None-Match", tag);
        assert_eq!(client.send(&strange).await.status, 200);
    }
    let own = accepting("br").header("If-None-Match", "\"v1\"");
    let own = client.send(&own).await;
    assert_eq!((own.status, own.header("etag")), (304, Some("\"v1\"")));
    assert_eq!(origin.count(), 1);
}

#[tokio::test]
async fn a_range_is_cut_from_the_plain_body() {
    let origin = origin().await;
    let gateway = Gateway::general(&[&origin]).await;
    let client = gateway.client();
    warm(&client, "gzip").await;
    let part = client
        .send(&accepting("gzip").header("Range", "bytes=0-9"))
        .await;
    assert_eq!((part.status, coding_of(&part)), (206, None));
    assert_eq!(part.text(), &document()[..10]);
}

#[tokio::test]
async fn a_validation_keeps_what_was_made_and_the_origin_sees_its_own_tag() {
    let origin = FakeOrigin::start(|request| {
        let reply = if request.header("if-none-match") == Some("\"v1\"") {
            Reply::new(304, "")
        } else {
            assert_eq!(request.header("if-none-match"), None);
            Reply::new(200, document())
        };
        let reply = reply.header("Cache-Control", "max-age=3600");
        reply
            .header("Content-Type", "application/json")
            .header("ETag", "\"v1\"")
    })
    .await;
    let gateway = Gateway::general(&[&origin]).await;
    let client = gateway.client();
    warm(&client, "br").await;
    let fresh = accepting("br").header("Cache-Control", "no-cache");
    let validated = client.send(&fresh).await;
    assert_eq!(decoded(&validated), document());
    assert_eq!(origin.count(), 2);
    let answer = client.send(&accepting("br")).await;
    assert_eq!(
        (coding_of(&answer), answer.header("etag")),
        (Some("br"), Some("\"v1-br\""))
    );
}

#[tokio::test]
async fn encoded_bodies_go_with_their_entry_and_its_bytes() {
    let origin = origin().await;
    let gateway = Gateway::general(&[&origin]).await;
    let client = gateway.client();
    client.get("/doc").await;
    let plain = gateway.status().await["cache"]["used_bytes"].clone();
    let encoded = warm(&client, "gzip").await;
    let both = gateway.status().await["cache"]["used_bytes"].clone();
    let grown = both.as_u64().unwrap() - plain.as_u64().unwrap();
    assert!(grown >= encoded.body.len() as u64, "{plain} {both}");
    gateway.purge(serde_json::json!({"urls": ["/doc"]})).await;
    assert_eq!(gateway.status().await["cache"]["used_bytes"], 0);
    let again = client.send(&accepting("gzip")).await;
    assert!(!again.is_hit() && coding_of(&again).is_none());
}

#[tokio::test]
async fn what_must_not_or_need_not_be_encoded_never_is() {
    let origin = FakeOrigin::start(|request| match request.target.as_str() {
        "/kept-as-it-is" => Reply::new(200, document())
            .header("Cache-Control", "max-age=3600, no-transform")
            .header("Content-Type", "application/json"),
        "/packed" => Reply::fresh(document())
            .header("Content-Type", "application/json")
            .header("Content-Encoding", "x-made-by-the-origin"),
        "/picture" => Reply::fresh(document()).header("Content-Type", "image/png"),
        _ => Reply::fresh("{}").header("Content-Type", "application/json"),
    })
    .await;
    let gateway = Gateway::general(&[&origin]).await;
    let client = gateway.client();
    for target in ["/kept-as-it-is", "/packed", "/picture", "/short"] {
        for _ in 0..5 {
            let answer = client
                .send(&get(target).header("Accept-Encoding", "br, gzip"))
                .await;
            let expected = (target == "/packed").then_some("x-made-by-the-origin");
            assert_eq!(coding_of(&answer), expected, "{target}");
            assert_eq!(answer.header("vary"), None, "{target}");
        }
    }
    // Nothing waits for the encoder: another document is all it would still have to do.
    let origin = self::origin().await;
    let gateway = Gateway::general(&[&origin]).await;
    let client = gateway.client();
    warm(&client, "br").await;
    let strict = accepting("br").header("Cache-Control", "no-transform");
    assert_eq!(coding_of(&client.send(&strict).await), None);
}

#[tokio::test]
async fn the_origins_own_vary_on_the_coding_makes_no_variants() {
    let origin = FakeOrigin::start(|_| reply().header("Vary", "Accept-Encoding")).await;
    let gateway = Gateway::general(&[&origin]).await;
    let client = gateway.client();
    for coding in ["gzip", "br", "", "zstd, deflate"] {
        let answer = client.send(&accepting(coding)).await;
        assert_eq!(answer.header("vary"), Some("Accept-Encoding"));
    }
    assert_eq!(origin.count(), 1);
}

#[tokio::test]
async fn without_codings_everything_is_as_the_origin_sent_it() {
    let origin = origin().await;
    let gateway = Gateway::with(&[&origin], "[cache]\nencodings = []").await;
    let client = gateway.client();
    for _ in 0..5 {
        let answer = client.send(&accepting("br, gzip, zstd")).await;
        assert_eq!((coding_of(&answer), answer.header("vary")), (None, None));
    }
}

#[tokio::test]
async fn the_conditions_of_a_write_name_the_origins_own_tags() {
    let origin = origin().await;
    let gateway = Gateway::general(&[&origin]).await;
    let client = gateway.client();
    let seen = warm(&client, "gzip").await;
    let tag = seen.header("etag").expect("a tag");
    assert_eq!(tag, "\"v1-gzip\"");
    for (sent, passed) in [
        (tag, "\"v1\""),
        (
            "\"a-br\", W/\"b-gzip\",\"c-zstd\"",
            "\"a\", W/\"b-gzip\", \"c\"",
        ),
        ("\"v1-deflate\"", "\"v1-deflate\""),
        ("*", "*"),
    ] {
        for field in ["if-match", "if-none-match"] {
            let write = Request::new("PUT", "/doc").header(field, sent).body("{}");
            client.send(&write).await;
            assert_eq!(origin.last().header(field), Some(passed), "{field}: {sent}");
        }
    }
}

#[tokio::test]
async fn a_part_of_an_encoded_representation_is_never_completed_with_the_origins_own_bytes() {
    let origin = origin().await;
    let gateway = Gateway::general(&[&origin]).await;
    let client = gateway.client();
    warm(&client, "gzip").await;
    let rest = get("/doc")
        .header("Range", "bytes=10-")
        .header("If-Range", "\"v1-gzip\"");
    let answer = client.send(&rest).await;
    assert_eq!((answer.status, answer.text()), (200, document().as_str()));
}
