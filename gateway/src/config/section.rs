//! The sections of the configuration file with their defaults.
//!
//! Defaults fit a machine of 1 vCPU and 1 GiB on which the gateway stands alone.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use http::{HeaderName, Method};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::balance::{Algorithm, Ejection};
use super::health::Health;
use super::kind::{Address, ByteSize, duration};
use super::network::networks;
use super::rewrite::{self, RewriteRule};
use super::text;
use crate::policy::forwarded::Network;
use crate::policy::vary::Coding;

/// `[admin]`: the operators' listener.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Admin {
    /// Its address; loopback by default.
    pub listen: SocketAddr,
    /// A file whose first line is the bearer token; required unless `listen` is a loopback address.
    #[schemars(example = "/etc/gateway/admin.token")]
    pub token_file: Option<PathBuf>,
    /// A variable of the environment that holds the bearer token, instead of the file.
    #[schemars(example = &"GATEWAY_ADMIN_TOKEN")]
    pub token_env: Option<String>,
    /// A file whose first line is a token for the calls that change nothing.
    #[schemars(example = "/etc/gateway/read.token")]
    pub read_token_file: Option<PathBuf>,
    /// A variable of the environment that holds that token, instead of the file.
    #[schemars(example = &"GATEWAY_READ_TOKEN")]
    pub read_token_env: Option<String>,
    /// Connections of operators, and of other gateways that ask, at most.
    pub connections_max: usize,
}

impl Default for Admin {
    fn default() -> Self {
        Self {
            listen: SocketAddr::from((Ipv4Addr::LOCALHOST, 8081)),
            token_file: None,
            token_env: None,
            read_token_file: None,
            read_token_env: None,
            // As many as other gateways may ask at a time, and some.
            connections_max: 1_280,
        }
    }
}

/// `[upstream]`: the origins and how they are reached.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Upstream {
    /// The origins; never empty in a checked configuration.
    #[schemars(example = ["127.0.0.1:3001"])]
    pub nodes: Vec<Node>,
    /// How long a connection may take to come up.
    #[serde(deserialize_with = "duration")]
    pub connect_timeout: Duration,
    /// How long one read of an answer may wait.
    #[serde(deserialize_with = "duration")]
    pub read_timeout: Duration,
    /// How long one write of a request may wait.
    #[serde(deserialize_with = "duration")]
    pub write_timeout: Duration,
    /// How long an unused connection is kept; shorter than the origins keep theirs.
    #[serde(deserialize_with = "duration")]
    pub idle_timeout: Duration,
    /// Unused connections kept, over all origins.
    pub pool_size: usize,
    /// How many origins one request may try before it fails.
    pub attempts: usize,
    /// Requests in flight at one origin at most.
    pub in_flight_max: usize,
    /// Which origin a request goes to.
    pub balance: Algorithm,
    /// How long an origin that comes in takes to get its whole share.
    #[serde(deserialize_with = "duration")]
    pub slow_start: Duration,
    /// Requests that wait at most while every origin is at `in_flight_max`.
    pub queue_max: usize,
    /// How long one of them may wait.
    #[serde(deserialize_with = "duration")]
    pub queue_wait: Duration,
    /// With a smaller share of usable origins all of them are used, in percent.
    pub panic_percent: u32,
    /// Further attempts at most, in percent of the requests.
    pub retry_percent: u32,
    /// Time between two looks at the addresses of names.
    #[serde(deserialize_with = "duration")]
    pub resolve_interval: Duration,
    /// Origins whose requests fail.
    pub ejection: Ejection,
    /// Active health checks.
    pub health: Health,
}

impl Default for Upstream {
    fn default() -> Self {
        Self {
            nodes: Vec::new(),
            connect_timeout: Duration::from_millis(500),
            read_timeout: Duration::from_secs(15),
            write_timeout: Duration::from_secs(15),
            idle_timeout: Duration::from_secs(4),
            pool_size: 64,
            attempts: 3,
            in_flight_max: 256,
            balance: Algorithm::LeastConnections,
            slow_start: Duration::from_secs(5),
            queue_max: 128,
            queue_wait: Duration::from_millis(30),
            panic_percent: 25,
            retry_percent: 20,
            resolve_interval: Duration::from_secs(30),
            ejection: Ejection::default(),
            health: Health::default(),
        }
    }
}

/// One origin: `"HOST:PORT"`, or a table with more.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Node {
    /// Where it serves.
    pub address: Address,
    /// Its share of the load beside the others, from 1.
    pub weight: u32,
    /// Its private listener (health, events), when that is another one.
    pub private: Option<Address>,
}

impl From<Address> for Node {
    fn from(address: Address) -> Self {
        Self {
            address,
            weight: 1,
            private: None,
        }
    }
}

/// `[cache]`: what is kept and under which rules.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Cache {
    /// The cache's name in `Cache-Status`.
    pub name: String,
    /// Bytes for everything kept: bodies, headers, keys, tags, fills in flight.
    pub budget: ByteSize,
    /// The largest body that is kept.
    pub object_max: ByteSize,
    /// Variants of one URL at most.
    pub variants_max: usize,
    /// How long a request waits for another's fetch of the same key.
    #[serde(deserialize_with = "duration")]
    pub lock_wait: Duration,
    /// How long one fetch may hold back the others.
    #[serde(deserialize_with = "duration")]
    pub lock_age: Duration,
    /// How long a key is remembered as uncacheable.
    #[serde(deserialize_with = "duration")]
    pub uncacheable_ttl: Duration,
    /// Freshness is cut to this.
    #[serde(deserialize_with = "duration")]
    pub fresh_max: Duration,
    /// Granted when the origin says nothing about it and nothing forbids it.
    #[serde(deserialize_with = "duration")]
    pub stale_while_revalidate: Duration,
    /// Granted when the origin says nothing about it and nothing forbids it.
    #[serde(deserialize_with = "duration")]
    pub stale_if_error: Duration,
    /// How long after its lifetime a response is served while no origin can be reached, if nothing forbids it and no
    /// `stale-if-error` says otherwise.
    #[serde(deserialize_with = "duration")]
    pub stale_if_unreachable: Duration,
    /// Whether a response without a lifetime gets one from its `Last-Modified`; by default only when there are no routes.
    pub heuristic: bool,
    /// The longest lifetime found so.
    #[serde(deserialize_with = "duration")]
    pub heuristic_max: Duration,
    /// The lifetime of an answer that there is nothing (404, 405, 410, 414, 501) which states none; zero leaves it to `heuristic`.
    #[serde(deserialize_with = "duration")]
    pub negative_ttl: Duration,
    /// Targeted fields that win over `Cache-Control` (RFC 9213), the first present one first.
    #[serde(with = "text::header_names")]
    #[schemars(with = "Vec<String>")]
    pub targeted: Vec<HeaderName>,
    /// Whether only responses with a targeted field that says `public` are kept.
    pub marked_only: bool,
    /// What `Cache-Control` of a request does; by default obeyed only when there are no routes.
    pub client_directives: ClientDirectives,
    /// Request headers a response may vary on; left out means any.
    #[serde(with = "text::some_header_names")]
    #[schemars(with = "Option<Vec<String>>", example = ["Accept-Language"])]
    pub vary: Option<Vec<HeaderName>>,
    /// Whether a response with `Set-Cookie` and a stated lifetime may be kept; by default only when there are no routes.
    pub store_set_cookie: bool,
    /// Codings that are made of bodies which are asked for, the preferred one first; empty means none.
    pub encodings: Vec<Coding>,
    /// Bodies from this size are encoded.
    pub encode_min: ByteSize,
    /// Tags of one object at most; an answer with more is not kept.
    pub tags_max: usize,
    /// Bytes of one tag at most; an answer with a longer one is not kept.
    pub tag_bytes_max: usize,
    /// How the groups begin that name the build of the origin which answered; left out means that there are none.
    #[schemars(example = "release-")]
    pub release_prefix: Option<String>,
    /// Keys that are fetched at once after a purge that asks for a refill.
    pub refill_concurrency: usize,
    /// Whether `CDN-Cache-Control`, `Surrogate-Control`, `Cache-Groups` and `Cache-Group-Invalidation` are removed from what clients get.
    pub strip_cache_headers: bool,
}

impl Default for Cache {
    fn default() -> Self {
        Self {
            name: "gateway".to_owned(),
            budget: ByteSize::mebibytes(96),
            object_max: ByteSize::mebibytes(4),
            variants_max: 8,
            lock_wait: Duration::from_secs(20),
            lock_age: Duration::from_secs(16),
            uncacheable_ttl: Duration::from_secs(60),
            fresh_max: Duration::from_secs(365 * 86_400),
            stale_while_revalidate: Duration::ZERO,
            stale_if_error: Duration::ZERO,
            stale_if_unreachable: Duration::from_secs(86_400),
            heuristic: true,
            heuristic_max: Duration::from_secs(86_400),
            negative_ttl: Duration::ZERO,
            targeted: vec![
                HeaderName::from_static("cdn-cache-control"),
                HeaderName::from_static("surrogate-control"),
            ],
            marked_only: false,
            client_directives: ClientDirectives::Obey,
            vary: None,
            store_set_cookie: true,
            encodings: vec![Coding::Brotli, Coding::Zstd, Coding::Gzip],
            encode_min: ByteSize::kibibytes(1),
            tags_max: 64,
            tag_bytes_max: 128,
            release_prefix: None,
            refill_concurrency: 4,
            strip_cache_headers: true,
        }
    }
}

/// What `Cache-Control` (and `Pragma`) of a request does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum ClientDirectives {
    /// Nothing: a client cannot make the cache ask the origin.
    Ignore,
    /// What RFC 9111 5.2.1 says.
    Obey,
}

/// `[limits]`: bounds on clients and on memory for each of them.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Limits {
    /// Connections at most.
    pub connections_max: usize,
    /// Fields of a request header at most.
    pub header_fields_max: usize,
    /// Bytes of a request header at most.
    pub header_bytes_max: ByteSize,
    /// Bytes of a request target at most.
    pub target_bytes_max: ByteSize,
    /// Bytes of a request body at most.
    pub body_bytes_max: ByteSize,
    /// Bytes at most, over all requests, of small bodies that are taken in before an origin is asked; zero takes in none.
    pub body_memory: ByteSize,
    /// Bytes of an ignored body (GET, HEAD, PUT) that are drained at most.
    pub drain_bytes_max: ByteSize,
    /// How long a new connection may take to send its first header.
    #[serde(deserialize_with = "duration")]
    pub header_timeout: Duration,
    /// How long one read of a body may wait.
    #[serde(deserialize_with = "duration")]
    pub read_timeout: Duration,
    /// How long one write to a client may wait.
    #[serde(deserialize_with = "duration")]
    pub write_timeout: Duration,
    /// How long a connection may be idle between requests, the next header included.
    #[serde(deserialize_with = "duration")]
    pub keepalive_timeout: Duration,
    /// Requests on one connection at most.
    pub keepalive_requests_max: u32,
    /// Bytes a second at least of a request's body.
    pub read_rate_min: ByteSize,
    /// Bytes a second at least that a client takes of an answer.
    pub write_rate_min: ByteSize,
    /// How far a client may fall behind these rates.
    #[serde(deserialize_with = "duration")]
    pub rate_slack: Duration,
    /// Requests a second of one client (an IPv4 address, an IPv6 network of 64 bits); none means any number.
    #[schemars(example = 100)]
    pub client_rate: Option<u32>,
    /// Requests that one client may send at once before the rate holds.
    pub client_burst: u32,
    /// Who is believed what it says in `X-Forwarded-For`.
    #[serde(with = "networks")]
    #[schemars(with = "Vec<String>", example = ["10.0.0.0/8"])]
    pub trusted_proxies: Vec<Network>,
    /// Bytes of an answer that are collected before they are sent; head and small body should leave in one write.
    pub write_buffer: ByteSize,
    /// How long requests in flight may take to end after a stop signal.
    #[serde(deserialize_with = "duration")]
    pub shutdown_grace: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            connections_max: 8_000,
            header_fields_max: 64,
            header_bytes_max: ByteSize::kibibytes(16),
            target_bytes_max: ByteSize::kibibytes(8),
            body_bytes_max: ByteSize::mebibytes(8),
            body_memory: ByteSize::mebibytes(16),
            drain_bytes_max: ByteSize::kibibytes(64),
            header_timeout: Duration::from_secs(10),
            read_timeout: Duration::from_secs(15),
            write_timeout: Duration::from_secs(15),
            keepalive_timeout: Duration::from_secs(60),
            keepalive_requests_max: 10_000,
            read_rate_min: ByteSize(512),
            write_rate_min: ByteSize(512),
            rate_slack: Duration::from_secs(10),
            client_rate: None,
            client_burst: 100,
            trusted_proxies: Vec::new(),
            write_buffer: ByteSize::kibibytes(16),
            shutdown_grace: Duration::from_secs(2),
        }
    }
}

/// `[http]`: how request targets and hosts are read.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Http {
    /// The host in every cache key, whatever the request says; left out means the request's own.
    #[schemars(example = "shop.example")]
    pub host: Option<String>,
    /// Hosts that are served; empty means any valid one.
    pub hosts: Vec<String>,
    /// Methods that are passed on; which of them a path takes is for its origin to say. CONNECT, TRACE, PURGE and BAN never are.
    #[serde(with = "text::methods")]
    #[schemars(with = "Vec<String>")]
    pub methods: Vec<Method>,
    /// Prefixes of which one is stripped, the longest first; `{name}` is one segment of `[A-Za-z0-9-]+`.
    pub prefixes: Vec<String>,
    /// Whether repeated slashes in a path are one.
    pub collapse_slashes: bool,
    /// Whether a path with one trailing slash is the path without it; needs `collapse_slashes`.
    pub drop_trailing_slash: bool,
    /// Paths that the site once had, as requests for those that it has; the first rule for a request counts.
    #[schemars(example = rewrite::sample())]
    pub rewrites: Vec<RewriteRule>,
    /// Whether paths outside every `[[route]]` are cached; by default only when there are no routes.
    pub cache_unmatched: bool,
    /// Whether the query parameters of cached paths outside every `[[route]]` are put in the order of their names.
    pub query_sort: bool,
    /// Query parameters that are kept on such paths, all others are dropped; `*` stands for any text; left out means all.
    #[schemars(example = ["page", "filter_*"])]
    pub query_keep: Option<Vec<String>>,
    /// Query parameters that mean nothing on any cached path, but for those that a route knows; `*` stands for any text.
    #[schemars(example = ["utm_*", "fbclid", "gclid"])]
    pub query_ignore: Vec<String>,
}

impl Default for Http {
    fn default() -> Self {
        Self {
            host: None,
            hosts: Vec::new(),
            methods: vec![
                Method::GET,
                Method::HEAD,
                Method::POST,
                Method::PUT,
                Method::PATCH,
                Method::DELETE,
                Method::OPTIONS,
            ],
            prefixes: Vec::new(),
            collapse_slashes: false,
            drop_trailing_slash: false,
            rewrites: Vec::new(),
            cache_unmatched: true,
            query_sort: false,
            query_keep: None,
            query_ignore: Vec::new(),
        }
    }
}

/// `[cors]`: cross-origin answers given by the gateway itself.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Cors {
    /// `Access-Control-Allow-Origin`: `*` or one origin.
    pub allow_origin: String,
    /// `Access-Control-Allow-Methods`.
    #[serde(with = "text::methods")]
    #[schemars(with = "Vec<String>")]
    pub allow_methods: Vec<Method>,
    /// `Access-Control-Allow-Headers`.
    pub allow_headers: Vec<String>,
    /// `Access-Control-Expose-Headers`.
    pub expose_headers: Vec<String>,
    /// `Access-Control-Max-Age`.
    #[serde(deserialize_with = "duration")]
    pub max_age: Duration,
}

impl Default for Cors {
    fn default() -> Self {
        Self {
            allow_origin: "*".to_owned(),
            allow_methods: vec![Method::GET, Method::HEAD],
            allow_headers: Vec::new(),
            expose_headers: Vec::new(),
            max_age: Duration::from_secs(86_400),
        }
    }
}

/// `[auth]`: one switch for everything the gateway serves.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Auth {
    /// Whether a known token is required.
    pub required: bool,
    /// A file with one token a line; empty lines and lines that start with `#` are skipped.
    #[schemars(example = "/etc/gateway/tokens")]
    pub tokens_file: Option<PathBuf>,
}

/// `[loadtest]`: verification of load-test services.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct LoadTest {
    /// loader.io tokens, each whole: `loaderio-` and lower-case hexadecimal digits. They are public.
    pub loaderio_tokens: Vec<String>,
}
