//! Keeping processes running, and ending them.
//!
//! Promises: a service that ends is started again, ever more slowly if it keeps ending; stopping ends
//! everything, the last started stage first; nothing outlives this process, whatever it dies of.

use std::{
    process::{Command, ExitStatus, Stdio},
    sync::Arc,
    time::Duration,
};

use anyhow::{Context, Result, bail, ensure};
use nix::sys::signal::{Signal, killpg};
use tokio::{
    io::{AsyncBufReadExt, AsyncRead, AsyncReadExt, BufReader},
    process::Child,
    sync::watch,
    task::JoinHandle,
    time::{Instant, sleep, timeout},
};

use crate::{console::Console, guardian::Guardian, process};

const BACKOFF_MIN: Duration = Duration::from_millis(100);
const BACKOFF_MAX: Duration = Duration::from_secs(5);
/// A service that ran this long has recovered: if it ends, it is started again at once.
const STABLE_AFTER: Duration = Duration::from_secs(30);
/// A longer line of a log is broken into several.
const LINE_BYTES_MAX: u64 = 64 << 10;
/// The rest of the log of a process that has ended is waited for this long.
const LOG_REST_LIMIT: Duration = Duration::from_secs(1);
/// A service that ends this often before it was ready once will not get ready.
const STARTS_BEFORE_READY_MAX: u32 = 3;
const READY_PAUSE: Duration = Duration::from_millis(20);

/// A program to keep running.
pub struct Service {
    name: String,
    command: Box<dyn Fn() -> Command + Send + Sync>,
    stop_signal: Signal,
    grace: Duration,
}

impl Service {
    /// A service that `command` starts, and starts again.
    pub fn new(
        name: impl Into<String>,
        command: impl Fn() -> Command + Send + Sync + 'static,
    ) -> Self {
        Self {
            name: name.into(),
            command: Box::new(command),
            stop_signal: Signal::SIGTERM,
            grace: Duration::from_secs(15),
        }
    }

    /// Changes the signal that asks it to end, which is SIGTERM.
    #[must_use]
    pub fn stopped_by(mut self, signal: Signal) -> Self {
        self.stop_signal = signal;
        self
    }

    /// Changes how long it may take to end before it is killed, which is 15 seconds.
    #[must_use]
    pub fn grace(mut self, grace: Duration) -> Self {
        self.grace = grace;
        self
    }
}

/// Runs services in stages, each resting on the ones started before.
pub struct Supervisor {
    console: Console,
    guardian: Arc<Guardian>,
    hurry: watch::Sender<bool>,
    stages: Vec<Stage>,
}

struct Stage {
    stop: watch::Sender<bool>,
    tasks: Vec<JoinHandle<()>>,
}

/// A service being kept running.
#[derive(Debug)]
pub struct Running {
    name: String,
    process: watch::Receiver<Incarnation>,
}

/// Which process of a service is the current one.
#[derive(Clone, Copy, Debug)]
pub struct Incarnation {
    /// Its process id.
    pub id: u32,
    /// How many times the service has been started.
    pub starts: u32,
}

impl Supervisor {
    /// A supervisor of nothing yet.
    pub fn new(console: Console) -> Result<Self> {
        let guardian = Arc::new(Guardian::start(None)?);
        Ok(Self {
            console,
            guardian,
            hurry: watch::Sender::new(false),
            stages: Vec::new(),
        })
    }

    /// Starts services that belong together: they will be stopped at the same time.
    pub fn start(&mut self, services: Vec<Service>) -> Result<Vec<Running>> {
        self.stages.push(Stage {
            stop: watch::Sender::new(false),
            tasks: Vec::new(),
        });
        services
            .into_iter()
            .map(|service| self.start_one(service))
            .collect()
    }

    /// Runs a program to its end, on our own output.
    pub async fn run(&self, mut command: Command) -> Result<()> {
        let program = command.get_program().to_string_lossy().into_owned();
        std::os::unix::process::CommandExt::process_group(&mut command, 0);
        command.stdin(Stdio::null());
        let mut child = tokio::process::Command::from(command)
            .kill_on_drop(true)
            .spawn()
            .with_context(|| format!("cannot start {program}"))?;
        let id = child.id().context("a new process has an id")?;
        self.guardian.watch(id, Signal::SIGKILL)?;
        let status = child
            .wait()
            .await
            .with_context(|| format!("cannot wait for {program}"))?;
        self.guardian.forget(id)?;
        ensure!(status.success(), "{program} failed: {status}");
        Ok(())
    }

    /// Stops everything, the last started stage first; when `impatience` resolves, by SIGKILL.
    pub async fn stop(self, impatience: impl Future<Output = ()>) {
        let in_order = async {
            for stage in self.stages.into_iter().rev() {
                stage.stop.send_replace(true);
                for task in stage.tasks {
                    // A task that panicked has nothing left to stop; the guardian ends its process.
                    let _ = task.await;
                }
            }
        };
        let impatiently = async {
            impatience.await;
            self.hurry.send_replace(true);
            std::future::pending::<()>().await;
        };
        tokio::select! {
            () = in_order => {}
            () = impatiently => {}
        }
    }

    fn start_one(&mut self, service: Service) -> Result<Running> {
        let stage = self
            .stages
            .last_mut()
            .context("no stage to start a service in")?;
        let spawned = spawn(&service, &self.console, &self.guardian)?;
        let name = service.name.clone();
        let (process, receiver) = watch::channel(Incarnation {
            id: spawned.id,
            starts: 1,
        });
        let keeper = Keeper {
            service,
            console: self.console.clone(),
            guardian: Arc::clone(&self.guardian),
            stop: stage.stop.subscribe(),
            hurry: self.hurry.subscribe(),
            process,
        };
        stage.tasks.push(tokio::spawn(keeper.keep(spawned)));
        Ok(Running {
            name,
            process: receiver,
        })
    }
}

impl Running {
    /// The current process.
    pub fn process(&self) -> Incarnation {
        *self.process.borrow()
    }

    /// Waits until `is_ready`, asked again and again, says so.
    ///
    /// # Errors
    /// When it takes longer than `limit`, or the service keeps ending.
    pub async fn ready(&self, limit: Duration, is_ready: impl AsyncFn(u32) -> bool) -> Result<()> {
        let deadline = Instant::now() + limit;
        loop {
            let Incarnation { id, starts } = self.process();
            if is_ready(id).await {
                return Ok(());
            }
            if starts > STARTS_BEFORE_READY_MAX {
                bail!(
                    "{} ended {} times before it was ready: see its lines above",
                    self.name,
                    starts - 1
                );
            }
            if Instant::now() > deadline {
                bail!(
                    "{} was not ready after {} s: see its lines above",
                    self.name,
                    limit.as_secs()
                );
            }
            sleep(READY_PAUSE).await;
        }
    }
}

/// The task that keeps one service running.
struct Keeper {
    service: Service,
    console: Console,
    guardian: Arc<Guardian>,
    stop: watch::Receiver<bool>,
    hurry: watch::Receiver<bool>,
    process: watch::Sender<Incarnation>,
}

struct Spawned {
    child: Child,
    id: u32,
    began: Instant,
    logs: Vec<JoinHandle<()>>,
}

impl Keeper {
    async fn keep(mut self, mut spawned: Spawned) {
        let mut backoff = BACKOFF_MIN;
        loop {
            let status = tokio::select! {
                status = spawned.child.wait() => status,
                () = becomes_true(&mut self.stop) => return self.end(spawned).await,
            };
            let stood = spawned.began.elapsed() >= STABLE_AFTER;
            backoff = if stood { BACKOFF_MIN } else { backoff };
            self.buried(spawned).await;
            loop {
                let outcome = describe(status.as_ref());
                self.say(&format!(
                    "{outcome}; starting again in {} ms",
                    backoff.as_millis()
                ));
                tokio::select! {
                    () = sleep(backoff) => {}
                    () = becomes_true(&mut self.stop) => return,
                }
                backoff = (backoff * 2).min(BACKOFF_MAX);
                match spawn(&self.service, &self.console, &self.guardian) {
                    Ok(next) => {
                        spawned = next;
                        break;
                    }
                    Err(error) => self.say(&format!("{error:#}")),
                }
            }
            self.process.send_modify(|process| {
                *process = Incarnation {
                    id: spawned.id,
                    starts: process.starts + 1,
                };
            });
        }
    }

    /// Asks the process to end, and kills it if it does not.
    async fn end(mut self, mut spawned: Spawned) {
        let group = process::pid(spawned.id);
        // It may have ended by itself just now.
        let _ = killpg(group, self.service.stop_signal);
        tokio::select! {
            _ = spawned.child.wait() => {}
            () = becomes_true(&mut self.hurry) => {}
            () = sleep(self.service.grace) => {
                let grace = self.service.grace;
                self.say(&format!("did not end within {grace:?} and is killed"));
            }
        }
        let _ = killpg(group, Signal::SIGKILL);
        let _ = spawned.child.wait().await;
        self.buried(spawned).await;
    }

    /// After a process has ended: nothing of its group stays, and its last words are heard.
    async fn buried(&self, spawned: Spawned) {
        let _ = killpg(process::pid(spawned.id), Signal::SIGKILL);
        if let Err(error) = self.guardian.forget(spawned.id) {
            self.say(&format!("{error:#}"));
        }
        for log in spawned.logs {
            let _ = timeout(LOG_REST_LIMIT, log).await;
        }
    }

    fn say(&self, line: &str) {
        self.console.log(&self.service.name, line);
    }
}

fn spawn(service: &Service, console: &Console, guardian: &Guardian) -> Result<Spawned> {
    let mut command = (service.command)();
    let program = command.get_program().to_string_lossy().into_owned();
    std::os::unix::process::CommandExt::process_group(&mut command, 0);
    command
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    let mut child = tokio::process::Command::from(command)
        .spawn()
        .with_context(|| format!("cannot start {program}"))?;
    let id = child.id().context("a new process has an id")?;
    guardian.watch(id, service.stop_signal)?;
    let mut logs = Vec::new();
    if let Some(stdout) = child.stdout.take() {
        logs.push(tokio::spawn(copy_lines(
            stdout,
            console.clone(),
            service.name.clone(),
        )));
    }
    if let Some(stderr) = child.stderr.take() {
        logs.push(tokio::spawn(copy_lines(
            stderr,
            console.clone(),
            service.name.clone(),
        )));
    }
    Ok(Spawned {
        child,
        id,
        began: Instant::now(),
        logs,
    })
}

async fn copy_lines(stream: impl AsyncRead + Unpin, console: Console, name: String) {
    let mut reader = BufReader::new(stream);
    let mut line = Vec::new();
    while let Ok(1..) = (&mut reader)
        .take(LINE_BYTES_MAX)
        .read_until(b'\n', &mut line)
        .await
    {
        console.log(&name, String::from_utf8_lossy(&line).trim_end());
        line.clear();
    }
}

/// Resolves when the value is true, and never if its sender is gone.
async fn becomes_true(value: &mut watch::Receiver<bool>) {
    if value.wait_for(|value| *value).await.is_err() {
        std::future::pending::<()>().await;
    }
}

fn describe(status: Result<&ExitStatus, &std::io::Error>) -> String {
    match status {
        Ok(status) => format!("ended ({status})"),
        Err(error) => format!("was lost ({error})"),
    }
}
