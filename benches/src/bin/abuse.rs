//! Thousands of clients that behave badly beside one that behaves well: who is answered, who is cut off and when, and what
//! memory it takes. At last the descriptors run out.

use std::fmt::Write as _;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::{Command, ExitCode};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use benches::client::Client;
use benches::crowd::{self, Fates};
use benches::gateway_process::GatewayProcess;
use benches::load::get;
use benches::paced::sleep_until;
use benches::program::resident_bytes;
use benches::report::{keep, quantile};
use benches::scripted::{Reply, Scripted};
use benches::verdict::Verdicts;
use clap::Parser;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

const MIB: f64 = 1024.0 * 1024.0;
const PAGE: &str = "/page";
/// More than the buffers of a socket hold whose other end takes little.
const LARGE_BYTES: usize = 3 << 20;
/// What a deaf client takes before it takes nothing more.
const DEAF_TAKES_BYTES: u32 = 4 * 1024;
/// Between two bytes of who drips.
const DRIP: Duration = Duration::from_secs(1);
/// How long a phase is watched at most.
const WATCHED: Duration = Duration::from_secs(75);
const REST: Duration = Duration::from_secs(60);

/// What is promised.
const HEADERS_CUT_WITHIN: Duration = Duration::from_secs(15);
const ALL_CUT_WITHIN: Duration = Duration::from_secs(61);
const SILENT_MIB_MAX: f64 = 48.0;
const BESIDE_SILENT_MIB_MAX: f64 = 128.0;
const RESIDENT_MIB_MAX: f64 = 256.0;
const REST_FACTOR_MAX: f64 = 1.5;
const RECOVERED_WITHIN: Duration = Duration::from_secs(2);

#[derive(Parser)]
struct Arguments {
    /// Clients of each kind.
    #[arg(long, default_value_t = 5_000)]
    clients: usize,
    /// Keep the run in this folder.
    #[arg(long)]
    keep: Option<PathBuf>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    /// Connects, and sends nothing.
    Silent,
    /// Sends a header byte by byte.
    DripsHeader,
    /// Sends a body byte by byte.
    DripsBody,
    /// Asks for much and reads nothing.
    Deaf,
}

impl Kind {
    const ALL: [Self; 4] = [Self::Silent, Self::DripsHeader, Self::DripsBody, Self::Deaf];

    fn opening(self) -> &'static [u8] {
        match self {
            Self::Silent => b"",
            Self::DripsHeader => b"GET /page HTTP/1.1\r\nHost: bench\r\nX-Drip: ",
            Self::DripsBody => {
                b"POST /upload HTTP/1.1\r\nHost: bench\r\nContent-Length: 100000\r\n\r\n"
            }
            Self::Deaf => b"GET /large HTTP/1.1\r\nHost: bench\r\n\r\n",
        }
    }

    fn drips(self) -> bool {
        matches!(self, Self::DripsHeader | Self::DripsBody)
    }
}

/// What one phase came to.
struct Phase {
    kind: Kind,
    connected: usize,
    /// When each was cut off, from the moment at which all were there.
    cut: Vec<Duration>,
    before: u64,
    beside: u64,
    normal: Normal,
    /// Of who reads nothing: what had come at last, and the buffers of the system, before and beside them.
    deaf: Option<(Fates, Option<u64>, Option<u64>)>,
}

/// What the client that behaves well saw.
#[derive(Debug, Default)]
struct Normal {
    asked: usize,
    failed: usize,
    ms: Vec<f64>,
}

fn main() -> Result<ExitCode> {
    let arguments = Arguments::parse();
    crowd::make_room(arguments.clients)?;
    let origin = origin()?;
    let gateway = GatewayProcess::before(origin.address(), "", &[])?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    warm(gateway.public)?;
    let (warm, _) = resident(&gateway)?;
    let mut verdicts = Verdicts::default();
    let mut summary = String::from(
        "| phase | clients | cut | last cut after s | resident before, MiB | beside them, MiB | well-behaved: asked, failed, p99 ms |\n|---|---:|---:|---:|---:|---:|---|\n",
    );
    let mut deaf = String::new();
    for kind in Kind::ALL {
        let phase = runtime.block_on(phase(&gateway, kind, arguments.clients))?;
        summary.push_str(&phase.row());
        phase.judge(&mut verdicts);
        if let Some(told) = phase.told() {
            println!("{told}");
            deaf = told;
        }
        if kind == Kind::Silent {
            judge_most(
                &gateway,
                BESIDE_SILENT_MIB_MAX,
                "beside silent clients",
                &mut verdicts,
            )?;
            judge_rest(
                &gateway,
                warm,
                "a minute after the silent ones",
                &mut verdicts,
            )?;
        }
    }
    let served = runtime.block_on(served(&gateway, arguments.clients))?;
    println!("{served}");
    judge_rest(&gateway, warm, "a minute after all of them", &mut verdicts)?;
    judge_most(
        &gateway,
        RESIDENT_MIB_MAX,
        "with a cold cache",
        &mut verdicts,
    )?;
    drop(gateway);
    runtime.block_on(without_descriptors(origin.address(), &mut verdicts))?;
    if let Some(dir) = &arguments.keep {
        let _ = writeln!(summary, "\n{deaf}\n\n{served}\n\n{}", verdicts.text());
        println!(
            "kept in {}",
            keep(dir, &[("summary.md", &summary)])?.display()
        );
    }
    Ok(verdicts.exit_code())
}

/// Answers a page and a large one, which may both be kept, and waits for ever for a body.
fn origin() -> Result<Scripted> {
    Scripted::start(|asked| async move {
        match asked.target.as_str() {
            "/upload" => std::future::pending().await,
            "/large" => Some(Reply::ok("", vec![b'x'; LARGE_BYTES])),
            _ => Some(Reply::ok("", vec![b'x'; 10_000])),
        }
    })
}

/// The process after it has served a little.
fn warm(address: SocketAddr) -> Result<()> {
    let mut client = Client::new(address, Duration::from_secs(5));
    for _ in 0..1_000 {
        ensure!(client.exchange(&get(PAGE))?.status == 200, "not served");
    }
    Ok(())
}

fn resident(gateway: &GatewayProcess) -> Result<(u64, u64)> {
    resident_bytes(gateway.program.id())
}

async fn phase(gateway: &GatewayProcess, kind: Kind, count: usize) -> Result<Phase> {
    let (before, _) = resident(gateway)?;
    let buffers_before = crowd::tcp_bytes();
    let stop = Arc::new(AtomicBool::new(false));
    let normal = thread::spawn({
        let (address, stop) = (gateway.public, Arc::clone(&stop));
        move || behave_well(address, &stop)
    });
    let mut streams = Vec::with_capacity(count);
    let receive = (kind == Kind::Deaf).then_some(DEAF_TAKES_BYTES);
    for number in 0..count {
        let mut stream = crowd::connect(gateway.public, number, receive).await?;
        stream.write_all(kind.opening()).await?;
        streams.push(stream);
    }
    let began = Instant::now();
    let connected = streams.len();
    tokio::time::sleep(Duration::from_secs(2)).await;
    let (beside, _) = resident(gateway)?;
    let buffers_beside = crowd::tcp_bytes();
    let (mut cut, mut deaf) = (Vec::new(), None);
    if kind == Kind::Deaf {
        cut = until_let_go(gateway, streams.len()).await?;
        deaf = Some((Fates::of(streams).await, buffers_before, buffers_beside));
    } else {
        let tasks: Vec<_> = streams
            .into_iter()
            .map(|stream| tokio::spawn(until_cut(stream, kind, began)))
            .collect();
        for task in tasks {
            cut.extend(task.await?);
        }
    }
    stop.store(true, Ordering::Relaxed);
    let normal = normal
        .join()
        .map_err(|_| anyhow::anyhow!("the good client panicked"))?;
    Ok(Phase {
        kind,
        connected,
        cut,
        before,
        beside,
        normal,
        deaf,
    })
}

/// Behaves badly until the gateway has closed the connection.
async fn until_cut(mut stream: TcpStream, kind: Kind, began: Instant) -> Option<Duration> {
    let end = tokio::time::Instant::from_std(began + WATCHED);
    let mut room = [0; 1024];
    loop {
        tokio::select! {
            read = stream.read(&mut room) => match read {
                Ok(0) | Err(_) => return Some(began.elapsed()),
                Ok(_) => {}
            },
            () = tokio::time::sleep(DRIP) => {
                if kind.drips() && stream.write_all(b"x").await.is_err() {
                    return Some(began.elapsed());
                }
            }
            () = tokio::time::sleep_until(end) => return None,
        }
    }
}

/// When the gateway has let go of those who read nothing: they themselves cannot see it for all that they did not read.
async fn until_let_go(gateway: &GatewayProcess, deaf: usize) -> Result<Vec<Duration>> {
    let began = Instant::now();
    while began.elapsed() < WATCHED {
        tokio::time::sleep(DRIP / 4).await;
        let status = gateway.status()?;
        // The client that behaves well has one, too.
        if status["connections"].as_u64().is_some_and(|open| open <= 1) {
            return Ok(vec![began.elapsed(); deaf]);
        }
    }
    Ok(Vec::new())
}

/// Asks twenty times a second.
fn behave_well(address: SocketAddr, stop: &AtomicBool) -> Normal {
    let mut client = Client::new(address, Duration::from_secs(5));
    let mut normal = Normal::default();
    while !stop.load(Ordering::Relaxed) {
        let began = Instant::now();
        let is_good = client
            .exchange(&get(PAGE))
            .is_ok_and(|reply| reply.status == 200);
        normal.asked += 1;
        normal.failed += usize::from(!is_good);
        normal.ms.push(began.elapsed().as_secs_f64() * 1e3);
        sleep_until(began + Duration::from_millis(50));
    }
    normal
}

impl Phase {
    fn last_cut(&self) -> Duration {
        self.cut.iter().max().copied().unwrap_or_default()
    }

    fn row(&self) -> String {
        format!(
            "| {:?} | {} | {} | {:.1} | {:.1} | {:.1} | {}, {}, {:.1} |\n",
            self.kind,
            self.connected,
            self.cut.len(),
            self.last_cut().as_secs_f64(),
            self.before as f64 / MIB,
            self.beside as f64 / MIB,
            self.normal.asked,
            self.normal.failed,
            quantile(&self.normal.ms, 0.99).unwrap_or_default()
        )
    }

    /// What became of who reads nothing, where that is this phase.
    fn told(&self) -> Option<String> {
        let (fates, before, beside) = self.deaf?;
        let mib = |bytes: Option<u64>| {
            bytes.map_or_else(
                || "unknown".to_owned(),
                |bytes| format!("{:.1}", bytes as f64 / MIB),
            )
        };
        Some(format!(
            "{} clients that read nothing, from {} addresses: {fates}; buffers of TCP on this machine {} MiB before, {} MiB beside them",
            self.connected,
            crowd::ADDRESSES,
            mib(before),
            mib(beside)
        ))
    }

    fn judge(&self, verdicts: &mut Verdicts) {
        print!("{}", self.row());
        verdicts.check(
            format_args!("{:?}: a client that behaves well is answered", self.kind),
            self.normal.failed == 0 && self.normal.asked > 50,
            format_args!("{} of {} failed", self.normal.failed, self.normal.asked),
        );
        let limit = match self.kind {
            Kind::Silent | Kind::DripsHeader => HEADERS_CUT_WITHIN,
            Kind::DripsBody | Kind::Deaf => ALL_CUT_WITHIN,
        };
        verdicts.check(
            format_args!(
                "{:?}: all are cut off within {} s",
                self.kind,
                limit.as_secs()
            ),
            self.cut.len() == self.connected && self.last_cut() <= limit,
            format_args!(
                "{} of {}, the last after {:.1} s",
                self.cut.len(),
                self.connected,
                self.last_cut().as_secs_f64()
            ),
        );
        if self.kind == Kind::Silent {
            let more = self.beside.saturating_sub(self.before) as f64 / MIB;
            verdicts.check(
                format_args!("silent connections take at most {SILENT_MIB_MAX} MiB"),
                more <= SILENT_MIB_MAX,
                format_args!("{more:.1} MiB for {}", self.connected),
            );
        }
    }
}

/// The most memory that was ever resident.
fn judge_most(
    gateway: &GatewayProcess,
    mib_max: f64,
    when: &str,
    verdicts: &mut Verdicts,
) -> Result<()> {
    let (_, most) = resident(gateway)?;
    let most = most as f64 / MIB;
    verdicts.check(
        format_args!("never more than {mib_max} MiB {when}"),
        most <= mib_max,
        format_args!("{most:.1} MiB at most"),
    );
    Ok(())
}

fn judge_rest(
    gateway: &GatewayProcess,
    warm: u64,
    when: &str,
    verdicts: &mut Verdicts,
) -> Result<()> {
    sleep_until(Instant::now() + REST);
    let (now, _) = resident(gateway)?;
    verdicts.check(
        format_args!("{when} at most {REST_FACTOR_MAX} times the memory of the warm start"),
        now as f64 <= REST_FACTOR_MAX * warm as f64,
        format_args!(
            "{:.1} MiB of {:.1} MiB",
            now as f64 / MIB,
            warm as f64 / MIB
        ),
    );
    Ok(())
}

/// What a connection costs that has been served once and is idle now.
async fn served(gateway: &GatewayProcess, count: usize) -> Result<String> {
    let (before, _) = resident(gateway)?;
    let mut idle = Vec::with_capacity(count);
    let mut room = vec![0; 64 * 1024];
    for _ in 0..count {
        let mut stream = TcpStream::connect(gateway.public).await?;
        stream.write_all(&get(PAGE)).await?;
        let mut read = 0;
        while read < 10_000 {
            read += stream.read(&mut room).await?;
        }
        idle.push(stream);
    }
    tokio::time::sleep(Duration::from_secs(1)).await;
    let (beside, _) = resident(gateway)?;
    let more = beside.saturating_sub(before) as f64;
    Ok(format!(
        "{count} connections that were served once and are idle: {:.1} MiB more, {:.0} bytes each",
        more / MIB,
        more / count as f64
    ))
}

/// Leaves the gateway 256 descriptors, and comes with a thousand connections.
async fn without_descriptors(origin: SocketAddr, verdicts: &mut Verdicts) -> Result<()> {
    let gateway = GatewayProcess::before(origin, "", &[])?;
    let mut old = Client::new(gateway.public, Duration::from_secs(5));
    ensure!(old.exchange(&get(PAGE))?.status == 200, "not served");
    let limited = Command::new("prlimit")
        .arg(format!("--pid={}", gateway.program.id()))
        .arg("--nofile=256:256")
        .status()
        .context("running prlimit")?;
    ensure!(limited.success(), "the limit was not set");
    let mut crowd = Vec::new();
    for _ in 0..1_000 {
        crowd.push(TcpStream::connect(gateway.public).await?);
    }
    let mut failed = 0;
    for _ in 0..100 {
        failed += usize::from(
            !old.exchange(&get(PAGE))
                .is_ok_and(|reply| reply.status == 200),
        );
    }
    verdicts.check(
        "without descriptors the old are served",
        failed == 0,
        format_args!("{failed} of 100 failed"),
    );
    let mut new = Client::new(gateway.public, Duration::from_secs(2));
    let refused = new.exchange(&get(PAGE));
    verdicts.check(
        "without descriptors the new are refused",
        refused.as_ref().is_ok_and(|reply| reply.status == 503) || refused.is_err(),
        match &refused {
            Ok(reply) => format!("answered {}", reply.status),
            Err(error) => format!("no answer: {}", error.root_cause()),
        },
    );
    drop(crowd);
    let began = Instant::now();
    let mut recovered = None;
    while recovered.is_none() && began.elapsed() < RECOVERED_WITHIN * 5 {
        let mut new = Client::new(gateway.public, Duration::from_secs(1));
        if new
            .exchange(&get(PAGE))
            .is_ok_and(|reply| reply.status == 200)
        {
            recovered = Some(began.elapsed());
        }
    }
    verdicts.check(
        format_args!(
            "new ones are served again within {} s",
            RECOVERED_WITHIN.as_secs()
        ),
        recovered.is_some_and(|after| after < RECOVERED_WITHIN),
        format_args!("after {recovered:?}"),
    );
    Ok(())
}
