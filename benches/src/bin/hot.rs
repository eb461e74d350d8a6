//! What a plain hit costs from the bytes of its request to the slices of its answer: time, and allocations.

use std::hint::black_box;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use anyhow::{Context, Result};
use benches::allocations::{Counting, allocations};
use benches::report::{self, quantile};
use benches::verdict::Verdicts;
use bytes::Bytes;
use clap::Parser;
use gateway::hot::{Finish, Hot, Present, recognise};
use gateway::policy::key::Key;
use gateway::policy::vary::Coding;
use gateway::store::{Freshness, Head, Limits, NewFill, Store};
use http::{HeaderMap, HeaderValue, StatusCode};

/// Keys asked for in turn.
const KEYS: usize = 1_000;
const BODY_BYTES: usize = 1_024;

#[global_allocator]
static ALLOCATOR: Counting = Counting;

#[derive(Parser)]
struct Arguments {
    /// Answers a round.
    #[arg(long, default_value_t = 1_000_000)]
    answers: usize,
    /// Rounds.
    #[arg(long, default_value_t = 9)]
    rounds: usize,
    /// Keep the run in this folder.
    #[arg(long)]
    keep: Option<PathBuf>,
}

fn main() -> Result<ExitCode> {
    let arguments = Arguments::parse();
    let present = present();
    let (hot, requests) = prepared(present.now)?;
    let answer = |number: usize| {
        let request = &requests[number % requests.len()];
        let ready = hot.answer(request, "0123456789abcdef01", present)?;
        Some(
            black_box(&ready)
                .slices()
                .iter()
                .map(|slice| slice.len())
                .sum::<usize>(),
        )
    };
    for number in 0..requests.len() {
        answer(number).context("a request was not answered")?; // prepares the heads
    }
    let mut verdicts = Verdicts::default();
    let mut nanoseconds = Vec::new();
    let before = allocations();
    let mut answered = 0;
    let mut times = [Duration::ZERO; 64];
    let rounds = arguments.rounds.min(times.len());
    for time in &mut times[..rounds] {
        let began = Instant::now();
        answered += (0..arguments.answers)
            .filter(|number| answer(*number).is_some())
            .count();
        *time = began.elapsed();
    }
    let made = allocations() - before;
    for time in &times[..rounds] {
        nanoseconds.push(time.as_nanos() as f64 / arguments.answers as f64);
    }
    let all = rounds * arguments.answers;
    verdicts.check(
        "every plain hit is answered",
        answered == all,
        format!("{answered} of {all}"),
    );
    verdicts.check(
        "no allocation",
        made == 0,
        format!("{made} in {all} answers"),
    );
    let at = |share| quantile(&nanoseconds, share).unwrap_or(f64::NAN);
    println!(
        "{:.0} ns an answer, {:.0} to {:.0} over {rounds} rounds",
        at(0.5),
        at(0.0),
        at(1.0)
    );
    if let Some(dir) = arguments.keep {
        let raw: String = nanoseconds
            .iter()
            .map(|time| format!("{time:.1}\n"))
            .collect();
        let summary = format!(
            "{}{:.0} ns an answer of {BODY_BYTES} bytes, median of {rounds} rounds\n",
            verdicts.text(),
            at(0.5)
        );
        let files = [
            ("nanoseconds.csv", raw.as_str()),
            ("summary.md", summary.as_str()),
        ];
        println!("kept in {}", report::keep(&dir, &files)?.display());
    }
    Ok(verdicts.exit_code())
}

fn present() -> Present {
    Present {
        now: Instant::now(),
        wall: SystemTime::now(),
        is_leased: true,
    }
}

/// A store with as many entries, and a request for each: half of them want a coding that is there.
fn prepared(now: Instant) -> Result<(Hot, Vec<Vec<u8>>)> {
    let store = Store::new(Limits {
        budget_bytes: 64 << 20,
        object_bytes_max: 1 << 20,
        variants_max: 8,
        shards: 1,
    });
    let finish = Finish {
        cache_status: "gateway; hit; ttl=".to_owned(),
        strip: Vec::new(),
        every: Vec::new(),
    };
    let hot = Hot::new(Arc::clone(&store), finish, vec![Coding::Brotli]);
    let mut requests = Vec::new();
    for number in 0..KEYS {
        let query = format!("product_id={number}");
        let key = Arc::new(Key::new("http", "bench", "/reviews", Some(&query)));
        put(&store, &key, now)?;
        let coding = if number % 2 == 0 {
            "Accept-Encoding: gzip, br\r\n"
        } else {
            ""
        };
        let request = format!(
            "GET /reviews?{query} HTTP/1.1\r\nHost: bench\r\nUser-Agent: bench\r\nAccept: */*\r\n{coding}\r\n"
        );
        hot.learn(&recognise(request.as_bytes()).context("not plain")?, &key);
        requests.push(request.into_bytes());
    }
    let taught = requests.iter().filter(|request| {
        recognise(request)
            .and_then(|plain| hot.key_of(&plain))
            .is_some()
    });
    println!(
        "{} of {KEYS} spellings found a place in the table",
        taught.count()
    );
    requests.retain(|request| recognise(request).is_some_and(|plain| hot.key_of(&plain).is_some()));
    Ok((hot, requests))
}

fn put(store: &Arc<Store>, key: &Arc<Key>, now: Instant) -> Result<()> {
    let mut headers = HeaderMap::new();
    headers.insert("content-length", HeaderValue::from(BODY_BYTES));
    headers.insert("content-type", HeaderValue::from_static("application/json"));
    headers.insert(
        "cache-control",
        HeaderValue::from_static("public, max-age=0, must-revalidate"),
    );
    headers.insert("etag", HeaderValue::from_static("\"0123456789abcdef\""));
    let mut writer = store.begin_fill(NewFill {
        key: Arc::clone(key),
        variance: None,
        head: Head {
            status: StatusCode::OK,
            headers,
        },
        freshness: Freshness {
            stored_at: now,
            initial_age: Duration::ZERO,
            fresh_for: Duration::from_secs(86_400),
            stale_while_revalidate: Duration::ZERO,
            stale_if_error: Duration::ZERO,
            must_revalidate: false,
        },
        tags: Vec::new(),
        began: store.sequence(),
        encodable: true,
    });
    writer.write(Bytes::from(vec![b'x'; BODY_BYTES]))?;
    writer.finish();
    let object = store
        .lookup(&key.hash(), key.as_bytes(), None)
        .context("not kept")?;
    store.keep_encoded(
        &object,
        Coding::Brotli,
        Bytes::from(vec![b'z'; BODY_BYTES / 4]),
    );
    Ok(())
}
