//! A load into a shop that serves: no request fails, and nobody is given an old page once the new ones are in place.
//!
//! Two shops: the gateway of one is purged by the loader, that of the other hears of the swap from the database. Requests
//! come at a rate that leaves the loader room: clients that ask as fast as they are answered take all of a machine, and
//! then it is Postgres that gets no time.

use std::fmt::Write as _;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant, SystemTime};

use anyhow::{Context, Result, anyhow, ensure};
use benches::client::Client;
use benches::dice::Dice;
use benches::live::{Live, Plan};
use benches::load::get;
use benches::loading::{Etl, Workplace};
use benches::paced::sleep_until;
use benches::program::Program;
use benches::report::keep;
use benches::shop::Shop;
use benches::verdict::Verdicts;
use clap::Parser;
use etl::report::LoadReport;
use stack::gateway_config::GatewayConfig;

const ANSWER_LIMIT: Duration = Duration::from_secs(15);
/// The lease of the gateway that follows the database: it gives nothing that has been old for longer.
const LEASE: Duration = Duration::from_secs(2);
/// Origins of each shop.
const ORIGINS: usize = 2;

#[derive(Parser)]
struct Arguments {
    /// Products of each of the two data sets that replace each other.
    #[arg(long, default_value_t = 40_000)]
    products: u64,
    /// How often one replaces the other in each of the two shops.
    #[arg(long, default_value_t = 4)]
    loads: usize,
    /// Clients of each of two origins, and of the gateway.
    #[arg(long, default_value_t = 4)]
    clients: u32,
    /// Requests a second to each origin.
    #[arg(long, default_value_t = 600)]
    origin_rate: u32,
    /// Requests a second to the gateway.
    #[arg(long, default_value_t = 5_000)]
    gateway_rate: u32,
    /// Pages that they ask for.
    #[arg(long, default_value_t = 200)]
    pages: u32,
    /// Keep the run in this folder.
    #[arg(long)]
    keep: Option<PathBuf>,
}

/// Status and digest of a page.
type Page = (u16, u64);
type Pages = [Page];

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
    /// An old page for who asked when only new ones were to be given.
    late: usize,
    /// How long after the swap's commit an old page was asked for and given.
    old_for: Duration,
}

/// A shop that serves.
struct Scene {
    name: &'static str,
    origins: Vec<SocketAddr>,
    gateway: SocketAddr,
    owner_url: String,
    /// The admin URL and the file of the token, if the loader purges the gateway.
    purge: Option<(String, PathBuf)>,
}

/// What both scenes share.
struct Work<'a> {
    arguments: &'a Arguments,
    /// The folder of reports.
    place: &'a Workplace,
    pages: Vec<String>,
    /// The data sets that are loaded, the one that is not live first.
    csv: Vec<PathBuf>,
}

fn main() -> Result<ExitCode> {
    let arguments = Arguments::parse();
    let place = Workplace::below("/var/tmp".as_ref())?;
    // The shops start with the data of seed 1.
    let mut csv = Vec::new();
    for seed in [2, 1] {
        let (folder, _) = place.generate(&format!("csv-{seed}"), arguments.products, seed)?;
        csv.push(folder);
    }
    let work = Work {
        pages: pages(&arguments),
        arguments: &arguments,
        place: &place,
        csv,
    };
    let mut verdicts = Verdicts::default();
    let mut raw = String::from("gateway,load,whom,answers,failures,strange,late,old_for_ms\n");
    purged(&work, &mut raw, &mut verdicts)?;
    following(&work, &mut raw, &mut verdicts)?;
    if let Some(dir) = &arguments.keep {
        let dir = keep(dir, &[("raw.csv", &raw), ("summary.md", &verdicts.text())])?;
        println!("kept in {}", dir.display());
    }
    Ok(verdicts.exit_code())
}

/// The gateway hears of nothing but the loader's purge, before changes are let in again.
fn purged(work: &Work<'_>, raw: &mut String, verdicts: &mut Verdicts) -> Result<()> {
    let mut shop = Shop::up(work.arguments.products, ORIGINS)?;
    let scene = Scene {
        name: "purged",
        origins: shop.origins.iter().map(|origin| origin.public).collect(),
        gateway: shop.address,
        owner_url: shop.owner_url(),
        purge: Some((
            format!("http://{}", shop.admin),
            shop.dir().join("admin-token"),
        )),
    };
    scene.run(work, raw, verdicts)?;
    ensure!(shop.all_run(), "a process of the shop has ended");
    Ok(())
}

/// The gateway follows the stream of changes, and nobody purges it.
fn following(work: &Work<'_>, raw: &mut String, verdicts: &mut Verdicts) -> Result<()> {
    let lease = |config: GatewayConfig| {
        config.with("coherence", "lease", format!("{}ms", LEASE.as_millis()))
    };
    let mut live = Live::up(&Plan {
        products: work.arguments.products,
        origins: ORIGINS,
        gateways: &[&lease],
        ..Plan::default()
    })?;
    live.wait_for_leases()?;
    let scene = Scene {
        name: "following",
        origins: live.origins.iter().map(|origin| origin.public).collect(),
        gateway: live.gateways.first().context("no gateway")?.public,
        owner_url: live.owner_url(),
        purge: None,
    };
    scene.run(work, raw, verdicts)?;
    let gateways = live.gateways.iter_mut().map(|gateway| &mut gateway.program);
    let origins = live.origins.iter_mut().map(|origin| &mut origin.program);
    ensure!(
        gateways.chain(origins).all(Program::is_running),
        "a process of the shop has ended"
    );
    Ok(())
}

impl Scene {
    fn run(&self, work: &Work<'_>, raw: &mut String, verdicts: &mut Verdicts) -> Result<()> {
        let (arguments, pages) = (work.arguments, &work.pages);
        let origin = *self.origins.first().context("no origin")?;
        let mut before = digests(origin, pages)?;
        let (mut origins, mut gateway) = (Outcome::default(), Outcome::default());
        let mut purged_after = Duration::ZERO;
        for load in 0..arguments.loads {
            let watched = self.watch(work, &work.csv[load % work.csv.len()])?;
            let after = digests(origin, pages)?;
            let changed = before.iter().zip(&after).filter(|(a, b)| a != b).count();
            ensure!(
                changed > pages.len() / 2,
                "the two data sets have the same pages"
            );
            let Watched {
                swapped, settled, ..
            } = watched;
            purged_after = purged_after.max(settled.saturating_sub(swapped));
            // Origins read what is in place: from the first new page on, all are new.
            let first = first_new(&watched.of_origins, &before, &after).unwrap_or(swapped);
            for (whom, all, since, sum) in [
                ("origins", &watched.of_origins, first, &mut origins),
                ("gateway", &watched.of_gateway, settled, &mut gateway),
            ] {
                let outcome = Outcome::of(all, (&before, &after), swapped, since);
                let Outcome {
                    answers,
                    failures,
                    strange,
                    late,
                    old_for,
                } = &outcome;
                let (name, ms) = (self.name, old_for.as_secs_f64() * 1e3);
                let line =
                    format!("{name},{load},{whom},{answers},{failures},{strange},{late},{ms:.1}");
                println!("{line}");
                writeln!(raw, "{line}")?;
                sum.add(&outcome);
            }
            before = after;
        }
        let since = match self.purge {
            Some(_) => format!(
                "its purge is answered, {} ms after the swap's commit at most",
                purged_after.as_millis()
            ),
            None => format!(
                "the swap's commit is {} ms old, the lease",
                LEASE.as_millis()
            ),
        };
        judge(
            &format!("origins of the gateway that is {}", self.name),
            "one of them has shown a new one",
            &origins,
            verdicts,
        );
        judge(
            &format!("gateway, {}", self.name),
            &since,
            &gateway,
            verdicts,
        );
        Ok(())
    }

    /// Loads while clients ask origins and gateway, and lets them ask on for a while.
    fn watch(&self, work: &Work<'_>, csv: &Path) -> Result<Watched> {
        let stop = AtomicBool::new(false);
        let (started, started_at) = (Instant::now(), SystemTime::now());
        let addresses: Vec<SocketAddr> =
            self.origins.iter().copied().chain([self.gateway]).collect();
        thread::scope(|scope| {
            let mut clients = Vec::new();
            let each = work.arguments.clients;
            for address in &addresses {
                let rate = if *address == self.gateway {
                    work.arguments.gateway_rate
                } else {
                    work.arguments.origin_rate
                };
                let every = Duration::from_secs(1) * each / rate.max(1);
                for number in 0..each {
                    let (stop, first) = (&stop, started + every * number / each);
                    let client = Client::new(*address, ANSWER_LIMIT);
                    let dice = Dice::new(number.into());
                    let pace = Pace {
                        started,
                        first,
                        every,
                    };
                    let client = move || ask(client, &work.pages, dice, pace, stop);
                    clients.push((*address, scope.spawn(client)));
                }
            }
            let moments = self.load(work, csv, started_at);
            if let Ok((_, settled)) = &moments {
                sleep_until(started + *settled);
            }
            // Then they ask on until all pages have been read once more.
            let afterwards = digests(self.gateway, &work.pages);
            stop.store(true, Ordering::Relaxed);
            let (mut of_origins, mut of_gateway) = (Vec::new(), Vec::new());
            for (address, client) in clients {
                let seen = client.join().map_err(|_| anyhow!("a client panicked"))?;
                if address == self.gateway {
                    of_gateway.extend(seen);
                } else {
                    of_origins.extend(seen);
                }
            }
            let (swapped, settled) = moments?;
            afterwards.context("after the load")?;
            Ok(Watched {
                of_origins,
                of_gateway,
                swapped,
                settled,
            })
        })
    }

    /// Runs the loader; gives the moments of [`Watched`], counted from `started_at`.
    fn load(
        &self,
        work: &Work<'_>,
        csv: &Path,
        started_at: SystemTime,
    ) -> Result<(Duration, Duration)> {
        let report = work.place.path("report.json");
        let mut load = Etl::new("load")
            .arg("--database-url", &self.owner_url)
            .arg("--csv", csv)
            .arg("--report", &report);
        if let Some((url, token_file)) = &self.purge {
            load = load
                .arg("--purge", url)
                .arg("--purge-token-file", token_file);
        }
        load.run()?.succeeded()?;
        let report: LoadReport = serde_json::from_slice(&std::fs::read(report)?)?;
        let swapped_at = SystemTime::from(report.swapped_at.context("no swap")?);
        let swapped = swapped_at.duration_since(started_at)?;
        let settled = match (&self.purge, report.purged_at) {
            (Some(_), Some(at)) => SystemTime::from(at).duration_since(started_at)?,
            (Some(_), None) => return Err(anyhow!("no purge")),
            (None, _) => swapped + LEASE,
        };
        Ok((swapped, settled))
    }
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

fn digests(address: SocketAddr, pages: &[String]) -> Result<Vec<Page>> {
    let mut client = Client::new(address, ANSWER_LIMIT);
    pages
        .iter()
        .map(|page| {
            let reply = client.exchange(&get(page))?;
            Ok((reply.status, reply.digest))
        })
        .collect()
}

/// What was seen during one load.
struct Watched {
    of_origins: Vec<Seen>,
    of_gateway: Vec<Seen>,
    /// When the loader knew that the swap had committed.
    swapped: Duration,
    /// From when on the gateway is to give new pages only: the answer to its purge, or the end of a lease.
    settled: Duration,
}

/// When a client asks.
#[derive(Clone, Copy)]
struct Pace {
    /// What moments are counted from.
    started: Instant,
    /// For the first time.
    first: Instant,
    /// Between two requests; one that is late is sent at once.
    every: Duration,
}

fn ask(
    mut client: Client,
    pages: &[String],
    mut dice: Dice,
    pace: Pace,
    stop: &AtomicBool,
) -> Vec<Seen> {
    let mut due = pace.first;
    let mut seen = Vec::new();
    while !stop.load(Ordering::Relaxed) {
        sleep_until(due);
        due += pace.every;
        let page = dice.between(0, pages.len() as u32 - 1) as usize;
        let asked = pace.started.elapsed();
        let reply = client.exchange(&get(&pages[page])).ok();
        seen.push(Seen {
            page,
            asked,
            answered: pace.started.elapsed(),
            status: reply.map_or(0, |reply| reply.status),
            digest: reply.map_or(0, |reply| reply.digest),
        });
    }
    seen
}

/// When the first page was there that only the new data have.
fn first_new(seen: &[Seen], before: &Pages, after: &Pages) -> Option<Duration> {
    let is_new = |seen: &&Seen| {
        let answer = (seen.status, seen.digest);
        answer == after[seen.page] && answer != before[seen.page]
    };
    seen.iter().filter(is_new).map(|seen| seen.answered).min()
}

impl Outcome {
    /// Of what was seen, with the pages from before and after a swap, and from when on all are to be new.
    fn of(
        seen: &[Seen],
        (before, after): (&Pages, &Pages),
        swapped: Duration,
        since: Duration,
    ) -> Self {
        let mut outcome = Self::default();
        for seen in seen {
            let answer = (seen.status, seen.digest);
            let (old, new) = (before[seen.page], after[seen.page]);
            outcome.answers += 1;
            // A product that only one of the sets has is not found in the other.
            outcome.failures += usize::from(seen.status != old.0 && seen.status != new.0);
            outcome.strange += usize::from(answer != old && answer != new);
            let is_old = answer == old && answer != new;
            outcome.late += usize::from(is_old && seen.asked > since);
            if is_old {
                outcome.old_for = outcome.old_for.max(seen.asked.saturating_sub(swapped));
            }
        }
        outcome
    }

    fn add(&mut self, other: &Self) {
        self.answers += other.answers;
        self.failures += other.failures;
        self.strange += other.strange;
        self.late += other.late;
        self.old_for = self.old_for.max(other.old_for);
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
        format_args!(
            "{} answers; the last old one was asked for {:.1} ms after the swap's commit",
            outcome.late,
            outcome.old_for.as_secs_f64() * 1e3
        ),
    );
}
