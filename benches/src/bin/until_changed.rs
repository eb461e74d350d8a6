//! Kept until the data change, beside kept for ten seconds: the same reads of two gateways, the same writes, which
//! neither, one, or the other is told of.

use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow, ensure};
use benches::client::Client;
use benches::consistency::check::{Judgement, Promises, Rule, check};
use benches::consistency::history::{History, Moment, Read, Write};
use benches::dice::Dice;
use benches::live::{Live, Plan, as_it_is, for_seconds};
use benches::load::{get, put};
use benches::paced::sleep_until;
use benches::report::{keep, or_dash, quantile};
use benches::sql::Sql;
use benches::verdict::Verdicts;
use benches::writers::Fate;
use benches::zipf::Zipf;
use clap::Parser;
use serde_json::Value;

const NAMES: [&str; 2] = ["until changed", "for a time"];
const OURS: u8 = 0;
const ANSWER_LIMIT: Duration = Duration::from_secs(5);
const LEASE: Duration = Duration::from_secs(2);
const PAUSE: Duration = Duration::from_millis(3);

/// Products generated for each that is used: one in seven has no review that is shown, or too many for one page.
const GENERATED: (u64, u64) = (5, 4);

#[derive(Parser)]
struct Arguments {
    /// How long.
    #[arg(long, default_value_t = 120)]
    seconds: u64,
    /// How long the other gateway keeps what it has.
    #[arg(long, default_value_t = 10)]
    kept_s: u64,
    /// Products that are read and written, the n-th in proportion to 1/n.
    #[arg(long, default_value_t = 10_000)]
    products: u64,
    /// Clients, each sending nine reads for a write.
    #[arg(long, default_value_t = 12)]
    clients: u64,
    /// Which reads and writes.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Keep the run in this folder.
    #[arg(long)]
    keep: Option<PathBuf>,
}

/// A product's page, and one review on it whose votes are counted.
struct Page {
    read: Vec<u8>,
    vote: Vec<u8>,
    review: i32,
}

/// What all clients share.
struct Run<'a> {
    live: &'a Live,
    pages: Vec<Page>,
    zipf: Zipf,
    start: Instant,
    is_over: AtomicBool,
    next: AtomicU32,
}

/// What one client did and saw, and of each gateway how many of its reads were hits.
#[derive(Default)]
struct Seen {
    writes: Vec<(u32, Write)>,
    reads: Vec<Read>,
    hits: [u64; 2],
}

fn main() -> Result<ExitCode> {
    let arguments = Arguments::parse();
    let for_a_time = for_seconds(arguments.kept_s);
    let live = Live::up(&Plan {
        products: arguments.products * GENERATED.0 / GENERATED.1,
        gateways: &[&as_it_is, &for_a_time],
        is_split: true,
        ..Plan::default()
    })?;
    live.wait_for_leases()?;
    let (pages, bases) = pages(&live, arguments.products)?;
    let run = Run {
        zipf: Zipf::new(pages.len()),
        live: &live,
        pages,
        start: Instant::now(),
        is_over: AtomicBool::new(false),
        next: AtomicU32::new(0),
    };
    let mut seen = run.all(&arguments)?;
    seen.writes.sort_unstable_by_key(|(place, _)| *place);
    let writes: Vec<Write> = seen.writes.iter().map(|(_, write)| *write).collect();
    let mut verdicts = Verdicts::default();
    let mut table = format!(
        "{} products, {} writes: a third by SQL, a third through each gateway\n\n\
         | kept | reads | hits | origin requests | out of date when they began | older than a write acknowledged through its gateway | older than a lease | median age ms | p99 ms | most ms |\n\
         |---|---:|---:|---:|---:|---:|---:|---:|---:|---:|\n",
        run.pages.len(),
        writes.len()
    );
    for gateway in 0..2_u8 {
        let of_it = seen.reads.iter().filter(|read| read.gateway == gateway);
        let history = History {
            bases: bases.clone(),
            gateways: 2,
            writes: writes.clone(),
            reads: of_it.copied().collect(),
        };
        let judgement = check(
            &history,
            Promises {
                lease: LEASE,
                is_strict: false,
            },
        );
        let asked = live.gateways[usize::from(gateway)].origin_requests()?;
        table += &row(
            gateway,
            &history,
            seen.hits[usize::from(gateway)],
            asked,
            &judgement,
        );
        if gateway == OURS {
            judge(&history, &judgement, &mut verdicts);
        }
    }
    println!("\n{table}");
    if let Some(dir) = &arguments.keep {
        let summary = table + "\n" + &verdicts.text();
        println!(
            "kept in {}",
            keep(dir, &[("summary.md", &summary)])?.display()
        );
    }
    Ok(verdicts.exit_code())
}

/// One review of each of so many products.
fn pages(live: &Live, products: u64) -> Result<(Vec<Page>, Vec<u64>)> {
    let rows = live.query(&format!(
        "select id, product_id, helpfulness
           from (select distinct on (product_id) id, product_id, helpfulness,
                        count(*) over (partition by product_id) as n
                   from shop.reviews where not reported order by product_id, id) r
          where n <= 100 order by product_id limit {products}"
    ))?;
    ensure!(
        rows.len() as u64 == products,
        "{} products of {products} have a page of reviews",
        rows.len()
    );
    let mut pages = Vec::new();
    let mut bases = Vec::new();
    for row in &rows {
        pages.push(Page {
            read: get(&format!("/reviews?product_id={}&count=100", row[1])),
            vote: put(&format!("/reviews/{}/helpful", row[0])),
            review: row[0].parse()?,
        });
        bases.push(row[2].parse()?);
    }
    Ok((pages, bases))
}

impl Run<'_> {
    fn all(&self, arguments: &Arguments) -> Result<Seen> {
        thread::scope(|scope| {
            let clients: Vec<_> = (0..arguments.clients)
                .map(|number| scope.spawn(move || self.client(arguments.seed * 1_000 + number)))
                .collect();
            sleep_until(self.start + Duration::from_secs(arguments.seconds));
            self.is_over.store(true, Ordering::Relaxed);
            let mut all = Seen::default();
            for client in clients {
                let seen = client.join().map_err(|_| anyhow!("a client panicked"))??;
                all.writes.extend(seen.writes);
                all.reads.extend(seen.reads);
                all.hits[0] += seen.hits[0];
                all.hits[1] += seen.hits[1];
            }
            Ok(all)
        })
    }

    fn client(&self, seed: u64) -> Result<Seen> {
        let mut dice = Dice::new(seed);
        let mut seen = Seen::default();
        let mut session = Sql::connect(&self.live.owner_url())?;
        let gateways = self.live.gateways.iter();
        let mut clients: Vec<Client> = gateways
            .map(|gateway| Client::new(gateway.public, ANSWER_LIMIT))
            .collect();
        while !self.is_over.load(Ordering::Relaxed) {
            let place = self.zipf.pick(&mut dice);
            if dice.between(0, 9) == 0 {
                self.write(place, &mut dice, &mut clients, &mut session, &mut seen)?;
            } else {
                let first = dice.between(0, 1) as usize;
                for gateway in [first, 1 - first] {
                    self.read(place, gateway, &mut clients[gateway], &mut seen)?;
                }
            }
            sleep_until(Instant::now() + PAUSE);
        }
        Ok(seen)
    }

    fn write(
        &self,
        place: usize,
        dice: &mut Dice,
        clients: &mut [Client],
        session: &mut Sql,
        seen: &mut Seen,
    ) -> Result<()> {
        let page = &self.pages[place];
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        let gateway = dice.between(0, 2).checked_sub(1);
        let began = self.now();
        let value = match gateway {
            None => Some(session.vote(page.review)?),
            Some(gateway) => {
                let reply = clients[gateway as usize].exchange(&page.vote)?;
                ensure!(
                    reply.status == 204,
                    "a vote is answered with {}",
                    reply.status
                );
                None
            }
        };
        let write = Write {
            object: place as u32,
            gateway: gateway.map(|gateway| gateway as u8),
            began,
            ended: self.now(),
            fate: Fate::Ok,
            value,
        };
        seen.writes.push((number, write));
        Ok(())
    }

    fn read(
        &self,
        place: usize,
        gateway: usize,
        client: &mut Client,
        seen: &mut Seen,
    ) -> Result<()> {
        let page = &self.pages[place];
        let began = self.now();
        let reply = client.exchange(&page.read)?;
        let ended = self.now();
        ensure!(
            reply.status == 200,
            "a read is answered with {}",
            reply.status
        );
        seen.hits[gateway] += u64::from(reply.is_hit);
        seen.reads.push(Read {
            object: place as u32,
            gateway: gateway as u8,
            began,
            ended,
            value: votes(client.body(), page.review)?,
            is_marked: false,
            after: None,
        });
        Ok(())
    }

    fn now(&self) -> Moment {
        Moment::after(self.start.elapsed())
    }
}

fn votes(body: &[u8], review: i32) -> Result<u64> {
    let page: Value = serde_json::from_slice(body)?;
    let mut results = page["results"].as_array().into_iter().flatten();
    let found = results.find(|one| one["review_id"] == review);
    found
        .and_then(|one| one["helpfulness"].as_u64())
        .context("the review is not on its page")
}

fn row(gateway: u8, history: &History, hits: u64, asked: u64, judgement: &Judgement) -> String {
    let reads = history.reads.len();
    let ms: Vec<f64> = judgement
        .stale
        .iter()
        .map(|age| age.as_secs_f64() * 1e3)
        .collect();
    let at = |part| or_dash(quantile(&ms, part).map(|ms| format!("{ms:.0}")));
    format!(
        "| {} | {reads} | {:.1} % | {asked} | {} ({:.2} %) | {} | {} | {} | {} | {} |\n",
        NAMES[usize::from(gateway)],
        hits as f64 * 100.0 / reads.max(1) as f64,
        ms.len(),
        ms.len() as f64 * 100.0 / reads.max(1) as f64,
        broken(judgement, Rule::OwnWrite),
        broken(judgement, Rule::Lease),
        at(0.5),
        at(0.99),
        at(1.0)
    )
}

/// Reads that broke a promise.
fn broken(judgement: &Judgement, rule: Rule) -> usize {
    let violations = judgement.violations.iter();
    violations.filter(|one| one.rule == rule).count()
}

fn judge(history: &History, judgement: &Judgement, verdicts: &mut Verdicts) {
    let reads = history.reads.len();
    for (aim, rule) in [
        (
            "no read is older than a write acknowledged through its gateway",
            Rule::OwnWrite,
        ),
        ("no read is older than a lease", Rule::Lease),
    ] {
        let broken = broken(judgement, rule);
        verdicts.check(
            aim,
            broken == 0 && reads > 0,
            format_args!("{broken} of {reads} reads"),
        );
    }
}
