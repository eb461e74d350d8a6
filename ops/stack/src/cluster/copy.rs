//! A cluster that is a copy of another one, and goes on following it.

use std::{fs, path::Path, sync::Mutex};

use anyhow::{Context, Result};
use nix::sys::signal::Signal;

use super::{Cluster, OWNER, home::Home};
use crate::guardian::Guardian;

impl Cluster {
    /// Opens in `dir` a copy of `primary`, which runs; a copy that is there is kept if it can still follow. The server is
    /// not started.
    pub(crate) fn open_copy(
        primary: &Self,
        dir: &Path,
        guardian: Guardian,
        last_signal: Signal,
    ) -> Result<Self> {
        let (binaries, account) = (primary.binaries.clone(), primary.account.clone());
        let home = Home::open(dir, &account)?;
        let copy = Self {
            binaries,
            account,
            settings: primary.settings.clone(),
            server: Mutex::new(None),
            last_signal,
            guardian,
            home,
        };
        if !copy.can_follow(primary)? {
            copy.home.clear()?;
            copy.take_from(primary)?;
        }
        Ok(copy)
    }

    /// Copies all files, with what the copy needs to follow.
    fn take_from(&self, primary: &Self) -> Result<()> {
        // No quote or backslash can be in the path of a socket that Postgres was given in our own way.
        let source = format!(
            "host='{}' port=5432 user={OWNER} application_name=replica",
            primary.home.socket_dir().display()
        );
        self.home.make("pg_basebackup", |folder| {
            let program = self.binaries.program("pg_basebackup");
            let mut backup = self.account.command(program, self.dir());
            backup
                .args(["--write-recovery-conf", "--checkpoint=fast"])
                .args(["--wal-method=stream", "--no-password"])
                .args(if self.settings.durable {
                    None
                } else {
                    Some("--no-sync")
                })
                .args(["--dbname", &source])
                .arg("--pgdata")
                .arg(folder);
            backup
        })
    }

    /// Whether what is here follows this very cluster, which still has the log that it would go on from.
    fn can_follow(&self, primary: &Self) -> Result<bool> {
        if !self.home.data().join("standby.signal").exists() {
            return Ok(false);
        }
        let recovery = fs::read_to_string(self.home.data().join("postgresql.auto.conf"));
        let socket = primary.home.socket_dir();
        let names_it = recovery.is_ok_and(|text| text.contains(&*socket.to_string_lossy()));
        let control = self.control_data()?;
        let field = |name: &str| {
            let line = control.lines().find_map(|line| line.strip_prefix(name));
            line.map(str::trim).unwrap_or_default()
        };
        let asked = format!(
            "select count(*) from pg_control_system(), pg_ls_waldir()
              where system_identifier::text = '{}' and name = '{}'",
            field("Database system identifier:"),
            field("Latest checkpoint's REDO WAL file:"),
        );
        Ok(names_it && primary.psql("postgres", &asked)? == "1")
    }

    fn control_data(&self) -> Result<String> {
        let program = self.binaries.program("pg_controldata");
        let output = self
            .account
            .command(program, self.dir())
            // Its words are translated otherwise.
            .env("LC_ALL", "C")
            .arg("--pgdata")
            .arg(self.home.data())
            .output()
            .context("cannot run pg_controldata")?;
        Ok(String::from_utf8_lossy(&output.stdout).into_owned())
    }
}
