//! Copies one file, and what its rows add up to.

use std::{ops::ControlFlow, time::Instant};

use sqlx::{Connection as _, PgConnection};

use crate::{
    copy::{self, CopySender, CopyWriter, Encoder},
    dataset::DataFile,
    error::{Error, Result, database},
    progress::{Progress, Step},
    report::{FileReport, per_second},
    rows::{self, FileOutcome, Sink, State},
    schema::{self, build},
    sums::{Addend, SumTable, Sums},
};

/// Copies one file: a thread reads and encodes while this task sends. What its rows add up to goes out over a connection
/// of its own.
pub(super) async fn copy_file(
    conn: &mut PgConnection,
    sums: Option<(SumTable, PgConnection)>,
    file: DataFile,
    state: State,
    progress: Progress,
) -> Result<(FileReport, State)> {
    let clock = Instant::now();
    let (table, name) = (file.table, file.name.clone());
    let step = progress.bytes(&name, file.bytes);
    let reading_step = step.clone();
    let doing = format!("copying {name}");

    let mut tx = conn.begin().await.map_err(database(&doing))?;
    let (writer, sender) = copy::channel();
    let (writer, summing) = match sums {
        Some((sum_table, conn)) => {
            let (out, sender) = copy::channel();
            let sums = Some(Sums::new(sum_table, out));
            let writer = CopySink { rows: writer, sums };
            (writer, Some((sum_table, conn, sender)))
        }
        None => {
            let sums = None;
            (CopySink { rows: writer, sums }, None)
        }
    };
    let reading = tokio::task::spawn_blocking(move || encode(file, state, writer, &reading_step));
    let storing = store(&mut tx, table.name, table.columns, sender);
    let (stored, summed) = tokio::join!(storing, store_sums(summing));
    let read = reading
        .await
        .map_err(|error| Error::Check(format!("reading {name} ended early: {error}")))?;
    // Either side may have stopped the other. The reader's own error is the cause if it has one.
    let (outcome, encoded) = read?;
    let (stored, summed) = (stored?, summed?);
    let (Some(encoded), Some(stored)) = (encoded, stored) else {
        return Err(Error::Check(format!(
            "{name}: Postgres stopped taking rows"
        )));
    };
    let counts = outcome.tally.counts();
    counts.check(&name)?;
    copy::check_rows(table.name, encoded.rows, stored)?;
    copy::check_rows(table.name, counts.loaded, stored)?;
    copy::check_rows(table.name, encoded.sums, summed)?;
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
        first_rejected: outcome.first_rejected,
        out_of_order: outcome.out_of_order,
        rewritten: false,
        bytes: outcome.bytes,
        seconds,
        rows_per_second,
    };
    Ok((report, outcome.state))
}

/// Fills a table of the load, in the caller's transaction; says with how many rows, or nothing if they did not come to
/// their end. A table that is emptied in the transaction that fills it can be filled without the write-ahead log, if that
/// is minimal, and with rows that are frozen at once.
async fn store(
    conn: &mut PgConnection,
    table: &str,
    columns: &str,
    sender: CopySender,
) -> Result<Option<u64>> {
    let target = format!("{}.{table}", build::NEXT);
    let doing = format!("emptying {target}");
    schema::run(conn, &doing, &format!("truncate {target}")).await?;
    sender.send(conn, &target, columns).await
}

/// Fills a table of sums, if there is one, in a transaction of its own; says with how many.
async fn store_sums(summing: Option<(SumTable, PgConnection, CopySender)>) -> Result<u64> {
    let Some((table, mut conn, sender)) = summing else {
        return Ok(0);
    };
    let doing = format!("filling {}", table.name);
    let mut tx = conn.begin().await.map_err(database(&doing))?;
    let stored = store(&mut tx, table.name, table.columns, sender).await?;
    tx.commit().await.map_err(database(&doing))?;
    conn.close().await.map_err(database(&doing))?;
    Ok(stored.unwrap_or_default())
}

/// Where the rows of one file go, and what they add up to.
struct CopySink {
    rows: CopyWriter,
    sums: Option<Sums<CopyWriter>>,
}

/// How many were encoded.
struct Sent {
    rows: u64,
    sums: u64,
}

impl Sink for CopySink {
    fn encoder(&mut self) -> &mut Encoder {
        self.rows.encoder()
    }

    fn take(&mut self, adds: Option<Addend>) -> Result<ControlFlow<()>> {
        let flow = self.rows.take(None)?;
        match (&mut self.sums, adds) {
            (Some(sums), Some(addend)) if flow.is_continue() => sums.add(addend),
            _ => Ok(flow),
        }
    }
}

/// Reads a file and encodes its rows; says how many, or nothing if Postgres would not take them to
/// the end.
fn encode(
    file: DataFile,
    state: State,
    mut sink: CopySink,
    step: &Step,
) -> Result<(FileOutcome, Option<Sent>)> {
    let outcome = rows::read_file(file, state, &mut sink, step)?;
    if !outcome.is_whole {
        return Ok((outcome, None));
    }
    let sums = match sink.sums {
        Some(sums) => sums.finish()?.map(|out| out.finish().ok()),
        None => Some(Some(0)),
    };
    let sent = match (sink.rows.finish(), sums.flatten()) {
        (Ok(rows), Some(sums)) => Some(Sent { rows, sums }),
        _ => None,
    };
    Ok((outcome, sent))
}
