//! Cache hits: the gateway beside nginx's cache, one worker each, both before the same origin, in turn within one run.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Result, ensure};
use benches::load::{self, Load};
use benches::nginx::Nginx;
use benches::report::{Report, Round};
use benches::running::Running;
use clap::Parser;

const GATEWAY: &str = "gateway";
const NGINX: &str = "nginx";
/// Product pages asked for: all of them fit both caches.
const PAGES: u64 = 500;

#[derive(Parser)]
struct Arguments {
    /// Connections at once.
    #[arg(long, default_value_t = 64)]
    connections: usize,
    /// Seconds a round.
    #[arg(long, default_value_t = 5)]
    seconds: u64,
    /// Rounds of each contender.
    #[arg(long, default_value_t = 5)]
    rounds: usize,
    /// Keep the run in this folder.
    #[arg(long)]
    keep: Option<PathBuf>,
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<()> {
    let arguments = Arguments::parse();
    let running = Running::up(1_000, 1).await?;
    let nginx = Nginx::before(running.origin()?).await?;
    let contenders = [(GATEWAY, running.gateway()?), (NGINX, nginx.address)];
    let requests: Vec<Vec<u8>> = (1..=PAGES)
        .map(|product| load::get(&format!("/reviews?product_id={product}")))
        .collect();
    let load = |address: SocketAddr, seconds: u64| Load {
        address,
        requests: Arc::new(requests.clone()),
        connections: arguments.connections,
        duration: Duration::from_secs(seconds),
    };
    for (_, address) in contenders {
        let warm = load::run(&load(address, 2)).await?;
        ensure!(
            warm.failures == 0,
            "{} answers at {address} were not good",
            warm.failures
        );
    }
    let mut report = Report::default();
    for _ in 0..arguments.rounds {
        for (contender, address) in contenders {
            let measured = load::run(&load(address, arguments.seconds)).await?;
            report.add(Round::of(contender, "hits", &measured));
        }
    }
    println!("\n{}", report.summary(NGINX));
    if let Some(dir) = arguments.keep {
        println!("kept in {}", report.keep(&dir, NGINX)?.display());
    }
    Ok(())
}
