//! Cached bytes are the origin's bytes: every URL, by GET, HEAD, conditions and ranges, in each coding.

use std::io::Read;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use benches::exchange::{Exchange, Whole};
use benches::gateway_process::GatewayProcess;
use benches::report;
use benches::scripted::{Reply, Scripted};
use benches::verdict::Verdicts;
use clap::Parser;

const CODINGS: [&str; 3] = ["br", "zstd", "gzip"];
/// Bodies from this size are encoded; the gateway's default.
const ENCODED_FROM: usize = 1_024;
const BODY_BYTES_MAX: u64 = 20_000;
const CLIENTS: u64 = 16;
/// Until a coding has been made for an entry that is asked for.
const ENCODED_LIMIT: Duration = Duration::from_secs(30);
const POLL: Duration = Duration::from_millis(2);

#[derive(Parser)]
struct Arguments {
    /// URLs, each with a body of its own.
    #[arg(long, default_value_t = 10_000)]
    urls: u64,
    /// Keep the run in this folder.
    #[arg(long)]
    keep: Option<PathBuf>,
}

/// What was compared.
#[derive(Default)]
struct Compared {
    get: AtomicU64,
    head: AtomicU64,
    not_modified: AtomicU64,
    modified: AtomicU64,
    range: AtomicU64,
    encoded: AtomicU64,
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<ExitCode> {
    let arguments = Arguments::parse();
    let origin = Scripted::start(|asked| {
        let number = asked.target.trim_start_matches('/').parse().ok();
        std::future::ready(number.map(|number| {
            let fields = format!("{}ETag: {}\r\n", content_type(number), etag(number));
            Reply::ok(&fields, body(number))
        }))
    })?;
    let settings = "[cache]\nbudget = \"1GiB\"\n";
    let gateway = GatewayProcess::before(origin.address(), settings, &[])?;
    let compared = Arc::new(Compared::default());
    let next = Arc::new(AtomicU64::new(0));
    let began = Instant::now();
    let clients: Vec<_> = (0..CLIENTS)
        .map(|_| {
            let client = client(
                gateway.public,
                arguments.urls,
                Arc::clone(&next),
                Arc::clone(&compared),
            );
            tokio::spawn(client)
        })
        .collect();
    let mut difference = None;
    for client in clients {
        if let Err(error) = client.await? {
            difference = Some(format!("{error:#}"));
        }
    }
    let count = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
    let mut verdicts = Verdicts::default();
    verdicts.check(
        format!("cached bytes equal the origin's over {} URLs", arguments.urls),
        difference.is_none(),
        difference.unwrap_or_else(|| format!(
            "no difference in {} GET, {} HEAD, {} answers 304 and {} to other tags, {} ranges, {} encoded bodies; {:.0} s",
            count(&compared.get),
            count(&compared.head),
            count(&compared.not_modified),
            count(&compared.modified),
            count(&compared.range),
            count(&compared.encoded),
            began.elapsed().as_secs_f64()
        )),
    );
    let asked = origin.asked();
    verdicts.check(
        "each URL was fetched once",
        asked == arguments.urls,
        format!("{asked} fetches"),
    );
    if let Some(dir) = arguments.keep {
        let files = [("summary.md", verdicts.text())];
        let files = files.each_ref().map(|(name, text)| (*name, text.as_str()));
        println!("kept in {}", report::keep(&dir, &files)?.display());
    }
    Ok(verdicts.exit_code())
}

/// Text of a length of its own, from nothing to the longest; every tenth is no text.
fn body(number: u64) -> Vec<u8> {
    let mut state = number.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1;
    let mut next = move || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state
    };
    let length = (next() % BODY_BYTES_MAX) as usize;
    let mut body = Vec::with_capacity(length + 32);
    while body.len() < length {
        if number.is_multiple_of(10) {
            body.extend_from_slice(&next().to_le_bytes());
        } else {
            body.extend_from_slice(
                format!(
                    "{{\"id\":{},\"rating\":{}}}\n",
                    next() % 100_000,
                    next() % 5
                )
                .as_bytes(),
            );
        }
    }
    body.truncate(length);
    body
}

fn content_type(number: u64) -> &'static str {
    if number.is_multiple_of(10) {
        "Content-Type: application/octet-stream\r\n"
    } else {
        "Content-Type: application/json\r\n"
    }
}

fn etag(number: u64) -> String {
    format!("\"v{number}\"")
}

async fn client(
    address: SocketAddr,
    urls: u64,
    next: Arc<AtomicU64>,
    compared: Arc<Compared>,
) -> Result<()> {
    let mut exchange = Exchange::new(address);
    loop {
        let number = next.fetch_add(1, Ordering::Relaxed);
        if number >= urls {
            return Ok(());
        }
        let target = format!("/{number}");
        let own = body(number);
        for turn in 0..2 {
            let answer = exchange.whole("GET", &target, "").await?;
            ensure!(
                answer.status == 200 && answer.is_hit()? == (turn == 1),
                "{target} {turn}"
            );
            same(&target, &answer.body, &own)?;
            add(&compared.get);
        }
        representation(&mut exchange, number, "", &own, &compared).await?;
        ranges(&mut exchange, &target, &own, &compared).await?;
        if own.len() >= ENCODED_FROM && !number.is_multiple_of(10) {
            for coding in CODINGS {
                encoded(&mut exchange, number, coding, &own, &compared).await?;
            }
        }
    }
}

/// HEAD and conditions of one representation agree with its GET.
async fn representation(
    exchange: &mut Exchange,
    number: u64,
    fields: &str,
    bytes: &[u8],
    compared: &Compared,
) -> Result<()> {
    let target = format!("/{number}");
    let head = exchange.whole("HEAD", &target, fields).await?;
    let length = head.field("content-length")?.context("no length")?;
    ensure!(
        head.status == 200 && length.parse() == Ok(bytes.len()),
        "HEAD {target}: {length}"
    );
    add(&compared.head);
    let tag = head.field("etag")?.context("no tag")?.to_owned();
    let with = |tag: &str| format!("{fields}If-None-Match: {tag}\r\n");
    let same_tag = exchange.whole("GET", &target, &with(&tag)).await?;
    ensure!(
        same_tag.status == 304 && same_tag.body.is_empty() && same_tag.field("etag")? == Some(&tag),
        "{target} {tag}: {}",
        same_tag.status
    );
    add(&compared.not_modified);
    let other = exchange.whole("GET", &target, &with("\"other\"")).await?;
    ensure!(other.status == 200, "{target}: {}", other.status);
    same(&target, &other.body, bytes)?;
    add(&compared.modified);
    Ok(())
}

async fn ranges(
    exchange: &mut Exchange,
    target: &str,
    own: &[u8],
    compared: &Compared,
) -> Result<()> {
    let length = own.len();
    if length < 100 {
        return Ok(());
    }
    let (middle, last) = (length / 2, length - 1);
    for (range, expected) in [
        ("0-0".to_owned(), &own[..1]),
        (format!("10-{middle}"), &own[10..=middle]),
        (format!("{middle}-"), &own[middle..]),
        (format!("{last}-{}", length * 2), &own[last..]),
        ("-50".to_owned(), &own[length - 50..]),
    ] {
        let fields = format!("Range: bytes={range}\r\nAccept-Encoding: br, gzip\r\n");
        let part = exchange.whole("GET", target, &fields).await?;
        ensure!(part.status == 206, "{target} {range}: {}", part.status);
        same(target, &part.body, expected)?;
        add(&compared.range);
    }
    Ok(())
}

async fn encoded(
    exchange: &mut Exchange,
    number: u64,
    coding: &str,
    own: &[u8],
    compared: &Compared,
) -> Result<()> {
    let target = format!("/{number}");
    let fields = format!("Accept-Encoding: {coding}\r\n");
    let deadline = Instant::now() + ENCODED_LIMIT;
    let answer = loop {
        let answer = exchange.whole("GET", &target, &fields).await?;
        if answer.field("content-encoding")? == Some(coding) {
            break answer;
        }
        same(&target, &answer.body, own)?;
        ensure!(
            Instant::now() < deadline,
            "{target} is not given in {coding}"
        );
        tokio::time::sleep(POLL).await;
    };
    same(&target, &decoded(&answer, coding)?, own)?;
    let tag = format!("\"v{number}-{coding}\"");
    ensure!(
        answer.field("etag")? == Some(&tag),
        "{target}: no tag {tag}"
    );
    add(&compared.encoded);
    representation(exchange, number, &fields, &answer.body, compared).await
}

fn decoded(answer: &Whole, coding: &str) -> Result<Vec<u8>> {
    let bytes = &answer.body[..];
    let mut plain = Vec::new();
    match coding {
        "gzip" => drop(flate2::read::GzDecoder::new(bytes).read_to_end(&mut plain)?),
        "br" => drop(brotli::Decompressor::new(bytes, 4_096).read_to_end(&mut plain)?),
        "zstd" => plain = zstd::decode_all(bytes)?,
        other => bail!("nobody asked for {other}"),
    }
    Ok(plain)
}

fn same(target: &str, given: &[u8], expected: &[u8]) -> Result<()> {
    let at = given
        .iter()
        .zip(expected)
        .position(|(one, other)| one != other);
    ensure!(
        given == expected,
        "{target}: {} bytes, not {}; the first difference is at {at:?}",
        given.len(),
        expected.len()
    );
    Ok(())
}

fn add(counter: &AtomicU64) {
    counter.fetch_add(1, Ordering::Relaxed);
}
