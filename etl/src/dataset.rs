//! The files of a data set in a folder: which there are, and whether their headers are those we
//! know.

mod header;

use std::{
    collections::BTreeSet,
    fs, io,
    path::{Path, PathBuf},
    time::SystemTime,
};

use self::header::check_header;
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
    /// As [`find`](Self::find), on a thread of its own: a header may be long in coming by standard
    /// input, and who waits must still hear that the run is to stop.
    ///
    /// # Errors
    /// Those of `find`.
    pub async fn look(sources: &Sources) -> Result<Self> {
        let sources = sources.clone();
        tokio::task::spawn_blocking(move || Self::find(&sources))
            .await
            .map_err(|error| Error::Check(format!("looking for the files ended early: {error}")))?
    }

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
                problems[0].starts_with("styles.csv:1: ") && problems[0].contains("bad_header: "),
                "{problems:?}"
            );
        }
    }

    #[test]
    fn the_first_column_that_differs_is_named() {
        let problem = |header: &[u8]| problem_of(&[header, b"\n"].concat());
        let other = problem(b"id,name,product_id,sale_price,original_price,default_style");
        assert!(
            other.starts_with("styles.csv:1: column productId: bad_header: "),
            "{other}"
        );
        assert!(other.ends_with(": column 2 is not productId"), "{other}");
        let fewer = problem(b"id,productId,name");
        assert!(
            fewer.starts_with("styles.csv:1: column sale_price: bad_header: "),
            "{fewer}"
        );
        assert!(fewer.ends_with(": it has 3 columns, not 6"), "{fewer}");
        let more = problem(b"id,productId,name,sale_price,original_price,default_style,x");
        assert!(more.starts_with("styles.csv:1: bad_header: "), "{more}");
        assert!(more.ends_with(": it has 7 columns, not 6"), "{more}");
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
            "styles.csv:1: column id: bad_header: ",
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
