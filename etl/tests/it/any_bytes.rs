//! Any bytes as a file of any table. `PROPTEST_CASES=1000000` tries more of them; the fuzzer in
//! `etl/fuzz` makes the same checks.

use std::{collections::BTreeSet, fs, path::Path};

use etl::tables::{TABLES, Table};
use proptest::{prelude::*, strategy::Union};

#[path = "../../fuzz/any_bytes.rs"]
mod checks;

/// How many files are tried, unless the environment asks for more.
const CASES: u32 = 1500;

/// Text that a reader may take for something else.
fn odd_text() -> impl Strategy<Value = Vec<u8>> {
    let piece = prop_oneof![
        4 => "[a-z ,;'#\\\\]{0,6}".prop_map(String::into_bytes),
        2 => prop::sample::select(vec!["\"", "\"\"", "\n", "\r", "\r\n", "\0", "null", "é", "http", " "])
            .prop_map(|text| text.as_bytes().to_vec()),
        1 => prop::collection::vec(any::<u8>(), 0..4),
    ];
    prop::collection::vec(piece, 0..5).prop_map(|pieces| pieces.concat())
}

/// Text in quotes, its own doubled.
fn quoted_text() -> impl Strategy<Value = Vec<u8>> {
    let inner = prop_oneof![
        3 => "[^\\x00]{0,12}",
        1 => Just("\"Loose\"".to_owned()),
        1 => Just("\\\"Loose\\\"".to_owned()),
        1 => Just("\"a\" and \"b\"".to_owned()),
    ];
    inner.prop_map(|text| format!("\"{}\"", text.replace('"', "\"\"")).into_bytes())
}

fn one_of(texts: &'static [&'static str]) -> BoxedStrategy<Vec<u8>> {
    prop::sample::select(texts)
        .prop_map(|text| text.as_bytes().to_vec())
        .boxed()
}

/// A cell that a column is likely to take.
fn good_cell(table: &Table, column: &str) -> BoxedStrategy<Vec<u8>> {
    let number = |numbers: std::ops::Range<i32>| {
        numbers
            .prop_map(|number| number.to_string().into_bytes())
            .boxed()
    };
    match column {
        "id" => number(1..60),
        "related_product_id" | "quantity" | "helpful" | "helpfulness" => number(0..60),
        "rating" => number(1..6),
        "value" if table.name == "characteristic_reviews" => number(1..6),
        "date" | "date_written" => one_of(&[
            "1600000000000",
            "\"2020-02-29\"",
            "2021-08-13T14:38:44.509Z",
            "2021-08-13T14:38:44.509123Z",
            "2021-08-13T14:38:44+02:00",
        ]),
        "recommend" | "reported" | "default_style" => one_of(&["1", "0", "true", "FALSE"]),
        "default_price" | "sale_price" | "original_price" => {
            one_of(&["140", "$7", "0", "\"default_price\": 99", "null", ""])
        }
        "url" | "thumbnail_url" => one_of(&[
            "\"https://a.example/1\"",
            "https://a.example/2",
            "\"uhttps://a.example/3\"",
            "\"https://a.example/\\4\"",
            "\"https://a.example/5",
            "\"https://a.example/6https://a.example/7\"",
            "null",
            "\"data:image/png;base64,AAAA\"",
        ]),
        name if name.to_ascii_lowercase().ends_with("id") => number(1..checks::PARENTS_END),
        _ => Union::new_weighted(vec![
            (4, quoted_text().boxed()),
            (1, odd_text().boxed()),
            (1, one_of(&["null", "", "plain", " spaced "])),
        ])
        .boxed(),
    }
}

/// A row whose cells are mostly good, and its line end.
fn line(table: &'static Table) -> BoxedStrategy<Vec<u8>> {
    let cells: Vec<BoxedStrategy<Vec<u8>>> = table
        .header
        .iter()
        .map(|column| prop_oneof![24 => good_cell(table, column), 1 => odd_text()].boxed())
        .collect();
    let comma =
        prop_oneof![12 => Just(b",".to_vec()), 1 => Just(b", ".to_vec()), 1 => Just(Vec::new())];
    let end = prop::sample::select(vec!["\n", "\n", "\n", "\r\n", "\n\n"]);
    (cells, comma, end)
        .prop_map(|(cells, comma, end)| {
            [cells.join(comma.as_slice()).as_slice(), end.as_bytes()].concat()
        })
        .boxed()
}

/// What the checks take: the choice of a table, the size of pieces, and lines.
fn any_file() -> impl Strategy<Value = Vec<u8>> {
    let of_table = |table: usize| {
        let lines = prop_oneof![6 => line(&TABLES[table]), 1 => odd_text().boxed()];
        (any::<u8>(), prop::collection::vec(lines, 0..12)).prop_map(move |(size, lines)| {
            let mut bytes = vec![table as u8, size];
            bytes.extend(lines.concat());
            bytes
        })
    };
    Union::new((0..TABLES.len()).map(of_table))
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: ProptestConfig::default().cases.max(CASES),
        ..ProptestConfig::default()
    })]

    #[test]
    fn no_byte_is_lost_no_row_uncounted_and_no_clean_row_changed(bytes in any_file()) {
        checks::check(&bytes);
    }

    #[test]
    fn bytes_without_any_order_stop_nothing(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
        checks::check(&bytes);
    }
}

#[test]
fn the_seeds_of_the_fuzzer_hold_and_are_rows_of_most_tables() {
    let seeds = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/seeds");
    let mut tables = BTreeSet::new();
    for entry in fs::read_dir(seeds).unwrap() {
        let entry = entry.unwrap();
        let (name, bytes) = (entry.file_name(), fs::read(entry.path()).unwrap());
        let table = &TABLES[usize::from(bytes[0]) % TABLES.len()];
        let (_, file) = name.to_str().unwrap().rsplit_once('-').unwrap();
        assert!(
            table.files.contains(&format!("{file}.csv").as_str()),
            "{name:?} holds rows of {}",
            table.name
        );
        tables.insert(table.name);
        checks::check(&bytes);
    }
    assert!(tables.len() > TABLES.len() / 2, "{tables:?}");
}
