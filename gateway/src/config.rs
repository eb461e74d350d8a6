//! The gateway's settings: one TOML file, or flags alone, with defaults for a machine of 1 vCPU and 1 GiB.
//!
//! A [`Config`] is always valid: [`Config::parse`] and [`Config::from_flags`] check every rule and return every problem they
//! find, each with its key and, for a file, its line and column. Secrets are only ever named by file here, never held.

mod access_log;
mod balance;
mod change;
mod check;
mod coherence;
mod example;
mod file;
mod health;
mod isolate;
mod kind;
mod method;
mod network;
mod node;
mod query;
mod rewrite;
mod route;
mod schema;
pub mod secret;
mod section;
mod text;
mod tls;
mod wording;

use std::fmt;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};

pub use access_log::AccessLog;
pub use balance::{Algorithm, Ejection};
pub use check::{ATTEMPTS_MAX, NODES_MAX};
pub use coherence::{Coherence, Mode};
pub use example::example;
use file::File;
pub use health::Health;
pub use kind::{Address, BadHost, ByteSize, canonical_host};
pub use rewrite::RewriteRule;
pub use route::{PARAMETERS_MAX, Parameter, ParameterKind, Route, Segment, segments};
pub use schema::{schema, settings};
pub use section::{
    Admin, Auth, Cache, ClientDirectives, Cors, Http, Limits, LoadTest, Node, Upstream,
};
pub use tls::Tls;

/// Every setting of one gateway, checked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Config {
    /// Where clients connect.
    pub listen: SocketAddr,
    /// Worker threads of the proxy; 1 on a machine of one virtual CPU.
    pub threads: usize,
    /// The operators' listener; none unless the file has an `[admin]` section or `--admin` is given.
    pub admin: Option<Admin>,
    /// The encrypted listener; none unless the file has a `[tls]` section.
    pub tls: Option<Tls>,
    /// The origins and how they are reached.
    pub upstream: Upstream,
    /// What is kept, for how many bytes and under which rules.
    pub cache: Cache,
    /// The access log; none unless the file has an `[access_log]` section.
    pub access_log: Option<AccessLog>,
    /// Bounds on what one client may ask for.
    pub limits: Limits,
    /// How request targets and hosts are read.
    pub http: Http,
    /// Cross-origin answers given by the gateway itself; none means that CORS is left to the origin.
    pub cors: Option<Cors>,
    /// The authorization switch.
    pub auth: Auth,
    /// Verification of load-test services.
    pub loadtest: LoadTest,
    /// Following the origins' stream of changes; none unless the file has the section.
    pub coherence: Option<Coherence>,
    /// The configured routes, in the file's order.
    pub routes: Vec<Route>,
}

/// What the command line may set; each value given here wins over the file's.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Overrides {
    /// `--listen`.
    pub listen: Option<SocketAddr>,
    /// `--upstream`, given once for each origin; replaces the file's whole list when not empty.
    pub upstreams: Vec<Address>,
    /// `--admin`.
    pub admin: Option<SocketAddr>,
    /// `--admin-token-file`.
    pub admin_token_file: Option<PathBuf>,
}

/// One thing wrong with the settings.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// The setting, as `cache.budget` or `route[3].path`; empty when the file as a whole is meant.
    pub key: String,
    /// Line and column in the file, both from 1; none for settings that came from flags or defaults.
    pub place: Option<(usize, usize)>,
    /// What is wrong and what would be right.
    pub message: String,
}

/// Every problem found in the settings; never empty.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problems {
    /// The file's name as given, if there was a file.
    pub file: Option<String>,
    /// The problems in the order of the file.
    pub list: Vec<Problem>,
}

/// Bytes of a configuration file at most: far more than any written by hand.
const FILE_MAX: u64 = 1 << 20;

impl Default for Config {
    /// A general gateway without origins: not yet valid.
    fn default() -> Self {
        Self {
            listen: SocketAddr::from((Ipv4Addr::LOCALHOST, 8080)),
            threads: 1,
            admin: None,
            tls: None,
            access_log: None,
            upstream: Upstream::default(),
            cache: Cache::default(),
            limits: Limits::default(),
            http: Http::default(),
            cors: None,
            auth: Auth::default(),
            loadtest: LoadTest::default(),
            coherence: None,
            routes: Vec::new(),
        }
    }
}

impl Config {
    /// Reads the text of the configuration file named `file`, applies the flags over it and checks the result.
    ///
    /// # Errors
    /// Every problem found: one of syntax, or one for each section that cannot be read and each rule that is broken.
    pub fn parse(file: &str, text: &str, overrides: &Overrides) -> Result<Self, Problems> {
        Self::read(file, text, overrides, |_| Vec::new())
    }

    /// Reads a text; `more` are rules beyond those of the settings themselves.
    fn read(
        file: &str,
        text: &str,
        overrides: &Overrides,
        more: impl Fn(&Self) -> Vec<check::Finding>,
    ) -> Result<Self, Problems> {
        let mut found = File::parse(text).map_err(|problem| Problems {
            file: Some(file.to_owned()),
            list: vec![problem],
        })?;
        let mut config = found.read();
        overrides.apply(&mut config);
        // What cannot be read is at its default, which may break a rule that the file keeps.
        let unread: Vec<_> = found
            .problems
            .iter()
            .map(|problem| problem.key.clone())
            .collect();
        for finding in check::check(&config).into_iter().chain(more(&config)) {
            let is_miscounted = found.lacks_routes && finding.key.starts_with("route");
            if !is_miscounted && !unread.iter().any(|key| finding.is_about(key)) {
                found.report(&finding.key, finding.message);
            }
        }
        let mut list = found.problems;
        if list.is_empty() {
            return Ok(config);
        }
        list.sort_by_key(|problem| problem.place.unwrap_or((usize::MAX, 0)));
        Err(Problems {
            file: Some(file.to_owned()),
            list,
        })
    }

    /// Reads the file at `path`, see [`Config::parse`], and looks at the files that it names.
    ///
    /// # Errors
    /// A file that cannot be read, or does not hold what it should, is a problem too.
    pub fn load(path: &Path, overrides: &Overrides) -> Result<Self, Problems> {
        let file = path.display().to_string();
        match read_bounded(path) {
            Ok(text) => Self::read(&file, &text, overrides, check::files),
            Err(error) => {
                let message = format!("cannot be read: {error}");
                let problem = Problem {
                    key: String::new(),
                    place: None,
                    message,
                };
                Err(Problems {
                    file: Some(file),
                    list: vec![problem],
                })
            }
        }
    }

    /// A general gateway from flags alone: no routes, RFC 9111 for every response, an admin listener if asked for.
    ///
    /// # Errors
    /// Every problem found, such as a missing upstream.
    pub fn from_flags(
        listen: SocketAddr,
        upstreams: Vec<Address>,
        admin: Option<SocketAddr>,
        token_file: Option<PathBuf>,
    ) -> Result<Self, Problems> {
        let overrides = Overrides {
            listen: Some(listen),
            upstreams,
            admin,
            admin_token_file: token_file,
        };
        let mut config = Self::default();
        overrides.apply(&mut config);
        let findings = check::check(&config).into_iter();
        let list: Vec<_> = findings
            .map(|finding| Problem {
                key: finding.key,
                place: None,
                message: finding.message,
            })
            .collect();
        if list.is_empty() {
            Ok(config)
        } else {
            Err(Problems { file: None, list })
        }
    }
}

impl Config {
    /// The private listeners to follow: those named, else those of the nodes. Never empty in a checked configuration that
    /// has `[coherence]`.
    pub fn streams(&self) -> Vec<Address> {
        let named = self.coherence.iter().flat_map(|section| &section.streams);
        let named: Vec<_> = named.cloned().collect();
        if !named.is_empty() {
            return named;
        }
        let nodes = self.upstream.nodes.iter();
        nodes.filter_map(|node| node.private.clone()).collect()
    }
}

impl Overrides {
    fn apply(&self, config: &mut Config) {
        if let Some(listen) = self.listen {
            config.listen = listen;
        }
        if !self.upstreams.is_empty() {
            config.upstream.nodes = self.upstreams.iter().cloned().map(Node::from).collect();
        }
        if let Some(listen) = self.admin {
            config.admin.get_or_insert_default().listen = listen;
        }
        if let Some(file) = &self.admin_token_file {
            config.admin.get_or_insert_default().token_file = Some(file.clone());
        }
    }
}

fn read_bounded(path: &Path) -> std::io::Result<String> {
    let mut text = String::new();
    let file = std::fs::File::open(path)?;
    std::io::Read::read_to_string(&mut std::io::Read::take(file, FILE_MAX + 1), &mut text)?;
    if text.len() as u64 > FILE_MAX {
        return Err(std::io::Error::other(format!(
            "larger than {}",
            ByteSize(FILE_MAX)
        )));
    }
    Ok(text)
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some((line, column)) = self.place {
            write!(f, "{line}:{column}: ")?;
        }
        if !self.key.is_empty() {
            write!(f, "{}: ", self.key)?;
        }
        f.write_str(&self.message)
    }
}

impl fmt::Display for Problems {
    /// One line for each problem, as `FILE:LINE:COLUMN: KEY: MESSAGE`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, problem) in self.list.iter().enumerate() {
            if index > 0 {
                f.write_str("\n")?;
            }
            match (&self.file, problem.place) {
                (Some(file), Some(_)) => write!(f, "{file}:{problem}")?,
                (Some(file), None) => write!(f, "{file}: {problem}")?,
                (None, _) => write!(f, "{problem}")?,
            }
        }
        Ok(())
    }
}

impl std::error::Error for Problems {}

#[cfg(test)]
mod tests;
