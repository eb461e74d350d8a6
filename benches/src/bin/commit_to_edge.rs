//! From the commit of an UPDATE that no gateway was told of to the changed answer at both edges: how long?

use std::fmt::Write as _;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow, ensure};
use benches::client::Client;
use benches::dice::Dice;
use benches::live::{Live, Plan, as_it_is};
use benches::load::get;
use benches::paced::sleep_until;
use benches::report::{keep, quantile};
use benches::sql::Sql;
use benches::verdict::Verdicts;
use clap::Parser;
use serde_json::Value;

const ANSWER_LIMIT: Duration = Duration::from_secs(5);
/// Between two looks of one reader.
const LOOK_EVERY: Duration = Duration::from_micros(300);
/// Between two changes, in milliseconds: soon after the last one, and after a rest.
const PAUSE_MS: (u32, u32) = (50, 1_500);
const MEDIAN_MS: f64 = 10.0;
const P99_MS: f64 = 50.0;

#[derive(Parser)]
struct Arguments {
    /// Changes in each scene.
    #[arg(long, default_value_t = 200)]
    changes: u64,
    /// Moments of the changes.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Keep the run in this folder.
    #[arg(long)]
    keep: Option<PathBuf>,
}

/// The page that is changed.
struct Page {
    request: Vec<u8>,
    review: i32,
    is_over: AtomicBool,
}

/// When an edge first showed each number of votes.
type Shown = Vec<(u64, Instant)>;

fn main() -> Result<ExitCode> {
    let arguments = Arguments::parse();
    let live = Live::up(&Plan {
        gateways: &[&as_it_is, &as_it_is],
        ..Plan::default()
    })?;
    live.wait_for_leases()?;
    let mut verdicts = Verdicts::default();
    let mut raw = String::from("scene,change,edge,ms\n");
    let mut open = Sql::connect(&live.owner_url())?;
    for scene in ["nothing else", "an open transaction"] {
        if scene == "an open transaction" {
            // It has a number, and never ends: whoever waits for it waits for ever.
            open.run("begin; select pg_current_xact_id()")?;
        }
        let delays = measure(&live, &arguments)?;
        for (change, edge, ms) in &delays {
            let _ = writeln!(raw, "{scene},{change},{edge},{ms:.3}");
        }
        let ms: Vec<f64> = delays.iter().map(|(_, _, ms)| *ms).collect();
        let at = |part| quantile(&ms, part).unwrap_or(f64::INFINITY);
        verdicts.check(
            format_args!("beside {scene}: median within {MEDIAN_MS} ms, p99 within {P99_MS} ms"),
            at(0.5) <= MEDIAN_MS && at(0.99) <= P99_MS,
            format_args!(
                "median {:.1} ms, p90 {:.1} ms, p99 {:.1} ms, most {:.1} ms, of {} changes at two edges",
                at(0.5),
                at(0.9),
                at(0.99),
                at(1.0),
                arguments.changes
            ),
        );
    }
    if let Some(dir) = &arguments.keep {
        let files = [("raw.csv", raw.as_str()), ("summary.md", &verdicts.text())];
        println!("kept in {}", keep(dir, &files)?.display());
    }
    Ok(verdicts.exit_code())
}

/// Changes one review's votes again and again, and gives of each change and edge the milliseconds until it showed.
fn measure(live: &Live, arguments: &Arguments) -> Result<Vec<(u64, usize, f64)>> {
    let row = &live
        .query("select id, product_id from shop.reviews where not reported order by id limit 1")?
        [0];
    let page = Page {
        review: row[0].parse()?,
        request: get(&format!("/reviews?product_id={}&count=100", row[1])),
        is_over: AtomicBool::new(false),
    };
    let mut session = Sql::connect(&live.owner_url())?;
    let mut dice = Dice::new(arguments.seed);
    let (commits, shown) = thread::scope(|scope| {
        let readers: Vec<_> = live
            .gateways
            .iter()
            .map(|gateway| {
                let (edge, page) = (gateway.public, &page);
                scope.spawn(move || read(edge, page))
            })
            .collect();
        let commits = (0..arguments.changes)
            .map(|_| {
                let (min, max) = PAUSE_MS;
                let pause = Duration::from_millis(dice.between(min, max).into());
                sleep_until(Instant::now() + pause);
                let votes = session.vote(page.review)?;
                Ok((votes, Instant::now()))
            })
            .collect::<Result<Shown>>();
        // The last change has time to show.
        sleep_until(Instant::now() + ANSWER_LIMIT / 2);
        page.is_over.store(true, Ordering::SeqCst);
        let shown: Result<Vec<Shown>> = readers
            .into_iter()
            .map(|reader| reader.join().map_err(|_| anyhow!("a reader panicked"))?)
            .collect();
        (commits, shown)
    });
    let commits = commits?;
    let mut delays = Vec::new();
    for (edge, shown) in shown?.iter().enumerate() {
        for (number, (votes, committed)) in commits.iter().enumerate() {
            let seen = shown.iter().find(|(value, _)| value >= votes);
            let (_, at) = seen.context("a change never showed")?;
            let delay = at.saturating_duration_since(*committed);
            delays.push((number as u64, edge, delay.as_secs_f64() * 1e3));
        }
    }
    Ok(delays)
}

/// Looks at a page until all is over, and notes each number of votes when it is first there.
fn read(edge: SocketAddr, page: &Page) -> Result<Shown> {
    let mut client = Client::new(edge, ANSWER_LIMIT);
    let mut shown = Shown::new();
    while !page.is_over.load(Ordering::SeqCst) {
        let reply = client.exchange(&page.request)?;
        let at = Instant::now();
        ensure!(
            reply.status == 200,
            "the page is answered with {}",
            reply.status
        );
        let votes = votes(client.body(), page.review)?;
        if shown.last().is_none_or(|(last, _)| votes > *last) {
            shown.push((votes, at));
        }
        sleep_until(at + LOOK_EVERY);
    }
    Ok(shown)
}

fn votes(body: &[u8], review: i32) -> Result<u64> {
    let page: Value = serde_json::from_slice(body)?;
    let mut results = page["results"].as_array().into_iter().flatten();
    let found = results.find(|one| one["review_id"] == review);
    found
        .and_then(|one| one["helpfulness"].as_u64())
        .context("the review is not on its page")
}
