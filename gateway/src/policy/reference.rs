//! URI references (RFC 3986 section 4.1) as an answer's `Location` and `Content-Location` hold them, resolved against the
//! request's target.

/// A reference resolved against a target.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Resolved<'r> {
    /// The authority it names; `None` means the target's own.
    pub authority: Option<&'r str>,
    /// The path, without dot segments.
    pub path: String,
    /// The query.
    pub query: Option<String>,
}

/// Resolves a reference against a target's path and query (RFC 3986 section 5.2). The fragment is dropped: it is no part of what
/// is requested. `None` for what is no http or https URI.
///
/// Both schemes count as the target's: what ends TLS in front of a gateway lets its origin write either.
pub fn resolve<'r>(path: &str, query: Option<&str>, reference: &'r str) -> Option<Resolved<'r>> {
    let reference = reference.split('#').next().unwrap_or_default();
    let (scheme, rest) = split_scheme(reference);
    let is_http =
        |scheme: &str| scheme.eq_ignore_ascii_case("http") || scheme.eq_ignore_ascii_case("https");
    if scheme.is_some_and(|scheme| !is_http(scheme) || !rest.starts_with("//")) {
        return None;
    }
    let (hierarchy, own_query) = match rest.split_once('?') {
        Some((hierarchy, query)) => (hierarchy, Some(query)),
        None => (rest, None),
    };
    let (authority, named) = match hierarchy.strip_prefix("//") {
        Some(rest) => {
            let (authority, path) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
            (Some(authority), path)
        }
        None => (None, hierarchy),
    };
    if authority.is_none() && named.is_empty() {
        return Some(Resolved {
            authority,
            path: path.to_owned(),
            query: own_query.or(query).map(str::to_owned),
        });
    }
    let merged = if authority.is_some() || named.starts_with('/') {
        without_dots(named)
    } else {
        let folder = path.rfind('/').map_or("", |end| &path[..end]);
        without_dots(&format!("{folder}/{named}"))
    };
    Some(Resolved {
        authority,
        path: merged,
        query: own_query.map(str::to_owned),
    })
}

/// The scheme in front, if there is one, and what follows it.
fn split_scheme(reference: &str) -> (Option<&str>, &str) {
    let is_scheme = |text: &str| {
        text.starts_with(|first: char| first.is_ascii_alphabetic())
            && text
                .bytes()
                .all(|byte| byte.is_ascii_alphanumeric() || b"+-.".contains(&byte))
    };
    match reference.split_once(':') {
        Some((scheme, rest)) if is_scheme(scheme) => (Some(scheme), rest),
        _ => (None, reference),
    }
}

/// An absolute or empty path without its dot segments (RFC 3986 section 5.2.4).
fn without_dots(path: &str) -> String {
    let mut kept: Vec<&str> = Vec::new();
    let mut segments = path.strip_prefix('/').unwrap_or(path).split('/').peekable();
    while let Some(segment) = segments.next() {
        let is_dots = matches!(segment, "." | "..");
        if segment == ".." {
            kept.pop();
        }
        if !is_dots {
            kept.push(segment);
        } else if segments.peek().is_none() {
            kept.push(""); // what it names is a folder
        }
    }
    format!("/{}", kept.join("/"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn references_are_resolved_as_the_rfc_says() {
        let here = None;
        let other = Some("g");
        for (reference, authority, path, query) in [
            // RFC 3986 section 5.4, against http://a/b/c/d;p?q
            ("g", here, "/b/c/g", None),
            ("./g", here, "/b/c/g", None),
            ("g/", here, "/b/c/g/", None),
            ("/g", here, "/g", None),
            ("//g", other, "/", None),
            ("?y", here, "/b/c/d;p", Some("y")),
            ("g?y", here, "/b/c/g", Some("y")),
            ("#s", here, "/b/c/d;p", Some("q")),
            ("g#s", here, "/b/c/g", None),
            ("g?y#s", here, "/b/c/g", Some("y")),
            (";x", here, "/b/c/;x", None),
            ("", here, "/b/c/d;p", Some("q")),
            (".", here, "/b/c/", None),
            ("..", here, "/b/", None),
            ("../", here, "/b/", None),
            ("../g", here, "/b/g", None),
            ("../../g", here, "/g", None),
            ("../../../g", here, "/g", None),
            ("/./g", here, "/g", None),
            ("/../g", here, "/g", None),
            ("g.", here, "/b/c/g.", None),
            ("..g", here, "/b/c/..g", None),
            ("./g/.", here, "/b/c/g/", None),
            ("g;x=1/../y", here, "/b/c/y", None),
            ("g?y/../x", here, "/b/c/g", Some("y/../x")),
            ("g#s/../x", here, "/b/c/g", None),
            // and what else is met
            ("/thread#c5", here, "/thread", None),
            ("//g/x?y", other, "/x", Some("y")),
            ("//g?y", other, "/", Some("y")),
            ("http://g/a/../x", other, "/x", None),
            ("HTTPS://g", other, "/", None),
            ("./a:b", here, "/b/c/a:b", None),
            ("x/a:b", here, "/b/c/x/a:b", None),
        ] {
            let expected = Resolved {
                authority,
                path: path.to_owned(),
                query: query.map(str::to_owned),
            };
            let resolved = resolve("/b/c/d;p", Some("q"), reference);
            assert_eq!(resolved, Some(expected), "{reference:?}");
        }
        for reference in ["g:h", "http:g", "mailto:a@g", "ftp://g/x"] {
            assert_eq!(resolve("/b/c/d;p", Some("q"), reference), None);
        }
    }
}
