//! Loads a data set: files to fresh tables, keys and derived rows, one swap.

use std::{
    path::PathBuf,
    time::{Instant, SystemTime},
};

use chrono::{DateTime, SecondsFormat, Utc};
use sqlx::{Connection as _, PgConnection};

use crate::{
    copy::{self, CopyWriter},
    dataset::{self, DataFile, DataSet},
    error::{self, Error, Result, database},
    field::EPOCH_2000,
    ids::Ids,
    progress::{Progress, Step},
    reject::{RejectFile, Repair},
    report::{FileReport, LoadReport, Tally, per_second},
    schema::{self, build},
    tables::{Row, TABLES},
};

/// Rows between two looks at the clock and the progress bar.
const ROWS_PER_TICK: u64 = 4096;

/// What to load, and how.
#[derive(Debug, Clone)]
pub struct LoadOptions {
    /// The folder of the files.
    pub csv: PathBuf,
    /// Where refused rows are written, if anywhere.
    pub rejects: Option<PathBuf>,
    /// When products came to be, if not when the newest file was changed.
    pub loaded_at: Option<SystemTime>,
    /// Connections that build indexes.
    pub jobs: usize,
    /// How progress is shown.
    pub progress: Progress,
}

/// What goes from file to file.
#[derive(Debug)]
struct State {
    ids: Ids,
    rejects: Option<RejectFile>,
    loaded_at_micros: i64,
}

/// What was found in one file.
struct FileOutcome {
    state: State,
    tally: Tally,
    largest_id: i32,
    /// Rows that were encoded; `None` if Postgres would not take them to the end.
    encoded: Option<u64>,
}

/// Loads the data set into fresh tables and puts them in the place of the live ones.
///
/// # Errors
/// Whatever stops the run: the live tables are then as they were.
pub async fn run(database_url: &str, options: &LoadOptions) -> Result<LoadReport> {
    let started = Instant::now();
    let set = DataSet::find(&options.csv);
    // Emptied in any case: an earlier run's must not be taken for this one's.
    let rejects = options
        .rejects
        .as_deref()
        .map(RejectFile::create)
        .transpose();
    let (set, rejects) = (set?, rejects?);
    let mut conn = schema::connect(database_url).await?;
    schema::lock(&mut conn).await?;
    build::check_migrated(&mut conn).await?;
    check_missing(&mut conn, &set).await?;
    remove_old(&mut conn).await?;
    build::create_tables(&mut conn).await?;

    let loaded_at = DateTime::<Utc>::from(options.loaded_at.unwrap_or(set.modified_at));
    let mut report = LoadReport {
        loaded_at: loaded_at.to_rfc3339_opts(SecondsFormat::Millis, true),
        skipped: set.skipped.clone(),
        unknown: set.unknown.clone(),
        missing: set
            .missing()
            .map(|table| table.files[0].to_owned())
            .collect(),
        ..LoadReport::default()
    };
    let state = State {
        ids: Ids::default(),
        rejects,
        // Postgres counts from 2000; the API shows milliseconds.
        loaded_at_micros: loaded_at.timestamp_millis() * 1000 - EPOCH_2000,
    };
    copy_files(&mut conn, set, state, options.progress, &mut report).await?;
    finish_tables(&mut conn, database_url, options, &mut report).await?;

    let clock = Instant::now();
    report.seconds = started.elapsed().as_secs_f64();
    build::swap(&mut conn, &report.to_json()).await?;
    // The load is done: tables that somebody still reads are removed by the next run at the latest.
    let is_removed = build::drop_old(&mut conn).await.unwrap_or(false);
    if !is_removed {
        tracing::warn!(
            "the tables before this load are still being read and were left in schema shop_old"
        );
    }
    report.add_phase("swap", clock.elapsed().as_secs_f64());
    report.seconds = started.elapsed().as_secs_f64();
    // From the swap on nothing can make a failure of it.
    if let Err(error) = schema::unlock(&mut conn).await {
        tracing::warn!("{error}");
    }
    drop(conn.close().await);
    Ok(report)
}

/// Removes what a load left that could not remove it itself.
async fn remove_old(conn: &mut PgConnection) -> Result<()> {
    if build::drop_old(conn).await? {
        return Ok(());
    }
    Err(Error::Check(
        "schema shop_old is still being read and cannot be removed".to_owned(),
    ))
}

/// A set may hold only some files, but not lose what is live.
async fn check_missing(conn: &mut PgConnection, set: &DataSet) -> Result<()> {
    let mut problems = Vec::new();
    for table in set.missing() {
        if build::has_rows(conn, table.name).await? {
            let file = table.files[0];
            problems.push(format!(
                "{file}: missing, and table {} holds rows that would be lost",
                table.name
            ));
        }
    }
    if problems.is_empty() {
        Ok(())
    } else {
        Err(Error::Input(problems))
    }
}

async fn copy_files(
    conn: &mut PgConnection,
    set: DataSet,
    mut state: State,
    progress: Progress,
    report: &mut LoadReport,
) -> Result<()> {
    let clock = Instant::now();
    for file in set.files {
        let (name, release) = (file.name.clone(), file.table.release);
        let (file_report, next) = copy_file(conn, file, state, progress).await?;
        report.add_file(&name, file_report);
        state = next;
        release(&mut state.ids);
    }
    if let Some(mut rejects) = state.rejects {
        rejects.flush()?;
    }
    report.add_phase("copy", clock.elapsed().as_secs_f64());
    Ok(())
}

/// Copies one file: a thread reads and encodes while this task sends.
async fn copy_file(
    conn: &mut PgConnection,
    file: DataFile,
    state: State,
    progress: Progress,
) -> Result<(FileReport, State)> {
    let clock = Instant::now();
    let (table, name, bytes) = (file.table, file.name.clone(), file.bytes);
    let step = progress.bytes(&name, bytes);
    let reading_step = step.clone();
    let doing = format!("copying {name}");
    let target = format!("{}.{}", build::NEXT, table.name);

    let mut tx = conn.begin().await.map_err(database(&doing))?;
    // A table that is emptied in the transaction that fills it can be filled without the
    // write-ahead log, if that is minimal, and with rows that are frozen at once.
    schema::run(&mut tx, &doing, &format!("truncate {target}")).await?;
    let (writer, sender) = copy::channel();
    let reading =
        tokio::task::spawn_blocking(move || read_file(&file, state, writer, &reading_step));
    let stored = sender.send(&mut tx, &target, table.columns).await;
    let read = reading
        .await
        .map_err(|error| Error::Check(format!("reading {name} ended early: {error}")))?;
    // Either side may have stopped the other. The reader's own error is the cause if it has one.
    let outcome = read?;
    let stored = stored?;
    let (Some(encoded), Some(stored)) = (outcome.encoded, stored) else {
        return Err(Error::Check(format!(
            "{name}: Postgres stopped taking rows"
        )));
    };
    let counts = outcome.tally.counts();
    counts.check(&name)?;
    copy::check_rows(table.name, encoded, stored)?;
    copy::check_rows(table.name, counts.loaded, stored)?;
    build::set_sequence(&mut tx, table.name, outcome.largest_id).await?;
    tx.commit().await.map_err(database(&doing))?;

    let seconds = clock.elapsed().as_secs_f64();
    let rows_per_second = per_second(counts.rows, seconds);
    step.finish(&format!(
        "{} loaded, {} rejected, {seconds:.1} s",
        counts.loaded,
        counts.rejected()
    ));
    let report = FileReport {
        table: table.name.to_owned(),
        counts,
        bytes,
        seconds,
        rows_per_second,
    };
    Ok((report, outcome.state))
}

/// Reads a file to its end: each row is encoded, or counted and written down as refused.
fn read_file(
    file: &DataFile,
    mut state: State,
    mut writer: CopyWriter,
    step: &Step,
) -> Result<FileOutcome> {
    let unreadable = |source| error::file(&file.path)(source);
    let mut reader = dataset::open(&file.path, file.table.dialect).map_err(unreadable)?;
    let mut tally = Tally::default();
    let mut largest_id = 0;
    let mut mended = [Vec::new(), Vec::new()];
    let mut encoded = Ok(());
    if reader.has_bom() {
        tally.repair_file(Repair::Bom);
    }
    while let Some(raw) = reader.next_row().map_err(unreadable)? {
        let read = raw.fields.and_then(|fields| {
            let mut row = Row {
                fields,
                repairs: raw.repairs,
                ids: &mut state.ids,
                out: writer.encoder(),
                mended: &mut mended,
                loaded_at: state.loaded_at_micros,
            };
            (file.table.read)(&mut row).map(|id| (id, row.repairs))
        });
        match read {
            Ok((id, repairs)) => {
                tally.load(repairs);
                largest_id = largest_id.max(id);
                encoded = writer.hand_on();
            }
            Err(reason) => {
                tally.reject(reason);
                if let Some(rejects) = &mut state.rejects {
                    rejects.write(&file.name, raw.position, reason, raw.raw)?;
                }
            }
        }
        if encoded.is_err() {
            break;
        }
        if tally.rows().is_multiple_of(ROWS_PER_TICK) {
            step.set_position(reader.bytes_read());
        }
    }
    state.ids.seen = Default::default();
    let encoded = encoded.and_then(|()| writer.finish()).ok();
    Ok(FileOutcome {
        state,
        tally,
        largest_id,
        encoded,
    })
}

/// All that follows COPY, up to the swap.
async fn finish_tables(
    conn: &mut PgConnection,
    database_url: &str,
    options: &LoadOptions,
    report: &mut LoadReport,
) -> Result<()> {
    let mut clock = Instant::now();
    let mut phase = |name: &str, step: Step| {
        let seconds = clock.elapsed().as_secs_f64();
        step.finish(&format!("{seconds:.1} s"));
        report.add_phase(name, seconds);
        clock = Instant::now();
    };
    let step = options.progress.spinner("derived rows");
    build::derive(conn).await?;
    phase("derive", step);
    let step = options.progress.spinner("keys and indexes");
    build::index(database_url, options.jobs).await?;
    phase("index", step);
    let step = options.progress.spinner("statistics");
    let tables: Vec<&str> = TABLES.iter().map(|table| table.name).collect();
    build::analyze(conn, database_url, options.jobs, &tables).await?;
    build::attach(conn).await?;
    phase("analyze", step);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Reads bytes as the file of a table, with the first hundred ids of every parent known.
    fn read(table: usize, bytes: &[u8]) -> FileOutcome {
        let dir = tempfile::tempdir().unwrap();
        let table = &TABLES[table];
        let path = dir.path().join(table.files[0]);
        std::fs::write(&path, bytes).unwrap();
        let mut ids = Ids::default();
        for id in 1..=100 {
            ids.products.insert(id);
            ids.characteristics.insert(id + 1000);
            for parents in [
                &mut ids.styles,
                &mut ids.reviews,
                &mut ids.questions,
                &mut ids.answers,
            ] {
                parents.insert(id + 1000, id);
            }
        }
        let state = State {
            ids,
            rejects: None,
            loaded_at_micros: 0,
        };
        let file = DataFile {
            table,
            path,
            name: table.files[0].to_owned(),
            bytes: 0,
        };
        // What so few rows encode to fits the channel.
        let (writer, _sender) = copy::channel();
        let step = Progress::silent().bytes("reading", 0);
        read_file(&file, state, writer, &step).unwrap()
    }

    /// Rows that may well be good, among bytes that are not.
    fn dirty_file() -> impl Strategy<Value = Vec<u8>> {
        let cell = prop_oneof![
            Just("1".to_owned()),
            Just("1001".to_owned()),
            Just("\"https://a.example/1\"".to_owned()),
            Just("true".to_owned()),
            (1..200_u32).prop_map(|number| number.to_string()),
            Just("5".to_owned()),
            Just("2020-01-01".to_owned()),
            "[ -~]{0,8}",
        ];
        let row = prop::collection::vec(cell, 1..13).prop_map(|cells| cells.join(",").into_bytes());
        let noise = prop::collection::vec(any::<u8>(), 0..30);
        let line = prop_oneof![5 => row, 1 => noise];
        prop::collection::vec(line, 0..30).prop_map(|lines| {
            let mut bytes = b"header\n".to_vec();
            bytes.extend(lines.join(&b'\n'));
            bytes
        })
    }

    proptest! {
        #[test]
        fn every_row_of_any_file_is_either_loaded_or_refused(table in 0..TABLES.len(), bytes in dirty_file()) {
            let outcome = read(table, &bytes);
            let counts = outcome.tally.counts();
            prop_assert!(counts.check("any").is_ok());
            prop_assert_eq!(outcome.encoded, Some(counts.loaded));
            prop_assert_eq!(counts.loaded == 0, outcome.largest_id == 0);
        }
    }
}
