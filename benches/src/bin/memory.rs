//! What a budget is in memory: ten times as much goes through the cache, with idle clients beside it.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use anyhow::{Result, ensure};
use benches::exchange::Exchange;
use benches::gateway_process::GatewayProcess;
use benches::program::resident_bytes;
use benches::report;
use benches::scripted::{Reply, Scripted};
use benches::verdict::Verdicts;
use clap::Parser;
use tokio::net::TcpStream;

const MIB: f64 = 1024.0 * 1024.0;
/// Clients that fill the cache at the same time.
const FILLERS: u64 = 32;
const FACTOR_MAX: f64 = 1.35;
const PAYLOAD_MIN: f64 = 0.9;
/// Until the gateway has taken the connections in.
const SETTLE: Duration = Duration::from_millis(500);

#[derive(Parser)]
struct Arguments {
    /// The cache's budget in MiB.
    #[arg(long, default_value_t = 64)]
    budget: u64,
    /// Bytes of one body.
    #[arg(long, default_value_t = 12 * 1024)]
    object: usize,
    /// How many times the budget goes through.
    #[arg(long, default_value_t = 10)]
    times: u64,
    /// Resident memory beside the cache in MiB, for a process that serves: code, pools, metrics. A debug build has more code.
    #[arg(long, default_value_t = 16)]
    base: u64,
    /// Idle clients.
    #[arg(long, default_value_t = 5_000)]
    idle: usize,
    /// A variable of the gateway's environment, NAME=VALUE; to compare allocators.
    #[arg(long)]
    variable: Vec<String>,
    /// Keep the run in this folder.
    #[arg(long)]
    keep: Option<PathBuf>,
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<ExitCode> {
    let arguments = Arguments::parse();
    let budget_bytes = arguments.budget << 20;
    let objects = budget_bytes * arguments.times / arguments.object as u64;
    let length = arguments.object;
    let origin = Scripted::start(move |asked| {
        let fields =
            "Content-Type: application/octet-stream\r\nETag: \"1\"\r\nCache-Groups: \"all\"\r\n";
        std::future::ready(Some(Reply::ok(fields, body(asked.number, length))))
    })?;
    let settings = format!(
        "[cache]\nbudget = \"{}MiB\"\n[limits]\nkeepalive_timeout = \"10m\"\nheader_timeout = \"10m\"\n",
        arguments.budget
    );
    let variables: Vec<(String, String)> = arguments
        .variable
        .iter()
        .filter_map(|variable| variable.split_once('='))
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .collect();
    let gateway = GatewayProcess::before(origin.address(), &settings, &variables)?;
    let id = gateway.program.id();
    let (alone, _) = resident_bytes(id)?;
    let idle = idle_clients(gateway.public, arguments.idle).await?;
    let (beside_idle, _) = resident_bytes(id)?;
    fill(gateway.public, objects).await?;
    let (filled, most) = resident_bytes(id)?;
    let kept = kept(gateway.public, objects).await?;
    let status = gateway.status()?;
    drop(idle);

    let used = status["cache"]["used_bytes"].as_u64().unwrap_or_default();
    let payload = kept as f64 * arguments.object as f64 / budget_bytes as f64;
    let for_idle = beside_idle.saturating_sub(alone) as f64 / MIB;
    let bound = FACTOR_MAX * arguments.budget as f64 + arguments.base as f64;
    let (filled, most) = (filled as f64 / MIB, most as f64 / MIB);
    let mut verdicts = Verdicts::default();
    verdicts.check(
        format!("payload kept is at least {PAYLOAD_MIN} of the budget"),
        payload >= PAYLOAD_MIN,
        format!("{payload:.3}: {kept} of {objects} bodies of {length} bytes"),
    );
    verdicts.check(
        "the account is within the budget",
        used <= budget_bytes,
        format!("{used} of {budget_bytes} bytes"),
    );
    verdicts.check(
        format!("resident memory, idle clients apart, stays within {bound:.1} MiB"),
        most - for_idle <= bound,
        format!(
            "{:.1} MiB at most, {:.1} at the end; {for_idle:.1} more for {} idle clients; {:.1} when it started",
            most - for_idle,
            filled - for_idle,
            arguments.idle,
            alone as f64 / MIB
        ),
    );
    if let Some(dir) = arguments.keep {
        let raw = format!("{status:#}");
        let files = [
            ("status.json", raw.as_str()),
            ("summary.md", &verdicts.text()),
        ];
        println!("kept in {}", report::keep(&dir, &files)?.display());
    }
    Ok(verdicts.exit_code())
}

/// Bytes that no allocator can share and no page can be without.
fn body(number: u64, length: usize) -> Vec<u8> {
    let mut state = number.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state as u8
    };
    (0..length).map(|_| next()).collect()
}

async fn idle_clients(address: SocketAddr, count: usize) -> Result<Vec<TcpStream>> {
    let mut clients = Vec::with_capacity(count);
    for _ in 0..count {
        clients.push(TcpStream::connect(address).await?);
    }
    tokio::time::sleep(SETTLE).await;
    Ok(clients)
}

/// Asks once for each object, by several clients in turn.
async fn fill(address: SocketAddr, objects: u64) -> Result<()> {
    let next = Arc::new(AtomicU64::new(0));
    let fillers: Vec<_> = (0..FILLERS)
        .map(|_| {
            let next = Arc::clone(&next);
            tokio::spawn(async move {
                let mut exchange = Exchange::new(address);
                loop {
                    let number = next.fetch_add(1, Ordering::Relaxed);
                    if number >= objects {
                        return anyhow::Ok(());
                    }
                    let answer = exchange.whole("GET", &format!("/{number}"), "").await?;
                    ensure!(answer.status == 200, "answered {}", answer.status);
                }
            })
        })
        .collect();
    for filler in fillers {
        filler.await??;
    }
    Ok(())
}

/// How many of the objects are there, asked one by one: the cache's own count is not taken for it.
async fn kept(address: SocketAddr, objects: u64) -> Result<u64> {
    let mut exchange = Exchange::new(address);
    let mut kept = 0;
    for number in 0..objects {
        let fields = "Cache-Control: only-if-cached\r\n";
        let answer = exchange
            .whole("HEAD", &format!("/{number}"), fields)
            .await?;
        kept += u64::from(answer.status == 200);
    }
    Ok(kept)
}
