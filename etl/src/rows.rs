//! One pass over a file: each row is encoded for a sink, or counted and written down as refused.

use std::{collections::BTreeMap, ops::ControlFlow, sync::atomic::Ordering};

use crate::{
    copy::Encoder,
    dataset::DataFile,
    error::{self, Result},
    field,
    ids::{IdSet, Ids},
    layout::Layout,
    progress::Step,
    reject::{Fault, Reason, Reject, RejectCount, RejectFile, Repair},
    report::Tally,
    sums::Addend,
    tables::Row,
};

/// Rows between two looks at the clock and the progress bar.
const ROWS_PER_TICK: u64 = 4096;

/// Where rows go that nothing is wrong with.
pub trait Sink {
    /// Where the next row is encoded.
    fn encoder(&mut self) -> &mut Encoder;

    /// Takes what has been encoded, when it likes, and what the last row adds to a derived one; `Break` if it wants no
    /// more of it.
    ///
    /// # Errors
    /// If it cannot be stored.
    fn take(&mut self, adds: Option<Addend>) -> Result<ControlFlow<()>>;
}

/// What goes from file to file.
#[derive(Debug, Default)]
pub struct State {
    /// What the files before hold, and what the live tables hold if rows are added to them.
    pub ids: Ids,
    /// The ids of the table as it is live, if rows are added to it.
    pub live: IdSet,
    /// Where refused rows are written.
    pub rejects: Option<RejectFile>,
    /// How many there are, and may be.
    pub rejected: RejectCount,
    /// When products came to be, in microseconds since 2000.
    pub loaded_at_micros: i64,
}

/// What was found in one file.
#[derive(Debug)]
pub struct FileOutcome {
    /// What goes on to the next.
    pub state: State,
    /// Its rows.
    pub tally: Tally,
    /// The first row that was refused for each reason and column, as people are told of it.
    pub first_rejected: Vec<String>,
    /// The largest id that was encoded; 0 if none was.
    pub largest_id: i32,
    /// Rows that lie apart from those that they are read with.
    pub out_of_order: u64,
    /// Its length, decompressed.
    pub bytes: u64,
    /// Whether the sink took it to its end.
    pub is_whole: bool,
}

/// Reads a file to its end.
///
/// # Errors
/// If it cannot be read, if too many rows are refused, or if the sink fails.
pub fn read_file(
    file: DataFile,
    mut state: State,
    sink: &mut impl Sink,
    step: &Step,
) -> Result<FileOutcome> {
    let (table, name, path) = (file.table, file.name.clone(), file.path.clone());
    let unreadable = |source| error::file(&path)(source);
    let mut reader = file.open().map_err(unreadable)?;
    let taken = reader.source().taken();
    let mut tally = Tally::default();
    let mut first_rejected = BTreeMap::new();
    let mut largest_id = 0;
    let mut layout = Layout::default();
    let mut mended = [Vec::new(), Vec::new()];
    let mut flow = ControlFlow::Continue(());
    if reader.has_bom() {
        tally.repair_file(Repair::Bom);
    }
    while let Some(raw) = reader.next_row().map_err(unreadable)? {
        let encoded_before = sink.encoder().block().len();
        let read = raw.fields.and_then(|fields| {
            let mut row = Row {
                fields,
                repairs: raw.repairs,
                ids: &mut state.ids,
                out: sink.encoder(),
                adds: None,
                mended: &mut mended,
                loaded_at: state.loaded_at_micros,
            };
            match (table.read)(&mut row) {
                Ok(encoded) => Ok((encoded, row.repairs, row.adds)),
                Err(fault) => Err(named(fault, fields.get(0), &state.live)),
            }
        });
        match read {
            Ok((encoded, repairs, adds)) => {
                tally.load(repairs);
                largest_id = largest_id.max(encoded.id);
                if table.order.is_some() {
                    let bytes = sink.encoder().block().len() - encoded_before;
                    layout.add(encoded.read_with, bytes);
                }
                flow = sink.take(adds)?;
            }
            Err(fault) => {
                tally.reject(fault.reason);
                let reject = Reject::new(&name, raw.position, fault, table.header);
                if let Some(rejects) = &mut state.rejects {
                    rejects.write(&reject, raw.raw)?;
                }
                state.rejected.add(&reject)?;
                let kind = (fault.reason as usize, fault.column);
                first_rejected
                    .entry(kind)
                    .or_insert_with(|| reject.to_string());
            }
        }
        if flow.is_break() {
            break;
        }
        if tally.rows().is_multiple_of(ROWS_PER_TICK) {
            step.set_position(taken.load(Ordering::Relaxed));
        }
    }
    state.ids.seen = IdSet::default();
    Ok(FileOutcome {
        state,
        tally,
        first_rejected: first_rejected.into_values().collect(),
        largest_id,
        out_of_order: layout.out_of_order(),
        bytes: reader.bytes_read(),
        is_whole: flow.is_continue(),
    })
}

/// A repeated id has a reason of its own if it is a live row that has it.
fn named(fault: Fault, id: &[u8], live: &IdSet) -> Fault {
    let is_live = || field::id(id).is_ok_and(|id| live.contains(id));
    let reason = if fault.reason == Reason::DuplicateId && is_live() {
        Reason::LiveId
    } else {
        fault.reason
    };
    Fault { reason, ..fault }
}

#[cfg(test)]
mod tests {
    use std::io::Cursor;

    use proptest::prelude::*;

    use super::*;
    use crate::{input::Input, progress::Progress, tables::TABLES};

    /// Counts rows and forgets them.
    #[derive(Default)]
    struct Counter {
        encoder: Encoder,
    }

    impl Sink for Counter {
        fn encoder(&mut self) -> &mut Encoder {
            &mut self.encoder
        }

        fn take(&mut self, _: Option<Addend>) -> Result<ControlFlow<()>> {
            Ok(ControlFlow::Continue(()))
        }
    }

    /// Reads bytes as the file of a table, with the first hundred ids of every parent known; gives
    /// the rows encoded too.
    fn read(table: usize, bytes: &[u8]) -> (FileOutcome, u64) {
        let table = &TABLES[table];
        let mut state = State::default();
        let ids = &mut state.ids;
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
        let input = Input::of(Cursor::new(bytes.to_vec())).unwrap();
        let file = DataFile::opened(table, table.files[0], input).unwrap();
        let mut sink = Counter::default();
        let step = Progress::silent().bytes("reading", Some(0));
        let outcome = read_file(file, state, &mut sink, &step).unwrap();
        (outcome, sink.encoder.rows())
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
            let (outcome, encoded) = read(table, &bytes);
            let counts = outcome.tally.counts();
            prop_assert!(counts.check("any").is_ok());
            prop_assert!(outcome.is_whole);
            prop_assert_eq!(outcome.bytes, bytes.len() as u64);
            prop_assert_eq!(encoded, counts.loaded);
            prop_assert_eq!(counts.loaded == 0, outcome.largest_id == 0);
        }
    }
}
