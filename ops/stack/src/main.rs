//! The program `stack`, which `ops/up` runs: the whole system on one machine.

use std::process::ExitCode;

use anyhow::{Context, Result};
use clap::{Parser, Subcommand};
use stack::{TestCluster, signals::Signals, up};

/// The shop's gateway, origins and database on one machine.
#[derive(Parser)]
#[command(version)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Starts everything, with sample data if there is none yet, and stays until Ctrl-C.
    Up(up::Options),
    /// Starts an empty Postgres server to try things on, and removes it on Ctrl-C.
    Scratch,
}

#[tokio::main]
async fn main() -> ExitCode {
    let outcome = match Cli::parse().command {
        Command::Up(options) => up::run(options).await,
        Command::Scratch => scratch().await,
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

async fn scratch() -> Result<()> {
    let mut signals = Signals::listen().context("cannot listen to signals")?;
    let cluster = TestCluster::try_start()?;
    println!("{}", cluster.owner_url("postgres"));
    signals.next().await;
    Ok(())
}
