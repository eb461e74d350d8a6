//! What the operator sees: phases with their times, prefixed log lines, one status line at the bottom.

use std::{
    fmt::Display,
    io::{self, IsTerminal, Write},
    sync::{Arc, Mutex, PoisonError},
    time::Instant,
};

const RESET: &str = "\x1b[0m";
const BOLD: &str = "\x1b[1m";
const DIM: &str = "\x1b[2m";
const CLEAR_LINE: &str = "\r\x1b[2K";
const COLOURS: [&str; 6] = [
    "\x1b[36m", "\x1b[33m", "\x1b[32m", "\x1b[35m", "\x1b[34m", "\x1b[96m",
];
/// Names are padded to this width, so that the lines of all services begin in one column.
const NAME_WIDTH: usize = 9;

/// Standard output, shared by whoever has something to say. A closed output is no error.
#[derive(Clone, Debug)]
pub struct Console {
    is_terminal: bool,
    is_coloured: bool,
    status: Arc<Mutex<String>>,
}

/// A step that takes a while.
#[derive(Debug)]
pub struct Phase {
    console: Console,
    began: Instant,
}

impl Console {
    /// Standard output; colours only on a terminal, and only if wanted.
    pub fn new(wants_colour: bool) -> Self {
        let is_terminal = io::stdout().is_terminal();
        Self {
            is_terminal,
            is_coloured: is_terminal && wants_colour,
            status: Arc::default(),
        }
    }

    /// Whether a person may be looking.
    pub fn is_terminal(&self) -> bool {
        self.is_terminal
    }

    /// One line of a service's log.
    pub fn log(&self, name: &str, line: &str) {
        let (colour, reset) = if self.is_coloured {
            (colour(name), RESET)
        } else {
            ("", "")
        };
        self.print(&format!("{colour}{name:<NAME_WIDTH$} |{reset} {line}"));
    }

    /// One line of our own.
    pub fn say(&self, line: &str) {
        self.print(line);
    }

    /// Lines in a frame.
    pub fn frame(&self, lines: &[String]) {
        let width = lines
            .iter()
            .map(|line| line.chars().count())
            .max()
            .unwrap_or_default();
        let rule = "─".repeat(width + 2);
        self.print(&format!("┌{rule}┐"));
        for line in lines {
            self.print(&format!("│ {line:<width$} │"));
        }
        self.print(&format!("└{rule}┘"));
    }

    /// Begins a phase.
    pub fn phase(&self, what: impl Display) -> Phase {
        let (bold, reset) = if self.is_coloured {
            (BOLD, RESET)
        } else {
            ("", "")
        };
        self.print(&format!("{bold}==> {what}{reset}"));
        Phase {
            console: self.clone(),
            began: Instant::now(),
        }
    }

    /// Replaces the status line; there is none unless on a terminal.
    pub fn status(&self, text: &str) {
        if !self.is_terminal {
            return;
        }
        let mut status = self.status.lock().unwrap_or_else(PoisonError::into_inner);
        text.clone_into(&mut status);
        let (dim, reset) = if self.is_coloured {
            (DIM, RESET)
        } else {
            ("", "")
        };
        let mut out = io::stdout().lock();
        let _ = write!(out, "{CLEAR_LINE}{dim}{status}{reset}").and_then(|()| out.flush());
    }

    fn print(&self, line: &str) {
        let status = self.status.lock().unwrap_or_else(PoisonError::into_inner);
        let clear = if status.is_empty() { "" } else { CLEAR_LINE };
        let mut out = io::stdout().lock();
        let _ = writeln!(out, "{clear}{line}").and_then(|()| {
            write!(out, "{status}")?;
            out.flush()
        });
    }
}

impl Phase {
    /// Ends the phase, with its time.
    pub fn done(self, what: impl Display) {
        self.console.print(&format!(
            "    {what} ({:.1} s)",
            self.began.elapsed().as_secs_f64()
        ));
    }
}

/// The colour of a name: always the same one, and neighbours (`origin-1`, `origin-2`) differ.
fn colour(name: &str) -> &'static str {
    let sum: usize = name.bytes().map(usize::from).sum();
    COLOURS[sum % COLOURS.len()]
}
