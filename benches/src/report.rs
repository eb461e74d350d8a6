//! Rounds of figures, their medians and ratios, and the folder a run leaves behind.

use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result};

use crate::load::Measured;

/// One measured round of one contender.
#[derive(Clone, Debug)]
pub struct Round {
    /// Who was measured.
    pub contender: String,
    /// What was measured.
    pub scene: String,
    /// Good answers a second.
    pub rate: f64,
    /// Median latency in microseconds.
    pub p50_us: u64,
    /// 99th percentile in microseconds.
    pub p99_us: u64,
    /// Answers that were not good.
    pub failures: u64,
}

impl Round {
    /// The figures of one measured load.
    pub fn of(contender: &str, scene: &str, measured: &Measured) -> Self {
        Self {
            contender: contender.to_owned(),
            scene: scene.to_owned(),
            rate: measured.rate(),
            p50_us: measured.latency_us.value_at_quantile(0.5),
            p99_us: measured.latency_us.value_at_quantile(0.99),
            failures: measured.failures,
        }
    }
}

/// Every round of one run.
#[derive(Default)]
pub struct Report {
    rounds: Vec<Round>,
}

impl Report {
    /// Adds a round and prints it.
    pub fn add(&mut self, round: Round) {
        println!(
            "{:<10} {:<16} {:>9.0}/s  p50 {:>6} us  p99 {:>6} us  failures {}",
            round.scene, round.contender, round.rate, round.p50_us, round.p99_us, round.failures
        );
        self.rounds.push(round);
    }

    /// The median rate of one contender in one scene.
    pub fn median_rate(&self, contender: &str, scene: &str) -> Option<f64> {
        self.median(contender, scene, |round| round.rate)
    }

    fn median(&self, contender: &str, scene: &str, figure: impl Fn(&Round) -> f64) -> Option<f64> {
        let mut figures: Vec<f64> = self
            .rounds
            .iter()
            .filter(|round| round.contender == contender && round.scene == scene)
            .map(figure)
            .collect();
        figures.sort_by(f64::total_cmp);
        figures.get(figures.len() / 2).copied()
    }

    /// A table of medians, each contender's rate as a share of the peer's in the same scene.
    pub fn summary(&self, peer: &str) -> String {
        let mut seen: Vec<(&str, &str)> = Vec::new();
        for round in &self.rounds {
            let pair = (round.scene.as_str(), round.contender.as_str());
            if !seen.contains(&pair) {
                seen.push(pair);
            }
        }
        let mut table = String::from(
            "| scene | contender | median rate /s | median p50 us | median p99 us | ratio to peer |\n|---|---|---:|---:|---:|---:|\n",
        );
        for (scene, contender) in seen {
            let figure =
                |of: fn(&Round) -> f64| self.median(contender, scene, of).unwrap_or(f64::NAN);
            let rate = figure(|round| round.rate);
            let ratio = self
                .median_rate(peer, scene)
                .map_or(f64::NAN, |peer| rate / peer);
            let (p50, p99) = (
                figure(|round| round.p50_us as f64),
                figure(|round| round.p99_us as f64),
            );
            let _ = writeln!(
                table,
                "| {scene} | {contender} | {rate:.0} | {p50:.0} | {p99:.0} | {ratio:.2} |"
            );
        }
        table
    }

    /// Leaves the run in a folder: raw rounds, summary, command, commit and machine.
    ///
    /// # Errors
    /// The folder cannot be written.
    pub fn keep(&self, dir: &Path, peer: &str) -> Result<PathBuf> {
        fs::create_dir_all(dir).with_context(|| format!("making {}", dir.display()))?;
        let mut raw = String::from("scene,contender,rate,p50_us,p99_us,failures\n");
        for round in &self.rounds {
            let Round {
                scene,
                contender,
                rate,
                p50_us,
                p99_us,
                failures,
            } = round;
            let _ = writeln!(
                raw,
                "{scene},{contender},{rate:.1},{p50_us},{p99_us},{failures}"
            );
        }
        fs::write(dir.join("raw.csv"), raw)?;
        fs::write(dir.join("summary.md"), self.summary(peer))?;
        fs::write(dir.join("README.md"), provenance())?;
        Ok(dir.to_owned())
    }
}

fn provenance() -> String {
    // The program by its name: where it was built says nothing.
    let command: Vec<String> = std::env::args()
        .enumerate()
        .map(
            |(place, word)| match (place, Path::new(&word).file_name()) {
                (0, Some(name)) => name.to_string_lossy().into_owned(),
                _ => word,
            },
        )
        .collect();
    format!(
        "# A run\n\n- command: `{}`\n- commit: {}\n- processor: {}, {} in use\n- system: {}\n",
        command.join(" "),
        output("git", &["describe", "--always", "--dirty"]),
        processor(),
        std::thread::available_parallelism().map_or(0, usize::from),
        output("uname", &["-srm"]),
    )
}

fn processor() -> String {
    let cpuinfo = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let model = cpuinfo
        .lines()
        .find_map(|line| line.strip_prefix("model name"));
    model.map_or_else(
        || "unknown".to_owned(),
        |model| model.trim_start_matches([' ', '\t', ':']).to_owned(),
    )
}

fn output(program: &str, arguments: &[&str]) -> String {
    let output = Command::new(program).args(arguments).output();
    output.map_or_else(
        |_| "unknown".to_owned(),
        |output| String::from_utf8_lossy(&output.stdout).trim().to_owned(),
    )
}
