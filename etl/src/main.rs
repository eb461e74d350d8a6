//! The program `etl`: parse the command line, run the subcommand, turn its outcome into an exit
//! code.

use std::{
    io::{self, Write as _},
    process::ExitCode,
};

use clap::Parser as _;
use etl::{
    Error, Result,
    clean::{self, CleanOptions},
    cli::{CleanArgs, Cli, Command, GenerateArgs, LoadArgs, VerifyArgs},
    generate::{self, GenerateOptions},
    load::{self, LoadOptions},
    progress::Progress,
    purge::Gateways,
    report::ReportFile,
    schema::{self, Jobs},
    split,
    verify::{self, VerifyOptions},
};
use tokio::signal::unix::{SignalKind, signal};

/// Stopped by Ctrl-C or SIGTERM.
const STOPPED: u8 = 130;

fn main() -> ExitCode {
    let cli = Cli::parse();
    tracing_subscriber::fmt()
        .with_writer(io::stderr)
        .with_target(false)
        .init();
    let runtime = match tokio::runtime::Runtime::new() {
        Ok(runtime) => runtime,
        Err(error) => {
            eprintln!("etl: starting: {error}");
            return ExitCode::FAILURE;
        }
    };
    let code = runtime.block_on(outcome(cli.command));
    // A thread may still wait for standard input.
    runtime.shutdown_background();
    code
}

async fn outcome(command: Command) -> ExitCode {
    tokio::select! {
        outcome = run(command) => match outcome {
            Ok(()) => ExitCode::SUCCESS,
            Err(error) => {
                eprintln!("etl: {error}");
                ExitCode::from(error.exit_code())
            }
        },
        () = stopped() => {
            eprintln!("etl: stopped before the end; it can be run again");
            ExitCode::from(STOPPED)
        }
    }
}

async fn run(command: Command) -> Result<()> {
    match command {
        Command::Migrate(args) => schema::migrate(&args.database_url).await,
        Command::Load(args) => Box::pin(load(args)).await,
        Command::Clean(args) => clean(args).await,
        Command::Split(args) => blocking(move || split::run(&args.rejects, &args.out)).await,
        Command::Verify(args) => Box::pin(verify(args)).await,
        Command::Generate(args) => generate(args).await,
    }
}

async fn load(args: LoadArgs) -> Result<()> {
    let report_file = args.report.as_deref().map(ReportFile::create).transpose()?;
    // Read now: a load whose gateways cannot be purged should not begin.
    let gateways = args
        .purge_token_file
        .map(|file| Gateways::new(args.purge, &file))
        .transpose();
    let mut options = LoadOptions {
        sources: args.files.into(),
        mode: args.mode,
        rejects: args.rejects.rejects,
        max_rejects: args.rejects.max_rejects,
        discard_writes: args.discard_writes,
        loaded_at: args.loaded_at,
        jobs: Jobs {
            connections: args.jobs,
            memory_mb: args.index_memory_mb,
        },
        gateways: None,
        progress: Progress::detect(),
    };
    let outcome = match gateways {
        Ok(gateways) => {
            options.gateways = gateways;
            Box::pin(load::run(&args.database.database_url, &options)).await
        }
        Err(error) => Err(error),
    };
    let reported = report_file.map_or(Ok(()), |file| file.finish(&outcome));
    let report = outcome?;
    print(&report.to_text());
    // What was purged is the graver of the two.
    let gateways = options.gateways.as_ref();
    let purged = gateways.map_or(Ok(()), |gateways| gateways.check(&report.purges));
    purged.and(reported)
}

async fn clean(args: CleanArgs) -> Result<()> {
    let options = CleanOptions {
        sources: args.files.into(),
        out: args.out,
        rejects: args.rejects.rejects,
        max_rejects: args.rejects.max_rejects,
        progress: Progress::detect(),
    };
    let report_file = args.report.as_deref().map(ReportFile::create).transpose()?;
    let report = blocking(move || clean::run(&options)).await;
    let reported = report_file.map_or(Ok(()), |file| file.finish(&report));
    print(&report?.to_text());
    reported
}

async fn verify(args: VerifyArgs) -> Result<()> {
    let options = VerifyOptions {
        sources: args.files.into(),
        loaded_at: args.loaded_at,
        progress: Progress::detect(),
    };
    let report = verify::run(&args.database.database_url, &options).await?;
    print(&report.to_text());
    report.check()
}

/// Runs what reads and writes files on a thread of its own.
async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T> + Send + 'static,
) -> Result<T> {
    tokio::task::spawn_blocking(work)
        .await
        .map_err(|error| Error::Check(format!("a thread ended early: {error}")))?
}

async fn generate(args: GenerateArgs) -> Result<()> {
    let options = GenerateOptions {
        out: args.out,
        products: args.products,
        rows: args.rows,
        seed: args.seed,
        progress: Progress::detect(),
    };
    blocking(move || generate::run(&options)).await.map(drop)
}

/// A closed pipe is no failure: the work is done and nobody wants to read about it.
fn print(text: &str) {
    drop(io::stdout().write_all(text.as_bytes()));
}

/// Ends when the program is asked to stop; never if the signals cannot be watched.
async fn stopped() {
    let (Ok(mut interrupt), Ok(mut terminate)) = (
        signal(SignalKind::interrupt()),
        signal(SignalKind::terminate()),
    ) else {
        return std::future::pending().await;
    };
    tokio::select! {
        _ = interrupt.recv() => {}
        _ = terminate.recv() => {}
    }
}
