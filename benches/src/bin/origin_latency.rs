//! Latency of each endpoint through one origin at a modest rate, and its memory at a high one.

use std::ffi::OsString;
use std::fmt::Write as _;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Result, anyhow, ensure};
use benches::database;
use benches::dice::Dice;
use benches::load::{get, post, put};
use benches::origin_process::Origin;
use benches::paced::{self, Outcome, Pace, Request, sleep_until};
use benches::program::resident_bytes;
use benches::report::{keep, or_dash, quantile};
use benches::running::Running;
use benches::timeline;
use benches::verdict::Verdicts;
use benches::writers::review;
use benches::writes::Last;
use clap::Parser;

const RESIDENT_MIB_MAX: f64 = 60.0;
const MIB: f64 = (1_u64 << 20) as f64;
/// Requests before those that count: the database's sessions learn the statements.
const WARM_UP: Duration = Duration::from_secs(1);
const WORKERS: usize = 64;
const ANSWER_LIMIT: Duration = Duration::from_secs(15);
/// Memory is looked at this often while the high rate lasts.
const SAMPLE_EVERY: Duration = Duration::from_millis(250);

#[derive(Parser)]
struct Arguments {
    /// A system that runs already: the file of its `stack up --endpoints`; else one is started.
    #[arg(long)]
    endpoints: Option<PathBuf>,
    /// Products of a system that is started.
    #[arg(long, default_value_t = 10_000)]
    products: u64,
    /// Requests a second to one endpoint.
    #[arg(long, default_value_t = 200.0)]
    rate: f64,
    /// Seconds for each endpoint.
    #[arg(long, default_value_t = 10)]
    seconds: u64,
    /// Requests a second while memory is measured.
    #[arg(long, default_value_t = 2_000.0)]
    memory_rate: f64,
    /// Seconds for which memory is measured.
    #[arg(long, default_value_t = 30)]
    memory_seconds: u64,
    /// Do not write reviews and votes.
    #[arg(long)]
    no_writes: bool,
    /// Keep the run in this folder.
    #[arg(long)]
    keep: Option<PathBuf>,
    /// More arguments for the measured `origin run`.
    #[arg(last = true)]
    origin: Vec<OsString>,
}

/// What is asked of the origin, and the request for it with ids drawn at random.
type Endpoint = (&'static str, fn(&mut Dice, Last) -> Vec<u8>);

const ENDPOINTS: [Endpoint; 23] = [
    ("GET /products/{id}", |dice, ids| {
        get(&format!("/products/{}", product(dice, ids)))
    }),
    ("GET /products/{id}/styles", |dice, ids| {
        get(&format!("/products/{}/styles", product(dice, ids)))
    }),
    ("GET /products/{id}/related", |dice, ids| {
        get(&format!("/products/{}/related", product(dice, ids)))
    }),
    ("GET /reviews", |dice, ids| {
        get(&format!("/reviews?product_id={}", product(dice, ids)))
    }),
    ("GET /reviews?sort=newest", |dice, ids| {
        let product = product(dice, ids);
        get(&format!("/reviews?product_id={product}&sort=newest"))
    }),
    ("GET /reviews?sort=helpful", |dice, ids| {
        let product = product(dice, ids);
        get(&format!("/reviews?product_id={product}&sort=helpful"))
    }),
    ("GET /reviews/meta", |dice, ids| {
        get(&format!("/reviews/meta?product_id={}", product(dice, ids)))
    }),
    ("GET /qa/questions", |dice, ids| {
        get(&format!("/qa/questions?product_id={}", product(dice, ids)))
    }),
    ("GET /qa/questions/{id}/answers", |dice, ids| {
        let question = dice.between(1, ids.question);
        get(&format!("/qa/questions/{question}/answers"))
    }),
    ("GET /products", |_, _| get("/products")),
    ("GET /products?page={random}", |dice, ids| {
        let page = dice.between(1, ids.product.div_ceil(5));
        get(&format!("/products?page={page}"))
    }),
    ("GET /cart", |dice, _| {
        get(&format!("/cart?user_token={}", cart(dice)))
    }),
    ("PUT /reviews/{id}/helpful", |dice, ids| {
        let id = dice.between(1, ids.review);
        put(&format!("/reviews/{id}/helpful"))
    }),
    ("PUT /reviews/{id}/report", |dice, ids| {
        let id = dice.between(1, ids.review);
        put(&format!("/reviews/{id}/report"))
    }),
    ("PUT /qa/questions/{id}/helpful", |dice, ids| {
        let id = dice.between(1, ids.question);
        put(&format!("/qa/questions/{id}/helpful"))
    }),
    ("PUT /qa/questions/{id}/report", |dice, ids| {
        let id = dice.between(1, ids.question);
        put(&format!("/qa/questions/{id}/report"))
    }),
    ("PUT /qa/answers/{id}/helpful", |dice, ids| {
        let id = dice.between(1, ids.answer);
        put(&format!("/qa/answers/{id}/helpful"))
    }),
    ("PUT /qa/answers/{id}/report", |dice, ids| {
        let id = dice.between(1, ids.answer);
        put(&format!("/qa/answers/{id}/report"))
    }),
    ("POST /reviews", |dice, ids| {
        let number = dice.between(1, u32::MAX - 1);
        review(product(dice, ids), &format!("latency-{number}"), "")
    }),
    ("POST /qa/questions", |dice, ids| {
        let product = product(dice, ids);
        let json = format!(
            "{{\"product_id\":{product},\"body\":\"Does it shrink?\",\"name\":\"measured\",\"email\":\"m@example.com\"}}"
        );
        post("/qa/questions", &json)
    }),
    ("POST /qa/questions/{id}/answers", |dice, ids| {
        let question = dice.between(1, ids.question);
        let json = "{\"body\":\"It does not.\",\"name\":\"measured\",\"email\":\"m@example.com\",\
                    \"photos\":[\"https://photos.example.com/a.jpg\"]}";
        post(&format!("/qa/questions/{question}/answers"), json)
    }),
    ("POST /cart", |dice, ids| {
        let sku = dice.between(1, ids.sku);
        let json = format!("{{\"sku_id\":{sku},\"user_token\":\"{}\"}}", cart(dice));
        post("/cart", &json)
    }),
    ("POST /interactions", |_, _| {
        post(
            "/interactions",
            "{\"element\":\"button\",\"widget\":\"reviews\",\"time\":\"2026-11-21T12:00:00Z\"}",
        )
    }),
];
/// The last ones of them.
const WRITES: usize = 11;

fn product(dice: &mut Dice, ids: Last) -> u32 {
    dice.between(1, ids.product)
}

/// The token of a cart, of which there are some hundreds.
fn cart(dice: &mut Dice) -> String {
    format!("measured-cart-{}", dice.between(1, 500))
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<ExitCode> {
    let arguments = Arguments::parse();
    let running =
        Running::existing_or_up(arguments.endpoints.as_deref(), arguments.products).await?;
    let mut conn = database::connect(running.owner_url()?).await?;
    let ids = database::last_ids(&mut conn).await?;
    let logs = tempfile::tempdir()?;
    let log = logs.path().join("origin.log");
    let mut origin = Origin::start(running.database_url()?, &log, &arguments.origin)?;
    let writes = if arguments.no_writes { WRITES } else { 0 };
    let endpoints = &ENDPOINTS[..ENDPOINTS.len() - writes];
    println!("{} products\n", ids.product);
    let (latencies, outcomes) = measure_latency(&arguments, &origin, endpoints, ids)?;
    let mut verdicts = Verdicts::default();
    let memory = measure_memory(&arguments, &origin, ids, &mut verdicts)?;
    ensure!(origin.program.is_running(), "the origin has ended");
    if let Some(dir) = &arguments.keep {
        let names: Vec<&str> = endpoints.iter().map(|(name, _)| *name).collect();
        let raw = timeline::raw(&outcomes, &names);
        let summary = format!(
            "{} products\n\n{latencies}\n{memory}\n{}",
            ids.product,
            verdicts.text()
        );
        let dir = keep(dir, &[("raw.csv", &raw), ("summary.md", &summary)])?;
        println!("kept in {}", dir.display());
    }
    Ok(verdicts.exit_code())
}

/// The requests of one endpoint: other ids in each run, the same ones in each run of one seed.
fn requests(
    endpoints: &[Endpoint],
    ids: Last,
    seed: u64,
) -> impl Fn(u64) -> Request + Sync + use<'_> {
    move |number| {
        let mut dice = Dice::new(seed.wrapping_mul(1 << 32).wrapping_add(number));
        let kind = number as usize % endpoints.len();
        Request {
            kind,
            bytes: endpoints[kind].1(&mut dice, ids),
        }
    }
}

fn measure_latency(
    arguments: &Arguments,
    origin: &Origin,
    endpoints: &[Endpoint],
    ids: Last,
) -> Result<(String, Vec<Outcome>)> {
    let mut table = String::from(
        "| endpoint | requests | failed | p50 ms | p99 ms | max ms |\n|---|---:|---:|---:|---:|---:|\n",
    );
    let mut all = Vec::new();
    let pace = Pace {
        address: origin.public,
        rate: arguments.rate,
        duration: WARM_UP,
        workers: WORKERS,
        timeout: ANSWER_LIMIT,
    };
    for (kind, endpoint) in endpoints.iter().enumerate() {
        let one = std::slice::from_ref(endpoint);
        let seed = kind as u64 * 2;
        paced::run(pace, Instant::now(), &requests(one, ids, seed))?;
        let counted = Pace {
            duration: Duration::from_secs(arguments.seconds),
            ..pace
        };
        let outcomes = paced::run(counted, Instant::now(), &requests(one, ids, seed + 1))?;
        let ms: Vec<f64> = outcomes.iter().map(Outcome::ms).collect();
        let at = |q| or_dash(quantile(&ms, q).map(|ms| format!("{ms:.2}")));
        // An id that was left out is answered 404 or, in a body, 422: that is an answer.
        let failed = outcomes
            .iter()
            .filter(|one| !one.is_good() && ![404, 422].contains(&one.status()))
            .count();
        let row = format!(
            "| {} | {} | {failed} | {} | {} | {} |",
            endpoint.0,
            outcomes.len(),
            at(0.5),
            at(0.99),
            at(1.0)
        );
        println!("{row}");
        let _ = writeln!(table, "{row}");
        all.extend(outcomes.into_iter().map(|one| Outcome { kind, ..one }));
    }
    Ok((table, all))
}

/// The memory of the origin's process under many reads of all kinds.
fn measure_memory(
    arguments: &Arguments,
    origin: &Origin,
    ids: Last,
    verdicts: &mut Verdicts,
) -> Result<String> {
    let reads = &ENDPOINTS[..ENDPOINTS.len() - WRITES];
    let pace = Pace {
        address: origin.public,
        rate: arguments.memory_rate,
        duration: Duration::from_secs(arguments.memory_seconds),
        workers: WORKERS,
        timeout: ANSWER_LIMIT,
    };
    let process = origin.program.id();
    let (before, _) = resident_bytes(process)?;
    let (is_over, most) = (AtomicBool::new(false), AtomicU64::new(0));
    let start = Instant::now();
    let outcomes = thread::scope(|scope| {
        let sampler = scope.spawn(|| -> Result<()> {
            while !is_over.load(Ordering::Relaxed) {
                most.fetch_max(resident_bytes(process)?.0, Ordering::Relaxed);
                sleep_until(Instant::now() + SAMPLE_EVERY);
            }
            Ok(())
        });
        let outcomes = paced::run(pace, start, &requests(reads, ids, 1 << 16));
        is_over.store(true, Ordering::Relaxed);
        let sampled = sampler
            .join()
            .map_err(|_| anyhow!("the sampler panicked"))?;
        sampled.and(outcomes)
    })?;
    let elapsed = start.elapsed().as_secs_f64();
    let answered = outcomes.iter().filter(|one| one.reply.is_some()).count();
    let refused = outcomes.iter().filter(|one| one.status() >= 500).count();
    let rate = (answered - refused) as f64 / elapsed;
    let (after, peak) = resident_bytes(process)?;
    let mib = |bytes: u64| bytes as f64 / MIB;
    let figures = format!(
        "{rate:.0} answers a second for {elapsed:.1} s, {refused} refused, p99 {} ms; resident MiB: {:.1} before, at most {:.1} \
         while it lasted, {:.1} after, {:.1} ever (VmHWM)",
        timeline::p99_ms(outcomes.iter()),
        mib(before),
        mib(most.into_inner()),
        mib(after),
        mib(peak)
    );
    verdicts.check(
        format_args!(
            "at most {RESIDENT_MIB_MAX} MiB at {} requests a second",
            arguments.memory_rate
        ),
        mib(peak) <= RESIDENT_MIB_MAX && rate >= 0.95 * arguments.memory_rate,
        &figures,
    );
    Ok(figures)
}
