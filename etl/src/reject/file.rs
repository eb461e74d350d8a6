//! The file of refused rows.

use std::{
    fs::File,
    io::{self, BufWriter, Write as _},
    path::{Path, PathBuf},
};

use super::{Position, Reject};
use crate::error::{self, Error, Result};

/// The first line of a file of refused rows.
pub const HEADER: &[u8] = b"file,line,byte_offset,reason,raw";

/// Writes refused rows as CSV: `file,line,byte_offset,reason,raw`.
///
/// `raw` is the row exactly as it was, invalid UTF-8 and all, without its line end: putting the raw
/// texts one under the other gives a file that can be mended and loaded.
#[derive(Debug)]
pub struct RejectFile {
    path: PathBuf,
    out: BufWriter<File>,
}

impl RejectFile {
    /// Creates the file, or empties it, and writes its header.
    ///
    /// # Errors
    /// If it cannot be written.
    pub fn create(path: &Path) -> Result<Self> {
        let create = || {
            let mut out = BufWriter::new(File::create(path)?);
            out.write_all(HEADER)?;
            out.write_all(b"\n")?;
            Ok(Self {
                path: path.to_owned(),
                out,
            })
        };
        create().map_err(error::file(path))
    }

    /// Writes one refused row.
    ///
    /// # Errors
    /// If it cannot be written.
    pub fn write(&mut self, reject: &Reject<'_>, raw: &[u8]) -> Result<()> {
        self.write_row(reject, raw)
            .map_err(|source| self.error(source))
    }

    /// Writes what is still held back.
    ///
    /// # Errors
    /// If it cannot be written.
    pub fn flush(&mut self) -> Result<()> {
        self.out.flush().map_err(|source| self.error(source))
    }

    fn error(&self, source: io::Error) -> Error {
        error::file(&self.path)(source)
    }

    fn write_row(&mut self, reject: &Reject<'_>, raw: &[u8]) -> io::Result<()> {
        let Reject {
            file,
            at: Position { line, byte_offset },
            reason,
            column: _, // not in the format; told in messages and the report
        } = reject;
        let code = reason.code();
        write!(self.out, "{file},{line},{byte_offset},{code},\"")?;
        for (index, part) in raw.split(|byte| *byte == b'"').enumerate() {
            if index > 0 {
                self.out.write_all(b"\"\"")?;
            }
            self.out.write_all(part)?;
        }
        self.out.write_all(b"\"\n")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::reject::Reason;

    #[test]
    fn quotes_and_foreign_bytes_of_a_refused_row_survive() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("rejects.csv");
        let mut file = RejectFile::create(&path).unwrap();
        let reject = Reject {
            file: "photos.csv",
            at: Position {
                line: 7,
                byte_offset: 99,
            },
            column: "url",
            reason: Reason::BadUrl,
        };
        file.write(&reject, b"1,\"a\xff\"").unwrap();
        file.flush().unwrap();
        let expected =
            b"file,line,byte_offset,reason,raw\nphotos.csv,7,99,bad_url,\"1,\"\"a\xff\"\"\"\n";
        assert_eq!(std::fs::read(&path).unwrap(), expected);
    }
}
