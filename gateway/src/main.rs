//! The gateway program.

use std::process::ExitCode;

use clap::Parser;
use tikv_jemallocator::Jemalloc;

/// Thousands of connections that end leave holes in memory: this allocator gives whole pages back after a while.
#[global_allocator]
static ALLOCATOR: Jemalloc = Jemalloc;

fn main() -> ExitCode {
    match gateway::cli::Cli::parse().run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("gateway: {error:#}");
            ExitCode::FAILURE
        }
    }
}
