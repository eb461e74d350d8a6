//! Takes a file of refused rows apart: for each file of the data set one that holds its refused rows
//! under a header, as they were, to be mended and loaded.

use std::{
    collections::{BTreeMap, btree_map::Entry},
    fs::{self, File},
    io::{self, BufRead, BufReader, BufWriter, Write as _},
    path::Path,
};

use memchr::memchr_iter;

use crate::{
    dataset,
    error::{self, Error, Result},
    reader::ROW_BYTES_MAX,
    reject::HEADER,
    tables::Table,
};

/// The longest row of such a file: one of which every byte is a quote, and what stands before it.
const REFUSED_BYTES_MAX: usize = 2 * ROW_BYTES_MAX + 1024;

/// Writes a file for each that refused rows are of, under its usual name.
///
/// # Errors
/// [`Error::Input`] if it is not a file of refused rows; or if a file cannot be read or written.
pub fn run(rejects: &Path, out: &Path) -> Result<()> {
    let unreadable = |source| error::file(rejects)(source);
    let mut source = BufReader::new(File::open(rejects).map_err(unreadable)?);
    fs::create_dir_all(out).map_err(error::file(out))?;
    let mut row = Vec::new();
    read_row(&mut source, &mut row).map_err(unreadable)?;
    if row != HEADER {
        return Err(wrong(rejects, 1));
    }
    let mut files = BTreeMap::new();
    let mut line = 2;
    while read_row(&mut source, &mut row).map_err(unreadable)? {
        let (table, raw) = refused(&row).ok_or_else(|| wrong(rejects, line))?;
        line += 1 + memchr_iter(b'\n', &row).count();
        let path = out.join(table.files[0]);
        let file = match files.entry(table.files[0]) {
            Entry::Occupied(file) => file.into_mut(),
            Entry::Vacant(place) => place.insert(create(&path, table)?),
        };
        file.write_all(&raw)
            .and_then(|()| file.write_all(b"\n"))
            .map_err(error::file(path))?;
    }
    for (name, mut file) in files {
        file.flush().map_err(error::file(out.join(name)))?;
    }
    Ok(())
}

fn wrong(rejects: &Path, line: usize) -> Error {
    Error::Input(vec![format!(
        "{}:{line}: not a row of a file of refused rows",
        rejects.display()
    )])
}

fn create(path: &Path, table: &Table) -> Result<BufWriter<File>> {
    let create = || {
        let mut file = BufWriter::new(File::create(path)?);
        writeln!(file, "{}", table.header.join(","))?;
        io::Result::Ok(file)
    };
    create().map_err(error::file(path))
}

/// Reads a row to a line end outside quotes, without that; says whether there was one.
fn read_row(source: &mut impl BufRead, row: &mut Vec<u8>) -> io::Result<bool> {
    row.clear();
    let mut quotes = 0;
    loop {
        let begin = row.len();
        let bytes = source.read_until(b'\n', row)?;
        quotes += memchr_iter(b'"', &row[begin..]).count();
        let is_whole = quotes.is_multiple_of(2) || row.len() > REFUSED_BYTES_MAX;
        if bytes == 0 || is_whole {
            break;
        }
    }
    let is_there = !row.is_empty();
    for end in [b"\n", b"\r"] {
        if row.ends_with(end) {
            row.pop();
        }
    }
    Ok(is_there)
}

/// The table that a refused row was for, and its text.
fn refused(row: &[u8]) -> Option<(&'static Table, Vec<u8>)> {
    let mut fields = row.splitn(5, |byte| *byte == b',');
    let name = std::str::from_utf8(fields.next()?).ok()?;
    let table = dataset::table_of(name)?;
    let raw = fields.nth(3)?;
    let Some(quoted) = raw.strip_prefix(b"\"") else {
        return Some((table, raw.to_vec()));
    };
    let quoted = quoted.strip_suffix(b"\"")?;
    let mut text = Vec::with_capacity(quoted.len());
    let mut after_quote = false;
    for byte in quoted {
        // The first of two quotes stands for both.
        after_quote = *byte == b'"' && !after_quote;
        if *byte != b'"' || after_quote {
            text.push(*byte);
        }
    }
    Some((table, text))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::reject::{Position, Reason, Reject, RejectFile};
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn refused_rows_come_out_as_they_were(raws in prop::collection::vec(prop::collection::vec(any::<u8>(), 1..40), 1..9)) {
            let dir = tempfile::tempdir().unwrap();
            let (rejects, out) = (dir.path().join("rejects.csv"), dir.path().join("out"));
            let mut file = RejectFile::create(&rejects).unwrap();
            let reject = Reject {
                file: "skus.csv.gz",
                at: Position { line: 1, byte_offset: 2 },
                column: "size",
                reason: Reason::BadInteger,
            };
            for raw in &raws {
                file.write(&reject, raw).unwrap();
            }
            file.flush().unwrap();
            run(&rejects, &out).unwrap();
            let mut expected = b"id,styleId,size,quantity\n".to_vec();
            for raw in &raws {
                expected.extend(raw);
                expected.push(b'\n');
            }
            prop_assert_eq!(fs::read(out.join("skus.csv")).unwrap(), expected);
        }
    }

    #[test]
    fn another_file_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("x.csv");
        for (text, line) in [
            ("", 1),
            ("id,name\n", 1),
            ("file,line,byte_offset,reason,raw\nother.csv,1,2,x,y\n", 2),
            (
                "file,line,byte_offset,reason,raw\nskus.csv,1,2,x,\"a\nb\"\nskus.csv,3\n",
                4,
            ),
        ] {
            fs::write(&path, text).unwrap();
            let error = run(&path, dir.path()).unwrap_err();
            assert_eq!(error.exit_code(), 3, "{text}");
            let place = format!("{}:{line}: ", path.display());
            assert!(error.to_string().starts_with(&place), "{error}");
        }
    }
}
