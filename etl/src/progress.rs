//! How far a run has come: bars on a terminal, a line for each step elsewhere. Written to standard
//! error.

use std::{
    io::{IsTerminal as _, stderr},
    time::Duration,
};

use indicatif::{ProgressBar, ProgressStyle};

/// Shows steps as they go by.
#[derive(Debug, Clone, Copy)]
pub struct Progress {
    kind: Kind,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Bars,
    Lines,
    Silent,
}

/// The bar of one step; hidden where bars are not shown.
#[derive(Debug, Clone)]
pub struct Step {
    bar: ProgressBar,
    name: String,
    kind: Kind,
}

impl Progress {
    /// Bars if standard error is a terminal, lines if not.
    #[must_use]
    pub fn detect() -> Self {
        Self {
            kind: if stderr().is_terminal() {
                Kind::Bars
            } else {
                Kind::Lines
            },
        }
    }

    /// Nothing at all, for tests.
    #[must_use]
    pub fn silent() -> Self {
        Self { kind: Kind::Silent }
    }

    /// Begins a step over so many bytes, if it is known how many.
    #[must_use]
    pub fn bytes(self, name: &str, bytes: Option<u64>) -> Step {
        let Some(bytes) = bytes else {
            return self.counter(name);
        };
        let style = "{prefix:26} {wide_bar} {bytes:>10} of {total_bytes:>10} \
                     {bytes_per_sec:>12} {eta:>4} left";
        self.step(name, ProgressBar::new(bytes), style)
    }

    /// Begins a step that writes an unknown number of bytes.
    #[must_use]
    pub fn counter(self, name: &str) -> Step {
        self.step(
            name,
            ProgressBar::new_spinner(),
            "{prefix:26} {spinner} {bytes} {bytes_per_sec} {elapsed}",
        )
    }

    /// Begins a step of unknown length.
    #[must_use]
    pub fn spinner(self, name: &str) -> Step {
        let step = self.step(
            name,
            ProgressBar::new_spinner(),
            "{prefix:26} {spinner} {elapsed}",
        );
        if self.kind == Kind::Bars {
            step.bar.enable_steady_tick(Duration::from_millis(100));
        }
        step
    }

    fn step(self, name: &str, bar: ProgressBar, style: &str) -> Step {
        if self.kind == Kind::Bars {
            // The templates are ours and fixed; a wrong one shows the default bar.
            bar.set_style(
                ProgressStyle::with_template(style)
                    .unwrap_or_else(|_| ProgressStyle::default_bar()),
            );
            bar.set_prefix(name.to_owned());
        } else {
            bar.set_draw_target(indicatif::ProgressDrawTarget::hidden());
        }
        Step {
            bar,
            name: name.to_owned(),
            kind: self.kind,
        }
    }
}

impl Step {
    /// Says how far the step has come.
    pub fn set_position(&self, position: u64) {
        if self.kind == Kind::Bars {
            self.bar.set_position(position);
        }
    }

    /// Says how much further the step has come.
    pub fn add(&self, bytes: u64) {
        if self.kind == Kind::Bars {
            self.bar.inc(bytes);
        }
    }

    /// Ends the step with a line about it.
    pub fn finish(self, outcome: &str) {
        self.bar.finish_and_clear();
        if self.kind != Kind::Silent {
            eprintln!("{:26} {outcome}", self.name);
        }
    }
}
