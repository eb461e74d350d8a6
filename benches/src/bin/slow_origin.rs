//! Four origins of which one is three times slower: least connections, two choices and turns side by side.

use std::fmt::Write as _;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use anyhow::Result;
use benches::gateway_process::GatewayProcess;
use benches::load::get;
use benches::paced::{self, Outcome, Pace, Request};
use benches::queued::Machine;
use benches::report::{keep, or_dash, quantile};
use benches::scripted::Scripted;
use benches::verdict::Verdicts;
use clap::Parser;

const ALGORITHMS: [&str; 3] = ["round_robin", "least_connections", "power_of_two"];
/// Sizes in KiB, each as often as the others.
const SIZES: [u32; 8] = [1, 1, 2, 4, 1, 8, 2, 64];
const MACHINE: Machine = Machine {
    slots: 8,
    service: Duration::from_millis(8),
    percent_per_kib: 2,
};
const SLOWER: u32 = 3;
const WORKERS: usize = 512;
const ANSWER_LIMIT: Duration = Duration::from_secs(20);

#[derive(Parser)]
struct Arguments {
    /// How long each algorithm runs.
    #[arg(long, default_value_t = 60)]
    seconds: u64,
    /// The load, as a share of what all four can do.
    #[arg(long, default_value_t = 0.6)]
    share: f64,
    /// Keep the run in this folder.
    #[arg(long)]
    keep: Option<PathBuf>,
}

struct Scene {
    algorithm: &'static str,
    outcomes: Vec<Outcome>,
    asked: Vec<u64>,
}

impl Scene {
    fn ms(&self, at: f64) -> Option<f64> {
        let ms: Vec<f64> = self.outcomes.iter().map(Outcome::ms).collect();
        quantile(&ms, at)
    }

    fn failures(&self) -> usize {
        self.outcomes.iter().filter(|one| !one.is_good()).count()
    }
}

fn main() -> Result<ExitCode> {
    let arguments = Arguments::parse();
    let kib = SIZES.iter().map(|size| f64::from(*size)).sum::<f64>() / SIZES.len() as f64;
    let capacity = MACHINE.capacity(kib) * (3.0 + 1.0 / f64::from(SLOWER));
    let rate = capacity * arguments.share;
    println!("capacity {capacity:.0}/s, load {rate:.0}/s");
    let mut scenes = Vec::new();
    for algorithm in ALGORITHMS {
        scenes.push(run(
            algorithm,
            rate,
            Duration::from_secs(arguments.seconds),
        )?);
    }
    let table = table(&scenes);
    println!("{table}");
    let p99 = |name: &str| {
        let scene = scenes.iter().find(|scene| scene.algorithm == name);
        scene.and_then(|scene| scene.ms(0.99))
    };
    let (least, turns) = (p99("least_connections"), p99("round_robin"));
    let mut verdicts = Verdicts::default();
    verdicts.check(
        "the 99th percentile under least connections is below that under round robin",
        least < turns && least.is_some(),
        format_args!(
            "{} ms against {} ms",
            or_dash(least.map(|ms| format!("{ms:.1}"))),
            or_dash(turns.map(|ms| format!("{ms:.1}")))
        ),
    );
    let failures = scenes.iter().map(Scene::failures).sum::<usize>();
    verdicts.check(
        "nothing fails",
        failures == 0,
        format_args!("{failures} failed"),
    );
    if let Some(dir) = &arguments.keep {
        let summary = format!(
            "load {rate:.0}/s of {capacity:.0}/s\n\n{table}\n{}",
            verdicts.text()
        );
        let raw = raw(&scenes);
        let files = [("summary.md", summary.as_str()), ("raw.csv", raw.as_str())];
        println!("kept in {}", keep(dir, &files)?.display());
    }
    Ok(verdicts.exit_code())
}

fn run(algorithm: &'static str, rate: f64, duration: Duration) -> Result<Scene> {
    let slow = Machine {
        service: MACHINE.service * SLOWER,
        ..MACHINE
    };
    let origins: Vec<Scripted> = [MACHINE, MACHINE, MACHINE, slow]
        .into_iter()
        .map(Machine::start)
        .collect::<Result<_>>()?;
    let addresses: Vec<_> = origins.iter().map(Scripted::address).collect();
    let settings = format!("[upstream]\nbalance = \"{algorithm}\"\npool_size = 512\n");
    let gateway = GatewayProcess::before_all(&addresses, &settings, &[])?;
    let pace = Pace {
        address: gateway.public,
        rate,
        duration,
        workers: WORKERS,
        timeout: ANSWER_LIMIT,
    };
    let outcomes = paced::run(pace, Instant::now(), &|number| {
        let place = number as usize % SIZES.len();
        Request {
            kind: place,
            bytes: get(&format!("/{number}/{}", SIZES[place])),
        }
    })?;
    Ok(Scene {
        algorithm,
        outcomes,
        asked: origins.iter().map(Scripted::asked).collect(),
    })
}

fn table(scenes: &[Scene]) -> String {
    let mut table = String::from(
        "| algorithm | requests | failed | p50 ms | p90 ms | p99 ms | longest ms | asked of each origin, the slow one last |\n|---|---:|---:|---:|---:|---:|---:|---|\n",
    );
    for scene in scenes {
        let ms = |at| or_dash(scene.ms(at).map(|ms| format!("{ms:.1}")));
        let _ = writeln!(
            table,
            "| {} | {} | {} | {} | {} | {} | {} | {:?} |",
            scene.algorithm,
            scene.outcomes.len(),
            scene.failures(),
            ms(0.5),
            ms(0.9),
            ms(0.99),
            ms(1.0),
            scene.asked
        );
    }
    table
}

fn raw(scenes: &[Scene]) -> String {
    let mut raw = String::from("algorithm,number,kib,due_ms,took_ms,status\n");
    for scene in scenes {
        for one in &scene.outcomes {
            let _ = writeln!(
                raw,
                "{},{},{},{:.1},{:.2},{}",
                scene.algorithm,
                one.number,
                SIZES[one.kind],
                one.due.as_secs_f64() * 1e3,
                one.ms(),
                one.status()
            );
        }
    }
    raw
}
