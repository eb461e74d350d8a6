//! The gateway program.

use std::process::ExitCode;

use clap::Parser;

fn main() -> ExitCode {
    match gateway::cli::Cli::parse().run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("gateway: {error:#}");
            ExitCode::FAILURE
        }
    }
}
