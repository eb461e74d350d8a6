//! The command line: one subcommand, one type of arguments.

use std::{
    ops::RangeInclusive,
    path::PathBuf,
    time::{Duration, SystemTime},
};

use clap::{Args, Parser, Subcommand};

use crate::{
    dataset::Sources,
    field,
    load::Mode,
    purge,
    reject::{RejectLimit, Repairs},
    schema::Jobs,
    tables::TABLES,
};

/// Loads a shop's data set into Postgres.
#[derive(Debug, Parser)]
#[command(version, about)]
pub struct Cli {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// The subcommands.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Brings a database to this version of the schema. Can be run again at any time.
    Migrate(DatabaseArgs),
    /// Loads CSV files: into fresh tables that take the place of the live ones, or in addition to
    /// what is live.
    Load(LoadArgs),
    /// Writes CSV files again, clean: with the same repairs and refusals as a load.
    Clean(CleanArgs),
    /// Compares the live tables with the CSV files they should be from.
    Verify(VerifyArgs),
    /// Takes refused rows apart into CSV files that can be mended and loaded.
    Split(SplitArgs),
    /// Makes CSV files of a shop of any size, as dirty as those of the full-size release.
    Generate(GenerateArgs),
}

/// Which database.
#[derive(Clone, Args)]
pub struct DatabaseArgs {
    /// The database, as its owner: a superuser, as event triggers need one.
    #[arg(long, env = "DATABASE_URL", hide_env_values = true, value_name = "URL")]
    pub database_url: String,
}

impl std::fmt::Debug for DatabaseArgs {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("DatabaseArgs { database_url: _ }")
    }
}

/// Which files.
#[derive(Debug, Args)]
pub struct FilesArgs {
    /// The folder of the CSV files, each plain or compressed by gzip (`.gz`) or zstd (`.zst`).
    #[arg(long, value_name = "DIR", required_unless_present = "stdin")]
    pub csv: Option<PathBuf>,
    /// Reads the file of this name from standard input, plain or compressed.
    #[arg(long, value_name = "NAME", value_parser = parse_file_name)]
    pub stdin: Option<String>,
}

impl From<FilesArgs> for Sources {
    fn from(args: FilesArgs) -> Self {
        Self {
            csv: args.csv,
            stdin: args.stdin,
        }
    }
}

/// What becomes of refused rows.
#[derive(Debug, Args)]
pub struct RejectArgs {
    /// Writes refused rows to this file, as CSV: file, line, byte offset, reason, raw text.
    #[arg(long, value_name = "FILE")]
    pub rejects: Option<PathBuf>,
    /// Stops if more rows than this are refused: a number of rows, or a share of all, as 0.5%.
    #[arg(long, value_name = "LIMIT")]
    pub max_rejects: Option<RejectLimit>,
}

/// What to load.
#[derive(Debug, Args)]
pub struct LoadArgs {
    /// Where to.
    #[command(flatten)]
    pub database: DatabaseArgs,
    /// What.
    #[command(flatten)]
    pub files: FilesArgs,
    /// What not.
    #[command(flatten)]
    pub rejects: RejectArgs,
    /// What becomes of the rows that are live.
    #[arg(long, value_enum, default_value_t)]
    pub mode: Mode,
    /// Loses what was changed in the live tables since the last load.
    #[arg(long)]
    pub discard_writes: bool,
    /// Writes the report to this file, as JSON.
    #[arg(long, value_name = "FILE")]
    pub report: Option<PathBuf>,
    /// After the load, empties the cache of the gateway with this admin URL; may be repeated.
    #[arg(long, value_name = "URL", value_parser = purge::parse_url, requires = "purge_token_file")]
    pub purge: Vec<String>,
    /// The file whose first line is the admin token of those gateways.
    #[arg(long, value_name = "FILE", requires = "purge")]
    pub purge_token_file: Option<PathBuf>,
    /// When the products came to be: a date, or a date and time. By default, when the newest file
    /// was changed.
    #[arg(long, value_name = "TIME", value_parser = parse_time)]
    pub loaded_at: Option<SystemTime>,
    /// Connections that derive rows and build indexes side by side.
    #[arg(long, value_name = "N", default_value_t = Jobs::default().connections, value_parser = parse_jobs)]
    pub jobs: usize,
    /// Memory of Postgres for indexes and for putting tables in order, in MiB: shared out to the jobs.
    #[arg(long, value_name = "MIB", default_value_t = Jobs::default().memory_mb, value_parser = parse_memory)]
    pub index_memory_mb: u32,
}

/// What to clean.
#[derive(Debug, Args)]
pub struct CleanArgs {
    /// What.
    #[command(flatten)]
    pub files: FilesArgs,
    /// What not.
    #[command(flatten)]
    pub rejects: RejectArgs,
    /// The folder of the clean files, made if it is not there.
    #[arg(long, value_name = "DIR")]
    pub out: PathBuf,
    /// Writes the report to this file, as JSON.
    #[arg(long, value_name = "FILE")]
    pub report: Option<PathBuf>,
}

/// What to take apart.
#[derive(Debug, Args)]
pub struct SplitArgs {
    /// The file of refused rows.
    #[arg(long, value_name = "FILE")]
    pub rejects: PathBuf,
    /// The folder of the files, made if it is not there.
    #[arg(long, value_name = "DIR")]
    pub out: PathBuf,
}

/// What to compare.
#[derive(Debug, Args)]
pub struct VerifyArgs {
    /// What is live.
    #[command(flatten)]
    pub database: DatabaseArgs,
    /// What should be.
    #[command(flatten)]
    pub files: FilesArgs,
    /// When the products came to be: a date, or a date and time. By default, what the last load
    /// gave them.
    #[arg(long, value_name = "TIME", value_parser = parse_time)]
    pub loaded_at: Option<SystemTime>,
}

/// What to make.
#[derive(Debug, Args)]
pub struct GenerateArgs {
    /// The folder of the files, made if it is not there.
    #[arg(long, value_name = "DIR")]
    pub out: PathBuf,
    /// How many products; about 70 records each.
    #[arg(long, value_name = "N", default_value_t = 10_000)]
    pub products: u64,
    /// How many rows a table has that can be loaded, if not in proportion: questions=10000000; may
    /// be repeated.
    #[arg(long, value_name = "TABLE=N", value_parser = parse_rows)]
    pub rows: Vec<(String, u64)>,
    /// The same seed gives the same files.
    #[arg(long, value_name = "S", default_value_t = 1)]
    pub seed: u64,
}

fn parse_rows(text: &str) -> Result<(String, u64), String> {
    let parsed = text
        .split_once('=')
        .and_then(|(table, rows)| Some((table.to_owned(), rows.parse().ok()?)));
    parsed.ok_or_else(|| "expected a table and a number, such as questions=1000".to_owned())
}

fn parse_file_name(text: &str) -> Result<String, String> {
    let mut names = TABLES.iter().flat_map(|table| table.files);
    if names.any(|name| *name == text) {
        return Ok(text.to_owned());
    }
    let usual: Vec<&str> = TABLES.iter().map(|table| table.files[0]).collect();
    Err(format!("expected one of {}", usual.join(", ")))
}

fn parse_time(text: &str) -> Result<SystemTime, String> {
    let micros = field::timestamp(text.as_bytes(), &mut Repairs::default())
        .map_err(|_| "expected YYYY-MM-DD, or that with THH:MM:SSZ".to_owned())?;
    let since_1970 =
        u64::try_from(micros + field::EPOCH_2000).map_err(|_| "before 1970".to_owned())?;
    Ok(SystemTime::UNIX_EPOCH + Duration::from_micros(since_1970))
}

/// More connections than this only wait for each other.
const JOBS_MAX: usize = 16;

fn parse_jobs(text: &str) -> Result<usize, String> {
    match text.parse() {
        Ok(jobs @ 1..=JOBS_MAX) => Ok(jobs),
        Ok(_) | Err(_) => Err(format!("expected a number from 1 to {JOBS_MAX}")),
    }
}

/// A job can do with little, and hardly any machine has more: 1 TiB.
const INDEX_MEMORY_MB: RangeInclusive<u32> = 16..=1 << 20;

fn parse_memory(text: &str) -> Result<u32, String> {
    let parsed = text.parse().ok();
    let allowed = parsed.filter(|memory| INDEX_MEMORY_MB.contains(memory));
    allowed.ok_or_else(|| {
        let (least, most) = INDEX_MEMORY_MB.into_inner();
        format!("expected a number of MiB from {least} to {most}")
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory as _;

    #[test]
    fn the_command_line_is_sound() {
        Cli::command().debug_assert();
    }

    #[test]
    fn the_password_of_a_database_is_not_shown() {
        let args = DatabaseArgs {
            database_url: "postgres://owner:secret@host/shop".to_owned(),
        };
        assert!(!format!("{args:?}").contains("secret"));
    }

    #[test]
    fn files_come_from_a_folder_or_standard_input_or_both() {
        let parse = |more: &[&str]| {
            let usual = ["etl", "verify", "--database-url", "postgres://x"];
            Cli::try_parse_from(usual.iter().chain(more))
        };
        assert!(parse(&["--csv", "d"]).is_ok() && parse(&["--stdin", "skus.csv"]).is_ok());
        assert!(parse(&["--csv", "d", "--stdin", "skus.csv"]).is_ok());
        assert!(parse(&[]).is_err() && parse(&["--stdin", "other.csv"]).is_err());
    }

    #[test]
    fn times_are_read_as_they_are_written() {
        let time = parse_time("2021-08-13T14:38:44.509Z").unwrap();
        assert_eq!(
            time.duration_since(SystemTime::UNIX_EPOCH)
                .unwrap()
                .as_millis(),
            1_628_865_524_509
        );
        assert!(parse_time("yesterday").is_err() && parse_time("1969-12-31").is_err());
    }
}
