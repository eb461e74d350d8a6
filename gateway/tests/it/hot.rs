//! What is prepared for the hot path is what the normal path answers.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use bytes::Bytes;
use gateway::hot::{Finish, Hot, recognise};
use gateway::policy::key::Key;
use gateway::store::{Freshness, Head, Limits, NewFill, Store};
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode};

use crate::support::{FakeOrigin, Gateway, Reply, get};

const FIELDS: [(&str, &str); 6] = [
    ("cache-control", "max-age=3600"),
    ("content-type", "application/json"),
    ("etag", "\"v1\""),
    ("last-modified", "Thu, 01 Jan 2026 00:00:00 GMT"),
    ("vary", "Accept-Encoding"),
    ("x-of-the-origin", "1"),
];
const BODY: &str = "{\"a\": 1}";
/// Differ from answer to answer.
const VARIABLE: [&str; 3] = ["date", "x-request-id", "cache-status"];

type Fields = BTreeMap<String, String>;

fn hot_answer() -> (Fields, String) {
    let store = Store::new(Limits {
        budget_bytes: 1 << 20,
        object_bytes_max: 1 << 20,
        variants_max: 8,
        shards: 1,
    });
    let key = Arc::new(Key::new("http", "shop.test", "/doc", None));
    let now = Instant::now();
    let mut headers = HeaderMap::new();
    headers.insert("content-length", HeaderValue::from(BODY.len()));
    for (name, value) in FIELDS {
        headers.append(
            HeaderName::from_static(name),
            HeaderValue::from_static(value),
        );
    }
    let mut writer = store.begin_fill(NewFill {
        key: Arc::clone(&key),
        variance: None,
        head: Head {
            status: StatusCode::OK,
            headers,
        },
        freshness: Freshness {
            stored_at: now,
            initial_age: Duration::ZERO,
            fresh_for: Duration::from_secs(3_600),
            stale_while_revalidate: Duration::ZERO,
            stale_if_error: Duration::ZERO,
            must_revalidate: false,
        },
        tags: Vec::new(),
        began: store.sequence(),
        encodable: false,
    });
    writer
        .write(Bytes::from_static(BODY.as_bytes()))
        .expect("room");
    writer.finish();
    let finish = Finish {
        cache_status: "gateway; hit; ttl=".to_owned(),
        strip: Vec::new(),
        every: Vec::new(),
    };
    let hot = Hot::new(store, finish, Vec::new());
    let request = b"GET /doc HTTP/1.1\r\nHost: shop.test\r\n\r\n";
    hot.learn(&recognise(request).expect("a plain request"), &key);
    let ready = hot.answer(request, "id", now, SystemTime::now());
    let ready = ready.expect("an answer");
    let bytes: Vec<u8> = ready
        .slices()
        .iter()
        .flat_map(|slice| slice.to_vec())
        .collect();
    let text = String::from_utf8(bytes).expect("text");
    let (head, body) = text.split_once("\r\n\r\n").expect("a head and a body");
    let fields = head
        .lines()
        .skip(1)
        .filter_map(|line| line.split_once(": "));
    let fields = fields.map(|(name, value)| (name.to_owned(), value.to_owned()));
    (fields.collect(), body.to_owned())
}

#[tokio::test]
async fn a_prepared_answer_has_the_fields_and_the_body_of_a_hit() {
    let origin = FakeOrigin::start(|_| {
        let fields = FIELDS.iter();
        fields.fold(Reply::new(200, BODY), |reply, (name, value)| {
            reply.header(name, value)
        })
    })
    .await;
    let gateway = Gateway::general(&[&origin]).await;
    gateway.client().get("/doc").await;
    let normal = gateway.client().send(&get("/doc")).await;
    assert!(normal.is_hit());
    let (mut hot, body) = hot_answer();
    let mut expected: Fields = normal.headers.iter().cloned().collect();
    let status = "gateway; hit; ttl=3";
    for fields in [&mut hot, &mut expected] {
        assert!(fields["cache-status"].starts_with(status), "{fields:?}");
        fields.insert("age".to_owned(), "0".to_owned());
        for name in VARIABLE {
            assert!(fields.remove(name).is_some(), "{name} in {fields:?}");
        }
    }
    assert_eq!(hot, expected);
    assert_eq!(body, normal.text());
}
