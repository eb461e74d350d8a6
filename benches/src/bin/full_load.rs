//! The whole way of a data set, generate, load, verify, on a database machine of 1 GiB: rates, phases, memory, faults found.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::{self, Write as _};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context, Result, ensure};
use benches::loading::{Database, Ran, Workplace};
use benches::memory_limit::MemoryLimit;
use benches::report::keep;
use benches::verdict::Verdicts;
use clap::Parser;
use etl::report::{FileCounts, LoadReport, Planted};
use stack::Settings;

const MIB: f64 = 1024.0 * 1024.0;
/// What the loader may hold of memory, whatever the size of its files.
const PEAK_MIB_MAX: f64 = 96.0;
/// The memory of the database's machine.
const MACHINE_BYTES: u64 = 1 << 30;
/// What the generator must write, so that it is never what one waits for.
const GENERATED_MB_PER_S_MIN: f64 = 150.0;
/// The files of reviews, from the start to indexed and analysed, at the full size.
const REVIEWS_S_MAX: f64 = 45.0;
const REVIEW_FILES: [&str; 4] = [
    "reviews.csv",
    "reviews_photos.csv",
    "characteristics.csv",
    "characteristic_reviews.csv",
];
/// Products of the full-size release.
const FULL: u64 = 1_000_011;

#[derive(Parser)]
struct Arguments {
    /// Products to generate; about 70 records come with each.
    #[arg(long, default_value_t = FULL)]
    products: u64,
    /// Products of a smaller set that is loaded first, for its memory.
    #[arg(long, default_value_t = 14_300)]
    small: u64,
    /// Leaves out the loads of the files of reviews alone.
    #[arg(long)]
    no_reviews: bool,
    /// Where the files and the databases are kept meanwhile: 30 GB at the full size.
    #[arg(long, default_value = "/var/tmp")]
    work: PathBuf,
    /// Keep the run in this folder.
    #[arg(long)]
    keep: Option<PathBuf>,
}

/// A load, with what it says and what was seen of it.
struct Loaded {
    ran: Ran,
    report: LoadReport,
}

fn main() -> Result<ExitCode> {
    let arguments = Arguments::parse();
    let place = Workplace::below(&arguments.work)?;
    let mut verdicts = Verdicts::default();
    let mut summary = String::new();

    let (csv, generated) = place.generate("csv", arguments.products, 1)?;
    let (small_csv, _) = place.generate("small", arguments.small, 1)?;
    let bytes = bytes_in(&csv)?;
    let rate = bytes as f64 / 1e6 / generated.seconds;
    verdicts.check(
        format_args!("generated at no less than {GENERATED_MB_PER_S_MIN} MB/s"),
        rate >= GENERATED_MB_PER_S_MIN,
        format_args!(
            "{rate:.0} MB/s, {bytes} bytes in {:.1} s",
            generated.seconds
        ),
    );

    let (full, faults) = small_machine(&place, [&small_csv, &csv], &mut summary, &mut verdicts)?;
    if !arguments.no_reviews {
        reviews(&place, &csv, arguments.products, &mut verdicts)?;
    }
    summary += &verdicts.text();
    if let Some(dir) = &arguments.keep {
        let report = format!("{:#}\n", full.report.to_json());
        let faults = Fault::table(&faults);
        let files = [
            ("summary.md", summary.as_str()),
            ("report.json", &report),
            ("faults.csv", &faults),
        ];
        let dir = keep(dir, &files)?;
        println!("kept in {}", dir.display());
    }
    Ok(verdicts.exit_code())
}

/// Loads both sets into one database on a machine of 1 GiB, and verifies the larger, whose load it gives with the faults
/// of its files.
fn small_machine(
    place: &Workplace,
    [small_csv, csv]: [&Path; 2],
    summary: &mut String,
    verdicts: &mut Verdicts,
) -> Result<(Loaded, Vec<Fault>)> {
    let database = place.database("data", Settings::durable())?;
    let limit = limited(&database);
    writeln!(summary, "{}\n", told(&limit))?;
    let small = load(place, &database, small_csv)?;
    judge_load("small", &small, small_csv, verdicts)?;
    let full = load(place, &database, csv)?;
    let faults = judge_load("large", &full, csv, verdicts)?;
    let size = "select pg_size_pretty(pg_database_size(current_database()))";
    let size = database.psql(size)?;
    let verified = database.etl("verify").arg("--csv", csv).run()?;
    let last = verified.output.lines().last().unwrap_or_default();
    verdicts.check(
        "what is live is what the files hold",
        verified.code == Some(0),
        format_args!("{last}"),
    );
    if let Ok(limit) = &limit {
        verdicts.check(
            "Postgres lives within 1 GiB",
            limit.killed() == 0,
            format_args!(
                "{} processes killed; {:.0} MiB at most, cached files included",
                limit.killed(),
                limit.most_bytes().unwrap_or_default() as f64 / MIB
            ),
        );
    }
    write!(
        summary,
        "load {:.1} s, verify {:.1} s; the database holds {size}.\n\n```text\n{}```\n\n```text\n{}```\n\n",
        full.ran.seconds, verified.seconds, full.ran.output, verified.output
    )?;
    drop(database);
    fs::remove_dir_all(place.path("data"))?;
    Ok((full, faults))
}

fn bytes_in(dir: &Path) -> Result<u64> {
    let lengths = fs::read_dir(dir)?.map(|entry| Ok(entry?.metadata()?.len()));
    lengths.sum()
}

/// Gives the server's processes the memory of a small machine, if that is permitted.
fn limited(database: &Database) -> Result<MemoryLimit> {
    let limit = MemoryLimit::of(MACHINE_BYTES)?;
    let server = database.cluster.server_id()?;
    limit.add(server)?;
    for process in stack::process::children(server)? {
        limit.add(process)?;
    }
    Ok(limit)
}

fn told(limit: &Result<MemoryLimit>) -> String {
    let text = match limit {
        Ok(_) => "Postgres has the settings of a machine of 1 GiB, and a control group that gives it no more than that."
            .to_owned(),
        Err(error) => format!("Postgres has the settings of a machine of 1 GiB, and no limit: {error:#}."),
    };
    println!("{text}");
    text
}

fn load(place: &Workplace, database: &Database, csv: &Path) -> Result<Loaded> {
    let report = place.path("report.json");
    let ran = database
        .etl("load")
        .arg("--csv", csv)
        .arg("--rejects", place.path("rejects.csv"))
        .arg("--report", &report)
        .run()?
        .succeeded()?;
    println!("{}", ran.output);
    let report = serde_json::from_slice(&fs::read(report)?)?;
    Ok(Loaded { ran, report })
}

/// Memory, and faults planted against faults reported.
fn judge_load(
    name: &str,
    loaded: &Loaded,
    csv: &Path,
    verdicts: &mut Verdicts,
) -> Result<Vec<Fault>> {
    let Loaded { ran, report } = loaded;
    let peak = ran.peak_bytes as f64 / MIB;
    verdicts.check(
        format_args!("{name}: the loader holds at most {PEAK_MIB_MAX} MiB"),
        peak <= PEAK_MIB_MAX,
        format_args!("{peak:.1} MiB for {} records", report.rows),
    );
    let planted = fs::read(csv.join("planted.json")).context("what was planted")?;
    let planted: Planted = serde_json::from_slice(&planted)?;
    let faults = Fault::all(&planted, report);
    let different: Vec<String> = faults
        .iter()
        .filter(|fault| fault.planted != fault.reported)
        .map(ToString::to_string)
        .collect();
    verdicts.check(
        format_args!("{name}: what was planted is what is reported, by file and code"),
        different.is_empty(),
        format_args!(
            "{} numbers of {} files; {} rows refused; different: {}",
            faults.len(),
            planted.files.len(),
            report.rejected,
            if different.is_empty() {
                "none".to_owned()
            } else {
                different.join("; ")
            }
        ),
    );
    Ok(faults)
}

/// Rows of a file that were planted and reported under a code, of repairs or refusals; or all its rows, or
/// those that are loaded.
struct Fault {
    file: String,
    code: String,
    planted: u64,
    reported: u64,
}

impl Fault {
    /// Every number of every file and code that is planted or reported.
    fn all(planted: &Planted, report: &LoadReport) -> Vec<Self> {
        let files: BTreeSet<&String> = planted.files.keys().chain(report.files.keys()).collect();
        let mut faults = Vec::new();
        for file in files {
            let planted = planted.files.get(file).map(numbers).unwrap_or_default();
            let reported = report.files.get(file).map(|file| numbers(&file.counts));
            let reported = reported.unwrap_or_default();
            let codes: BTreeSet<&String> = planted.keys().chain(reported.keys()).collect();
            faults.extend(codes.into_iter().map(|code| Self {
                file: file.clone(),
                code: code.clone(),
                planted: planted.get(code).copied().unwrap_or_default(),
                reported: reported.get(code).copied().unwrap_or_default(),
            }));
        }
        faults
    }

    /// A line each.
    fn table(faults: &[Self]) -> String {
        let mut table = String::from("file,code,planted,reported,verdict\n");
        for fault in faults {
            let Self {
                file,
                code,
                planted,
                reported,
            } = fault;
            let verdict = if planted == reported { "PASS" } else { "FAIL" };
            table.push_str(&format!("{file},{code},{planted},{reported},{verdict}\n"));
        }
        table
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            file,
            code,
            planted,
            reported,
        } = self;
        write!(f, "{file} {code}: {planted} planted, {reported} reported")
    }
}

fn numbers(counts: &FileCounts) -> BTreeMap<String, u64> {
    let all = [("rows", counts.rows), ("loaded", counts.loaded)];
    let mut numbers: BTreeMap<String, u64> = all.map(|(code, rows)| (code.to_owned(), rows)).into();
    // A code is one of a repair or of a refusal, never both.
    numbers.extend(counts.repaired.clone());
    numbers.extend(counts.rejected.clone());
    numbers
}

/// The files of reviews alone, with all memory of this machine.
fn reviews(place: &Workplace, csv: &Path, products: u64, verdicts: &mut Verdicts) -> Result<()> {
    let dir = place.path("reviews");
    fs::create_dir(&dir)?;
    for name in REVIEW_FILES {
        std::os::unix::fs::symlink(csv.join(name), dir.join(name))?;
    }
    for (wal, more) in [
        ("replica", &["wal_level=replica"][..]),
        ("minimal", &["wal_level=minimal", "max_wal_senders=0"]),
    ] {
        let settings = Settings {
            shared_buffers_mib: 1024,
            effective_cache_mib: 4096,
            wal_mib_max: 8192,
            more: more.iter().map(|setting| (*setting).to_owned()).collect(),
            ..Settings::durable()
        };
        let name = format!("data-{wal}");
        let database = place.database(&name, settings)?;
        let loaded = load(place, &database, &dir)?;
        let told = loaded.ran.told_at("statistics");
        let seconds = told.context("no statistics were taken")?.as_secs_f64();
        let checked = loaded.ran.told_at("references");
        let checked = checked.context("no references")?.as_secs_f64();
        let phases: Vec<String> = loaded
            .report
            .phases
            .iter()
            .map(|phase| format!("{} {:.1} s", phase.name, phase.seconds))
            .collect();
        ensure!(loaded.report.rows > 0, "no reviews");
        verdicts.check(
            format_args!("{wal}: files of reviews to indexed and analysed in {REVIEWS_S_MAX} s"),
            // At other sizes it is no aim.
            products != FULL || seconds <= REVIEWS_S_MAX,
            format_args!(
                "{seconds:.1} s for {} records, {checked:.1} s with references checked and triggers in place: {}",
                loaded.report.rows,
                phases.join(", ")
            ),
        );
        drop(database);
        fs::remove_dir_all(place.path(&name))?;
    }
    Ok(())
}
