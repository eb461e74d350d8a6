//! Many clients ask for one cold key at the same moment: how many requests reach the origin, and what everybody gets.

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Result, ensure};
use benches::exchange::Exchange;
use benches::gateway_process::GatewayProcess;
use benches::report;
use benches::scripted::{Reply, Scripted};
use benches::verdict::Verdicts;
use clap::Parser;

const BODY: &[u8] = b"{\"shared\": true}";
const POLL: Duration = Duration::from_millis(2);
const DOWN: &str = "HTTP/1.1 503 Service Unavailable\r\nContent-Length: 4\r\n\r\n";

#[derive(Parser)]
struct Arguments {
    /// Clients that ask at the same moment.
    #[arg(long, default_value_t = 1_000)]
    clients: usize,
    /// Herds of each kind, each at a key of its own.
    #[arg(long, default_value_t = 10)]
    rounds: usize,
    /// Keep the run in this folder.
    #[arg(long)]
    keep: Option<PathBuf>,
}

/// What the origin does with a herd's key: its path says so.
#[derive(Clone, Copy)]
struct Scene {
    path: &'static str,
    aim: &'static str,
    origin_max: u64,
    /// Answers with 200 at least, of `clients`.
    good_min: fn(usize) -> usize,
}

const SCENES: [Scene; 4] = [
    Scene {
        path: "/fine",
        aim: "the origin answers: one request, everybody gets the body",
        origin_max: 1,
        good_min: |clients| clients,
    },
    Scene {
        path: "/once",
        aim: "the first fetch fails: two requests, all others get the body",
        origin_max: 2,
        good_min: |clients| clients - 1,
    },
    Scene {
        path: "/down",
        aim: "every fetch is answered 503: two requests, no client is left without an answer",
        origin_max: 2,
        good_min: |_| 0,
    },
    Scene {
        path: "/gone",
        aim: "every fetch is cut off: two requests, no client is left without an answer",
        origin_max: 2,
        good_min: |_| 0,
    },
];

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<ExitCode> {
    let arguments = Arguments::parse();
    let failed_once = std::sync::Mutex::new(std::collections::HashSet::new());
    let origin = Scripted::start(move |asked| {
        let is_first = || {
            failed_once
                .lock()
                .is_ok_and(|mut set| set.insert(asked.target.clone()))
        };
        let fails = || asked.target.starts_with("/down") || is_first();
        let reply = if asked.target.starts_with("/gone") {
            None
        } else if !asked.target.starts_with("/fine") && fails() {
            Some(Reply {
                head: DOWN.to_owned(),
                pause: None,
                body: b"down".to_vec(),
            })
        } else {
            Some(Reply::ok("", BODY.to_vec()))
        };
        std::future::ready(reply)
    })?;
    let gateway = GatewayProcess::before(origin.address(), "", &[])?;
    let mut verdicts = Verdicts::default();
    let mut raw = String::from("scene,round,clients,origin,status_200,status_5xx\n");
    for scene in SCENES {
        let (mut most, mut least_good) = (0, arguments.clients);
        for round in 0..arguments.rounds {
            let path = format!("{}/{round}", scene.path);
            let (asked, good) = herd(&gateway, &origin, &path, arguments.clients).await?;
            let bad = arguments.clients - good;
            raw += &format!(
                "{},{round},{},{asked},{good},{bad}\n",
                scene.path, arguments.clients
            );
            most = most.max(asked);
            least_good = least_good.min(good);
        }
        let reached = most <= scene.origin_max && least_good >= (scene.good_min)(arguments.clients);
        let figures = format!(
            "at most {most} at the origin, at least {least_good} of {} with the body, {} herds",
            arguments.clients, arguments.rounds
        );
        verdicts.check(scene.aim, reached, figures);
    }
    if let Some(dir) = arguments.keep {
        let files = [("raw.csv", raw.as_str()), ("summary.md", &verdicts.text())];
        println!("kept in {}", report::keep(&dir, &files)?.display());
    }
    Ok(verdicts.exit_code())
}

/// One herd: requests that reached the origin, and clients that got the body.
async fn herd(
    gateway: &GatewayProcess,
    origin: &Scripted,
    path: &str,
    clients: usize,
) -> Result<(u64, usize)> {
    let before = origin.asked();
    origin.hold(true);
    let request = format!("GET {path} HTTP/1.1\r\nHost: bench\r\n\r\n");
    let mut exchanges = Vec::with_capacity(clients);
    for _ in 0..clients {
        let mut exchange = Exchange::new(gateway.public);
        exchange.send(request.as_bytes()).await?;
        exchanges.push(exchange);
    }
    // Whatever was sent before this request, which needs no origin, is read before it is answered.
    let marker = Exchange::new(gateway.public)
        .whole("GET", "/marker", "Cache-Control: only-if-cached\r\n")
        .await?;
    ensure!(
        marker.status == 504,
        "the marker was answered {}",
        marker.status
    );
    while origin.asked() == before {
        tokio::time::sleep(POLL).await;
    }
    origin.hold(false);
    let mut good = 0;
    for mut exchange in exchanges {
        let answer = exchange.receive(false).await?;
        let has_body = answer.status == 200 && answer.body == BODY;
        ensure!(
            has_body || answer.status >= 500,
            "{path} was answered {}",
            answer.status
        );
        good += usize::from(has_body);
    }
    Ok((origin.asked() - before, good))
}
