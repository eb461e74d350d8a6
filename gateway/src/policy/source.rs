//! What gave a stored response its lifetime, in words.

use std::time::SystemTime;

use http::header::{CACHE_CONTROL, LAST_MODIFIED};
use http::{HeaderMap, HeaderName, StatusCode};

use super::directives::{Directives, Listed};
use super::freshness::{Source, explicit_lifetime};
use super::storable::is_negative;

/// The field with its directive, or the setting, that a stored response has its lifetime from.
///
/// As in `cdn-cache-control: max-age`, `expires`, `negative_ttl`, `last-modified`; `none` of one that is kept to be validated at
/// each use.
///
/// `targeted` are the fields of RFC 9213 that are heeded; `has_negative_ttl` whether the configuration grants answers of this
/// route a lifetime which say that there is nothing.
pub fn of_stored(
    status: StatusCode,
    headers: &HeaderMap,
    targeted: &[HeaderName],
    has_negative_ttl: bool,
) -> String {
    let found = targeted.iter().find_map(|name| {
        let directives = Directives::from_targeted(headers, std::slice::from_ref(name))?;
        Some((directives, name))
    });
    let is_targeted = found.is_some();
    let (directives, name) =
        found.unwrap_or_else(|| (Directives::from_cache_control(headers), &CACHE_CONTROL));
    if directives.no_cache == Listed::Whole {
        return format!("{name}: no-cache");
    }
    // Only where it comes from counts here, and that does not depend on the time.
    let stated = explicit_lifetime(&directives, is_targeted, headers, SystemTime::UNIX_EPOCH);
    match stated {
        Some((_, Source::SharedMaxAge)) => format!("{name}: s-maxage"),
        Some((_, Source::Targeted | Source::MaxAge)) => format!("{name}: max-age"),
        Some((_, Source::Expires)) => "expires".to_owned(),
        Some((_, Source::Negative | Source::Heuristic | Source::Unknown)) | None => {
            if has_negative_ttl && is_negative(status) {
                "negative_ttl".to_owned()
            } else if headers.contains_key(LAST_MODIFIED) {
                "last-modified".to_owned()
            } else {
                "none".to_owned()
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::policy::samples::headers;

    type Fields<'a> = &'a [(&'static str, &'a str)];

    #[test]
    fn the_field_that_won_is_named_with_its_directive() {
        let targeted = [
            HeaderName::from_static("cdn-cache-control"),
            HeaderName::from_static("surrogate-control"),
        ];
        let date = "Thu, 01 Jan 2026 00:00:00 GMT";
        let cases: [(u16, Fields<'_>, &str); 13] = [
            (
                200,
                &[("cache-control", "max-age=1")],
                "cache-control: max-age",
            ),
            (
                200,
                &[("cache-control", "max-age=1, s-maxage=2")],
                "cache-control: s-maxage",
            ),
            (
                200,
                &[("cache-control", "max-age=1"), ("expires", date)],
                "cache-control: max-age",
            ),
            (200, &[("expires", date)], "expires"),
            (200, &[("expires", "0")], "expires"),
            (200, &[("last-modified", date)], "last-modified"),
            (200, &[("etag", "\"a\"")], "none"),
            (
                200,
                &[("cache-control", "no-cache, max-age=9")],
                "cache-control: no-cache",
            ),
            (
                200,
                &[
                    ("cache-control", "s-maxage=1"),
                    ("cdn-cache-control", "max-age=1"),
                ],
                "cdn-cache-control: max-age",
            ),
            (
                200,
                &[("surrogate-control", "max-age=1")],
                "surrogate-control: max-age",
            ),
            (
                200,
                &[
                    ("cdn-cache-control", "no such=dictionary"),
                    ("cache-control", "max-age=1"),
                ],
                "cache-control: max-age",
            ),
            (404, &[("last-modified", date)], "negative_ttl"),
            (
                404,
                &[("cache-control", "max-age=1")],
                "cache-control: max-age",
            ),
        ];
        for (status, fields, expected) in cases {
            let status = StatusCode::from_u16(status).unwrap();
            let told = of_stored(status, &headers(fields), &targeted, true);
            assert_eq!(told, expected, "{status} {fields:?}");
        }
        let plain = headers(&[("last-modified", date)]);
        assert_eq!(
            of_stored(StatusCode::NOT_FOUND, &plain, &targeted, false),
            "last-modified"
        );
    }
}
