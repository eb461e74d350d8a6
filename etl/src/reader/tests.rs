use std::io::Cursor;

use proptest::prelude::*;

use super::*;

/// Gives its bytes out in pieces of a fixed size, as a pipe may.
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

#[derive(Debug, Clone, PartialEq, Eq)]
struct Owned {
    line: u64,
    offset: u64,
    raw: Vec<u8>,
    repairs: Repairs,
    fields: Result<Vec<String>, Reason>,
}

fn read(bytes: &[u8], dialect: Dialect) -> Vec<Owned> {
    read_from(Cursor::new(bytes), dialect)
}

fn read_from(source: impl Read, dialect: Dialect) -> Vec<Owned> {
    let mut reader = Reader::new(source, dialect).unwrap();
    let mut rows = Vec::new();
    while let Some(row) = reader.next_row().unwrap() {
        let text = |fields: Fields<'_>| {
            let field = |column| String::from_utf8(fields.get(column).to_vec()).unwrap();
            (0..fields.len()).map(field).collect()
        };
        rows.push(Owned {
            line: row.position.line,
            offset: row.position.byte_offset,
            raw: row.raw.to_vec(),
            repairs: row.repairs,
            fields: row.fields.map(text).map_err(|fault| fault.reason),
        });
    }
    rows
}

/// The fields of the rows, or the codes for which they are refused.
fn outcomes(bytes: &[u8], dialect: Dialect) -> Vec<Result<Vec<String>, Reason>> {
    read(bytes, dialect)
        .into_iter()
        .map(|row| row.fields)
        .collect()
}

fn good(fields: &[&str]) -> Result<Vec<String>, Reason> {
    Ok(fields.iter().map(|field| (*field).to_owned()).collect())
}

fn repairs_of(row: &Owned) -> Vec<&'static str> {
    Repair::ALL
        .iter()
        .filter(|repair| row.repairs.contains(**repair))
        .map(|repair| repair.code())
        .collect()
}

#[test]
fn fields_are_told_apart_as_csv_says() {
    let cases: [(&[u8], &[&str]); 18] = [
        (b"1,two,3", &["1", "two", "3"]),
        (b"1,\"two\",3\n", &["1", "two", "3"]),
        (b"1,\"a, b\",3\n", &["1", "a, b", "3"]),
        (b"\"a\nb\",\"\"\n", &["a\nb", ""]),
        (b"\"say \"\"hi\"\"\",x\n", &["say \"hi\"", "x"]),
        (b"\"\"\"wrapped\"\"\",x\n", &["\"wrapped\"", "x"]),
        (b",,\n", &["", "", ""]),
        (b"it's,#5,caf\xc3\xa9\n", &["it's", "#5", "caf\u{e9}"]),
        // A quote within a field is text, and text behind a closing quote makes text of all.
        (b"5\" wide,\"a\"b,c\n", &["5\" wide", "\"a\"b", "c"]),
        (
            b"\"x\" y, \"a, \"\"b\"\"\" c \n",
            &["\"x\" y", "\"a, \"\"b\"\"\" c"],
        ),
        (
            b"1,\"default_price\": 99\n",
            &["1", "\"default_price\": 99"],
        ),
        (b"1,\"a\"\r,b\r\n", &["1", "\"a\"\r", "b"]),
        // Spaces round a field are not part of it.
        (b"9,1,\"S\", 7 \n", &["9", "1", "S", "7"]),
        (b"1 ,\"sp\" ,\" in \" \r\n", &["1", "sp", " in "]),
        (b"1,  ,\"\"\"q\"\"\" \n", &["1", "", "\"q\""]),
        (b"1, \"a, b\",  c\r\n", &["1", "a, b", "c"]),
        (b"1,\"a\rb\",c\r\n", &["1", "a\rb", "c"]),
        (b"\"\"\"\"\n", &["\""]),
    ];
    for (bytes, fields) in cases {
        assert_eq!(
            outcomes(bytes, Dialect::Quoted),
            [good(fields)],
            "{}",
            String::from_utf8_lossy(bytes)
        );
    }
}

#[test]
fn positions_are_those_of_the_first_byte_of_each_row() {
    let bytes = b"\xef\xbb\xbfid,b\r\n1,\"x\ny\"\n\n\r\n2,z\n3,\"\"\"\"";
    let rows = read(bytes, Dialect::Quoted);
    let at: Vec<_> = rows.iter().map(|row| (row.line, row.offset)).collect();
    assert_eq!(at, [(1, 3), (2, 9), (6, 20), (7, 24)]);
    for row in &rows {
        assert!(bytes[row.offset as usize..].starts_with(&row.raw));
    }
}

#[test]
fn blank_lines_are_no_rows() {
    for bytes in [
        b"".as_slice(),
        b"\n",
        b"\r\n",
        b"\n\n\r\n\r",
        b"\xef\xbb\xbf",
        b"\xef\xbb\xbf\n",
    ] {
        assert_eq!(outcomes(bytes, Dialect::Quoted), [], "{bytes:?}");
        assert_eq!(outcomes(bytes, Dialect::Lines), [], "{bytes:?}");
    }
}

#[test]
fn repairs_of_a_row_are_told_once_each() {
    let rows = read(
        b"1, a,  b\r\n2,c,d\n3,\0e\0,f\n4,\0 \"g\0\"\0\"\",h\n\"5\"\0,i,j\r\n",
        Dialect::Quoted,
    );
    let repairs: Vec<_> = rows.iter().map(repairs_of).collect();
    let expected: [&[&str]; 5] = [
        &["crlf", "leading_space"],
        &[],
        &["nul_removed"],
        &["nul_removed", "leading_space"],
        &["crlf", "nul_removed"],
    ];
    assert_eq!(repairs, expected);
    assert_eq!(rows[2].fields, good(&["3", "e", "f"]));
    assert_eq!(rows[4].fields, good(&["5", "i", "j"]));
    // A space before a comma or a line end has no code.
    assert!(
        read(b"1 ,\"a\" ,b \n", Dialect::Quoted)[0]
            .repairs
            .is_empty()
    );
}

#[test]
fn a_line_with_an_odd_number_of_quotes_gets_one_more() {
    let rows = read(
        b"1,\"a\",\"b\n2,\"c\",\"d\"\n3,\"e\",\"f\r\n4,\"g,h",
        Dialect::Lines,
    );
    let fields: Vec<_> = rows.iter().map(|row| row.fields.clone()).collect();
    assert_eq!(
        fields,
        [
            good(&["1", "a", "b"]),
            good(&["2", "c", "d"]),
            good(&["3", "e", "f"]),
            good(&["4", "g,h"])
        ]
    );
    let repairs: Vec<_> = rows.iter().map(repairs_of).collect();
    let expected: [&[&str]; 4] = [
        &["unclosed_quote"],
        &[],
        &["crlf", "unclosed_quote"],
        &["unclosed_quote"],
    ];
    assert_eq!(repairs, expected);
    assert_eq!(rows[2].raw, b"3,\"e\",\"f");
}

#[test]
fn lines_with_quotes_in_odd_places_are_still_one_row_each() {
    let bytes = b"1,a\"b,\"c\"\n2,a\"b,\"c\n3,\"\n4,x\"\n";
    let expected = [
        good(&["1", "a\"b", "c"]),
        good(&["2", "a\"b", "c"]),
        good(&["3", ""]),
        good(&["4", "x\"\""]),
    ];
    assert_eq!(outcomes(bytes, Dialect::Lines), expected);
}

#[test]
fn a_quote_that_is_never_closed_costs_its_line_only() {
    let expected = [
        good(&["1", "a"]),
        Err(Reason::BadQuote),
        good(&["3", "c"]),
        good(&["4", "d"]),
    ];
    assert_eq!(
        outcomes(b"1,a\n2,\"b\n3,c\n4,d\n", Dialect::Quoted),
        expected
    );
    // As well when more than the limit follows it.
    let mut long = b"1,a\n2,\"b\n".to_vec();
    let follow = QUOTED_BYTES_MAX / 4 + 100;
    long.extend(b"3,c\n".repeat(follow));
    let rows = read(&long, Dialect::Quoted);
    assert_eq!(rows.len(), 2 + follow);
    assert_eq!(
        (rows[1].fields.clone(), rows[1].raw.as_slice()),
        (Err(Reason::BadQuote), b"2,\"b".as_slice())
    );
    assert_eq!((rows[2].line, rows[2].offset), (3, 9));
    assert_eq!(rows[2].fields, good(&["3", "c"]));
}

#[test]
fn a_quoted_field_may_be_as_long_as_its_limit_and_no_longer() {
    for (length, is_good) in [(QUOTED_BYTES_MAX, true), (QUOTED_BYTES_MAX + 1, false)] {
        let text = "x".repeat(length);
        let rows = read(format!("1,\"{text}\"\n2,b\n").as_bytes(), Dialect::Quoted);
        assert_eq!(rows.len(), 2);
        let expected = if is_good {
            good(&["1", &text])
        } else {
            Err(Reason::BadQuote)
        };
        assert!(rows[0].fields == expected, "{length}");
        assert_eq!(rows[1].fields, good(&["2", "b"]));
    }
}

#[test]
fn a_row_that_is_too_long_is_passed_over() {
    for dialect in [Dialect::Quoted, Dialect::Lines] {
        let mut bytes = b"1,".to_vec();
        bytes.resize(ROW_BYTES_MAX + 3 * BLOCK_BYTES, b'x');
        bytes.extend_from_slice(b"\n2,b\n");
        let rows = read(&bytes, dialect);
        assert_eq!(rows.len(), 2);
        assert_eq!(
            (&rows[0].fields, rows[0].raw.len()),
            (&Err(Reason::RowTooLong), LONG_ROW_KEPT)
        );
        assert_eq!((rows[1].line, rows[1].offset), (2, bytes.len() as u64 - 4));
        assert_eq!(rows[1].fields, good(&["2", "b"]));
    }
}

#[test]
fn far_too_many_columns_cost_a_line_and_not_the_file() {
    let bytes = format!("{}\n1,a\n", ",".repeat(1000));
    assert_eq!(
        outcomes(bytes.as_bytes(), Dialect::Quoted),
        [Err(Reason::ColumnCount), good(&["1", "a"])]
    );
    assert_eq!(
        outcomes(bytes.as_bytes(), Dialect::Lines),
        [Err(Reason::ColumnCount), good(&["1", "a"])]
    );
}

#[test]
fn bytes_that_are_not_utf8_are_refused_and_kept() {
    let rows = read(b"1,\xff\n2,b\n3,\xc3\n", Dialect::Quoted);
    let fields: Vec<_> = rows.iter().map(|row| row.fields.clone()).collect();
    assert_eq!(
        fields,
        [
            Err(Reason::InvalidUtf8),
            good(&["2", "b"]),
            Err(Reason::InvalidUtf8)
        ]
    );
    assert_eq!(rows[0].raw, b"1,\xff");
}

#[test]
fn the_field_that_cannot_be_read_is_known() {
    let columns = |bytes: &[u8], dialect| {
        let mut reader = Reader::new(Cursor::new(bytes.to_vec()), dialect).unwrap();
        let mut columns = Vec::new();
        while let Some(row) = reader.next_row().unwrap() {
            columns.push(row.fields.err().map(|fault| fault.column));
        }
        columns
    };
    let bytes = b"\xff,a\n1,\"x\xff\",c\n1,\"\"\"\",\"\"\"\xff\"\n1,a,\"b\n1,2\n";
    assert_eq!(
        columns(bytes, Dialect::Quoted),
        [
            Some(Some(0)),
            Some(Some(1)),
            Some(Some(2)),
            Some(Some(2)),
            None
        ]
    );
    assert_eq!(
        columns(b"1,\"a\",\"\xff\n1,\"a\xff\",\"b\n", Dialect::Lines),
        [Some(Some(2)), Some(Some(1))]
    );
    let many = ",".repeat(1000);
    assert_eq!(columns(many.as_bytes(), Dialect::Quoted), [Some(None)]);
}

/// Bytes that mean something to the reader, more often than not.
fn dirty_bytes() -> impl Strategy<Value = Vec<u8>> {
    let byte = prop_oneof![
        6 => prop::sample::select(b"\",\n\r \0\\a1".to_vec()),
        1 => any::<u8>(),
    ];
    prop::collection::vec(byte, 0..400)
}

fn csv_field() -> impl Strategy<Value = String> {
    "[^\\x00]{0,30}"
}

proptest! {
    #[test]
    fn no_bytes_are_lost_or_read_twice(bytes in dirty_bytes(), size in 1_usize..50, lines in any::<bool>()) {
        let dialect = if lines { Dialect::Lines } else { Dialect::Quoted };
        let rows = read_from(Pieces { bytes: &bytes, size }, dialect);
        let mut at = if bytes.starts_with(BOM) { BOM.len() } else { 0 };
        for row in &rows {
            let start = row.offset as usize;
            // Between rows stand line ends only.
            prop_assert!(start >= at && bytes[at..start].iter().all(|byte| matches!(byte, b'\r' | b'\n')));
            prop_assert_eq!(&bytes[start..start + row.raw.len()], row.raw.as_slice());
            prop_assert_eq!(row.line as usize, 1 + memchr_iter(b'\n', &bytes[..start]).count());
            at = start + row.raw.len();
        }
        prop_assert!(bytes[at..].iter().all(|byte| matches!(byte, b'\r' | b'\n')));
        prop_assert_eq!(rows, read(&bytes, dialect));
    }

    #[test]
    fn clean_rows_survive_byte_for_byte(rows in prop::collection::vec(prop::collection::vec(csv_field(), 1..6), 0..20)) {
        let mut text = String::new();
        for row in &rows {
            let fields: Vec<String> = row.iter().map(|field| format!("\"{}\"", field.replace('"', "\"\""))).collect();
            text.push_str(&fields.join(","));
            text.push('\n');
        }
        let read = read(text.as_bytes(), Dialect::Quoted);
        prop_assert_eq!(read.iter().filter(|row| !row.repairs.is_empty()).count(), 0);
        let read: Vec<_> = read.into_iter().map(|row| row.fields.unwrap()).collect();
        prop_assert_eq!(read, rows);
    }
}
