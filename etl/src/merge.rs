//! Adds a data set to what is live: ids are kept, a row whose id is taken is refused, and children
//! may belong to live rows.

use std::{collections::BTreeSet, time::Instant};

use sqlx::PgConnection;

use crate::{
    dataset::DataSet,
    error::Result,
    ids::Ids,
    load::{self, Run},
    purge::Order,
    rows::State,
    schema::{build, merge, owed, shape},
    tables::{TABLES, Table},
};

/// Copies the files into tables of their own, then adds their rows to the live ones in one
/// transaction.
///
/// # Errors
/// Whatever stops the run: the live tables are then as they were.
pub(crate) async fn run(run: &mut Run<'_>, set: DataSet, state: State) -> Result<()> {
    let mut clock = Instant::now();
    build::create_tables(&mut run.conn).await?;
    shape::check(&mut run.conn).await?;
    let copied = copy_files(run, set, state).await?;
    run.report.add_phase("copy", clock.elapsed().as_secs_f64());
    clock = Instant::now();
    let step = run.options.progress.spinner("adding rows");
    // The report that is written down cannot tell how long that took.
    let (report, owes_purge) = (run.report.to_json(), run.has_gateways());
    let groups = merge::add(&mut run.conn, &report, &copied, owes_purge).await?;
    run.in_place(&Order::of(groups)).await;
    let seconds = clock.elapsed().as_secs_f64();
    step.finish(&format!("{seconds:.1} s"));
    run.report.add_phase("add", seconds);
    // The rows are in: nothing makes a failure of it any more.
    let tidied = async {
        build::drop_next(&mut run.conn).await?;
        build::analyze_live(run.database_url, run.options.jobs, &copied).await?;
        owed::analyzed(&mut run.conn).await
    };
    if let Err(error) = tidied.await {
        tracing::warn!("{error}");
    }
    Ok(())
}

/// Copies each file with the ids of its live table known; gives the tables that got rows.
async fn copy_files(
    run: &mut Run<'_>,
    set: DataSet,
    mut state: State,
) -> Result<BTreeSet<&'static str>> {
    let mut copied = BTreeSet::new();
    let mut files = set.files;
    for table in &TABLES {
        let at = files
            .iter()
            .position(|file| std::ptr::eq(file.table, table));
        let is_parent = know_parents(&mut run.conn, table, &mut state.ids).await?;
        if let Some(at) = at {
            let file = files.remove(at);
            let State { ids, live, .. } = &mut state;
            merge::live_ids(&mut run.conn, table.name, None, |id, _| {
                live.insert(id);
                if !is_parent {
                    ids.seen.insert(id);
                }
            })
            .await?;
            let loaded_before = run.report.loaded;
            state = run.copy_file(file, state).await?;
            if run.report.loaded > loaded_before {
                copied.insert(table.name);
            }
            state.live = Default::default();
        }
        (table.release)(&mut state.ids);
    }
    load::finish_rejects(&mut state, run.report.rows)?;
    Ok(copied)
}

/// Reads the ids of a live table that later ones refer to; says whether it is one.
async fn know_parents(conn: &mut PgConnection, table: &Table, ids: &mut Ids) -> Result<bool> {
    let Ids {
        products,
        styles,
        reviews,
        characteristics,
        questions,
        answers,
        ..
    } = ids;
    let (map, owner) = match table.name {
        "products" | "characteristics" => {
            let set = if table.name == "products" {
                products
            } else {
                characteristics
            };
            merge::live_ids(conn, table.name, None, |id, _| {
                set.insert(id);
            })
            .await?;
            return Ok(true);
        }
        "styles" => (styles, "product_id"),
        "reviews" => (reviews, "product_id"),
        "questions" => (questions, "product_id"),
        "answers" => (answers, "question_id"),
        _ => return Ok(false),
    };
    merge::live_ids(conn, table.name, Some(owner), |id, owner| {
        map.insert(id, owner);
    })
    .await?;
    Ok(true)
}
