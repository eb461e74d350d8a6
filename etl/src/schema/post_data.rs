//! What follows from filled tables: derived rows, keys and indexes (the section that `pg_dump` calls post-data, without
//! references and triggers).

use std::{collections::BTreeSet, iter};

use super::{
    build::{NO_INDEXES, split_statements},
    files::{self, Derived},
    jobs::{Job, Jobs, Queue, Statement, work_off, work_off_by},
};
use crate::{
    error::{Error, Result},
    tables::Table,
};

/// The derived rows, keys and indexes of a load. Each job begins over one of several connections as soon as the tables that
/// it reads are filled, beside the COPY of the tables that follow.
#[derive(Debug)]
pub struct PostData {
    /// Keys and indexes of tables that are not filled yet.
    indexes: Vec<String>,
    /// Derived tables that read others which are not.
    derived: Vec<&'static Derived>,
    filled: BTreeSet<&'static str>,
    queue: Queue,
    jobs: Jobs,
    is_finished: bool,
}

impl PostData {
    /// That of all tables; `jobs` work it off, of which one is the caller.
    ///
    /// # Errors
    /// If there are no indexes.
    pub fn of_load(jobs: Jobs) -> Result<Self> {
        let [keys @ .., _, _] = files::INDEXES else {
            return Err(Error::Check(NO_INDEXES.to_owned()));
        };
        let statements = keys.iter().flat_map(|file| split_statements(file.sql));
        Ok(Self {
            indexes: statements.collect(),
            derived: files::DERIVE.iter().collect(),
            filled: BTreeSet::new(),
            queue: Queue::default(),
            jobs,
            is_finished: false,
        })
    }

    /// Works off what is ready over all connections but the caller's, until [`finish`](Self::finish) has been called and
    /// nothing is left.
    pub fn build(&self, database_url: &str) -> impl Future<Output = Result<()>> + use<> {
        let (url, jobs, queue) = (database_url.to_owned(), self.jobs, self.queue.clone());
        async move {
            let others = jobs.connections.saturating_sub(1);
            work_off_by(&url, jobs, others, queue).await
        }
    }

    /// A table has been filled. If its rows lie scattered, it is put in order first, by the connection that then builds all
    /// of its indexes.
    ///
    /// # Errors
    /// If that of another table could not be built: [`build`](Self::build) says why.
    pub fn add(&mut self, table: &Table, is_scattered: bool) -> Result<()> {
        if self.queue.is_given_up() {
            return Err(Error::Check("what follows could not be built".to_owned()));
        }
        self.filled.insert(table.name);
        let is_filled = |name: &&str| self.filled.contains(name);
        let is_ready = |derived: &mut &Derived| derived.reads.iter().all(is_filled);
        let ready: Vec<&Derived> = self.derived.extract_if(.., is_ready).collect();
        // What takes longest comes first.
        self.derive(ready);
        let statements = self.indexes_of(table.name);
        if is_scattered {
            let order = iter::once(put_in_order(table));
            self.queue.add([order.chain(statements).collect()]);
        } else {
            self.queue.add(statements.into_iter().map(alone));
        }
        Ok(())
    }

    /// All tables are filled: works off over one more connection what is left.
    ///
    /// # Errors
    /// If Postgres refuses.
    pub async fn finish(mut self, database_url: &str) -> Result<()> {
        let rest = std::mem::take(&mut self.derived);
        self.derive(rest);
        let rest = std::mem::take(&mut self.indexes);
        self.queue
            .add(rest.into_iter().map(Statement::from).map(alone));
        self.queue.close();
        let queue = self.queue.clone();
        let finished = work_off(database_url.to_owned(), self.jobs, queue).await;
        self.is_finished = finished.is_ok();
        finished
    }

    /// Derived tables can be filled: each gets its indexes by the connection that fills it.
    fn derive(&mut self, ready: Vec<&Derived>) {
        for derived in ready {
            let mut job = vec![fill(derived)];
            job.extend(self.indexes_of(derived.table));
            self.queue.add([job]);
        }
    }

    fn indexes_of(&mut self, table: &str) -> Vec<Statement> {
        let is_of_it = |statement: &mut String| target(statement) == table;
        let statements = self.indexes.extract_if(.., is_of_it);
        statements.map(Statement::from).collect()
    }
}

impl Drop for PostData {
    /// Before [`finish`](Self::finish) has come to its end, something else has failed.
    fn drop(&mut self) {
        if !self.is_finished {
            self.queue.give_up();
        }
    }
}

fn alone(statement: Statement) -> Job {
    vec![statement]
}

/// Fills a derived table by one transaction, which empties it first, as before COPY: so it needs no write-ahead log, if
/// that is minimal.
fn fill(derived: &Derived) -> Statement {
    let Derived { table, files, .. } = derived;
    let hash_join = if derived.merges { "off" } else { "on" };
    let fills: Vec<&str> = files.iter().map(|file| file.sql).collect();
    let sql = format!(
        "set local enable_hashagg = off; set local enable_hashjoin = {hash_join}; truncate {table}; {}",
        fills.concat()
    );
    Statement {
        doing: format!("deriving {table}"),
        sql,
    }
}

/// Writes a table anew in its order, by one transaction: the index that names the order is gone
/// afterwards. CLUSTER keeps all else of the table, writes whole pages and freezes the rows.
fn put_in_order(table: &Table) -> Statement {
    let (name, order) = (table.name, table.row_order());
    let sql = format!(
        "lock table {name} in access exclusive mode;
         create index {name}_in_order on {name} ({order});
         cluster {name} using {name}_in_order;
         drop index {name}_in_order"
    );
    Statement {
        doing: format!("putting {name} in order"),
        sql,
    }
}

/// The table that a statement of `sql/indexes` is about.
fn target(statement: &str) -> &str {
    let behind = statement
        .strip_prefix("alter table ")
        .or_else(|| statement.split_once(" on ").map(|(_, behind)| behind));
    let table = behind.and_then(|behind| behind.split([' ', '(', ';']).next());
    table.unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tables::TABLES;

    #[test]
    fn every_statement_of_the_index_files_names_a_table_of_the_schema() {
        let is_table = |name: &str| {
            let start = format!("create table {name} (");
            files::SCHEMA.iter().any(|file| file.sql.contains(&start))
        };
        let post_data = PostData::of_load(Jobs::default()).unwrap();
        assert!(!post_data.indexes.is_empty());
        for statement in &post_data.indexes {
            assert!(is_table(target(statement)), "{statement}");
        }
        for derived in &post_data.derived {
            let is_loaded = |name: &&str| TABLES.iter().any(|table| table.name == *name);
            assert!(is_table(derived.table) && derived.reads.iter().all(is_loaded));
        }
    }

    #[test]
    fn rows_are_derived_once_all_that_they_follow_from_is_filled_and_before_indexes_are_built() {
        let mut post_data = PostData::of_load(Jobs::default()).unwrap();
        let mut first = Vec::new();
        for table in &TABLES {
            post_data.add(table, false).unwrap();
            let jobs = post_data.queue.take();
            let derived = jobs
                .iter()
                .take_while(|job| job[0].doing.starts_with("deriving"));
            first.extend(derived.map(|job| (table.name, job[0].doing.clone(), job.len())));
            assert_eq!(
                jobs.iter()
                    .filter(|job| job[0].doing.starts_with("deriving"))
                    .count(),
                first
                    .iter()
                    .filter(|(name, ..)| *name == table.name)
                    .count()
            );
        }
        let first: Vec<(&str, &str, usize)> = first
            .iter()
            .map(|(at, doing, len)| (*at, doing.as_str(), *len))
            .collect();
        assert_eq!(
            first,
            [
                ("products", "deriving product_counts", 2),
                ("reviews", "deriving review_ranks", 5),
                ("characteristic_reviews", "deriving review_meta", 2),
                ("questions", "deriving question_ranks", 3),
            ]
        );
        // Two lists fill it.
        assert_eq!(post_data.indexes.len(), 1);
        assert_eq!(target(&post_data.indexes[0]), "ranked_products");
    }
}
