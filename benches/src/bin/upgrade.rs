//! Upgrades under load: new processes take over one after the other, and no request fails, on kept connections or new ones.

use std::fmt::Write as _;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow, bail, ensure};
use benches::gateway_process::GatewayProcess;
use benches::paced::becomes_true;
use benches::report::keep;
use benches::scripted::{Reply, Scripted};
use benches::verdict::Verdicts;
use clap::Parser;
use hdrhistogram::Histogram;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

const ANSWER_LIMIT: Duration = Duration::from_secs(10);
const EXIT_LIMIT: Duration = Duration::from_secs(70);
/// What the promise asks for.
const REQUESTS_MIN: u64 = 100_000;
/// Pages that are kept, and asked for by turns.
const PAGES: u64 = 1_000;
const BODY_BYTES: usize = 2_048;

#[derive(Parser)]
struct Arguments {
    /// How often a new process takes over.
    #[arg(long, default_value_t = 10)]
    upgrades: usize,
    /// Clients that keep their connection, and as many that make a new one for each request.
    #[arg(long, default_value_t = 4)]
    clients: usize,
    /// Requests in all at least.
    #[arg(long, default_value_t = REQUESTS_MIN)]
    requests: u64,
    /// Keep the run in this folder.
    #[arg(long)]
    keep: Option<PathBuf>,
}

/// What clients of one kind saw.
struct Seen {
    answers: u64,
    failures: Vec<String>,
    latency_us: Histogram<u64>,
    /// Latency of requests that began while an upgrade was under way.
    upgrading_us: Histogram<u64>,
}

impl Seen {
    fn new() -> Result<Self> {
        Ok(Self {
            answers: 0,
            failures: Vec::new(),
            latency_us: Histogram::new(3)?,
            upgrading_us: Histogram::new(3)?,
        })
    }

    fn add(&mut self, other: Self) -> Result<()> {
        self.answers += other.answers;
        self.failures.extend(other.failures);
        self.latency_us.add(other.latency_us)?;
        self.upgrading_us.add(other.upgrading_us)?;
        Ok(())
    }
}

#[derive(Default)]
struct Scene {
    ended: AtomicBool,
    upgrading: AtomicBool,
    asked: AtomicU64,
}

fn main() -> Result<ExitCode> {
    let arguments = Arguments::parse();
    let origin = Scripted::start(|_| async { Some(Reply::ok("", vec![b'x'; BODY_BYTES])) })?;
    let gateway = GatewayProcess::before(origin.address(), "", &[])?;
    let scene = Arc::<Scene>::default();
    let clients: Vec<_> = (0..2 * arguments.clients)
        .map(|number| {
            let (scene, address) = (Arc::clone(&scene), gateway.public);
            thread::spawn(move || client(address, number % 2 == 0, number as u64, &scene))
        })
        .collect();
    let took = upgrades(&gateway, &arguments, &scene);
    scene.ended.store(true, Ordering::Relaxed);
    let (mut kept, mut fresh) = (Seen::new()?, Seen::new()?);
    for (number, client) in clients.into_iter().enumerate() {
        let seen = client
            .join()
            .map_err(|_| anyhow!("a client ended early"))??;
        if number % 2 == 0 {
            &mut kept
        } else {
            &mut fresh
        }
        .add(seen)?;
    }
    let last = gateway.status()?["pid"]
        .as_i64()
        .context("the process's id")?;
    kill(Pid::from_raw(last.try_into()?), Signal::SIGTERM)?;
    let took = took?;
    let mut verdicts = Verdicts::default();
    let mut raw =
        String::from("connections,requests,failures,p50_us,p99_us,max_us,p99_upgrading_us\n");
    for (name, seen) in [("kept", &kept), ("new", &fresh)] {
        judge(&mut verdicts, name, seen);
        let all = &seen.latency_us;
        writeln!(
            raw,
            "{name},{},{},{},{},{},{}",
            seen.answers,
            seen.failures.len(),
            all.value_at_quantile(0.5),
            all.value_at_quantile(0.99),
            all.max(),
            seen.upgrading_us.value_at_quantile(0.99)
        )?;
    }
    let requests = kept.answers + fresh.answers;
    verdicts.check(
        format!(
            "{} upgrades under at least {} requests",
            arguments.upgrades, arguments.requests
        ),
        took.len() == arguments.upgrades && requests >= arguments.requests,
        format!(
            "{} upgrades, {requests} requests, until ready {took:.0?}",
            took.len()
        ),
    );
    if let Some(folder) = &arguments.keep {
        keep(
            folder,
            &[("summary.md", &verdicts.text()), ("raw.csv", &raw)],
        )?;
    }
    Ok(verdicts.exit_code())
}

fn judge(verdicts: &mut Verdicts, name: &str, seen: &Seen) {
    verdicts.check(
        format!("no request fails on {name} connections"),
        seen.failures.is_empty() && seen.answers > 0,
        format!(
            "{} answers, {} failures{}; p99 {} us, while upgrading {} us",
            seen.answers,
            seen.failures.len(),
            seen.failures
                .first()
                .map(|first| format!(" ({first})"))
                .unwrap_or_default(),
            seen.latency_us.value_at_quantile(0.99),
            seen.upgrading_us.value_at_quantile(0.99)
        ),
    );
}

/// Has one process after the other take over; how long each took to be ready.
fn upgrades(
    gateway: &GatewayProcess,
    arguments: &Arguments,
    scene: &Scene,
) -> Result<Vec<Duration>> {
    let mut took = Vec::new();
    for number in 1..=arguments.upgrades as u64 {
        let due = arguments.requests * number / (arguments.upgrades as u64 + 1);
        while scene.asked.load(Ordering::Relaxed) < due {
            thread::park_timeout(Duration::from_millis(10));
        }
        let before = gateway.status()?["pid"]
            .as_i64()
            .context("the process's id")?;
        scene.upgrading.store(true, Ordering::Relaxed);
        let began = Instant::now();
        gateway.upgrade()?;
        took.push(began.elapsed());
        let process = format!("/proc/{before}/fd");
        // A process that has ended and is not yet reaped has no descriptors.
        let has_ended = || std::fs::read_dir(&process).is_ok_and(|mut open| open.next().is_none());
        ensure!(
            becomes_true(EXIT_LIMIT, || has_ended()
                || std::fs::read_dir(&process).is_err()),
            "the process of before goes on"
        );
        scene.upgrading.store(false, Ordering::Relaxed);
    }
    while scene.asked.load(Ordering::Relaxed) < arguments.requests {
        thread::park_timeout(Duration::from_millis(10));
    }
    Ok(took)
}

/// Asks in a closed loop until the end. A connection is made anew only when the answer before said that it ends, or always.
fn client(address: SocketAddr, keeps: bool, number: u64, scene: &Scene) -> Result<Seen> {
    let mut seen = Seen::new()?;
    let mut connection = None;
    let mut page = number;
    while !scene.ended.load(Ordering::Relaxed) {
        page = (page + 1) % PAGES;
        let (upgrading, began) = (scene.upgrading.load(Ordering::Relaxed), Instant::now());
        match ask(&mut connection, address, page) {
            Ok(goes_on) => {
                let took = u64::try_from(began.elapsed().as_micros()).unwrap_or(u64::MAX);
                seen.latency_us.record(took)?;
                if upgrading {
                    seen.upgrading_us.record(took)?;
                }
                seen.answers += 1;
                if !goes_on || !keeps {
                    connection = None;
                }
            }
            Err(error) => {
                seen.failures.push(format!("{error:#}"));
                connection = None;
            }
        }
        scene.asked.fetch_add(1, Ordering::Relaxed);
    }
    Ok(seen)
}

/// One request and its whole answer; whether the connection goes on.
fn ask(
    connection: &mut Option<BufReader<TcpStream>>,
    address: SocketAddr,
    page: u64,
) -> Result<bool> {
    if connection.is_none() {
        let stream = TcpStream::connect(address).context("connecting")?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(ANSWER_LIMIT))?;
        *connection = Some(BufReader::new(stream));
    }
    let stream = connection.as_mut().context("a connection")?;
    let request = format!("GET /page/{page} HTTP/1.1\r\nHost: bench\r\n\r\n");
    stream
        .get_mut()
        .write_all(request.as_bytes())
        .context("sending")?;
    let (mut line, mut goes_on, mut length) = (String::new(), true, None);
    ensure!(
        stream.read_line(&mut line).context("the status line")? > 0,
        "closed before an answer"
    );
    ensure!(line.starts_with("HTTP/1.1 200"), "answered {}", line.trim());
    loop {
        line.clear();
        ensure!(
            stream.read_line(&mut line).context("a field")? > 0,
            "closed in the header"
        );
        let Some((name, value)) = line.trim_end().split_once(':') else {
            break;
        };
        match name.to_ascii_lowercase().as_str() {
            "connection" => goes_on = !value.trim().eq_ignore_ascii_case("close"),
            "content-length" => length = value.trim().parse().ok(),
            _ => {}
        }
    }
    let Some(length) = length else {
        bail!("no length");
    };
    let mut body = vec![0; length];
    stream.read_exact(&mut body).context("the body")?;
    ensure!(
        body.len() == BODY_BYTES && body.iter().all(|byte| *byte == b'x'),
        "another body"
    );
    Ok(goes_on)
}
