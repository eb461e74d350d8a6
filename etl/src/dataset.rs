//! The files of a data set in a folder: which there are, and whether their headers are those we
//! know.

use std::{
    collections::BTreeSet,
    fs, io,
    path::{Path, PathBuf},
    time::SystemTime,
};

use crate::{
    error::{self, Error, Result},
    input::Input,
    reader::{Dialect, Reader},
    tables::{SKIPPED_FILE, SKIPPED_HEADERS, TABLES, Table},
};

/// What the name of a file may end in: it may be compressed.
const SUFFIXES: [&str; 3] = ["", ".gz", ".zst"];
/// What messages call a file that comes by standard input.
const STANDARD_INPUT: &str = "standard input";

/// Where a data set is.
#[derive(Debug, Clone, Default)]
pub struct Sources {
    /// The folder of its files.
    pub csv: Option<PathBuf>,
    /// The file that comes by standard input, by its name.
    pub stdin: Option<String>,
}

impl Sources {
    /// A folder.
    #[must_use]
    pub fn folder(csv: impl Into<PathBuf>) -> Self {
        Self {
            csv: Some(csv.into()),
            stdin: None,
        }
    }
}

/// One file of a data set.
#[derive(Debug)]
pub struct DataFile {
    /// What it fills.
    pub table: &'static Table,
    /// Where it is.
    pub path: PathBuf,
    /// Its name, as reports give it.
    pub name: String,
    /// Its length as it is stored, if it is known.
    pub bytes: Option<u64>,
    /// Its rows, if they can be read but once.
    opened: Option<Reader<Input>>,
}

impl DataFile {
    /// A file whose header is known to be right.
    #[must_use]
    pub fn at(table: &'static Table, path: PathBuf, name: &str) -> Self {
        let bytes = fs::metadata(&path).map(|metadata| metadata.len()).ok();
        Self {
            table,
            path,
            name: name.to_owned(),
            bytes,
            opened: None,
        }
    }

    /// A file that is open already, from its header on; the header is not looked at.
    ///
    /// # Errors
    /// If it cannot be read.
    pub fn opened(table: &'static Table, name: &str, input: Input) -> io::Result<Self> {
        let mut reader = Reader::new(input, table.dialect)?;
        reader.next_row()?;
        Ok(Self {
            table,
            path: PathBuf::from(name),
            name: name.to_owned(),
            bytes: None,
            opened: Some(reader),
        })
    }

    /// Opens it after its header.
    ///
    /// # Errors
    /// If it cannot be read.
    pub fn open(self) -> io::Result<Reader<Input>> {
        if let Some(opened) = self.opened {
            return Ok(opened);
        }
        let mut reader = Reader::new(Input::file(&self.path)?, self.table.dialect)?;
        reader.next_row()?;
        Ok(reader)
    }
}

/// The files of a folder.
#[derive(Debug)]
pub struct DataSet {
    /// Those that will be loaded, parents before children.
    pub files: Vec<DataFile>,
    /// Those that are known and left out.
    pub skipped: Vec<String>,
    /// Other CSV files: not touched.
    pub unknown: Vec<String>,
    /// When the newest of the files was changed; now, if there is none but standard input.
    pub modified_at: SystemTime,
}

impl DataSet {
    /// Looks for the files of the data set and checks the header of each.
    ///
    /// # Errors
    /// [`Error::Input`] with a line for each file that cannot be loaded; or if the folder cannot be
    /// read.
    pub fn find(sources: &Sources) -> Result<Self> {
        let mut problems = Vec::new();
        let mut set = Self {
            files: Vec::new(),
            skipped: Vec::new(),
            unknown: Vec::new(),
            modified_at: SystemTime::UNIX_EPOCH,
        };
        let mut unknown = sources
            .csv
            .as_deref()
            .map_or_else(|| Ok(BTreeSet::new()), csv_files)?;
        let dir = sources.csv.as_deref().unwrap_or_else(|| Path::new(""));
        let standard = sources.stdin.as_deref();
        for table in &TABLES {
            let mut names = take_names(&mut unknown, table.files);
            let piped = standard.filter(|name| table.files.contains(name));
            names.extend(piped.map(|name| format!("{name} ({STANDARD_INPUT})")));
            match (names.as_slice(), piped) {
                ([], _) => {}
                ([_], Some(name)) => set.add_standard(table, name, &mut problems)?,
                ([name], None) => set.add(table, dir, name, &mut problems)?,
                (names, _) => problems.push(format!(
                    "{}: files for the same table, keep one",
                    names.join(", ")
                )),
            }
        }
        for name in take_names(&mut unknown, &[SKIPPED_FILE]) {
            problems.extend(check_file(
                &dir.join(&name),
                &name,
                Dialect::Quoted,
                &SKIPPED_HEADERS,
            )?);
            set.skipped.push(name);
        }
        set.unknown.extend(unknown);
        if set.files.is_empty() && problems.is_empty() {
            problems.push(format!(
                "{}: no file of the data set is here, such as {}",
                dir.display(),
                TABLES[0].files[0]
            ));
        }
        if set.modified_at == SystemTime::UNIX_EPOCH {
            // What comes by standard input has no time of its own.
            set.modified_at = SystemTime::now();
        }
        if problems.is_empty() {
            Ok(set)
        } else {
            Err(Error::Input(problems))
        }
    }

    /// The tables that no file of this set fills.
    pub fn missing(&self) -> impl Iterator<Item = &'static Table> {
        TABLES.iter().filter(|table| {
            !self
                .files
                .iter()
                .any(|file| std::ptr::eq(file.table, *table))
        })
    }

    fn add(
        &mut self,
        table: &'static Table,
        dir: &Path,
        name: &str,
        problems: &mut Vec<String>,
    ) -> Result<()> {
        let path = dir.join(name);
        problems.extend(check_file(&path, name, table.dialect, &[table.header])?);
        let metadata = fs::metadata(&path).map_err(error::file(&path))?;
        let modified_at = metadata.modified().map_err(error::file(&path))?;
        self.modified_at = self.modified_at.max(modified_at);
        self.files.push(DataFile::at(table, path, name));
        Ok(())
    }

    fn add_standard(
        &mut self,
        table: &'static Table,
        name: &str,
        problems: &mut Vec<String>,
    ) -> Result<()> {
        let path = PathBuf::from(STANDARD_INPUT);
        let open = || {
            let mut reader = Reader::new(Input::standard()?, table.dialect)?;
            let problem = check_header(&mut reader, name, &[table.header])?;
            io::Result::Ok((reader, problem))
        };
        let (reader, problem) = open().map_err(error::file(&path))?;
        problems.extend(problem);
        self.files.push(DataFile {
            table,
            path,
            name: name.to_owned(),
            bytes: None,
            opened: Some(reader),
        });
        Ok(())
    }
}

/// The names of the CSV files in a folder, compressed or not.
fn csv_files(dir: &Path) -> Result<BTreeSet<String>> {
    let is_csv = |name: &str| {
        let mut plain = SUFFIXES
            .iter()
            .filter_map(|suffix| name.strip_suffix(suffix));
        plain.any(|plain| plain.ends_with(".csv"))
    };
    let mut names = BTreeSet::new();
    for entry in fs::read_dir(dir).map_err(error::file(dir))? {
        let entry = entry.map_err(error::file(dir))?;
        if let Ok(name) = entry.file_name().into_string()
            && is_csv(&name)
        {
            names.insert(name);
        }
    }
    Ok(names)
}

/// The table that a file of this name fills, compressed or not.
#[must_use]
pub fn table_of(name: &str) -> Option<&'static Table> {
    let mut plain = SUFFIXES
        .iter()
        .filter_map(|suffix| name.strip_suffix(suffix));
    plain.find_map(|plain| TABLES.iter().find(|table| table.files.contains(&plain)))
}

/// Takes out those names that one file may have, compressed or not.
fn take_names(names: &mut BTreeSet<String>, plain: &[&str]) -> Vec<String> {
    let spelled = plain
        .iter()
        .flat_map(|name| SUFFIXES.map(|suffix| format!("{name}{suffix}")));
    spelled.filter(|name| names.remove(name)).collect()
}

/// What keeps a file from being loaded, if anything does.
fn check_file(
    path: &Path,
    name: &str,
    dialect: Dialect,
    headers: &[&[&str]],
) -> Result<Option<String>> {
    let check = || {
        if !fs::metadata(path)?.is_file() {
            return Ok(Some(format!("{name}: a directory or the like, not a file")));
        }
        check_header(
            &mut Reader::new(Input::file(path)?, dialect)?,
            name,
            headers,
        )
    };
    check().map_err(error::file(path))
}

/// What is wrong with the header of a file, if anything is.
fn check_header(
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
        format!(
            "{name}: bad_header: line 1 should be {} and is {shown}{more}{}",
            expected.join(","),
            self.hint
        )
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
    let plain = |name: &str| {
        let letters = name.trim().bytes().filter(|byte| *byte != b'_');
        letters
            .map(|byte| byte.to_ascii_lowercase())
            .collect::<Vec<_>>()
    };
    expected.len() == found.len()
        && expected
            .iter()
            .zip(found)
            .all(|(expected, found)| plain(expected) == plain(found))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn find(files: &[(&str, &str)]) -> Result<DataSet> {
        let dir = tempfile::tempdir().unwrap();
        for (name, text) in files {
            fs::write(dir.path().join(name), text).unwrap();
        }
        DataSet::find(&Sources::folder(dir.path()))
    }

    #[test]
    fn headers_may_be_spaced_quoted_or_in_another_case() {
        let spellings = [
            "id,productId,name,sale_price,original_price,default_style",
            "id, product_id, name, sale_price, original_price, default_style\r",
            "\u{feff}\"id\",\"productId\",\"name\",\"salePrice\",\"originalPrice\",\"defaultStyle\"",
            "ID,PRODUCTID,NAME,SALE_PRICE,ORIGINAL_PRICE,DEFAULT_STYLE",
        ];
        for header in spellings {
            let set = find(&[("styles.csv", &format!("{header}\n"))]).unwrap();
            assert_eq!(set.files[0].table.name, "styles", "{header}");
        }
    }

    #[test]
    fn any_other_header_is_refused_by_name() {
        let orders = "id,name,product_id,sale_price,original_price,default_style";
        for header in [
            orders,
            "",
            "id",
            "id,productId,name,sale_price,original_price,default_style,more",
        ] {
            let Error::Input(problems) = find(&[("styles.csv", header)]).unwrap_err() else {
                panic!("{header}")
            };
            assert!(
                problems[0].starts_with("styles.csv: bad_header: "),
                "{problems:?}"
            );
        }
    }

    /// The one problem of a styles file that holds these bytes.
    fn problem_of(bytes: &[u8]) -> String {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("styles.csv"), bytes).unwrap();
        let Err(Error::Input(mut problems)) = DataSet::find(&Sources::folder(dir.path())) else {
            panic!("{bytes:?}")
        };
        assert_eq!(problems.len(), 1);
        problems.remove(0)
    }

    #[test]
    fn the_likely_encoding_or_line_end_of_a_bad_header_is_named() {
        let text = "id,productId,name,sale_price,original_price,default_style\r1,1,A,null,140,1\r";
        assert!(problem_of(text.as_bytes()).contains("lone carriage returns"));
        let utf16 = text.replace('\r', "\n");
        let little: Vec<u8> = utf16.encode_utf16().flat_map(u16::to_le_bytes).collect();
        let big: Vec<u8> = utf16.encode_utf16().flat_map(u16::to_be_bytes).collect();
        for bytes in [
            [b"\xff\xfe".as_slice(), &little].concat(),
            [b"\xfe\xff".as_slice(), &big].concat(),
        ] {
            assert!(
                problem_of(&bytes).contains("UTF-16"),
                "{}",
                problem_of(&bytes)
            );
        }
        assert!(problem_of(b"\xe9,b\n").contains("not UTF-8"));
        assert!(problem_of(b"").contains("empty"));
        assert!(!problem_of(b"id,other\n").contains(';'));
    }

    #[test]
    fn no_more_than_a_line_of_a_bad_header_is_shown() {
        for header in ["x".repeat(5000), "\r".repeat(5000), "x,".repeat(5000)] {
            let problem = problem_of(header.as_bytes());
            assert!(problem.len() < 300 && problem.contains("..."), "{problem}");
        }
    }

    #[test]
    fn a_directory_in_the_place_of_a_file_is_one_of_the_problems() {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("styles.csv"), "x").unwrap();
        for name in ["product.csv", "cart.csv"] {
            fs::create_dir(dir.path().join(name)).unwrap();
        }
        let error = DataSet::find(&Sources::folder(dir.path())).unwrap_err();
        assert_eq!(error.exit_code(), 3);
        for problem in [
            "product.csv: a directory",
            "styles.csv: bad_header",
            "cart.csv: a directory",
        ] {
            assert!(error.to_string().contains(problem), "{error}");
        }
    }

    #[test]
    fn every_bad_file_is_named_at_once() {
        let files = [
            ("styles.csv", "x"),
            ("skus.csv", "y"),
            ("cart.csv", "z"),
            ("product.csv", ""),
            ("products.csv", ""),
        ];
        let Error::Input(problems) = find(&files).unwrap_err() else {
            panic!()
        };
        let named: Vec<&str> = problems
            .iter()
            .map(|line| line.split(':').next().unwrap())
            .collect();
        assert_eq!(
            named,
            [
                "product.csv, products.csv",
                "styles.csv",
                "skus.csv",
                "cart.csv"
            ]
        );
    }

    #[test]
    fn known_files_are_found_and_others_left_alone() {
        let files = [
            (
                "products.csv",
                "id,name,slogan,description,category,default_price\n",
            ),
            (
                "characteristics_reviews.csv",
                "id,characteristic_id,review_id,value",
            ),
            ("cart.csv", "id,user_session,skus_id,active"),
            ("notes.csv", "anything"),
            ("readme.txt", ""),
        ];
        let set = find(&files).unwrap();
        let names: Vec<&str> = set.files.iter().map(|file| file.table.name).collect();
        assert_eq!(names, ["products", "characteristic_reviews"]);
        assert_eq!(
            (set.skipped.as_slice(), set.unknown.as_slice()),
            (
                ["cart.csv".to_owned()].as_slice(),
                ["notes.csv".to_owned()].as_slice()
            )
        );
        assert_eq!(set.missing().count(), TABLES.len() - 2);
    }

    #[test]
    fn files_may_be_compressed_and_are_named_as_they_are() {
        let header = "id,productId,name,sale_price,original_price,default_style\n";
        let stored = zstd::encode_all(header.as_bytes(), 3).unwrap();
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("styles.csv.zst"), stored).unwrap();
        fs::write(dir.path().join("notes.csv.gz"), "x").unwrap();
        let set = DataSet::find(&Sources::folder(dir.path())).unwrap();
        assert_eq!(set.files[0].name, "styles.csv.zst");
        assert_eq!(set.files[0].table.name, "styles");
        assert_eq!(set.unknown, ["notes.csv.gz"]);
        fs::write(dir.path().join("styles.csv"), header).unwrap();
        let error = DataSet::find(&Sources::folder(dir.path())).unwrap_err();
        assert!(
            error
                .to_string()
                .starts_with("styles.csv, styles.csv.zst: "),
            "{error}"
        );
    }

    #[test]
    fn a_folder_without_any_known_file_is_refused() {
        assert!(matches!(find(&[("notes.csv", "x")]), Err(Error::Input(_))));
    }
}
