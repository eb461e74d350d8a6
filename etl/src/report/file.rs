//! The file of a load's report. From the start of a run it tells of that run and of no earlier one.

use std::{
    fs::File,
    io::{self, Seek as _, Write as _},
    path::{Path, PathBuf},
};

use serde_json::{Value, json};

use super::LoadReport;
use crate::error::{self, Error, Result};

/// Holds the report of the last run, whatever became of it.
#[derive(Debug)]
pub struct ReportFile {
    path: PathBuf,
    file: File,
    is_replaceable: bool,
}

impl ReportFile {
    /// Creates the file, or takes out what an earlier run left: a load that cannot be reported
    /// should not begin.
    ///
    /// # Errors
    /// If it cannot be written.
    pub fn create(path: &Path) -> Result<Self> {
        let file = File::create(path).map_err(error::file(path))?;
        // What has gone down a pipe cannot be replaced: a pipe gets the outcome only.
        let is_replaceable = file.metadata().map_err(error::file(path))?.is_file();
        let mut report = Self {
            path: path.to_owned(),
            file,
            is_replaceable,
        };
        if !is_replaceable {
            return Ok(report);
        }
        report.write(&json!({ "error": "the load did not come to its end" }))?;
        Ok(report)
    }

    /// Writes what the load did, or what stopped it.
    ///
    /// # Errors
    /// If it cannot be written.
    pub fn finish(mut self, outcome: &Result<LoadReport>) -> Result<()> {
        match outcome {
            Ok(report) => self.write(&report.to_json()),
            Err(error) => {
                self.write(&json!({ "error": error.to_string(), "exit_code": error.exit_code() }))
            }
        }
    }

    fn write(&mut self, json: &Value) -> Result<()> {
        let mut replace = || {
            if self.is_replaceable {
                self.file.set_len(0)?;
                self.file.rewind()?;
            }
            writeln!(self.file, "{json:#}")
        };
        replace().map_err(|source: io::Error| Error::File {
            path: self.path.clone(),
            source,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_file_tells_of_this_run_from_its_start_to_its_end() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("report.json");
        let read = || -> Value { serde_json::from_slice(&std::fs::read(&path).unwrap()).unwrap() };
        std::fs::write(&path, "of an earlier run, and rather a long one".repeat(9)).unwrap();
        let file = ReportFile::create(&path).unwrap();
        assert_eq!(
            read(),
            json!({ "error": "the load did not come to its end" })
        );
        file.finish(&Err(Error::Busy)).unwrap();
        assert_eq!(read()["exit_code"], 4);
        let file = ReportFile::create(&path).unwrap();
        file.finish(&Ok(LoadReport::default())).unwrap();
        assert!(read().get("error").is_none() && read()["rows"] == 0);
    }
}
