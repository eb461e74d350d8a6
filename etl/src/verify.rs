//! Compares what is live with the files it should be from: each row of each table, and what follows
//! from them.
//!
//! A file is read and encoded as for a load; the table is read back as COPY sends it, which is the
//! same bytes for the same row. Both are summed up row by row, whatever their order.

use std::{
    hash::{DefaultHasher, Hasher as _},
    ops::ControlFlow,
    time::{Instant, SystemTime},
};

use chrono::{DateTime, Utc};
use serde::Serialize;
use sqlx::PgConnection;

use crate::{
    copy::{Encoder, STREAM_START},
    dataset::{DataFile, DataSet, Sources},
    error::{Error, Result},
    load,
    progress::Progress,
    rows::{self, FileOutcome, Sink, State},
    schema::{self, build, inspect},
    sums::Addend,
    tables::{Table, release_before},
};

/// What to compare.
#[derive(Debug, Clone)]
pub struct VerifyOptions {
    /// Where the files are.
    pub sources: Sources,
    /// When products came to be, if not when the last load says.
    pub loaded_at: Option<SystemTime>,
    /// How progress is shown.
    pub progress: Progress,
}

/// Rows, and a sum over them that does not depend on their order.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct Checksum {
    /// How many.
    pub rows: u64,
    /// The sum of the hashes of their bytes. Comparable between runs of one program.
    pub sum: u64,
}

impl Checksum {
    fn add(&mut self, row: &[u8]) {
        // Its keys are fixed; the values themselves are not kept anywhere.
        let mut hasher = DefaultHasher::new();
        hasher.write(row);
        self.rows += 1;
        self.sum = self.sum.wrapping_add(hasher.finish());
    }
}

/// What was compared.
#[derive(Debug, Clone, Default, Serialize)]
pub struct VerifyReport {
    /// The tables, with the rows of the file and those that are live.
    pub tables: Vec<(String, Checksum, Checksum)>,
    /// What differs, a text each.
    pub differences: Vec<String>,
    /// How long it took.
    pub seconds: f64,
}

impl VerifyReport {
    /// One line a table.
    #[must_use]
    pub fn to_text(&self) -> String {
        let mut text = String::new();
        for (table, file, live) in &self.tables {
            let outcome = if file == live { "equal" } else { "DIFFERENT" };
            text.push_str(&format!(
                "{table:24} {:>12} rows of the file {:>12} live  {:016x}  {outcome}\n",
                file.rows, live.rows, live.sum
            ));
        }
        text.push_str(&format!(
            "{} differences; {:.1} s\n",
            self.differences.len(),
            self.seconds
        ));
        text
    }

    /// Fails if anything differs.
    ///
    /// # Errors
    /// [`Error::Differs`].
    pub fn check(&self) -> Result<()> {
        if self.differences.is_empty() {
            Ok(())
        } else {
            Err(Error::Differs(self.differences.clone()))
        }
    }
}

/// Compares the live tables with the files. Changes nothing.
///
/// # Errors
/// If a file or the database cannot be read, or if a load is running. A difference is no error: it
/// is in the report.
pub async fn run(database_url: &str, options: &VerifyOptions) -> Result<VerifyReport> {
    let started = Instant::now();
    let set = DataSet::look(&options.sources).await?;
    let mut conn = schema::connect(database_url).await?;
    schema::lock(&mut conn).await?;
    build::check_migrated(&mut conn).await?;
    let mut tx = inspect::begin(&mut conn).await?;
    let mut report = VerifyReport::default();
    let missing: Vec<&Table> = set.missing().collect();
    let mut state = State {
        loaded_at_micros: loaded_at(&mut tx, options, &set).await?,
        ..State::default()
    };
    for file in set.files {
        let table = file.table;
        release_before(table, &mut state.ids);
        let (outcome, of_file, live) = compare(&mut tx, file, state, options.progress).await?;
        if of_file.rows != live.rows {
            report.differences.push(format!(
                "{}: {} rows in the file, {} live",
                table.name, of_file.rows, live.rows
            ));
        } else if of_file != live {
            report.differences.push(format!(
                "{}: as many rows, with different values",
                table.name
            ));
        }
        report.tables.push((table.name.to_owned(), of_file, live));
        state = outcome.state;
    }
    for table in missing {
        if build::has_rows(&mut tx, table.name).await? {
            report
                .differences
                .push(format!("{}: live rows, and no file", table.name));
        }
    }
    report.differences.extend(inspect::problems(&mut tx).await?);
    drop(tx);
    report.seconds = started.elapsed().as_secs_f64();
    Ok(report)
}

async fn loaded_at(conn: &mut PgConnection, options: &VerifyOptions, set: &DataSet) -> Result<i64> {
    let time = match options.loaded_at {
        Some(time) => time,
        None => inspect::loaded_at(conn)
            .await?
            .and_then(|text| DateTime::parse_from_rfc3339(&text).ok())
            .map_or(set.modified_at, |time| time.with_timezone(&Utc).into()),
    };
    Ok(load::micros(time))
}

/// Reads a file on a thread and its table here, at the same time.
async fn compare(
    conn: &mut PgConnection,
    file: DataFile,
    state: State,
    progress: Progress,
) -> Result<(FileOutcome, Checksum, Checksum)> {
    let (table, name) = (file.table, file.name.clone());
    let step = progress.bytes(&name, file.bytes);
    let reading_step = step.clone();
    let reading = tokio::task::spawn_blocking(move || {
        let mut summing = Summing::default();
        let outcome = rows::read_file(file, state, &mut summing, &reading_step)?;
        Ok::<_, Error>((outcome, summing.checksum))
    });
    let mut stream = RowStream::default();
    let live = inspect::rows(conn, table, |part| {
        stream.add(&part);
        Ok(())
    })
    .await;
    let (outcome, of_file) = reading
        .await
        .map_err(|error| Error::Check(format!("reading {name} ended early: {error}")))??;
    live?;
    let live = stream.finish(table.name)?;
    step.finish(&format!("{} rows, {} live", of_file.rows, live.rows));
    Ok((outcome, of_file, live))
}

/// Sums up what is encoded.
struct Summing {
    encoder: Encoder,
    checksum: Checksum,
}

impl Default for Summing {
    fn default() -> Self {
        Self {
            encoder: Encoder::of_rows(),
            checksum: Checksum::default(),
        }
    }
}

impl Sink for Summing {
    fn encoder(&mut self) -> &mut Encoder {
        &mut self.encoder
    }

    fn take(&mut self, _: Option<Addend>) -> Result<ControlFlow<()>> {
        self.checksum.add(self.encoder.block());
        self.encoder.clear();
        Ok(ControlFlow::Continue(()))
    }
}

/// Sums up the rows of a stream of COPY, which may be cut anywhere.
#[derive(Debug, Default)]
struct RowStream {
    rest: Vec<u8>,
    is_begun: bool,
    is_ended: bool,
    checksum: Checksum,
}

impl RowStream {
    fn add(&mut self, part: &[u8]) {
        self.rest.extend_from_slice(part);
        let mut at = 0;
        if !self.is_begun && self.rest.len() >= STREAM_START.len() {
            self.is_begun = true;
            at = STREAM_START.len();
        }
        if !self.is_begun {
            return;
        }
        while let Some(length) = row_length(&self.rest[at..]) {
            if length == 0 {
                self.is_ended = true;
                break;
            }
            self.checksum.add(&self.rest[at..at + length]);
            at += length;
        }
        self.rest.drain(..at);
    }

    fn finish(self, table: &str) -> Result<Checksum> {
        if self.is_ended {
            return Ok(self.checksum);
        }
        Err(Error::Check(format!(
            "{table}: the rows could not be read to their end"
        )))
    }
}

/// The length of the row at the beginning, 0 at the end of the stream, `None` if it is not all here.
fn row_length(bytes: &[u8]) -> Option<usize> {
    let columns = i16::from_be_bytes(*bytes.first_chunk()?);
    let mut at = 2;
    let Ok(columns) = u16::try_from(columns) else {
        return Some(0);
    };
    for _ in 0..columns {
        let length = i32::from_be_bytes(*bytes.get(at..)?.first_chunk()?);
        at += 4 + usize::try_from(length).unwrap_or(0);
    }
    (at <= bytes.len()).then_some(at)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn encoded(values: &[Option<String>]) -> Vec<u8> {
        let mut encoder = Encoder::of_rows();
        encoder.row(values.len() as i16);
        for value in values {
            encoder.nullable_text(value.as_deref().map(str::as_bytes));
        }
        encoder.block().to_vec()
    }

    fn sum_of(rows: &[Vec<u8>]) -> Checksum {
        let mut checksum = Checksum::default();
        for row in rows {
            checksum.add(row);
        }
        checksum
    }

    #[test]
    fn the_order_of_rows_does_not_matter_and_every_byte_of_them_does() {
        let rows = [b"one".to_vec(), b"two".to_vec(), b"two".to_vec()];
        let turned = [b"two".to_vec(), b"one".to_vec(), b"two".to_vec()];
        let changed = [b"one".to_vec(), b"two".to_vec(), b"twn".to_vec()];
        assert_eq!(sum_of(&rows), sum_of(&turned));
        assert_ne!(sum_of(&rows), sum_of(&changed));
        assert_ne!(sum_of(&rows), sum_of(&rows[..2]));
    }

    proptest! {
        #[test]
        fn a_stream_may_be_cut_anywhere(
            values in prop::collection::vec(prop::collection::vec(prop::option::of("[a-c]{0,9}"), 1..4), 0..9),
            cut in 1_usize..40,
        ) {
            let rows: Vec<Vec<u8>> = values.iter().map(|row| encoded(row)).collect();
            let mut bytes = STREAM_START.to_vec();
            bytes.extend(rows.concat());
            bytes.extend([0xff, 0xff]);
            let mut stream = RowStream::default();
            for part in bytes.chunks(cut) {
                stream.add(part);
            }
            prop_assert_eq!(stream.finish("any").unwrap(), sum_of(&rows));
        }
    }
}
