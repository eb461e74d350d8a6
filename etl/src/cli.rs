//! The command line: one subcommand, one type of arguments.

use std::{
    path::PathBuf,
    time::{Duration, SystemTime},
};

use clap::{Args, Parser, Subcommand};

use crate::{field, purge, reject::Repairs};

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
    /// Loads CSV files into fresh tables and puts them in the place of the live ones.
    Load(LoadArgs),
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

/// What to load.
#[derive(Debug, Args)]
pub struct LoadArgs {
    /// Where to.
    #[command(flatten)]
    pub database: DatabaseArgs,
    /// The folder of the CSV files.
    #[arg(long, value_name = "DIR")]
    pub csv: PathBuf,
    /// Writes refused rows to this file, as CSV: file, line, byte offset, reason, raw text.
    #[arg(long, value_name = "FILE")]
    pub rejects: Option<PathBuf>,
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
    /// Connections that build indexes side by side.
    #[arg(long, value_name = "N", default_value_t = 2, value_parser = parse_jobs)]
    pub jobs: usize,
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
    /// The same seed gives the same files.
    #[arg(long, value_name = "S", default_value_t = 1)]
    pub seed: u64,
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
