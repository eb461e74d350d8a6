//! One of two origins killed, both gone, one hanging, under load through the gateway: who is still answered, how soon the
//! gateway knows, and how soon all is well again.

use std::fmt::Write as _;
use std::path::PathBuf;
use std::process::ExitCode;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Result, anyhow, ensure};
use benches::client::Client;
use benches::load::{get, put};
use benches::paced::{self, Outcome, Pace, Request, sleep_until};
use benches::report::{keep, or_dash, quantile};
use benches::shop::Shop;
use benches::timeline;
use benches::verdict::Verdicts;
use clap::Parser;
use nix::sys::signal::{Signal, kill};

const KINDS: [&str; 3] = ["cached GET", "uncached GET", "PUT"];
const CACHED: usize = 0;
const UNCACHED: usize = 1;
const PUT: usize = 2;

const PAGES: u32 = 500;
const WORKERS: usize = 256;
const ANSWER_LIMIT: Duration = Duration::from_secs(20);
const LEAD_IN: Duration = Duration::from_secs(10);
const LEAD_OUT: Duration = Duration::from_secs(10);

/// What is promised.
const KNOWN_WITHIN: Duration = Duration::from_secs(1);
const WELL_WITHIN: Duration = Duration::from_secs(2);
const REFUSED_WITHIN_MS: f64 = 100.0;
const SLOWER_MAX: f64 = 2.0;
/// Below this a latency is the machine's noise, not the gateway's doing.
const NOISE_MS: f64 = 5.0;

#[derive(Parser)]
struct Arguments {
    /// How long each fault lasts.
    #[arg(long, default_value_t = 30)]
    seconds: u64,
    /// Requests a second: of ten, six ask for cached pages, three for uncached ones, one writes.
    #[arg(long, default_value_t = 1_000.0)]
    rate: f64,
    /// Products to generate.
    #[arg(long, default_value_t = 2_000)]
    products: u64,
    /// Keep the run in this folder.
    #[arg(long)]
    keep: Option<PathBuf>,
}

#[derive(Clone, Copy, Debug)]
enum Fault {
    /// SIGKILL to the first of the two.
    OneKilled,
    /// SIGKILL to both.
    BothKilled,
    /// SIGSTOP to the first: it takes connections and never answers.
    OneHangs,
}

struct Run {
    outcomes: Vec<Outcome>,
    broken: Duration,
    mended: Duration,
}

fn main() -> Result<ExitCode> {
    let arguments = Arguments::parse();
    let mut shop = Shop::up(arguments.products, 2)?;
    fill(&shop)?;
    let mut verdicts = Verdicts::default();
    let (mut summary, mut raws) = (String::new(), Vec::new());
    for (number, fault) in [Fault::OneKilled, Fault::BothKilled, Fault::OneHangs]
        .into_iter()
        .enumerate()
    {
        println!("\n{fault:?} for {} s", arguments.seconds);
        let run = run(&mut shop, fault, number, &arguments)?;
        let marks = [
            (run.broken, "broken".to_owned()),
            (run.mended, "mended".to_owned()),
        ];
        let table = timeline::table(&run.outcomes, &KINDS, &marks);
        println!("{table}");
        match fault {
            Fault::OneKilled => run.judge_one_killed(&mut verdicts),
            Fault::BothKilled => run.judge_both_killed(&mut verdicts),
            Fault::OneHangs => run.judge_one_hangs(&mut verdicts),
        }
        let _ = writeln!(
            summary,
            "## {fault:?} for {} s\n\n{table}",
            arguments.seconds
        );
        let name = format!("raw-{number}-{fault:?}.csv").to_lowercase();
        raws.push((name, timeline::raw(&run.outcomes, &KINDS)));
    }
    if let Some(dir) = &arguments.keep {
        summary.push_str(&verdicts.text());
        let mut files = vec![("summary.md", summary.as_str())];
        files.extend(raws.iter().map(|(name, raw)| (name.as_str(), raw.as_str())));
        println!("kept in {}", keep(dir, &files)?.display());
    }
    Ok(verdicts.exit_code())
}

fn page(number: u64) -> String {
    format!("/products/{}", 1 + number % u64::from(PAGES))
}

/// Asks for every page that is to be cached, until it comes from the cache.
fn fill(shop: &Shop) -> Result<()> {
    let mut client = Client::new(shop.address, ANSWER_LIMIT);
    for number in 0..u64::from(PAGES) {
        let request = get(&page(number));
        client.exchange(&request)?;
        ensure!(
            client.exchange(&request)?.is_hit,
            "{} is not cached",
            page(number)
        );
    }
    Ok(())
}

/// `scene` keeps the uncached pages of one scene apart from those of another.
fn request(scene: usize, number: u64) -> Request {
    match number % 10 {
        0 => Request {
            kind: PUT,
            bytes: put(&format!("/reviews/{}/helpful", 1 + number % 500)),
        },
        1 | 4 | 7 => {
            // Nobody has asked for this page: its number is in its key.
            let product = 1_000 + number % 500;
            let target = format!(
                "/reviews?product_id={product}&page={}&count={}",
                number + 2,
                7 + scene
            );
            Request {
                kind: UNCACHED,
                bytes: get(&target),
            }
        }
        _ => Request {
            kind: CACHED,
            bytes: get(&page(number)),
        },
    }
}

fn run(shop: &mut Shop, fault: Fault, scene: usize, arguments: &Arguments) -> Result<Run> {
    let lasts = Duration::from_secs(arguments.seconds);
    let pace = Pace {
        address: shop.address,
        rate: arguments.rate,
        duration: LEAD_IN + lasts + LEAD_OUT,
        workers: WORKERS,
        timeout: ANSWER_LIMIT,
    };
    let start = Instant::now();
    thread::scope(|scope| {
        let sender = scope.spawn(|| paced::run(pace, start, &|number| request(scene, number)));
        sleep_until(start + LEAD_IN);
        let broken = start.elapsed();
        let broken_origins = match fault {
            Fault::BothKilled => 2,
            Fault::OneKilled | Fault::OneHangs => 1,
        };
        for origin in &mut shop.origins[..broken_origins] {
            match fault {
                Fault::OneHangs => signal(origin.program.id(), Signal::SIGSTOP)?,
                Fault::OneKilled | Fault::BothKilled => origin.program.kill9()?,
            }
        }
        sleep_until(start + broken + lasts);
        for origin in &mut shop.origins[..broken_origins] {
            match fault {
                Fault::OneHangs => signal(origin.program.id(), Signal::SIGCONT)?,
                Fault::OneKilled | Fault::BothKilled => {
                    origin.program.restart()?;
                    origin.wait_until_ready()?;
                }
            }
        }
        let mended = start.elapsed();
        let outcomes = sender.join().map_err(|_| anyhow!("the load panicked"))??;
        Ok(Run {
            outcomes,
            broken,
            mended,
        })
    })
}

fn signal(id: u32, signal: Signal) -> Result<()> {
    Ok(kill(stack::process::pid(id), signal)?)
}

impl Run {
    fn due(&self, kinds: &[usize], from: Duration, to: Duration) -> Vec<&Outcome> {
        let is_meant =
            |one: &&Outcome| kinds.contains(&one.kind) && from <= one.due && one.due < to;
        self.outcomes.iter().filter(is_meant).collect()
    }

    fn failed(&self, kinds: &[usize], from: Duration, to: Duration) -> Vec<&Outcome> {
        let mut due = self.due(kinds, from, to);
        due.retain(|one| !one.is_good());
        due
    }

    fn judge_one_killed(&self, verdicts: &mut Verdicts) {
        let gets = self.failed(&[CACHED, UNCACHED], Duration::ZERO, Duration::MAX);
        verdicts.check(
            "one killed: no GET fails",
            gets.is_empty(),
            format_args!(
                "{} of {}",
                gets.len(),
                self.due(&[CACHED, UNCACHED], Duration::ZERO, Duration::MAX)
                    .len()
            ),
        );
        let puts = self.failed(&[PUT], Duration::ZERO, Duration::MAX);
        // In flight: sent before the kill, not answered by then.
        let in_flight = self.due(&[PUT], Duration::ZERO, self.broken + KNOWN_WITHIN);
        let in_flight = in_flight.iter().filter(|one| {
            one.due + one.took >= self.broken && one.due <= self.broken + Duration::from_millis(5)
        });
        verdicts.check(
            "one killed: no more writes fail than were in flight",
            puts.len() <= in_flight.clone().count().max(1),
            format_args!(
                "{} failed, {} were in flight or due within 5 ms",
                puts.len(),
                in_flight.count()
            ),
        );
        let last = puts
            .iter()
            .map(|one| one.due.saturating_sub(self.broken))
            .max();
        verdicts.check(
            format_args!("one killed: known within {} s", KNOWN_WITHIN.as_secs()),
            last.is_none_or(|last| last <= KNOWN_WITHIN),
            format_args!(
                "the last failure was due {} ms after the kill",
                or_dash(last.map(|last| last.as_millis()))
            ),
        );
    }

    fn judge_both_killed(&self, verdicts: &mut Verdicts) {
        let cached = self.failed(&[CACHED], Duration::ZERO, Duration::MAX);
        verdicts.check(
            "both killed: cached pages are answered",
            cached.is_empty(),
            format_args!(
                "{} failed of {}",
                cached.len(),
                self.due(&[CACHED], Duration::ZERO, Duration::MAX).len()
            ),
        );
        let during = self.due(
            &[UNCACHED],
            self.broken,
            self.mended.saturating_sub(WELL_WITHIN),
        );
        let refused: Vec<f64> = during
            .iter()
            .filter(|one| {
                one.reply
                    .is_some_and(|reply| reply.status == 503 && reply.has_retry_after)
            })
            .map(|one| one.ms())
            .collect();
        let in_flight = during.iter().filter(|one| one.status() == 502).count();
        verdicts.check(
            "both killed: uncached pages get 503 with Retry-After",
            refused.len() + in_flight == during.len() && in_flight <= WORKERS / 8,
            format_args!(
                "{} of {}, {in_flight} were in flight and got 502",
                refused.len(),
                during.len()
            ),
        );
        let p99 = quantile(&refused, 0.99);
        verdicts.check(
            format_args!("both killed: refused within {REFUSED_WITHIN_MS} ms (p99)"),
            p99.is_some_and(|ms| ms < REFUSED_WITHIN_MS),
            format_args!(
                "p99 {} ms, longest {} ms",
                figure(p99),
                figure(quantile(&refused, 1.0))
            ),
        );
        let late = self.failed(
            &[CACHED, UNCACHED, PUT],
            self.mended + WELL_WITHIN,
            Duration::MAX,
        );
        verdicts.check(
            format_args!(
                "both killed: nothing fails {} s after the start",
                WELL_WITHIN.as_secs()
            ),
            late.is_empty(),
            format_args!("{} failed", late.len()),
        );
    }

    fn judge_one_hangs(&self, verdicts: &mut Verdicts) {
        let ms = |from: Duration, to: Duration| {
            let due = self.due(&[CACHED, UNCACHED], from, to);
            let ms: Vec<f64> = due.iter().map(|one| one.ms()).collect();
            quantile(&ms, 0.99)
        };
        let normal = ms(Duration::from_secs(2), self.broken - Duration::from_secs(1));
        let beside = ms(self.broken + WELL_WITHIN, self.mended);
        let limit = normal.map(|normal| (SLOWER_MAX * normal).max(NOISE_MS));
        verdicts.check(
            format_args!(
                "one hangs: after {} s GETs are at most {SLOWER_MAX} times as slow (p99)",
                WELL_WITHIN.as_secs()
            ),
            beside
                .zip(limit)
                .is_some_and(|(beside, limit)| beside <= limit),
            format_args!("{} ms, before it {} ms", figure(beside), figure(normal)),
        );
        let failed = self.failed(
            &[CACHED, UNCACHED],
            self.broken + WELL_WITHIN,
            Duration::MAX,
        );
        verdicts.check(
            "one hangs: no GET fails that was due after that",
            failed.is_empty(),
            format_args!("{} failed", failed.len()),
        );
        let caught = self.failed(
            &[CACHED, UNCACHED, PUT],
            self.broken - Duration::from_secs(1),
            self.broken + WELL_WITHIN,
        );
        println!("caught in the origin that hangs: {}", caught.len());
    }
}

fn figure(ms: Option<f64>) -> String {
    or_dash(ms.map(|ms| format!("{ms:.1}")))
}
