//! Postgres broken for a while under load through the gateway, and how that is judged.
//!
//! Of ten requests eight ask for pages that are cached, one for a page that nobody has asked for, and one writes.

use std::collections::{BTreeMap, HashMap};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow, ensure};
use clap::ValueEnum;

use crate::client::Client;
use crate::load::{get, put};
use crate::origin_process::Gauges;
use crate::paced::{self, Outcome, Pace, Request, sleep_until};
use crate::report::{or_dash, quantile};
use crate::shop::Shop;
use crate::timeline;
use crate::verdict::Verdicts;
use crate::writers::{Audit, Fate, review};

/// The kinds of requests, by their numbers.
pub const KINDS: [&str; 3] = ["cached GET", "uncached GET", "write"];
const CACHED: usize = 0;
const UNCACHED: usize = 1;
const WRITE: usize = 2;

/// Products whose pages are cached beforehand; nobody writes to them.
const CACHED_PRODUCTS: u32 = 200;
/// Products that get reviews and votes: from this one to the last.
const WRITTEN_FROM: u32 = 1_001;
/// Fewer products would leave none to write to.
pub const PRODUCTS_MIN: u64 = 1_500;
const WORKERS: usize = 256;
const ANSWER_LIMIT: Duration = Duration::from_secs(20);
/// Load before the outage, and after it.
const LEAD_IN: Duration = Duration::from_secs(5);
const LEAD_OUT: Duration = Duration::from_secs(12);

/// What is promised.
const RECOVERED_WITHIN: Duration = Duration::from_secs(5);
const REFUSED_WITHIN_MS: f64 = 100.0;
const WRITES_REFUSED_WITHIN_MS: f64 = 1_000.0;
/// A server that hangs is found out by the statement deadline, one second; then the breaker is open.
const HANG_KNOWN_AFTER: Duration = Duration::from_millis(1_200);

/// What happens to Postgres.
#[derive(Clone, Copy, Debug, ValueEnum)]
pub enum Fault {
    /// It is stopped without a shutdown, and started again afterwards.
    Gone,
    /// Its processes are frozen, and thawed afterwards: connections stay open, and nothing answers.
    Hangs,
}

/// What is sent, and what must come back of it.
pub struct Load {
    cached: Vec<(Vec<u8>, u64)>,
    reviews: Vec<i32>,
    last_product: u32,
    name: String,
}

/// A run and its moments, from its start.
pub struct Run {
    /// What became of each request.
    pub outcomes: Vec<Outcome>,
    /// Postgres was stopped.
    pub broken: Duration,
    /// It was told to go on.
    pub mended: Duration,
    /// It took connections.
    pub back: Duration,
    /// The least that an origin had in the last second of those in which it should recover.
    least: Gauges,
    /// What the origins had after the load.
    at_rest: Gauges,
}

impl Load {
    /// Asks for every page that is to be cached, until it comes from the cache.
    ///
    /// # Errors
    /// One of them does not.
    pub fn prepare(shop: &Shop, name: String) -> Result<Self> {
        let mut client = Client::new(shop.address, ANSWER_LIMIT);
        let mut cached = Vec::new();
        for product in 1..=CACHED_PRODUCTS {
            for path in [
                format!("/products/{product}"),
                format!("/products/{product}/styles"),
                format!("/reviews?product_id={product}"),
                format!("/reviews/meta?product_id={product}"),
                format!("/qa/questions?product_id={product}"),
            ] {
                let request = get(&path);
                client.exchange(&request)?;
                let reply = client.exchange(&request)?;
                ensure!(
                    reply.status == 200 && reply.is_hit,
                    "{path} is not cached: {reply:?}"
                );
                cached.push((request, reply.digest));
            }
        }
        let of_written = format!(
            "select id from shop.reviews where product_id >= {WRITTEN_FROM} order by id limit 500"
        );
        let reviews = shop.query(&of_written)?;
        let last = shop.query("select max(id) from shop.products")?;
        Ok(Self {
            cached,
            reviews: reviews
                .iter()
                .map(|row| Ok(row[0].parse()?))
                .collect::<Result<_>>()?,
            last_product: last[0][0].parse()?,
            name,
        })
    }

    fn request(&self, number: u64) -> Request {
        let place = number as usize;
        let (kind, bytes) = match number % 10 {
            0 => (WRITE, self.write(number)),
            5 => {
                // No page has been asked for before: its number is in its key.
                let product = 1 + number % u64::from(CACHED_PRODUCTS);
                let path = format!("/reviews?product_id={product}&page={}&count=7", number + 2);
                let path = path
                    + if self.name.ends_with('0') {
                        ""
                    } else {
                        "&sort=newest"
                    };
                (UNCACHED, get(&path))
            }
            _ => {
                // Steps through all pages, and not in the order in which they were cached.
                let page = place * 7 % self.cached.len();
                (CACHED, self.cached[page].0.clone())
            }
        };
        Request { kind, bytes }
    }

    /// Reviews and votes in turn.
    fn write(&self, number: u64) -> Vec<u8> {
        if number.is_multiple_of(20) {
            let products = u64::from(self.last_product - WRITTEN_FROM) + 1;
            let product = WRITTEN_FROM + (number / 20 * 31 % products) as u32;
            review(product, &self.token(number), "")
        } else {
            let review = self.reviews[number as usize / 20 % self.reviews.len()];
            put(&format!("/reviews/{review}/helpful"))
        }
    }

    fn token(&self, number: u64) -> String {
        format!("{}-{number}", self.name)
    }

    /// Whether a cached page came as it was cached.
    fn is_right(&self, outcome: &Outcome) -> bool {
        let page = outcome.number as usize * 7 % self.cached.len();
        outcome
            .reply
            .is_some_and(|reply| reply.status == 200 && reply.digest == self.cached[page].1)
    }
}

/// Sends a load at `rate` requests a second, and breaks Postgres for the time `outage` in the middle of it.
///
/// # Errors
/// Postgres cannot be broken or mended, or an origin does not tell its gauges.
pub fn run(shop: &Shop, load: &Load, fault: Fault, rate: f64, outage: Duration) -> Result<Run> {
    let pace = Pace {
        address: shop.address,
        rate,
        duration: LEAD_IN + outage + LEAD_OUT,
        workers: WORKERS,
        timeout: ANSWER_LIMIT,
    };
    let start = Instant::now();
    thread::scope(|scope| {
        let sender = scope.spawn(|| paced::run(pace, start, &|number| load.request(number)));
        sleep_until(start + LEAD_IN);
        let broken = start.elapsed();
        match fault {
            Fault::Gone => shop.cluster.stop_immediate()?,
            Fault::Hangs => shop.cluster.sigstop()?,
        }
        sleep_until(start + broken + outage);
        let mended = start.elapsed();
        match fault {
            Fault::Gone => shop.cluster.start()?,
            Fault::Hangs => shop.cluster.sigcont()?,
        }
        let back = start.elapsed();
        let least = least_gauges(shop, start + back + RECOVERED_WITHIN)?;
        let outcomes = sender.join().map_err(|_| anyhow!("the load panicked"))??;
        // The last answers have come; whatever is still in use is stuck.
        let at_rest = gauges(shop)?;
        Ok(Run {
            outcomes,
            broken,
            mended,
            back,
            least,
            at_rest,
        })
    })
}

/// What all origins have together.
fn gauges(shop: &Shop) -> Result<Gauges> {
    let mut sum = Gauges {
        in_flight: 0,
        connections_used: 0,
    };
    for origin in &shop.origins {
        let of_one = origin.gauges()?;
        sum.in_flight += of_one.in_flight;
        sum.connections_used += of_one.connections_used;
    }
    Ok(sum)
}

/// The least of each gauge in the second before `until`: under load it is never 0 for long, but what is stuck stays.
fn least_gauges(shop: &Shop, until: Instant) -> Result<Gauges> {
    const LOOKS: u32 = 40;
    let mut least: Option<Gauges> = None;
    for look in (0..LOOKS).rev() {
        sleep_until(until - Duration::from_secs(1) * look / LOOKS);
        let now = gauges(shop)?;
        let before = least.unwrap_or(now);
        least = Some(Gauges {
            in_flight: before.in_flight.min(now.in_flight),
            connections_used: before.connections_used.min(now.connections_used),
        });
    }
    least.context("no look at the gauges")
}

impl Run {
    /// The outcomes of a kind that were due between two moments.
    fn due(&self, kinds: &[usize], from: Duration, to: Duration) -> Vec<&Outcome> {
        let is_meant =
            |one: &&Outcome| kinds.contains(&one.kind) && from <= one.due && one.due < to;
        self.outcomes.iter().filter(is_meant).collect()
    }
}

/// Holds a run against what is promised.
pub fn judge(run: &Run, load: &Load, fault: Fault, verdicts: &mut Verdicts) {
    let early: Vec<&Outcome> = run
        .outcomes
        .iter()
        .filter(|one| one.due + one.took < run.broken && !one.is_good())
        .collect();
    verdicts.check(
        "before the outage everything is answered",
        early.is_empty(),
        format_args!("{} failed", early.len()),
    );
    let cached = run.due(&[CACHED], Duration::ZERO, Duration::MAX);
    let wrong = cached.iter().filter(|one| !load.is_right(one)).count();
    verdicts.check(
        "cached pages are answered, all of them, unchanged",
        wrong == 0,
        format_args!(
            "{wrong} of {} failed; p99 during the outage {} ms",
            cached.len(),
            timeline::p99_ms(run.due(&[CACHED], run.broken, run.mended).into_iter())
        ),
    );
    judge_refusals(run, fault, verdicts);
    let late = run
        .outcomes
        .iter()
        .filter(|one| one.kind != CACHED && one.due >= run.broken && !one.is_good())
        .map(|one| one.due + one.took)
        .max();
    let recovered = late.map_or(Duration::ZERO, |late| late.saturating_sub(run.back));
    verdicts.check(
        format_args!("normal within {} s", RECOVERED_WITHIN.as_secs()),
        recovered <= RECOVERED_WITHIN,
        format_args!(
            "the last failure was over {:.2} s after Postgres took connections, which was {:.2} s after it was mended",
            recovered.as_secs_f64(),
            (run.back - run.mended).as_secs_f64()
        ),
    );
    let nothing = Gauges {
        in_flight: 0,
        connections_used: 0,
    };
    verdicts.check(
        format_args!("nothing is stuck {} s after", RECOVERED_WITHIN.as_secs()),
        run.least == nothing && run.at_rest == nothing,
        format_args!(
            "least in flight {}, least connections in use {}; after the load {} and {}",
            run.least.in_flight,
            run.least.connections_used,
            run.at_rest.in_flight,
            run.at_rest.connections_used
        ),
    );
}

/// How what needs Postgres was refused while it was not there.
fn judge_refusals(run: &Run, fault: Fault, verdicts: &mut Verdicts) {
    for kind in [WRITE, UNCACHED] {
        let during = run.due(&[kind], run.broken, run.mended);
        let is_proper = |one: &&&Outcome| {
            one.reply
                .is_some_and(|reply| reply.status == 503 && reply.has_retry_after)
        };
        let proper = during.iter().filter(is_proper).count();
        let good = during.iter().filter(|one| one.is_good()).count();
        verdicts.check(
            format_args!("{}: 503 with Retry-After", KINDS[kind]),
            proper + good == during.len() && proper > 0,
            format_args!(
                "{proper} of {}, {good} served, by status {:?}",
                during.len(),
                statuses(&during)
            ),
        );
    }
    let writes = run.due(&[WRITE], run.broken, run.mended);
    let ms: Vec<f64> = writes.iter().map(|one| one.ms()).collect();
    let p99 = quantile(&ms, 0.99);
    verdicts.check(
        format_args!("writes are refused within {WRITES_REFUSED_WITHIN_MS} ms (p99)"),
        p99.is_some_and(|p99| p99 < WRITES_REFUSED_WITHIN_MS),
        format_args!(
            "p99 {} ms, longest {} ms",
            or_dash(p99.map(|ms| format!("{ms:.1}"))),
            or_dash(quantile(&ms, 1.0).map(|ms| format!("{ms:.1}")))
        ),
    );
    let known_after = match fault {
        Fault::Gone => Duration::ZERO,
        Fault::Hangs => HANG_KNOWN_AFTER,
    };
    let known = run.due(&[WRITE, UNCACHED], run.broken + known_after, run.mended);
    let ms: Vec<f64> = known.iter().map(|one| one.ms()).collect();
    let p99 = quantile(&ms, 0.99);
    let all = run.due(&[WRITE, UNCACHED], run.broken, run.mended);
    let slow = all.iter().filter(|one| one.ms() >= REFUSED_WITHIN_MS);
    let last_slow = slow.clone().map(|one| one.due - run.broken).max();
    verdicts.check(
        format_args!(
            "refusals within {REFUSED_WITHIN_MS} ms (p99) from {:.1} s on",
            known_after.as_secs_f64()
        ),
        p99.is_some_and(|p99| p99 < REFUSED_WITHIN_MS),
        format_args!(
            "p99 {} ms, longest {} ms; {} of {} were slower, the last of them due {} s into the outage",
            or_dash(p99.map(|ms| format!("{ms:.1}"))),
            or_dash(quantile(&ms, 1.0).map(|ms| format!("{ms:.1}"))),
            slow.count(),
            all.len(),
            or_dash(last_slow.map(|at| format!("{:.2}", at.as_secs_f64())))
        ),
    );
}

/// Every review that was acknowledged is there, once.
///
/// # Errors
/// Postgres does not answer.
pub fn judge_writes(shop: &Shop, run: &Run, load: &Load, verdicts: &mut Verdicts) -> Result<()> {
    let sql = format!(
        "select summary, count(*) from shop.reviews where summary like '{}-%' group by 1",
        load.name
    );
    let mut rows = HashMap::new();
    for row in shop.query(&sql)? {
        rows.insert(row[0].clone(), row[1].parse()?);
    }
    let tokens: Vec<(String, Fate)> = run
        .outcomes
        .iter()
        .filter(|one| one.kind == WRITE && one.number.is_multiple_of(20))
        .map(|one| {
            let status = one.reply.map(|reply| reply.status);
            (load.token(one.number), Fate::of(status))
        })
        .collect();
    let audit = Audit::of(&tokens, rows);
    verdicts.check(
        "acknowledged reviews are there, once",
        audit.is_clean() && audit.acknowledged > 0,
        format_args!("{audit:?}"),
    );
    Ok(())
}

fn statuses(outcomes: &[&Outcome]) -> Vec<(u16, usize)> {
    let mut counts = BTreeMap::new();
    for one in outcomes {
        *counts.entry(one.status()).or_insert(0) += 1;
    }
    counts.into_iter().collect()
}
