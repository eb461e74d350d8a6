//! Where the frames of an HTTP/2 connection begin and end, as far as it takes to know whether a header is coming (RFC 9113
//! sections 4.1, 6.2 and 6.10).

use super::http2::HTTP2_PREFACE_BYTES;

/// The bytes before the payload of each frame: its length, kind, flags and stream.
const HEAD_BYTES: usize = 9;
const HEADERS: u8 = 1;
const CONTINUATION: u8 = 9;
const END_HEADERS: u8 = 4;

/// What a client has sent, up to the last byte that was read.
#[derive(Debug)]
pub(super) struct Frames {
    head: [u8; HEAD_BYTES],
    /// How much of the head of the next frame is here.
    head_bytes: usize,
    /// Bytes of the preface, or of a payload, that are to come before it.
    left: usize,
    /// A header has begun and has not ended.
    is_within_header: bool,
    /// It ends with the payload that is coming.
    is_last: bool,
}

impl Frames {
    /// Nothing has come, the preface neither.
    pub(super) fn new() -> Self {
        Self {
            head: [0; HEAD_BYTES],
            head_bytes: 0,
            left: HTTP2_PREFACE_BYTES,
            is_within_header: false,
            is_last: false,
        }
    }

    /// Whether a header has begun and more of it is to come.
    pub(super) fn is_within_header(&self) -> bool {
        self.is_within_header
    }

    /// Takes note of what came; whether a header has ended in it.
    pub(super) fn read(&mut self, mut bytes: &[u8]) -> bool {
        let mut has_ended = false;
        while !bytes.is_empty() {
            if self.left > 0 {
                let count = self.left.min(bytes.len());
                self.left -= count;
                bytes = &bytes[count..];
            } else {
                let count = (HEAD_BYTES - self.head_bytes).min(bytes.len());
                self.head[self.head_bytes..self.head_bytes + count]
                    .copy_from_slice(&bytes[..count]);
                self.head_bytes += count;
                bytes = &bytes[count..];
                if self.head_bytes < HEAD_BYTES {
                    break;
                }
                self.begin();
            }
            if self.left == 0 && self.is_last {
                self.is_within_header = false;
                self.is_last = false;
                has_ended = true;
            }
        }
        has_ended
    }

    /// The head of a frame is whole.
    fn begin(&mut self) {
        let [high, middle, low, kind, flags, ..] = self.head;
        self.head_bytes = 0;
        self.left = usize::from(high) << 16 | usize::from(middle) << 8 | usize::from(low);
        self.is_within_header |= kind == HEADERS;
        self.is_last = matches!(kind, HEADERS | CONTINUATION) && flags & END_HEADERS != 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const DATA: u8 = 0;
    const PREFACE: &[u8; HTTP2_PREFACE_BYTES] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

    fn frame(kind: u8, flags: u8, payload: usize) -> Vec<u8> {
        let length = u32::try_from(payload).unwrap().to_be_bytes();
        let mut frame = length[1..].to_vec();
        frame.extend([kind, flags, 0, 0, 0, 1]);
        frame.resize(HEAD_BYTES + payload, 0x55);
        frame
    }

    /// After which bytes a header was coming, and how many had ended, with so many bytes a read.
    fn followed(bytes: &[u8], at_once: usize) -> (Vec<bool>, usize) {
        let mut frames = Frames::new();
        let (mut within, mut ended) = (Vec::new(), 0);
        for piece in bytes.chunks(at_once) {
            ended += usize::from(frames.read(piece));
            within.push(frames.is_within_header());
        }
        (within, ended)
    }

    #[test]
    fn a_header_is_coming_from_its_first_frame_to_the_end_of_its_last() {
        let pieces = [
            (PREFACE.to_vec(), false),
            (frame(4, 0, 12), false),
            (frame(HEADERS, 0, 5), true),
            (frame(CONTINUATION, 0, 300), true),
            (frame(CONTINUATION, END_HEADERS, 70_000), false),
            (frame(DATA, END_HEADERS, 9), false),
            (frame(HEADERS, END_HEADERS, 0), false),
            (frame(HEADERS, 0, 0), true),
            (frame(CONTINUATION, END_HEADERS, 0), false),
        ];
        let mut frames = Frames::new();
        for (at, (piece, is_within)) in pieces.iter().enumerate() {
            let (last, rest) = piece.split_last().unwrap();
            frames.read(rest);
            frames.read(&[*last]);
            assert_eq!(frames.is_within_header(), *is_within, "piece {at}");
        }
        let whole: Vec<u8> = pieces.into_iter().flat_map(|(piece, _)| piece).collect();
        let (by_byte, ended) = followed(&whole, 1);
        assert_eq!(ended, 3);
        // The state does not depend on how the bytes were cut.
        for at_once in [2, 9, 10, 4096] {
            let (within, _) = followed(&whole, at_once);
            for (piece, is_within) in within.iter().enumerate() {
                let last = ((piece + 1) * at_once).min(whole.len()) - 1;
                assert_eq!(*is_within, by_byte[last], "{at_once} bytes, byte {last}");
            }
        }
    }
}
