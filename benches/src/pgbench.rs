//! pgbench as the peer: the same statement straight at Postgres, with as many connections as there are clients.

use std::fmt::Write as _;
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use stack::binaries::Binaries;
use tempfile::NamedTempFile;

use crate::report::Round;

/// What the origin's sessions have: one plan for all arguments, nothing compiled.
const SESSION: &str = "-c plan_cache_mode=force_generic_plan -c jit=off -c timezone=UTC";

/// How pgbench is run.
#[derive(Clone, Copy, Debug)]
pub struct Pgbench<'a> {
    /// The database, as the application's role.
    pub database_url: &'a str,
    /// Connections at once.
    pub connections: usize,
    /// How long.
    pub duration: Duration,
}

impl Pgbench<'_> {
    /// Runs a script; the random numbers in it are those of `seed`.
    ///
    /// # Errors
    /// pgbench is not there, or a transaction fails.
    pub fn run(&self, scene: &str, script: &str, seed: u32) -> Result<Round> {
        let file = NamedTempFile::new()?;
        std::fs::write(file.path(), script)?;
        let output = Command::new(Binaries::find(None)?.program("pgbench"))
            .args(["-M", "prepared", "-n", "-j", "2"])
            .args(["-c", &self.connections.to_string()])
            .args(["-T", &self.duration.as_secs().to_string()])
            .args(["--random-seed", &seed.to_string()])
            .arg("-f")
            .arg(file.path())
            .arg(self.database_url)
            .env("PGOPTIONS", SESSION)
            .stdin(Stdio::null())
            .output()
            .context("running pgbench")?;
        let (said, complained) = (
            String::from_utf8_lossy(&output.stdout),
            String::from_utf8_lossy(&output.stderr),
        );
        ensure!(output.status.success(), "pgbench failed: {complained}");
        let figure = |name: &str| {
            figure(&said, name).with_context(|| format!("no {name} from pgbench: {said}"))
        };
        Ok(Round {
            contender: "pgbench".into(),
            scene: scene.into(),
            rate: figure("tps = ")?,
            p50_us: None,
            p99_us: None,
            failures: figure("number of failed transactions: ")? as u64,
        })
    }
}

/// The number after a name.
fn figure(said: &str, name: &str) -> Option<f64> {
    let value = said.lines().find_map(|line| line.strip_prefix(name))?;
    value.split(' ').next()?.parse().ok()
}

/// An expression that gives the value at the place `variable`, from 1, by halving the list.
pub fn lookup(variable: &str, values: &[i32]) -> String {
    let mut out = String::new();
    branch(variable, values, 0, &mut out);
    out
}

fn branch(variable: &str, values: &[i32], before: usize, out: &mut String) {
    if let [value] = values {
        let _ = write!(out, "{value}");
        return;
    }
    let (left, right) = values.split_at(values.len() / 2);
    let _ = write!(
        out,
        "case when :{variable} <= {} then ",
        before + left.len()
    );
    branch(variable, left, before, out);
    out.push_str(" else ");
    branch(variable, right, before + left.len(), out);
    out.push_str(" end");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_are_read_from_what_it_says() {
        let said = "scaling factor: 1\nnumber of failed transactions: 2 (0.000%)\n\
                    latency average = 1.5 ms\ntps = 2150.5 (without initial connection time)\n";
        assert_eq!(figure(said, "tps = "), Some(2150.5));
        assert_eq!(figure(said, "number of failed transactions: "), Some(2.0));
        assert_eq!(figure(said, "number of transactions: "), None);
    }

    #[test]
    fn a_value_is_found_by_halving() {
        assert_eq!(
            lookup("n", &[7, 8, 9]),
            "case when :n <= 1 then 7 else case when :n <= 2 then 8 else 9 end end"
        );
    }
}
