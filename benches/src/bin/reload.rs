//! A load into a shop that serves: no request fails, and nobody is given an old page once the new ones are in place.

use std::fmt::Write as _;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow, ensure};
use benches::client::Client;
use benches::dice::Dice;
use benches::load::get;
use benches::loading::{Etl, Workplace};
use benches::report::keep;
use benches::shop::Shop;
use benches::verdict::Verdicts;
use clap::Parser;

const ANSWER_LIMIT: Duration = Duration::from_secs(15);

#[derive(Parser)]
struct Arguments {
    /// Products of each of the two data sets that replace each other.
    #[arg(long, default_value_t = 10_000)]
    products: u64,
    /// How often one replaces the other.
    #[arg(long, default_value_t = 4)]
    loads: usize,
    /// Clients of each of two origins, and of the gateway.
    #[arg(long, default_value_t = 4)]
    clients: usize,
    /// Pages that they ask for.
    #[arg(long, default_value_t = 200)]
    pages: u32,
    /// Keep the run in this folder.
    #[arg(long)]
    keep: Option<PathBuf>,
}

/// An answer: which page, when it was asked for and when it was there, and what it was.
struct Seen {
    page: usize,
    asked: Duration,
    answered: Duration,
    status: u16,
    digest: u64,
}

/// One load, as clients saw it.
#[derive(Debug, Default)]
struct Outcome {
    answers: usize,
    failures: usize,
    /// Neither the old page nor the new one.
    strange: usize,
    /// An old page for who asked when an origin had shown a new one, or when the loader had ended.
    late: usize,
}

fn main() -> Result<ExitCode> {
    let arguments = Arguments::parse();
    let place = Workplace::below("/var/tmp".as_ref())?;
    // The shop starts with the data of seed 1.
    let mut shop = Shop::up(arguments.products, 2)?;
    let sets = [2, 1].map(|seed| place.generate(&format!("csv-{seed}"), arguments.products, seed));
    let mut csv = Vec::new();
    for set in sets {
        csv.push(set?.0);
    }
    let pages = pages(&arguments);
    let mut verdicts = Verdicts::default();
    let mut raw = String::from("load,whom,answers,failures,strange,late\n");
    let mut before = digests(shop.origins[0].public, &pages)?;
    let (mut origins, mut gateway) = (Outcome::default(), Outcome::default());
    for load in 0..arguments.loads {
        let watched = watch(&shop, &arguments, &pages, &csv[load % csv.len()])?;
        let after = digests(shop.origins[0].public, &pages)?;
        let changed = before.iter().zip(&after).filter(|(a, b)| a != b).count();
        ensure!(
            changed > pages.len() / 2,
            "the two data sets have the same pages"
        );
        // Origins read what is in place: from the first new page on, all are new.
        let swapped = first_new(&watched.of_origins, &before, &after).unwrap_or(watched.loaded);
        for (whom, all, since, sum) in [
            ("origins", &watched.of_origins, swapped, &mut origins),
            ("gateway", &watched.of_gateway, watched.loaded, &mut gateway),
        ] {
            let outcome = Outcome::of(all, &before, &after, since);
            let Outcome {
                answers,
                failures,
                strange,
                late,
            } = &outcome;
            let line = format!("{load},{whom},{answers},{failures},{strange},{late}");
            println!("{line}");
            writeln!(raw, "{line}")?;
            sum.add(&outcome);
        }
        before = after;
    }
    ensure!(shop.all_run(), "a process of the shop has ended");
    judge(
        "origins",
        "an origin has shown a new one",
        &origins,
        &mut verdicts,
    );
    judge("gateway", "the loader has ended", &gateway, &mut verdicts);
    if let Some(dir) = &arguments.keep {
        let dir = keep(dir, &[("raw.csv", &raw), ("summary.md", &verdicts.text())])?;
        println!("kept in {}", dir.display());
    }
    Ok(verdicts.exit_code())
}

/// Pages of every kind, of products all over the data.
fn pages(arguments: &Arguments) -> Vec<String> {
    let mut dice = Dice::new(7);
    let kinds = [
        "/products/{id}",
        "/products/{id}/styles",
        "/products/{id}/related",
        "/reviews?product_id={id}&count=5&sort=newest",
        "/reviews/meta?product_id={id}",
        "/qa/questions?product_id={id}&count=5",
        "/products?count=5&page={id}",
    ];
    (0..arguments.pages)
        .map(|number| {
            let id = dice.between(1, (arguments.products / 5) as u32);
            kinds[number as usize % kinds.len()].replace("{id}", &id.to_string())
        })
        .collect()
}

fn digests(address: SocketAddr, pages: &[String]) -> Result<Vec<(u16, u64)>> {
    let mut client = Client::new(address, ANSWER_LIMIT);
    pages
        .iter()
        .map(|page| {
            let reply = client.exchange(&get(page))?;
            Ok((reply.status, reply.digest))
        })
        .collect()
}

/// What was seen during one load, and when the loader had ended.
struct Watched {
    of_origins: Vec<Seen>,
    of_gateway: Vec<Seen>,
    loaded: Duration,
}

/// Loads while clients ask origins and gateway, and lets them ask on for a while.
fn watch(shop: &Shop, arguments: &Arguments, pages: &[String], csv: &Path) -> Result<Watched> {
    let stop = AtomicBool::new(false);
    let started = Instant::now();
    let origins = shop.origins.iter().map(|origin| origin.public);
    let addresses: Vec<SocketAddr> = origins.chain([shop.address]).collect();
    thread::scope(|scope| {
        let mut clients = Vec::new();
        for address in &addresses {
            for number in 0..arguments.clients {
                let (stop, seed) = (&stop, number as u64);
                let client = move || ask(*address, pages, seed, started, stop);
                clients.push((*address, scope.spawn(client)));
            }
        }
        let loaded = Etl::new("load")
            .arg("--database-url", shop.owner_url())
            .arg("--csv", csv)
            .arg("--purge", format!("http://{}", shop.admin))
            .arg("--purge-token-file", shop.dir().join("admin-token"))
            .run()
            .and_then(benches::loading::Ran::succeeded)
            .map(|_| started.elapsed());
        // Then they ask on until all pages have been read once more.
        let afterwards = digests(shop.address, pages);
        stop.store(true, Ordering::Relaxed);
        let mut watched = Watched {
            of_origins: Vec::new(),
            of_gateway: Vec::new(),
            loaded: Duration::ZERO,
        };
        for (address, client) in clients {
            let seen = client.join().map_err(|_| anyhow!("a client panicked"))?;
            if address == shop.address {
                watched.of_gateway.extend(seen);
            } else {
                watched.of_origins.extend(seen);
            }
        }
        watched.loaded = loaded?;
        afterwards.context("after the load")?;
        Ok(watched)
    })
}

fn ask(
    address: SocketAddr,
    pages: &[String],
    seed: u64,
    started: Instant,
    stop: &AtomicBool,
) -> Vec<Seen> {
    let mut client = Client::new(address, ANSWER_LIMIT);
    let mut dice = Dice::new(seed);
    let mut seen = Vec::new();
    while !stop.load(Ordering::Relaxed) {
        let page = dice.between(0, pages.len() as u32 - 1) as usize;
        let asked = started.elapsed();
        let reply = client.exchange(&get(&pages[page])).ok();
        seen.push(Seen {
            page,
            asked,
            answered: started.elapsed(),
            status: reply.map_or(0, |reply| reply.status),
            digest: reply.map_or(0, |reply| reply.digest),
        });
    }
    seen
}

/// When the first page was there that only the new data have.
fn first_new(seen: &[Seen], before: &[(u16, u64)], after: &[(u16, u64)]) -> Option<Duration> {
    let is_new = |seen: &&Seen| {
        let answer = (seen.status, seen.digest);
        answer == after[seen.page] && answer != before[seen.page]
    };
    seen.iter().filter(is_new).map(|seen| seen.answered).min()
}

impl Outcome {
    fn of(seen: &[Seen], before: &[(u16, u64)], after: &[(u16, u64)], since: Duration) -> Self {
        let mut outcome = Self::default();
        for seen in seen {
            let answer = (seen.status, seen.digest);
            let (old, new) = (before[seen.page], after[seen.page]);
            outcome.answers += 1;
            // A product that only one of the sets has is not found in the other.
            outcome.failures += usize::from(seen.status != old.0 && seen.status != new.0);
            outcome.strange += usize::from(answer != old && answer != new);
            outcome.late += usize::from(seen.asked > since && answer != new);
        }
        outcome
    }

    fn add(&mut self, other: &Self) {
        self.answers += other.answers;
        self.failures += other.failures;
        self.strange += other.strange;
        self.late += other.late;
    }
}

fn judge(whom: &str, since: &str, outcome: &Outcome, verdicts: &mut Verdicts) {
    verdicts.check(
        format_args!("{whom}: no request fails during a load"),
        outcome.failures == 0 && outcome.answers > 0,
        format_args!("{} of {} answers", outcome.failures, outcome.answers),
    );
    verdicts.check(
        format_args!("{whom}: each answer is the old page or the new one"),
        outcome.strange == 0,
        format_args!("{} are neither", outcome.strange),
    );
    verdicts.check(
        format_args!("{whom}: no old page once {since}"),
        outcome.late == 0,
        format_args!("{} answers", outcome.late),
    );
}
