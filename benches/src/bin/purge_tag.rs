//! A group of ten thousand among a hundred thousand is purged: how long that takes, and what hits notice of it.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use benches::exchange::Exchange;
use benches::gateway_process::{GatewayProcess, purged};
use benches::load::get;
use benches::report::{self, or_dash, quantile};
use benches::scripted::{Reply, Scripted};
use benches::verdict::Verdicts;
use clap::Parser;
use serde_json::json;

/// Connections that fill the cache.
const FILLERS: u64 = 32;
/// Pages outside the group that are hit meanwhile.
const HIT_PAGES: u64 = 2_000;
/// How long hits run before the purge, and after it.
const LEAD: Duration = Duration::from_millis(700);

#[derive(Parser)]
struct Arguments {
    /// Objects in the cache.
    #[arg(long, default_value_t = 100_000)]
    objects: u64,
    /// Objects of the group; every so many-th.
    #[arg(long, default_value_t = 10_000)]
    group: u64,
    /// Bytes of a body.
    #[arg(long, default_value_t = 1_024)]
    body_bytes: usize,
    /// Connections that hit at once.
    #[arg(long, default_value_t = 16)]
    connections: u64,
    /// Purges.
    #[arg(long, default_value_t = 20)]
    rounds: usize,
    /// Keep the run in this folder.
    #[arg(long)]
    keep: Option<PathBuf>,
}

/// A hit: when it was asked for, and how long it took.
#[derive(Debug, Clone, Copy)]
struct Hit {
    at: Instant,
    took: Duration,
}

/// One purge and the hits around it.
struct Round {
    purge: Duration,
    /// Microseconds of the hits on their way while the purge was, and in as long a time before it.
    during_us: Vec<f64>,
    without_us: Vec<f64>,
}

fn page(number: u64) -> Vec<u8> {
    get(&format!("/page/{number}"))
}

fn origin(every: u64, body_bytes: usize) -> Result<Scripted> {
    Scripted::start(move |asked| {
        let number = asked.target.rsplit('/').next();
        let number: u64 = number
            .and_then(|number| number.parse().ok())
            .unwrap_or_default();
        let group = if number.is_multiple_of(every) {
            "the-group"
        } else {
            "others"
        };
        let fields = format!("Cache-Groups: \"{group}\", \"page-{number}\"\r\n");
        std::future::ready(Some(Reply::ok(&fields, vec![b'x'; body_bytes])))
    })
}

/// Asks for pages until all were answered.
async fn fill(address: SocketAddr, numbers: impl Iterator<Item = u64>) -> Result<()> {
    let numbers: Vec<u64> = numbers.collect();
    let fillers: Vec<_> = (0..FILLERS as usize)
        .map(|first| {
            let mine: Vec<u64> = numbers
                .iter()
                .copied()
                .skip(first)
                .step_by(FILLERS as usize)
                .collect();
            tokio::spawn(async move {
                let mut connection = Exchange::new(address);
                for number in mine {
                    let answer = connection.exchange(&page(number)).await?;
                    ensure!(answer.status == 200, "{answer:?}");
                }
                anyhow::Ok(())
            })
        })
        .collect();
    for filler in fillers {
        filler.await??;
    }
    Ok(())
}

/// Hits one page after the other, none of them in the group, until told to stop.
async fn hit(
    address: SocketAddr,
    first: u64,
    every: u64,
    stop: Arc<AtomicBool>,
) -> Result<Vec<Hit>> {
    let mut connection = Exchange::new(address);
    let mut hits = Vec::with_capacity(100_000);
    for turn in first.. {
        if stop.load(Ordering::Relaxed) {
            break;
        }
        // The pages between two of the group.
        let number = (turn % HIT_PAGES) / (every - 1) * every + 1 + turn % HIT_PAGES % (every - 1);
        let request = page(number);
        let at = Instant::now();
        let answer = connection.exchange(&request).await?;
        ensure!(answer.is_hit()?, "no hit: {answer:?}");
        hits.push(Hit {
            at,
            took: at.elapsed(),
        });
    }
    Ok(hits)
}

async fn round(arguments: &Arguments, gateway: &GatewayProcess, every: u64) -> Result<Round> {
    let stop = Arc::new(AtomicBool::new(false));
    let hitters: Vec<_> = (0..arguments.connections)
        .map(|number| {
            let first = number * HIT_PAGES / arguments.connections;
            tokio::spawn(hit(gateway.public, first, every, Arc::clone(&stop)))
        })
        .collect();
    let mut admin = Exchange::new(gateway.admin);
    let request = gateway.purge(&json!({ "tags": ["the-group"] }));
    tokio::time::sleep(LEAD).await;
    let began = Instant::now();
    let answer = admin.exchange(&request).await?;
    let ended = Instant::now();
    tokio::time::sleep(LEAD).await;
    stop.store(true, Ordering::Relaxed);
    let objects = purged(&answer, "objects")?;
    ensure!(
        objects == arguments.group,
        "{objects} were purged: {answer:?}"
    );
    let mut hits = Vec::new();
    for hitter in hitters {
        hits.extend(hitter.await??);
    }
    // A long hit meets a window more often than a short one: the window without a purge is chosen the same way.
    let before = began - LEAD / 2;
    let within = |from: Instant, to: Instant| -> Vec<f64> {
        hits.iter()
            .filter(|hit| hit.at < to && hit.at + hit.took > from)
            .map(|hit| hit.took.as_secs_f64() * 1e6)
            .collect()
    };
    Ok(Round {
        purge: ended - began,
        during_us: within(began, ended),
        without_us: within(before, before + (ended - began)),
    })
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<ExitCode> {
    let arguments = Arguments::parse();
    let every = arguments.objects / arguments.group;
    ensure!(every > 1, "the group has to leave pages to hit");
    let origin = origin(every, arguments.body_bytes)?;
    let settings = "[cache]\nbudget = \"512MiB\"\n[limits]\nkeepalive_requests_max = 1000000000\n";
    let gateway = GatewayProcess::before(origin.address(), settings, &[])?;
    fill(gateway.public, 0..arguments.objects).await?;
    let mut rounds = Vec::new();
    for number in 0..arguments.rounds {
        let measured = round(&arguments, &gateway, every).await?;
        println!(
            "purge {number:>3}: {:>7.2} ms, {:>5} hits meanwhile, p99 {} us, without {} us",
            measured.purge.as_secs_f64() * 1e3,
            measured.during_us.len(),
            or_dash(quantile(&measured.during_us, 0.99).map(f64::round)),
            or_dash(quantile(&measured.without_us, 0.99).map(f64::round)),
        );
        rounds.push(measured);
        fill(
            gateway.public,
            (0..arguments.objects).step_by(every as usize),
        )
        .await?;
    }
    conclude(&arguments, &rounds)
}

fn conclude(arguments: &Arguments, rounds: &[Round]) -> Result<ExitCode> {
    let all = |of: fn(&Round) -> &Vec<f64>| -> Vec<f64> {
        rounds
            .iter()
            .flat_map(|round| of(round).iter().copied())
            .collect()
    };
    let (during, without) = (
        all(|round| &round.during_us),
        all(|round| &round.without_us),
    );
    let purges: Vec<f64> = rounds
        .iter()
        .map(|round| round.purge.as_secs_f64() * 1e3)
        .collect();
    let figure = |figures: &[f64], at: f64| quantile(figures, at).unwrap_or(f64::NAN);
    let mut summary = format!(
        "Purges of {} objects among {}, {} rounds: median {:.2} ms, longest {:.2} ms.\n\n| hits | count | p50 us | p99 us | longest us |\n|---|---:|---:|---:|---:|\n",
        arguments.group,
        arguments.objects,
        rounds.len(),
        figure(&purges, 0.5),
        figure(&purges, 1.0),
    );
    for (name, figures) in [
        ("during the purge", &during),
        ("in as long a time without", &without),
    ] {
        summary += &format!(
            "| {name} | {} | {:.0} | {:.0} | {:.0} |\n",
            figures.len(),
            figure(figures, 0.5),
            figure(figures, 0.99),
            figure(figures, 1.0)
        );
    }
    println!("\n{summary}");
    let mut verdicts = Verdicts::default();
    verdicts.check(
        "hits went on during every purge",
        rounds
            .iter()
            .all(|round| round.during_us.len() as u64 >= arguments.connections),
        format!("{} hits in {} purges", during.len(), rounds.len()),
    );
    if let Some(dir) = &arguments.keep {
        let mut raw = String::from("purge_ms,hits,p99_us,p99_without_us\n");
        for round in rounds {
            raw += &format!(
                "{:.3},{},{:.0},{:.0}\n",
                round.purge.as_secs_f64() * 1e3,
                round.during_us.len(),
                figure(&round.during_us, 0.99),
                figure(&round.without_us, 0.99)
            );
        }
        let summary = summary + "\n" + &verdicts.text();
        let files = [("raw.csv", raw.as_str()), ("summary.md", summary.as_str())];
        println!("kept in {}", report::keep(dir, &files)?.display());
    }
    Ok(verdicts.exit_code())
}
