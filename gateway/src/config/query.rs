//! The rules of patterns for query parameters, and of what answers get that there is nothing.

use super::Config;
use super::check::Check;

/// Patterns in one list at most: each parameter of a request is held against each of them.
const PATTERNS_MAX: usize = 32;
/// Bytes of one pattern at most.
const PATTERN_BYTES_MAX: usize = 64;

impl Check {
    /// Patterns that fit something, and not too many of them.
    pub(super) fn query(&mut self, config: &Config) {
        let http = &config.http;
        self.patterns("http.query_ignore", &http.query_ignore);
        self.patterns("http.query_keep", http.query_keep.as_deref().unwrap_or(&[]));
        for (index, route) in config.routes.iter().enumerate() {
            let key = format!("route[{index}].query_keep");
            self.patterns(&key, &route.query_keep);
            if !route.cache && !route.query_keep.is_empty() {
                self.report(&key, "a route that is not cached gets its query as sent");
            }
        }
    }

    fn patterns(&mut self, key: &str, patterns: &[String]) {
        if patterns.len() > PATTERNS_MAX {
            self.report(key, format!("at most {PATTERNS_MAX} patterns"));
        }
        for (index, pattern) in patterns.iter().enumerate() {
            if pattern.is_empty() || pattern.len() > PATTERN_BYTES_MAX {
                self.report(
                    &format!("{key}[{index}]"),
                    format!("a pattern has 1 to {PATTERN_BYTES_MAX} bytes"),
                );
            }
        }
    }

    /// What is granted where nothing is stated is never used where only what is marked is kept.
    pub(super) fn negative(&mut self, config: &Config) {
        if !config.cache.marked_only {
            return;
        }
        let message = "never used, as cache.marked_only is true: a mark states a lifetime";
        if !config.cache.negative_ttl.is_zero() {
            self.report("cache.negative_ttl", message);
        }
        for (index, route) in config.routes.iter().enumerate() {
            if route.negative_ttl.is_some_and(|ttl| !ttl.is_zero()) {
                self.report(&format!("route[{index}].negative_ttl"), message);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use crate::config::{Config, Overrides};

    const NODE: &str = "upstream.nodes = [\"127.0.0.1:1\"]\n";

    fn parse(text: &str) -> Result<Config, String> {
        Config::parse("g.toml", &format!("{NODE}{text}"), &Overrides::default())
            .map_err(|problems| problems.to_string())
    }

    #[test]
    fn reductions_and_negative_lifetimes_are_read_for_the_site_and_for_a_route() {
        let config = parse(
            "[http]\nquery_sort = true\nquery_keep = [\"page\"]\nquery_ignore = [\"utm_*\"]\n\
             [cache]\nnegative_ttl = \"10s\"\n\
             [[route]]\npath = \"/a\"\nquery_keep = [\"f_*\"]\nnegative_ttl = \"1m\"",
        )
        .unwrap();
        assert!(config.http.query_sort);
        assert_eq!(
            config.http.query_keep.as_deref(),
            Some(&["page".to_owned()][..])
        );
        assert_eq!(config.http.query_ignore, ["utm_*"]);
        assert_eq!(config.cache.negative_ttl, Duration::from_secs(10));
        assert_eq!(config.routes[0].query_keep, ["f_*"]);
        assert_eq!(config.routes[0].negative_ttl, Some(Duration::from_secs(60)));
    }

    #[test]
    fn what_cannot_work_is_refused_by_name() {
        let many = format!("[http]\nquery_ignore = [{}]", "\"a\",".repeat(33));
        let marked = "cache.marked_only = true\ncache.targeted = [\"CDN-Cache-Control\"]\n";
        for (text, key) in [
            ("[http]\nquery_ignore = [\"\"]", "http.query_ignore[0]"),
            (&many, "http.query_ignore"),
            ("[http]\nquery_sorted = true", "http.query_sorted"),
            (
                "[[route]]\npath = \"/a\"\ncache = false\nquery_keep = [\"x\"]",
                "route[0].query_keep",
            ),
            (
                "[[route]]\npath = \"/a\"\nnegative_ttl = \"soon\"",
                "route[0].negative_ttl",
            ),
            (
                &format!("{marked}cache.negative_ttl = \"1s\""),
                "cache.negative_ttl",
            ),
            (
                &format!("{marked}[[route]]\npath = \"/a\"\nnegative_ttl = \"1s\""),
                "route[0].negative_ttl",
            ),
        ] {
            let problems = parse(text).unwrap_err();
            assert!(problems.contains(&format!("{key}: ")), "{text}: {problems}");
        }
    }
}
