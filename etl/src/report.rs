//! What a run did, counted: as a table for people and as JSON for programs.

mod file;

use std::{collections::BTreeMap, time::SystemTime};

use chrono::{DateTime, SecondsFormat, Utc};
use comfy_table::{CellAlignment, Table as TextTable, presets};
use serde::{Deserialize, Serialize};

use crate::{
    dataset::DataSet,
    error::{Error, Result},
    layout,
    purge::Purge,
    reject::{Reason, Repair, Repairs},
    tables::{TABLES, Table},
};
pub use file::ReportFile;

/// The rows of one file: read, loaded, repaired and refused.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct FileCounts {
    /// Rows read: lines after the header that are not blank, a row of several lines once.
    pub rows: u64,
    /// Rows stored.
    pub loaded: u64,
    /// Loaded rows by repair; a row counts once under each. `bom` counts once a file.
    pub repaired: BTreeMap<String, u64>,
    /// Refused rows by reason.
    pub rejected: BTreeMap<String, u64>,
}

/// Counts while rows go by.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Tally {
    rows: u64,
    loaded: u64,
    repaired: [u64; Repair::ALL.len()],
    rejected: [u64; Reason::ALL.len()],
}

impl Tally {
    /// Counts a row that is loaded.
    pub fn load(&mut self, repairs: Repairs) {
        self.rows += 1;
        self.loaded += 1;
        if !repairs.is_empty() {
            for repair in Repair::ALL {
                self.repaired[repair as usize] += u64::from(repairs.contains(repair));
            }
        }
    }

    /// Counts a row that is refused.
    pub fn reject(&mut self, reason: Reason) {
        self.rows += 1;
        self.rejected[reason as usize] += 1;
    }

    /// How many rows have been counted.
    #[must_use]
    pub fn rows(&self) -> u64 {
        self.rows
    }

    /// Counts a repair of the file as a whole.
    pub fn repair_file(&mut self, repair: Repair) {
        self.repaired[repair as usize] += 1;
    }

    /// The counts by code, without those that are 0.
    #[must_use]
    pub fn counts(&self) -> FileCounts {
        let named = |counts: &[u64], code: &dyn Fn(usize) -> &'static str| {
            let counted = counts.iter().enumerate().filter(|(_, count)| **count > 0);
            counted
                .map(|(index, count)| (code(index).to_owned(), *count))
                .collect()
        };
        FileCounts {
            rows: self.rows,
            loaded: self.loaded,
            repaired: named(&self.repaired, &|index| Repair::ALL[index].code()),
            rejected: named(&self.rejected, &|index| Reason::ALL[index].code()),
        }
    }
}

impl FileCounts {
    /// Fails unless every row read was either loaded or refused.
    ///
    /// # Errors
    /// [`Error::Check`].
    pub fn check(&self, file: &str) -> Result<()> {
        let rejected = self.rejected();
        if self.rows == self.loaded + rejected {
            return Ok(());
        }
        Err(Error::Check(format!(
            "{file}: {} rows read, {} loaded and {rejected} rejected",
            self.rows, self.loaded
        )))
    }

    /// How many rows were refused.
    #[must_use]
    pub fn rejected(&self) -> u64 {
        self.rejected.values().sum()
    }
}

/// What a generated data set holds, by file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Planted {
    /// The seed it was made from.
    pub seed: u64,
    /// How many products it has.
    pub products: u64,
    /// Its files.
    pub files: BTreeMap<String, FileCounts>,
}

/// One file of a load.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct FileReport {
    /// The table it filled.
    pub table: String,
    /// Its rows.
    #[serde(flatten)]
    pub counts: FileCounts,
    /// The first row that was refused for each reason and column: `skus.csv:9: column quantity: bad_integer`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub first_rejected: Vec<String>,
    /// Loaded rows that came pages behind the last of those they are read with.
    #[serde(default)]
    pub out_of_order: u64,
    /// Whether the table was therefore put in order.
    #[serde(default)]
    pub rewritten: bool,
    /// Its length, decompressed.
    pub bytes: u64,
    /// How long it took to read it and to store it.
    pub seconds: f64,
    /// Rows read in a second.
    pub rows_per_second: f64,
}

/// One step of a load.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Phase {
    /// What was done.
    pub name: String,
    /// How long it took.
    pub seconds: f64,
}

/// What a load did.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct LoadReport {
    /// What products were given as the time of their making.
    pub loaded_at: String,
    /// Rows read from all files.
    pub rows: u64,
    /// Rows stored.
    pub loaded: u64,
    /// Rows refused.
    pub rejected: u64,
    /// Length of all files.
    pub bytes: u64,
    /// How long it took, all in all.
    pub seconds: f64,
    /// The files, by name.
    pub files: BTreeMap<String, FileReport>,
    /// Files that are known and were left out.
    pub skipped: Vec<String>,
    /// CSV files that belong to no table.
    pub unknown: Vec<String>,
    /// Files that the set does not have.
    pub missing: Vec<String>,
    /// The steps, in order.
    pub phases: Vec<Phase>,
    /// When Postgres had acknowledged that the rows are in place: readers find them from then on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub swapped_at: Option<DateTime<Utc>>,
    /// When the last of the gateways had answered; changes are let in after that.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub purged_at: Option<DateTime<Utc>>,
    /// The gateways that were emptied after the load.
    #[serde(default)]
    pub purges: Vec<Purge>,
}

impl LoadReport {
    /// The report of a set of which nothing has been read yet.
    #[must_use]
    pub fn of(set: &DataSet, loaded_at: SystemTime) -> Self {
        let missing = set.missing().map(|table| table.files[0].to_owned());
        Self {
            loaded_at: DateTime::<Utc>::from(loaded_at)
                .to_rfc3339_opts(SecondsFormat::Millis, true),
            skipped: set.skipped.clone(),
            unknown: set.unknown.clone(),
            missing: missing.collect(),
            ..Self::default()
        }
    }

    /// Adds a file and counts it in the sums.
    pub fn add_file(&mut self, name: &str, file: FileReport) {
        self.rows += file.counts.rows;
        self.loaded += file.counts.loaded;
        self.rejected += file.counts.rejected();
        self.bytes += file.bytes;
        self.files.insert(name.to_owned(), file);
    }

    /// Whether the rows of a table lie scattered; if so, its file is marked as one that is put in order.
    pub fn mark_scattered(&mut self, table: &Table) -> bool {
        let mut files = self.files.values_mut();
        let Some(file) = files.find(|file| file.table == table.name) else {
            return false;
        };
        file.rewritten = layout::is_scattered(file.out_of_order, file.counts.loaded);
        file.rewritten
    }

    /// The tables that are put in order.
    #[must_use]
    pub fn scattered(&self) -> Vec<&'static Table> {
        let is_rewritten = |table: &&Table| {
            let mut files = self.files.values();
            files.any(|file| file.rewritten && file.table == table.name)
        };
        TABLES.iter().filter(is_rewritten).collect()
    }

    /// Adds a step.
    pub fn add_phase(&mut self, name: &str, seconds: f64) {
        self.phases.push(Phase {
            name: name.to_owned(),
            seconds,
        });
    }

    /// The report as JSON.
    #[must_use]
    pub fn to_json(&self) -> serde_json::Value {
        serde_json::to_value(self).unwrap_or_default()
    }

    /// The report as a table, and the steps in one line below.
    #[must_use]
    pub fn to_text(&self) -> String {
        let mut table = TextTable::new();
        table.load_style(presets::UTF8_HORIZONTAL_ONLY);
        table.set_header([
            "file", "read", "loaded", "repaired", "rejected", "bytes", "seconds", "rows/s",
        ]);
        for (name, file) in &self.files {
            table.add_row([
                name.clone(),
                grouped(file.counts.rows),
                grouped(file.counts.loaded),
                by_code(&file.counts.repaired),
                by_code(&file.counts.rejected),
                grouped(file.bytes),
                format!("{:.2}", file.seconds),
                grouped(file.rows_per_second as u64),
            ]);
        }
        let (copied, rate) = self.copy_rate();
        table.add_row([
            "all".to_owned(),
            grouped(self.rows),
            grouped(self.loaded),
            String::new(),
            grouped(self.rejected),
            grouped(self.bytes),
            format!("{copied:.2}"),
            grouped(rate as u64),
        ]);
        for column in [1, 2, 5, 6, 7] {
            if let Some(column) = table.column_mut(column) {
                column.set_cell_alignment(CellAlignment::Right);
            }
        }
        format!("{table}\n{}", self.notes())
    }

    fn copy_rate(&self) -> (f64, f64) {
        let seconds: f64 = self.files.values().map(|file| file.seconds).sum();
        (seconds, per_second(self.rows, seconds))
    }

    fn notes(&self) -> String {
        let mut notes = String::new();
        let lists = [
            ("left out", &self.skipped),
            ("not of the data set", &self.unknown),
            ("not given", &self.missing),
        ];
        for (what, names) in lists {
            if !names.is_empty() {
                notes.push_str(&format!("{what}: {}\n", names.join(", ")));
            }
        }
        for place in self.files.values().flat_map(|file| &file.first_rejected) {
            notes.push_str(&format!("first of its kind: {place}\n"));
        }
        for (name, file) in self.files.iter().filter(|(_, file)| file.rewritten) {
            notes.push_str(&format!(
                "put in order: {} ({} rows of {name} came out of it)\n",
                file.table,
                grouped(file.out_of_order)
            ));
        }
        let phases: Vec<String> = self
            .phases
            .iter()
            .map(|phase| format!("{} {:.1} s", phase.name, phase.seconds))
            .collect();
        notes.push_str(&format!(
            "{}; all in all {:.1} s\n",
            phases.join(", "),
            self.seconds
        ));
        for purge in &self.purges {
            notes.push_str(&purged(purge));
        }
        notes
    }
}

fn purged(purge: &Purge) -> String {
    let gateway = &purge.gateway;
    match &purge.error {
        None => format!(
            "purged {gateway}: {} answers removed, {} bytes\n",
            grouped(purge.objects),
            grouped(purge.bytes)
        ),
        Some(error) => format!("not purged {gateway}: {error}\n"),
    }
}

/// A rate, also for what took no time that could be measured.
#[must_use]
pub fn per_second(count: u64, seconds: f64) -> f64 {
    count as f64 / seconds.max(1e-6)
}

fn by_code(counts: &BTreeMap<String, u64>) -> String {
    counts
        .iter()
        .map(|(code, count)| format!("{code} {}", grouped(*count)))
        .collect::<Vec<_>>()
        .join("\n")
}

/// A number with commas between thousands.
fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::with_capacity(digits.len() + digits.len() / 3);
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_are_by_code_and_leave_out_what_did_not_occur() {
        let mut tally = Tally::default();
        let mut repairs = Repairs::default();
        repairs.add(Repair::Crlf);
        repairs.add(Repair::ZeroSale);
        tally.load(repairs);
        tally.load(Repairs::default());
        tally.reject(Reason::BadUrl);
        tally.repair_file(Repair::Bom);
        let counts = tally.counts();
        assert_eq!((counts.rows, counts.loaded, counts.rejected()), (3, 2, 1));
        assert_eq!(
            counts.repaired.keys().collect::<Vec<_>>(),
            ["bom", "crlf", "zero_sale"]
        );
        assert!(counts.check("x.csv").is_ok());
    }

    #[test]
    fn a_row_that_is_neither_loaded_nor_refused_is_noticed() {
        let counts = FileCounts {
            rows: 3,
            loaded: 1,
            ..FileCounts::default()
        };
        assert_eq!(counts.check("x.csv").unwrap_err().exit_code(), 5);
    }

    #[test]
    fn thousands_are_set_apart() {
        assert_eq!(
            [0, 999, 1_000, 70_320_000].map(grouped),
            ["0", "999", "1,000", "70,320,000"]
        );
    }
}
