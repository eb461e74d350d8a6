//! What must hold of any bytes that a file may hold. The fuzzer finds such bytes, and so do the
//! tests on a stable compiler, which include this file too.

use std::{
    io::{self, Cursor, Read},
    ops::ControlFlow,
};

use etl::{
    Result, clean,
    copy::Encoder,
    dataset::DataFile,
    input::Input,
    progress::Progress,
    reader::{Dialect, RawRow, Reader},
    report::FileCounts,
    rows::{self, Sink, State},
    sums::Addend,
    tables::{TABLES, Table},
};

/// Ids below this are those of a parent, of whatever kind.
pub(crate) const PARENTS_END: i32 = 10;
/// A byte order mark, which belongs to no row.
const BOM: &[u8] = b"\xef\xbb\xbf";

/// Reads bytes as a file: the first says of which table, the second in what pieces they come, the
/// rest are its rows.
///
/// # Panics
/// If a byte is lost or read twice, if a row is neither loaded nor refused, if it matters in what
/// pieces the file comes, or if what was loaded is not the same once it has been written clean.
pub(crate) fn check(bytes: &[u8]) {
    let [choice, size, rows @ ..] = bytes else {
        return;
    };
    let table = &TABLES[usize::from(*choice) % TABLES.len()];
    let file = with_header(table, rows);
    let whole = check_reader(table.dialect, &file, file.len());
    let pieces = check_reader(table.dialect, &file, usize::from(*size) + 1);
    assert_eq!(whole, pieces, "it matters how the file is cut");
    // What follows a header begins no file: a byte order mark is text there, and may begin one here.
    check_reader(table.dialect, rows, usize::from(*size) + 1);

    let dirty = load(table, file);
    assert_eq!(dirty.counts.rows + 1, whole.len() as u64);
    let mut clean = Vec::new();
    let mut line = Vec::new();
    for row in &dirty.rows {
        line.clear();
        clean::write_line(row, table.cells, &mut line);
        clean.extend_from_slice(&line);
    }
    let again = load(table, with_header(table, &clean));
    assert!(
        again.rows == dirty.rows,
        "clean rows changed: {}",
        shown(&clean)
    );
    assert_eq!(again.counts.rejected(), 0, "{}", shown(&clean));
    // Times with microseconds are written as text: the files count in milliseconds.
    let mut repaired = again.counts.repaired.keys();
    assert!(
        repaired.all(|code| code == "date_text"),
        "{}",
        shown(&clean)
    );
}

fn shown(bytes: &[u8]) -> String {
    bytes.escape_ascii().to_string()
}

fn with_header(table: &Table, rows: &[u8]) -> Vec<u8> {
    let mut file = table.header.join(",").into_bytes();
    file.push(b'\n');
    file.extend_from_slice(rows);
    file
}

/// Gives its bytes out in pieces, as a pipe may.
struct Pieces<'a> {
    bytes: &'a [u8],
    size: usize,
}

impl Read for Pieces<'_> {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        let size = self.size.min(buf.len()).min(self.bytes.len());
        buf[..size].copy_from_slice(&self.bytes[..size]);
        self.bytes = &self.bytes[size..];
        Ok(size)
    }
}

/// Reads to the end, watching that each byte is of one row or of a line end between two; gives each
/// row as text.
fn check_reader(dialect: Dialect, bytes: &[u8], size: usize) -> Vec<String> {
    let mut reader = Reader::new(Pieces { bytes, size }, dialect).expect("bytes can be read");
    let mut rows = Vec::new();
    let mut at = if bytes.starts_with(BOM) { BOM.len() } else { 0 };
    let is_between = |bytes: &[u8]| bytes.iter().all(|byte| matches!(byte, b'\r' | b'\n'));
    while let Some(row) = reader.next_row().expect("bytes can be read") {
        let start = row.position.byte_offset as usize;
        assert!(
            start >= at && is_between(&bytes[at..start]),
            "before {row:?}"
        );
        assert!(bytes[start..].starts_with(row.raw), "{row:?}");
        let lines = bytes[..start].iter().filter(|byte| **byte == b'\n').count();
        assert_eq!(row.position.line, 1 + lines as u64, "{row:?}");
        at = start + row.raw.len();
        rows.push(text_of(&row));
    }
    assert!(is_between(&bytes[at..]), "behind the last row");
    rows
}

fn text_of(row: &RawRow<'_>) -> String {
    let fields = row.fields.map(|fields| {
        let field = |column| std::str::from_utf8(fields.get(column)).expect("a field is UTF-8");
        (0..fields.len())
            .map(field)
            .collect::<Vec<_>>()
            .join("\u{1f}")
    });
    format!("{:?} {fields:?} {:?}", row.position, row.repairs)
}

/// What a load would send to Postgres.
struct Loaded {
    counts: FileCounts,
    rows: Vec<Vec<u8>>,
}

struct Rows {
    encoder: Encoder,
    rows: Vec<Vec<u8>>,
}

impl Sink for Rows {
    fn encoder(&mut self) -> &mut Encoder {
        &mut self.encoder
    }

    fn take(&mut self, _: Option<Addend>) -> Result<ControlFlow<()>> {
        self.rows.push(self.encoder.block().to_vec());
        self.encoder.clear();
        Ok(ControlFlow::Continue(()))
    }
}

fn load(table: &'static Table, bytes: Vec<u8>) -> Loaded {
    let length = bytes.len() as u64;
    let mut state = State::default();
    let ids = &mut state.ids;
    for id in 1..PARENTS_END {
        ids.products.insert(id);
        ids.characteristics.insert(id);
        for parents in [
            &mut ids.styles,
            &mut ids.reviews,
            &mut ids.questions,
            &mut ids.answers,
        ] {
            parents.insert(id, id);
        }
    }
    let input = Input::of(Cursor::new(bytes)).expect("bytes can be read");
    let file = DataFile::opened(table, table.files[0], input).expect("bytes can be read");
    let mut sink = Rows {
        encoder: Encoder::of_rows(),
        rows: Vec::new(),
    };
    let step = Progress::silent().bytes(table.name, Some(length));
    let outcome = rows::read_file(file, state, &mut sink, &step).expect("no file stops a run");
    let counts = outcome.tally.counts();
    counts.check(table.name).expect("read = loaded + rejected");
    assert!(outcome.is_whole);
    assert_eq!(outcome.bytes, length);
    assert_eq!(counts.loaded, sink.encoder.rows());
    assert_eq!(counts.loaded, sink.rows.len() as u64);
    Loaded {
        counts,
        rows: sink.rows,
    }
}
