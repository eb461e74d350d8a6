//! The files of `sql/`, as they were when this binary was built, in the order in which they apply.

/// One file of `sql/`.
#[derive(Debug, Clone, Copy)]
pub struct SqlFile {
    /// Its path in the repository.
    pub path: &'static str,
    /// Its text.
    pub sql: &'static str,
}

impl SqlFile {
    /// The version and description in the name of a migration, `<version>_<description>.sql`.
    #[must_use]
    pub fn version(&self) -> (i64, String) {
        let name = self.path.rsplit('/').next().unwrap_or_default();
        let (version, description) = name
            .trim_end_matches(".sql")
            .split_once('_')
            .unwrap_or_default();
        (
            version.parse().unwrap_or_default(),
            description.replace('_', " "),
        )
    }
}

/// Embeds files of `sql/`.
macro_rules! sql_files {
    ($($path:literal),+ $(,)?) => {
        &[$(SqlFile {
            path: concat!("sql/", $path),
            sql: include_str!(concat!(env!("CARGO_MANIFEST_DIR"), "/../sql/", $path)),
        }),+]
    };
}

/// Applied once each, in this order, and never changed afterwards.
pub const MIGRATIONS: &[SqlFile] = sql_files![
    "migrations/20261121000001_service.sql",
    "migrations/20261121000002_loads_changes.sql",
    "migrations/20261121000003_interactions.sql",
    "migrations/20261121000004_loads_owe.sql",
];

/// The outbox, applied each time.
pub const COHERENCE: &str = include_str!("../../../sql/coherence.sql");

/// Functions, applied each time.
pub const FUNCTIONS: &[SqlFile] = sql_files![
    "functions/keep_catalogue.sql",
    "functions/keep_product_id.sql",
    "functions/keep_ranks.sql",
    "functions/keep_review_meta.sql",
];

/// The shop's tables, applied to an empty schema.
pub const SCHEMA: &[SqlFile] = sql_files![
    "schema/01_products.sql",
    "schema/02_reviews.sql",
    "schema/03_questions.sql",
    "schema/04_sequences.sql",
    "schema/05_ranks.sql",
];

/// What rows add to derived ones: a view each. A load has tables of that shape in their place.
pub const SUMS: &[SqlFile] = sql_files!["sums/review_sums.sql", "sums/vote_sums.sql"];

/// A table of rows that follow from those of others.
#[derive(Debug, Clone, Copy)]
pub struct Derived {
    /// Its name.
    pub table: &'static str,
    /// The tables whose rows it follows from, itself or by what they add up to.
    pub reads: &'static [&'static str],
    /// Whether it joins rows by the million: sorting and merging those takes less than hash tables that outgrow their memory.
    pub merges: bool,
    /// What fills it, one file after the other.
    pub files: &'static [SqlFile],
}

/// Derived rows, once after COPY; none of them reads what another one makes.
pub const DERIVE: &[Derived] = &[
    Derived {
        table: "review_meta",
        reads: &["reviews", "characteristics", "characteristic_reviews"],
        merges: true,
        files: sql_files!["derive/review_meta.sql"],
    },
    Derived {
        table: "product_counts",
        reads: &["products"],
        merges: false,
        files: sql_files!["derive/product_counts.sql"],
    },
    Derived {
        table: "review_ranks",
        reads: &["reviews"],
        merges: false,
        files: sql_files!["derive/ranked_reviews.sql", "derive/review_ranks.sql"],
    },
    Derived {
        table: "question_ranks",
        reads: &["questions"],
        merges: false,
        files: sql_files!["derive/ranked_questions.sql", "derive/question_ranks.sql"],
    },
];

/// Keys, indexes, references and triggers.
///
/// The statements of all but the last two files may run side by side, and so may the references, once all of those have been; the
/// triggers come one after the other.
pub const INDEXES: &[SqlFile] = sql_files![
    "indexes/01_products.sql",
    "indexes/02_reviews.sql",
    "indexes/03_questions.sql",
    "indexes/04_foreign_keys.sql",
    "indexes/05_triggers.sql",
];

/// Which cache groups a table touches, applied each time.
pub const GROUPS: &str = include_str!("../../../sql/groups.sql");

/// What the origin's role may do, applied each time, to the live schema and to a new one.
pub const GRANTS: &str = include_str!("../../../sql/grants.sql");

#[cfg(test)]
mod tests {
    use super::*;
    use std::{collections::BTreeSet, fs, path::Path};

    #[test]
    fn every_file_of_the_sql_folder_is_embedded() {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../sql");
        let mut found = BTreeSet::new();
        for folder in fs::read_dir(&root)
            .unwrap()
            .map(|entry| entry.unwrap().path())
        {
            if folder.is_dir() {
                for file in fs::read_dir(&folder)
                    .unwrap()
                    .map(|entry| entry.unwrap().path())
                {
                    found.insert(format!(
                        "sql{}",
                        file.to_str()
                            .unwrap()
                            .trim_start_matches(root.to_str().unwrap())
                    ));
                }
            }
        }
        let embedded: BTreeSet<String> = [MIGRATIONS, FUNCTIONS, SCHEMA, SUMS, INDEXES]
            .into_iter()
            .chain(DERIVE.iter().map(|derived| derived.files))
            .flatten()
            .map(|file| file.path.to_owned())
            .collect();
        assert_eq!(embedded, found);
    }

    #[test]
    fn migrations_are_in_order_and_have_a_version() {
        let versions: Vec<i64> = MIGRATIONS.iter().map(|file| file.version().0).collect();
        assert!(
            versions.is_sorted() && versions.iter().all(|version| *version > 20_000_000_000_000)
        );
        assert_eq!(MIGRATIONS[0].version().1, "service");
    }
}
