//! The configured view of the URL space: prefixes, routes, and the parameters that mean something.
//!
//! Compiled once. A request target is resolved in one pass over its bytes and one over the routes, without a regular
//! expression; all spellings of one question resolve to the same target, and resolving a target again changes nothing.

use std::fmt::Write as _;
use std::time::Duration;

use http::Method;

use super::query::{Names, Reduction, push_sorted};
use super::target::{
    Slashes, canonical_path, check_query, checked_query, form_decoded, push_form_encoded,
};
use crate::config::{Http, Parameter, ParameterKind, Route, Segment, segments};

pub use super::target::BadTarget;

/// Known parameters of one route at most: the first values are collected on the stack.
pub use crate::config::PARAMETERS_MAX;

/// The configured view of the URL space.
#[derive(Debug, Clone)]
pub struct Routes {
    slashes: Slashes,
    cache_unmatched: bool,
    /// What becomes of the queries of cached paths outside the routes.
    unmatched: Reduction,
    /// The longest first.
    prefixes: Vec<Vec<Segment>>,
    /// In the configuration's order, which is that of [`RouteId`].
    rules: Vec<Rule>,
    /// Positions in `rules`, literal segments before free ones.
    order: Vec<usize>,
}

#[derive(Debug, Clone)]
struct Rule {
    path: String,
    segments: Vec<Segment>,
    methods: Vec<Method>,
    cache: bool,
    query: Vec<Known>,
    /// Parameters beside the known ones that are kept.
    others: Names,
    /// Of those the ones that are not.
    ignored: Names,
    negative_ttl: Option<Duration>,
}

#[derive(Debug, Clone)]
struct Known {
    name: Vec<u8>,
    /// The name as it is written into a canonical query.
    encoded: String,
    kind: ParameterKind,
}

/// The place of a route in the configuration's list.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct RouteId(usize);

impl RouteId {
    /// The place as an index.
    pub fn index(self) -> usize {
        self.0
    }
}

/// What a request target means.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Target {
    /// The canonical path: it is keyed, purged and sent to the origin.
    pub path: String,
    /// The canonical query without its question mark: effective values in fixed order on a route that is cached, reduced as
    /// configured on other cached paths, as received elsewhere.
    pub query: Option<String>,
    /// What was stripped from the front, to be put back into `Location`.
    pub prefix: Option<String>,
    /// The configured route, if one matches.
    pub route: Option<RouteId>,
    /// Whether its rule allows caching.
    pub cache: bool,
}

/// A prefix or route that cannot be compiled; a checked configuration has none.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BadRoute {
    /// A prefix.
    #[error("prefix `{path}`: {problem}")]
    Prefix {
        /// As configured.
        path: String,
        /// What is wrong with it.
        problem: String,
    },
    /// A route.
    #[error("route `{path}`: {problem}")]
    Route {
        /// As configured.
        path: String,
        /// What is wrong with it.
        problem: String,
    },
}

impl Routes {
    /// Compiles prefixes and routes.
    ///
    /// # Errors
    /// The first path that is no pattern.
    pub fn compile(http: &Http, routes: &[Route]) -> Result<Self, BadRoute> {
        let mut prefixes = Vec::with_capacity(http.prefixes.len());
        for path in &http.prefixes {
            let compiled = segments(path).map_err(|problem| BadRoute::Prefix {
                path: path.clone(),
                problem,
            })?;
            prefixes.push(compiled);
        }
        prefixes.sort_by_key(|prefix| (std::cmp::Reverse(prefix.len()), shape(prefix)));
        let ignored = Names::new(&http.query_ignore);
        let rules: Vec<_> = routes
            .iter()
            .map(|route| Rule::compile(route, &ignored))
            .collect::<Result<_, _>>()?;
        let mut order: Vec<_> = (0..rules.len()).collect();
        order.sort_by_key(|index| shape(&rules[*index].segments));
        Ok(Self {
            slashes: Slashes {
                collapse: http.collapse_slashes,
                drop_trailing: http.drop_trailing_slash,
            },
            cache_unmatched: http.cache_unmatched,
            unmatched: Reduction {
                sort: http.query_sort,
                keep: http.query_keep.as_deref().map(Names::new),
                ignore: ignored,
            },
            prefixes,
            rules,
            order,
        })
    }

    /// Finds out what a request target means, from its path and query as received.
    ///
    /// # Errors
    /// Why no origin may see it.
    pub fn resolve(&self, raw_path: &str, raw_query: Option<&str>) -> Result<Target, BadTarget> {
        let mut path = canonical_path(raw_path, self.slashes)?;
        let prefix = self.strip_prefix(&mut path)?;
        let route = self.find(&path);
        let rule = route.map(|id| &self.rules[id.0]);
        let cache = rule.map_or(self.cache_unmatched, |rule| rule.cache);
        let query = match (rule, raw_query) {
            (Some(rule), raw) if cache => rule.canonical_query(raw.unwrap_or_default())?,
            (None, Some(raw)) if cache => self.unmatched.reduce(raw)?,
            (_, raw) => raw.map(checked_query).transpose()?,
        };
        Ok(Target {
            path,
            query,
            prefix,
            route,
            cache,
        })
    }

    /// The canonical beginning of paths: as [`Self::resolve`] would spell it, but a slash at its end stays, because it tells
    /// what is below a path from what merely begins like it.
    ///
    /// # Errors
    /// Why no path begins so.
    pub fn path_prefix(&self, raw_path: &str) -> Result<String, BadTarget> {
        let slashes = Slashes {
            drop_trailing: false,
            ..self.slashes
        };
        let mut path = canonical_path(raw_path, slashes)?;
        self.strip_prefix(&mut path)?;
        Ok(path)
    }

    /// The route's configured path, for logs and metrics.
    pub fn name(&self, id: RouteId) -> &str {
        self.rules.get(id.0).map_or("", |rule| &rule.path)
    }

    /// The methods the route accepts; HEAD is among them wherever GET is.
    pub fn methods(&self, id: RouteId) -> &[Method] {
        self.rules.get(id.0).map_or(&[], |rule| &rule.methods)
    }

    /// What the route grants to answers that there is nothing, if it says so itself.
    pub fn negative_ttl(&self, id: RouteId) -> Option<Duration> {
        self.rules.get(id.0)?.negative_ttl
    }

    /// Every route with its name, in the configuration's order.
    pub fn iter(&self) -> impl Iterator<Item = (RouteId, &str)> {
        self.rules
            .iter()
            .enumerate()
            .map(|(index, rule)| (RouteId(index), rule.path.as_str()))
    }

    /// Cuts the longest configured prefix off a canonical path.
    fn strip_prefix(&self, path: &mut String) -> Result<Option<String>, BadTarget> {
        let Some(length) = self.prefix_len(path) else {
            return Ok(None);
        };
        let rest = match path.split_off(length) {
            rest if rest.is_empty() => "/".to_owned(),
            rest => rest,
        };
        // A second prefix would be cut off the next time: the target would have two names.
        if self.prefix_len(&rest).is_some() {
            return Err(BadTarget::RepeatedPrefix);
        }
        Ok(Some(std::mem::replace(path, rest)))
    }

    fn prefix_len(&self, path: &str) -> Option<usize> {
        self.prefixes.iter().find_map(|prefix| {
            let mut rest = path;
            for segment in prefix {
                rest = rest.strip_prefix('/')?;
                let (head, _) = rest.split_once('/').unwrap_or((rest, ""));
                let matches = match segment {
                    Segment::Literal(text) => head == &**text,
                    Segment::Free => is_prefix_word(head),
                };
                if !matches {
                    return None;
                }
                rest = &rest[head.len()..];
            }
            Some(path.len() - rest.len())
        })
    }

    fn find(&self, path: &str) -> Option<RouteId> {
        let id = self
            .order
            .iter()
            .find(|index| self.rules[**index].matches(path))?;
        Some(RouteId(*id))
    }
}

/// Sorts literal segments before free ones, from the left.
fn shape(segments: &[Segment]) -> Vec<bool> {
    segments
        .iter()
        .map(|segment| *segment == Segment::Free)
        .collect()
}

/// Whether a segment may stand for the `{name}` of a prefix.
fn is_prefix_word(segment: &str) -> bool {
    !segment.is_empty()
        && segment
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || byte == b'-')
}

impl Rule {
    fn compile(route: &Route, ignored: &Names) -> Result<Self, BadRoute> {
        let problem = |problem| BadRoute::Route {
            path: route.path.clone(),
            problem,
        };
        if route.query.len() > PARAMETERS_MAX {
            return Err(problem(format!("more than {PARAMETERS_MAX} parameters")));
        }
        Ok(Self {
            path: route.path.clone(),
            segments: segments(&route.path).map_err(problem)?,
            methods: route.methods.clone(),
            cache: route.cache,
            query: route.query.iter().map(Known::compile).collect(),
            others: Names::new(&route.query_keep),
            ignored: ignored.clone(),
            negative_ttl: route.negative_ttl,
        })
    }

    fn matches(&self, path: &str) -> bool {
        let mut parts = path.strip_prefix('/').unwrap_or(path).split('/');
        let all = self
            .segments
            .iter()
            .all(|segment| match (segment, parts.next()) {
                (Segment::Literal(text), Some(part)) => part == &**text,
                (Segment::Free, Some(part)) => !part.is_empty(),
                (Segment::Literal(_) | Segment::Free, None) => false,
            });
        all && parts.next().is_none()
    }

    /// The known parameters with their effective values, in the configured order; of a repeated one the first counts. Behind
    /// them those others that are kept, by name.
    fn canonical_query(&self, raw: &str) -> Result<Option<String>, BadTarget> {
        check_query(raw)?;
        let mut first = [None; PARAMETERS_MAX];
        let mut others = Vec::new();
        for pair in raw.split('&').filter(|pair| !pair.is_empty()) {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            let name = form_decoded(name);
            if let Some(index) = self.query.iter().position(|known| known.name == *name) {
                first[index].get_or_insert(value);
            } else if self.others.has(&name) && !self.ignored.has(&name) {
                others.push((name, pair));
            }
        }
        let mut query = String::with_capacity(raw.len());
        for (known, raw) in self.query.iter().zip(first) {
            known.push_effective(&mut query, raw);
        }
        push_sorted(&mut query, others);
        Ok((!query.is_empty()).then_some(query))
    }
}

impl Known {
    fn compile(parameter: &Parameter) -> Self {
        let name = parameter.name.as_bytes().to_vec();
        let mut encoded = String::new();
        push_form_encoded(&mut encoded, &name);
        Self {
            name,
            encoded,
            kind: parameter.kind.clone(),
        }
    }

    fn push_effective(&self, query: &mut String, raw: Option<&str>) {
        let value = raw.map(form_decoded);
        if value.is_none() && self.kind == ParameterKind::Verbatim {
            return;
        }
        let value = value.unwrap_or_default();
        if !query.is_empty() {
            query.push('&');
        }
        query.push_str(&self.encoded);
        query.push('=');
        match &self.kind {
            ParameterKind::Verbatim => push_form_encoded(query, &value),
            ParameterKind::Integer { default, min, max } => {
                let number = integer(&value, *min, *max).unwrap_or(*default);
                // Writing to a String cannot fail.
                let _ = write!(query, "{number}");
            }
            ParameterKind::Choice {
                values,
                default,
                ignore_case,
            } => {
                let chosen = choice(&value, values, *ignore_case).unwrap_or(default);
                push_form_encoded(query, chosen.as_bytes());
            }
        }
    }
}

/// Reads digits, at most `max`; none for anything else and for what is below `min`.
fn integer(text: &[u8], min: u64, max: u64) -> Option<u64> {
    if text.is_empty() || !text.iter().all(u8::is_ascii_digit) {
        return None;
    }
    let number = text.iter().fold(0_u64, |sum, digit| {
        sum.saturating_mul(10)
            .saturating_add(u64::from(digit - b'0'))
    });
    (number >= min).then_some(number.min(max))
}

/// The canonical value that `text` or one of its aliases names.
fn choice<'v>(
    text: &[u8],
    values: &'v [(String, Vec<String>)],
    ignore_case: bool,
) -> Option<&'v String> {
    let is = |word: &String| {
        let word = word.as_bytes();
        if ignore_case {
            word.eq_ignore_ascii_case(text)
        } else {
            word == text
        }
    };
    let (value, _) = values
        .iter()
        .find(|(value, aliases)| is(value) || aliases.iter().any(is))?;
    Some(value)
}

#[cfg(test)]
mod tests;
