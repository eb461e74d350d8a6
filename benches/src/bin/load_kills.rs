//! SIGKILL at random moments of a load, to the loader and to Postgres: what is live stays, and a rerun ends as if nothing had been.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use benches::dice::Dice;
use benches::loading::{Database, Workplace};
use benches::paced::sleep_until;
use benches::report::keep;
use benches::shop::kill_server;
use benches::verdict::Verdicts;
use clap::Parser;
use stack::Settings;

#[derive(Parser)]
struct Arguments {
    /// Products of each of the two data sets that replace each other.
    #[arg(long, default_value_t = 20_000)]
    products: u64,
    /// How often the loader is killed.
    #[arg(long, default_value_t = 20)]
    kills: u32,
    /// How often Postgres is, sessions and server.
    #[arg(long, default_value_t = 5)]
    postgres_kills: u32,
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

/// What was live after a kill, and after the rerun.
struct Outcome {
    was_running: bool,
    is_whole: bool,
    is_old: bool,
    reran: bool,
}

fn main() -> Result<ExitCode> {
    let arguments = Arguments::parse();
    let place = Workplace::below(&arguments.work)?;
    let database = place.database("data", Settings::durable())?;
    let (sets, seconds) = undisturbed(&place, &database, arguments.products)?;
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
        let mut outcomes = Vec::new();
        for _ in 0..kills {
            let after = Duration::from_millis(dice.between(0, (seconds * 1e3) as u32).into());
            let (old, new) = (&sets[1 - next], &sets[next]);
            let outcome = kill(&database, victim, after, old, new)
                .with_context(|| format!("{victim:?} killed after {after:?}"))?;
            let live = if outcome.is_old { "old" } else { "new" };
            let (was_running, reran) = (outcome.was_running, outcome.reran);
            let after_ms = after.as_millis();
            let line = format!("{victim:?},{after_ms},{was_running},{live},{reran}");
            println!("{line}");
            writeln!(raw, "{line}")?;
            outcomes.push(outcome);
            next = 1 - next;
        }
        judge(victim, &outcomes, &mut verdicts);
    }
    if let Some(dir) = &arguments.keep {
        let summary = format!(
            "An undisturbed load takes {seconds:.2} s.\n\n{}\nThe checksums of the two sets:\n\n{}\n\n{}\n",
            verdicts.text(),
            sets[0].checksums,
            sets[1].checksums
        );
        let dir = keep(dir, &[("raw.csv", &raw), ("summary.md", &summary)])?;
        println!("kept in {}", dir.display());
    }
    Ok(verdicts.exit_code())
}

/// The two data sets, loaded one after the other, and how long the slower load took.
fn undisturbed(
    place: &Workplace,
    database: &Database,
    products: u64,
) -> Result<([DataSet; 2], f64)> {
    let load = |seed: u64| {
        let (csv, _) = place.generate(&format!("csv-{seed}"), products, seed)?;
        let ran = database.etl("load").arg("--csv", &csv).run()?.succeeded()?;
        let checksums = database.verified(&csv)?;
        anyhow::Ok((DataSet { csv, checksums }, ran.seconds))
    };
    let ((first, one), (second, two)) = (load(1)?, load(2)?);
    ensure!(
        first.checksums != second.checksums,
        "the two data sets are the same"
    );
    let seconds = one.max(two);
    println!("an undisturbed load takes {seconds:.2} s");
    Ok(([first, second], seconds))
}

fn judge(victim: Victim, outcomes: &[Outcome], verdicts: &mut Verdicts) {
    let count = |is: fn(&Outcome) -> bool| outcomes.iter().filter(|outcome| is(outcome)).count();
    let kills = outcomes.len();
    let (whole, reran) = (count(|it| it.is_whole), count(|it| it.reran));
    let reached = count(|it| it.was_running);
    verdicts.check(
        format_args!("{victim:?} killed: what is live is one of the two sets, whole"),
        whole == kills && (reached > 0 || kills == 0),
        format_args!("{whole} of {kills}; {reached} during the load"),
    );
    verdicts.check(
        format_args!("{victim:?} killed: a rerun has the checksums of an undisturbed load"),
        reran == kills,
        format_args!("{reran} of {kills}"),
    );
}

/// Replaces `old` by `new`, kills the victim on the way, and runs the load again.
fn kill(
    database: &Database,
    victim: Victim,
    after: Duration,
    old: &DataSet,
    new: &DataSet,
) -> Result<Outcome> {
    let load = || database.etl("load").arg("--csv", &new.csv);
    let mut running = load().start()?;
    let was_running = match victim {
        Victim::Loader => running.kill_after(after)?,
        Victim::Postgres => {
            sleep_until(Instant::now() + after);
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
    database.end_sessions()?;
    let is = |set: &DataSet| is_live(database, &set.csv, &set.checksums);
    let is_old = is(old);
    let is_whole = is_old || is(new);
    load().run()?.succeeded()?;
    Ok(Outcome {
        was_running,
        is_whole,
        is_old,
        reran: is(new),
    })
}

fn is_live(database: &Database, csv: &Path, checksums: &str) -> bool {
    database.verified(csv).is_ok_and(|live| live == checksums)
}
