//! The program: reads its settings, then serves until it is told to end.

use anyhow::Context as _;
use clap::Parser as _;
use origin::{
    App,
    config::{Cli, Command, Config, TailConfig},
    openapi, release,
    tail::alone::Alone,
    telemetry,
};
use tokio::signal::unix::{SignalKind, signal};

fn main() -> anyhow::Result<()> {
    let config = match Cli::parse().command {
        Command::Run(config) => config,
        Command::Openapi { public_url } => {
            println!("{:#}", openapi::document(&public_url));
            return Ok(());
        }
        Command::Tail(config) => {
            config.check().map_err(anyhow::Error::msg)?;
            telemetry::init(&config.log)?;
            return runtime(1)
                .context("cannot start the runtime")?
                .block_on(tail(*config));
        }
    };
    config.check().map_err(anyhow::Error::msg)?;
    if config.check_config {
        println!("{config:#?}");
        return Ok(());
    }
    telemetry::init(&config.log)?;
    runtime(config.threads)
        .context("cannot start the runtime")?
        .block_on(run(*config))
}

/// One thread never wakes another: on two processors it serves a quarter more small reads than two threads do.
fn runtime(threads: u16) -> std::io::Result<tokio::runtime::Runtime> {
    let mut builder = match threads {
        1 => tokio::runtime::Builder::new_current_thread(),
        _ => tokio::runtime::Builder::new_multi_thread(),
    };
    builder.worker_threads(threads.into()).enable_all().build()
}

async fn run(config: Config) -> anyhow::Result<()> {
    let release = release::digest().context("cannot read the executable")?;
    let ending = ending()?;
    let app = App::build(config, &release).await?;
    let (public, private) = app.addresses()?;
    tracing::info!(%public, %private, release, "listening");
    app.serve(ending).await
}

/// The stream of changes alone.
async fn tail(config: TailConfig) -> anyhow::Result<()> {
    let ending = ending()?;
    let alone = Alone::build(config).await?;
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
