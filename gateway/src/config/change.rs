//! What differs between two configurations, and what of it a running gateway cannot take over.

use serde_json::Value;

use super::Config;
use super::schema::Document;

impl Config {
    /// Keeps of the running configuration what only a new process can change: listeners, threads, what is allocated or handed
    /// out once.
    pub fn keep_fixed(&mut self, running: &Self) {
        self.listen = running.listen;
        self.threads = running.threads;
        self.admin = running.admin.clone();
        match (&mut self.tls, &running.tls) {
            (Some(tls), Some(fixed)) => {
                tls.listen = fixed.listen;
                tls.http2 = fixed.http2;
                tls.http2_streams_max = fixed.http2_streams_max;
            }
            (tls, fixed) => tls.clone_from(fixed),
        }
        match (&mut self.access_log, &running.access_log) {
            (Some(log), Some(fixed)) => {
                log.path.clone_from(&fixed.path);
                log.queue_max = fixed.queue_max;
            }
            (log, fixed) => log.clone_from(fixed),
        }
        self.coherence = running.coherence.clone();
        let (upstream, fixed) = (&mut self.upstream, &running.upstream);
        upstream.pool_size = fixed.pool_size;
        upstream.health = fixed.health.clone();
        upstream.resolve_interval = fixed.resolve_interval;
        let (cache, fixed) = (&mut self.cache, &running.cache);
        cache.budget = fixed.budget;
        cache.object_max = fixed.object_max;
        cache.variants_max = fixed.variants_max;
        cache.lock_age = fixed.lock_age;
        cache.refill_concurrency = fixed.refill_concurrency;
        cache.release_prefix.clone_from(&fixed.release_prefix);
        let (limits, fixed) = (&mut self.limits, &running.limits);
        limits.connections_max = fixed.connections_max;
        limits.header_timeout = fixed.header_timeout;
        limits.keepalive_timeout = fixed.keepalive_timeout;
        limits.keepalive_requests_max = fixed.keepalive_requests_max;
        limits.read_rate_min = fixed.read_rate_min;
        limits.write_rate_min = fixed.write_rate_min;
        limits.rate_slack = fixed.rate_slack;
        limits.write_buffer = fixed.write_buffer;
        limits.shutdown_grace = fixed.shutdown_grace;
    }

    /// The settings in which two configurations differ, as `cache.budget`; of routes only that they do.
    pub fn differences(&self, other: &Self) -> Vec<String> {
        let mut found = Vec::new();
        compare(
            "",
            &Document::of(self).settings(),
            &Document::of(other).settings(),
            &mut found,
        );
        if self.routes != other.routes {
            found.push("route".to_owned());
        }
        found
    }
}

fn compare(path: &str, one: &Value, other: &Value, found: &mut Vec<String>) {
    if one == other {
        return;
    }
    let (Value::Object(one), Value::Object(other)) = (one, other) else {
        found.push(path.to_owned());
        return;
    };
    // A duration is one value, whatever it consists of.
    if one.contains_key("nanos") {
        found.push(path.to_owned());
        return;
    }
    for (name, value) in one {
        let path = if path.is_empty() {
            name.clone()
        } else {
            format!("{path}.{name}")
        };
        compare(&path, value, other.get(name).unwrap_or(&Value::Null), found);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Overrides;

    fn parse(settings: &str) -> Config {
        let text = format!("upstream.nodes = [\"127.0.0.1:1\"]\n{settings}");
        Config::parse("g.toml", &text, &Overrides::default()).expect("valid settings")
    }

    #[test]
    fn differences_are_named_by_setting() {
        let one = parse("");
        assert_eq!(one.differences(&one), Vec::<String>::new());
        let other = parse(
            "threads = 2\ncache.fresh_max = \"1h\"\nlimits.read_timeout = \"3s\"\nhttp.host = \"a\"\n[admin]\n[[route]]\npath = \"/a\"\n",
        );
        let expected = [
            "admin",
            "cache.client_directives",
            "cache.fresh_max",
            "cache.heuristic",
            "cache.store_set_cookie",
            "http.cache_unmatched",
            "http.host",
            "limits.read_timeout",
            "threads",
            "route",
        ];
        assert_eq!(one.differences(&other), expected);
    }

    #[test]
    fn what_only_a_new_process_can_change_stays_and_all_else_is_taken_over() {
        let running = parse("");
        let asked = parse("threads = 2\ncache.budget = \"8MiB\"\ncache.name = \"edge\"\n");
        let mut next = asked.clone();
        next.keep_fixed(&running);
        assert_eq!(next.differences(&running), ["cache.name"]);
        assert_eq!(asked.differences(&next), ["cache.budget", "threads"]);
    }
}
