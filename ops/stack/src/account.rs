//! The operating system account that runs Postgres, which refuses to run as root.

use std::{
    ffi::OsStr,
    fs,
    os::unix::{fs::PermissionsExt, process::CommandExt},
    path::Path,
    process::Command,
};

use anyhow::{Context, Result, bail};
use nix::unistd::{User, chown, geteuid};

/// Accounts that root steps down to, in order of preference.
const UNPRIVILEGED: [&str; 2] = ["postgres", "nobody"];

/// Who runs the server: this process's own user, or an unprivileged one when that is root.
#[derive(Clone, Debug)]
pub struct Account {
    stepped_down: Option<User>,
}

impl Account {
    /// Picks the account.
    pub fn choose() -> Result<Self> {
        if !geteuid().is_root() {
            return Ok(Self { stepped_down: None });
        }
        for name in UNPRIVILEGED {
            let user =
                User::from_name(name).with_context(|| format!("cannot look up the user {name}"))?;
            if user.is_some() {
                return Ok(Self { stepped_down: user });
            }
        }
        bail!("Postgres does not run as root, and none of the users {UNPRIVILEGED:?} exists");
    }

    /// A command that runs as this account, in `dir`, without any of our own Postgres settings.
    pub fn command(&self, program: impl AsRef<OsStr>, dir: &Path) -> Command {
        let mut command = Command::new(program);
        command.current_dir(dir);
        for (name, _) in std::env::vars_os() {
            if name.as_encoded_bytes().starts_with(b"PG") {
                command.env_remove(name);
            }
        }
        if let Some(user) = &self.stepped_down {
            // Setting the uid as root also drops the supplementary groups.
            command.uid(user.uid.as_raw()).gid(user.gid.as_raw());
        }
        command
    }

    /// Makes `dir`, if it is not there yet, and gives it to this account alone.
    pub fn create_private_dir(&self, dir: &Path) -> Result<()> {
        // Before anything is created in the wrong place.
        self.check_reachable(dir)?;
        let context = || format!("cannot make {} a private directory", dir.display());
        fs::create_dir_all(dir).with_context(context)?;
        fs::set_permissions(dir, fs::Permissions::from_mode(0o700)).with_context(context)?;
        if let Some(user) = &self.stepped_down {
            chown(dir, Some(user.uid), Some(user.gid)).with_context(context)?;
        }
        // A strict umask may have closed directories made on the way.
        self.check_reachable(dir)
    }

    /// Checks that this account may pass all directories above `dir`; a home of mode 0700 forbids it.
    fn check_reachable(&self, dir: &Path) -> Result<()> {
        const FIRST_CLOSED: &str =
            r#"for dir; do [ -x "$dir" ] || { printf %s "$dir"; exit; }; done"#;
        let Some(user) = &self.stepped_down else {
            return Ok(());
        };
        let mut way: Vec<_> = dir
            .ancestors()
            .skip(1)
            .filter(|above| above.exists())
            .collect();
        way.reverse();
        let output = self
            .command("/bin/sh", Path::new("/"))
            .args(["-c", FIRST_CLOSED, "sh"])
            .args(way)
            .output()
            .context("cannot run /bin/sh")?;
        if output.stdout.is_empty() {
            return Ok(());
        }
        bail!(
            "Postgres will run as the user {}, which cannot enter {} on the way to {}; \
             choose another data directory",
            user.name,
            String::from_utf8_lossy(&output.stdout),
            dir.display(),
        );
    }
}
