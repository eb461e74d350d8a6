//! Logs: one JSON object a line, on standard output.

use std::io;

use anyhow::Context as _;
use tracing_subscriber::EnvFilter;

use crate::log_buffer::LogBuffer;

/// Sets up logging for the process; gives what has to be drained before it ends.
///
/// # Errors
/// If the filter is malformed, or logging was set up before.
pub fn init(filter: &str) -> anyhow::Result<LogBuffer> {
    let filter = EnvFilter::try_new(filter).context("--log is no filter of tracing")?;
    let log = LogBuffer::new()?;
    tracing_subscriber::fmt()
        .json()
        .flatten_event(true)
        .with_current_span(false)
        .with_span_list(false)
        .with_env_filter(filter)
        .with_writer(log.clone())
        .try_init()
        .map_err(|error| anyhow::anyhow!("cannot set up logging: {error}"))?;
    log.write_to(io::stdout())
        .context("cannot start the thread that writes the log")?;
    Ok(log)
}
