//! Documents that differ in everything by which an answer could differ.

use std::time::SystemTime;

use bytes::Bytes;
use http::header::{CONTENT_LENGTH, DATE};
use http::{HeaderMap, HeaderName, HeaderValue};

use crate::support::Reply;

/// One document of the origin.
pub(super) struct Document {
    pub(super) target: &'static str,
    pub(super) status: u16,
    body: &'static str,
    /// How often the body is repeated.
    times: usize,
    chunked: bool,
    fields: &'static [(&'static str, &'static str)],
}

const FRESH: (&str, &str) = ("cache-control", "max-age=3600");
const TEXT: (&str, &str) = ("content-type", "text/plain; charset=utf-8");

const fn document(
    target: &'static str,
    times: usize,
    fields: &'static [(&'static str, &'static str)],
) -> Document {
    Document {
        target,
        status: 200,
        body: "What is said once is said once more. ",
        times,
        chunked: false,
        fields,
    }
}

/// One for each property that could make a difference.
pub(super) static DOCUMENTS: [Document; 23] = [
    document("/plain", 1, &[FRESH, TEXT, ("etag", "\"v1\"")]),
    document(
        "/text",
        100,
        &[
            FRESH,
            TEXT,
            ("etag", "\"v1\""),
            ("last-modified", "Thu, 01 Jan 2026 00:00:00 GMT"),
        ],
    ),
    document(
        "/weak",
        60,
        &[
            FRESH,
            TEXT,
            ("etag", "W/\"v1\""),
            ("vary", "Accept-Encoding"),
        ],
    ),
    document("/image", 90, &[FRESH, ("content-type", "image/png")]),
    document(
        "/own-coding",
        90,
        &[
            FRESH,
            TEXT,
            ("content-encoding", "x-own"),
            ("etag", "\"v1\""),
        ],
    ),
    document("/language", 90, &[FRESH, TEXT, ("vary", "Accept-Language")]),
    document(
        "/no-cache",
        1,
        &[("cache-control", "no-cache"), ("etag", "\"v1\"")],
    ),
    document(
        "/stale",
        1,
        &[("cache-control", "max-age=0, stale-while-revalidate=3600")],
    ),
    document("/cookie", 90, &[FRESH, TEXT, ("set-cookie", "a=b")]),
    document("/ranges", 90, &[FRESH, TEXT, ("accept-ranges", "bytes")]),
    document("/no-ranges", 1, &[FRESH, ("accept-ranges", "none")]),
    document(
        "/bound",
        1,
        &[
            FRESH,
            ("connection", "x-hop"),
            ("x-hop", "1"),
            ("keep-alive", "timeout=5"),
        ],
    ),
    document(
        "/targeted",
        1,
        &[
            ("cdn-cache-control", "max-age=3600"),
            ("cache-control", "private, no-store"),
            ("cache-groups", "\"a\", \"b\""),
            ("cache-tag", "c"),
        ],
    ),
    document("/empty", 0, &[FRESH, TEXT]),
    document("/aged", 1, &[FRESH, ("age", "100")]),
    document("/large", 9_000, &[FRESH, TEXT, ("etag", "\"v1\"")]),
    document(
        "/secret",
        1,
        &[
            ("cache-control", "max-age=3600, private=\"x-secret\""),
            ("x-secret", "1"),
        ],
    ),
    document(
        "/no-transform",
        90,
        &[("cache-control", "max-age=3600, no-transform"), TEXT],
    ),
    document(
        "/twice",
        1,
        &[
            FRESH,
            ("link", "</a>; rel=next"),
            ("link", "</b>; rel=prev"),
        ],
    ),
    document("/query?b=2&a=1", 1, &[FRESH]),
    document(
        "/claims",
        1,
        &[
            FRESH,
            ("x-request-id", "mine"),
            ("cache-status", "mine; hit"),
            ("via", "1.1 mine"),
        ],
    ),
    Document {
        chunked: true,
        ..document("/chunked", 90, &[FRESH, TEXT])
    },
    Document {
        status: 404,
        ..document("/missing", 1, &[FRESH])
    },
];

impl Document {
    pub(super) fn content(&self) -> Bytes {
        self.body.repeat(self.times).into()
    }

    pub(super) fn reply(&self) -> Reply {
        let reply = Reply::new(self.status, self.content());
        let reply = if self.chunked { reply.chunked() } else { reply };
        let fields = self.fields.iter();
        fields.fold(reply, |reply, (name, value)| reply.header(name, value))
    }

    /// The header as the gateway has it from the origin.
    pub(super) fn header(&self) -> HeaderMap {
        let mut header = HeaderMap::new();
        for (name, value) in self.fields {
            let name = HeaderName::from_static(name);
            header.append(name, HeaderValue::from_static(value));
        }
        if !self.chunked {
            header.insert(CONTENT_LENGTH, self.content().len().into());
        }
        let now = httpdate::fmt_http_date(SystemTime::now());
        header.insert(DATE, now.parse().expect("a date"));
        header
    }
}
