//! The program: reads its settings, then serves until it is told to end.

use std::time::Duration;

use anyhow::Context as _;
use clap::Parser as _;
use origin::{
    App,
    config::{Cli, Command, Config, TailConfig},
    log_buffer::LogBuffer,
    openapi, release,
    tail::alone::Alone,
    telemetry,
};
use tokio::signal::unix::{SignalKind, signal};

/// How long an end waits for what is not done yet, and for somebody to take the last lines of the log.
const END_TIMEOUT: Duration = Duration::from_secs(1);

fn main() -> anyhow::Result<()> {
    match Cli::parse().command {
        Command::Run(config) => {
            config.check().map_err(anyhow::Error::msg)?;
            if config.check_config {
                println!("{config:#?}");
                return Ok(());
            }
            let log = telemetry::init(&config.log)?;
            block_on(config.threads, &log, run(*config, log.clone()))
        }
        Command::Tail(config) => {
            config.check().map_err(anyhow::Error::msg)?;
            let log = telemetry::init(&config.log)?;
            block_on(1, &log, tail(*config, log.clone()))
        }
        Command::Openapi { public_url } => {
            println!("{:#}", openapi::document(&public_url));
            Ok(())
        }
    }
}

/// Runs the program to its end, and writes what it has logged.
fn block_on(
    threads: u16,
    log: &LogBuffer,
    program: impl Future<Output = anyhow::Result<()>>,
) -> anyhow::Result<()> {
    let runtime = runtime(threads).context("cannot start the runtime")?;
    let outcome = runtime.block_on(program);
    // Requests that are not answered by now say so.
    runtime.shutdown_timeout(END_TIMEOUT);
    log.drain(END_TIMEOUT);
    outcome
}

/// One thread never wakes another: on two processors it serves a quarter more small reads than two threads do.
fn runtime(threads: u16) -> std::io::Result<tokio::runtime::Runtime> {
    let mut builder = match threads {
        1 => tokio::runtime::Builder::new_current_thread(),
        _ => tokio::runtime::Builder::new_multi_thread(),
    };
    builder.worker_threads(threads.into()).enable_all().build()
}

async fn run(config: Config, log: LogBuffer) -> anyhow::Result<()> {
    let release = release::digest().context("cannot read the executable")?;
    let ending = ending()?;
    let app = App::build_logging(config, &release, log).await?;
    let (public, private) = app.addresses()?;
    tracing::info!(%public, %private, release, "listening");
    app.serve(ending).await
}

/// The stream of changes alone.
async fn tail(config: TailConfig, log: LogBuffer) -> anyhow::Result<()> {
    let ending = ending()?;
    let alone = Alone::build(config, &log).await?;
    tracing::info!(private = %alone.address()?, "listening");
    alone.serve(ending).await;
    Ok(())
}

/// Waits until the process is told to end.
fn ending() -> std::io::Result<impl Future<Output = ()>> {
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    Ok(async move {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
        tracing::info!("ending: finishing the requests in flight");
    })
}
