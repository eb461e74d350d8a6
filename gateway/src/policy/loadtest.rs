//! Verification of load-test services: the path that names a configured token is answered with that token.

/// Endings under which loader.io may ask for its token.
const ENDINGS: [&str; 4] = ["", "/", ".txt", ".html"];

/// The configured token that this raw path asks for; tokens are whole, as `loaderio-<hex>`.
pub fn verification<'t>(path: &str, tokens: &'t [String]) -> Option<&'t str> {
    let name = path.strip_prefix('/')?;
    tokens
        .iter()
        .find(|token| {
            name.strip_prefix(token.as_str())
                .is_some_and(|end| ENDINGS.contains(&end))
        })
        .map(String::as_str)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_configured_token_is_answered_at_its_four_paths_only() {
        let tokens = ["loaderio-1a".to_owned(), "loaderio-1ab".to_owned()];
        let cases = [
            ("/loaderio-1a", Some("loaderio-1a")),
            ("/loaderio-1a/", Some("loaderio-1a")),
            ("/loaderio-1a.txt", Some("loaderio-1a")),
            ("/loaderio-1a.html", Some("loaderio-1a")),
            ("/loaderio-1ab.txt", Some("loaderio-1ab")),
            ("/loaderio-2.txt", None),
            ("/loaderio-1a.htm", None),
            ("/x/loaderio-1a", None),
            ("loaderio-1a", None),
            ("/", None),
            ("", None),
        ];
        for (path, expected) in cases {
            assert_eq!(verification(path, &tokens), expected, "{path}");
        }
    }
}
