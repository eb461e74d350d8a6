//! An origin of the measurement's own: its process and both its listeners are known.

use std::ffi::OsString;
use std::net::SocketAddr;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use stack::ports::Reserved;

use crate::client::Client;
use crate::load::get;
use crate::paced::becomes_true;
use crate::program::Program;
use crate::running::sibling;

const READY_LIMIT: Duration = Duration::from_secs(30);
const ANSWER_LIMIT: Duration = Duration::from_secs(2);

/// A running origin.
pub struct Origin {
    /// Its process.
    pub program: Program,
    /// Where the API is.
    pub public: SocketAddr,
    /// Where health and metrics are.
    pub private: SocketAddr,
    _ports: [Reserved; 2],
}

/// What an origin says about itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Gauges {
    /// Requests being served.
    pub in_flight: u64,
    /// Database connections in use.
    pub connections_used: u64,
}

impl Origin {
    /// Starts an origin over a database and waits until it is ready; `more` are arguments of `origin run`.
    ///
    /// # Errors
    /// It does not become ready.
    pub fn start(database_url: &str, log: &Path, more: &[OsString]) -> Result<Self> {
        let binary = sibling("origin")?;
        let ports = [Reserved::any()?, Reserved::any()?];
        let [public, private] = ports.each_ref().map(Reserved::address);
        let (database_url, more) = (database_url.to_owned(), more.to_vec());
        let program = Program::start(log, move || {
            let mut command = Command::new(&binary);
            command
                .args(["run", "--listen", &public.to_string()])
                .args(["--private", &private.to_string()])
                .args(["--database-url", &database_url])
                .args(&more);
            command
        })?;
        let mut origin = Self {
            program,
            public,
            private,
            _ports: ports,
        };
        origin.wait_until_ready()?;
        Ok(origin)
    }

    /// Waits until it says that it can serve.
    ///
    /// # Errors
    /// It ends, or takes too long.
    pub fn wait_until_ready(&mut self) -> Result<()> {
        let program = &mut self.program;
        let mut client = Client::new(self.private, ANSWER_LIMIT);
        let mut has_ended = false;
        let ready = becomes_true(READY_LIMIT, || {
            has_ended = !program.is_running();
            let reply = client.exchange(&get("/readyz"));
            has_ended || reply.is_ok_and(|reply| reply.status == 200)
        });
        if has_ended || !ready {
            bail!("the origin is not ready; see {}", program.log().display());
        }
        Ok(())
    }

    /// Its gauges.
    ///
    /// # Errors
    /// It does not answer.
    pub fn gauges(&self) -> Result<Gauges> {
        let (_, text) = Client::new(self.private, ANSWER_LIMIT).text(&get("/metrics"))?;
        Gauges::parse(&text)
    }
}

impl Gauges {
    fn parse(metrics: &str) -> Result<Self> {
        let sum = |prefix: &str, part: &str| {
            let mut values = metrics
                .lines()
                .filter(|line| line.starts_with(prefix) && line.contains(part))
                .filter_map(|line| line.rsplit_once(' ')?.1.parse::<f64>().ok())
                .peekable();
            values
                .peek()
                .with_context(|| format!("no metric {prefix}"))?;
            anyhow::Ok(values.sum::<f64>() as u64)
        };
        Ok(Self {
            in_flight: sum("origin_in_flight_requests", "")?,
            connections_used: sum("origin_pool_connections{", "state=\"used\"")?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn gauges_are_read_from_the_text_of_metrics() {
        let text = "# TYPE origin_in_flight_requests gauge\norigin_in_flight_requests 3\n\
                    origin_pool_connections{pool=\"primary\",state=\"idle\"} 2\n\
                    origin_pool_connections{pool=\"primary\",state=\"used\"} 1\n\
                    origin_pool_connections{pool=\"reads\",state=\"used\"} 1\n";
        let expected = Gauges {
            in_flight: 3,
            connections_used: 2,
        };
        assert_eq!(Gauges::parse(text).unwrap(), expected);
        assert!(Gauges::parse("up 1\n").is_err());
    }
}
