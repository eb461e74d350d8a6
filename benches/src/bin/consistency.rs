//! Are readers ever given the past? Writers and readers over several gateways while everything is broken at random, and
//! then every read held against what is promised.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow};
use benches::client::Client;
use benches::consistency::check::{Judgement, Promises, Rule, check, tell};
use benches::consistency::clients::{Clients, Seen};
use benches::consistency::history::{Fault, History};
use benches::consistency::nemesis::{
    Database, Hand, crash_unheard, strike_process, strike_surroundings,
};
use benches::consistency::objects::{self, Object};
use benches::live::{Live, Plan};
use benches::paced::{becomes_true, sleep_until};
use benches::relay::{Lie, Relay};
use benches::report::{keep, or_dash, quantile};
use benches::verdict::Verdicts;
use benches::writers::Fate;
use clap::{Parser, ValueEnum};
use stack::gateway_config::GatewayConfig;

/// Violations told whole.
const TOLD_MAX: usize = 10;
/// How long it may take until every page shows the truth after the last fault.
const SETTLED_WITHIN: Duration = Duration::from_secs(10);
const ANSWER_LIMIT: Duration = Duration::from_secs(5);
/// One lie of a relay a second.
const LIE_EVERY: Duration = Duration::from_secs(1);
/// Between a crash that is over and the next.
const CRASH_EVERY: Duration = Duration::from_secs(1);

#[derive(Parser)]
struct Arguments {
    /// How long.
    #[arg(long, default_value_t = 600)]
    seconds: u64,
    /// Which faults, and which operations.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// What the gateways do without a lease.
    #[arg(long, value_enum, default_value_t = Mode::Available)]
    mode: Mode,
    /// The gateways' lease, in milliseconds.
    #[arg(long, default_value_t = 2_000)]
    lease_ms: u64,
    /// Clients that write.
    #[arg(long, default_value_t = 8)]
    writers: u64,
    /// Clients that read.
    #[arg(long, default_value_t = 16)]
    readers: u64,
    /// Gateways.
    #[arg(long, default_value_t = 2)]
    gateways: usize,
    /// Origins behind each of them.
    #[arg(long, default_value_t = 3)]
    origins: usize,
    /// Copies of the database.
    #[arg(long, default_value_t = 1)]
    replicas: usize,
    /// Counters of each of three kinds.
    #[arg(long, default_value_t = 20)]
    counters: usize,
    /// Instead of random faults, something that must be found: the run fails if it is not.
    #[arg(long, value_enum)]
    sabotage: Option<Sabotage>,
    /// Keep the run in this folder.
    #[arg(long)]
    keep: Option<PathBuf>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Mode {
    Available,
    Strict,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Sabotage {
    /// On its way to one gateway what an event of a change tells is lost, once a second, as if the gateway dropped it.
    DroppedEvents,
    /// A replica that is held back answers reads which a write went before.
    LaggingReplica,
    /// A read is given the answer of one that was under way when something was written, as if by a gateway without the race rule.
    SkippedRaceRule,
    /// Tokens are numbers of transactions and no more, while the database crashes and gives numbers out again. Needs a lease
    /// that outlives a recovery, which syncs the whole data directory: of thirty seconds say.
    BareTokens,
}

impl Arguments {
    fn lie(&self) -> Lie {
        match self.sabotage {
            None | Some(Sabotage::DroppedEvents | Sabotage::BareTokens) => Lie::Honest,
            Some(Sabotage::LaggingReplica) => Lie::ForgetsPosition,
            Some(Sabotage::SkippedRaceRule) => Lie::JoinsReads,
        }
    }

    /// The log is not written in the background, so that a crash loses what was rolled back; commits wait for it as ever.
    fn settings(&self) -> &'static [&'static str] {
        match self.sabotage {
            Some(Sabotage::BareTokens) => &["wal_writer_delay=10s", "wal_writer_flush_after=1GB"],
            _ => &[],
        }
    }

    fn promises(&self) -> Promises {
        Promises {
            lease: Duration::from_millis(self.lease_ms),
            is_strict: self.mode == Mode::Strict,
        }
    }

    fn start(&self) -> Result<Live> {
        let lease = format!("{}ms", self.lease_ms);
        let mode = match self.mode {
            Mode::Available => "available",
            Mode::Strict => "strict",
        };
        let told = |config: GatewayConfig| {
            config
                .with("coherence", "lease", lease.as_str())
                .with("coherence", "mode", mode)
        };
        Live::up(&Plan {
            products: 2_000,
            origins: self.origins,
            replicas: self.replicas,
            gateways: &vec![&told as &dyn Fn(_) -> _; self.gateways],
            lie: self.lie(),
            settings: self.settings(),
            ..Plan::default()
        })
    }
}

fn main() -> Result<ExitCode> {
    let arguments = Arguments::parse();
    let mut live = arguments.start()?;
    live.wait_for_leases()?;
    let counters = objects::choose(&live, arguments.counters)?;
    let (objects, bases): (Vec<Object>, Vec<u64>) = counters.into_iter().unzip();
    let addresses: Vec<SocketAddr> = live.gateways.iter().map(|one| one.public).collect();
    let start = Instant::now();
    let mut clients = Clients::new(objects.clone(), addresses.clone(), live.owner_url(), start);
    if arguments.sabotage == Some(Sabotage::BareTokens) {
        clients = clients.with_past_tokens();
    }
    let (seen, faults) = run(&arguments, &mut live, &clients, start)?;
    let mut text = counts(&seen, &faults);
    let history = seen.history(bases, arguments.gateways);
    text += &fates(&history);
    let judgement = check(&history, arguments.promises());
    text += &ages(&judgement);
    println!("{text}");
    let mut verdicts = Verdicts::default();
    let mut stories = String::new();
    for violation in judgement.violations.iter().take(TOLD_MAX) {
        stories += &tell(&history, &faults, violation);
        stories.push('\n');
    }
    match arguments.sabotage {
        None => {
            print!("{stories}");
            judge(&arguments, &history, &judgement, &mut verdicts);
            judge_truth(&live, &objects, &history, &mut verdicts)?;
            judge_end(&live, &objects, &addresses, &mut verdicts)?;
        }
        Some(sabotage) => verdicts.check(
            format_args!("{sabotage:?}: found"),
            !judgement.violations.is_empty(),
            by_rule(&judgement),
        ),
    }
    if let Some(dir) = &arguments.keep {
        let summary = text + "\n" + &verdicts.text();
        let files = [
            ("summary.md", summary.as_str()),
            ("faults.csv", &fault_rows(&faults)),
            ("violations.txt", &stories),
        ];
        let files: Vec<_> = files
            .into_iter()
            .filter(|(_, text)| !text.is_empty())
            .collect();
        println!("kept in {}", keep(dir, &files)?.display());
    }
    Ok(verdicts.exit_code())
}

/// Clients work while things break, until the time is over and everything is whole.
fn run(
    arguments: &Arguments,
    live: &mut Live,
    clients: &Clients,
    start: Instant,
) -> Result<(Seen, Vec<Fault>)> {
    let until = start + Duration::from_secs(arguments.seconds);
    let seed = arguments.seed * 1_000;
    thread::scope(|scope| {
        let mut running = Vec::new();
        for number in 0..arguments.writers {
            running.push(scope.spawn(move || clients.write(seed + 100 + number)));
        }
        for number in 0..arguments.readers {
            running.push(scope.spawn(move || clients.read(seed + 200 + number)));
        }
        let faults = match arguments.sabotage {
            None => break_things(live, arguments, start, until),
            Some(sabotage) => sabotage_it(live, sabotage, until).map(|()| Vec::new()),
        };
        sleep_until(until);
        clients.stop();
        let mut seen = Seen::default();
        for client in running {
            seen.merge(client.join().map_err(|_| anyhow!("a client panicked"))??);
        }
        Ok((seen, faults?))
    })
}

fn break_things(
    live: &mut Live,
    arguments: &Arguments,
    start: Instant,
    until: Instant,
) -> Result<Vec<Fault>> {
    let seed = arguments.seed * 1_000;
    let (origins, gateways) = (&mut live.origins, &mut live.gateways);
    let (streams, database) = (
        &live.streams,
        Database {
            cluster: &live.cluster,
            replicas: &live.replicas,
        },
    );
    thread::scope(|scope| {
        let one = Hand::new(seed + 1, start, until);
        let other = Hand::new(seed + 2, start, until);
        let one = scope.spawn(move || one.work(|hand| strike_process(hand, origins, gateways)));
        let mut faults = other.work(|hand| strike_surroundings(hand, streams, &database))?;
        faults.extend(one.join().map_err(|_| anyhow!("a hand panicked"))??);
        faults.sort_by_key(|fault| fault.began);
        Ok(faults)
    })
}

fn sabotage_it(live: &Live, sabotage: Sabotage, until: Instant) -> Result<()> {
    match sabotage {
        Sabotage::DroppedEvents => {
            while Instant::now() < until {
                sleep_until(Instant::now() + LIE_EVERY);
                // Those of the one that is followed; the others are idle.
                live.streams[0].iter().for_each(Relay::lose_content);
            }
            Ok(())
        }
        Sabotage::BareTokens => {
            while Instant::now() < until {
                sleep_until(Instant::now() + CRASH_EVERY);
                crash_unheard(live)?;
                live.wait_for_leases()?;
            }
            Ok(())
        }
        Sabotage::SkippedRaceRule => Ok(()),
        Sabotage::LaggingReplica => {
            let replica = live.replicas.first().context("no replica to hold back")?;
            replica.pause()
        }
    }
}

fn judge(arguments: &Arguments, history: &History, judgement: &Judgement, verdicts: &mut Verdicts) {
    let count = |rule| {
        let of_rule = judgement.violations.iter().filter(|one| one.rule == rule);
        of_rule.count()
    };
    let reads = history.reads.len();
    let mut check = |aim: &str, rule: Rule| {
        let broken = count(rule);
        verdicts.check(aim, broken == 0, format_args!("{broken} of {reads} reads"));
    };
    check(
        "no read is older than a write acknowledged through its gateway before it began",
        Rule::OwnWrite,
    );
    check("no read is older than a presented token", Rule::Token);
    let excused = if arguments.mode == Mode::Strict {
        ""
    } else {
        " that is not marked"
    };
    check(
        &format!(
            "no read{excused} is older than a lease of {} ms",
            arguments.lease_ms
        ),
        Rule::Lease,
    );
    if arguments.mode == Mode::Strict {
        check(
            "no read is older than a write acknowledged through any gateway before it began",
            Rule::AnyWrite,
        );
    }
    check("no read shows what nobody wrote", Rule::Invented);
    let (presented, bounded) = (
        history
            .reads
            .iter()
            .filter(|read| read.after.is_some())
            .count(),
        judgement.bounded,
    );
    verdicts.check(
        "the run could have failed",
        bounded > 0 && presented > 0,
        format_args!("{bounded} reads followed an acknowledged write, {presented} of them and others presented a token"),
    );
}

/// What the database holds in the end is what was acknowledged, and some of what is unknown.
fn judge_truth(
    live: &Live,
    objects: &[Object],
    history: &History,
    verdicts: &mut Verdicts,
) -> Result<()> {
    let mut wrong = 0;
    for (place, object) in objects.iter().enumerate() {
        let truth: u64 = live.query(&object.truth())?[0][0].parse()?;
        let count = |fate| {
            let of_it = history
                .writes
                .iter()
                .filter(|write| write.object as usize == place && write.fate == fate);
            of_it.count() as u64
        };
        let least = history.bases[place] + count(Fate::Ok);
        wrong += usize::from(truth < least || truth > least + count(Fate::Unknown));
    }
    verdicts.check(
        "every acknowledged write is there, once",
        wrong == 0,
        format_args!("{wrong} of {} counters wrong", objects.len()),
    );
    Ok(())
}

/// Every page of every gateway comes to show the truth.
fn judge_end(
    live: &Live,
    objects: &[Object],
    addresses: &[SocketAddr],
    verdicts: &mut Verdicts,
) -> Result<()> {
    let ended = Instant::now();
    let mut wrong = Vec::new();
    for object in objects {
        let truth: u64 = live.query(&object.truth())?[0][0].parse()?;
        for (gateway, address) in addresses.iter().enumerate() {
            let mut client = Client::new(*address, ANSWER_LIMIT);
            for view in 0..object.views() {
                let request = object.read(view, None);
                let shows_truth = || {
                    let reply = client.exchange(&request);
                    reply.is_ok_and(|reply| reply.status == 200)
                        && object
                            .value(view, client.body())
                            .is_ok_and(|value| value == truth)
                };
                let left = (ended + SETTLED_WITHIN).saturating_duration_since(Instant::now());
                if !becomes_true(left, shows_truth) {
                    wrong.push(format!("{} at gateway {gateway}", object.target(view)));
                }
            }
        }
    }
    verdicts.check(
        format_args!(
            "every page shows the truth {} s after the end",
            SETTLED_WITHIN.as_secs()
        ),
        wrong.is_empty(),
        format_args!("{} do not, such as {:?}", wrong.len(), wrong.first()),
    );
    Ok(())
}

fn counts(seen: &Seen, faults: &[Fault]) -> String {
    let mut text = String::from("| | |\n|---|---:|\n");
    let _ = writeln!(text, "| reads from the cache | {} |", seen.hits);
    for (status, count) in &seen.failed {
        let status = match status {
            0 => "no answer".to_owned(),
            status => format!("status {status}"),
        };
        let _ = writeln!(text, "| reads without a page: {status} | {count} |");
    }
    let mut kinds: BTreeMap<&str, (usize, Duration)> = BTreeMap::new();
    for fault in faults {
        let (count, took) = kinds.entry(fault.kind).or_default();
        *count += 1;
        *took += fault.ended.since(fault.began);
    }
    for (kind, (count, took)) in kinds {
        let _ = writeln!(
            text,
            "| {kind}, {:.0} s in all | {count} |",
            took.as_secs_f64()
        );
    }
    text
}

fn fates(history: &History) -> String {
    let marked = history.reads.iter().filter(|read| read.is_marked).count();
    let presented = history
        .reads
        .iter()
        .filter(|read| read.after.is_some())
        .count();
    let mut text = format!(
        "| reads with a page | {} |\n| of them with a token | {presented} |\n| of them marked as of unknown age | {marked} |\n",
        history.reads.len()
    );
    for (way, is_sql) in [("API", false), ("SQL", true)] {
        for (fate, name) in [
            (Fate::Ok, "acknowledged"),
            (Fate::Fail, "refused"),
            (Fate::Unknown, "of unknown fate"),
        ] {
            let count = history
                .writes
                .iter()
                .filter(|write| write.fate == fate && write.gateway.is_none() == is_sql)
                .count();
            let _ = writeln!(text, "| {way} writes {name} | {count} |");
        }
    }
    text
}

/// How old what was read was, where it was old.
fn ages(judgement: &Judgement) -> String {
    let mut text = String::new();
    for (name, ages) in [
        ("", &judgement.stale),
        (" and marked", &judgement.stale_marked),
    ] {
        let ms: Vec<f64> = ages.iter().map(|age| age.as_secs_f64() * 1e3).collect();
        let at = |part: f64| or_dash(quantile(&ms, part).map(|ms| format!("{ms:.0}")));
        let _ = writeln!(
            text,
            "| reads out of date when they began{name}: median {} ms, p99 {} ms, most {} ms | {} |",
            at(0.5),
            at(0.99),
            at(1.0),
            ms.len()
        );
    }
    text
}

fn by_rule(judgement: &Judgement) -> String {
    let mut rules: BTreeMap<Rule, usize> = BTreeMap::new();
    for violation in &judgement.violations {
        *rules.entry(violation.rule).or_default() += 1;
    }
    format!("violations {rules:?}")
}

fn fault_rows(faults: &[Fault]) -> String {
    let mut rows = String::from("kind,target,began_s,ended_s\n");
    for fault in faults {
        let (began, ended) = (fault.began.as_secs_f64(), fault.ended.as_secs_f64());
        let _ = writeln!(
            rows,
            "{},{},{began:.3},{ended:.3}",
            fault.kind, fault.target
        );
    }
    rows
}
