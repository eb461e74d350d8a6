//! Frames that are wrong, each with the error that it must get (RFC 9113), and some that a server has to bear.
//!
//! The general error passes for the one that the RFC names: the library below the gateway tells of most frames of a wrong size
//! that way. What counts is that the stream or the connection ends.

use std::time::Duration;

use anyhow::Result;
use tokio::io::AsyncWriteExt;
use tokio::time::{Instant, timeout_at};

use super::kind::{
    CONTINUATION, DATA, GOAWAY, HEADERS, PING, PRIORITY, PUSH_PROMISE, RST_STREAM, SETTINGS,
    WINDOW_UPDATE,
};
use super::{
    END_HEADERS, END_STREAM, Frame, PADDED, Way, field, frame, header_block, headers, opening,
};

/// How long the answer may take.
const ANSWER_LIMIT: Duration = Duration::from_secs(5);

/// Codes of errors (section 7).
const PROTOCOL: u32 = 1;
const FLOW_CONTROL: u32 = 3;
const STREAM_CLOSED: u32 = 5;
const FRAME_SIZE: u32 = 6;
const COMPRESSION: u32 = 9;
/// `:status: 400` by HPACK.
const STATUS_400: u8 = 0x8c;

/// What must be answered to frames that come after the opening.
pub struct Case {
    /// What is wrong with them, or odd.
    pub name: &'static str,
    frames: Vec<u8>,
    /// The error, if not the general one; none where all is well, and a request is answered afterwards.
    code: Option<u32>,
}

/// A frame alone: what it is, the code of its error, type, flags, stream and payload.
type Alone = (&'static str, Option<u32>, u8, u8, u32, &'static [u8]);

const END: u8 = END_STREAM | END_HEADERS;
#[rustfmt::skip] // one a line
const ALONE: &[Alone] = &[
    ("a frame of an unknown type", None, 0x42, 0, 0, b"?"),
    ("an unknown setting", None, SETTINGS, 0, 0, &[0x42, 0x42, 0, 0, 0, 1]),
    ("a priority", None, PRIORITY, 0, 1, &[0, 0, 0, 0, 9]),
    ("a ping", None, PING, 0, 0, &[7; 8]),
    ("data outside of a stream", Some(PROTOCOL), DATA, 0, 0, b"x"),
    ("data on a stream that nobody began", Some(PROTOCOL), DATA, 0, 1, b"x"),
    ("a frame of 17 KiB", Some(FRAME_SIZE), DATA, 0, 1, &[0; 17 << 10]),
    ("a header outside of a stream", Some(PROTOCOL), HEADERS, END, 0, &[0x82, 0x87]),
    ("a header on a server's stream", Some(PROTOCOL), HEADERS, END, 2, &[0x82, 0x87]),
    ("a header that no table explains", Some(COMPRESSION), HEADERS, END, 1, &[0xff, 0xff, 0x7f]),
    ("a header with more padding than room", Some(PROTOCOL), HEADERS, END | PADDED, 1, &[200, 0x82]),
    ("the continuation of no header", Some(PROTOCOL), CONTINUATION, END_HEADERS, 1, &[0x82]),
    ("a promise of a client", Some(PROTOCOL), PUSH_PROMISE, END_HEADERS, 1, &[0, 0, 0, 2, 0x82]),
    ("a reset of a stream that nobody began", Some(PROTOCOL), RST_STREAM, 0, 1, &[0, 0, 0, 8]),
    ("settings of five bytes", Some(FRAME_SIZE), SETTINGS, 0, 0, &[0; 5]),
    ("settings of a stream", Some(PROTOCOL), SETTINGS, 0, 1, &[]),
    ("an acknowledgement with settings", Some(FRAME_SIZE), SETTINGS, 1, 0, &[0, 3, 0, 0, 0, 9]),
    ("a push setting of 2", Some(PROTOCOL), SETTINGS, 0, 0, &[0, 2, 0, 0, 0, 2]),
    ("a window setting of 2³¹", Some(FLOW_CONTROL), SETTINGS, 0, 0, &[0, 4, 0x80, 0, 0, 0]),
    ("a frame size of 1", Some(PROTOCOL), SETTINGS, 0, 0, &[0, 5, 0, 0, 0, 1]),
    ("a ping of seven bytes", Some(FRAME_SIZE), PING, 0, 0, &[0; 7]),
    ("a ping on a stream", Some(PROTOCOL), PING, 0, 1, &[0; 8]),
    ("a window update of nothing", Some(PROTOCOL), WINDOW_UPDATE, 0, 0, &[0; 4]),
    ("a window update of three bytes", Some(FRAME_SIZE), WINDOW_UPDATE, 0, 0, &[0; 3]),
    ("a window beyond 2³¹", Some(FLOW_CONTROL), WINDOW_UPDATE, 0, 0, &[0x7f, 0xff, 0xff, 0xff]),
];

/// All of them.
pub fn cases() -> Vec<Case> {
    let alone = ALONE
        .iter()
        .map(|&(name, code, kind, flags, stream, payload)| Case {
            name,
            frames: frame(kind, flags, stream, payload),
            code,
        });
    alone.chain(of_requests()).collect()
}

/// Requests that are none (section 8).
fn of_requests() -> Vec<Case> {
    let case = |name, code, frames| Case {
        name,
        frames,
        code: Some(code),
    };
    let with = |more: &[u8]| {
        let mut block = header_block("/page");
        block.extend(more);
        headers(1, &block)
    };
    let mut interrupted = frame(HEADERS, END_STREAM, 1, &header_block("/page"));
    interrupted.extend(frame(PING, 0, 0, &[7; 8]));
    let mut after_its_end = with(&[]);
    after_its_end.extend(with(&[]));
    let mut announced = header_block("/page");
    announced.extend(field("content-length", "5"));
    let mut short = frame(HEADERS, END_HEADERS, 1, &announced);
    short.extend(frame(DATA, END_STREAM, 1, b"abc"));
    let mut pathless = header_block("");
    pathless.drain(2..4);
    vec![
        case("a frame amid a header", PROTOCOL, interrupted),
        case("a header after the end", STREAM_CLOSED, after_its_end),
        case("less of a body than announced", PROTOCOL, short),
        case("a request without a path", PROTOCOL, headers(1, &pathless)),
        case("a method twice", PROTOCOL, with(&[0x82])),
        case("a field in capitals", PROTOCOL, with(&field("X-Odd", "1"))),
        case("a pseudo-field", PROTOCOL, with(&field(":odd", "1"))),
        case(
            "a field of one connection",
            PROTOCOL,
            with(&field("connection", "close")),
        ),
        case(
            "a coding of transfers",
            PROTOCOL,
            with(&field("transfer-encoding", "chunked")),
        ),
    ]
}

impl Case {
    /// Whether the answer is one that it may get, and which it was.
    ///
    /// # Errors
    /// No connection.
    pub async fn run(&self, way: &Way) -> Result<(bool, String)> {
        let mut stream = way.connect("h2").await?;
        let mut bytes = opening();
        bytes.extend(&self.frames);
        if self.code.is_none() {
            bytes.extend(headers(3, &header_block("/page")));
        }
        // The gateway may have closed in the middle of it.
        let _ = stream.write_all(&bytes).await;
        let end = Instant::now() + ANSWER_LIMIT;
        loop {
            let Ok(read) = timeout_at(end, Frame::read(&mut stream)).await else {
                return Ok((false, "nothing in time".to_owned()));
            };
            let Some(read) = read else {
                return Ok((false, "the connection's end, without a word".to_owned()));
            };
            let is_answer = read.kind == HEADERS;
            match read.error_code() {
                Some(code) => {
                    let is_right = self
                        .code
                        .is_some_and(|named| [named, PROTOCOL].contains(&code));
                    let is_last = read.kind == GOAWAY;
                    let told = if is_last { "GOAWAY" } else { "RST_STREAM" };
                    return Ok((is_right, format!("{told} {code}")));
                }
                None if self.code.is_none() && is_answer && read.stream == 3 => {
                    return Ok((true, "the request after it is answered".to_owned()));
                }
                // A malformed request may be answered (section 8.1.1).
                None if is_answer && read.payload.first() == Some(&STATUS_400) => {
                    return Ok((self.code.is_some(), "400".to_owned()));
                }
                None => {}
            }
        }
    }
}
