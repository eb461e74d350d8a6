//! What stops a run. A bad row is not an error: it is a [`Reject`](crate::reject::Reason) and is
//! counted.

use std::{io, path::PathBuf};

/// The result of everything in this crate that can stop a run.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// What stopped a run; each kind has its own exit code.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The files are not a data set that can be loaded: each line names a file and what is wrong.
    #[error("{}", .0.join("\n"))]
    Input(Vec<String>),
    /// A file could not be read or written.
    #[error("{}: {source}", path.display())]
    File {
        /// The file in question.
        path: PathBuf,
        /// What the operating system said.
        source: io::Error,
    },
    /// Postgres refused something, or could not be reached.
    #[error("{doing}: {source}")]
    Database {
        /// What was being done.
        doing: String,
        /// What Postgres or the driver said.
        source: sqlx::Error,
    },
    /// A migration could not be applied.
    #[error("applying the migrations: {0}")]
    Migration(#[from] sqlx::migrate::MigrateError),
    /// Another migration or load holds the lock of this database.
    #[error("another load or migration is running on this database: try again when it has ended")]
    Busy,
    /// The database has no schema to load into.
    #[error("the database is not set up: run `etl migrate` first")]
    NotMigrated,
    /// Something that must hold did not: the run stops rather than putting doubtful data in place.
    #[error("check failed: {0}")]
    Check(String),
    /// More rows were refused than may be.
    #[error("{0}")]
    TooManyRejects(String),
    /// The live tables hold changes since the last load, which would be lost.
    #[error(
        "{0} changes were made to the live tables since the last load and would be lost: \
         give --discard-writes to lose them"
    )]
    LiveWrites(i64),
    /// The database does not hold what the files do: each text names a table and what differs.
    #[error("the database differs from the files:\n{}", .0.join("\n"))]
    Differs(Vec<String>),
    /// The load is done, and gateways may still answer from before it: each text names one.
    #[error("the load is done, but a gateway may still serve what was before it:\n{}", .0.join("\n"))]
    Purge(Vec<String>),
}

impl Error {
    /// The exit code of a program that was stopped by this error.
    #[must_use]
    pub fn exit_code(&self) -> u8 {
        match self {
            Self::File { .. } | Self::Database { .. } | Self::Migration(_) | Self::NotMigrated => 1,
            Self::Input(_) => 3,
            Self::Busy => 4,
            Self::Check(_) => 5,
            Self::Purge(_) => 6,
            Self::TooManyRejects(_) => 7,
            Self::LiveWrites(_) => 8,
            Self::Differs(_) => 9,
        }
    }
}

/// Names the file that an operating system error is about.
pub(crate) fn file(path: impl Into<PathBuf>) -> impl FnOnce(io::Error) -> Error {
    let path = path.into();
    move |source| Error::File { path, source }
}

/// Names what was being done when the database refused it.
pub(crate) fn database(doing: impl Into<String>) -> impl FnOnce(sqlx::Error) -> Error {
    let doing = doing.into();
    move |source| Error::Database { doing, source }
}
