//! Aims, and whether they were reached.

use std::fmt::Display;
use std::process::ExitCode;

/// The verdicts of one run.
#[derive(Debug, Default)]
pub struct Verdicts {
    lines: Vec<String>,
    has_failed: bool,
}

impl Verdicts {
    /// Notes and prints whether an aim was reached.
    pub fn check(&mut self, aim: impl Display, was_reached: bool, figures: impl Display) {
        let word = if was_reached { "PASS" } else { "FAIL" };
        let line = format!("{word}  {aim}: {figures}");
        println!("{line}");
        self.lines.push(line);
        self.has_failed |= !was_reached;
    }

    /// All of them, one a line.
    pub fn text(&self) -> String {
        self.lines.join("\n") + "\n"
    }

    /// What the program ends with: failure if an aim was missed.
    pub fn exit_code(&self) -> ExitCode {
        if self.has_failed {
            ExitCode::FAILURE
        } else {
            ExitCode::SUCCESS
        }
    }
}
