//! A program of the workspace, run for a measurement: killed and started again on purpose, never by itself.

use std::fs::OpenOptions;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use nix::sys::signal::{Signal, kill};
use stack::guardian::Guardian;
use stack::process;

/// A running program; ended when dropped, and by a guardian should this process be killed.
pub struct Program {
    command: Box<dyn Fn() -> Command + Send + Sync>,
    log: PathBuf,
    child: Child,
    guardian: Guardian,
}

impl Program {
    /// Starts a program, with its output in the file `log`.
    ///
    /// # Errors
    /// It cannot be started.
    pub fn start(
        log: &Path,
        command: impl Fn() -> Command + Send + Sync + 'static,
    ) -> Result<Self> {
        let guardian = Guardian::start(None)?;
        let child = spawn(&guardian, log, command())?;
        Ok(Self {
            command: Box::new(command),
            log: log.to_owned(),
            child,
            guardian,
        })
    }

    /// Its process.
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// Where its output is.
    pub fn log(&self) -> &Path {
        &self.log
    }

    /// Whether it has run without an end since it was started.
    pub fn is_running(&mut self) -> bool {
        matches!(self.child.try_wait(), Ok(None))
    }

    /// Kills it with SIGKILL.
    ///
    /// # Errors
    /// It had ended already.
    pub fn kill9(&mut self) -> Result<()> {
        ensure!(self.is_running(), "{}: has ended", self.log.display());
        self.child.kill()?;
        self.child.wait()?;
        self.guardian.forget(self.child.id())
    }

    /// Freezes it: its connections stay open, and nothing answers.
    ///
    /// # Errors
    /// It has ended.
    pub fn freeze(&self) -> Result<()> {
        self.signal(Signal::SIGSTOP)
    }

    /// Lets it go on.
    ///
    /// # Errors
    /// It has ended.
    pub fn thaw(&self) -> Result<()> {
        self.signal(Signal::SIGCONT)
    }

    fn signal(&self, signal: Signal) -> Result<()> {
        kill(process::pid(self.child.id()), signal)
            .with_context(|| format!("{}: cannot be sent {signal}", self.log.display()))
    }

    /// Starts it again after it was killed, as whatever watches over it in operation would.
    ///
    /// # Errors
    /// It cannot be started.
    pub fn restart(&mut self) -> Result<()> {
        self.child = spawn(&self.guardian, &self.log, (self.command)())?;
        Ok(())
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        if self.is_running() && kill(process::pid(self.child.id()), Signal::SIGTERM).is_ok() {
            let _ = self.child.wait();
            let _ = self.guardian.forget(self.child.id());
        }
    }
}

fn spawn(guardian: &Guardian, log: &Path, mut command: Command) -> Result<Child> {
    let output = OpenOptions::new().create(true).append(true).open(log);
    let output = output.with_context(|| format!("writing {}", log.display()))?;
    let child = command
        // It would stand in for a URL that is missing.
        .env_remove("DATABASE_URL")
        .stdin(Stdio::null())
        .stdout(output.try_clone()?)
        .stderr(output)
        .process_group(0)
        .spawn()
        .with_context(|| format!("starting {}", command.get_program().to_string_lossy()))?;
    guardian.watch(child.id(), Signal::SIGKILL)?;
    Ok(child)
}

/// Memory of a process in bytes: what is resident now, and the most that ever was.
///
/// # Errors
/// The process is gone, or this is not Linux.
pub fn resident_bytes(id: u32) -> Result<(u64, u64)> {
    let path = format!("/proc/{id}/status");
    let status = std::fs::read_to_string(&path).with_context(|| format!("reading {path}"))?;
    let field = |name: &str| {
        let value = status.lines().find_map(|line| line.strip_prefix(name));
        let kib = value.and_then(|value| value.trim().strip_suffix(" kB"));
        let kib: u64 = kib
            .with_context(|| format!("no {name} in {path}"))?
            .parse()?;
        anyhow::Ok(kib * 1024)
    };
    Ok((field("VmRSS:")?, field("VmHWM:")?))
}

/// The time of processors that a process has used, to a hundredth of a second.
///
/// # Errors
/// The process is gone, or this is not Linux.
pub fn cpu_time(id: u32) -> Result<Duration> {
    /// The unit of the system's account, the same on every Linux.
    const TICK: Duration = Duration::from_millis(10);
    let path = format!("/proc/{id}/stat");
    let stat = std::fs::read_to_string(&path).with_context(|| format!("reading {path}"))?;
    // Behind the name, which may hold anything: user time and system time are the 14th and 15th field.
    let (_, fields) = stat.rsplit_once(')').context("a process without a name")?;
    let times = fields.split_whitespace().skip(11).take(2);
    let ticks: Vec<u32> = times.map(str::parse).collect::<Result<_, _>>()?;
    ensure!(ticks.len() == 2, "no times in {path}");
    Ok(TICK * (ticks[0] + ticks[1]))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_program_runs_until_it_is_killed_and_again_after_a_restart() {
        let dir = tempfile::tempdir().unwrap();
        let log = dir.path().join("log");
        let mut program = Program::start(&log, || {
            let mut command = Command::new("sleep");
            command.arg("600");
            command
        })
        .unwrap();
        let first = program.id();
        let (now, most) = resident_bytes(first).unwrap();
        assert!(0 < now && now <= most, "{now} of {most} bytes");
        assert!(program.is_running());
        assert!(cpu_time(first).unwrap() < Duration::from_secs(60));
        program.kill9().unwrap();
        assert!(!program.is_running());
        assert!(program.kill9().is_err());
        program.restart().unwrap();
        assert!(program.is_running() && program.id() != first);
    }
}
