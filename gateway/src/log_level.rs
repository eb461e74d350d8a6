//! What is logged to standard error; can be changed while the gateway runs.

use std::io::IsTerminal;

use parking_lot::Mutex;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{EnvFilter, Registry, fmt, reload};

/// What is logged unless `RUST_LOG` says otherwise.
const DEFAULT: &str = "warn,gateway=info,pingora_load_balancing=off";
/// Changes by operators are logged whatever the filter says.
const ALWAYS: &str = "gateway::audit=info";
/// Bytes of a filter at most.
const FILTER_BYTES_MAX: usize = 1_024;

/// Why a text is no filter.
#[derive(Debug, thiserror::Error)]
pub enum BadFilter {
    /// It is longer than any needs to be.
    #[error("longer than {FILTER_BYTES_MAX} bytes")]
    Length,
    /// A directive that is none.
    #[error(transparent)]
    Directive(#[from] tracing_subscriber::filter::ParseError),
    /// The log is gone.
    #[error(transparent)]
    Gone(#[from] reload::Error),
}

/// The handle of the log.
#[derive(Debug)]
pub struct LogLevel {
    handle: reload::Handle<EnvFilter, Registry>,
    filter: Mutex<String>,
}

impl LogLevel {
    /// Begins to log, as the value of `RUST_LOG` says. An unusable one is told and not used.
    pub fn install(wanted: Option<&str>) -> Self {
        let given = wanted.map(|text| (text, parse(text)));
        let (text, filter, bad) = match given {
            Some((text, Ok(filter))) => (text, filter, None),
            Some((text, Err(bad))) => (DEFAULT, EnvFilter::new(DEFAULT), Some((text, bad))),
            None => (DEFAULT, EnvFilter::new(DEFAULT), None),
        };
        let (layer, handle) = reload::Layer::new(filter);
        tracing_subscriber::registry()
            .with(layer)
            .with(
                fmt::layer()
                    .with_writer(std::io::stderr)
                    .with_ansi(std::io::stderr().is_terminal()),
            )
            .init();
        if let Some((text, bad)) = bad {
            tracing::warn!(%bad, "RUST_LOG={text} is not used");
        }
        Self {
            handle,
            filter: Mutex::new(text.to_owned()),
        }
    }

    /// What is logged now.
    pub fn filter(&self) -> String {
        self.filter.lock().clone()
    }

    /// Logs something else from now on.
    ///
    /// # Errors
    /// A text that is no filter; what was logged stays.
    pub fn set(&self, text: &str) -> Result<(), BadFilter> {
        let filter = parse(text)?;
        let mut current = self.filter.lock();
        self.handle.reload(filter)?;
        text.clone_into(&mut current);
        Ok(())
    }
}

fn parse(text: &str) -> Result<EnvFilter, BadFilter> {
    if text.len() > FILTER_BYTES_MAX {
        return Err(BadFilter::Length);
    }
    let with_audit = if text.is_empty() {
        ALWAYS.to_owned()
    } else {
        format!("{text},{ALWAYS}")
    };
    Ok(EnvFilter::try_new(with_audit)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_filter_keeps_the_audit_whatever_it_says() {
        for text in ["off", "", "error", "gateway=debug,hyper=off"] {
            let filter = parse(text).unwrap().to_string();
            assert!(filter.contains(ALWAYS), "{text}: {filter}");
        }
        assert!(parse("gateway=loud").is_err());
        assert!(matches!(parse(&"a".repeat(2_000)), Err(BadFilter::Length)));
    }
}
