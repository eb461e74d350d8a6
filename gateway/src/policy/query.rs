//! Which parameters of a query mean something where no route lists them: some are kept, some are not, and their order is one.
//!
//! What is left is spelled as it was received, as only the origin knows how it reads names and values. Reducing a query again
//! changes nothing.

use std::borrow::Cow;

use super::target::{BadTarget, check_query, checked_query, form_decoded, push_query};

/// Names of parameters, after percent-decoding; in each a `*` stands for any text, none included.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Names(Vec<Box<[u8]>>);

impl Names {
    /// The names that one of these patterns fits.
    pub fn new(patterns: &[String]) -> Self {
        let patterns = patterns.iter().map(|pattern| pattern.as_bytes().into());
        Self(patterns.collect())
    }

    /// Whether one of the patterns fits.
    pub fn has(&self, name: &[u8]) -> bool {
        self.0.iter().any(|pattern| fits(pattern, name))
    }
}

/// What becomes of a query.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Reduction {
    /// Parameters are put in the order of their names; those of one name stay in the order in which they came.
    pub sort: bool,
    /// All others are dropped; `None` keeps all.
    pub keep: Option<Names>,
    /// These are dropped.
    pub ignore: Names,
}

impl Reduction {
    /// The query without what means nothing; `None` when nothing is left.
    ///
    /// # Errors
    /// It holds what no request target may hold.
    pub fn reduce(&self, raw: &str) -> Result<Option<String>, BadTarget> {
        if *self == Self::default() {
            return checked_query(raw).map(Some);
        }
        check_query(raw)?;
        let mut kept: Vec<_> = raw
            .split('&')
            .filter(|pair| !pair.is_empty())
            .map(|pair| (form_decoded(pair.split('=').next().unwrap_or(pair)), pair))
            .filter(|(name, _)| self.keeps(name))
            .collect();
        let mut query = String::with_capacity(raw.len());
        if self.sort {
            push_sorted(&mut query, kept);
        } else {
            push(&mut query, kept.drain(..).map(|(_, pair)| pair));
        }
        Ok((!query.is_empty()).then_some(query))
    }

    fn keeps(&self, name: &[u8]) -> bool {
        self.keep.as_ref().is_none_or(|keep| keep.has(name)) && !self.ignore.has(name)
    }
}

/// Adds parameters to a query by their decoded names; those of one name in the order in which they came.
pub(super) fn push_sorted(query: &mut String, mut named: Vec<(Cow<'_, [u8]>, &str)>) {
    named.sort_by(|(one, _), (other, _)| one.cmp(other));
    push(query, named.iter().map(|(_, pair)| *pair));
}

fn push<'p>(query: &mut String, pairs: impl Iterator<Item = &'p str>) {
    for pair in pairs {
        if !query.is_empty() {
            query.push('&');
        }
        push_query(query, pair);
    }
}

/// Whether a pattern fits a whole name. Where the text after a star does not fit, the last star takes one byte more.
fn fits(pattern: &[u8], name: &[u8]) -> bool {
    let (mut at, mut read) = (0, 0);
    let mut star = None;
    while read < name.len() {
        if pattern.get(at) == Some(&b'*') {
            at += 1;
            star = Some((at, read));
        } else if pattern.get(at) == Some(&name[read]) {
            at += 1;
            read += 1;
        } else if let Some((behind, taken)) = star {
            star = Some((behind, taken + 1));
            (at, read) = (behind, taken + 1);
        } else {
            return false;
        }
    }
    pattern[at..].iter().all(|byte| *byte == b'*')
}

#[cfg(test)]
mod tests;
