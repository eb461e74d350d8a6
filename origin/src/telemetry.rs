//! Logs: one JSON object a line, on standard output.

use anyhow::Context as _;
use tracing_subscriber::EnvFilter;

/// Sets up logging for the process.
///
/// # Errors
/// If the filter is malformed, or logging was set up before.
pub fn init(filter: &str) -> anyhow::Result<()> {
    let filter = EnvFilter::try_new(filter).context("--log is no filter of tracing")?;
    tracing_subscriber::fmt()
        .json()
        .flatten_event(true)
        .with_current_span(false)
        .with_span_list(false)
        .with_env_filter(filter)
        .try_init()
        .map_err(|error| anyhow::anyhow!("cannot set up logging: {error}"))
}
