//! One product that everybody reads and many vote on: what reaches the origins, and how long do readers wait?

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use benches::client::Client;
use benches::live::{Live, Plan, as_it_is};
use benches::load::{get, put};
use benches::paced::{self, Outcome, Pace, Request, becomes_true};
use benches::report::{keep, or_dash, quantile};
use benches::timeline;
use benches::verdict::Verdicts;
use clap::Parser;

const KINDS: [&str; 2] = ["read", "vote"];
const READ: usize = 0;
const VOTE: usize = 1;
/// The write itself, and one read of what it changed.
const ORIGIN_REQUESTS_A_WRITE_MAX: f64 = 2.0;
const READ_P99_MS: f64 = 25.0;
const WORKERS: usize = 128;
const ANSWER_LIMIT: Duration = Duration::from_secs(5);

#[derive(Parser)]
struct Arguments {
    /// Reads a second.
    #[arg(long, default_value_t = 1_000)]
    reads: u32,
    /// Votes a second.
    #[arg(long, default_value_t = 100)]
    votes: u32,
    /// How long.
    #[arg(long, default_value_t = 30)]
    seconds: u64,
    /// Keep the run in this folder.
    #[arg(long)]
    keep: Option<PathBuf>,
}

fn main() -> Result<ExitCode> {
    let arguments = Arguments::parse();
    let live = Live::up(&Plan {
        gateways: &[&as_it_is],
        ..Plan::default()
    })?;
    live.wait_for_leases()?;
    let row = &live
        .query("select id, product_id from shop.reviews where not reported order by id limit 1")?
        [0];
    let vote = put(&format!("/reviews/{}/helpful", row[0]));
    let read = get(&format!("/reviews?product_id={}", row[1]));
    let one_in = u64::from((arguments.reads + arguments.votes) / arguments.votes.max(1));
    let gateway = live.gateways.first().context("no gateway")?;
    let pace = Pace {
        address: gateway.public,
        rate: f64::from(arguments.reads + arguments.votes),
        duration: Duration::from_secs(arguments.seconds),
        workers: WORKERS,
        timeout: ANSWER_LIMIT,
    };
    // The fetches before the first write are no write's.
    let mut reader = Client::new(gateway.public, ANSWER_LIMIT);
    ensure!(
        becomes_true(ANSWER_LIMIT, || reader
            .exchange(&read)
            .is_ok_and(|reply| reply.is_hit)),
        "the page is not kept"
    );
    let before = gateway.origin_requests()?;
    let outcomes = paced::run(pace, Instant::now(), &|number| {
        if number % one_in == one_in / 2 {
            Request {
                kind: VOTE,
                bytes: vote.clone(),
            }
        } else {
            Request {
                kind: READ,
                bytes: read.clone(),
            }
        }
    })?;
    let asked = gateway.origin_requests()? - before;
    let mut verdicts = Verdicts::default();
    judge(&outcomes, asked, &mut verdicts);
    if let Some(dir) = &arguments.keep {
        let raw = timeline::raw(&outcomes, &KINDS);
        let files = [("raw.csv", raw.as_str()), ("summary.md", &verdicts.text())];
        println!("kept in {}", keep(dir, &files)?.display());
    }
    Ok(verdicts.exit_code())
}

fn judge(outcomes: &[Outcome], asked: u64, verdicts: &mut Verdicts) {
    let of = |kind| outcomes.iter().filter(move |one| one.kind == kind);
    let failed = outcomes.iter().filter(|one| !one.is_good()).count();
    verdicts.check(
        "every request is answered",
        failed == 0,
        format_args!("{failed} of {} failed", outcomes.len()),
    );
    let writes = of(VOTE).count() as u64;
    let each = asked as f64 / writes.max(1) as f64;
    verdicts.check(
        format_args!(
            "at most {ORIGIN_REQUESTS_A_WRITE_MAX} origin requests a write, itself included"
        ),
        each <= ORIGIN_REQUESTS_A_WRITE_MAX,
        format_args!(
            "{each:.2}: {asked} origin requests for {writes} writes and {} reads",
            of(READ).count()
        ),
    );
    let ms: Vec<f64> = of(READ).map(Outcome::ms).collect();
    let at = |part| or_dash(quantile(&ms, part).map(|ms| format!("{ms:.2}")));
    let hits = of(READ).filter(|one| one.reply.is_some_and(|reply| reply.is_hit));
    let hits = hits.count() as f64 / ms.len().max(1) as f64;
    verdicts.check(
        format_args!("reads within {READ_P99_MS} ms (p99)"),
        quantile(&ms, 0.99).is_some_and(|ms| ms <= READ_P99_MS),
        format_args!(
            "median {} ms, p99 {} ms, most {} ms; {:.1} % hits",
            at(0.5),
            at(0.99),
            at(1.0),
            hits * 100.0
        ),
    );
}
