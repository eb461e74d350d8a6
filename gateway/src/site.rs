//! What the gateway serves, compiled from the configuration once: targets, hosts, tokens.

use std::borrow::Cow;
use std::collections::HashSet;
use std::time::Duration;

use anyhow::Context as _;
use http::{Method, Version, header};
use pingora::http::RequestHeader;
use pingora::{Error, ErrorType, Result};

use crate::config::Config;
use crate::policy::auth::Tokens;
use crate::policy::key::{self, Key};
use crate::policy::loadtest;
use crate::policy::rewrite::{self, Rewrite};
use crate::policy::route::{BadTarget, RouteId, Routes, Target};

/// The compiled view of one site.
pub struct Site {
    routes: Routes,
    /// The host of every key, whatever a request says.
    host: Option<String>,
    /// Hosts that are served; empty means any.
    hosts: HashSet<String>,
    /// What an answer that there is nothing gets outside the routes that say so themselves.
    negative_ttl: Duration,
    rewrites: Vec<Rewrite>,
    /// One slash at the end of a path of old is none, as of any path.
    drops_trailing_slash: bool,
    loaderio_tokens: Vec<String>,
    /// The accepted tokens; `None` when any request passes.
    tokens: Option<Tokens>,
    /// Every URL is https: port 443 goes without saying.
    is_encrypted: bool,
}

/// A URL that a purge names.
#[derive(Debug)]
pub enum Named {
    /// An absolute URL.
    Key(Box<Key>),
    /// A path with its query, on every host.
    Path(Target),
}

/// Why a URL cannot be purged.
#[derive(Debug, thiserror::Error)]
pub enum BadUrl {
    /// Neither a path nor an absolute http URL.
    #[error("neither a path nor an absolute http or https URL")]
    Form,
    /// A query on a prefix.
    #[error("a prefix has no query: name the URL, or end the prefix before it")]
    PrefixQuery,
    /// A host that no key can hold.
    #[error(transparent)]
    Host(#[from] key::BadHost),
    /// A path that no request could have.
    #[error(transparent)]
    Target(#[from] BadTarget),
}

impl Site {
    /// Compiles routes and reads the token file, if there is one.
    ///
    /// # Errors
    /// Routes that contradict each other, or a token file that cannot be read or holds too much.
    pub fn new(config: &Config) -> anyhow::Result<Self> {
        Ok(Self {
            routes: Routes::compile(&config.http, &config.routes)?,
            host: config.http.host.clone(),
            hosts: config.http.hosts.iter().cloned().collect(),
            negative_ttl: config.cache.negative_ttl,
            rewrites: compile_rewrites(config)?,
            drops_trailing_slash: config.http.drop_trailing_slash,
            loaderio_tokens: config.loadtest.loaderio_tokens.clone(),
            tokens: read_tokens(config)?,
            is_encrypted: config.tls.is_some(),
        })
    }

    /// What a request asks for: of its target, or of the one that an old path stands for.
    ///
    /// # Errors
    /// Why the target is refused.
    pub fn target(&self, req: &RequestHeader) -> Result<Target, BadTarget> {
        let (path, query) = (req.uri.path(), req.uri.query());
        let old = match path.strip_suffix('/') {
            Some(shorter) if self.drops_trailing_slash => shorter,
            _ => path,
        };
        match rewrite::rewrite(&self.rewrites, &req.method, old, query) {
            Some((path, query)) => self.resolve(&path, query.as_deref()),
            None => self.resolve(path, query),
        }
    }

    /// The canonical form of a request target as received.
    ///
    /// # Errors
    /// Why the target is refused.
    pub fn resolve(&self, path: &str, query: Option<&str>) -> Result<Target, BadTarget> {
        self.routes.resolve(path, query)
    }

    /// The methods that the target's route accepts; `None` when no route is configured for it.
    pub fn methods(&self, target: &Target) -> Option<&[Method]> {
        target.route.map(|route| self.routes.methods(route))
    }

    /// A route's configured path.
    pub fn route(&self, route: RouteId) -> &str {
        self.routes.name(route)
    }

    /// What an answer of this route, or of none, gets which says that there is nothing and states no lifetime; `None` where
    /// that is zero.
    pub fn negative_ttl(&self, route: Option<RouteId>) -> Option<Duration> {
        let own = route.and_then(|route| self.routes.negative_ttl(route));
        Some(own.unwrap_or(self.negative_ttl)).filter(|ttl| !ttl.is_zero())
    }

    /// The host of every key, where the configuration fixes it.
    pub fn only_host(&self) -> Option<&str> {
        self.host.as_deref()
    }

    /// The host that goes into the key.
    ///
    /// # Errors
    /// 400 for a host that is missing, malformed or not served.
    pub fn key_host(&self, req: &RequestHeader) -> Result<Cow<'_, str>> {
        match &self.host {
            Some(host) => Ok(Cow::Borrowed(host)),
            None => self.host(req).map(Cow::Owned),
        }
    }

    /// The canonical host a request names.
    ///
    /// # Errors
    /// 400 for a host that is missing, malformed or not served.
    pub fn host(&self, req: &RequestHeader) -> Result<String> {
        let bad = || {
            Error::explain(
                ErrorType::HTTPStatus(400),
                "missing, malformed or unknown host",
            )
            .into_down()
        };
        let named = req.uri.authority().map(http::uri::Authority::as_str);
        let named = named.or_else(|| {
            req.headers
                .get(header::HOST)
                .and_then(|host| host.to_str().ok())
        });
        let raw = match (named, &self.host) {
            (Some(named), _) => named,
            // Host became a must with HTTP/1.1; where there is one host only, nothing is missing.
            (None, Some(only))
                if req.version < Version::HTTP_11 && !req.headers.contains_key(header::HOST) =>
            {
                return Ok(only.clone());
            }
            (None, _) => return Err(bad()),
        };
        let host = self.canonical_host(raw).map_err(|_| bad())?;
        if self.hosts.is_empty() || self.hosts.contains(&host) {
            Ok(host)
        } else {
            Err(bad())
        }
    }

    /// The one spelling of a host that a request, a URL or a `Location` names.
    ///
    /// # Errors
    /// A host that is none.
    pub fn canonical_host(&self, raw: &str) -> Result<String, key::BadHost> {
        let mut host = key::canonical_host("http", raw)?;
        if self.is_encrypted && host.ends_with(":443") {
            host.truncate(host.len() - ":443".len());
        }
        Ok(host)
    }

    /// The loader.io token that a path asks for: `/<token>` with nothing, `/`, `.txt` or `.html` behind it.
    pub fn loaderio_token(&self, path: &str) -> Option<&str> {
        loadtest::verification(path, &self.loaderio_tokens)
    }

    /// Whether a request with this token may pass.
    pub fn admits(&self, token: Option<&str>) -> bool {
        self.tokens
            .as_ref()
            .is_none_or(|tokens| token.is_some_and(|token| tokens.contains(token)))
    }

    /// The host of the keys that an authority names: the one there is, where the configuration fixes it.
    ///
    /// # Errors
    /// It is no host.
    pub fn named_host(&self, authority: &str) -> Result<String, key::BadHost> {
        match &self.host {
            Some(host) => Ok(host.clone()),
            None => self.canonical_host(authority),
        }
    }

    /// Reads a URL that a purge names.
    ///
    /// # Errors
    /// Why it names nothing.
    pub fn named(&self, url: &str) -> Result<Named, BadUrl> {
        if url.starts_with('/') {
            let (path, query) = split_query(url);
            return Ok(Named::Path(self.resolve(path, query)?));
        }
        let uri: http::Uri = url.parse().map_err(|_| BadUrl::Form)?;
        let (Some("http" | "https"), Some(authority)) = (uri.scheme_str(), uri.authority()) else {
            return Err(BadUrl::Form);
        };
        let host = self.named_host(authority.as_str())?;
        let target = self.resolve(uri.path(), uri.query())?;
        Ok(Named::Key(Box::new(Key::new(
            "http",
            &host,
            &target.path,
            target.query.as_deref(),
        ))))
    }
}

/// The beginning of paths that a purge names.
#[derive(Debug, PartialEq, Eq)]
pub struct NamedPrefix {
    /// The canonical host; `None` means every host.
    pub host: Option<String>,
    /// How the canonical paths begin.
    pub path: String,
}

impl Site {
    /// Reads the beginning of a path (on every host) or of an absolute URL, without a query.
    ///
    /// # Errors
    /// Why it names nothing.
    pub fn named_prefix(&self, url: &str) -> Result<NamedPrefix, BadUrl> {
        if url.contains('?') {
            return Err(BadUrl::PrefixQuery);
        }
        if url.starts_with('/') {
            let path = self.routes.path_prefix(url)?;
            return Ok(NamedPrefix { host: None, path });
        }
        let uri: http::Uri = url.parse().map_err(|_| BadUrl::Form)?;
        let (Some("http" | "https"), Some(authority)) = (uri.scheme_str(), uri.authority()) else {
            return Err(BadUrl::Form);
        };
        let host = self.named_host(authority.as_str())?;
        Ok(NamedPrefix {
            host: Some(host),
            path: self.routes.path_prefix(uri.path())?,
        })
    }
}

fn split_query(url: &str) -> (&str, Option<&str>) {
    match url.split_once('?') {
        Some((path, query)) => (path, Some(query)),
        None => (url, None),
    }
}

fn compile_rewrites(config: &Config) -> anyhow::Result<Vec<Rewrite>> {
    let rules = config.http.rewrites.iter();
    let compiled = rules.map(|rule| rule.compile().map_err(anyhow::Error::msg));
    compiled.collect()
}

fn read_tokens(config: &Config) -> anyhow::Result<Option<Tokens>> {
    let (true, Some(file)) = (config.auth.required, &config.auth.tokens_file) else {
        return Ok(None);
    };
    let text = std::fs::read_to_string(file)
        .with_context(|| format!("reading auth.tokens_file {}", file.display()))?;
    let tokens =
        Tokens::parse(&text).with_context(|| format!("auth.tokens_file {}", file.display()))?;
    Ok(Some(tokens))
}
