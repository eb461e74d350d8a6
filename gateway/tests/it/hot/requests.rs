//! Requests made up from every part that could change an answer.

use proptest::prelude::*;

use super::documents::DOCUMENTS;

/// Other spellings of targets, and some that are none of the documents.
pub(super) const SPELLINGS: [&str; 9] = [
    "/text?",
    "/%74ext",
    "/./text",
    "//text",
    "/query?a=1&b=2",
    "/query?b=2&a=1&",
    "/text#fragment",
    "/nothing",
    "*",
];
pub(super) const HOSTS: [&str; 5] = [
    "shop.test",
    "SHOP.test",
    "shop.test:80",
    "other.test",
    "shop.test.",
];

/// Fields that plain clients send.
pub(super) const HARMLESS: [&str; 14] = [
    "Accept: */*",
    "Accept: text/html;q=0.9, */*;q=0.1",
    "User-Agent: browser/1 (any; \"thing\")",
    "Accept-Language: de, en;q=0.5",
    "Connection: keep-alive",
    "Accept-Encoding: gzip",
    "Accept-Encoding: br",
    "Accept-Encoding: zstd, br;q=0.5",
    "Accept-Encoding: gzip, deflate, br, zstd",
    "Accept-Encoding: identity",
    "Accept-Encoding: GZIP;q=1.000",
    "Accept-Encoding: *",
    "Accept-Encoding:",
    "Accept-Encoding: deflate",
];

/// Fields that change the answer, the connection or the very meaning of the request, and lines that are none.
pub(super) const TELLING: [&str; 46] = [
    "Accept-Encoding: identity;q=0",
    "Accept-Encoding: *;q=0",
    "Accept-Encoding: br;q=0, gzip;q=0.1",
    "Accept-Encoding: gzip;q=2, br;;q=1",
    "Accept-Encoding: x-gzip, identity;q=0.9, br;q=0.1",
    "Connection: close",
    "Connection: keep-alive, x-a",
    "Connection: upgrade",
    "Cache-Control: no-cache",
    "Cache-Control: no-store",
    "Cache-Control: max-age=0",
    "Cache-Control: min-fresh=99999",
    "Cache-Control: only-if-cached",
    "Cache-Control: no-transform",
    "Pragma: no-cache",
    "If-None-Match: \"v1\"",
    "If-None-Match: \"v1-br\", \"v1-gzip\"",
    "If-None-Match: *",
    "If-None-Match: \"other\"",
    "If-Match: \"other\"",
    "If-Modified-Since: Fri, 01 Jan 2027 00:00:00 GMT",
    "If-Unmodified-Since: Thu, 01 Jan 2015 00:00:00 GMT",
    "If-Range: \"v1\"",
    "Range: bytes=0-3",
    "Range: bytes=5-",
    "Range: bytes=999999-",
    "Cookie: session=1",
    "Authorization: Bearer one",
    "X-Forwarded-Host: other.test",
    "Forwarded: host=other.test",
    "Content-Length: 0",
    "Content-Length: 4",
    "Transfer-Encoding: chunked",
    "Expect: 100-continue",
    "Upgrade: websocket",
    "TE: trailers",
    "Priority: u=1",
    "Host: other.test",
    "Trailer: x",
    "Accept: a\tb",
    "Accept: \u{e4}",
    "Accept: a\0b",
    " folded",
    "no colon",
    ": nameless",
    "",
];

/// One made-up request, as bytes.
pub(super) fn requests() -> impl Strategy<Value = Vec<u8>> {
    let targets: Vec<&str> = DOCUMENTS.iter().map(|document| document.target).collect();
    let method = prop_oneof![
        40 => Just("GET"),
        1 => prop::sample::select(vec!["HEAD", "get", "OPTIONS", "GETX", "TRACE", ""]),
    ];
    let target = prop_oneof![
        8 => prop::sample::select(targets),
        1 => prop::sample::select(SPELLINGS.to_vec()),
    ];
    let version = prop_oneof![
        40 => Just("HTTP/1.1\r\n"),
        1 => prop::sample::select(vec!["HTTP/1.0\r\n", "HTTP/1.1 \r\n", "HTTP/1.1\n", "\r\n"]),
    ];
    let host = prop_oneof![6 => Just(HOSTS[0]), 1 => prop::sample::select(HOSTS.to_vec())];
    let field = prop_oneof![
        12 => prop::sample::select(HARMLESS.to_vec()),
        1 => prop::sample::select(TELLING.to_vec()),
    ];
    let fields = prop::collection::vec((field, 0_u8..16), 0..5);
    let tail = prop_oneof![30 => Just(""), 1 => prop::sample::select(vec!["G", "\r\n", "body"])];
    (method, target, version, host, fields, 0_usize..5, tail).prop_map(
        |(method, target, version, host, fields, host_place, tail)| {
            let mut lines: Vec<String> = fields
                .into_iter()
                .map(|(line, spelling)| respelled(line, spelling))
                .collect();
            let place = host_place.min(lines.len());
            lines.insert(place, format!("Host: {host}"));
            let head = lines.join("\r\n");
            format!("{method} {target} {version}{head}\r\n\r\n{tail}").into_bytes()
        },
    )
}

/// The same field in another spelling; 0 to 10 leave it as it is.
fn respelled(line: &str, spelling: u8) -> String {
    let Some((name, value)) = line.split_once(':') else {
        return line.to_owned();
    };
    match spelling {
        11 => line.to_ascii_lowercase(),
        12 => format!("{}:{value}", name.to_ascii_uppercase()),
        13 => format!("{name}:{}", value.trim_start()),
        14 => format!("{name}: \t{value} \t"),
        15 => format!("{name} :{value}"),
        _ => line.to_owned(),
    }
}
