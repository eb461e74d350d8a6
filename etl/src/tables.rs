//! The registry: every file of the data set once, parents before children, with its columns and how
//! a row is read.
//!
//! To add one: the table in `sql/schema`, its keys in `sql/indexes`, a function here that reads its
//! rows, an entry in [`TABLES`], a writer in `generate`, and a fixture.

mod catalogue;
mod questions;
mod reviews;

use crate::{
    clean::Cell,
    copy::Encoder,
    field,
    ids::Ids,
    reader::{Dialect, Fields},
    reject::{Fault, Reason, Repairs},
    sums::Addend,
};

/// A file of the data set and the table it fills.
#[derive(Debug)]
pub struct Table {
    /// The table's name in the schema.
    pub name: &'static str,
    /// The names its file may have, the usual one first.
    pub files: &'static [&'static str],
    /// The columns of the file, as the header names them.
    pub header: &'static [&'static str],
    /// The columns of the table in the order in which `read` encodes them.
    pub columns: &'static str,
    /// What each of those is, for who writes the file again.
    pub cells: &'static [Cell],
    /// The order in which rows that are read together lie together; `None` if no request reads more
    /// than one of them.
    pub order: Option<&'static str>,
    /// How its rows end.
    pub dialect: Dialect,
    /// Reads a row: fields to values, values against ids, values to the encoder. Nothing is encoded
    /// of a refused row.
    pub read: for<'a> fn(&mut Row<'a>) -> Result<Encoded, Fault>,
    /// Forgets what no later table needs.
    pub release: fn(&mut Ids),
}

impl Table {
    /// The order in which its rows should lie.
    #[must_use]
    pub fn row_order(&self) -> &'static str {
        self.order.unwrap_or("id")
    }
}

/// Forgets the ids that are needed neither by this table nor by one behind it, also those of tables whose file is not given.
pub fn release_before(table: &Table, ids: &mut Ids) {
    let before = TABLES.iter().take_while(|other| other.name != table.name);
    before.for_each(|other| (other.release)(ids));
}

/// A row that has been encoded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Encoded {
    /// Its id.
    pub id: i32,
    /// The same number for rows that are read together: their product, or of products the part of
    /// their list.
    pub read_with: i32,
}

/// The data set, in the order in which it is loaded: a table is known before its children are, and what takes long to derive
/// from or to index comes before what does not, so that it is done beside COPY.
pub static TABLES: [Table; 13] = [
    Table {
        name: "products",
        files: &["product.csv", "products.csv"],
        header: &[
            "id",
            "name",
            "slogan",
            "description",
            "category",
            "default_price",
        ],
        columns: "id, name, slogan, description, category, default_price, created_at, updated_at",
        cells: &[
            Cell::Integer,
            Cell::Text,
            Cell::Text,
            Cell::Text,
            Cell::Text,
            Cell::Price,
            Cell::Derived,
            Cell::Derived,
        ],
        order: Some("id"),
        dialect: Dialect::Quoted,
        read: catalogue::product,
        release: keep,
    },
    Table {
        name: "features",
        files: &["features.csv"],
        header: &["id", "product_id", "feature", "value"],
        columns: "id, product_id, feature, value",
        cells: &[Cell::Integer, Cell::Integer, Cell::Text, Cell::NullableText],
        order: Some("product_id, id"),
        dialect: Dialect::Quoted,
        read: catalogue::feature,
        release: keep,
    },
    Table {
        name: "styles",
        files: &["styles.csv"],
        header: &[
            "id",
            "productId",
            "name",
            "sale_price",
            "original_price",
            "default_style",
        ],
        columns: "id, product_id, name, sale_price, original_price, is_default",
        cells: &[
            Cell::Integer,
            Cell::Integer,
            Cell::Text,
            Cell::Price,
            Cell::Price,
            Cell::OneZero,
        ],
        order: Some("product_id, id"),
        dialect: Dialect::Quoted,
        read: catalogue::style,
        release: keep,
    },
    Table {
        name: "skus",
        files: &["skus.csv"],
        header: &["id", "styleId", "size", "quantity"],
        columns: "id, style_id, product_id, size, quantity",
        cells: &[
            Cell::Integer,
            Cell::Integer,
            Cell::Derived,
            Cell::Text,
            Cell::Integer,
        ],
        order: Some("product_id, style_id, id"),
        dialect: Dialect::Quoted,
        read: catalogue::sku,
        release: keep,
    },
    Table {
        name: "photos",
        files: &["photos.csv"],
        header: &["id", "styleId", "url", "thumbnail_url"],
        columns: "id, style_id, product_id, url, thumbnail_url",
        cells: &[
            Cell::Integer,
            Cell::Integer,
            Cell::Derived,
            Cell::NullableText,
            Cell::NullableText,
        ],
        order: Some("product_id, style_id, id"),
        dialect: Dialect::Lines,
        read: catalogue::photo,
        release: |ids| ids.styles = Default::default(),
    },
    Table {
        name: "related",
        files: &["related.csv"],
        header: &["id", "current_product_id", "related_product_id"],
        columns: "id, product_id, related_id, related_exists",
        cells: &[Cell::Integer, Cell::Integer, Cell::Integer, Cell::Derived],
        order: Some("product_id, id"),
        dialect: Dialect::Quoted,
        read: catalogue::related,
        release: keep,
    },
    Table {
        name: "characteristics",
        files: &["characteristics.csv"],
        header: &["id", "product_id", "name"],
        columns: "id, product_id, name",
        cells: &[Cell::Integer, Cell::Integer, Cell::Text],
        order: Some("product_id, id"),
        dialect: Dialect::Quoted,
        read: reviews::characteristic,
        release: keep,
    },
    Table {
        name: "reviews",
        files: &["reviews.csv"],
        header: &[
            "id",
            "product_id",
            "rating",
            "date",
            "summary",
            "body",
            "recommend",
            "reported",
            "reviewer_name",
            "reviewer_email",
            "response",
            "helpfulness",
        ],
        columns: "id, product_id, rating, date, summary, body, recommend, reported, \
                  reviewer_name, reviewer_email, response, helpfulness",
        cells: &[
            Cell::Integer,
            Cell::Integer,
            Cell::Integer,
            Cell::Time,
            Cell::Text,
            Cell::Text,
            Cell::TrueFalse,
            Cell::TrueFalse,
            Cell::Text,
            Cell::Text,
            Cell::NullableText,
            Cell::Integer,
        ],
        order: Some("product_id, id"),
        dialect: Dialect::Quoted,
        read: reviews::review,
        release: keep,
    },
    Table {
        name: "characteristic_reviews",
        files: &["characteristic_reviews.csv", "characteristics_reviews.csv"],
        header: &["id", "characteristic_id", "review_id", "value"],
        columns: "id, characteristic_id, review_id, product_id, value",
        cells: &[
            Cell::Integer,
            Cell::Integer,
            Cell::Integer,
            Cell::Derived,
            Cell::Integer,
        ],
        order: None,
        dialect: Dialect::Quoted,
        read: reviews::vote,
        release: |ids| ids.characteristics = Default::default(),
    },
    Table {
        name: "review_photos",
        files: &["reviews_photos.csv"],
        header: &["id", "review_id", "url"],
        columns: "id, review_id, product_id, url",
        cells: &[Cell::Integer, Cell::Integer, Cell::Derived, Cell::Text],
        order: Some("product_id, review_id, id"),
        dialect: Dialect::Quoted,
        read: reviews::photo,
        release: |ids| ids.reviews = Default::default(),
    },
    Table {
        name: "questions",
        files: &["questions.csv"],
        header: &[
            "id",
            "product_id",
            "body",
            "date_written",
            "asker_name",
            "asker_email",
            "reported",
            "helpful",
        ],
        columns: "id, product_id, body, date, asker_name, asker_email, reported, helpfulness",
        cells: &[
            Cell::Integer,
            Cell::Integer,
            Cell::Text,
            Cell::Time,
            Cell::Text,
            Cell::Text,
            Cell::OneZero,
            Cell::Integer,
        ],
        order: Some("product_id, id"),
        dialect: Dialect::Quoted,
        read: questions::question,
        release: |ids| ids.products = Default::default(),
    },
    Table {
        name: "answers",
        files: &["answers.csv"],
        header: &[
            "id",
            "question_id",
            "body",
            "date_written",
            "answerer_name",
            "answerer_email",
            "reported",
            "helpful",
        ],
        columns: "id, question_id, product_id, body, date, answerer_name, answerer_email, \
                  reported, helpfulness",
        cells: &[
            Cell::Integer,
            Cell::Integer,
            Cell::Derived,
            Cell::Text,
            Cell::Time,
            Cell::Text,
            Cell::Text,
            Cell::OneZero,
            Cell::Integer,
        ],
        order: Some("product_id, question_id, id"),
        dialect: Dialect::Quoted,
        read: questions::answer,
        release: keep,
    },
    Table {
        name: "answer_photos",
        files: &["answers_photos.csv"],
        header: &["id", "answer_id", "url"],
        columns: "id, answer_id, question_id, product_id, url",
        cells: &[
            Cell::Integer,
            Cell::Integer,
            Cell::Derived,
            Cell::Derived,
            Cell::Text,
        ],
        order: Some("product_id, question_id, id"),
        dialect: Dialect::Quoted,
        read: questions::photo,
        release: |ids| {
            ids.questions = Default::default();
            ids.answers = Default::default();
        },
    },
];

/// The cart of the former shop: known, and left out.
pub const SKIPPED_FILE: &str = "cart.csv";
/// The headers that it may have.
pub const SKIPPED_HEADERS: [&[&str]; 2] = [
    &["id", "user_session", "product_id", "active"],
    &["id", "user_session", "skus_id", "active"],
];

fn keep(_: &mut Ids) {}

/// A row on its way from fields to COPY.
#[derive(Debug)]
pub struct Row<'a> {
    /// What the file holds.
    pub fields: Fields<'a>,
    /// What has been repaired so far.
    pub repairs: Repairs,
    /// What is known of the tables before.
    pub ids: &'a mut Ids,
    /// Where the row goes if nothing is wrong with it.
    pub out: &'a mut Encoder,
    /// What the row adds to a derived one.
    pub adds: Option<Addend>,
    /// Room to mend two URLs in.
    pub mended: &'a mut [Vec<u8>; 2],
    /// When the products of this load came to be, in microseconds since 2000.
    pub loaded_at: i64,
}

impl<'a> Row<'a> {
    fn columns(&self, expected: usize) -> Result<(), Fault> {
        if self.fields.len() == expected {
            Ok(())
        } else {
            Err(Reason::ColumnCount.into())
        }
    }

    fn id(&self, column: usize) -> Result<i32, Fault> {
        field::id(self.fields.get(column)).map_err(|reason| reason.at(column))
    }

    fn count(&self, column: usize) -> Result<i32, Fault> {
        field::count(self.fields.get(column)).map_err(|reason| reason.at(column))
    }

    fn stars(&self, column: usize) -> Result<i16, Fault> {
        field::stars(self.fields.get(column)).map_err(|reason| reason.at(column))
    }

    fn boolean(&self, column: usize) -> Result<bool, Fault> {
        field::boolean(self.fields.get(column)).map_err(|reason| reason.at(column))
    }

    fn price(&mut self, column: usize) -> Result<u64, Fault> {
        field::price(self.fields.get(column), &mut self.repairs).map_err(|reason| reason.at(column))
    }

    fn timestamp(&mut self, column: usize) -> Result<i64, Fault> {
        field::timestamp(self.fields.get(column), &mut self.repairs)
            .map_err(|reason| reason.at(column))
    }

    fn url(&self, column: usize) -> Result<&'a [u8], Fault> {
        field::url(self.fields.get(column)).map_err(|reason| reason.at(column))
    }

    /// Refuses an id that is not new to a table of which nothing else is kept.
    fn unseen(&self, id: i32) -> Result<(), Fault> {
        self.ids.unseen(id).map_err(|reason| reason.at(0))
    }

    fn text(&self, column: usize) -> &'a [u8] {
        self.fields.get(column)
    }

    fn nullable_text(&self, column: usize) -> Option<&'a [u8]> {
        Some(self.fields.get(column)).filter(|text| !field::is_null(text))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_table_says_where_each_of_its_columns_goes() {
        for table in &TABLES {
            let targets = table.columns.split(", ").count();
            assert!(targets >= table.header.len(), "{}", table.name);
            let of_file = table.cells.iter().filter(|cell| **cell != Cell::Derived);
            assert_eq!(of_file.count(), table.header.len(), "{}", table.name);
            assert_eq!(table.cells.len(), targets, "{}", table.name);
            assert!(table.columns.starts_with("id, "), "{}", table.name);
            let mut order = table.row_order().split(", ");
            assert!(
                order.all(|column| table.columns.split(", ").any(|name| name == column)),
                "{}",
                table.name
            );
            assert!(!table.files.contains(&SKIPPED_FILE));
        }
    }
}
