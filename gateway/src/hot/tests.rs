use std::time::Duration;

use http::{HeaderMap, HeaderValue};
use proptest::prelude::*;

use super::*;
use crate::store::{Freshness, Head, Limits, NewFill};

const REQUEST: &[u8] = b"GET /a?b=1 HTTP/1.1\r\nHost: Shop\r\nAccept: */*\r\n\r\n";

fn store() -> Arc<Store> {
    Store::new(Limits {
        budget_bytes: 1 << 20,
        object_bytes_max: 1 << 20,
        variants_max: 8,
        shards: 1,
    })
}

fn hot(store: &Arc<Store>) -> Hot {
    let finish = Finish {
        cache_status: "gateway; hit; ttl=".to_owned(),
        strip: Vec::new(),
        every: Vec::new(),
    };
    Hot::new(Arc::clone(store), finish, vec![Coding::Brotli])
}

fn key() -> Arc<Key> {
    Arc::new(Key::new("http", "shop", "/a", Some("b=1")))
}

fn present(now: Instant) -> Present {
    Present {
        now,
        wall: SystemTime::UNIX_EPOCH,
        is_leased: true,
    }
}

fn put(store: &Arc<Store>, now: Instant) {
    put_with(store, now, HeaderMap::new(), &[]);
}

fn put_with(store: &Arc<Store>, now: Instant, mut headers: HeaderMap, tags: &[&str]) {
    headers.insert("etag", HeaderValue::from_static("\"1\""));
    headers.insert("content-length", HeaderValue::from_static("4"));
    let mut writer = store.begin_fill(NewFill {
        key: key(),
        variance: None,
        head: Head {
            status: http::StatusCode::OK,
            headers,
        },
        freshness: Freshness {
            stored_at: now,
            initial_age: Duration::from_secs(3),
            fresh_for: Duration::from_secs(60),
            stale_while_revalidate: Duration::ZERO,
            stale_if_error: Duration::ZERO,
            must_revalidate: false,
        },
        tags: tags.iter().map(|tag| Box::from(*tag)).collect(),
        began: store.sequence(),
        encodable: true,
    });
    writer.write(Bytes::from_static(b"body")).unwrap();
    writer.finish();
}

fn text(ready: &Ready) -> String {
    let slices = ready.slices();
    let bytes: Vec<u8> = slices
        .iter()
        .flat_map(|slice| slice.iter().copied())
        .collect();
    String::from_utf8(bytes).unwrap()
}

#[test]
fn a_known_spelling_of_something_fresh_is_answered_and_nothing_else_is() {
    let (store, now) = (store(), Instant::now());
    let hot = hot(&store);
    let answer = |request: &[u8], at| hot.answer(request, "id", present(at));
    put(&store, now);
    assert!(answer(REQUEST, now).is_none(), "not taught");
    hot.learn(&recognise(REQUEST).unwrap(), &key());
    let later = now + Duration::from_secs(10);
    let first = text(&answer(REQUEST, later).unwrap());
    assert_eq!(
        first,
        "HTTP/1.1 200 OK\r\netag: \"1\"\r\nvary: Accept-Encoding\r\naccept-ranges: bytes\r\ncontent-length: 4\r\nconnection: keep-alive\r\n\
         date: Thu, 01 Jan 1970 00:00:00 GMT\r\nage: 13\r\nx-request-id: id\r\n\
         cache-status: gateway; hit; ttl=50\r\n\r\nbody"
    );
    assert_eq!(text(&answer(REQUEST, later).unwrap()), first);
    assert!(answer(b"GET /a?b=1 HTTP/1.1\r\nHost: shop\r\n\r\n", now).is_none());
    assert!(
        answer(REQUEST, now + Duration::from_secs(61)).is_none(),
        "stale"
    );
    store.purge(&[crate::purge::Scope::All]);
    assert!(answer(REQUEST, now).is_none(), "purged");
    assert_eq!(
        store.stats().used_bytes,
        0,
        "prepared heads are on the account too"
    );
}

#[test]
fn other_settings_give_nothing_that_was_learned_or_prepared_under_those_before() {
    let (store, now) = (store(), Instant::now());
    put(&store, now);
    let before = hot(&store);
    before.learn(&recognise(REQUEST).unwrap(), &key());
    let answer = |hot: &Hot| hot.answer(REQUEST, "id", present(now));
    assert!(text(&answer(&before).unwrap()).contains("\r\netag: \"1\"\r\n"));
    let used_bytes = store.stats().used_bytes;
    let finish = Finish {
        strip: vec![http::header::ETAG],
        ..before.finish.clone()
    };
    let after = Hot::new(Arc::clone(&store), finish, vec![Coding::Brotli]);
    assert!(answer(&after).is_none(), "not taught");
    after.learn(&recognise(REQUEST).unwrap(), &key());
    for _ in 0..2 {
        let answer = text(&answer(&after).unwrap());
        assert!(!answer.contains("etag"), "{answer}");
    }
    assert!(
        store.stats().used_bytes < used_bytes,
        "the head of before has gone"
    );
}

#[test]
fn the_date_is_the_origins_and_the_present_only_where_it_stated_none() {
    let (store, now) = (store(), Instant::now());
    let hot = hot(&store);
    hot.learn(&recognise(REQUEST).unwrap(), &key());
    let stated = "Sun, 06 Nov 1994 08:49:37 GMT";
    for (date, told) in [
        (stated, stated),
        (
            "Sunday, 06-Nov-94 08:49:37 GMT",
            "Thu, 01 Jan 1970 00:00:00 GMT",
        ),
    ] {
        let mut headers = HeaderMap::new();
        headers.insert("date", HeaderValue::from_static(date));
        put_with(&store, now, headers, &[]);
        let answer = text(&hot.answer(REQUEST, "id", present(now)).unwrap());
        assert!(
            answer.contains(&format!("\r\ndate: {told}\r\n")),
            "{answer}"
        );
        assert_eq!(answer.matches("\r\ndate: ").count(), 1, "{answer}");
    }
}

#[test]
fn without_a_lease_what_carries_a_group_is_left_to_the_normal_path() {
    let (store, now) = (store(), Instant::now());
    let hot = hot(&store);
    hot.learn(&recognise(REQUEST).unwrap(), &key());
    let unleased = Present {
        is_leased: false,
        ..present(now)
    };
    put(&store, now);
    assert!(hot.answer(REQUEST, "id", unleased).is_some(), "of no group");
    put_with(&store, now, HeaderMap::new(), &["red"]);
    assert!(hot.answer(REQUEST, "id", unleased).is_none());
    assert!(hot.answer(REQUEST, "id", present(now)).is_some());
}

#[test]
fn a_coding_is_given_when_it_is_there_and_asked_for_on_the_normal_path_when_not() {
    let (store, now) = (store(), Instant::now());
    let hot = hot(&store);
    put(&store, now);
    let request = b"GET /a?b=1 HTTP/1.1\r\nHost: Shop\r\nAccept-Encoding: br\r\n\r\n";
    hot.learn(&recognise(request).unwrap(), &key());
    let answer = || hot.answer(request, "id", present(now));
    assert!(answer().is_none());
    let object = store.lookup(&key().hash(), key().as_bytes(), None).unwrap();
    store.keep_encoded(&object, Coding::Brotli, Bytes::from_static(b"br"));
    let given = text(&answer().unwrap());
    assert!(given.contains("etag: \"1-br\"\r\n") && given.contains("content-encoding: br\r\n"));
    assert!(given.contains("content-length: 2\r\n") && given.ends_with("\r\n\r\nbr"));
}

#[test]
fn what_could_change_the_answer_is_not_plain() {
    for line in [
        "Host: other",
        "Range: bytes=0-1",
        "If-None-Match: \"1\"",
        "Cache-Control: no-cache",
        "Pragma: no-cache",
        "Authorization: t",
        "Cookie: a=b",
        "Content-Length: 0",
        "Transfer-Encoding: chunked",
        "Connection: close",
        "Connection: upgrade",
        "Expect: 100-continue",
        "X-Anything: 1",
        "Host : shop",
        " folded: 1",
        "Accept: a\0b",
        "no colon",
    ] {
        let request = format!("GET /a HTTP/1.1\r\nHost: Shop\r\n{line}\r\n\r\n");
        assert_eq!(recognise(request.as_bytes()), None, "{line}");
    }
    for request in [
        "HEAD /a HTTP/1.1\r\nHost: s\r\n\r\n",
        "GET /a HTTP/1.0\r\nHost: s\r\n\r\n",
        "GET http://s/a HTTP/1.1\r\nHost: s\r\n\r\n",
        "GET /a#b HTTP/1.1\r\nHost: s\r\n\r\n",
        "GET /a\u{fc} HTTP/1.1\r\nHost: s\r\n\r\n",
        "GET  /a HTTP/1.1\r\nHost: s\r\n\r\n",
        "GET /a HTTP/1.1\r\n\r\n",
        "GET /a HTTP/1.1\nHost: s\n\n",
        "GET /a HTTP/1.1\r\nHost: s\r\n",
        "GET /a HTTP/1.1\r\nHost: s\r\n\r\nG",
        "\r\nGET /a HTTP/1.1\r\nHost: s\r\n\r\n",
    ] {
        assert_eq!(recognise(request.as_bytes()), None, "{request:?}");
    }
}

proptest! {
    #[test]
    fn a_plain_request_is_all_of_its_bytes(
        target in "/[!-~]{0,40}",
        host in "[a-z.:0-9]{1,20}",
        odd in proptest::option::of("[ -~]{1,30}"),
        cut in 0_usize..400,
    ) {
        let line = odd.as_ref().map_or(String::new(), |odd| format!("{odd}\r\n"));
        let request = format!("GET {target} HTTP/1.1\r\nHost: {host}\r\n{line}\r\n");
        if let Some(plain) = recognise(request.as_bytes()) {
            prop_assert_eq!(plain.target, target.as_bytes());
            prop_assert_eq!(plain.host, host.as_bytes());
        } else {
            prop_assert!(target.contains('#') || odd.is_some());
        }
        let part = &request.as_bytes()[..cut.min(request.len() - 1)];
        prop_assert_eq!(recognise(part), None);
    }
}
