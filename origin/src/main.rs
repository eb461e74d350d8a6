//! The program: reads its settings, then serves until it is told to end.

use anyhow::Context as _;
use clap::Parser as _;
use origin::{
    App,
    config::{Cli, Command, Config},
    openapi, release, telemetry,
};
use tokio::signal::unix::{SignalKind, signal};

fn main() -> anyhow::Result<()> {
    let config = match Cli::parse().command {
        Command::Run(config) => config,
        Command::Openapi { public_url } => {
            println!("{:#}", openapi::document(&public_url));
            return Ok(());
        }
    };
    config.check().map_err(anyhow::Error::msg)?;
    if config.check_config {
        println!("{config:#?}");
        return Ok(());
    }
    telemetry::init(&config.log)?;
    tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .context("cannot start the runtime")?
        .block_on(run(*config))
}

async fn run(config: Config) -> anyhow::Result<()> {
    let release = release::digest().context("cannot read the executable")?;
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let app = App::build(config, &release).await?;
    let (public, private) = app.addresses()?;
    tracing::info!(%public, %private, release, "listening");
    app.serve(async move {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
        tracing::info!("ending: finishing the requests in flight");
    })
    .await
}
