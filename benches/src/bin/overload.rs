//! Three times more than the origins can do, for a minute: what is still done, how fast the rest is refused, and how soon
//! all is well again.

use std::fmt::Write as _;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use anyhow::Result;
use benches::gateway_process::GatewayProcess;
use benches::load::get;
use benches::paced::{self, Outcome, Pace, Request};
use benches::queued::Machine;
use benches::report::{keep, or_dash, quantile};
use benches::scripted::Scripted;
use benches::timeline;
use benches::verdict::Verdicts;
use clap::Parser;

const KINDS: [&str; 2] = ["GET of the origins", "GET of the cache"];
const ORIGINS: usize = 2;
const MACHINE: Machine = Machine {
    slots: 8,
    service: Duration::from_millis(10),
    percent_per_kib: 0,
};
/// Places at one origin: what it works on, and as much again on its way.
const IN_FLIGHT_MAX: usize = 16;
const OVERLOAD: f64 = 3.0;
const WORKERS: usize = 512;
const ANSWER_LIMIT: Duration = Duration::from_secs(20);
const LEAD_OUT: Duration = Duration::from_secs(10);

/// What is promised.
const GOODPUT_MIN: f64 = 0.9;
const SLOWER_MAX: f64 = 5.0;
const REFUSED_WITHIN_MS: f64 = 50.0;
const NORMAL_WITHIN: Duration = Duration::from_secs(5);
/// What is normal: as long as without overload, but for the noise of this many times.
const NORMAL_MAX: f64 = 2.0;

#[derive(Parser)]
struct Arguments {
    /// How long the overload lasts.
    #[arg(long, default_value_t = 60)]
    seconds: u64,
    /// Keep the run in this folder.
    #[arg(long)]
    keep: Option<PathBuf>,
}

fn main() -> Result<ExitCode> {
    let arguments = Arguments::parse();
    let origins: Vec<Scripted> = (0..ORIGINS)
        .map(|_| MACHINE.start())
        .collect::<Result<_>>()?;
    let addresses: Vec<_> = origins.iter().map(Scripted::address).collect();
    let settings = format!("[upstream]\nin_flight_max = {IN_FLIGHT_MAX}\n");
    let gateway = GatewayProcess::before_all(&addresses, &settings, &[])?;
    let load = |rate: f64, duration: Duration| {
        let pace = Pace {
            address: gateway.public,
            rate,
            duration,
            workers: WORKERS,
            timeout: ANSWER_LIMIT,
        };
        // One of ten asks for what is cached: it must not be touched at all.
        paced::run(pace, Instant::now(), &|number| match number % 10 {
            0 => request(1, &format!("/kept/{}/1", number % 100)),
            _ => request(0, &format!("/{number}/1")),
        })
    };
    let nominal = MACHINE.capacity(1.0) * ORIGINS as f64;
    load(nominal * 0.3, Duration::from_secs(3))?; // fills the cache
    let unloaded = load(nominal * 0.3, Duration::from_secs(10))?;
    // As many as the origins do when they are just not overloaded, found by asking for a little more.
    let capacity = goodput(
        &load(nominal * 1.1 / 0.9, Duration::from_secs(10))?,
        Duration::from_secs(10),
    );
    println!("capacity {capacity:.0}/s of {nominal:.0}/s");
    let overload = Duration::from_secs(arguments.seconds);
    let loaded = load(OVERLOAD * capacity / 0.9, overload)?;
    let after = load(0.5 * capacity / 0.9, LEAD_OUT)?;
    let mut verdicts = Verdicts::default();
    judge(&unloaded, &loaded, capacity, overload, &mut verdicts);
    judge_after(&unloaded, &after, &mut verdicts);
    if let Some(dir) = &arguments.keep {
        let mut summary = format!("capacity {capacity:.0}/s of {nominal:.0}/s\n\n");
        for (name, outcomes) in [
            ("unloaded", &unloaded),
            ("overload", &loaded),
            ("after", &after),
        ] {
            let table = timeline::table(outcomes, &KINDS, &[]);
            let _ = writeln!(summary, "## {name}\n\n{table}");
        }
        summary.push_str(&verdicts.text());
        let raw = timeline::raw(&loaded, &KINDS);
        let files = [("summary.md", summary.as_str()), ("raw.csv", raw.as_str())];
        println!("kept in {}", keep(dir, &files)?.display());
    }
    Ok(verdicts.exit_code())
}

fn request(kind: usize, target: &str) -> Request {
    Request {
        kind,
        bytes: get(target),
    }
}

/// Good answers of the origins a second.
fn goodput(outcomes: &[Outcome], duration: Duration) -> f64 {
    let good = outcomes.iter().filter(|one| one.kind == 0 && one.is_good());
    good.count() as f64 / duration.as_secs_f64()
}

fn ms_where(outcomes: &[Outcome], which: impl Fn(&&Outcome) -> bool) -> Vec<f64> {
    outcomes.iter().filter(which).map(Outcome::ms).collect()
}

fn judge(
    unloaded: &[Outcome],
    loaded: &[Outcome],
    capacity: f64,
    duration: Duration,
    verdicts: &mut Verdicts,
) {
    let figure = |ms: Option<f64>| or_dash(ms.map(|ms| format!("{ms:.1}")));
    let good = goodput(loaded, duration);
    verdicts.check(
        format_args!("at least {GOODPUT_MIN} of the capacity is done"),
        good >= GOODPUT_MIN * capacity,
        format_args!(
            "{good:.0}/s, {:.2} of {capacity:.0}/s, of {} asked for",
            good / capacity,
            loaded.len()
        ),
    );
    let normal = quantile(&ms_where(unloaded, |one| one.kind == 0), 0.99);
    let accepted = quantile(
        &ms_where(loaded, |one| one.kind == 0 && one.is_good()),
        0.99,
    );
    verdicts.check(
        format_args!("what is done takes at most {SLOWER_MAX} times as long (p99)"),
        accepted
            .zip(normal)
            .is_some_and(|(accepted, normal)| accepted <= SLOWER_MAX * normal),
        format_args!(
            "{} ms, without overload {} ms",
            figure(accepted),
            figure(normal)
        ),
    );
    let refused = loaded.iter().filter(|one| !one.is_good());
    let proper = |one: &&Outcome| {
        matches!(one.status(), 429 | 503) && one.reply.is_some_and(|reply| reply.has_retry_after)
    };
    let improper = refused.clone().filter(|one| !proper(one)).count();
    verdicts.check(
        "the rest is refused with 503 or 429 and Retry-After",
        improper == 0,
        format_args!("{improper} of {} otherwise", refused.count()),
    );
    let refusals = ms_where(loaded, |one| proper(one));
    let (p99, longest) = (quantile(&refusals, 0.99), quantile(&refusals, 1.0));
    verdicts.check(
        format_args!("refused within {REFUSED_WITHIN_MS} ms (p99)"),
        p99.is_some_and(|ms| ms < REFUSED_WITHIN_MS),
        format_args!("p99 {} ms, longest {} ms", figure(p99), figure(longest)),
    );
    let hits = loaded.iter().filter(|one| one.kind == 1);
    let failed = hits.clone().filter(|one| !one.is_good()).count();
    verdicts.check(
        "what is cached is answered, all of it",
        failed == 0,
        format_args!(
            "{failed} of {} failed; p99 {} ms",
            hits.count(),
            figure(quantile(&ms_where(loaded, |one| one.kind == 1), 0.99))
        ),
    );
}

fn judge_after(unloaded: &[Outcome], after: &[Outcome], verdicts: &mut Verdicts) {
    let last = after
        .iter()
        .filter(|one| !one.is_good())
        .map(|one| one.due)
        .max();
    verdicts.check(
        format_args!("normal within {} s after it", NORMAL_WITHIN.as_secs()),
        last.is_none_or(|last| last < NORMAL_WITHIN),
        last.map_or_else(
            || "nothing failed after it".to_owned(),
            |last| format!("the last failure {:.2} s after it", last.as_secs_f64()),
        ),
    );
    let is_later = |one: &&Outcome| one.kind == 0 && one.due >= NORMAL_WITHIN;
    let later = quantile(&ms_where(after, is_later), 0.99);
    let before = quantile(&ms_where(unloaded, |one| one.kind == 0), 0.99);
    let figure = |ms: Option<f64>| or_dash(ms.map(|ms| format!("{ms:.1}")));
    verdicts.check(
        format_args!("from then on at most {NORMAL_MAX} times as long as before it (p99)"),
        later
            .zip(before)
            .is_some_and(|(later, before)| later <= NORMAL_MAX * before),
        format_args!("{} ms, before it {} ms", figure(later), figure(before)),
    );
}
