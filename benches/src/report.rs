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
    /// Median latency in microseconds, where it is known.
    pub p50_us: Option<u64>,
    /// 99th percentile in microseconds, where it is known.
    pub p99_us: Option<u64>,
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
            p50_us: Some(measured.latency_us.value_at_quantile(0.5)),
            p99_us: Some(measured.latency_us.value_at_quantile(0.99)),
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
            round.scene,
            round.contender,
            round.rate,
            or_dash(round.p50_us),
            or_dash(round.p99_us),
            round.failures
        );
        self.rounds.push(round);
    }

    /// The median rate of one contender in one scene.
    pub fn median_rate(&self, contender: &str, scene: &str) -> Option<f64> {
        self.median(contender, scene, |round| round.rate)
    }

    /// The rates of all rounds of one contender in one scene, added up.
    pub fn total_rate(&self, contender: &str, scene: &str) -> f64 {
        let rounds = self.rounds.iter();
        rounds
            .filter(|round| round.contender == contender && round.scene == scene)
            .map(|round| round.rate)
            .sum()
    }

    fn median_latency(
        &self,
        contender: &str,
        scene: &str,
        figure: impl Fn(&Round) -> Option<u64>,
    ) -> String {
        let known = self.median(contender, scene, |round| {
            figure(round).map_or(f64::NAN, |us| us as f64)
        });
        or_dash(
            known
                .filter(|us| us.is_finite())
                .map(|us| format!("{us:.0}")),
        )
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
                self.median_latency(contender, scene, |round| round.p50_us),
                self.median_latency(contender, scene, |round| round.p99_us),
            );
            let _ = writeln!(
                table,
                "| {scene} | {contender} | {rate:.0} | {p50} | {p99} | {ratio:.2} |"
            );
        }
        table
    }

    /// Leaves the run in a folder: raw rounds, summary, command, commit and machine.
    ///
    /// # Errors
    /// The folder cannot be written.
    pub fn keep(&self, dir: &Path, peer: &str) -> Result<PathBuf> {
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
                "{scene},{contender},{rate:.1},{},{},{failures}",
                or_dash(*p50_us),
                or_dash(*p99_us)
            );
        }
        keep(
            dir,
            &[("raw.csv", &raw), ("summary.md", &self.summary(peer))],
        )
    }
}

/// Leaves a run in a folder: its files, and a README with command, commit and machine.
///
/// # Errors
/// The folder cannot be written.
pub fn keep(dir: &Path, files: &[(&str, &str)]) -> Result<PathBuf> {
    fs::create_dir_all(dir).with_context(|| format!("making {}", dir.display()))?;
    for (name, text) in files {
        fs::write(dir.join(name), text)?;
    }
    fs::write(dir.join("README.md"), provenance())?;
    Ok(dir.to_owned())
}

/// The value at a quantile of figures in any order; none of no figures.
pub fn quantile(figures: &[f64], quantile: f64) -> Option<f64> {
    let mut sorted = figures.to_vec();
    sorted.sort_by(f64::total_cmp);
    let last = sorted.len().checked_sub(1)?;
    // The nearest rank above: a 99th percentile of few figures is the largest of them.
    let place = (quantile * sorted.len() as f64).ceil() as usize;
    Some(sorted[place.saturating_sub(1).min(last)])
}

/// A figure, or a dash where there is none.
pub fn or_dash(figure: Option<impl ToString>) -> String {
    figure.map_or_else(|| "-".to_owned(), |figure| figure.to_string())
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_are_figures_that_occurred() {
        let figures: Vec<f64> = (1..=200).rev().map(f64::from).collect();
        assert_eq!(quantile(&figures, 0.5), Some(100.0));
        assert_eq!(quantile(&figures, 0.99), Some(198.0));
        assert_eq!(quantile(&figures, 1.0), Some(200.0));
        assert_eq!(quantile(&[7.0], 0.99), Some(7.0));
        assert_eq!(quantile(&[], 0.5), None);
    }

    #[test]
    fn a_contender_without_latencies_has_dashes() {
        let mut report = Report::default();
        report.add(Round {
            contender: "peer".into(),
            scene: "reads".into(),
            rate: 10.0,
            p50_us: None,
            p99_us: None,
            failures: 0,
        });
        assert!(
            report
                .summary("peer")
                .contains("| reads | peer | 10 | - | - | 1.00 |")
        );
    }
}
