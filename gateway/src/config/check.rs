//! Rules between settings and within them: every broken one is reported, not only the first.

use std::net::IpAddr;
use std::time::Duration;

use http::{HeaderName, HeaderValue};

use super::route::{Segment, segments};
use super::{Address, Admin, ByteSize, Config, canonical_host, secret};
use crate::policy::auth::Tokens;
use crate::policy::vary::Coding;

/// One broken rule.
pub(super) struct Finding {
    /// The setting that breaks it.
    pub(super) key: String,
    /// Another setting that the rule is about too, or nothing.
    beside: &'static str,
    /// What is wrong, and what would be right.
    pub(super) message: String,
}

impl Finding {
    /// Whether the rule is about this setting, one below it, or the one above it.
    pub(super) fn is_about(&self, key: &str) -> bool {
        let holds = |above: &str, below: &str| {
            !above.is_empty()
                && below
                    .strip_prefix(above)
                    .is_some_and(|rest| rest.is_empty() || rest.starts_with(['.', '[']))
        };
        let related = |own: &str| holds(own, key) || holds(key, own);
        related(&self.key) || related(self.beside)
    }
}

/// Attempts for one request at most.
pub const ATTEMPTS_MAX: usize = 16;

/// Origins at most: in a file, and with what operators add to it.
pub const NODES_MAX: usize = 256;

/// What the rules found.
pub(super) struct Check {
    findings: Vec<Finding>,
}

/// Applies every rule.
pub(super) fn check(config: &Config) -> Vec<Finding> {
    let mut check = Check {
        findings: Vec::new(),
    };
    check.listeners(config);
    check.tls(config);
    check.access_log(config);
    check.upstream(config);
    check.cache(config);
    check.limits(config);
    check.http(config);
    check.cors(config);
    check.tokens(config);
    check.coherence(config);
    check.releases(config);
    check.routes(config);
    check.query(config);
    check.negative(config);
    check.findings
}

/// Looks at the files that the settings name.
pub(super) fn files(config: &Config) -> Vec<Finding> {
    let mut check = Check {
        findings: Vec::new(),
    };
    check.tls_files(config);
    if let (true, Some(file)) = (config.auth.required, &config.auth.tokens_file) {
        let name = file.display();
        match std::fs::read_to_string(file) {
            Err(error) => check.report(
                "auth.tokens_file",
                format!("{name} cannot be read: {error}"),
            ),
            Ok(text) => {
                if let Err(bad) = Tokens::parse(&text) {
                    check.report("auth.tokens_file", format!("{name}: {bad}"));
                }
            }
        }
    }
    check.findings
}

impl Check {
    pub(super) fn report(&mut self, key: &str, message: impl Into<String>) {
        self.report_beside(key, "", message);
    }

    /// Reports a rule between two settings.
    pub(super) fn report_beside(
        &mut self,
        key: &str,
        beside: &'static str,
        message: impl Into<String>,
    ) {
        self.findings.push(Finding {
            key: key.to_owned(),
            beside,
            message: message.into(),
        });
    }

    pub(super) fn within<T: PartialOrd + std::fmt::Display>(
        &mut self,
        key: &str,
        value: T,
        min: T,
        max: T,
    ) {
        if value < min || value > max {
            self.report(key, format!("{value} is not between {min} and {max}"));
        }
    }

    pub(super) fn positive(&mut self, key: &str, value: Duration) {
        if value.is_zero() {
            self.report(key, "must be longer than zero");
        }
    }

    fn listeners(&mut self, config: &Config) {
        self.within("threads", config.threads, 1, 256);
        let Some(admin) = &config.admin else {
            return;
        };
        self.admin_tokens(admin);
        self.within("admin.connections_max", admin.connections_max, 1, 65_536);
        if admin.listen == config.listen && admin.listen.port() != 0 {
            self.report_beside(
                "admin.listen",
                "listen",
                "the same address as `listen`; operators need one of their own",
            );
        }
        let has_token = admin.token_file.is_some() || admin.token_env.is_some();
        if !is_loopback(admin.listen.ip()) && !has_token {
            self.report_beside(
                "admin.token_file",
                "admin.listen",
                format!(
                    "required, as {} can be reached from other machines",
                    admin.listen
                ),
            );
        }
    }

    /// A token has one source, and a variable that is named is there.
    fn admin_tokens(&mut self, admin: &Admin) {
        let sources = [
            ("token", &admin.token_file, &admin.token_env),
            ("read_token", &admin.read_token_file, &admin.read_token_env),
        ];
        for (token, file, variable) in sources {
            let key = format!("admin.{token}_env");
            let Some(name) = variable else {
                continue;
            };
            if file.is_some() {
                self.report(&key, format!("`{token}_file` is there too: one of them"));
            } else if secret::variable(name).is_none() {
                self.report(
                    &key,
                    format!("no variable {name} in the environment, or an empty one"),
                );
            }
        }
    }

    fn upstream(&mut self, config: &Config) {
        let upstream = &config.upstream;
        if upstream.nodes.is_empty() {
            self.report(
                "upstream.nodes",
                "at least one origin, as in nodes = [\"127.0.0.1:3001\"]",
            );
        }
        self.within("upstream.nodes", upstream.nodes.len(), 0, NODES_MAX);
        for (index, node) in upstream.nodes.iter().enumerate() {
            let key = format!("upstream.nodes[{index}]");
            self.within(&key, node.weight, 1, 1000);
            if upstream.nodes[..index]
                .iter()
                .any(|other| other.address == node.address)
            {
                self.report(
                    &key,
                    format!("{} is there twice; use a weight", node.address),
                );
            }
            if node.address == Address::Ip(config.listen) {
                self.report(
                    &key,
                    "the gateway itself: requests would go round in circles",
                );
            }
        }
        self.positive("upstream.connect_timeout", upstream.connect_timeout);
        self.positive("upstream.read_timeout", upstream.read_timeout);
        self.positive("upstream.write_timeout", upstream.write_timeout);
        self.positive("upstream.idle_timeout", upstream.idle_timeout);
        self.within("upstream.pool_size", upstream.pool_size, 1, 65_536);
        self.within("upstream.attempts", upstream.attempts, 1, ATTEMPTS_MAX);
        self.within(
            "upstream.in_flight_max",
            upstream.in_flight_max,
            1,
            1_000_000,
        );
        self.health(&upstream.health);
        self.balance(upstream);
    }

    fn cache(&mut self, config: &Config) {
        let cache = &config.cache;
        let is_name = |byte: u8| byte.is_ascii_graphic() && !matches!(byte, b'"' | b'\\');
        if cache.name.is_empty() || !cache.name.bytes().all(is_name) {
            self.report(
                "cache.name",
                "visible ASCII without spaces and quotes, at least one character",
            );
        }
        self.within(
            "cache.budget",
            cache.budget,
            ByteSize::mebibytes(1),
            ByteSize(1 << 40),
        );
        if cache.object_max.0 == 0 || cache.object_max > cache.budget {
            self.report_beside(
                "cache.object_max",
                "cache.budget",
                format!(
                    "{} is not between 1B and the budget of {}",
                    cache.object_max, cache.budget
                ),
            );
        }
        self.within("cache.variants_max", cache.variants_max, 1, 64);
        let concurrency = config.cache.refill_concurrency;
        self.within("cache.refill_concurrency", concurrency, 1, 64);
        self.within("cache.tags_max", cache.tags_max, 1, 1024);
        self.within("cache.tag_bytes_max", cache.tag_bytes_max, 32, 1024);
        let codings = &cache.encodings;
        let repeated = (1..codings.len()).any(|at| codings[..at].contains(&codings[at]));
        if repeated || codings.contains(&Coding::Identity) {
            self.report(
                "cache.encodings",
                "each of \"br\", \"zstd\" and \"gzip\" at most once",
            );
        }
        self.positive("cache.lock_wait", cache.lock_wait);
        self.positive("cache.lock_age", cache.lock_age);
        if cache.marked_only && cache.targeted.is_empty() {
            self.report_beside(
                "cache.marked_only",
                "cache.targeted",
                "needs a field in `targeted`, else nothing is ever kept",
            );
        }
    }

    fn limits(&mut self, config: &Config) {
        let limits = &config.limits;
        let buffer = (ByteSize::kibibytes(1), ByteSize::mebibytes(1));
        self.within(
            "limits.connections_max",
            limits.connections_max,
            1,
            1_000_000,
        );
        // The parser below us reads no more than 256 fields and about 1 MiB.
        self.within("limits.header_fields_max", limits.header_fields_max, 8, 256);
        self.within(
            "limits.header_bytes_max",
            limits.header_bytes_max,
            buffer.0,
            buffer.1,
        );
        self.within(
            "limits.target_bytes_max",
            limits.target_bytes_max,
            ByteSize(64),
            limits.header_bytes_max,
        );
        let rates = [
            ("limits.read_rate_min", limits.read_rate_min),
            ("limits.write_rate_min", limits.write_rate_min),
        ];
        for (key, rate) in rates {
            self.within(key, rate, ByteSize(1), ByteSize::mebibytes(1));
        }
        self.positive("limits.rate_slack", limits.rate_slack);
        if let Some(rate) = limits.client_rate {
            self.within("limits.client_rate", rate, 1, 1_000_000);
        }
        self.within("limits.client_burst", limits.client_burst, 1, 1_000_000);
        self.within(
            "limits.write_buffer",
            limits.write_buffer,
            buffer.0,
            buffer.1,
        );
        self.positive("limits.header_timeout", limits.header_timeout);
        self.positive("limits.read_timeout", limits.read_timeout);
        self.positive("limits.write_timeout", limits.write_timeout);
        self.positive("limits.keepalive_timeout", limits.keepalive_timeout);
        self.within(
            "limits.keepalive_requests_max",
            limits.keepalive_requests_max,
            1,
            u32::MAX,
        );
    }

    fn http(&mut self, config: &Config) {
        let http = &config.http;
        if let Some(host) = &http.host {
            self.host("http.host", host);
        }
        for (index, host) in http.hosts.iter().enumerate() {
            self.host(&format!("http.hosts[{index}]"), host);
        }
        for (index, prefix) in http.prefixes.iter().enumerate() {
            let key = format!("http.prefixes[{index}]");
            match segments(prefix) {
                Err(problem) => self.report(&key, problem),
                Ok(_) if prefix == "/" => self.report(&key, "strips nothing"),
                Ok(segments) if segments.first() == Some(&Segment::Free) => {
                    self.report(
                        &key,
                        "starts with a free segment: every path would have this prefix",
                    );
                }
                Ok(_) if http.prefixes[..index].contains(prefix) => {
                    self.report(&key, "is there twice");
                }
                Ok(_) => {}
            }
        }
        self.rewrites(http);
        self.methods(http);
        if http.drop_trailing_slash && !http.collapse_slashes {
            self.report_beside(
                "http.drop_trailing_slash",
                "http.collapse_slashes",
                "needs collapse_slashes = true",
            );
        }
    }

    fn host(&mut self, key: &str, host: &str) {
        if canonical_host("http", host).as_deref() != Ok(host) {
            self.report(
                key,
                format!("`{host}` is not a host in lower case, with a port only if unusual"),
            );
        }
    }

    fn cors(&mut self, config: &Config) {
        let Some(cors) = &config.cors else {
            return;
        };
        let is_origin = cors.allow_origin == "*"
            || (cors.allow_origin.contains("://") && !cors.allow_origin.ends_with('/'));
        if !is_origin || HeaderValue::from_str(&cors.allow_origin).is_err() {
            self.report(
                "cors.allow_origin",
                "write \"*\" or an origin such as \"https://shop.example\"",
            );
        }
        let lists = [
            ("allow_headers", &cors.allow_headers),
            ("expose_headers", &cors.expose_headers),
        ];
        for (list, names) in lists {
            for (index, name) in names.iter().enumerate() {
                if HeaderName::from_bytes(name.as_bytes()).is_err() {
                    self.report(
                        &format!("cors.{list}[{index}]"),
                        format!("`{name}` is not a header name"),
                    );
                }
            }
        }
    }

    fn tokens(&mut self, config: &Config) {
        if config.auth.required && config.auth.tokens_file.is_none() {
            self.report_beside(
                "auth.tokens_file",
                "auth.required",
                "required, as `auth.required` is true",
            );
        }
        for (index, token) in config.loadtest.loaderio_tokens.iter().enumerate() {
            let digits = token.strip_prefix("loaderio-").unwrap_or_default();
            let is_digit = |byte: u8| byte.is_ascii_digit() || matches!(byte, b'a'..=b'f');
            if digits.is_empty() || !digits.bytes().all(is_digit) {
                self.report(
                    &format!("loadtest.loaderio_tokens[{index}]"),
                    "write the token whole: `loaderio-` and lower-case hexadecimal digits",
                );
            }
        }
    }

    fn releases(&mut self, config: &Config) {
        if config
            .cache
            .release_prefix
            .as_ref()
            .is_some_and(String::is_empty)
        {
            self.report(
                "cache.release_prefix",
                "every group would be a release: leave it out, or name how those groups begin",
            );
        }
    }

    /// Two routes whose patterns match the same paths in the same way hide each other.
    fn routes(&mut self, config: &Config) {
        let shapes: Vec<_> = config
            .routes
            .iter()
            .map(|route| segments(&route.path).ok())
            .collect();
        for (index, shape) in shapes.iter().enumerate() {
            let twin = shapes[..index]
                .iter()
                .position(|other| shape.is_some() && other == shape);
            if let Some(twin) = twin {
                let other = &config.routes[twin].path;
                self.report(
                    &format!("route[{index}].path"),
                    format!("the same paths as route {other}"),
                );
            }
        }
    }
}

fn is_loopback(ip: IpAddr) -> bool {
    ip.to_canonical().is_loopback()
}
