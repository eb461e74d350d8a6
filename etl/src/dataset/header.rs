//! The first line of a file: whether it is one we know, and if not, what is wrong with it.

use std::io;

use crate::{input::Input, reader::Reader};

/// What is wrong with the header of a file, if anything is.
pub(super) fn check_header(
    reader: &mut Reader<Input>,
    name: &str,
    headers: &[&[&str]],
) -> io::Result<Option<String>> {
    let header = Header::read(reader)?;
    let is_known = headers
        .iter()
        .any(|expected| is_header(expected, &header.names));
    Ok((!is_known).then(|| header.problem(name, headers[0])))
}

/// The first line of a file.
struct Header {
    /// Its columns; none if it cannot be read as a row.
    names: Vec<String>,
    /// The line as it is, as much of it as is worth showing.
    raw: Vec<u8>,
    /// What the file is likely to be instead.
    hint: &'static str,
}

impl Header {
    fn read(reader: &mut Reader<Input>) -> io::Result<Self> {
        /// More than is shown of it, in any encoding.
        const KEPT: usize = 512;
        let Some(row) = reader.next_row()? else {
            return Ok(Self {
                names: Vec::new(),
                raw: Vec::new(),
                hint: "; the file is empty",
            });
        };
        let names = row.fields.map_or_else(
            |_| Vec::new(),
            |fields| {
                (0..fields.len())
                    .map(|column| String::from_utf8_lossy(fields.get(column)).into_owned())
                    .collect()
            },
        );
        Ok(Self {
            names,
            raw: row.raw[..row.raw.len().min(KEPT)].to_vec(),
            hint: hint(row.raw),
        })
    }

    fn problem(&self, name: &str, expected: &[&str]) -> String {
        /// What of a header is shown: it may be anything.
        const SHOWN_CHARS: usize = 80;
        let text = String::from_utf8_lossy(&self.raw);
        let mut escaped = text.chars().flat_map(char::escape_debug);
        let shown: String = escaped.by_ref().take(SHOWN_CHARS).collect();
        let more = if escaped.next().is_some() { "..." } else { "" };
        let (column, difference) = self.first_difference(expected);
        format!(
            "{name}:1: {column}bad_header: should be {} and is {shown}{more}{difference}{}",
            expected.join(","),
            self.hint
        )
    }

    /// Where it leaves what it should be, if it can be read as a row at all: the column that should
    /// be there, and how it does.
    fn first_difference(&self, expected: &[&str]) -> (String, String) {
        let (found, wanted) = (self.names.len(), expected.len());
        if self.names.is_empty() || !self.hint.is_empty() {
            return Default::default();
        }
        let mut columns = expected.iter().zip(&self.names);
        let differing = columns.position(|(expected, found)| plain(expected) != plain(found));
        let column = expected.get(differing.unwrap_or(found));
        let difference = match differing {
            Some(at) => format!(": column {} is not {}", at + 1, expected[at]),
            None => format!(": it has {found} columns, not {wanted}"),
        };
        let column = column.map(|name| format!("column {name}: "));
        (column.unwrap_or_default(), difference)
    }
}

/// What a file is likely to be whose header is `raw`.
fn hint(raw: &[u8]) -> &'static str {
    if raw.starts_with(b"\xff\xfe") || raw.starts_with(b"\xfe\xff") || raw.contains(&0) {
        "; it looks like UTF-16: convert it to UTF-8, for instance with iconv -f UTF-16 -t UTF-8"
    } else if raw.contains(&b'\r') {
        "; its lines end in lone carriage returns: convert them, for instance with tr '\\r' '\\n'"
    } else if std::str::from_utf8(raw).is_err() {
        "; it is not UTF-8"
    } else {
        ""
    }
}

/// Columns bind by position; names only have to be those of that position, in any case, in
/// camelCase or `snake_case`.
fn is_header(expected: &[&str], found: &[String]) -> bool {
    expected.len() == found.len()
        && expected
            .iter()
            .zip(found)
            .all(|(expected, found)| plain(expected) == plain(found))
}

/// A name without what may differ.
fn plain(name: &str) -> Vec<u8> {
    let letters = name.trim().bytes().filter(|byte| *byte != b'_');
    letters.map(|byte| byte.to_ascii_lowercase()).collect()
}
