//! The whole stack in the memory of one small machine: Postgres, two origins and the gateway in one control group, under
//! mixed load. What does each hold, is anybody killed, and does a request fail?

use std::fmt::Write as _;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Result, anyhow, ensure};
use benches::dice::Dice;
use benches::load::{get, put};
use benches::memory_limit::MemoryLimit;
use benches::paced::{self, Outcome, Pace, Request, sleep_until};
use benches::program::resident_bytes;
use benches::report::{keep, or_dash, quantile};
use benches::shop::Shop;
use benches::timeline;
use benches::verdict::Verdicts;
use benches::writers::review;
use benches::zipf::Zipf;
use clap::Parser;

const MIB: f64 = 1024.0 * 1024.0;
const KINDS: [&str; 2] = ["GET", "write"];
const READ: usize = 0;
const WRITE: usize = 1;
/// Products that are asked for, the first most often.
const ASKED_FOR: u64 = 10_000;
const WORKERS: usize = 128;
const ANSWER_LIMIT: Duration = Duration::from_secs(20);
/// Between two looks at the group.
const LOOK_EVERY: Duration = Duration::from_millis(500);

/// What is promised.
const LIMIT_MIB: u64 = 900;
const GATEWAY_MIB_MAX: f64 = 256.0;

#[derive(Parser)]
struct Arguments {
    /// How long.
    #[arg(long, default_value_t = 1_800)]
    seconds: u64,
    /// Requests a second, of which one in ten writes.
    #[arg(long, default_value_t = 300.0)]
    rate: f64,
    /// Products to generate.
    #[arg(long, default_value_t = ASKED_FOR)]
    products: u64,
    /// Keep the run in this folder.
    #[arg(long)]
    keep: Option<PathBuf>,
}

/// What is asked for and written to.
struct Traffic {
    zipf: Zipf,
    reviews: Vec<u32>,
}

/// The most that a process held.
struct Held {
    program: String,
    bytes: u64,
}

fn main() -> Result<ExitCode> {
    let arguments = Arguments::parse();
    let limit = MemoryLimit::of(LIMIT_MIB << 20)?;
    let mut shop = limit.within(|| Shop::up(arguments.products, 2))??;
    let server = shop.cluster.server_id()?;
    let traffic = Traffic::of(&shop, arguments.products)?;
    let pace = Pace {
        address: shop.address,
        rate: arguments.rate,
        duration: Duration::from_secs(arguments.seconds),
        workers: WORKERS,
        timeout: ANSWER_LIMIT,
    };
    let done = AtomicBool::new(false);
    let (outcomes, needed) = thread::scope(|scope| {
        let looking = scope.spawn(|| most_needed(&limit, &done));
        let outcomes = paced::run(pace, Instant::now(), &|number| traffic.request(number));
        done.store(true, Ordering::Relaxed);
        let needed = looking.join().map_err(|_| anyhow!("the look panicked"))?;
        anyhow::Ok((outcomes?, needed))
    })?;
    let held = held(&shop)?;
    let mut verdicts = Verdicts::default();
    judge_answers(&outcomes, &mut verdicts);
    let all_run = shop.all_run() && stack::process::is_alive(server);
    judge_memory(&limit, needed, &held, all_run, &mut verdicts);
    if let Some(dir) = &arguments.keep {
        let table = timeline::table(&outcomes, &KINDS, &[]);
        let summary = format!("{}\n{}\n{table}", verdicts.text(), table_of(&held));
        let raw = timeline::raw(&outcomes, &KINDS);
        let files = [("summary.md", summary.as_str()), ("raw.csv", raw.as_str())];
        println!("kept in {}", keep(dir, &files)?.display());
    }
    // The group goes when its processes are gone.
    drop(shop);
    drop(limit);
    Ok(verdicts.exit_code())
}

/// Every process of the stack.
fn programs(shop: &Shop) -> Result<Vec<(String, u32)>> {
    let server = shop.cluster.server_id()?;
    let mut programs = vec![
        ("gateway".to_owned(), shop.gateway.id()),
        ("postgres".to_owned(), server),
    ];
    for (number, origin) in shop.origins.iter().enumerate() {
        programs.push((format!("origin {}", number + 1), origin.program.id()));
    }
    for process in stack::process::children(server)? {
        programs.push((format!("postgres, process {process}"), process));
    }
    Ok(programs)
}

impl Traffic {
    fn of(shop: &Shop, products: u64) -> Result<Self> {
        ensure!(products > 0, "there is nothing to ask for");
        let rows = shop.query("select id from shop.reviews where not reported order by id")?;
        let reviews = rows
            .iter()
            .map(|row| row[0].parse())
            .collect::<Result<_, _>>()?;
        Ok(Self {
            zipf: Zipf::new(products.min(ASKED_FOR) as usize),
            reviews,
        })
    }

    /// Of ten requests nine read a page of some product, and one writes.
    fn request(&self, number: u64) -> Request {
        let mut dice = Dice::new(number);
        let product = 1 + self.zipf.pick(&mut dice) as u32;
        if !number.is_multiple_of(10) {
            let path = match dice.between(0, 4) {
                0 => format!("/products/{product}"),
                1 => format!("/products/{product}/styles"),
                2 => format!("/reviews?product_id={product}"),
                3 => format!("/reviews/meta?product_id={product}"),
                _ => format!("/qa/questions?product_id={product}"),
            };
            return Request {
                kind: READ,
                bytes: get(&path),
            };
        }
        let bytes = match (dice.between(0, 1), dice.pick(&self.reviews)) {
            (0, Some(voted_for)) => put(&format!("/reviews/{voted_for}/helpful")),
            _ => review(product, &format!("small-machine-{number}"), ""),
        };
        Request { kind: WRITE, bytes }
    }
}

/// The most that was needed at any look; none where the system does not tell.
fn most_needed(limit: &MemoryLimit, done: &AtomicBool) -> Option<u64> {
    let mut most = None;
    while !done.load(Ordering::Relaxed) {
        most = most.max(limit.needed_bytes());
        sleep_until(Instant::now() + LOOK_EVERY);
    }
    most
}

/// The most that each process held; what Postgres' processes share counts in each of them.
fn held(shop: &Shop) -> Result<Vec<Held>> {
    let mut held = Vec::new();
    for (program, id) in programs(shop)? {
        // A session of Postgres may end meanwhile.
        if let Ok((_, bytes)) = resident_bytes(id) {
            held.push(Held { program, bytes });
        }
    }
    Ok(held)
}

fn table_of(held: &[Held]) -> String {
    let mut table = String::from("| program | most that was resident, MiB |\n|---|---:|\n");
    for Held { program, bytes } in held {
        let _ = writeln!(table, "| {program} | {:.1} |", *bytes as f64 / MIB);
    }
    table
}

fn judge_answers(outcomes: &[Outcome], verdicts: &mut Verdicts) {
    for (kind, name) in KINDS.iter().enumerate() {
        let of_kind = || outcomes.iter().filter(|one| one.kind == kind);
        let failed = of_kind().filter(|one| !one.is_good()).count();
        let hits = of_kind().filter(|one| one.reply.is_some_and(|reply| reply.is_hit));
        let ms: Vec<f64> = of_kind().map(Outcome::ms).collect();
        let at = |part| or_dash(quantile(&ms, part).map(|ms| format!("{ms:.1}")));
        verdicts.check(
            format_args!("every {name} is answered"),
            failed == 0 && !ms.is_empty(),
            format_args!(
                "{failed} of {} failed, {} hits; median {} ms, p99 {} ms",
                ms.len(),
                hits.count(),
                at(0.5),
                at(0.99)
            ),
        );
    }
}

fn judge_memory(
    limit: &MemoryLimit,
    needed: Option<u64>,
    held: &[Held],
    all_run: bool,
    verdicts: &mut Verdicts,
) {
    let mib = |bytes: Option<u64>| or_dash(bytes.map(|bytes| format!("{:.0}", bytes as f64 / MIB)));
    println!("{}", table_of(held));
    verdicts.check(
        format_args!("the whole stack lives in {LIMIT_MIB} MiB, and nothing of it is killed"),
        limit.killed() == 0 && all_run,
        format_args!(
            "{} killed; {} MiB at most with cached files, {} MiB without; the limit was met {} times",
            limit.killed(),
            mib(limit.most_bytes()),
            mib(needed),
            or_dash(limit.met())
        ),
    );
    let gateway = held.iter().find(|held| held.program == "gateway");
    let bytes = gateway.map(|held| held.bytes);
    verdicts.check(
        format_args!("the gateway holds at most {GATEWAY_MIB_MAX} MiB, with a cache of 96 MiB"),
        bytes.is_some_and(|bytes| bytes as f64 / MIB <= GATEWAY_MIB_MAX),
        format_args!("{} MiB", mib(bytes)),
    );
}
