//! Which methods there are at all.

use super::check::Check;
use super::section::Http;

/// Methods at most: more than are registered and of use.
const METHODS_MAX: usize = 64;

/// Methods that are for proxies, and would make an origin behind a second one forget what it keeps.
const NEVER_PASSED: [&str; 4] = ["CONNECT", "TRACE", "PURGE", "BAN"];

impl Check {
    /// The rules of `http.methods`.
    pub(super) fn methods(&mut self, http: &Http) {
        self.within("http.methods", http.methods.len(), 1, METHODS_MAX);
        for method in &http.methods {
            if NEVER_PASSED.contains(&method.as_str()) {
                let problem = format!("{method} is for proxies, and is never passed on");
                self.report("http.methods", problem);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use crate::config::{Config, Overrides};

    fn problems(methods: &str) -> Option<String> {
        let text = format!("upstream.nodes = [\"127.0.0.1:1\"]\nhttp.methods = {methods}\n");
        let parsed = Config::parse("g.toml", &text, &Overrides::default());
        parsed.err().map(|problems| problems.to_string())
    }

    #[test]
    fn what_is_for_proxies_is_no_method_of_an_origin() {
        assert_eq!(problems("[\"GET\", \"M-SEARCH\", \"PROPFIND\"]"), None);
        for method in super::NEVER_PASSED {
            let found = problems(&format!("[\"POST\", \"{method}\"]"));
            let expected = format!("g.toml:2:16: http.methods: {method} is for proxies");
            assert!(
                found.is_some_and(|found| found.starts_with(&expected)),
                "{method}"
            );
        }
        assert!(problems("[]").is_some_and(|found| found.contains("http.methods")));
    }
}
