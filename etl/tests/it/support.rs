//! A database of its own for each test, and the hand-written cases.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::{Path, PathBuf},
    sync::OnceLock,
};

use etl::{
    Result,
    dataset::Sources,
    load::{self, LoadOptions, Mode},
    progress::Progress,
    report::{FileCounts, LoadReport},
    schema::{self, Jobs},
};
use sqlx::{AssertSqlSafe, Connection as _, PgConnection, Row as _};
use stack::TestCluster;
use tempfile::TempDir;

/// The tables that a load fills or derives.
pub(crate) const TABLES: [&str; 18] = [
    "products",
    "product_counts",
    "features",
    "styles",
    "skus",
    "photos",
    "related",
    "reviews",
    "review_photos",
    "characteristics",
    "characteristic_reviews",
    "review_meta",
    "questions",
    "answers",
    "answer_photos",
    "ranked_products",
    "review_ranks",
    "question_ranks",
];

/// A database with the schema and no rows, dropped with the value.
pub(crate) struct Shop {
    name: String,
    /// The database, for its owner.
    pub(crate) url: String,
    /// It goes with a cluster of its own.
    is_apart: bool,
}

impl Shop {
    pub(crate) fn new() -> Self {
        static TEMPLATE: OnceLock<String> = OnceLock::new();
        let template = TEMPLATE.get_or_init(|| {
            let empty = Self::without_schema();
            let url = empty.url.clone();
            // A runtime of its own: other tests wait here meanwhile.
            let migrating = std::thread::spawn(move || {
                let runtime = tokio::runtime::Builder::new_current_thread()
                    .enable_all()
                    .build()
                    .unwrap();
                runtime.block_on(schema::migrate(&url)).unwrap();
            });
            migrating.join().unwrap();
            let name = empty.name.clone();
            std::mem::forget(empty);
            name
        });
        Self::named(TestCluster::shared().create_database(Some(template)))
    }

    pub(crate) fn without_schema() -> Self {
        Self::named(TestCluster::shared().create_database(None))
    }

    fn named(name: String) -> Self {
        let url = TestCluster::shared().owner_url(&name);
        Self {
            name,
            url,
            is_apart: false,
        }
    }

    /// In a cluster where nobody else has a snapshot open.
    pub(crate) async fn apart(cluster: &TestCluster) -> Self {
        let name = cluster.create_database(None);
        let url = cluster.owner_url(&name);
        schema::migrate(&url).await.unwrap();
        Self {
            name,
            url,
            is_apart: true,
        }
    }

    /// A database that is there already, in another cluster than all others.
    pub(crate) fn at(url: String) -> Self {
        Self {
            name: String::new(),
            url,
            is_apart: true,
        }
    }

    /// The database, for the origin's role.
    pub(crate) fn app_url(&self) -> String {
        TestCluster::shared().app_url(&self.name)
    }

    /// Puts its files where a tablespace has them; nobody may be connected.
    pub(crate) fn move_to(&self, tablespace: &str) {
        let statement = format!("alter database {} set tablespace {tablespace}", self.name);
        TestCluster::shared()
            .cluster()
            .psql("postgres", &statement)
            .unwrap();
    }

    pub(crate) async fn connect(&self) -> PgConnection {
        PgConnection::connect(&self.url).await.unwrap()
    }

    /// The rows of a query, each as Postgres writes a row: `(1,text,)`.
    pub(crate) async fn rows(&self, query: &str) -> Vec<String> {
        let mut conn = self.connect().await;
        let query = format!("select (q.*)::text from ({query}) as q");
        sqlx::raw_sql("set search_path = shop; set timezone = 'UTC'")
            .execute(&mut conn)
            .await
            .unwrap();
        let rows = sqlx::query(AssertSqlSafe(query))
            .fetch_all(&mut conn)
            .await
            .unwrap();
        rows.iter().map(|row| row.get(0)).collect()
    }

    pub(crate) async fn execute(&self, statements: &str) {
        let mut conn = self.connect().await;
        sqlx::raw_sql(AssertSqlSafe(statements.to_owned()))
            .execute(&mut conn)
            .await
            .unwrap();
    }

    pub(crate) async fn load(&self, csv: &Path) -> Result<LoadReport> {
        load::run(&self.url, &options(csv)).await
    }

    /// Loads whatever was changed since the last time.
    pub(crate) async fn load_over(&self, csv: &Path) -> LoadReport {
        let options = LoadOptions {
            discard_writes: true,
            ..options(csv)
        };
        load::run(&self.url, &options).await.unwrap()
    }

    /// One text that differs if any row of any table does, or a sequence.
    pub(crate) async fn checksum(&self) -> String {
        let mut sums = Vec::new();
        for table in TABLES {
            let key = match table {
                "product_counts" => "run",
                "review_meta" => "product_id",
                "ranked_products" => "(list, product_id)",
                "review_ranks" => "review_id",
                "question_ranks" => "question_id",
                _ => "id",
            };
            let sum = format!(
                "select '{table}', count(*), md5(string_agg(t::text, '|' order by {key})) from {table} as t"
            );
            sums.extend(self.rows(&sum).await);
        }
        let sequences = "select sequencename, last_value from pg_sequences where schemaname = 'shop' order by 1";
        sums.extend(self.rows(sequences).await);
        sums.join("\n")
    }

    /// The groups that have been told to the caches since the position, one text a transaction.
    pub(crate) async fn outbox(&self) -> Vec<String> {
        self.rows("select groups from coherence.outbox order by appended_at")
            .await
    }
}

impl Drop for Shop {
    fn drop(&mut self) {
        if !self.is_apart {
            TestCluster::shared().drop_database(&self.name);
        }
    }
}

pub(crate) fn options(csv: &Path) -> LoadOptions {
    LoadOptions {
        sources: Sources::folder(csv),
        mode: Mode::Replace,
        rejects: None,
        max_rejects: None,
        discard_writes: false,
        loaded_at: None,
        jobs: Jobs::default(),
        gateways: None,
        progress: Progress::silent(),
    }
}

/// A hand-written case: the files of its folder, with clean files from `base` as their parents.
pub(crate) struct Case {
    pub(crate) shop: Shop,
    report: LoadReport,
    own_files: Vec<String>,
    rejects: Vec<u8>,
    expected_rejects: Vec<u8>,
}

/// A file's name and rows, and its repaired and refused ones by code.
type Expected<'a> = (&'a str, u64, &'a [(&'a str, u64)], &'a [(&'a str, u64)]);

fn data(case: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests/data")
        .join(case)
}

/// Copies the clean files that are named and then those of a case, whose names it returns.
pub(crate) fn collect(case: &str, base: &[&str], to: &Path) -> Vec<String> {
    for file in base {
        fs::copy(data("base").join(file), to.join(file)).unwrap();
    }
    let mut own_files = Vec::new();
    for entry in fs::read_dir(data(case)).unwrap() {
        let entry = entry.unwrap();
        let name = entry.file_name().into_string().unwrap();
        if !["rejects.csv", "first_rejected.txt"].contains(&name.as_str()) {
            fs::copy(entry.path(), to.join(&name)).unwrap();
            own_files.push(name);
        }
    }
    own_files
}

impl Case {
    /// Loads a case into a database of its own.
    pub(crate) async fn load(case: &str, base: &[&str]) -> Self {
        let (shop, dir) = (Shop::new(), TempDir::new().unwrap());
        let own_files = collect(case, base, dir.path());
        let rejects = dir.path().join("rejects.out");
        let options = LoadOptions {
            rejects: Some(rejects.clone()),
            ..options(dir.path())
        };
        let report = load::run(&shop.url, &options).await.unwrap();
        let header = b"file,line,byte_offset,reason,raw\n".to_vec();
        let expected_rejects = fs::read(data(case).join("rejects.csv")).unwrap_or(header);
        let expected = fs::read_to_string(data(case).join("first_rejected.txt"));
        let expected = expected.unwrap_or_default();
        let files = report.files.values();
        let first: BTreeSet<_> = files.flat_map(|file| &file.first_rejected).collect();
        let lines: BTreeSet<_> = expected.lines().map(str::to_owned).collect();
        assert_eq!(first, lines.iter().collect(), "{case}");
        Self {
            shop,
            report,
            own_files,
            rejects: fs::read(rejects).unwrap(),
            expected_rejects,
        }
    }

    /// Each file of the case: rows, then what was repaired and refused, by code. What is not named
    /// must be clean, and refused rows must be those of the case's `rejects.csv`, byte for byte.
    #[track_caller]
    pub(crate) fn counts(self, expected: &[Expected<'_>]) -> Self {
        let by_code = |codes: &[(&str, u64)]| -> BTreeMap<String, u64> {
            codes
                .iter()
                .map(|(code, count)| ((*code).to_owned(), *count))
                .collect()
        };
        for (file, rows, repaired, rejected) in expected {
            let rejected = by_code(rejected);
            let loaded = rows - rejected.values().sum::<u64>();
            let counts = FileCounts {
                rows: *rows,
                loaded,
                repaired: by_code(repaired),
                rejected,
            };
            assert_eq!(self.report.files[*file].counts, counts, "{file}");
        }
        for (name, file) in &self.report.files {
            let is_expected = expected.iter().any(|(file, ..)| file == name);
            assert!(
                is_expected || !self.own_files.contains(name),
                "{name} is not expected"
            );
            assert!(
                is_expected || file.counts.rows == file.counts.loaded,
                "{name}: {:?}",
                file.counts
            );
            assert!(
                is_expected || file.counts.repaired.is_empty(),
                "{name}: {:?}",
                file.counts
            );
        }
        assert_eq!(
            String::from_utf8_lossy(&self.rejects),
            String::from_utf8_lossy(&self.expected_rejects)
        );
        assert!(
            self.rejects == self.expected_rejects,
            "the refused rows differ in bytes that are not UTF-8"
        );
        self
    }

    /// What is stored, row by row.
    pub(crate) async fn stores(self, query: &str, expected: &[&str]) -> Self {
        assert_eq!(self.shop.rows(query).await, expected, "{query}");
        self
    }
}
