//! Finds everything in a section that cannot be read, where the parser itself ends at the first.
//!
//! Each setting is read alone, in an otherwise empty section: what fails then is wrong itself. Tables and lists are taken apart
//! the same way, down to the value.

use std::ops::Range;

use serde::de::{DeserializeOwned, IntoDeserializer};
use toml::Spanned;
use toml::de::{DeArray, DeTable, DeValue};

use super::wording;

/// Something that cannot be read.
pub(super) struct Fault {
    /// The setting below the section, as `.budget` or `.nodes[1].weight`; empty when the section as a whole is meant.
    pub(super) path: String,
    /// Its bytes in the file.
    pub(super) span: Range<usize>,
    /// What is wrong with it.
    pub(super) message: String,
}

/// A section that is read with other contents, to see whether they are what is wrong.
type Read<'a, 't> = &'a dyn Fn(DeValue<'t>) -> Option<toml::de::Error>;

/// Everything that keeps a section from being read as a `T`; never empty if it cannot be.
pub(super) fn faults<'t, T: DeserializeOwned>(section: &Spanned<DeValue<'t>>) -> Vec<Fault> {
    let span = section.span();
    let read = |value: DeValue<'t>| {
        T::deserialize(Spanned::new(span.clone(), value).into_deserializer()).err()
    };
    let mut search = Search::default();
    search.inside(section, "", &read);
    if search.faults.is_empty()
        && let Some(error) = read(section.get_ref().clone())
    {
        search.note(String::new(), section.span(), &error);
    }
    search.faults
}

#[derive(Default)]
struct Search {
    faults: Vec<Fault>,
    /// What is missing in each table around the one at hand only because everything else was left out.
    lacking: Vec<String>,
}

impl Search {
    fn note(&mut self, path: String, span: Range<usize>, error: &toml::de::Error) {
        let message = wording::explain(error.message());
        self.faults.push(Fault {
            path,
            span,
            message,
        });
    }

    /// Whether an error is only about what was left out.
    fn is_lacking(&self, error: &toml::de::Error) -> bool {
        self.lacking
            .iter()
            .any(|lacking| lacking == error.message())
    }

    /// Looks into a table or a list.
    fn inside<'t>(&mut self, value: &Spanned<DeValue<'t>>, path: &str, read: Read<'_, 't>) {
        match value.get_ref() {
            DeValue::Table(table) => self.inside_table(table, value.span(), path, read),
            DeValue::Array(array) => self.inside_list(array, path, read),
            // A plain value has nothing inside.
            _ => {}
        }
    }

    fn inside_table<'t>(
        &mut self,
        table: &DeTable<'t>,
        span: Range<usize>,
        path: &str,
        read: Read<'_, 't>,
    ) {
        let lacking = match read(DeValue::Table(DeTable::new())) {
            None => None,
            Some(error) if wording::is_missing(error.message()) => Some(error.message().to_owned()),
            Some(_) => return, // no table is right here
        };
        let depth = self.lacking.len();
        self.lacking.extend(lacking);
        let mut rest = table.clone();
        for (key, child) in table {
            let read = |value: DeValue<'t>| {
                let mut alone = DeTable::new();
                alone.insert(key.clone(), Spanned::new(child.span(), value));
                read(DeValue::Table(alone))
            };
            let before = self.faults.len();
            let path = format!("{path}.{}", key.get_ref());
            match read(child.get_ref().clone()) {
                Some(error) if wording::unknown_name(error.message()) == Some(key.get_ref()) => {
                    self.note(path, key.span(), &error); // the key's place, not the value's
                }
                Some(error) => self.judge(child, path, &error, &read),
                None => {}
            }
            if self.faults.len() > before {
                rest.remove::<str>(key.get_ref());
            }
        }
        self.lacking.truncate(depth);
        // What is missing beside what is wrong.
        if rest.len() < table.len()
            && let Some(error) = read(DeValue::Table(rest))
            && wording::is_missing(error.message())
            && !self.is_lacking(&error)
        {
            self.note(path.to_owned(), span, &error);
        }
    }

    fn inside_list<'t>(&mut self, list: &DeArray<'t>, path: &str, read: Read<'_, 't>) {
        let refused = read(DeValue::Array(DeArray::new()));
        if refused.is_some_and(|error| !self.is_lacking(&error)) {
            return; // no list is right here
        }
        for (index, child) in list.iter().enumerate() {
            let read = |value: DeValue<'t>| {
                let mut alone = DeArray::new();
                alone.push(Spanned::new(child.span(), value));
                read(DeValue::Array(alone))
            };
            if let Some(error) = read(child.get_ref().clone()) {
                self.judge(child, format!("{path}[{index}]"), &error, &read);
            }
        }
    }

    /// Notes what a value read alone has shown to be wrong: inside it, or itself.
    fn judge<'t>(
        &mut self,
        child: &Spanned<DeValue<'t>>,
        path: String,
        error: &toml::de::Error,
        read: Read<'_, 't>,
    ) {
        let before = self.faults.len();
        self.inside(child, &path, read);
        if self.faults.len() == before && !self.is_lacking(error) {
            self.note(path, child.span(), error);
        }
    }
}
