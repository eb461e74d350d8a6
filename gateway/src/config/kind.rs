//! Typed values of the configuration file: byte sizes, durations, addresses, hosts.

use std::borrow::Cow;
use std::fmt;
use std::net::{Ipv6Addr, SocketAddr};
use std::str::FromStr;
use std::time::Duration;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::de::{self, Deserializer, Visitor};
use serde::{Deserialize, Serialize, Serializer};

/// A number of bytes, written as `4096`, `"64KiB"`, `"96MiB"` or `"1GiB"`.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct ByteSize(pub u64);

/// Where an origin listens: an address, or a name that is resolved.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Address {
    /// A literal address with its port.
    Ip(SocketAddr),
    /// A host name with its port.
    Name {
        /// The name, in lower case.
        host: String,
        /// The port.
        port: u16,
    },
}

const UNITS_BYTES: [(&str, u64); 7] = [
    ("B", 1),
    ("KiB", 1 << 10),
    ("MiB", 1 << 20),
    ("GiB", 1 << 30),
    ("kB", 1_000),
    ("MB", 1_000_000),
    ("GB", 1_000_000_000),
];

const UNITS_TIME_MS: [(&str, u64); 5] = [
    ("ms", 1),
    ("s", 1_000),
    ("m", 60_000),
    ("h", 3_600_000),
    ("d", 86_400_000),
];

/// Splits `96MiB` into its whole number and its unit.
fn number_and_unit(text: &str) -> Option<(u64, &str)> {
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    let (number, unit) = text.split_at(digits);
    Some((number.parse().ok()?, unit.trim_start_matches(' ')))
}

fn with_unit(text: &str, units: &[(&str, u64)]) -> Option<u64> {
    let (number, unit) = number_and_unit(text)?;
    let (_, factor) = units.iter().find(|(name, _)| *name == unit)?;
    number.checked_mul(*factor)
}

impl ByteSize {
    /// A size of `count` times 1,048,576 bytes.
    pub const fn mebibytes(count: u64) -> Self {
        Self(count << 20)
    }

    /// A size of `count` times 1,024 bytes.
    pub const fn kibibytes(count: u64) -> Self {
        Self(count << 10)
    }

    /// The size as a length in memory, capped where the machine's word is shorter.
    pub fn as_usize(self) -> usize {
        usize::try_from(self.0).unwrap_or(usize::MAX)
    }
}

impl FromStr for ByteSize {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        with_unit(text, &UNITS_BYTES).map(Self).ok_or_else(|| {
            format!("`{text}` is not a size: write a whole number and B, KiB, MiB or GiB, as in \"96MiB\"")
        })
    }
}

impl fmt::Display for ByteSize {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut binary = UNITS_BYTES[..4].iter().rev();
        let unit = binary.find(|(_, factor)| self.0 != 0 && self.0.is_multiple_of(*factor));
        let (name, factor) = unit.unwrap_or(&UNITS_BYTES[0]);
        write!(f, "{}{name}", self.0 / factor)
    }
}

impl fmt::Debug for ByteSize {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl<'de> Deserialize<'de> for ByteSize {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct SizeVisitor;
        impl Visitor<'_> for SizeVisitor {
            type Value = ByteSize;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a size such as \"96MiB\", or a whole number of bytes")
            }

            fn visit_str<E: de::Error>(self, text: &str) -> Result<ByteSize, E> {
                text.parse().map_err(E::custom)
            }

            fn visit_i64<E: de::Error>(self, number: i64) -> Result<ByteSize, E> {
                u64::try_from(number)
                    .map(ByteSize)
                    .map_err(|_| E::custom(format!("{number} is not a size: it is negative")))
            }

            fn visit_u64<E: de::Error>(self, number: u64) -> Result<ByteSize, E> {
                Ok(ByteSize(number))
            }
        }
        deserializer.deserialize_any(SizeVisitor)
    }
}

impl Serialize for ByteSize {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl JsonSchema for ByteSize {
    fn schema_name() -> Cow<'static, str> {
        "ByteSize".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        let units = UNITS_BYTES.map(|(unit, _)| unit).join("|");
        json_schema!({
            "description": "Bytes: a whole number, or a text such as \"96MiB\".",
            "anyOf": [
                { "type": "string", "pattern": format!("^[0-9]+ *({units})$") },
                { "type": "integer", "minimum": 0 },
            ],
        })
    }
}

/// What a duration's text looks like, as a regular expression.
pub(super) fn duration_pattern() -> String {
    let units = UNITS_TIME_MS.map(|(unit, _)| unit).join("|");
    format!("^[0-9]+ *({units})$")
}

/// A duration as the file has it, in the largest unit that keeps it whole.
pub(super) fn duration_text(length: Duration) -> String {
    let milliseconds = u64::try_from(length.as_millis()).unwrap_or(u64::MAX);
    let mut units = UNITS_TIME_MS.iter().rev();
    let unit = units.find(|(_, factor)| milliseconds != 0 && milliseconds.is_multiple_of(*factor));
    match unit {
        Some((name, factor)) => format!("{}{name}", milliseconds / factor),
        None => "0s".to_owned(),
    }
}

/// Reads a duration, written as `"500ms"`, `"15s"`, `"5m"`, `"2h"` or `"1d"`.
pub(super) fn duration<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Duration, D::Error> {
    struct DurationVisitor;
    impl Visitor<'_> for DurationVisitor {
        type Value = Duration;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("a duration with its unit, such as \"500ms\" or \"15s\"")
        }

        fn visit_str<E: de::Error>(self, text: &str) -> Result<Duration, E> {
            let milliseconds = with_unit(text, &UNITS_TIME_MS).ok_or_else(|| {
                E::custom(format!(
                    "`{text}` is not a duration: write a whole number and ms, s, m, h or d, as in \"500ms\""
                ))
            })?;
            Ok(Duration::from_millis(milliseconds))
        }
    }
    deserializer.deserialize_any(DurationVisitor)
}

/// A host field that cannot be part of a cache key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the host is missing or malformed")]
pub struct BadHost;

/// Bytes of a host at most: the longest name of the DNS and a port.
const HOST_MAX: usize = 253 + ":65535".len();

/// The one spelling of a host: lower case, without the scheme's default port, without the dot at its end.
///
/// # Errors
/// A missing host, and one with a user, a path, a list, a space or any other character no host has.
pub fn canonical_host(scheme: &str, raw: &str) -> Result<String, BadHost> {
    if raw.is_empty() || raw.len() > HOST_MAX {
        return Err(BadHost);
    }
    let (mut host, rest) = match raw.strip_prefix('[') {
        Some(literal) => {
            let (address, rest) = literal.split_once(']').ok_or(BadHost)?;
            let address: Ipv6Addr = address.parse().map_err(|_| BadHost)?;
            (format!("[{address}]"), rest)
        }
        None => {
            let end = raw.find(':').unwrap_or(raw.len());
            (canonical_name(&raw[..end])?, &raw[end..])
        }
    };
    let default = if scheme == "https" { 443 } else { 80 };
    match canonical_port(rest)? {
        Some(port) if port != default => host.push_str(&format!(":{port}")),
        Some(_) | None => {}
    }
    Ok(host)
}

fn canonical_name(raw: &str) -> Result<String, BadHost> {
    let name = raw.strip_suffix('.').unwrap_or(raw);
    let label = |label: &str| {
        !label.is_empty()
            && label
                .bytes()
                .all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_'))
    };
    if name.split('.').all(label) {
        Ok(name.to_ascii_lowercase())
    } else {
        Err(BadHost)
    }
}

/// Reads `:8080`; nothing and a lone colon mean the default port.
fn canonical_port(text: &str) -> Result<Option<u16>, BadHost> {
    if text.is_empty() {
        return Ok(None);
    }
    let digits = text.strip_prefix(':').ok_or(BadHost)?;
    if !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return Err(BadHost);
    }
    if digits.is_empty() {
        return Ok(None);
    }
    let port: u16 = digits.parse().map_err(|_| BadHost)?;
    if port == 0 {
        Err(BadHost)
    } else {
        Ok(Some(port))
    }
}

impl FromStr for Address {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let bare = text.strip_prefix("http://").unwrap_or(text);
        let bare = bare.strip_suffix('/').unwrap_or(bare);
        let problem =
            || format!("`{text}` is not an address: write HOST:PORT, as in \"127.0.0.1:3001\"");
        if let Ok(address) = bare.parse::<SocketAddr>() {
            return if address.port() == 0 {
                Err(problem())
            } else {
                Ok(Self::Ip(address))
            };
        }
        let (host, port) = bare.rsplit_once(':').ok_or_else(problem)?;
        let port: u16 = port.parse().map_err(|_| problem())?;
        let is_number = host
            .bytes()
            .all(|byte| byte.is_ascii_digit() || byte == b'.');
        let host = canonical_name(host).map_err(|_| problem())?;
        if port == 0 || is_number {
            Err(problem())
        } else {
            Ok(Self::Name { host, port })
        }
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Ip(address) => write!(f, "{address}"),
            Self::Name { host, port } => write!(f, "{host}:{port}"),
        }
    }
}

impl Serialize for Address {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl JsonSchema for Address {
    fn schema_name() -> Cow<'static, str> {
        "Address".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "type": "string", "description": "HOST:PORT" })
    }
}

impl<'de> Deserialize<'de> for Address {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?
            .parse()
            .map_err(de::Error::custom)
    }
}

#[cfg(test)]
mod tests;
