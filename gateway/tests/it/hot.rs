//! Whatever the hot path takes, it answers as the normal path does: same status, fields and body.
//!
//! Both have the same documents: the gateway from a scripted origin, the hot path in a store of its own, kept by the same
//! rules. Requests are made up from every part that could change an answer.

mod documents;
mod requests;

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Instant, SystemTime};

use bytes::Bytes;
use gateway::config::Config;
use gateway::hot::{Finish, Hot, Plain, recognise};
use gateway::policy::encoding::EncodingRules;
use gateway::policy::groups::TagLimits;
use gateway::policy::key::{Key, canonical_host};
use gateway::policy::storable::{self, Decision, Exchange, Rules};
use gateway::policy::vary::{self, VaryRules};
use gateway::site::Site;
use gateway::store::{Freshness, Head, Limits, NewFill, Store};
use http::{HeaderMap, HeaderName, Method, StatusCode};
use parking_lot::Mutex;
use proptest::prelude::*;
use proptest::test_runner::{Config as Runs, TestRunner};

use crate::support::{Client, FakeOrigin, Gateway, Reply, get, until};
use documents::{DOCUMENTS, Document};
use requests::{HARMLESS, HOSTS, SPELLINGS, TELLING, requests};

/// Requests that are made up.
const CASES: u32 = 4_000;
/// Seconds by which the ages of the two copies may differ.
const SECONDS_APART: i64 = 5;

/// The hot path over its own copy of the documents.
struct Copy {
    hot: Hot,
    store: Arc<Store>,
    site: Site,
    rules: Rules,
    encodings: EncodingRules,
}

impl Copy {
    fn new() -> Self {
        let config = Config::default();
        let cache = &config.cache;
        let store = Store::new(Limits {
            budget_bytes: 16 << 20,
            object_bytes_max: 4 << 20,
            variants_max: 8,
            shards: 1,
        });
        let stripped = [
            "cdn-cache-control",
            "surrogate-control",
            "cache-groups",
            "cache-group-invalidation",
            "surrogate-key",
            "cache-tag",
        ];
        let finish = Finish {
            cache_status: format!("{}; hit; ttl=", cache.name),
            strip: stripped.map(HeaderName::from_static).to_vec(),
            every: Vec::new(),
        };
        Self {
            hot: Hot::new(Arc::clone(&store), finish, cache.encodings.clone()),
            store,
            site: Site::new(&config).expect("a site"),
            rules: Rules {
                targeted: cache.targeted.clone(),
                marked_only: cache.marked_only,
                heuristic_max: Some(cache.heuristic_max),
                fresh_max: cache.fresh_max,
                stale_while_revalidate: cache.stale_while_revalidate,
                stale_if_error: cache.stale_if_error,
                store_set_cookie: cache.store_set_cookie,
                obey_request: true,
                vary: VaryRules::default(),
                tags: TagLimits::default(),
            },
            encodings: EncodingRules {
                codings: cache.encodings.clone(),
                bytes_min: cache.encode_min.as_usize(),
                targeted: cache.targeted.clone(),
            },
        }
    }

    /// The key that the normal path has for a spelling.
    fn key(&self, host: &str, target: &str) -> Option<Key> {
        let (path, query) = match target.split_once('?') {
            Some((path, query)) => (path, Some(query)),
            None => (target, None),
        };
        let target = self.site.resolve(path, query).ok()?;
        let host = canonical_host("http", host).ok()?;
        Some(Key::new(
            "http",
            &host,
            &target.path,
            target.query.as_deref(),
        ))
    }

    /// Keeps what the normal path keeps, on its terms.
    fn keep(&self, document: &Document) {
        let (header, now) = (document.header(), SystemTime::now());
        let request = HeaderMap::new();
        let exchange = Exchange {
            method: &Method::GET,
            request: &request,
            status: StatusCode::from_u16(document.status).expect("a status"),
            response: &header,
            request_time: now,
            response_time: now,
        };
        let Decision::Store(lifetime) = storable::decide(&exchange, &self.rules) else {
            panic!("{} is to be kept", document.target);
        };
        let mut kept = header.clone();
        for name in &lifetime.omit {
            kept.remove(name);
        }
        let key = self.key(HOSTS[0], document.target).expect("a key");
        let mut writer = self.store.begin_fill(NewFill {
            key: Arc::new(key),
            variance: vary::variance(&lifetime.vary, &request),
            head: Head {
                status: exchange.status,
                headers: kept,
            },
            freshness: Freshness {
                stored_at: Instant::now(),
                initial_age: lifetime.initial_age,
                fresh_for: lifetime.fresh,
                stale_while_revalidate: lifetime.stale_while_revalidate,
                stale_if_error: lifetime.stale_if_error,
                must_revalidate: lifetime.must_revalidate,
            },
            tags: lifetime.tags,
            began: self.store.sequence(),
            encodable: self.encodings.allows(exchange.status, &header),
        });
        for piece in document.content().chunks(16 * 1024) {
            writer.write(Bytes::copy_from_slice(piece)).expect("room");
        }
        assert!(writer.finish() > 0, "{} is kept", document.target);
    }

    /// Takes over the encoded bodies that the gateway makes of a document.
    async fn encode(&self, document: &Document, client: Client) {
        let key = self.key(HOSTS[0], document.target).expect("a key");
        let object = self.store.lookup(&key.hash(), key.as_bytes(), None);
        let object = object.expect("kept");
        if !object.is_encodable() || document.content().len() < self.encodings.bytes_min {
            return;
        }
        for coding in &self.encodings.codings {
            let request = get(document.target).header("Accept-Encoding", coding.as_str());
            let made = Mutex::new(None);
            until("the gateway has encoded it", || async {
                let answer = client.send(&request).await;
                let is_made = answer.header("content-encoding") == Some(coding.as_str());
                *made.lock() = is_made.then_some(answer.body);
                is_made
            })
            .await;
            let body = made.into_inner().expect("an encoded body");
            assert!(self.store.keep_encoded(&object, *coding, body));
        }
    }

    /// Teaches a spelling of host and target.
    fn learn(&self, host: &str, target: &str) {
        if let Some(key) = self.key(host, target) {
            let plain = Plain {
                host: host.as_bytes(),
                target: target.as_bytes(),
                accepted: None,
            };
            self.hot.learn(&plain, &Arc::new(key));
        }
    }

    fn answer(&self, request: &[u8]) -> Option<Told> {
        let ready = self
            .hot
            .answer(request, "id", Instant::now(), SystemTime::now())?;
        let slices = ready.slices();
        let bytes: Vec<u8> = slices.iter().flat_map(|slice| slice.to_vec()).collect();
        let end = bytes.windows(4).position(|four| four == b"\r\n\r\n");
        let (head, body) = bytes.split_at(end.expect("the end of a head") + 4);
        let head = String::from_utf8(head.to_vec()).expect("text");
        let mut lines = head.trim_end().split("\r\n");
        let start = lines.next().expect("a status line");
        let fields = lines.map(|line| line.split_once(": ").expect("a field"));
        let fields: Vec<_> = fields
            .map(|(name, value)| (name.to_owned(), value.trim().to_owned()))
            .collect();
        let status = start.split(' ').nth(1).expect("a status");
        Some(Told::new(status.parse().expect("a number"), &fields, body))
    }
}

/// An answer without what differs from one answer to the next.
#[derive(Debug, PartialEq, Eq)]
struct Told {
    status: u16,
    fields: BTreeSet<(String, String)>,
    body: Vec<u8>,
    /// `Age`, and the time to live.
    seconds: [i64; 2],
}

impl Told {
    fn new(status: u16, fields: &[(String, String)], body: &[u8]) -> Self {
        let mut told = Self {
            status,
            fields: BTreeSet::new(),
            body: body.to_vec(),
            seconds: [-1, -1],
        };
        for (name, value) in fields {
            let value = match name.as_str() {
                "date" | "x-request-id" => String::new(), // there, whatever it is
                "age" => {
                    told.seconds[0] = value.parse().expect("an age");
                    String::new()
                }
                "cache-status" => match value.split_once("; ttl=") {
                    Some((how, ttl)) => {
                        told.seconds[1] = ttl.parse().unwrap_or(-1);
                        how.to_owned()
                    }
                    None => value.clone(),
                },
                _ => value.clone(),
            };
            told.fields.insert((name.clone(), value));
        }
        told
    }

    fn is_like(&self, other: &Self) -> bool {
        let mut seconds = self.seconds.iter().zip(&other.seconds);
        (self.status, &self.fields, &self.body) == (other.status, &other.fields, &other.body)
            && seconds.all(|(one, two)| *one >= 0 && (one - two).abs() <= SECONDS_APART)
    }
}

async fn filled() -> (Copy, FakeOrigin, Gateway) {
    let origin = FakeOrigin::start(|request| {
        let known = DOCUMENTS.iter();
        known
            .filter(|document| {
                document.target.split('?').next() == request.target.split('?').next()
            })
            .map(Document::reply)
            .next()
            .unwrap_or_else(|| Reply::new(404, "").header("Cache-Control", "no-store"))
    })
    .await;
    let gateway = Gateway::general(&[&origin]).await;
    let copy = Copy::new();
    for document in &DOCUMENTS {
        gateway.client().get(document.target).await;
        copy.keep(document);
    }
    for document in &DOCUMENTS {
        copy.encode(document, gateway.client()).await;
    }
    let targets = DOCUMENTS.iter().map(|document| document.target);
    for target in targets.chain(SPELLINGS) {
        for host in HOSTS {
            copy.learn(host, target);
        }
    }
    (copy, origin, gateway)
}

#[test]
fn whatever_the_hot_path_takes_it_answers_as_the_normal_path_does() {
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    let (copy, _origin, gateway) = runtime.block_on(filled());
    let taken = AtomicUsize::new(0);
    let targets = Mutex::new(BTreeSet::new());
    let mut runner = TestRunner::new(Runs::with_cases(CASES));
    let outcome = runner.run(&requests(), |request| {
        let Some(hot) = copy.answer(&request) else {
            return Ok(());
        };
        taken.fetch_add(1, Ordering::Relaxed);
        let plain = recognise(&request).expect("a plain request");
        targets.lock().insert(plain.target.to_vec());
        let normal = runtime.block_on(async {
            let mut connection = gateway.client().connect().await;
            connection.write_bytes(&request).await;
            connection.answer(&get("/")).await
        });
        let normal = Told::new(normal.status, &normal.headers, &normal.body);
        prop_assert!(
            hot.is_like(&normal),
            "{}\nhot: {:?} {:?}\nnormal: {:?} {:?}",
            String::from_utf8_lossy(&request),
            hot.fields,
            hot.seconds,
            normal.fields,
            normal.seconds
        );
        Ok(())
    });
    if let Err(error) = outcome {
        panic!("{error}");
    }
    let (taken, targets) = (taken.into_inner(), targets.into_inner().len());
    assert!(taken > CASES as usize / 5, "only {taken} were taken");
    assert!(targets > DOCUMENTS.len() / 2, "of {targets} targets only");
}

#[test]
fn every_single_field_that_could_tell_is_left_to_the_normal_path_or_makes_no_difference() {
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    let (copy, _origin, gateway) = runtime.block_on(filled());
    let mut taken = 0;
    for document in &DOCUMENTS {
        for field in HARMLESS.iter().chain(&TELLING) {
            let target = document.target;
            let request = format!("GET {target} HTTP/1.1\r\nHost: shop.test\r\n{field}\r\n\r\n");
            let Some(hot) = copy.answer(request.as_bytes()) else {
                continue;
            };
            taken += 1;
            let normal = runtime.block_on(async {
                let mut connection = gateway.client().connect().await;
                connection.write_bytes(request.as_bytes()).await;
                connection.answer(&get("/")).await
            });
            let normal = Told::new(normal.status, &normal.headers, &normal.body);
            assert!(hot.is_like(&normal), "{request}{hot:?}\n{normal:?}");
        }
    }
    assert!(taken > 100, "only {taken} were taken");
}
