//! The text of a configuration file: its sections one by one, and the place of each setting for messages.

use std::net::SocketAddr;

use serde::de::{DeserializeOwned, IntoDeserializer};
use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::access_log::AccessLog;
use super::coherence::Coherence;
use super::route::RouteTable;
use super::section::{Admin, Auth, Cache, Cors, Http, Limits, LoadTest, Upstream};
use super::tls::Tls;
use super::{Config, Problem, isolate, schema, wording};

/// Routes of one file at most; each request walks the list.
const ROUTES_MAX: usize = 256;

/// A file that is read, section by section.
pub(super) struct File<'t> {
    text: &'t str,
    table: DeTable<'t>,
    /// What is wrong so far.
    pub(super) problems: Vec<Problem>,
    /// Whether a route could not be read: those behind it are counted wrong.
    pub(super) lacks_routes: bool,
}

impl<'t> File<'t> {
    /// Parses the text.
    ///
    /// # Errors
    /// The first fault of syntax.
    pub(super) fn parse(text: &'t str) -> Result<Self, Problem> {
        match DeTable::parse(text) {
            Ok(table) => Ok(Self {
                text,
                table: table.into_inner(),
                problems: Vec::new(),
                lacks_routes: false,
            }),
            Err(error) => Err(unparsable(&error, text)),
        }
    }

    /// Reads every section; what cannot be read is its default, and a problem.
    pub(super) fn read(&mut self) -> Config {
        self.report_unknown();
        let defaults = Config::default();
        let mut config = Config {
            listen: self
                .section::<SocketAddr>("listen")
                .unwrap_or(defaults.listen),
            threads: self.section("threads").unwrap_or(defaults.threads),
            admin: self.section::<Admin>("admin"),
            tls: self.section::<Tls>("tls"),
            access_log: self.section::<AccessLog>("access_log"),
            upstream: self.section::<Upstream>("upstream").unwrap_or_default(),
            cache: self.section::<Cache>("cache").unwrap_or_default(),
            limits: self.section::<Limits>("limits").unwrap_or_default(),
            http: self.section::<Http>("http").unwrap_or_default(),
            cors: self.section::<Cors>("cors"),
            auth: self.section::<Auth>("auth").unwrap_or_default(),
            loadtest: self.section::<LoadTest>("loadtest").unwrap_or_default(),
            coherence: self.section::<Coherence>("coherence"),
            routes: Vec::new(),
        };
        self.read_routes(&mut config);
        self.default_by_routes(&mut config);
        config
    }

    /// Line and column, from 1, of a setting such as `route[3].query[0].max`, or of the nearest table that is there.
    pub(super) fn place(&self, key: &str) -> Option<(usize, usize)> {
        let mut span = None;
        let mut steps = key.split(['.', '[', ']']).filter(|step| !step.is_empty());
        let mut value = steps.next().and_then(|step| self.table.get(step));
        while let Some(found) = value {
            span = Some(found.span());
            value = steps.next().and_then(|step| match step.parse::<usize>() {
                Ok(index) => found.get_ref().get(index),
                Err(_) => found.get_ref().get(step),
            });
        }
        span.map(|span| line_and_column(self.text, span.start))
    }

    fn report_unknown(&mut self) {
        let known = schema::names("");
        let known: Vec<_> = known.iter().map(String::as_str).collect();
        for (key, value) in &self.table {
            let name: &str = key.get_ref();
            if known.contains(&name) {
                continue;
            }
            let start = key.span().start.min(value.span().start);
            self.problems.push(Problem {
                key: name.to_owned(),
                place: Some(line_and_column(self.text, start)),
                message: wording::no_such_setting(name, &known),
            });
        }
    }

    fn section<T: DeserializeOwned>(&mut self, key: &str) -> Option<T> {
        let value = self.table.get(key)?.clone();
        self.value(key, value)
    }

    /// Reads a section. Of one that cannot be read everything that is wrong is reported, and the rest is read.
    fn value<T: DeserializeOwned>(&mut self, key: &str, value: Spanned<DeValue<'t>>) -> Option<T> {
        if let Ok(value) = T::deserialize(value.clone().into_deserializer()) {
            return Some(value);
        }
        let faults = isolate::faults::<T>(&value);
        let (span, mut value) = (value.span(), value.into_inner());
        for fault in faults {
            if let DeValue::Table(table) = &mut value {
                let below = fault.path.split(['.', '[']).nth(1).unwrap_or_default();
                table.remove(below);
            }
            self.problems.push(Problem {
                key: format!("{key}{}", fault.path),
                place: Some(line_and_column(self.text, fault.span.start)),
                message: fault.message,
            });
        }
        T::deserialize(Spanned::new(span, value).into_deserializer()).ok()
    }

    /// Reads the routes one by one, so that a broken one does not hide the next.
    fn read_routes(&mut self, config: &mut Config) {
        let Some(value) = self.table.get("route").cloned() else {
            return;
        };
        let DeValue::Array(tables) = value.into_inner() else {
            self.report(
                "route",
                "write each route as a table of its own: [[route]]".to_owned(),
            );
            return;
        };
        if tables.len() > ROUTES_MAX {
            self.report("route", format!("at most {ROUTES_MAX} routes"));
            return;
        }
        for (index, table) in tables.into_iter().enumerate() {
            let key = format!("route[{index}]");
            let Some(table) = self.value::<RouteTable>(&key, table) else {
                self.lacks_routes = true;
                continue;
            };
            let mut found = Vec::new();
            config.routes.push(table.into_route(&mut found));
            for (below, message) in found {
                self.report(&format!("{key}.{below}"), message);
            }
        }
    }

    /// With routes the file describes one service, which says itself what may be cached; without, any origin is served.
    fn default_by_routes(&self, config: &mut Config) {
        if !self.table.contains_key("route") {
            return;
        }
        let is_set = |section: &str, key: &str| {
            self.table
                .get(section)
                .is_some_and(|section| section.get_ref().get(key).is_some())
        };
        if !is_set("cache", "heuristic") {
            config.cache.heuristic = false;
        }
        if !is_set("cache", "store_set_cookie") {
            config.cache.store_set_cookie = false;
        }
        if !is_set("cache", "client_directives") {
            config.cache.client_directives = super::ClientDirectives::Ignore;
        }
        if !is_set("http", "cache_unmatched") {
            config.http.cache_unmatched = false;
        }
    }

    /// Notes a problem of a setting.
    pub(super) fn report(&mut self, key: &str, message: String) {
        let place = self.place(key);
        self.problems.push(Problem {
            key: key.to_owned(),
            place,
            message,
        });
    }
}

/// A fault of syntax.
fn unparsable(error: &toml::de::Error, text: &str) -> Problem {
    Problem {
        key: String::new(),
        place: error.span().map(|span| line_and_column(text, span.start)),
        message: wording::syntax(error.message()),
    }
}

/// Line and column of a byte, both from 1; columns count characters.
fn line_and_column(text: &str, byte: usize) -> (usize, usize) {
    let before = text.get(..byte).unwrap_or(text);
    let line = before.matches('\n').count() + 1;
    let start = before.rfind('\n').map_or(0, |at| at + 1);
    (line, before[start..].chars().count() + 1)
}
