//! Where everything can be reached, for people and for programs.

use std::{fs, io::Write, path::Path};

use anyhow::{Context, Result, anyhow, ensure};
use serde::Serialize;
use tempfile::NamedTempFile;

const TOKEN_BYTES: usize = 24;

/// All URLs of a running system, with the secrets to use them.
#[derive(Serialize)]
pub(super) struct Endpoints {
    /// The first of the gateways, which is the only one as a rule, and its admin listener.
    pub(super) gateway: String,
    pub(super) admin: String,
    /// All of them, in the order of their numbers.
    pub(super) gateways: Vec<String>,
    pub(super) admins: Vec<String>,
    pub(super) admin_token: String,
    pub(super) origins: Vec<String>,
    /// Where each origin tells what changes, its health and its metrics.
    pub(super) origins_private: Vec<String>,
    pub(super) database_url: String,
    pub(super) owner_url: String,
    /// The owner's URLs of the replicas.
    pub(super) replicas: Vec<String>,
}

impl Endpoints {
    /// Checks that the file's folder exists, before anything is started for it.
    pub(super) fn check_folder(path: &Path) -> Result<()> {
        let path = std::path::absolute(path).context("--endpoints names no file")?;
        let folder = path.parent().context("--endpoints names no file")?;
        ensure!(
            folder.is_dir(),
            "--endpoints {}: there is no such directory",
            path.display()
        );
        Ok(())
    }

    /// Writes the file whole or not at all.
    pub(super) fn write(&self, path: &Path) -> Result<()> {
        let json = serde_json::to_string_pretty(self).context("cannot write the endpoints")?;
        write_secret(path, &json)
    }

    /// Removes the file, if there is one.
    pub(super) fn remove(path: &Path) -> Result<()> {
        match fs::remove_file(path) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                Err(error).with_context(|| format!("cannot remove {}", path.display()))
            }
            _ => Ok(()),
        }
    }

    /// The addresses, for a person.
    pub(super) fn lines(&self) -> Vec<String> {
        let mut lines = vec![
            format!("gateway   {}", self.gateways.join("  ")),
            format!("admin     {}", self.admins.join("  ")),
            format!("origins   {}", self.origins.join("  ")),
            format!("database  {}", self.owner_url),
        ];
        lines.extend(self.replicas.iter().map(|url| format!("replica   {url}")));
        lines
    }

    /// Commands for a person who wants to see something happen; not in a frame, to be copied.
    pub(super) fn to_try(&self) -> [String; 3] {
        let page = format!("{}/reviews?product_id=2&sort=newest&count=2", self.gateway);
        let review = r#"{"product_id":2,"rating":5,"recommend":true,"body":"It fits.","name":"me","email":"me@example.com"}"#;
        [
            format!("curl -i '{page}'"),
            format!(
                "curl {}/reviews -H 'Content-Type: application/json' -d '{review}'",
                self.gateway
            ),
            format!("curl -i '{page}'"),
        ]
    }
}

/// Writes a file that only its owner may read, whole or not at all.
pub(super) fn write_secret(path: &Path, text: &str) -> Result<()> {
    let context = || format!("cannot write {}", path.display());
    let path = std::path::absolute(path).with_context(context)?;
    let folder = path.parent().with_context(context)?;
    let mut file = NamedTempFile::new_in(folder).with_context(context)?;
    writeln!(file, "{text}").with_context(context)?;
    file.persist(&path).with_context(context)?;
    Ok(())
}

/// A new random token.
pub(super) fn new_token() -> Result<String> {
    let mut bytes = [0; TOKEN_BYTES];
    getrandom::fill(&mut bytes).map_err(|error| anyhow!("no random numbers: {error}"))?;
    Ok(bytes.iter().map(|byte| format!("{byte:02x}")).collect())
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn a_secret_replaces_the_old_file_and_is_closed_to_others() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("token");
        fs::write(&path, "old").unwrap();
        write_secret(&path, &new_token().unwrap()).unwrap();
        assert_eq!(
            fs::read_to_string(&path).unwrap().trim().len(),
            2 * TOKEN_BYTES
        );
        assert_eq!(path.metadata().unwrap().permissions().mode() & 0o777, 0o600);
        assert_eq!(dir.path().read_dir().unwrap().count(), 1);
    }

    #[test]
    fn a_removed_file_may_be_removed_again() {
        let dir = tempfile::tempdir().unwrap();
        assert!(Endpoints::remove(&dir.path().join("none")).is_ok());
    }
}
