//! `etl load` of dirty files, to the end of COPY, beside `psql \copy` of clean ones and beside rows that are encoded already.
//!
//! Rows go over one connection each. The loader's second one, for what reviews and votes add up to, is in its time; indexes,
//! which it would build meanwhile over a third, are not: `--jobs 1`.

use std::fmt::Write as _;
use std::fs::{self, File};
use std::io::Read as _;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Instant;

use anyhow::{Context, Result, ensure};
use benches::loading::{Database, Workplace};
use benches::report::{keep, quantile};
use benches::verdict::Verdicts;
use clap::{Parser, ValueEnum};
use etl::tables::TABLES;
use sqlx::{Connection as _, PgConnection};
use stack::Settings;

/// What the loader may take of the time of CSV through psql, at most.
const CSV_TIME_MAX: f64 = 0.9;
/// What it must reach of the rate of rows that are encoded already, at least.
const BINARY_RATE_MIN: f64 = 0.85;
/// What is sent at once of those.
const BLOCK_BYTES: usize = 512 << 10;

#[derive(Parser)]
struct Arguments {
    /// Products to generate; about 70 records come with each.
    #[arg(long, default_value_t = 150_000)]
    products: u64,
    /// Times that each contender runs.
    #[arg(long, default_value_t = 3)]
    rounds: usize,
    /// Settings of the write-ahead log; the aims count at replica.
    #[arg(long, value_enum, value_delimiter = ',', default_values_t = [Wal::Replica, Wal::Minimal])]
    wal: Vec<Wal>,
    /// Where the files and the databases are kept meanwhile.
    #[arg(long, default_value = "/var/tmp")]
    work: PathBuf,
    /// Keep the run in this folder.
    #[arg(long)]
    keep: Option<PathBuf>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Wal {
    Replica,
    Minimal,
}

/// All over one connection, each table emptied and filled in one transaction, rows frozen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Contender {
    /// `etl load` of the dirty files: repairs, refusals, checks of parents, and binary COPY.
    Loader,
    /// `psql \copy` of CSV that Postgres wrote itself, from the same tables.
    Csv,
    /// The same in the text format.
    Text,
    /// Rows that Postgres encoded itself for binary COPY, sent in large blocks.
    Binary,
}

const CONTENDERS: [Contender; 4] = [
    Contender::Loader,
    Contender::Csv,
    Contender::Text,
    Contender::Binary,
];

#[derive(Clone, Copy)]
struct Round {
    wal: Wal,
    contender: Contender,
    seconds: f64,
}

fn main() -> Result<ExitCode> {
    let arguments = Arguments::parse();
    let place = Workplace::below(&arguments.work)?;
    let (dirty, _) = place.generate("dirty", arguments.products, 1)?;
    let rows = export(&place, &dirty)?;
    println!("{rows} rows in all tables");
    let mut rounds = Vec::new();
    for wal in &arguments.wal {
        let name = format!("{wal:?}");
        let database = place.database(&name, settings(*wal))?;
        // Makes the tables, and the system's cache warm for whoever comes first.
        copy_by_loader(&database, &dirty)?;
        for number in 0..arguments.rounds {
            for turn in 0..CONTENDERS.len() {
                let contender = CONTENDERS[(number + turn) % CONTENDERS.len()];
                let seconds = run(&place, &database, contender, &dirty, rows)?;
                println!("{wal:?} {contender:?} {seconds:.2} s");
                rounds.push(Round {
                    wal: *wal,
                    contender,
                    seconds,
                });
            }
        }
        drop(database);
        fs::remove_dir_all(place.path(&name))?;
    }
    let verdicts = judge(&rounds);
    if let Some(dir) = &arguments.keep {
        let mut raw = String::from("wal_level,contender,seconds,rows\n");
        for Round {
            wal,
            contender,
            seconds,
        } in &rounds
        {
            writeln!(raw, "{wal:?},{contender:?},{seconds:.3},{rows}")?;
        }
        let summary = format!("{}\n{}", table(&rounds, rows), verdicts.text());
        let dir = keep(dir, &[("raw.csv", &raw), ("summary.md", &summary)])?;
        println!("kept in {}", dir.display());
    }
    Ok(verdicts.exit_code())
}

fn settings(wal: Wal) -> Settings {
    let more = match wal {
        Wal::Replica => &["wal_level=replica"][..],
        Wal::Minimal => &["wal_level=minimal", "max_wal_senders=0"],
    };
    Settings {
        more: more.iter().map(|setting| (*setting).to_owned()).collect(),
        ..Settings::durable()
    }
}

/// Loads the files once, and writes each table as CSV, as text and in the binary format, and a file of
/// commands for psql; gives the number of rows.
fn export(place: &Workplace, dirty: &Path) -> Result<u64> {
    let database = place.database("export", settings(Wal::Minimal))?;
    database
        .etl("load")
        .arg("--csv", dirty)
        .run()?
        .succeeded()?;
    let mut write = String::new();
    let [mut csv, mut text] = [const { String::new() }; 2];
    for table in &TABLES {
        let (name, columns) = (table.name, table.columns);
        let path = |format: &str| place.path(&format!("{name}.{format}"));
        for (format, read) in [
            ("csv", Some(&mut csv)),
            ("text", Some(&mut text)),
            ("binary", None),
        ] {
            let file = path(format);
            let file = file.display();
            writeln!(
                write,
                "\\copy shop.{name} ({columns}) to '{file}' with (format {format})"
            )?;
            if let Some(read) = read {
                writeln!(
                    read,
                    "begin;\ntruncate shop_next.{name};\n\
                     \\copy shop_next.{name} ({columns}) from '{file}' with (format {format}, freeze)\n\
                     commit;"
                )?;
            }
        }
    }
    for (name, commands) in [("write", &write), ("csv", &csv), ("text", &text)] {
        fs::write(place.path(&format!("{name}.psql")), commands)?;
    }
    database.psql_file(&place.path("write.psql"))?;
    let rows = stored(&database, "shop")?;
    drop(database);
    fs::remove_dir_all(place.path("export"))?;
    Ok(rows)
}

fn stored(database: &Database, schema: &str) -> Result<u64> {
    let counts: Vec<String> = TABLES
        .iter()
        .map(|table| format!("(select count(*) from {schema}.{})", table.name))
        .collect();
    let sum = database.psql(&format!("select {}", counts.join(" + ")))?;
    sum.parse().context("a number of rows")
}

/// Runs one contender on empty tables, with nothing left to write of what was before.
fn run(
    place: &Workplace,
    database: &Database,
    contender: Contender,
    dirty: &Path,
    rows: u64,
) -> Result<f64> {
    let tables: Vec<String> = TABLES
        .iter()
        .map(|table| format!("shop_next.{}", table.name))
        .collect();
    database.psql(&format!("truncate {}", tables.join(", ")))?;
    database.psql("checkpoint")?;
    let clock = Instant::now();
    let seconds = match contender {
        Contender::Loader => copy_by_loader(database, dirty)?,
        Contender::Csv | Contender::Text => {
            let format = if contender == Contender::Csv {
                "csv"
            } else {
                "text"
            };
            database.psql_file(&place.path(&format!("{format}.psql")))?;
            clock.elapsed().as_secs_f64()
        }
        Contender::Binary => {
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build()?;
            runtime.block_on(copy_binary(place, &database.url()))?;
            clock.elapsed().as_secs_f64()
        }
    };
    let found = stored(database, "shop_next")?;
    ensure!(found == rows, "{contender:?}: {found} rows, not {rows}");
    Ok(seconds)
}

/// From the start of the program until the last table is committed; what follows is cut off.
fn copy_by_loader(database: &Database, dirty: &Path) -> Result<f64> {
    let last = TABLES.last().context("no tables")?.files[0];
    let load = database.etl("load").arg("--csv", dirty).arg("--jobs", "1");
    let running = load.start()?;
    let seconds = running.kill_when_told(last)?;
    database.end_sessions()?;
    Ok(seconds)
}

/// Sends the encoded rows as the loader does: one connection, large blocks.
async fn copy_binary(place: &Workplace, url: &str) -> Result<()> {
    let mut conn = PgConnection::connect(url).await?;
    let mut block = vec![0; BLOCK_BYTES];
    for table in &TABLES {
        let (name, columns) = (table.name, table.columns);
        let mut file = File::open(place.path(&format!("{name}.binary")))?;
        let mut tx = conn.begin().await?;
        let truncate = sqlx::AssertSqlSafe(format!("truncate shop_next.{name}"));
        sqlx::raw_sql(truncate).execute(&mut *tx).await?;
        let statement =
            format!("copy shop_next.{name} ({columns}) from stdin (format binary, freeze)");
        let mut copy = tx.copy_in_raw(&statement).await?;
        loop {
            let bytes = file.read(&mut block)?;
            if bytes == 0 {
                break;
            }
            copy.send(&block[..bytes]).await?;
        }
        copy.finish().await?;
        tx.commit().await?;
    }
    Ok(())
}

fn median(rounds: &[Round], wal: Wal, contender: Contender) -> Option<f64> {
    let of_one = rounds
        .iter()
        .filter(|round| round.wal == wal && round.contender == contender);
    let seconds: Vec<f64> = of_one.map(|round| round.seconds).collect();
    quantile(&seconds, 0.5)
}

fn judge(rounds: &[Round]) -> Verdicts {
    let mut verdicts = Verdicts::default();
    let ratio = |wal, peer| {
        let (ours, theirs) = (
            median(rounds, wal, Contender::Loader),
            median(rounds, wal, peer),
        );
        ours.zip(theirs)
    };
    for wal in [Wal::Replica, Wal::Minimal] {
        // Minimal is told, and no aim.
        let counts = wal == Wal::Replica;
        if let Some((ours, csv)) = ratio(wal, Contender::Csv) {
            verdicts.check(
                format_args!("{wal:?}: time of psql's CSV, at most {CSV_TIME_MAX} of it"),
                !counts || ours / csv <= CSV_TIME_MAX,
                format_args!("{ours:.2} s of {csv:.2} s, {:.3}", ours / csv),
            );
        }
        if let Some((ours, binary)) = ratio(wal, Contender::Binary) {
            verdicts.check(
                format_args!(
                    "{wal:?}: rate of rows already encoded, at least {BINARY_RATE_MIN} of it"
                ),
                !counts || binary / ours >= BINARY_RATE_MIN,
                format_args!("{ours:.2} s beside {binary:.2} s, {:.3}", binary / ours),
            );
        }
    }
    verdicts
}

fn table(rounds: &[Round], rows: u64) -> String {
    let mut table =
        String::from("| wal_level | contender | median s | rows/s |\n|---|---|---:|---:|\n");
    for wal in [Wal::Replica, Wal::Minimal] {
        for contender in CONTENDERS {
            if let Some(seconds) = median(rounds, wal, contender) {
                let rate = rows as f64 / seconds;
                // A text takes all that is written to it.
                let _ = writeln!(
                    table,
                    "| {wal:?} | {contender:?} | {seconds:.2} | {rate:.0} |"
                );
            }
        }
    }
    table
}
