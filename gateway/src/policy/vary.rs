//! `Vary`: which request headers select among the variants of one URL, and what makes two requests equal in them.

use blake2::digest::consts::U16;
use blake2::{Blake2b, Digest};
use http::header::{ACCEPT_ENCODING, ACCEPT_LANGUAGE, VARY};
use http::{HeaderMap, HeaderName, HeaderValue};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Header names one `Vary` may hold by default; more would be no cache but a log of requests.
pub const NAMES_MAX: usize = 8;

/// Which `Vary` fields can be honoured.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VaryRules {
    /// Request headers that may be named; none means any.
    pub allow: Option<Vec<HeaderName>>,
    /// How many may be named.
    pub names_max: usize,
}

impl Default for VaryRules {
    fn default() -> Self {
        Self {
            allow: None,
            names_max: NAMES_MAX,
        }
    }
}

/// Why a `Vary` field cannot be honoured.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum BadVary {
    /// `*`, or something that is no header name: the response fits no other request.
    #[error("vary on anything")]
    Any,
    /// A header outside the configured ones.
    #[error("vary on a header outside the configured ones")]
    Name,
    /// More headers than the limit.
    #[error("vary on more headers than the limit")]
    TooMany,
}

/// The request headers that select the variant, sorted and without repeats.
///
/// # Errors
/// The response must then not be stored.
pub fn names(response: &HeaderMap, rules: &VaryRules) -> Result<Vec<HeaderName>, BadVary> {
    let mut found: Vec<HeaderName> = Vec::new();
    for line in response.get_all(VARY) {
        for name in line
            .as_bytes()
            .split(|byte| *byte == b',')
            .map(<[u8]>::trim_ascii)
        {
            if name.is_empty() {
                continue;
            }
            // `*` is a valid token, so it has to be looked for.
            if name == b"*" {
                return Err(BadVary::Any);
            }
            let name = HeaderName::from_bytes(name).map_err(|_| BadVary::Any)?;
            // The origin is always asked for the same coding; the others are made from it here.
            if name != ACCEPT_ENCODING {
                found.push(name);
            }
        }
    }
    found.sort_unstable_by(|a, b| a.as_str().cmp(b.as_str()));
    found.dedup();
    if found.len() > rules.names_max {
        return Err(BadVary::TooMany);
    }
    match &rules.allow {
        Some(allowed) if found.iter().any(|name| !allowed.contains(name)) => Err(BadVary::Name),
        Some(_) | None => Ok(found),
    }
}

/// The hash of the named headers' normalised values; none when nothing selects.
///
/// Parts are framed by their length, and a missing header differs from an empty one.
pub fn variance(names: &[HeaderName], request: &HeaderMap) -> Option<[u8; 16]> {
    if names.is_empty() {
        return None;
    }
    let mut hash = Blake2b::<U16>::new();
    for name in names {
        hash_part(&mut hash, name.as_str().as_bytes());
        match normalised(request, name) {
            Some(value) => hash_part(&mut hash, &value),
            None => hash.update(u32::MAX.to_be_bytes()),
        }
    }
    Some(hash.finalize().into())
}

fn hash_part(hash: &mut Blake2b<U16>, part: &[u8]) {
    // A header block is far below 4 GiB, so the length never saturates and is never the mark of a missing header.
    let length = u32::try_from(part.len()).unwrap_or(u32::MAX - 1);
    hash.update(length.to_be_bytes());
    hash.update(part);
}

/// Lines joined, spaces around commas outside quotes dropped, as RFC 9111 4.1 allows; languages in lower case.
fn normalised(request: &HeaderMap, name: &HeaderName) -> Option<Vec<u8>> {
    let joined = super::directives::joined(request, name)?;
    let mut value = Vec::with_capacity(joined.len());
    let mut is_quoted = false;
    for byte in joined {
        match byte {
            b' ' | b'\t' if !is_quoted && matches!(value.last(), None | Some(b',')) => continue,
            b',' if !is_quoted => {
                value.truncate(value.trim_ascii_end().len());
            }
            b'"' => is_quoted = !is_quoted,
            _ => {}
        }
        value.push(byte);
    }
    value.truncate(value.trim_ascii_end().len());
    if *name == ACCEPT_LANGUAGE {
        value.make_ascii_lowercase();
    }
    Some(value)
}

/// A content coding that this cache can store and choose.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Deserialize, Serialize, JsonSchema,
)]
#[serde(rename_all = "lowercase")]
pub enum Coding {
    /// No coding.
    Identity,
    /// `gzip`.
    Gzip,
    /// `br`.
    #[serde(rename = "br")]
    Brotli,
    /// `zstd`.
    Zstd,
}

impl Coding {
    /// Its name in `Content-Encoding`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Identity => "identity",
            Self::Gzip => "gzip",
            Self::Brotli => "br",
            Self::Zstd => "zstd",
        }
    }

    fn from_bytes(name: &[u8]) -> Option<Self> {
        let is = |other: &str| name.eq_ignore_ascii_case(other.as_bytes());
        if is("gzip") || is("x-gzip") {
            Some(Self::Gzip)
        } else if is("br") {
            Some(Self::Brotli)
        } else if is("zstd") {
            Some(Self::Zstd)
        } else if is("identity") {
            Some(Self::Identity)
        } else {
            None
        }
    }

    /// Every coding.
    pub const ALL: [Self; 4] = [Self::Identity, Self::Gzip, Self::Brotli, Self::Zstd];
}

/// What a client's `Accept-Encoding` says about the codings this cache knows: a weight in thousandths each.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Accepted {
    weights: [u16; Coding::ALL.len()],
}

impl Accepted {
    /// Reads the field; a missing one means identity only, which every client understands.
    pub fn from_request(request: &HeaderMap) -> Self {
        let lines = request.get_all(ACCEPT_ENCODING);
        Self::from_lines(lines.iter().map(HeaderValue::as_bytes))
    }

    /// Reads the value of the only line of the field.
    pub fn from_line(line: &[u8]) -> Self {
        Self::from_lines(std::iter::once(line))
    }

    fn from_lines<'l>(lines: impl Iterator<Item = &'l [u8]>) -> Self {
        let mut stated = [None; Coding::ALL.len()];
        let mut others = None;
        for line in lines {
            for member in line.split(|byte| *byte == b',') {
                let mut parts = member.split(|byte| *byte == b';').map(<[u8]>::trim_ascii);
                let name = parts.next().unwrap_or_default();
                let weight = parts.next().map_or(Some(1000), weight);
                match (Coding::from_bytes(name), weight) {
                    (Some(coding), Some(weight)) => stated[coding as usize] = Some(weight),
                    (None, Some(weight)) if name == b"*" => others = Some(weight),
                    // A member that cannot be read asks for nothing we could give.
                    (None | Some(_), None | Some(_)) => {}
                }
            }
        }
        let mut weights = stated.map(|weight| weight.or(others).unwrap_or(0));
        // Identity is acceptable unless it is ruled out (RFC 9110 12.5.3), but anything asked for is better.
        let identity =
            stated[Coding::Identity as usize].or_else(|| others.filter(|weight| *weight == 0));
        weights[Coding::Identity as usize] = identity.unwrap_or(1);
        Self { weights }
    }

    /// Whether the client takes this coding.
    pub fn accepts(self, coding: Coding) -> bool {
        self.weights[coding as usize] > 0
    }

    /// The best of the codings on offer, the earlier one among equals; none when the client takes none of them.
    pub fn best(self, offered: impl IntoIterator<Item = Coding>) -> Option<Coding> {
        let mut best: Option<Coding> = None;
        for coding in offered.into_iter().filter(|coding| self.accepts(*coding)) {
            let weight = self.weights[coding as usize];
            if best.is_none_or(|known| weight > self.weights[known as usize]) {
                best = Some(coding);
            }
        }
        best
    }
}

/// Reads `q=0.5` as 500; none when it is no weight (RFC 9110 12.4.2).
fn weight(parameter: &[u8]) -> Option<u16> {
    let value = parameter
        .strip_prefix(b"q=")
        .or_else(|| parameter.strip_prefix(b"Q="))?;
    let (whole, fraction) = match value {
        [whole @ (b'0' | b'1')] => (whole, &[][..]),
        [whole @ (b'0' | b'1'), b'.', fraction @ ..] if fraction.len() <= 3 => (whole, fraction),
        _ => return None,
    };
    let mut thousandths = u16::from(whole - b'0') * 1000;
    for (digit, scale) in fraction.iter().zip([100, 10, 1]) {
        if !digit.is_ascii_digit() {
            return None;
        }
        thousandths += u16::from(digit - b'0') * scale;
    }
    (thousandths <= 1000).then_some(thousandths)
}

#[cfg(test)]
mod tests;
