//! How long an answer may be kept, and under which groups: the only place that says so.
//!
//! A handler attaches a [`CachePolicy`] to its answer; the one layer around all handlers ([`crate::front`]) has
//! [`CacheHeaders`] write the fields. An answer without a policy is never stored.

use std::{fmt, time::Duration};

use http::{
    HeaderMap, HeaderName, HeaderValue,
    header::{CACHE_CONTROL, ETAG, IF_NONE_MATCH},
};

use sqlx::{Row as _, postgres::PgRow};

use crate::{error::Result, id::Id};

/// RFC 9213: the lifetime for caches of ours, which hear of every change.
pub const CDN_CACHE_CONTROL: HeaderName = HeaderName::from_static("cdn-cache-control");
/// RFC 9875: the groups an answer belongs to.
pub const CACHE_GROUPS: HeaderName = HeaderName::from_static("cache-groups");
/// RFC 9875: the groups that a write has made out of date.
pub const CACHE_GROUP_INVALIDATION: HeaderName =
    HeaderName::from_static("cache-group-invalidation");

/// How long caches of ours keep an answer that nothing has invalidated.
pub const PUBLIC_LIFETIME: Duration = Duration::from_secs(86_400);
/// How long after that they may still serve it while the origin cannot answer.
pub const STALE_IF_ERROR: Duration = Duration::from_secs(86_400);

/// Class P: clients ask again each time.
const PUBLIC: HeaderValue = HeaderValue::from_static("public, max-age=0, must-revalidate");
/// Class N.
const PRIVATE: HeaderValue = HeaderValue::from_static("private, no-store");

/// Names the transaction of a write: a cache of ours whose position includes it has heard of the write.
pub const CACHE_COHERENCE_TOKEN: HeaderName = HeaderName::from_static("cache-coherence-token");

/// What a write has made out of date.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Change {
    /// The cache groups.
    pub groups: Vec<String>,
    /// The number of a transaction that ended with the write or after it, if there are groups.
    pub token: Option<String>,
}

impl Change {
    /// Reads it from a row with these columns.
    pub fn from_row(row: &PgRow) -> Result<Self> {
        Ok(Self {
            groups: row.try_get("groups")?,
            token: row.try_get("token")?,
        })
    }
}

/// What may be done with an answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CachePolicy {
    /// A page of the list of products.
    Products,
    /// A product or its styles, or that there is no such product.
    Product(Id),
    /// The related products of a product: depends on which products there are.
    Related(Id),
    /// A page of a product's reviews.
    Reviews(Id),
    /// The ratings of a product.
    Meta(Id),
    /// A page of a product's questions.
    Questions(Id),
    /// A page of a question's answers.
    Answers(Id),
    /// Never stored.
    NoStore,
    /// The answer to a write: never stored, and the named groups are out of date.
    Invalidates(Change),
}

impl CachePolicy {
    /// Whether caches may keep the answer (class P).
    pub fn is_public(&self) -> bool {
        match self {
            Self::Products
            | Self::Product(_)
            | Self::Related(_)
            | Self::Reviews(_)
            | Self::Meta(_)
            | Self::Questions(_)
            | Self::Answers(_) => true,
            Self::NoStore | Self::Invalidates(_) => false,
        }
    }

    /// Writes the groups of a read as members of a list, each followed by a comma.
    fn write_groups(&self, list: &mut String) -> fmt::Result {
        use fmt::Write as _;
        match self {
            Self::Products => list.write_str(r#""products", "#),
            Self::Product(id) => write!(list, r#""product-{id}", "#),
            Self::Related(id) => write!(list, r#""product-{id}", "product-ids", "#),
            Self::Reviews(id) => write!(list, r#""product-{id}-reviews", "#),
            Self::Meta(id) => write!(list, r#""product-{id}-meta", "#),
            Self::Questions(id) => write!(list, r#""product-{id}-questions", "#),
            Self::Answers(id) => write!(list, r#""question-{id}-answers", "#),
            Self::NoStore | Self::Invalidates(_) => Ok(()),
        }
    }
}

/// Writes cache fields: what is the same for every answer is made once.
#[derive(Clone, Debug)]
pub struct CacheHeaders {
    cdn_cache_control: HeaderValue,
    /// The group of everything that this build has answered, as a member of a list.
    release: String,
}

impl CacheHeaders {
    /// Prepares the fields for a build with this digest, which is letters and digits.
    pub fn new(release_digest: &str) -> Self {
        let lifetime = PUBLIC_LIFETIME.as_secs();
        let stale = STALE_IF_ERROR.as_secs();
        let text = format!("public, max-age={lifetime}, stale-if-error={stale}");
        Self {
            cdn_cache_control: HeaderValue::from_str(&text).unwrap_or(PRIVATE),
            release: format!(r#""release-{release_digest}""#),
        }
    }

    /// Names the build on an answer that is about nothing else.
    pub fn write_release(&self, headers: &mut HeaderMap) {
        if let Ok(release) = HeaderValue::from_str(&self.release) {
            headers.insert(CACHE_GROUPS, release);
        }
    }

    /// Writes the fields that a policy stands for.
    pub fn write(&self, policy: &CachePolicy, headers: &mut HeaderMap) {
        let groups = policy.is_public().then(|| self.groups(policy)).flatten();
        if let Some(groups) = groups {
            headers.insert(CACHE_CONTROL, PUBLIC);
            headers.insert(CDN_CACHE_CONTROL, self.cdn_cache_control.clone());
            headers.insert(CACHE_GROUPS, groups);
            return;
        }
        headers.insert(CACHE_CONTROL, PRIVATE);
        if let CachePolicy::Invalidates(change) = policy
            && let Some(list) = string_list(&change.groups)
        {
            headers.insert(CACHE_GROUP_INVALIDATION, list);
            let token = change.token.as_deref().map(HeaderValue::from_str);
            if let Some(Ok(token)) = token {
                headers.insert(CACHE_COHERENCE_TOKEN, token);
            }
        }
    }

    /// The groups of a read; without them it could not be invalidated, and must not be stored.
    fn groups(&self, policy: &CachePolicy) -> Option<HeaderValue> {
        let mut list = String::with_capacity(64);
        policy.write_groups(&mut list).ok()?;
        list.push_str(&self.release);
        HeaderValue::try_from(list).ok()
    }
}

/// A structured field that is a list of strings, or nothing for an empty list.
fn string_list(members: &[String]) -> Option<HeaderValue> {
    let mut list = String::with_capacity(members.iter().map(|member| member.len() + 4).sum());
    for member in members {
        list.push_str(if list.is_empty() { "\"" } else { ", \"" });
        list.push_str(member);
        list.push('"');
    }
    HeaderValue::try_from(list)
        .ok()
        .filter(|list| !list.is_empty())
}

/// Whether a request already has the answer whose fields these are (RFC 9110, 13.1.2: weak comparison).
pub fn is_not_modified(if_none_match: Option<&HeaderValue>, headers: &HeaderMap) -> bool {
    let Some(etag) = headers.get(ETAG).map(HeaderValue::as_bytes) else {
        return false;
    };
    if_none_match.is_some_and(|value| {
        value.as_bytes().split(|byte| *byte == b',').any(|member| {
            let member = member.trim_ascii();
            member == b"*" || member.strip_prefix(b"W/").unwrap_or(member) == etag
        })
    })
}

/// The validators a request carries; several fields count as one list.
pub fn if_none_match(headers: &HeaderMap) -> Option<HeaderValue> {
    let mut values = headers.get_all(IF_NONE_MATCH).iter();
    let first = values.next()?;
    let Some(second) = values.next() else {
        return Some(first.clone());
    };
    let mut all = first.as_bytes().to_vec();
    for value in std::iter::once(second).chain(values) {
        all.extend_from_slice(b", ");
        all.extend_from_slice(value.as_bytes());
    }
    HeaderValue::from_bytes(&all).ok()
}

#[cfg(test)]
mod tests {
    use sfv::{BareItem, ListEntry, Parser};

    use super::*;

    fn written(policy: &CachePolicy) -> HeaderMap {
        let mut headers = HeaderMap::new();
        CacheHeaders::new("abc").write(policy, &mut headers);
        headers
    }

    fn list(headers: &HeaderMap, name: &HeaderName) -> Vec<String> {
        let value = headers.get(name).expect("field").as_bytes();
        let list: sfv::List = Parser::new(value).parse().expect("structured field");
        list.into_iter()
            .map(|entry| match entry {
                ListEntry::Item(item) => match item.bare_item {
                    BareItem::String(text) => text.as_str().to_owned(),
                    other => panic!("not a string: {other:?}"),
                },
                ListEntry::InnerList(_) => panic!("an inner list"),
            })
            .collect()
    }

    #[test]
    fn every_read_names_its_groups_and_its_release() {
        let id = Id::Row(2);
        for (policy, groups) in [
            (CachePolicy::Products, vec!["products"]),
            (CachePolicy::Product(id.clone()), vec!["product-2"]),
            (
                CachePolicy::Related(id.clone()),
                vec!["product-2", "product-ids"],
            ),
            (CachePolicy::Reviews(id.clone()), vec!["product-2-reviews"]),
            (CachePolicy::Meta(id.clone()), vec!["product-2-meta"]),
            (
                CachePolicy::Questions(id.clone()),
                vec!["product-2-questions"],
            ),
            (CachePolicy::Answers(id), vec!["question-2-answers"]),
        ] {
            let headers = written(&policy);
            let expected: Vec<_> = groups.into_iter().chain(["release-abc"]).collect();
            assert_eq!(list(&headers, &CACHE_GROUPS), expected);
            assert_eq!(headers[CACHE_CONTROL], "public, max-age=0, must-revalidate");
            assert_eq!(
                headers[CDN_CACHE_CONTROL],
                "public, max-age=86400, stale-if-error=86400"
            );
        }
    }

    #[test]
    fn a_write_names_what_it_invalidates_and_is_never_stored() {
        let groups = vec!["product-2-reviews".to_owned(), "product-2-meta".to_owned()];
        let headers = written(&CachePolicy::Invalidates(Change {
            groups: groups.clone(),
            token: None,
        }));
        assert_eq!(list(&headers, &CACHE_GROUP_INVALIDATION), groups);
        assert_eq!(headers[CACHE_CONTROL], "private, no-store");
        assert!(!headers.contains_key(CDN_CACHE_CONTROL));
    }

    #[test]
    fn a_write_without_groups_has_no_such_field() {
        let headers = written(&CachePolicy::Invalidates(Change::default()));
        assert!(!headers.contains_key(CACHE_GROUP_INVALIDATION));
        assert_eq!(headers[CACHE_CONTROL], "private, no-store");
    }

    #[test]
    fn if_none_match_compares_weakly_and_reads_lists() {
        let mut headers = HeaderMap::new();
        headers.insert(ETAG, HeaderValue::from_static("\"a\""));
        for (value, expected) in [
            ("\"a\"", true),
            ("W/\"a\"", true),
            ("*", true),
            ("\"b\", \"a\"", true),
            ("\"b\"", false),
            ("a", false),
            ("", false),
        ] {
            let value = HeaderValue::from_static(value);
            assert_eq!(
                is_not_modified(Some(&value), &headers),
                expected,
                "{value:?}"
            );
        }
        assert!(!is_not_modified(None, &headers));
    }
}
