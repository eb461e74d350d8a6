//! The admin tokens: read from a file or the environment, or made and written to a file.

use std::fs::{File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::Path;

use nix::unistd::geteuid;
use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;

const TOKEN_BYTES: usize = 24;

/// A secret that only its digest is kept of.
pub struct Token {
    digest: [u8; 32],
}

impl Token {
    /// A token with this text.
    pub fn new(text: &str) -> Self {
        Self {
            digest: Sha256::digest(text).into(),
        }
    }

    /// Reads the first line of a file that has to be there.
    ///
    /// # Errors
    /// The file cannot be read, is open to others, or its first line is empty.
    pub fn read(path: &Path) -> io::Result<Self> {
        Self::of_text(&read_private(File::open(path)?)?)
    }

    /// The first line of a text.
    ///
    /// # Errors
    /// The line is empty.
    pub fn of_text(text: &str) -> io::Result<Self> {
        let token = text.lines().next().unwrap_or_default().trim();
        if token.is_empty() {
            return Err(io::Error::new(
                io::ErrorKind::InvalidData,
                "its first line holds no token",
            ));
        }
        Ok(Self::new(token))
    }

    /// Reads the first line of a file; a file that is not there is made, mode 0600, with a random token.
    ///
    /// # Errors
    /// The file cannot be read or made, is open to others, or its first line is empty.
    pub fn read_or_create(path: &Path) -> io::Result<Self> {
        let text = match File::open(path) {
            Ok(file) => read_private(file)?,
            Err(error) if error.kind() == io::ErrorKind::NotFound => create(path)?,
            Err(error) => return Err(error),
        };
        Self::of_text(&text)
    }

    /// Whether this is the token; takes the same time whatever is wrong with it.
    pub fn matches(&self, text: &str) -> bool {
        let digest: [u8; 32] = Sha256::digest(text).into();
        digest.ct_eq(&self.digest).into()
    }
}

/// What a bearer may do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Access {
    /// Every call.
    Full,
    /// What changes nothing.
    Read,
}

/// The tokens that are known.
pub struct Tokens {
    full: Token,
    read: Option<Token>,
}

impl Tokens {
    /// One for every call, and perhaps one for those that change nothing.
    pub fn new(full: Token, read: Option<Token>) -> Self {
        Self { full, read }
    }

    /// What the bearer of this text may do; takes the same time whatever is wrong with it.
    pub fn access(&self, text: &str) -> Option<Access> {
        let is_read = self.read.as_ref().is_some_and(|read| read.matches(text));
        let is_full = self.full.matches(text);
        if is_full {
            Some(Access::Full)
        } else {
            is_read.then_some(Access::Read)
        }
    }
}

/// Reads a file that nobody else can have written or can read.
fn read_private(mut file: File) -> io::Result<String> {
    let metadata = file.metadata()?;
    let foreign = metadata.uid() != geteuid().as_raw() && metadata.uid() != 0;
    if foreign || metadata.mode() & 0o077 != 0 {
        return Err(io::Error::new(
            io::ErrorKind::PermissionDenied,
            "it must belong to this user (or root) and be closed to all others (mode 0600)",
        ));
    }
    let mut text = String::new();
    file.read_to_string(&mut text)?;
    Ok(text)
}

fn create(path: &Path) -> io::Result<String> {
    let mut bytes = [0; TOKEN_BYTES];
    getrandom::fill(&mut bytes).map_err(|error| io::Error::other(error.to_string()))?;
    let token: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
    // create_new: a file or link that somebody else put there meanwhile is not written to.
    let mut file = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(path)?;
    writeln!(file, "{token}")?;
    Ok(token)
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn a_missing_file_is_made_private_and_read_again_the_same() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("token");
        let made = Token::read_or_create(&path).unwrap();
        assert_eq!(
            fs::metadata(&path).unwrap().permissions().mode() & 0o777,
            0o600
        );
        let text = fs::read_to_string(&path).unwrap();
        assert!(made.matches(text.trim()));
        assert!(Token::read_or_create(&path).unwrap().matches(text.trim()));
        assert!(!made.matches("something else"));
    }

    fn write_private(path: &Path, text: &str) {
        fs::write(path, text).unwrap();
        fs::set_permissions(path, fs::Permissions::from_mode(0o600)).unwrap();
    }

    #[test]
    fn a_file_that_others_can_read_or_write_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("token");
        for mode in [0o640, 0o604, 0o622, 0o666] {
            write_private(&path, "known\n");
            fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
            assert!(Token::read_or_create(&path).is_err(), "{mode:o}");
        }
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
        assert!(Token::read_or_create(&path).unwrap().matches("known"));
    }

    #[test]
    fn a_file_without_a_token_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("token");
        write_private(&path, "\n");
        assert!(Token::read_or_create(&path).is_err());
    }
}
