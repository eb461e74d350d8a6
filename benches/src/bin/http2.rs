//! HTTP/2 against the rules: frames that are wrong, each with the error that it must get, and streams that are begun and
//! reset by the hundred thousand: what that costs, and how soon it is over.

use std::fmt::Write as _;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow, ensure};
use benches::answer::{Head, head_end};
use benches::http2::{Encrypted, Way, cases, frame, header_block, headers, kind, opening};
use benches::program::{cpu_time, resident_bytes};
use benches::report::{keep, or_dash, quantile};
use benches::scripted::{Reply, Scripted};
use benches::verdict::Verdicts;
use clap::Parser;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::time::{sleep, timeout};

const MIB: f64 = 1024.0 * 1024.0;
/// Resets that are sent at once; so many fit into the time they are to take.
const BATCH: usize = 500;
/// How long an answer may take.
const ANSWER_LIMIT: Duration = Duration::from_secs(5);
/// Between two requests of the client that behaves well.
const PAUSE: Duration = Duration::from_millis(20);
/// Over what the use of the processor is looked at.
const WINDOW: Duration = Duration::from_millis(500);
/// More than at rest by this share of one processor is work that is left.
const CALM: f64 = 0.05;

/// What is promised.
const CALM_WITHIN: Duration = Duration::from_secs(2);
const RESIDENT_MIB_MAX: f64 = 50.0;

#[derive(Parser)]
struct Arguments {
    /// Streams of each kind that are begun and reset.
    #[arg(long, default_value_t = 100_000)]
    resets: usize,
    /// In how many seconds.
    #[arg(long, default_value_t = 10)]
    seconds: u64,
    /// Keep the run in this folder.
    #[arg(long)]
    keep: Option<PathBuf>,
}

/// Who ends a stream before its time.
#[derive(Clone, Copy, Debug)]
enum Reset {
    /// The client, at once.
    Sent,
    /// The server, for a frame that is wrong: nothing that a count of the client's own resets would see.
    Provoked,
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<ExitCode> {
    let arguments = Arguments::parse();
    let origin = Scripted::start(|_| std::future::ready(Some(Reply::ok("", vec![b'x'; 1_000]))))?;
    let site = Encrypted::before(origin.address()).await?;
    let mut verdicts = Verdicts::default();
    let mut summary = String::from("| frames | answered |\n|---|---|\n");
    for case in cases() {
        let (was_right, answered) = case.run(&site.way()).await?;
        let _ = writeln!(summary, "| {} | {answered} |", case.name);
        verdicts.check(case.name, was_right, answered);
    }
    for reset in [Reset::Sent, Reset::Provoked] {
        attack(&site, reset, &arguments, &mut verdicts).await?;
    }
    if let Some(dir) = &arguments.keep {
        let _ = writeln!(summary, "\n{}", verdicts.text());
        println!(
            "kept in {}",
            keep(dir, &[("summary.md", &summary)])?.display()
        );
    }
    Ok(verdicts.exit_code())
}

/// What came of so many resets.
struct Sent {
    connections: usize,
    took: Duration,
}

async fn attack(
    site: &Encrypted,
    reset: Reset,
    arguments: &Arguments,
    verdicts: &mut Verdicts,
) -> Result<()> {
    let id = site.gateway.program.id();
    let stop = Arc::new(AtomicBool::new(false));
    let good = thread::spawn({
        let (way, stop) = (site.way(), Arc::clone(&stop));
        move || behave_well(&way, &stop)
    });
    sleep(WINDOW).await; // the good client has connected
    let at_rest = busy(id).await?;
    let (before, _) = resident_bytes(id)?;
    let sent = send_resets(&site.way(), reset, arguments).await?;
    let ended = Instant::now();
    let mut calm_after = Duration::ZERO;
    while busy(id).await? > at_rest + CALM {
        calm_after = ended.elapsed();
        ensure!(calm_after < CALM_WITHIN * 10, "the gateway works on and on");
    }
    let (after, most) = resident_bytes(id)?;
    stop.store(true, Ordering::Relaxed);
    let good = good
        .join()
        .map_err(|_| anyhow!("the good client panicked"))?;
    verdicts.check(
        format_args!("{reset:?}: idle again within {} s", CALM_WITHIN.as_secs()),
        calm_after < CALM_WITHIN,
        format_args!(
            "after {:.1} s; {} streams in {:.1} s on {} connections",
            calm_after.as_secs_f64(),
            arguments.resets,
            sent.took.as_secs_f64(),
            sent.connections
        ),
    );
    let more = most.saturating_sub(before) as f64 / MIB;
    verdicts.check(
        format_args!("{reset:?}: never more than {RESIDENT_MIB_MAX} MiB beside what was there"),
        more < RESIDENT_MIB_MAX,
        format_args!(
            "{more:.1} MiB at most; {:.1} before, {:.1} after",
            before as f64 / MIB,
            after as f64 / MIB
        ),
    );
    judge_good(reset, &good, verdicts);
    Ok(())
}

fn judge_good(reset: Reset, good: &Result<Vec<f64>>, verdicts: &mut Verdicts) {
    let told = match good {
        Ok(ms) => {
            let at = |part| or_dash(quantile(ms, part).map(|ms| format!("{ms:.1}")));
            format!(
                "all of {}; median {} ms, p99 {} ms",
                ms.len(),
                at(0.5),
                at(0.99)
            )
        }
        Err(error) => format!("{error:#}"),
    };
    verdicts.check(
        format_args!("{reset:?}: a client that behaves well is answered"),
        good.as_ref().is_ok_and(|ms| !ms.is_empty()),
        told,
    );
}

/// The share of one processor that a process takes.
async fn busy(id: u32) -> Result<f64> {
    let (began, before) = (Instant::now(), cpu_time(id)?);
    sleep(WINDOW).await;
    let used = cpu_time(id)?.saturating_sub(before);
    Ok(used.as_secs_f64() / began.elapsed().as_secs_f64())
}

/// Begins and resets streams as fast as is asked for, on a new connection whenever the gateway has ended one.
async fn send_resets(way: &Way, reset: Reset, arguments: &Arguments) -> Result<Sent> {
    let began = tokio::time::Instant::now();
    let batches = arguments.resets.div_ceil(BATCH);
    let every = Duration::from_secs(arguments.seconds) / u32::try_from(batches.max(1))?;
    let (mut batch, mut connections) = (0, 0);
    while batch < batches {
        let (mut reader, mut writer) = tokio::io::split(way.connect("h2").await?);
        connections += 1;
        let drain = tokio::spawn(async move {
            let mut room = vec![0; 16 * 1024];
            while reader.read(&mut room).await.is_ok_and(|length| length > 0) {}
        });
        let (mut bytes, mut stream) = (opening(), 1);
        while batch < batches && !drain.is_finished() {
            tokio::time::sleep_until(began + every * u32::try_from(batch)?).await;
            for _ in 0..BATCH {
                bytes.extend(reset.frames(stream));
                stream += 2;
            }
            let written = timeout(ANSWER_LIMIT, writer.write_all(&bytes)).await;
            if !written.is_ok_and(|written| written.is_ok()) {
                break;
            }
            batch += 1;
            bytes.clear();
        }
        drain.abort();
    }
    Ok(Sent {
        connections,
        took: began.elapsed(),
    })
}

impl Reset {
    fn frames(self, stream: u32) -> Vec<u8> {
        let mut frames = headers(stream, &header_block("/reset"));
        frames.extend(match self {
            Self::Sent => frame(kind::RST_STREAM, 0, stream, &8_u32.to_be_bytes()),
            Self::Provoked => frame(kind::WINDOW_UPDATE, 0, stream, &0_u32.to_be_bytes()),
        });
        frames
    }
}

/// Asks over HTTP/1.1 until it is told to stop; how long each answer took.
fn behave_well(way: &Way, stop: &AtomicBool) -> Result<Vec<f64>> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    runtime.block_on(async {
        let mut stream = way.connect("http/1.1").await?;
        let mut ms = Vec::new();
        while !stop.load(Ordering::Relaxed) {
            let began = Instant::now();
            stream
                .write_all(b"GET /page HTTP/1.1\r\nHost: bench.test\r\n\r\n")
                .await?;
            let mut answer = Vec::new();
            loop {
                let read = timeout(ANSWER_LIMIT, stream.read_buf(&mut answer)).await;
                ensure!(read.context("no answer in time")?? > 0, "no answer");
                let Some(end) = head_end(&answer) else {
                    continue;
                };
                let head = Head::parse(&answer[..end])?;
                ensure!(head.status == 200, "answered {}", head.status);
                if answer.len() >= end + head.length.context("chunks")? {
                    break;
                }
            }
            ms.push(began.elapsed().as_secs_f64() * 1e3);
            sleep(PAUSE).await;
        }
        Ok(ms)
    })
}
