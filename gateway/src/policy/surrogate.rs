//! `Surrogate-Control` (Edge Architecture 1.0): what came before targeted cache control, still sent by many origins.
//!
//! A directive may be meant for one device: `max-age=60;NAME`. Devices tell their name and what they understand in
//! `Surrogate-Capability`.

use http::{HeaderMap, HeaderName, HeaderValue};

use super::directives::{Directives, pieces};
use super::time::delta;

/// The field.
pub static SURROGATE_CONTROL: HeaderName = HeaderName::from_static("surrogate-control");
/// The field of a request that tells the origin that the first one is understood.
pub static SURROGATE_CAPABILITY: HeaderName = HeaderName::from_static("surrogate-capability");

/// The name by which an origin addresses this cache.
const DEVICE: &str = "gateway";

/// What is told to origins.
pub fn capability() -> HeaderValue {
    HeaderValue::from_static("gateway=\"Surrogate/1.0\"")
}

/// Reads the directives for this cache; none when the field is missing or says nothing to it.
///
/// `max-age=FRESH+STALE` grants a time stale, for both uses of it. What can not be read as a number is zero. Directives about
/// processing the body, and about surrogates farther from the origin, say nothing to this cache.
pub fn read(response: &HeaderMap) -> Option<Directives> {
    let mut found = Directives::default();
    let mut is_addressed = false;
    for line in response.get_all(&SURROGATE_CONTROL) {
        for directive in pieces(line.as_bytes()).filter_map(addressed) {
            is_addressed |= apply(&mut found, directive);
        }
    }
    is_addressed.then_some(found)
}

/// The directive without its device, if it is for every device or for this one.
fn addressed(piece: &[u8]) -> Option<&[u8]> {
    match split_at_byte(piece, b';') {
        (directive, None) => Some(directive),
        (directive, Some(device)) => {
            (device.trim_ascii() == DEVICE.as_bytes()).then_some(directive.trim_ascii())
        }
    }
}

/// Takes one directive in; whether it is one that a cache heeds.
fn apply(found: &mut Directives, directive: &[u8]) -> bool {
    let (name, value) = split_at_byte(directive, b'=');
    if name.eq_ignore_ascii_case(b"no-store") {
        found.no_store = true;
    } else if name.eq_ignore_ascii_case(b"max-age") {
        let (fresh, stale) = split_at_byte(value.unwrap_or_default(), b'+');
        let fresh = delta(fresh).unwrap_or_default();
        found.max_age = Some(found.max_age.map_or(fresh, |known| known.min(fresh)));
        if let Some(stale) = stale.map(|text| delta(text).unwrap_or_default()) {
            found.stale_while_revalidate = Some(stale);
            found.stale_if_error = Some(stale);
        }
    } else {
        return false;
    }
    true
}

fn split_at_byte(text: &[u8], at: u8) -> (&[u8], Option<&[u8]>) {
    match text.iter().position(|byte| *byte == at) {
        Some(middle) => (&text[..middle], Some(&text[middle + 1..])),
        None => (text, None),
    }
}

#[cfg(test)]
mod tests;
