//! Writes a data set as clean CSV: the same reader and the same rules as a load, and files for a
//! sink.
//!
//! A row is encoded as for COPY and written from that, so that the two cannot differ: what is loaded
//! from the clean files is what is loaded from the dirty ones.

use std::{
    fs::{self, File},
    io::{self, BufWriter, Write as _},
    ops::ControlFlow,
    path::{Path, PathBuf},
    time::{Instant, SystemTime},
};

use memchr::memchr;

use crate::{
    copy::Encoder,
    dataset::{DataFile, DataSet, Sources},
    error::{self, Error, Result},
    field::EPOCH_2000,
    load,
    progress::Progress,
    reader::QUOTED_BYTES_MAX,
    reject::{RejectCount, RejectFile, RejectLimit},
    report::{FileReport, LoadReport, per_second},
    rows::{self, Sink, State},
    sums::Addend,
    tables::{Table, release_before},
};

/// What is written at once.
const BLOCK_BYTES: usize = 512 << 10;
/// The end of the name of a file that is being written.
const UNFINISHED: &str = ".part";

/// What to clean, and where to.
#[derive(Debug, Clone)]
pub struct CleanOptions {
    /// Where the files are.
    pub sources: Sources,
    /// The folder of the clean ones, made if it is not there.
    pub out: PathBuf,
    /// Where refused rows are written, if anywhere.
    pub rejects: Option<PathBuf>,
    /// How many rows may be refused; any number if it is not said.
    pub max_rejects: Option<RejectLimit>,
    /// How progress is shown.
    pub progress: Progress,
}

/// What a value of a row is, in the order of the columns that are encoded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cell {
    /// An `integer` or `smallint`.
    Integer,
    /// Text.
    Text,
    /// Text or NULL.
    NullableText,
    /// A `numeric` of whole dollars, or NULL.
    Price,
    /// A `boolean` that the files write as `true` and `false`.
    TrueFalse,
    /// A `boolean` that the files write as `1` and `0`.
    OneZero,
    /// A `timestamptz`.
    Time,
    /// Not of the file.
    Derived,
}

/// Writes each file of the set, clean, under its usual name. A file has its name once it is whole.
///
/// # Errors
/// If a file cannot be read or written, or if too many rows are refused.
pub fn run(options: &CleanOptions) -> Result<LoadReport> {
    let started = Instant::now();
    let set = DataSet::find(&options.sources)?;
    fs::create_dir_all(&options.out).map_err(error::file(&options.out))?;
    check_out(&options.sources, &options.out)?;
    let rejects = options
        .rejects
        .as_deref()
        .map(RejectFile::create)
        .transpose()?;
    let mut report = LoadReport::of(&set, set.modified_at);
    let mut state = State {
        rejects,
        rejected: RejectCount::new(options.max_rejects),
        ..State::default()
    };
    for file in set.files {
        let (name, table) = (file.name.clone(), file.table);
        release_before(table, &mut state.ids);
        let (file_report, next) = clean_file(file, state, options, set.modified_at)?;
        report.add_file(&name, file_report);
        state = next;
    }
    load::finish_rejects(&mut state, report.rows)?;
    report.seconds = started.elapsed().as_secs_f64();
    report.add_phase("clean", report.seconds);
    Ok(report)
}

/// Files that are read must not be written.
fn check_out(sources: &Sources, out: &Path) -> Result<()> {
    let Some(csv) = &sources.csv else {
        return Ok(());
    };
    let [read, written] =
        [csv.as_path(), out].map(|dir| dir.canonicalize().map_err(error::file(dir)));
    if read? == written? {
        return Err(Error::Input(vec![format!(
            "{}: the clean files need a folder of their own",
            out.display()
        )]));
    }
    Ok(())
}

fn clean_file(
    file: DataFile,
    state: State,
    options: &CleanOptions,
    modified_at: SystemTime,
) -> Result<(FileReport, State)> {
    let clock = Instant::now();
    let (table, name) = (file.table, file.name.clone());
    let step = options.progress.bytes(&name, file.bytes);
    let mut writer = CleanWriter::create(table, &options.out)?;
    let outcome = rows::read_file(file, state, &mut writer, &step)?;
    writer.finish(modified_at)?;
    let counts = outcome.tally.counts();
    counts.check(&name)?;
    let seconds = clock.elapsed().as_secs_f64();
    step.finish(&format!(
        "{} kept, {} rejected, {seconds:.1} s",
        counts.loaded,
        counts.rejected()
    ));
    let report = FileReport {
        table: table.name.to_owned(),
        rows_per_second: per_second(counts.rows, seconds),
        counts,
        first_rejected: outcome.first_rejected,
        out_of_order: outcome.out_of_order,
        rewritten: false,
        bytes: outcome.bytes,
        seconds,
    };
    Ok((report, outcome.state))
}

/// Writes one clean file.
struct CleanWriter {
    encoder: Encoder,
    cells: &'static [Cell],
    line: Vec<u8>,
    out: BufWriter<File>,
    unfinished: PathBuf,
    path: PathBuf,
}

impl CleanWriter {
    fn create(table: &Table, dir: &Path) -> Result<Self> {
        let path = dir.join(table.files[0]);
        let unfinished = dir.join(format!("{}{UNFINISHED}", table.files[0]));
        let create = || {
            let mut out = BufWriter::with_capacity(BLOCK_BYTES, File::create(&unfinished)?);
            writeln!(out, "{}", table.header.join(","))?;
            io::Result::Ok(out)
        };
        let out = create().map_err(error::file(&unfinished))?;
        Ok(Self {
            encoder: Encoder::of_rows(),
            cells: table.cells,
            line: Vec::new(),
            out,
            unfinished,
            path,
        })
    }

    /// Gives the file its name, and the age of those it was made from: products are as old as that.
    fn finish(mut self, modified_at: SystemTime) -> Result<()> {
        let mut finish = || {
            self.out.flush()?;
            self.out.get_ref().set_modified(modified_at)?;
            fs::rename(&self.unfinished, &self.path)
        };
        finish().map_err(error::file(&self.path))
    }
}

impl Sink for CleanWriter {
    fn encoder(&mut self) -> &mut Encoder {
        &mut self.encoder
    }

    fn take(&mut self, _: Option<Addend>) -> Result<ControlFlow<()>> {
        self.line.clear();
        write_line(self.encoder.block(), self.cells, &mut self.line);
        self.encoder.clear();
        self.out
            .write_all(&self.line)
            .map_err(error::file(&self.unfinished))?;
        Ok(ControlFlow::Continue(()))
    }
}

/// Writes an encoded row as a line of clean CSV; `cells` are those of its table.
pub fn write_line(row: &[u8], cells: &[Cell], line: &mut Vec<u8>) {
    // The number of columns comes first; it is that of the cells.
    let mut rest = row.get(2..).unwrap_or_default();
    for cell in cells {
        let Some((value, after)) = split_value(rest) else {
            break;
        };
        rest = after;
        if *cell == Cell::Derived {
            continue;
        }
        if !line.is_empty() {
            line.push(b',');
        }
        write_cell(*cell, value, line);
    }
    line.push(b'\n');
}

/// The value at the beginning of the rest of a row, `None` if it is NULL, and what follows.
fn split_value(rest: &[u8]) -> Option<(Option<&[u8]>, &[u8])> {
    let (length, rest) = rest.split_first_chunk()?;
    match usize::try_from(i32::from_be_bytes(*length)) {
        Ok(length) => rest
            .split_at_checked(length)
            .map(|(value, rest)| (Some(value), rest)),
        Err(_) => Some((None, rest)),
    }
}

fn write_cell(cell: Cell, value: Option<&[u8]>, line: &mut Vec<u8>) {
    let Some(value) = value else {
        return line.extend_from_slice(b"null");
    };
    match cell {
        Cell::Text | Cell::NullableText => write_text(value, line),
        Cell::TrueFalse if value == [1] => line.extend_from_slice(b"true"),
        Cell::TrueFalse => line.extend_from_slice(b"false"),
        Cell::OneZero if value == [1] => line.push(b'1'),
        Cell::OneZero => line.push(b'0'),
        Cell::Integer => write_number(big_endian(value), line),
        Cell::Price => write_number(dollars(value), line),
        Cell::Time => write_time(big_endian(value), line),
        Cell::Derived => {}
    }
}

fn write_number(number: i64, line: &mut Vec<u8>) {
    // A vector takes all that is written to it.
    drop(write!(line, "{number}"));
}

/// Text in quotes. Only unquoted text is longer than a quoted field may be; it stays as it was.
fn write_text(text: &[u8], line: &mut Vec<u8>) {
    if text.len() + text.iter().filter(|byte| **byte == b'"').count() > QUOTED_BYTES_MAX {
        return line.extend_from_slice(text);
    }
    line.push(b'"');
    let mut rest = text;
    while let Some(quote) = memchr(b'"', rest) {
        line.extend_from_slice(&rest[..=quote]);
        line.push(b'"');
        rest = &rest[quote + 1..];
    }
    line.extend_from_slice(rest);
    line.push(b'"');
}

/// Milliseconds since 1970, or a date and time if that would lose something.
fn write_time(micros_since_2000: i64, line: &mut Vec<u8>) {
    let micros = micros_since_2000 + EPOCH_2000;
    if micros % 1000 == 0 {
        return write_number(micros / 1000, line);
    }
    if let Some(time) = chrono::DateTime::from_timestamp_micros(micros) {
        drop(write!(
            line,
            "\"{}\"",
            time.format("%Y-%m-%dT%H:%M:%S%.6fZ")
        ));
    }
}

/// A number of two, four or eight bytes.
fn big_endian(value: &[u8]) -> i64 {
    let sign = if value.first().is_some_and(|byte| *byte >= 0x80) {
        -1
    } else {
        0
    };
    value
        .iter()
        .fold(sign, |number, byte| number << 8 | i64::from(*byte))
}

/// The whole part of a `numeric` that is not negative: digits of base 10,000, the first of which
/// has the weight that stands before them.
fn dollars(value: &[u8]) -> i64 {
    let field = |at: usize| value.get(at..at + 2).map_or(0, big_endian);
    let (digits, weight) = (field(0), field(2));
    (0..=weight).fold(0, |sum, place| {
        let digit = if place < digits {
            field(8 + 2 * place as usize)
        } else {
            0
        };
        sum * 10_000 + digit
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::reader::{Dialect, Reader};
    use proptest::prelude::*;

    fn line(encode: impl FnOnce(&mut Encoder), cells: &[Cell]) -> String {
        let mut encoder = Encoder::of_rows();
        encode(&mut encoder);
        let mut line = Vec::new();
        write_line(encoder.block(), cells, &mut line);
        String::from_utf8(line).unwrap()
    }

    #[test]
    fn values_are_written_as_the_full_size_release_writes_them() {
        let row = |encoder: &mut Encoder| {
            encoder
                .row(9)
                .integer(-7)
                .smallint(5)
                .text(b"a \"b\",\n")
                .nullable_text(None)
                .nullable_price(Some(14_000))
                .boolean(true)
                .boolean(false)
                .timestamp(1_628_865_524_509_000 - EPOCH_2000)
                .integer(1);
        };
        let cells = [
            Cell::Integer,
            Cell::Integer,
            Cell::Text,
            Cell::NullableText,
            Cell::Price,
            Cell::TrueFalse,
            Cell::OneZero,
            Cell::Time,
            Cell::Derived,
        ];
        assert_eq!(
            line(row, &cells),
            "-7,5,\"a \"\"b\"\",\n\",null,140,true,0,1628865524509\n"
        );
    }

    #[test]
    fn a_time_with_microseconds_loses_none_of_them() {
        let row = |encoder: &mut Encoder| {
            encoder.row(1).timestamp(1_628_865_524_509_123 - EPOCH_2000);
        };
        assert_eq!(
            line(row, &[Cell::Time]),
            "\"2021-08-13T14:38:44.509123Z\"\n"
        );
    }

    proptest! {
        #[test]
        fn any_text_is_read_as_it_was_written(texts in prop::collection::vec("[^\0]{0,20}|[\", \n\r]{0,9}", 1..9)) {
            let row = |encoder: &mut Encoder| {
                encoder.row(texts.len() as i16);
                for text in &texts {
                    encoder.text(text.as_bytes());
                }
            };
            let line = line(row, &vec![Cell::Text; texts.len()]);
            let mut reader = Reader::new(line.as_bytes(), Dialect::Quoted).unwrap();
            let read = reader.next_row().unwrap().unwrap();
            prop_assert!(read.repairs.is_empty());
            let fields = read.fields.unwrap();
            prop_assert_eq!(fields.len(), texts.len());
            for (column, text) in texts.iter().enumerate() {
                prop_assert_eq!(fields.get(column), text.as_bytes());
            }
        }

        #[test]
        fn prices_are_written_as_they_were_read(price in 0_u64..=5_000_000) {
            let row = |encoder: &mut Encoder| { encoder.row(1).price(price * 100); };
            prop_assert_eq!(line(row, &[Cell::Price]), format!("{price}\n"));
        }
    }
}
