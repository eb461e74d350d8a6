//! Paths that a site once had, as requests for those that it has.
//!
//! A rule is `from = "/reviews/{product:number}/list"`, `to = "/reviews?product_id={product}"`. A part in braces is one
//! segment: `{name}` any that is not empty, `{name:number}` one of digits only. What the client's query holds follows the
//! rule's own parameters. A rule whose `from` ends in `?sort=oldest` is for queries in which that is so. The result is read like any target, so a rule opens nothing that a request could not ask for.

use std::borrow::Cow;

use http::Method;
use percent_encoding::{AsciiSet, CONTROLS, utf8_percent_encode};

use super::target::form_decoded;

/// What would end a parameter's value, or mean something else in it. A percent sign has been encoded already.
const IN_VALUE: &AsciiSet = &CONTROLS.add(b'&').add(b'=').add(b'+').add(b'#').add(b' ');

/// One rule.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rewrite {
    methods: Vec<Method>,
    from: Vec<Step>,
    /// Parameters that the query has to have, with their values.
    wanted: Vec<(String, String)>,
    path: Vec<Piece>,
    query: Option<Vec<Piece>>,
}

/// A segment of the path that a rule is for.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Step {
    Literal(String),
    Part { name: String, digits: bool },
}

/// A piece of what a rule makes.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Piece {
    Literal(String),
    /// The segment with this number among the parts.
    Part(usize),
}

impl Rewrite {
    /// Reads a rule for requests with one of these methods.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn parse(from: &str, to: &str, methods: &[Method]) -> Result<Self, String> {
        let (from, wanted) = match from.split_once('?') {
            Some((from, query)) => (from, pairs(query)?),
            None => (from, Vec::new()),
        };
        let from = steps(from)?;
        if !to.starts_with('/') {
            return Err(format!("`{to}` does not start with a slash"));
        }
        let names: Vec<&str> = from.iter().filter_map(Step::name).collect();
        let (path, query) = match to.split_once('?') {
            Some((path, query)) => (path, Some(pieces(query, &names)?)),
            None => (to, None),
        };
        Ok(Self {
            methods: methods.to_vec(),
            path: pieces(path, &names)?,
            query,
            from,
            wanted,
        })
    }

    /// The path and query that the rule makes of a request's, if it is for that request.
    fn apply(
        &self,
        method: &Method,
        path: &str,
        query: Option<&str>,
    ) -> Option<(String, Option<String>)> {
        if !self.methods.contains(method) || !self.is_wanted(query.unwrap_or_default()) {
            return None;
        }
        let parts = self.parts(path)?;
        let mut made: Vec<String> = Vec::new();
        made.extend(self.query.as_ref().map(|own| {
            fill(own, &parts, |part| {
                utf8_percent_encode(part, IN_VALUE).into()
            })
        }));
        made.extend(query.filter(|query| !query.is_empty()).map(str::to_owned));
        let query = (!made.is_empty()).then(|| made.join("&"));
        Some((fill(&self.path, &parts, Cow::Borrowed), query))
    }

    /// Whether each wanted parameter has its value where it comes first.
    fn is_wanted(&self, query: &str) -> bool {
        self.wanted.iter().all(|(name, value)| {
            let mut pairs = query.split('&').filter_map(|pair| pair.split_once('='));
            let first = pairs.find(|(known, _)| *form_decoded(known) == *name.as_bytes());
            first.is_some_and(|(_, known)| *form_decoded(known) == *value.as_bytes())
        })
    }

    fn parts<'p>(&self, path: &'p str) -> Option<Vec<&'p str>> {
        let mut segments = path.strip_prefix('/')?.split('/');
        let mut parts = Vec::new();
        for step in &self.from {
            let segment = segments.next()?;
            match step {
                Step::Literal(literal) if literal == segment => {}
                Step::Part { digits, .. } if is_part(segment, *digits) => parts.push(segment),
                Step::Literal(_) | Step::Part { .. } => return None,
            }
        }
        segments.next().is_none().then_some(parts)
    }
}

fn is_part(segment: &str, digits: bool) -> bool {
    !segment.is_empty() && (!digits || segment.bytes().all(|byte| byte.is_ascii_digit()))
}

fn fill<'p>(
    pieces: &[Piece],
    parts: &[&'p str],
    encode: impl Fn(&'p str) -> Cow<'p, str>,
) -> String {
    let mut made = String::new();
    for piece in pieces {
        match piece {
            Piece::Literal(literal) => made.push_str(literal),
            Piece::Part(at) => made.push_str(&encode(parts[*at])),
        }
    }
    made
}

impl Step {
    fn name(&self) -> Option<&str> {
        match self {
            Self::Part { name, .. } => Some(name),
            Self::Literal(_) => None,
        }
    }
}

fn pairs(query: &str) -> Result<Vec<(String, String)>, String> {
    let pair = |pair: &str| match pair.split_once('=') {
        Some((name, value)) if !name.is_empty() => Ok((name.to_owned(), value.to_owned())),
        _ => Err(format!("`{pair}` is no `name=value`")),
    };
    query.split('&').map(pair).collect()
}

fn steps(from: &str) -> Result<Vec<Step>, String> {
    let Some(from) = from.strip_prefix('/') else {
        return Err(format!("`{from}` does not start with a slash"));
    };
    let mut steps: Vec<Step> = Vec::new();
    for segment in from.split('/') {
        let part = segment
            .strip_prefix('{')
            .and_then(|inner| inner.strip_suffix('}'));
        let step = match part {
            Some(inner) => {
                let (name, digits) = inner
                    .strip_suffix(":number")
                    .map_or((inner, false), |name| (name, true));
                if name.is_empty() || steps.iter().any(|step| step.name() == Some(name)) {
                    return Err(format!("`{segment}` needs a name of its own"));
                }
                Step::Part {
                    name: name.to_owned(),
                    digits,
                }
            }
            None if segment.contains(['{', '}', '?']) => {
                return Err(format!(
                    "`{segment}` is neither a literal segment nor a part"
                ));
            }
            None => Step::Literal(segment.to_owned()),
        };
        steps.push(step);
    }
    Ok(steps)
}

fn pieces(mut to: &str, names: &[&str]) -> Result<Vec<Piece>, String> {
    let mut pieces = Vec::new();
    while let Some((before, rest)) = to.split_once('{') {
        let (name, after) = rest
            .split_once('}')
            .ok_or_else(|| format!("`{{{rest}` has no end"))?;
        let at = names.iter().position(|known| *known == name);
        pieces.push(Piece::Literal(before.to_owned()));
        pieces.push(Piece::Part(
            at.ok_or_else(|| format!("`{{{name}}}` is no part of `from`"))?,
        ));
        to = after;
    }
    pieces.push(Piece::Literal(to.to_owned()));
    Ok(pieces)
}

/// What the first rule for a request makes of its path and query; `None` when there is none.
pub fn rewrite(
    rules: &[Rewrite],
    method: &Method,
    path: &str,
    query: Option<&str>,
) -> Option<(String, Option<String>)> {
    rules
        .iter()
        .find_map(|rule| rule.apply(method, path, query))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn rules(list: &[(&str, &str)]) -> Vec<Rewrite> {
        let rule = |(from, to): &(&str, &str)| Rewrite::parse(from, to, &[Method::GET]).unwrap();
        list.iter().map(rule).collect()
    }

    fn made(list: &[(&str, &str)], target: &str) -> Option<String> {
        let (path, query) = target
            .split_once('?')
            .map_or((target, None), |(path, query)| (path, Some(query)));
        let (path, query) = rewrite(&rules(list), &Method::GET, path, query)?;
        Some(match query {
            Some(query) => format!("{path}?{query}"),
            None => path,
        })
    }

    const LIST: [(&str, &str); 4] = [
        ("/products/list", "/products"),
        (
            "/reviews/{product:number}/list",
            "/reviews?product_id={product}",
        ),
        ("/qa/{product:number}", "/qa/questions?product_id={product}"),
        ("/cart/{token}", "/cart?user_token={token}"),
    ];

    #[test]
    fn an_old_path_becomes_the_new_one_with_the_clients_query_behind_it() {
        for (old, new) in [
            ("/products/list", "/products"),
            ("/products/list?page=2", "/products?page=2"),
            ("/reviews/7/list", "/reviews?product_id=7"),
            (
                "/reviews/7/list?sort=newest&count=5",
                "/reviews?product_id=7&sort=newest&count=5",
            ),
            ("/qa/7", "/qa/questions?product_id=7"),
            ("/cart/a-b_c", "/cart?user_token=a-b_c"),
            ("/cart/a&b=c", "/cart?user_token=a%26b%3Dc"),
            ("/cart/a%26b", "/cart?user_token=a%26b"),
        ] {
            assert_eq!(made(&LIST, old).as_deref(), Some(new), "{old}");
        }
    }

    #[test]
    fn a_rule_for_some_queries_is_for_no_others() {
        let rules = [
            ("/list?sort=newest:asc", "/reviews?sort=newest"),
            ("/list", "/reviews"),
        ];
        for (old, new) in [
            (
                "/list?sort=newest:asc",
                "/reviews?sort=newest&sort=newest:asc",
            ),
            (
                "/list?a=b&sort=newest%3Aasc",
                "/reviews?sort=newest&a=b&sort=newest%3Aasc",
            ),
            ("/list?sort=newest", "/reviews?sort=newest"),
            (
                "/list?sort=x&sort=newest:asc",
                "/reviews?sort=x&sort=newest:asc",
            ),
            ("/list", "/reviews"),
        ] {
            assert_eq!(made(&rules, old).as_deref(), Some(new), "{old}");
        }
    }

    #[test]
    fn what_no_rule_is_for_stays() {
        for target in [
            "/products",
            "/products/1",
            "/products/list/",
            "/reviews/x/list",
            "/reviews//list",
            "/qa/questions",
            "/cart/",
            "/cart",
            "",
            "/",
        ] {
            assert_eq!(made(&LIST, target), None, "{target}");
        }
        let rules = rules(&LIST);
        assert_eq!(rewrite(&rules, &Method::POST, "/products/list", None), None);
    }

    #[test]
    fn broken_rules_are_refused_in_words() {
        for (from, to, expected) in [
            ("a", "/b", "slash"),
            ("/a", "b", "slash"),
            ("/{a}/{a}", "/b", "name of its own"),
            ("/{}", "/b", "name of its own"),
            ("/x{a}", "/b", "neither"),
            ("/a?b", "/b", "name=value"),
            ("/a?", "/b", "name=value"),
            ("/a?b=c&=d", "/b", "name=value"),
            ("/{a}", "/{b}", "no part of"),
            ("/{a}", "/{a", "no end"),
        ] {
            let problem = Rewrite::parse(from, to, &[Method::GET]).unwrap_err();
            assert!(problem.contains(expected), "{from} {to}: {problem}");
        }
    }

    proptest! {
        /// A part cannot leave its place: it adds no parameter, no segment and no fragment.
        #[test]
        fn a_part_stays_one_value(token in "[!-.0-~]{1,20}") {
            let target = format!("/cart/{token}");
            if let Some((path, Some(query))) = rewrite(&rules(&LIST), &Method::GET, &target, None) {
                prop_assert_eq!(path, "/cart");
                prop_assert!(query.starts_with("user_token="));
                prop_assert!(!query["user_token=".len()..].contains(['&', '=', '#', '+']));
            }
        }
    }
}
