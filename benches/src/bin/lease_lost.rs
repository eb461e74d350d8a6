//! A gateway at full load loses touch with the database, and finds it again: what reaches the origins meanwhile, who is
//! refused, and how long does it take to be up to date after 100,000 changes?

use std::fmt::Write as _;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow};
use benches::client::Client;
use benches::dice::Dice;
use benches::gateway_process::GatewayProcess;
use benches::live::{Live, Plan};
use benches::load::get;
use benches::paced::{self, Outcome, Pace, Request, becomes_true, sleep_until};
use benches::relay::{Mode, Relay};
use benches::report::keep;
use benches::sql::Sql;
use benches::timeline;
use benches::verdict::Verdicts;
use benches::zipf::Zipf;
use clap::Parser;
use stack::gateway_config::GatewayConfig;

const KINDS: [&str; 1] = ["read"];
const PRODUCTS: u64 = 2_000;
/// Before the loss: the lease runs out after this.
const LEAD_IN: Duration = Duration::from_secs(8);
const LEASE: Duration = Duration::from_secs(2);
const WORKERS: usize = 128;
const ANSWER_LIMIT: Duration = Duration::from_secs(5);
const CAUGHT_UP_LIMIT: Duration = Duration::from_secs(60);
const LOOK_EVERY: Duration = Duration::from_millis(250);
/// Changes that the gateway has to catch up with, each a transaction.
const CHANGES: &str = "100,000";

#[derive(Parser)]
struct Arguments {
    /// Reads a second.
    #[arg(long, default_value_t = 3_000.0)]
    rate: f64,
    /// How long nothing is heard of the database.
    #[arg(long, default_value_t = 20)]
    seconds: u64,
    /// What the gateway is told to ask the origins for at most, a second, without a lease.
    #[arg(long, default_value_t = 200)]
    revalidations: u32,
    /// Keep the run in this folder.
    #[arg(long)]
    keep: Option<PathBuf>,
}

/// What the origins had been asked for at a moment.
type Asked = Vec<(Duration, u64)>;

fn main() -> Result<ExitCode> {
    let arguments = Arguments::parse();
    let told = |config: GatewayConfig| {
        let most = i64::from(arguments.revalidations);
        config.with("coherence", "revalidations_max", most)
    };
    let live = Live::up(&Plan {
        products: PRODUCTS,
        gateways: &[&told],
        ..Plan::default()
    })?;
    live.wait_for_leases()?;
    warm(&live)?;
    let gateway = live.gateways.first().context("no gateway")?;
    let streams = live.streams.first().context("no streams")?;
    let mut verdicts = Verdicts::default();
    let (outcomes, asked, back) = lose(&arguments, gateway, streams)?;
    judge_loss(&arguments, &outcomes, &asked, back, &mut verdicts);
    judge_catching_up(&live, gateway, streams, &mut verdicts)?;
    if let Some(dir) = &arguments.keep {
        let marks = [
            (LEAD_IN, "streams held".to_owned()),
            (
                LEAD_IN + Duration::from_secs(arguments.seconds),
                "streams back".to_owned(),
            ),
        ];
        let mut summary = timeline::table(&outcomes, &KINDS, &marks);
        summary += "\n";
        summary += &verdicts.text();
        let mut requests = String::from("second,origin_requests\n");
        for (at, count) in a_second(&asked) {
            let _ = writeln!(requests, "{:.2},{count:.0}", at.as_secs_f64());
        }
        let files = [
            ("summary.md", summary.as_str()),
            ("origin_requests.csv", &requests),
        ];
        println!("kept in {}", keep(dir, &files)?.display());
    }
    Ok(verdicts.exit_code())
}

/// One of a product's pages.
fn read(number: u64, product: usize) -> Vec<u8> {
    get(&match number % 3 {
        0 => format!("/products/{product}"),
        1 => format!("/reviews/meta?product_id={product}"),
        _ => format!("/reviews?product_id={product}"),
    })
}

/// Asks for every page once: what is asked for later is there, if it may be used.
fn warm(live: &Live) -> Result<()> {
    for gateway in &live.gateways {
        let mut client = Client::new(gateway.public, ANSWER_LIMIT);
        for product in 1..=PRODUCTS as usize {
            for number in 0..3 {
                client.exchange(&read(number, product))?;
            }
        }
    }
    Ok(())
}

/// Reads at a rate while the streams stand still for a while; gives the outcomes, what the origins were asked for, and how
/// long it took from the streams' return to a lease.
fn lose(
    arguments: &Arguments,
    gateway: &GatewayProcess,
    streams: &[Relay],
) -> Result<(Vec<Outcome>, Asked, Duration)> {
    let lost = Duration::from_secs(arguments.seconds);
    let pace = Pace {
        address: gateway.public,
        rate: arguments.rate,
        duration: LEAD_IN + lost + LEAD_IN,
        workers: WORKERS,
        timeout: ANSWER_LIMIT,
    };
    let zipf = Zipf::new(PRODUCTS as usize);
    let start = Instant::now();
    let is_over = AtomicBool::new(false);
    thread::scope(|scope| {
        let load = scope.spawn(|| {
            paced::run(pace, start, &|number| {
                let product = zipf.pick(&mut Dice::new(number)) + 1;
                Request {
                    kind: 0,
                    bytes: read(number, product),
                }
            })
        });
        let counter = scope.spawn(|| {
            let mut asked = Asked::new();
            while !is_over.load(Ordering::Relaxed) {
                asked.push((start.elapsed(), gateway.origin_requests()?));
                sleep_until(Instant::now() + LOOK_EVERY);
            }
            anyhow::Ok(asked)
        });
        sleep_until(start + LEAD_IN);
        streams.iter().for_each(|relay| relay.set(Mode::Hold));
        sleep_until(start + LEAD_IN + lost);
        streams.iter().for_each(|relay| relay.set(Mode::Pass));
        let mended = Instant::now();
        becomes_true(CAUGHT_UP_LIMIT, || gateway.has_lease());
        let back = mended.elapsed();
        let outcomes = load.join().map_err(|_| anyhow!("the load panicked"))??;
        is_over.store(true, Ordering::Relaxed);
        let asked = counter
            .join()
            .map_err(|_| anyhow!("the counter panicked"))??;
        Ok((outcomes, asked, back))
    })
}

/// Origin requests a second, over each second that ends with a look.
fn a_second(asked: &Asked) -> Vec<(Duration, f64)> {
    let looks = (1_000 / LOOK_EVERY.as_millis()) as usize;
    asked
        .windows(looks + 1)
        .filter_map(|window| {
            let ((from, before), (to, after)) = (window.first()?, window.last()?);
            Some((*to, (after - before) as f64 / (*to - *from).as_secs_f64()))
        })
        .collect()
}

fn judge_loss(
    arguments: &Arguments,
    outcomes: &[Outcome],
    asked: &Asked,
    back: Duration,
    verdicts: &mut Verdicts,
) {
    let failed = outcomes.iter().filter(|one| !one.is_good()).count();
    verdicts.check(
        "no read fails",
        failed == 0,
        format_args!(
            "{failed} of {} at {} a second",
            outcomes.len(),
            arguments.rate
        ),
    );
    // While there is no lease: from when the last one has run out.
    let from = LEAD_IN + LEASE + Duration::from_secs(1);
    let to = LEAD_IN + Duration::from_secs(arguments.seconds);
    let rates = a_second(asked);
    let lost = rates.iter().filter(|(at, _)| from <= *at && *at <= to);
    let (most, count, sum) = lost.fold((0.0_f64, 0, 0.0), |(most, count, sum), (_, rate)| {
        (most.max(*rate), count + 1, sum + rate)
    });
    let bound = f64::from(arguments.revalidations);
    verdicts.check(
        format_args!("without a lease at most {bound} origin requests a second"),
        // Both looks at the counter take a moment.
        count > 0 && most <= bound * 1.05,
        format_args!(
            "{:.0} on average, {most:.0} in the busiest second",
            sum / f64::from(count.max(1))
        ),
    );
    verdicts.check(
        "a lease again soon after the stream is back",
        back <= LEASE,
        format_args!("{} ms", back.as_millis()),
    );
}

/// Many changes while the streams are cut, and how long it takes to know them.
fn judge_catching_up(
    live: &Live,
    gateway: &GatewayProcess,
    streams: &[Relay],
    verdicts: &mut Verdicts,
) -> Result<()> {
    let position = || -> Result<String> { Ok(gateway.status()?["coherence"].to_string()) };
    streams.iter().for_each(|relay| relay.set(Mode::Cut));
    let mut session = Sql::connect(&live.owner_url())?;
    session.run("set synchronous_commit = off")?;
    session.run(
        "do $$ begin
           for n in 1 .. 100000 loop
             update shop.reviews set helpfulness = helpfulness + 1
              where id = (select min(id) + n % 5000 from shop.reviews);
             commit;
           end loop;
         end $$",
    )?;
    streams.iter().for_each(|relay| relay.set(Mode::Pass));
    let mended = Instant::now();
    let is_back = becomes_true(CAUGHT_UP_LIMIT, || gateway.has_lease());
    let took = mended.elapsed();
    verdicts.check(
        format_args!("up to date again after {CHANGES} changes that nobody heard of"),
        is_back,
        format_args!("{:.2} s; {}", took.as_secs_f64(), position()?),
    );
    Ok(())
}
