//! Finding the programs of a Postgres server.

use std::{
    env,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context, Result, bail};

/// The oldest server whose features the SQL of this project uses.
const MAJOR_VERSION_MIN: u32 = 14;

/// The folder of one Postgres installation's programs.
#[derive(Clone, Debug)]
pub struct Binaries(PathBuf);

impl Binaries {
    /// Takes the folder that was named, or else the first installation found.
    ///
    /// The order: Debian's versioned folders and Homebrew's, newest first; `pg_config --bindir`; PATH.
    pub fn find(named: Option<&Path>) -> Result<Self> {
        let found = match named {
            Some(dir) if is_installation(dir) => dir.to_owned(),
            Some(dir) => bail!("no initdb and postgres in {}", dir.display()),
            None => candidates().into_iter().find(|dir| is_installation(dir)).context(
                "no Postgres server programs (initdb, postgres) found; install the package `postgresql`, \
                 or name their folder in ATELIER_PG_BIN",
            )?,
        };
        let binaries = Self(found);
        let major = binaries.major_version()?;
        if major < MAJOR_VERSION_MIN {
            bail!(
                "Postgres {major} in {} is too old: {MAJOR_VERSION_MIN} or newer is needed",
                binaries.0.display()
            );
        }
        Ok(binaries)
    }

    /// The folder.
    pub fn dir(&self) -> &Path {
        &self.0
    }

    /// The path of one program, such as `psql`.
    pub fn program(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }

    /// The server's major version, such as 15.
    pub fn major_version(&self) -> Result<u32> {
        let program = self.program("postgres");
        let output = Command::new(&program)
            .arg("--version")
            .output()
            .with_context(|| format!("cannot run {}", program.display()))?;
        let text = String::from_utf8_lossy(&output.stdout);
        parse_major(&text).with_context(|| format!("{} --version said {text:?}", program.display()))
    }
}

/// Reads `postgres (PostgreSQL) 15.14 (Debian 15.14-0+deb12u1)`.
fn parse_major(version: &str) -> Option<u32> {
    let number = version.split_whitespace().nth(2)?;
    let digits = number.split(|c: char| !c.is_ascii_digit()).next()?;
    digits.parse().ok()
}

fn is_installation(dir: &Path) -> bool {
    dir.join("initdb").is_file() && dir.join("postgres").is_file()
}

fn candidates() -> Vec<PathBuf> {
    let mut dirs = newest_first(Path::new("/usr/lib/postgresql"), "");
    for homebrew in ["/opt/homebrew/opt", "/usr/local/opt"] {
        dirs.extend(newest_first(Path::new(homebrew), "postgresql@"));
        dirs.push(Path::new(homebrew).join("postgresql/bin"));
    }
    if let Ok(output) = Command::new("pg_config").arg("--bindir").output() {
        dirs.push(PathBuf::from(
            String::from_utf8_lossy(&output.stdout).trim(),
        ));
    }
    if let Some(path) = env::var_os("PATH") {
        dirs.extend(env::split_paths(&path));
    }
    dirs
}

/// The `bin` folders of `parent`'s entries named `prefix` and a number, the highest number first.
fn newest_first(parent: &Path, prefix: &str) -> Vec<PathBuf> {
    let Ok(entries) = parent.read_dir() else {
        return Vec::new();
    };
    let mut versions: Vec<u32> = entries
        .flatten()
        .filter_map(|entry| {
            entry
                .file_name()
                .to_str()?
                .strip_prefix(prefix)?
                .parse()
                .ok()
        })
        .collect();
    versions.sort_unstable_by(|a, b| b.cmp(a));
    versions
        .iter()
        .map(|version| parent.join(format!("{prefix}{version}/bin")))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn version_lines_of_several_packagers_are_read() {
        assert_eq!(
            parse_major("postgres (PostgreSQL) 15.14 (Debian 15.14-0+deb12u1)"),
            Some(15)
        );
        assert_eq!(parse_major("postgres (PostgreSQL) 18beta1"), Some(18));
        assert_eq!(parse_major("postgres (PostgreSQL) 16.4"), Some(16));
        assert_eq!(parse_major("postgres"), None);
    }

    #[test]
    fn the_highest_version_comes_first_by_number_and_not_by_text() {
        let parent = tempfile::tempdir().unwrap();
        for name in ["pg@9", "pg@16", "pg@notes", "other"] {
            std::fs::create_dir(parent.path().join(name)).unwrap();
        }
        let dirs = newest_first(parent.path(), "pg@");
        assert_eq!(
            dirs,
            ["pg@16/bin", "pg@9/bin"].map(|dir| parent.path().join(dir))
        );
    }

    #[test]
    fn a_named_folder_without_a_server_is_an_error_naming_it() {
        let dir = tempfile::tempdir().unwrap();
        let error = Binaries::find(Some(dir.path())).unwrap_err().to_string();
        assert!(error.contains(dir.path().to_str().unwrap()), "{error}");
    }
}
