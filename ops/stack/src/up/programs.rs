//! The programs of the system and their command lines.

use std::{
    ffi::OsStr,
    fs,
    net::SocketAddr,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context, Result, ensure};
use serde_json::Value;

use crate::gateway_config::OriginAddresses;

/// The folder that holds `etl`, `origin` and `gateway`: this program's own.
#[derive(Clone, Debug)]
pub(super) struct Programs {
    dir: PathBuf,
}

/// The two listeners of a gateway.
#[derive(Clone, Copy, Debug)]
pub(super) struct GatewayAddresses {
    pub(super) public: SocketAddr,
    pub(super) admin: SocketAddr,
}

impl Programs {
    pub(super) fn beside_this_one() -> Result<Self> {
        let this = std::env::current_exe().context("cannot find this program's own path")?;
        let dir = this
            .parent()
            .context("a program lies in a folder")?
            .to_owned();
        for name in ["etl", "origin", "gateway"] {
            let path = dir.join(name);
            ensure!(
                path.is_file(),
                "{} is missing: build all programs with `cargo build --workspace --bins`",
                path.display(),
            );
        }
        Ok(Self { dir })
    }

    pub(super) fn migrate(&self, database_url: &str) -> Command {
        self.command("etl", ["migrate", "--database-url", database_url])
    }

    pub(super) fn generate(&self, out: &Path, products: u64, seed: u64) -> Command {
        let mut command = self.command("etl", ["generate"]);
        command.arg("--out").arg(out);
        command.args([
            "--products",
            &products.to_string(),
            "--seed",
            &seed.to_string(),
        ]);
        command
    }

    pub(super) fn load(
        &self,
        database_url: &str,
        csv: &Path,
        rejects: &Path,
        report: &Path,
    ) -> Command {
        let mut command = self.command("etl", ["load", "--database-url", database_url]);
        command.arg("--csv").arg(csv);
        command.arg("--rejects").arg(rejects);
        command.arg("--report").arg(report);
        command
    }

    pub(super) fn origin(
        &self,
        addresses: OriginAddresses,
        database_url: &str,
        read_urls: &[String],
    ) -> Command {
        let (public, private) = (addresses.public.to_string(), addresses.private.to_string());
        let mut command = self.command("origin", ["run", "--listen", &public]);
        command.args(["--private", &private, "--database-url", database_url]);
        for read_url in read_urls {
            command.args(["--read-url", read_url]);
        }
        command
    }

    pub(super) fn gateway(
        &self,
        addresses: GatewayAddresses,
        config: &Path,
        token_file: &Path,
    ) -> Command {
        let (public, admin) = (addresses.public.to_string(), addresses.admin.to_string());
        let mut command = self.command("gateway", ["run", "--listen", &public]);
        command.arg("--config").arg(config);
        command.args(["--admin", &admin]);
        command.arg("--admin-token-file").arg(token_file);
        command
    }

    fn command<const N: usize>(&self, program: &str, args: [impl AsRef<OsStr>; N]) -> Command {
        let mut command = Command::new(self.dir.join(program));
        command.args(args);
        // It would stand in for a URL that is missing here.
        command.env_remove("DATABASE_URL");
        command
    }
}

/// What stopped the load that wrote this report.
pub(super) fn load_error(report: &Path) -> Option<String> {
    let report: Value = serde_json::from_slice(&fs::read(report).ok()?).ok()?;
    Some(report["error"].as_str()?.to_owned())
}
