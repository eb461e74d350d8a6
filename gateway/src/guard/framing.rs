//! What comes from a client before the parser below a session sees it: headers that end, and chunks read strictly (RFC
//! 9112 section 7.1).
//!
//! That parser would hold a mebibyte of a header that does not end, and escapes a space in a target, which another reader
//! takes for the end of it.
//!
//! It takes a line feed alone for the end of a line, and an empty size for the last chunk. What it
//! makes of that reaches origins in a clear form, but a proxy before this gateway may have read another message. Here such
//! a header is refused, and such a body ends its connection.

/// Bytes of a body that may come before it is known how it is framed: no more is read by then.
const EARLY_BYTES_MAX: usize = 64 * 1024;
/// Bytes of extensions and trailers of one body at most; both are dropped.
const EXTRA_BYTES_MAX: usize = 16 * 1024;
/// Digits of a chunk's size at most.
const SIZE_DIGITS_MAX: u8 = 15;

/// Spaces in a request line: one on each side of the target.
const SPACES_MAX: u8 = 2;

/// What is not read on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Malformed {
    /// A request line with a space too many: where its target ends may be doubted.
    RequestLine,
    /// A line of the header that does not end with a carriage return and a line feed.
    LineEnd,
    /// A request line that does not end.
    TargetSize,
    /// A header that does not end.
    HeaderSize,
    /// A body that could be read in two ways.
    Body,
}

/// What of a request has been read.
#[derive(Debug)]
pub(super) enum Framing {
    /// A part of the header.
    Header(Header),
    /// The header, and what of the body came with it.
    Early(Vec<u8>),
    /// A part of a body in chunks.
    Chunked(Chunks),
    /// A body whose end is not read here.
    Plain,
}

impl Framing {
    /// Nothing of a request, whose header has so many bytes at most.
    pub(super) fn new(header_max: usize) -> Self {
        Self::Header(Header {
            left: header_max,
            began: false,
            in_line: true,
            spaces: 0,
            matched: 0,
        })
    }

    /// Takes in what was read.
    pub(super) fn read(&mut self, bytes: &[u8]) -> Result<(), Malformed> {
        match self {
            Self::Header(header) => {
                if let Some(end) = header.read(bytes)? {
                    *self = Self::Early(bytes[end..].to_vec());
                }
                Ok(())
            }
            Self::Early(early) if early.len() + bytes.len() > EARLY_BYTES_MAX => {
                *self = Self::Plain; // nobody reads this body: its request was answered without it
                Ok(())
            }
            Self::Early(early) => {
                early.extend_from_slice(bytes);
                Ok(())
            }
            Self::Chunked(chunks) => chunks.read(bytes),
            Self::Plain => Ok(()),
        }
    }

    /// The header says how the body is framed.
    pub(super) fn set(&mut self, is_chunked: bool) -> Result<(), Malformed> {
        let was = std::mem::replace(self, Self::Plain);
        if let (true, Self::Early(early)) = (is_chunked, was) {
            let mut chunks = Chunks::new();
            chunks.read(&early)?;
            *self = Self::Chunked(chunks);
        }
        Ok(())
    }
}

/// How far a header has come.
#[derive(Debug)]
pub(super) struct Header {
    /// Bytes that may still come.
    left: usize,
    /// Whether anything but empty lines has come: those before it are none of it.
    began: bool,
    /// Whether the request line has not ended, and its spaces.
    in_line: bool,
    spaces: u8,
    /// How much of the header's end has come.
    matched: u8,
}

impl Header {
    /// Where the header ends in these bytes.
    fn read(&mut self, bytes: &[u8]) -> Result<Option<usize>, Malformed> {
        for (at, byte) in bytes.iter().enumerate() {
            if !self.began {
                self.began = !matches!(byte, b'\r' | b'\n');
                continue;
            }
            if self.in_line {
                self.read_line(*byte)?;
            }
            self.matched = match (self.matched, *byte) {
                (1, b'\n') => 2,
                (3, b'\n') => return Ok(Some(at + 1)),
                (1 | 3, _) | (_, b'\n') => return Err(Malformed::LineEnd),
                (2, b'\r') => 3,
                (_, b'\r') => 1,
                _ => 0,
            };
        }
        let left = self.left.checked_sub(bytes.len());
        self.left = left.ok_or(match self.in_line {
            true => Malformed::TargetSize,
            false => Malformed::HeaderSize,
        })?;
        Ok(None)
    }

    fn read_line(&mut self, byte: u8) -> Result<(), Malformed> {
        match byte {
            b'\n' => self.in_line = false,
            b' ' if self.spaces == SPACES_MAX => return Err(Malformed::RequestLine),
            b' ' => self.spaces += 1,
            _ => {}
        }
        Ok(())
    }
}

/// How far a body in chunks has come.
#[derive(Debug)]
pub(super) struct Chunks {
    at: At,
    extra: usize,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum At {
    /// In a size of which so many digits have come.
    Size { digits: u8, size: u64 },
    /// Behind a size.
    Extension { size: u64 },
    /// Before the line feed that ends a size's line.
    SizeEnd { size: u64 },
    /// Before so many bytes.
    Data(u64),
    /// Behind a chunk's bytes.
    DataEnd,
    /// Behind the carriage return that ends them.
    DataLineFeed,
    /// At the start of a trailer's line.
    Line,
    /// In a trailer.
    Trailer,
    /// Behind the carriage return that ends it.
    TrailerLineFeed,
    /// Behind the last carriage return.
    LastLineFeed,
    /// All of it has come. What follows is no part of it.
    Over,
}

const START: At = At::Size { digits: 0, size: 0 };

impl Chunks {
    fn new() -> Self {
        Self {
            at: START,
            extra: 0,
        }
    }

    fn read(&mut self, mut bytes: &[u8]) -> Result<(), Malformed> {
        while let Some((byte, rest)) = bytes.split_first() {
            match self.at {
                At::Over => return Ok(()),
                At::Data(left) => {
                    let taken = bytes.len().min(usize::try_from(left).unwrap_or(usize::MAX));
                    let left = left - taken as u64;
                    self.at = if left == 0 {
                        At::DataEnd
                    } else {
                        At::Data(left)
                    };
                    bytes = &bytes[taken..];
                }
                at => {
                    self.at = self.step(at, *byte)?;
                    bytes = rest;
                }
            }
        }
        Ok(())
    }

    fn step(&mut self, at: At, byte: u8) -> Result<At, Malformed> {
        Ok(match (at, byte) {
            (At::Size { digits, size }, b'\r' | b';') if digits > 0 => match byte {
                b'\r' => At::SizeEnd { size },
                _ => At::Extension { size },
            },
            (At::Size { digits, size }, _) => {
                let digit = char::from(byte).to_digit(16).ok_or(Malformed::Body)?;
                if digits == SIZE_DIGITS_MAX {
                    return Err(Malformed::Body);
                }
                At::Size {
                    digits: digits + 1,
                    size: size * 16 + u64::from(digit),
                }
            }
            (At::Extension { size }, b'\r') => At::SizeEnd { size },
            (At::SizeEnd { size: 0 }, b'\n') | (At::TrailerLineFeed, b'\n') => At::Line,
            (At::SizeEnd { size }, b'\n') => At::Data(size),
            (At::DataEnd, b'\r') => At::DataLineFeed,
            (At::DataLineFeed, b'\n') => START,
            (At::Line, b'\r') => At::LastLineFeed,
            (At::Trailer, b'\r') => At::TrailerLineFeed,
            (At::LastLineFeed, b'\n') => At::Over,
            (At::Extension { .. }, _) => self.pass_over(at, byte)?,
            (At::Line | At::Trailer, _) => self.pass_over(At::Trailer, byte)?,
            _ => return Err(Malformed::Body),
        })
    }

    /// A byte of an extension or a trailer: text, and not too much of it.
    fn pass_over(&mut self, at: At, byte: u8) -> Result<At, Malformed> {
        self.extra += 1;
        let is_text = byte == b'\t' || !byte.is_ascii_control();
        if is_text && self.extra <= EXTRA_BYTES_MAX {
            Ok(at)
        } else {
            Err(Malformed::Body)
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const HEADER_MAX: usize = 1_000;
    const HEAD: &str = "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n";

    /// Reads a request in pieces of this length; the framing is known once the header has come.
    fn read(request: &[u8], piece: usize) -> Result<bool, Malformed> {
        let mut framing = Framing::new(HEADER_MAX);
        for bytes in request.chunks(piece) {
            framing.read(bytes)?;
            if matches!(framing, Framing::Early(_)) {
                framing.set(true)?;
            }
        }
        Ok(matches!(&framing, Framing::Chunked(chunks) if chunks.at == At::Over))
    }

    #[test]
    fn bodies_of_every_clear_form_are_read_to_their_end_in_whatever_pieces() {
        for body in [
            "0\r\n\r\n",
            "5\r\nhello\r\n0\r\n\r\n",
            "0005\r\nhello\r\n000\r\n\r\n",
            "A\r\n0123456789\r\n5;a=b;c=\"d e\"\r\n\r\n\r\n\n\r\n0;x\r\nTrailer: x\r\nOther: y\r\n\r\n",
            "5\r\nhello\r\n0\r\n\r\nGET / HTTP/1.1\r\n\n",
        ] {
            for before in ["", "\r\n", "\r\n\r\n\n"] {
                let request = format!("{before}{HEAD}{body}");
                for piece in 1..request.len() {
                    assert_eq!(
                        read(request.as_bytes(), piece),
                        Ok(true),
                        "{body:?} by {piece}"
                    );
                }
            }
        }
    }

    #[test]
    fn whatever_could_be_read_in_another_way_is_refused() {
        for body in [
            "\r\nhello\r\n0\r\n\r\n",
            "5\nhello\n0\n\n",
            "5;\nhello\r\n0\r\n\r\n",
            "5;a=\"\r\n\"\nhello",
            "5\rhello",
            "5 \r\nhello\r\n",
            " 5\r\nhello\r\n",
            "0x5\r\nhello\r\n",
            "+5\r\nhello\r\n",
            "5\r\nhelloX\r\n",
            "5\r\nhello\n0\r\n\r\n",
            "5\r\nhello0\r\n\r\n",
            "0\r\nTrailer: x\n\r\n",
            "0\r\n\n",
            "0\r\nTrailer: \0\r\n\r\n",
            "1000000000000000\r\n",
            ";\r\n",
        ] {
            let request = format!("{HEAD}{body}");
            for piece in 1..request.len() {
                assert_eq!(
                    read(request.as_bytes(), piece),
                    Err(Malformed::Body),
                    "{body:?}"
                );
            }
        }
        let much = format!("{HEAD}0\r\n{}", "X: y\r\n".repeat(EXTRA_BYTES_MAX));
        assert_eq!(read(much.as_bytes(), 1_000), Err(Malformed::Body));
    }

    #[test]
    fn a_header_that_does_not_end_is_read_to_its_bound_and_no_further() {
        let read_up_to_end = |head: &str, more: &[u8]| {
            let mut framing = Framing::new(HEADER_MAX);
            framing.read(head.as_bytes())?;
            let mut taken = head.len();
            while taken <= 2 * HEADER_MAX {
                framing.read(more)?;
                taken += more.len();
                assert!(taken <= HEADER_MAX, "{taken} bytes");
            }
            Ok(())
        };
        let line = "GET / HTTP/1.1\r\n";
        for more in [&b"x"[..], b"a: b\r\n"] {
            assert_eq!(read_up_to_end(line, more), Err(Malformed::HeaderSize));
        }
        for head in ["", "GET", "GET /"] {
            assert_eq!(read_up_to_end(head, b"x"), Err(Malformed::TargetSize));
        }
        assert_eq!(read_up_to_end("", b"\r\n"), Err(Malformed::TargetSize));
        // What ends within the piece that it is read with is the parser's to judge.
        let whole = format!("{line}a: {}\r\n\r\n", "x".repeat(HEADER_MAX));
        assert_eq!(Framing::new(HEADER_MAX).read(whole.as_bytes()), Ok(()));
    }

    #[test]
    fn each_line_of_a_header_ends_with_both_characters() {
        for request in [
            "GET / HTTP/1.1\nHost: a\r\n\r\n",
            "GET / HTTP/1.1\r\nHost: a\nA: b\r\n\r\n",
            "GET / HTTP/1.1\r\nHost: a\n\r\n",
            "GET / HTTP/1.1\r\nHost: a\r\n\n",
            "GET / HTTP/1.1\n\n",
            "GET / HTTP/1.1\rHost: a\r\n\r\n",
            "GET / HTTP/1.1\r\r\nHost: a\r\n\r\n",
            "GET / HTTP/1.1\r\nHost: a\r\n\rA: b\r\n\r\n",
        ] {
            for piece in 1..request.len() {
                let read = read(request.as_bytes(), piece);
                assert_eq!(read, Err(Malformed::LineEnd), "{request:?}");
            }
        }
    }

    #[test]
    fn a_request_line_has_two_spaces() {
        for (line, expected) in [
            ("GET / HTTP/1.1", Ok(false)),
            ("GET /a b HTTP/1.1", Err(Malformed::RequestLine)),
            ("GET  / HTTP/1.1", Err(Malformed::RequestLine)),
            ("GET / HTTP/1.1 ", Err(Malformed::RequestLine)),
        ] {
            let request = format!("{line}\r\nA: b c d e\r\nTransfer-Encoding: chunked\r\n\r\n");
            for piece in 1..request.len() {
                assert_eq!(read(request.as_bytes(), piece), expected, "{line}");
            }
        }
    }

    #[test]
    fn a_body_that_nobody_reads_is_not_kept() {
        let mut framing = Framing::new(HEADER_MAX);
        framing.read(HEAD.as_bytes()).unwrap();
        for _ in 0..100 {
            framing.read(&[b'x'; 4096]).unwrap();
        }
        assert!(matches!(framing, Framing::Plain));
    }

    proptest! {
        /// What is framed by the rules is never refused, and what it holds does not matter.
        #[test]
        fn every_body_framed_by_the_rules_is_read(
            chunks in prop::collection::vec(prop::collection::vec(any::<u8>(), 1..60), 0..8),
            piece in 1_usize..50,
        ) {
            let mut request = HEAD.as_bytes().to_vec();
            for chunk in &chunks {
                request.extend_from_slice(format!("{:x}\r\n", chunk.len()).as_bytes());
                request.extend_from_slice(chunk);
                request.extend_from_slice(b"\r\n");
            }
            request.extend_from_slice(b"0\r\n\r\n");
            prop_assert_eq!(read(&request, piece), Ok(true));
        }

        #[test]
        fn no_bytes_make_it_panic(bytes in prop::collection::vec(any::<u8>(), 0..300), piece in 1_usize..50) {
            let request = [HEAD.as_bytes(), &bytes].concat();
            let _ = read(&request, piece);
            let _ = read(&bytes, piece);
        }
    }
}
