//! Loads a data set: files to fresh tables, keys and derived rows, one swap.

mod file;

use std::{
    path::PathBuf,
    time::{Instant, SystemTime},
};

use chrono::{DateTime, Utc};
use clap::ValueEnum;
use sqlx::{Connection as _, PgConnection};

use crate::{
    dataset::{DataFile, DataSet, Sources},
    error::{Error, Result},
    field::EPOCH_2000,
    merge,
    progress::{Progress, Step},
    purge::{Gateways, Order},
    reject::{RejectCount, RejectFile, RejectLimit},
    report::LoadReport,
    rows::State,
    schema::{self, Jobs, build, owed, post_data::PostData, swap, writes},
    sums,
    tables::{TABLES, release_before},
};

/// What becomes of the rows that are live.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, ValueEnum)]
pub enum Mode {
    /// Those of the files take their place.
    #[default]
    Replace,
    /// Those of the files are added to them; a row whose id is taken is refused.
    Merge,
}

/// What to load, and how.
#[derive(Debug, Clone)]
pub struct LoadOptions {
    /// Where the files are.
    pub sources: Sources,
    /// What becomes of the rows that are live.
    pub mode: Mode,
    /// Where refused rows are written, if anywhere.
    pub rejects: Option<PathBuf>,
    /// How many rows may be refused; any number if it is not said.
    pub max_rejects: Option<RejectLimit>,
    /// Whether changes of the live tables since the last load may be lost.
    pub discard_writes: bool,
    /// When products came to be, if not when the newest file was changed.
    pub loaded_at: Option<SystemTime>,
    /// Connections that build indexes, and their memory.
    pub jobs: Jobs,
    /// Gateways that are purged once the rows are in place.
    pub gateways: Option<Gateways>,
    /// How progress is shown.
    pub progress: Progress,
}

/// A load on its way: what its steps share.
#[derive(Debug)]
pub(crate) struct Run<'a> {
    /// The connection that holds the lock of loads, keeps changes out, and copies.
    pub(crate) conn: PgConnection,
    /// Where further connections go.
    pub(crate) database_url: &'a str,
    /// What was asked for.
    pub(crate) options: &'a LoadOptions,
    /// What has been done so far.
    pub(crate) report: LoadReport,
    /// A load before this one was to purge the gateways, and they have not all answered since.
    owes_purge: bool,
}

/// Loads the data set into fresh tables and puts them in the place of the live ones.
///
/// # Errors
/// Whatever stops the run: the live tables are then as they were.
pub async fn run(database_url: &str, options: &LoadOptions) -> Result<LoadReport> {
    let started = Instant::now();
    let set = DataSet::look(&options.sources).await;
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
    let loaded_at = options.loaded_at.unwrap_or(set.modified_at);
    let mut run = Run {
        conn,
        database_url,
        options,
        report: LoadReport::of(&set, loaded_at),
        owes_purge: false,
    };
    let state = State {
        rejects,
        rejected: RejectCount::new(options.max_rejects),
        loaded_at_micros: micros(loaded_at),
        ..State::default()
    };
    if options.mode == Mode::Replace {
        check_missing(&mut run.conn, &set).await?;
    }
    run.catch_up().await?;
    writes::hold(&mut run.conn).await?;
    let outcome = match options.mode {
        Mode::Merge => Box::pin(merge::run(&mut run, set, state)).await,
        Mode::Replace => Box::pin(replace(&mut run, set, state)).await,
    };
    if outcome.is_err() {
        tidy(&mut run.conn).await;
    }
    outcome?;
    run.report.seconds = started.elapsed().as_secs_f64();
    Ok(run.end().await)
}

impl Run<'_> {
    /// Copies one file and adds it to the report.
    pub(crate) async fn copy_file(&mut self, file: DataFile, state: State) -> Result<State> {
        let name = file.name.clone();
        // Rows that are added to others are counted with those.
        let sums = sums::of(file.table.name).filter(|_| self.options.mode == Mode::Replace);
        let sums = match sums {
            Some(table) => Some((table, schema::connect(self.database_url).await?)),
            None => None,
        };
        let copying = file::copy_file(&mut self.conn, sums, file, state, self.options.progress);
        let (file_report, state) = copying.await?;
        self.report.add_file(&name, file_report);
        Ok(state)
    }

    /// The rows are in place, and nothing can make a failure of it any more: purges the gateways of what
    /// was before, then lets changes in again.
    pub(crate) async fn in_place(&mut self, order: &Order) {
        self.report.swapped_at = Some(Utc::now());
        let everything = Order::All(true);
        // What was owed is more than the groups of this load.
        let order = if self.owes_purge { &everything } else { order };
        self.purge(order).await;
        if let Err(error) = writes::release(&mut self.conn).await {
            tracing::warn!("{error}");
        }
    }

    /// Reports a step that has ended, and begins to measure the next one.
    fn end_phase(&mut self, name: &str, clock: &mut Instant, step: Step) {
        let seconds = clock.elapsed().as_secs_f64();
        step.finish(&format!("{seconds:.1} s"));
        self.report.add_phase(name, seconds);
        *clock = Instant::now();
    }

    /// Whether there is any gateway to purge.
    pub(crate) fn has_gateways(&self) -> bool {
        self.options.gateways.is_some()
    }

    /// Does what a load that was stopped behind its commit has left. Before all else, as this one may
    /// fail for its own reasons: each of its rows may be refused as live, and too many be refused.
    async fn catch_up(&mut self) -> Result<()> {
        let owed = owed::find(&mut self.conn).await?;
        if owed.purge {
            self.owes_purge = true;
            self.purge(&Order::All(true)).await;
            if !self.has_gateways() {
                tracing::warn!(
                    "an earlier load was to purge gateways, and they may still hold what was before it: \
                     a load with --purge purges them"
                );
            }
        }
        if owed.statistics {
            let tables = TABLES.iter().map(|table| table.name).collect();
            let analyzing = build::analyze_live(self.database_url, self.options.jobs, &tables);
            // Tables of an older version may lack one, and a load is what renews them.
            match analyzing.await {
                Ok(()) => owed::analyzed(&mut self.conn).await?,
                Err(error) => tracing::warn!("{error}"),
            }
        }
        Ok(())
    }

    /// Purges the gateways, if there are any, and writes down that nothing is owed any more once all have
    /// answered.
    async fn purge(&mut self, order: &Order) {
        let Some(gateways) = &self.options.gateways else {
            return;
        };
        if !order.is_empty() {
            self.report.purges = gateways.purge(order).await;
            self.report.purged_at = Some(Utc::now());
            if self.report.purges.iter().any(|purge| purge.error.is_some()) {
                return;
            }
        }
        self.owes_purge = false;
        if let Err(error) = owed::purged(&mut self.conn).await {
            tracing::warn!("{error}");
        }
    }

    /// Lets other loads in.
    async fn end(mut self) -> LoadReport {
        if let Err(error) = schema::unlock(&mut self.conn).await {
            tracing::warn!("{error}");
        }
        drop(self.conn.close().await);
        self.report
    }
}

/// Removes the tables of a load that has failed, if the database still answers: where the disk is
/// full, the shop that is live needs the room. The next run would remove them too.
async fn tidy(conn: &mut PgConnection) {
    match build::drop_next(conn).await {
        Ok(true) => {}
        Ok(false) => tracing::warn!("schema {} is in use and was left", build::NEXT),
        Err(error) => tracing::warn!("schema {} was left: {error}", build::NEXT),
    }
}

/// Fills fresh tables and puts them in the place of the live ones.
async fn replace(run: &mut Run<'_>, set: DataSet, state: State) -> Result<()> {
    let started = Instant::now();
    let changes_known = check_writes(&mut run.conn, run.options.discard_writes).await?;
    remove_old(&mut run.conn).await?;
    build::create_tables(&mut run.conn).await?;
    build::create_sums(&mut run.conn).await?;
    fill(run, set, state).await?;
    finish_tables(run).await?;
    let clock = Instant::now();
    run.report.seconds = started.elapsed().as_secs_f64();
    let (report, owes_purge) = (run.report.to_json(), run.has_gateways());
    swap::swap(&mut run.conn, &report, changes_known, owes_purge).await?;
    run.in_place(&Order::All(true)).await;
    // The load is done: tables that somebody still reads are removed by the next run at the latest.
    let is_removed = build::drop_old(&mut run.conn).await.unwrap_or(false);
    if !is_removed {
        tracing::warn!(
            "the tables before this load are still being read and were left in schema shop_old"
        );
    }
    run.report.add_phase("swap", clock.elapsed().as_secs_f64());
    Ok(())
}

/// Microseconds since 2000, from which Postgres counts; in whole milliseconds, as the API shows them.
pub(crate) fn micros(time: SystemTime) -> i64 {
    DateTime::<Utc>::from(time).timestamp_millis() * 1000 - EPOCH_2000
}

/// How many changes have been told so far, unless any may be lost: those since the last load keep
/// this one from beginning.
async fn check_writes(conn: &mut PgConnection, discard_writes: bool) -> Result<Option<i64>> {
    if discard_writes {
        return Ok(None);
    }
    let changes = writes::changes(conn).await?;
    let since = changes - writes::changes_at_last_load(conn).await?;
    if since > 0 {
        return Err(Error::LiveWrites(since));
    }
    Ok(Some(changes))
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

/// Fills the tables and builds what follows from them, that of one beside the COPY of the next.
async fn fill(run: &mut Run<'_>, set: DataSet, state: State) -> Result<()> {
    let post_data = PostData::of_load(run.options.jobs)?;
    let building = post_data.build(run.database_url);
    let mut clock = Instant::now();
    let filling = async {
        let post_data = copy_files(run, set, state, post_data).await?;
        let step = run
            .options
            .progress
            .spinner("derived rows, keys and indexes");
        clock = Instant::now();
        post_data.finish(run.database_url).await?;
        Ok::<Step, Error>(step)
    };
    // Each of them ends once the other has failed. COPY is not cut short: the connection is needed to remove the tables.
    let (filled, built) = tokio::join!(filling, building);
    built?;
    let step = filled?;
    build::drop_sums(&mut run.conn).await?;
    run.end_phase("index", &mut clock, step);
    Ok(())
}

async fn copy_files(
    run: &mut Run<'_>,
    set: DataSet,
    mut state: State,
    mut post_data: PostData,
) -> Result<PostData> {
    let clock = Instant::now();
    for file in set.files {
        let table = file.table;
        release_before(table, &mut state.ids);
        state = run.copy_file(file, state).await?;
        post_data.add(table, run.report.mark_scattered(table))?;
    }
    finish_rejects(&mut state, run.report.rows)?;
    run.report.add_phase("copy", clock.elapsed().as_secs_f64());
    Ok(post_data)
}

/// All that follows, up to the swap.
async fn finish_tables(run: &mut Run<'_>) -> Result<()> {
    let (url, jobs, progress) = (run.database_url, run.options.jobs, run.options.progress);
    let mut clock = Instant::now();
    let step = progress.spinner("statistics");
    let scattered = run.report.scattered();
    build::analyze(&mut run.conn, url, jobs, &scattered).await?;
    run.end_phase("analyze", &mut clock, step);
    let step = progress.spinner("references");
    build::refer(url, jobs).await?;
    build::attach(&mut run.conn).await?;
    run.end_phase("references", &mut clock, step);
    Ok(())
}

/// Once all files have been read: writes what is held back of the refused rows, and compares their
/// share.
pub(crate) fn finish_rejects(state: &mut State, rows: u64) -> Result<()> {
    if let Some(rejects) = &mut state.rejects {
        rejects.flush()?;
    }
    state.rejected.finish(rows)
}
