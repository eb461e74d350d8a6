//! SIGKILL at random moments of a load, to the loader and to Postgres: what is live stays, and a rerun ends as if nothing had been.

use std::ffi::OsStr;
use std::fmt::Write as _;
use std::fs::{self, File};
use std::io::{BufRead as _, BufReader};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use benches::dice::Dice;
use benches::loading::{Database, Etl, Workplace};
use benches::paced::sleep_until;
use benches::report::keep;
use benches::shop::kill_server;
use benches::verdict::Verdicts;
use clap::{Parser, ValueEnum};
use stack::Settings;

#[derive(Parser)]
struct Arguments {
    /// What the loads that are killed do.
    #[arg(long, value_enum, default_value_t = Mode::Replace)]
    mode: Mode,
    /// Products of each data set.
    #[arg(long, default_value_t = 20_000)]
    products: u64,
    /// How often the loader is killed.
    #[arg(long, default_value_t = 20)]
    kills: usize,
    /// How often Postgres is, sessions and server.
    #[arg(long, default_value_t = 5)]
    postgres_kills: usize,
    /// Which moments.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Where the files and the database are kept meanwhile.
    #[arg(long, default_value = "/var/tmp")]
    work: PathBuf,
    /// Keep the run in this folder.
    #[arg(long)]
    keep: Option<PathBuf>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Mode {
    /// Two data sets replace each other.
    Replace,
    /// One is added to an empty shop, again and again.
    Merge,
}

impl Mode {
    /// As the loader's `--mode` has it.
    fn name(self) -> &'static str {
        match self {
            Self::Replace => "replace",
            Self::Merge => "merge",
        }
    }
}

/// Moments are drawn within the time of the slower load: some of the other one's come too late.
const TRIES_PER_KILL_MAX: usize = 3;

#[derive(Clone, Copy, Debug)]
enum Victim {
    Loader,
    Postgres,
}

/// A data set, and what an undisturbed load makes of it.
struct DataSet {
    csv: PathBuf,
    checksums: String,
}

/// A kill to come.
#[derive(Clone, Copy, Debug)]
struct Plan {
    mode: Mode,
    victim: Victim,
    after: Duration,
    /// Whether to look at what is live before the rerun, which begins at once otherwise.
    looks: bool,
}

/// What was live after a kill.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Live {
    Old,
    New,
    Neither,
    Unseen,
}

/// What was live after a kill, and after the rerun.
struct Outcome {
    was_running: bool,
    live: Live,
    reran: bool,
}

fn main() -> Result<ExitCode> {
    let arguments = Arguments::parse();
    let place = Workplace::below(&arguments.work)?;
    let database = place.database("data", Settings::durable())?;
    let (sets, seconds) = undisturbed(&place, &database, &arguments)?;
    let mut dice = Dice::new(arguments.seed);
    let mut raw = String::from("victim,after_ms,was_running,live,rerun\n");
    let mut verdicts = Verdicts::default();
    let victims = [
        (Victim::Loader, arguments.kills),
        (Victim::Postgres, arguments.postgres_kills),
    ];
    // The second set is live.
    let mut next = 0;
    for (victim, kills) in victims {
        let mut outcomes: Vec<Outcome> = Vec::new();
        // A kill that came too late is one more.
        let reached = |outcomes: &[Outcome]| outcomes.iter().filter(|it| it.was_running).count();
        while reached(&outcomes) < kills && outcomes.len() < kills * TRIES_PER_KILL_MAX {
            let number = outcomes.len();
            let after = Duration::from_millis(dice.between(0, (seconds * 1e3) as u32).into());
            let (old, new) = (&sets[1 - next], &sets[next]);
            let plan = Plan {
                mode: arguments.mode,
                victim,
                after,
                looks: number.is_multiple_of(2),
            };
            let outcome = kill(&database, plan, old, new).with_context(|| format!("{plan:?}"))?;
            let Outcome {
                was_running,
                live,
                reran,
            } = outcome;
            let after_ms = after.as_millis();
            let line = format!("{victim:?},{after_ms},{was_running},{live:?},{reran}");
            println!("{line}");
            writeln!(raw, "{line}")?;
            outcomes.push(outcome);
            match arguments.mode {
                Mode::Replace => next = 1 - next,
                Mode::Merge => {
                    load(&database, &old.csv, Mode::Replace)
                        .run()?
                        .succeeded()?;
                }
            }
        }
        judge(victim, kills, &outcomes, &mut verdicts);
    }
    if let Some(dir) = &arguments.keep {
        let summary = format!(
            "Mode: {}. An undisturbed load takes {seconds:.2} s.\n\n{}\nThe checksums of the two sets:\n\n{}\n\n{}\n",
            arguments.mode.name(),
            verdicts.text(),
            sets[0].checksums,
            sets[1].checksums
        );
        let dir = keep(dir, &[("raw.csv", &raw), ("summary.md", &summary)])?;
        println!("kept in {}", dir.display());
    }
    Ok(verdicts.exit_code())
}

/// The two data sets, the one that is live last, loaded one after the other, and how long the slower load took.
fn undisturbed(
    place: &Workplace,
    database: &Database,
    arguments: &Arguments,
) -> Result<([DataSet; 2], f64)> {
    let (csv, _) = place.generate("csv-1", arguments.products, 1)?;
    let (other, mode) = match arguments.mode {
        Mode::Replace => (
            place.generate("csv-2", arguments.products, 2)?.0,
            Mode::Replace,
        ),
        Mode::Merge => (place.path("csv-empty"), Mode::Merge),
    };
    if mode == Mode::Merge {
        keep_headers(&csv, &other)?;
    }
    let undisturbed = |csv: PathBuf, mode: Mode| {
        let ran = load(database, &csv, mode).run()?.succeeded()?;
        let checksums = database.verified(&csv)?;
        anyhow::Ok((DataSet { csv, checksums }, ran.seconds))
    };
    // A merge begins with an empty shop, which is what the next round needs too.
    let ((first, one), (second, two)) =
        (undisturbed(csv, mode)?, undisturbed(other, Mode::Replace)?);
    ensure!(
        first.checksums != second.checksums,
        "the two data sets are the same"
    );
    let seconds = one.max(two);
    println!("an undisturbed load takes {seconds:.2} s");
    Ok(([first, second], seconds))
}

/// Files as those of a data set, without rows.
fn keep_headers(csv: &Path, to: &Path) -> Result<()> {
    fs::create_dir_all(to)?;
    for entry in fs::read_dir(csv)? {
        let path = entry?.path();
        let (Some(name), Some("csv")) =
            (path.file_name(), path.extension().and_then(OsStr::to_str))
        else {
            continue;
        };
        let mut header = Vec::new();
        BufReader::new(File::open(&path)?).read_until(b'\n', &mut header)?;
        fs::write(to.join(name), header)?;
    }
    Ok(())
}

fn load(database: &Database, csv: &Path, mode: Mode) -> Etl {
    database
        .etl("load")
        .arg("--mode", mode.name())
        .arg("--csv", csv)
}

fn judge(victim: Victim, kills: usize, outcomes: &[Outcome], verdicts: &mut Verdicts) {
    let count = |is: fn(&Outcome) -> bool| outcomes.iter().filter(|outcome| is(outcome)).count();
    let (looked, reran) = (count(|it| it.live != Live::Unseen), count(|it| it.reran));
    let torn = count(|it| it.live == Live::Neither);
    let reached = count(|it| it.was_running);
    verdicts.check(
        format_args!("{victim:?} killed: what is live is one of the two sets, whole"),
        torn == 0 && reached == kills,
        format_args!(
            "{} of {looked} looked at; {reached} during the load, {} after it",
            looked - torn,
            outcomes.len() - reached
        ),
    );
    verdicts.check(
        format_args!("{victim:?} killed: a rerun has the checksums of an undisturbed load"),
        reran == outcomes.len(),
        format_args!("{reran} of {}", outcomes.len()),
    );
}

/// Loads `new` where `old` is live, kills the victim on the way, and runs the load again.
fn kill(database: &Database, plan: Plan, old: &DataSet, new: &DataSet) -> Result<Outcome> {
    let mut running = load(database, &new.csv, plan.mode).start()?;
    let was_running = match plan.victim {
        Victim::Loader => running.kill_after(plan.after)?,
        Victim::Postgres => {
            sleep_until(Instant::now() + plan.after);
            let was_running = running.is_running()?;
            kill_server(&database.cluster)?;
            let ran = running.wait()?;
            ensure!(
                !was_running || matches!(ran.code, Some(0 | 1)),
                "the loader ended with {:?}",
                ran.code
            );
            database.cluster.start()?;
            was_running
        }
    };
    let is = |set: &DataSet| is_live(database, &set.csv, &set.checksums);
    let live = match plan.looks {
        false => Live::Unseen,
        true if is(old) => Live::Old,
        true if is(new) => Live::New,
        true => Live::Neither,
    };
    // As an operator would: what the loader left on the server is for the next run to wait for.
    load(database, &new.csv, plan.mode).run()?.succeeded()?;
    Ok(Outcome {
        was_running,
        live,
        reran: is(new),
    })
}

fn is_live(database: &Database, csv: &Path, checksums: &str) -> bool {
    database.verified(csv).is_ok_and(|live| live == checksums)
}
