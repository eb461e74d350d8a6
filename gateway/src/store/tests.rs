use std::time::{Duration, Instant};

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, StatusCode};

use super::*;
use crate::policy::freshness::Left;
use crate::policy::vary::Coding;
use crate::purge::Mode;

const HOST: &str = "shop";

fn key(path: &str) -> Arc<Key> {
    Arc::new(Key::new("http", HOST, path, None))
}

fn head(etag: &str) -> Head {
    let mut headers = HeaderMap::new();
    headers.insert("etag", HeaderValue::from_str(etag).unwrap());
    Head {
        status: StatusCode::OK,
        headers,
    }
}

fn fresh() -> Freshness {
    Freshness {
        stored_at: Instant::now(),
        initial_age: Duration::ZERO,
        fresh_for: Duration::from_secs(60),
        stale_while_revalidate: Duration::ZERO,
        stale_if_error: Duration::ZERO,
        must_revalidate: false,
    }
}

fn new_fill(store: &Store, path: &str, tags: &[&str]) -> NewFill {
    NewFill {
        key: key(path),
        variance: None,
        head: head("\"a\""),
        freshness: fresh(),
        tags: tags.iter().map(|tag| Box::from(*tag)).collect(),
        began: store.sequence(),
        encodable: true,
    }
}

fn renewed(stored: &Object, etag: &str) -> Renewed {
    Renewed {
        head: head(etag),
        freshness: fresh(),
        tags: stored.tags.to_vec(),
        encodable: true,
    }
}

fn store_of(budget_bytes: usize) -> Arc<Store> {
    Store::new(Limits {
        budget_bytes,
        object_bytes_max: 1 << 20,
        variants_max: 8,
        shards: 1,
    })
}

fn put(store: &Arc<Store>, path: &str, tags: &[&str], body: &[u8]) -> usize {
    let mut writer = store.begin_fill(new_fill(store, path, tags));
    writer.write(Bytes::copy_from_slice(body)).unwrap();
    writer.finish()
}

fn find(store: &Store, path: &str) -> Option<Arc<Object>> {
    let key = key(path);
    store.lookup(&key.hash(), key.as_bytes(), None)
}

async fn read(mut reader: BodyReader) -> Result<Vec<u8>, FillFailed> {
    let mut body = Vec::new();
    while let Some(piece) = reader.next().await? {
        body.extend_from_slice(&piece);
    }
    Ok(body)
}

#[tokio::test]
async fn a_large_body_in_another_coding_is_read_in_pieces() {
    let body: Bytes = (0..=250).cycle().take(200_000).collect();
    let mut reader = BodyReader::of_one_piece(body.clone());
    let (mut read, mut largest) = (Vec::new(), 0);
    while let Some(piece) = reader.next().await.unwrap() {
        largest = largest.max(piece.len());
        read.extend_from_slice(&piece);
    }
    assert_eq!((read, largest), (body.to_vec(), 64 * 1024));
    let mut empty = BodyReader::of_one_piece(Bytes::new());
    assert_eq!(empty.next().await, Ok(None));
}

#[tokio::test]
async fn what_was_stored_is_found_and_reads_back_byte_for_byte() {
    let store = store_of(1 << 20);
    assert!(put(&store, "/a", &[], b"hello") > 5);
    let found = find(&store, "/a").unwrap();
    assert_eq!(read(BodyReader::new(&found)).await.unwrap(), b"hello");
    assert!(find(&store, "/b").is_none());
}

#[tokio::test]
async fn a_reader_joins_a_fill_and_gets_what_came_before_and_what_comes_after() {
    let store = store_of(1 << 20);
    let mut writer = store.begin_fill(new_fill(&store, "/a", &[]));
    writer.write(Bytes::from_static(b"one ")).unwrap();
    let joined = tokio::spawn(read(BodyReader::new(&find(&store, "/a").unwrap())));
    writer.write(Bytes::from_static(b"two")).unwrap();
    writer.finish();
    assert_eq!(joined.await.unwrap().unwrap(), b"one two");
}

#[tokio::test]
async fn a_fill_that_breaks_off_fails_its_readers_and_is_forgotten() {
    let store = store_of(1 << 20);
    let mut writer = store.begin_fill(new_fill(&store, "/a", &[]));
    writer.write(Bytes::from_static(b"one ")).unwrap();
    let reader = BodyReader::new(&find(&store, "/a").unwrap());
    drop(writer);
    assert_eq!(read(reader).await, Err(FillFailed::Broken));
    assert!(find(&store, "/a").is_none());
    assert_eq!(store.stats().used_bytes, 0);
}

#[tokio::test]
async fn small_pieces_are_read_as_they_come_and_kept_in_blocks_that_are_paid_for() {
    let store = store_of(1 << 22);
    let body: Vec<u8> = (0..200_000u32).map(|n| (n / 3) as u8).collect();
    let mut writer = store.begin_fill(new_fill(&store, "/a", &[]));
    let mut first = BodyReader::new(writer.object());
    let mut read_first = Vec::new();
    let mut late = None;
    for (count, piece) in body.chunks(8).enumerate() {
        writer.write(Bytes::copy_from_slice(piece)).unwrap();
        let next = first.next().await.unwrap().unwrap();
        assert_eq!(next, piece, "not held back");
        read_first.extend_from_slice(&next);
        if count == 5_000 {
            late = Some(BodyReader::new(writer.object()));
        }
    }
    let charged = store.stats().used_bytes;
    writer.finish();
    assert_eq!(first.next().await, Ok(None));
    assert_eq!(read_first, body);
    assert_eq!(read(late.unwrap()).await.unwrap(), body);
    let found = find(&store, "/a").unwrap();
    let Body::Complete(blocks) = &found.body else {
        panic!("it is complete");
    };
    assert!(
        blocks.len() <= body.len() / (16 * 1024) + 1,
        "{}",
        blocks.len()
    );
    let lengths: usize = blocks.iter().map(Bytes::len).sum();
    assert_eq!(lengths, body.len());
    let places = blocks.len() * size_of::<Bytes>();
    assert!(charged >= body.len() + places && found.cost() >= body.len() + places);
    assert_eq!(read(BodyReader::new(&found)).await.unwrap(), body);
}

#[tokio::test]
async fn small_pieces_of_a_body_that_is_not_kept_pass_through_in_order() {
    let store = store_of(1 << 12);
    let body: Vec<u8> = (0..100_000u32).map(|n| (n / 5) as u8).collect();
    let mut writer = store.begin_fill(new_fill(&store, "/a", &[]));
    let mut reader = BodyReader::new(writer.object());
    let mut got = Vec::new();
    for (count, piece) in body.chunks(70).enumerate() {
        writer.write(Bytes::copy_from_slice(piece)).unwrap();
        if count % 7 == 0 {
            got.extend_from_slice(&reader.next().await.unwrap().unwrap());
        }
    }
    assert_eq!(writer.finish(), 0, "there is no room for it");
    while let Some(piece) = reader.next().await.unwrap() {
        got.extend_from_slice(&piece);
    }
    assert_eq!(got, body);
    assert_eq!(store.stats().used_bytes, 0);
}

#[tokio::test]
async fn a_range_of_a_body_in_several_pieces_is_exact() {
    let store = store_of(1 << 22);
    let body: Vec<u8> = (0..200_000u32).map(|n| n as u8).collect();
    let mut writer = store.begin_fill(new_fill(&store, "/a", &[]));
    for piece in body.chunks(30_000) {
        writer.write(Bytes::copy_from_slice(piece)).unwrap();
    }
    writer.finish();
    let found = find(&store, "/a").unwrap();
    for (start, end) in [
        (0, 1),
        (29_999, 30_001),
        (60_000, 199_999),
        (199_999, 200_000),
        (5, 5),
    ] {
        let mut reader = BodyReader::new(&found);
        reader.seek(start, Some(end));
        assert_eq!(
            read(reader).await.unwrap(),
            &body[start..end],
            "{start}..{end}"
        );
    }
}

#[test]
fn a_purged_group_takes_its_entries_and_no_others() {
    let store = store_of(1 << 20);
    put(&store, "/a", &["red", "blue"], b"a");
    put(&store, "/b", &["red"], b"b");
    put(&store, "/c", &["blue"], b"c");
    let purged = store.purge(&[Scope::Tag("red")]);
    assert_eq!((purged.sequence, purged.objects), (1, 2));
    assert!(find(&store, "/a").is_none() && find(&store, "/b").is_none());
    assert!(find(&store, "/c").is_some());
    assert_eq!(store.stats().tags, 1);
}

#[test]
fn a_purge_by_key_or_path_or_everything_removes_all_variants() {
    let store = store_of(1 << 20);
    let scopes = [
        Scope::Key(key("/a").hash()),
        Scope::Path("/a", None),
        Scope::All,
    ];
    for scope in scopes {
        for variant in 0..3 {
            let fill = NewFill {
                variance: Some([variant; 16]),
                ..new_fill(&store, "/a", &[])
            };
            store.begin_fill(fill).finish();
        }
        assert_eq!(store.stats().objects, 3);
        assert_eq!(store.purge(&[scope]).objects, 3, "{scope:?}");
        assert_eq!(store.stats().used_bytes, 0);
    }
}

#[tokio::test]
async fn a_fill_that_a_purge_overtakes_serves_its_reader_and_is_never_found_again() {
    let store = store_of(1 << 20);
    let mut writer = store.begin_fill(new_fill(&store, "/a", &["red"]));
    writer.write(Bytes::from_static(b"old")).unwrap();
    let before = BodyReader::new(&find(&store, "/a").unwrap());
    store.purge(&[Scope::Tag("red")]);
    assert!(find(&store, "/a").is_none(), "hidden while it fills");
    assert_eq!(writer.finish(), 0);
    assert!(find(&store, "/a").is_none(), "hidden when it is complete");
    assert_eq!(read(before).await.unwrap(), b"old");
    assert_eq!(store.stats().used_bytes, 0);
}

#[test]
fn a_purge_between_the_origin_request_and_its_answer_refuses_the_fill() {
    let store = store_of(1 << 20);
    let fill = new_fill(&store, "/a", &["red"]);
    store.purge(&[Scope::Tag("red")]);
    assert_eq!(store.begin_fill(fill).finish(), 0);
    assert!(find(&store, "/a").is_none());
    assert!(
        put(&store, "/a", &["red"], b"new") > 0,
        "a fill begun after the purge is kept"
    );
}

#[test]
fn a_fill_never_replaces_one_that_began_after_a_later_purge() {
    let store = store_of(1 << 20);
    let older = new_fill(&store, "/a", &[]);
    store.purge(&[Scope::Tag("unrelated")]);
    put(&store, "/a", &[], b"newer");
    assert_eq!(store.begin_fill(older).finish(), 0);
    assert_eq!(find(&store, "/a").unwrap().body.len(), 5);
}

#[test]
fn a_validation_that_a_purge_overtakes_changes_nothing() {
    let store = store_of(1 << 20);
    put(&store, "/a", &["red"], b"a");
    let stored = find(&store, "/a").unwrap();
    let began = store.sequence();
    assert!(store.refresh(&stored, renewed(&stored, "\"b\""), began));
    assert_eq!(find(&store, "/a").unwrap().head.headers["etag"], "\"b\"");
    let stored = find(&store, "/a").unwrap();
    store.purge(&[Scope::Tag("red")]);
    assert!(!store.refresh(&stored, renewed(&stored, "\"c\""), began));
    assert!(find(&store, "/a").is_none());
}

#[test]
fn a_validation_puts_an_entry_under_the_groups_that_it_names() {
    let store = store_of(1 << 20);
    put(&store, "/a", &["red", "blue"], b"a");
    put(&store, "/b", &["red", "blue"], b"b");
    let tagged = |stored: &Object, tags: &[&str]| Renewed {
        tags: tags.iter().map(|tag| Box::from(*tag)).collect(),
        ..renewed(stored, "\"a\"")
    };
    let stored = find(&store, "/a").unwrap();
    assert!(store.refresh(
        &stored,
        tagged(&stored, &["blue", "green"]),
        store.sequence()
    ));
    assert_eq!(store.stats().tags, 3);
    assert_eq!(store.purge(&[Scope::Tag("red")]).objects, 1);
    assert!(find(&store, "/a").is_some() && find(&store, "/b").is_none());
    assert_eq!(store.purge(&[Scope::Tag("green")]).objects, 1);
    drop(stored);
    assert_eq!((store.stats().tags, store.stats().used_bytes), (0, 0));
}

#[test]
fn a_validation_that_a_purge_of_its_old_or_new_groups_overtakes_changes_nothing() {
    for purged in ["red", "green"] {
        let store = store_of(1 << 20);
        put(&store, "/a", &["red"], b"a");
        let stored = find(&store, "/a").unwrap();
        let began = store.sequence();
        let mode = Mode::Soft { at: Instant::now() };
        let scopes = &[Scope::Tag(purged)];
        let order = Order {
            scopes,
            mode,
            hottest: 0,
        };
        store.begin_purge(&order).finish();
        let renewed = Renewed {
            tags: vec!["green".into()],
            ..renewed(&stored, "\"b\"")
        };
        assert!(!store.refresh(&stored, renewed, began), "{purged}");
        assert_eq!(&*find(&store, "/a").unwrap().tags[0], "red");
    }
}

#[test]
fn a_kept_head_does_not_keep_what_was_read_with_it() {
    let store = store_of(1 << 20);
    let read = Bytes::from(vec![b'a'; 100_000]);
    let mut new = new_fill(&store, "/a", &[]);
    let value = HeaderValue::from_maybe_shared(read.slice(..3)).unwrap();
    new.head.headers.insert("foo", value);
    store.begin_fill(new).finish();
    let stored = find(&store, "/a").unwrap();
    assert_eq!(stored.head.headers["foo"], "aaa");
    let all = read.as_ptr_range();
    assert!(!all.contains(&stored.head.headers["foo"].as_bytes().as_ptr()));
}

#[test]
fn an_encoded_body_is_on_the_account_and_goes_with_its_entry() {
    let store = store_of(1 << 20);
    put(&store, "/a", &["red"], b"plain");
    let alone = store.stats().used_bytes;
    let stored = find(&store, "/a").unwrap();
    assert!(stored.is_encodable() && stored.encoded(Coding::Brotli).is_none());
    assert!(store.keep_encoded(&stored, Coding::Brotli, Bytes::from_static(b"br")));
    assert!(store.stats().used_bytes > alone + 2);
    assert_eq!(stored.encoded(Coding::Brotli).unwrap(), "br");
    assert!(stored.encoded(Coding::Gzip).is_none());
    // A validation leaves the body as it is, and so what was made of it.
    assert!(store.refresh(&stored, renewed(&stored, "\"b\""), store.sequence()));
    let validated = find(&store, "/a").unwrap();
    assert_eq!(validated.encoded(Coding::Brotli).unwrap(), "br");
    drop(stored);
    let purged = store.purge(&[Scope::Tag("red")]);
    assert_eq!(purged.bytes, store.stats().used_bytes);
    assert!(!store.keep_encoded(&validated, Coding::Gzip, Bytes::from_static(b"gz")));
    drop(validated);
    assert_eq!(store.stats().used_bytes, 0);
}

#[test]
fn entries_with_encoded_bodies_are_evicted_within_the_budget() {
    let store = store_of(64 << 10);
    for number in 0..200 {
        let path = format!("/{number}");
        put(&store, &path, &[], &[b'x'; 1_000]);
        if let Some(stored) = find(&store, &path) {
            store.keep_encoded(&stored, Coding::Zstd, Bytes::from(vec![b'z'; 700]));
        }
        assert!(store.stats().used_bytes <= 64 << 10);
    }
    assert!(store.stats().evictions > 0);
    store.purge(&[Scope::All]);
    assert_eq!(store.stats().used_bytes, 0);
}

#[test]
fn a_coding_is_made_once_and_from_the_second_hit_that_wants_it() {
    let store = store_of(1 << 20);
    put(&store, "/a", &[], b"plain");
    let stored = find(&store, "/a").unwrap();
    assert!(!stored.wants(Coding::Brotli));
    assert!(stored.wants(Coding::Brotli));
    assert!(!stored.wants(Coding::Brotli));
    assert!(stored.wants(Coding::Gzip));
    stored.wants_later(Coding::Brotli);
    assert!(stored.wants(Coding::Brotli));
}

#[test]
fn a_body_over_the_object_limit_passes_through_and_is_not_kept() {
    let store = Store::new(Limits {
        budget_bytes: 1 << 20,
        object_bytes_max: 10,
        variants_max: 8,
        shards: 1,
    });
    assert_eq!(put(&store, "/a", &[], &[0; 11]), 0);
    assert!(find(&store, "/a").is_none());
    assert!(put(&store, "/a", &[], &[0; 10]) > 0);
}

#[test]
fn an_unkept_body_ends_when_its_last_reader_falls_too_far_behind() {
    let store = store_of(1 << 20);
    let mut writer = store.begin_fill(new_fill(&store, "/a", &[]));
    let _stuck = BodyReader::new(writer.object());
    let piece = Bytes::from(vec![0; 1 << 20]);
    let failed = (0..9).find_map(|_| writer.write(piece.clone()).err());
    assert_eq!(failed, Some(FillFailed::Backlog));
}

#[tokio::test]
async fn a_reader_that_falls_too_far_behind_an_unkept_body_is_given_up_alone() {
    let store = store_of(4 << 20);
    let mut writer = store.begin_fill(new_fill(&store, "/a", &[]));
    let slow = BodyReader::new(writer.object());
    let mut fast = BodyReader::new(writer.object());
    let piece = Bytes::from(vec![0; 1 << 20]);
    let mut read_bytes = 0;
    for _ in 0..12 {
        writer.write(piece.clone()).unwrap();
        read_bytes += fast.next().await.unwrap().unwrap().len();
    }
    assert_eq!(writer.unkept(), Some(Unkept::TooLarge));
    writer.finish();
    assert_eq!(fast.next().await, Ok(None));
    assert_eq!(read_bytes, 12 << 20);
    assert_eq!(read(slow).await, Err(FillFailed::Backlog));
}

#[test]
fn the_oldest_entries_seen_once_make_room_and_those_read_again_stay() {
    let store = store_of(200_000);
    put(&store, "/hot", &[], &[0; 4_000]);
    for n in 0..200 {
        for _ in 0..2 {
            assert!(find(&store, "/hot").is_some(), "evicted at {n}");
        }
        put(&store, &format!("/{n}"), &[], &[0; 4_000]);
        assert!(store.stats().used_bytes <= 200_000);
    }
    assert!(store.stats().evictions > 100);
    assert!(find(&store, "/199").is_some());
}

#[test]
fn a_body_that_is_being_read_is_paid_for_until_its_reader_has_gone() {
    let store = store_of(1 << 20);
    put(&store, "/a", &[], &[0; 1_000]);
    let reader = find(&store, "/a").unwrap();
    store.purge(&[Scope::All]);
    assert!(store.stats().used_bytes > 1_000);
    drop(reader);
    assert_eq!(store.stats().used_bytes, 0);
}

#[test]
fn a_soft_purge_ends_freshness_once_and_keeps_the_stale_windows() {
    let store = store_of(1 << 20);
    put(&store, "/a", &["red"], b"a");
    let stored_at = find(&store, "/a").unwrap().freshness().stored_at;
    let soft = |seconds| {
        let at = stored_at + Duration::from_secs(seconds);
        let order = Order {
            scopes: &[Scope::Tag("red"), Scope::Path("/a", None)],
            mode: Mode::Soft { at },
            hottest: 0,
        };
        store.begin_purge(&order).finish()
    };
    let purged = soft(10);
    assert_eq!((purged.sequence, purged.objects), (1, 1), "counted once");
    soft(20);
    let found = find(&store, "/a").unwrap();
    let left = found.freshness().left(stored_at + Duration::from_secs(30));
    assert_eq!(
        left,
        Left::Stale(Duration::from_secs(20)),
        "the first one counts"
    );
    assert_eq!(found.expired().unwrap().sequence, 1);
}

#[test]
fn a_fill_that_a_soft_purge_overtakes_is_not_kept() {
    let store = store_of(1 << 20);
    let soft = Mode::Soft { at: Instant::now() };
    let order = Order {
        scopes: &[Scope::Tag("red")],
        mode: soft,
        hottest: 0,
    };
    let writer = store.begin_fill(new_fill(&store, "/a", &["red"]));
    let asked = new_fill(&store, "/b", &["red"]);
    assert_eq!(store.begin_purge(&order).finish().objects, 1);
    assert_eq!(writer.finish(), 0);
    assert_eq!(store.begin_fill(asked).finish(), 0);
    assert!(find(&store, "/a").is_none() && find(&store, "/b").is_none());
}

#[test]
fn a_validation_after_a_soft_purge_makes_fresh_again_and_one_before_it_does_not() {
    let store = store_of(1 << 20);
    put(&store, "/a", &["red"], b"a");
    let began = store.sequence();
    let order = Order {
        scopes: &[Scope::Tag("red")],
        mode: Mode::Soft { at: Instant::now() },
        hottest: 0,
    };
    store.begin_purge(&order).finish();
    let stale = find(&store, "/a").unwrap();
    assert!(!store.refresh(&stale, renewed(&stale, "\"a\""), began));
    assert!(store.refresh(&stale, renewed(&stale, "\"a\""), store.sequence()));
    assert_eq!(find(&store, "/a").unwrap().expired(), None);
}

#[test]
fn the_hottest_of_what_was_purged_are_told_in_order() {
    let store = store_of(1 << 22);
    for n in 0..500 {
        put(&store, &format!("/{n}"), &["red"], b"a");
        for _ in 0..n % 100 {
            find(&store, &format!("/{n}"));
        }
    }
    let order = Order {
        scopes: &[Scope::Tag("red")],
        mode: Mode::Hard,
        hottest: 5,
    };
    let purged = store.begin_purge(&order).finish();
    let mut hottest: Vec<_> = purged.hottest.iter().map(|key| key.path()).collect();
    hottest.sort_unstable();
    assert_eq!(hottest, ["/199", "/299", "/399", "/499", "/99"]);
    assert!(store.purge(&[Scope::All]).hottest.is_empty());
}

#[test]
fn a_path_is_purged_on_every_one_of_many_hosts() {
    let store = store_of(1 << 24);
    for host in 0..1_000 {
        let fill = NewFill {
            key: Arc::new(Key::new("http", &format!("host-{host}"), "/a", None)),
            ..new_fill(&store, "/a", &[])
        };
        store.begin_fill(fill).finish();
        put(&store, &format!("/other/{host}"), &[], b"b");
    }
    assert_eq!(store.purge(&[Scope::Path("/a", None)]).objects, 1_000);
    assert_eq!(store.stats().objects, 1_000);
}

#[test]
fn the_names_of_groups_are_paid_for_once_and_given_back_with_their_last_entry() {
    let store = store_of(1 << 20);
    let name = "n".repeat(100);
    let mut used = Vec::new();
    for path in ["/a", "/b", "/c"] {
        put(&store, path, &[&name], b"");
        used.push(store.stats().used_bytes);
    }
    assert_eq!(used[2] - used[1], used[1] - used[0]);
    assert!(used[0] > used[1] - used[0] + name.len(), "{used:?}");
    store.purge(&[Scope::Tag(&name)]);
    assert_eq!(store.stats().used_bytes, 0);
}

mod interleavings;
mod model;
