//! Where the bytes of a file come from: a plain file, one in gzip or zstd, or standard input.
//!
//! The first bytes say how a file is compressed, whatever its name says.

use std::{
    fmt,
    fs::File,
    io::{self, BufReader, Cursor, Read},
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use flate2::read::MultiGzDecoder;

/// The largest window of zstd that is accepted, as a power of two: 32 MiB, more than any level below
/// `--ultra` uses. Larger ones would take more memory than the rest of a load.
pub const ZSTD_WINDOW_LOG_MAX: u32 = 25;
/// What is read at once from a compressed file.
const BLOCK_BYTES: usize = 256 << 10;
const GZIP: &[u8] = &[0x1f, 0x8b];
const ZSTD: &[u8] = &[0x28, 0xb5, 0x2f, 0xfd];

/// The text of a file, decompressed on the way.
pub struct Input {
    text: Box<dyn Read + Send + Sync>,
    taken: Arc<AtomicU64>,
}

impl fmt::Debug for Input {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Input")
    }
}

impl Input {
    /// Opens a file.
    ///
    /// # Errors
    /// If it cannot be read.
    pub fn file(path: &Path) -> io::Result<Self> {
        Self::of(File::open(path)?)
    }

    /// Opens standard input.
    ///
    /// # Errors
    /// If it cannot be read.
    pub fn standard() -> io::Result<Self> {
        Self::of(io::stdin())
    }

    /// Takes whatever can be read.
    ///
    /// # Errors
    /// If its first bytes cannot be read.
    pub fn of(source: impl Read + Send + Sync + 'static) -> io::Result<Self> {
        let taken = Arc::<AtomicU64>::default();
        let mut source = Counted {
            source,
            taken: Arc::clone(&taken),
        };
        // A pipe may give less at once than was asked for.
        let mut start = Vec::with_capacity(ZSTD.len());
        source.by_ref().take(4).read_to_end(&mut start)?;
        let kind = (start.starts_with(GZIP), start.starts_with(ZSTD));
        let source = Cursor::new(start).chain(source);
        let text: Box<dyn Read + Send + Sync> = match kind {
            (true, _) => {
                let source = BufReader::with_capacity(BLOCK_BYTES, source);
                Box::new(MultiGzDecoder::new(source))
            }
            (_, true) => {
                let mut decoder = zstd::Decoder::new(source)?;
                decoder.window_log_max(ZSTD_WINDOW_LOG_MAX)?;
                Box::new(decoder)
            }
            _ => Box::new(source),
        };
        Ok(Self { text, taken })
    }

    /// Counts the bytes that have been taken from the file, as it is stored.
    #[must_use]
    pub fn taken(&self) -> Arc<AtomicU64> {
        Arc::clone(&self.taken)
    }
}

impl Read for Input {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        self.text.read(buf)
    }
}

/// Counts what is read.
struct Counted<R> {
    source: R,
    taken: Arc<AtomicU64>,
}

impl<R: Read> Read for Counted<R> {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        let bytes = self.source.read(buf)?;
        self.taken.fetch_add(bytes as u64, Ordering::Relaxed);
        Ok(bytes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use flate2::{Compression, write::GzEncoder};
    use std::io::Write as _;

    fn gzip(text: &[u8]) -> Vec<u8> {
        let mut encoder = GzEncoder::new(Vec::new(), Compression::default());
        encoder.write_all(text).unwrap();
        encoder.finish().unwrap()
    }

    fn zstd(text: &[u8]) -> Vec<u8> {
        zstd::encode_all(text, 3).unwrap()
    }

    /// Gives one byte at a time, as a slow pipe does.
    struct Slow(Cursor<Vec<u8>>);

    impl Read for Slow {
        fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
            let one = buf.len().min(1);
            self.0.read(&mut buf[..one])
        }
    }

    fn text(stored: &[u8]) -> io::Result<Vec<u8>> {
        let mut input = Input::of(Slow(Cursor::new(stored.to_vec())))?;
        let mut text = Vec::new();
        input.read_to_end(&mut text)?;
        assert_eq!(
            input.taken().load(Ordering::Relaxed),
            stored.len() as u64,
            "bytes taken"
        );
        Ok(text)
    }

    #[test]
    fn the_first_bytes_say_how_a_file_is_compressed() {
        for plain in [b"".as_slice(), b"i", b"id,name\n1,A\n", &[b'x'; 100_000]] {
            assert_eq!(text(plain).unwrap(), plain);
            assert_eq!(text(&gzip(plain)).unwrap(), plain);
            assert_eq!(text(&zstd(plain)).unwrap(), plain);
        }
    }

    #[test]
    fn parts_that_were_compressed_one_by_one_are_one_file() {
        let parts = [gzip(b"one\n"), gzip(b"two\n")].concat();
        assert_eq!(text(&parts).unwrap(), b"one\ntwo\n");
        let parts = [zstd(b"one\n"), zstd(b"two\n")].concat();
        assert_eq!(text(&parts).unwrap(), b"one\ntwo\n");
    }

    #[test]
    fn a_compressed_file_that_was_cut_off_is_an_error() {
        for whole in [gzip(&[b'x'; 9999]), zstd(&[b'x'; 9999])] {
            let mut cut = Input::of(Cursor::new(whole[..whole.len() - 3].to_vec())).unwrap();
            assert!(cut.read_to_end(&mut Vec::new()).is_err());
        }
    }

    #[test]
    fn a_window_that_would_take_too_much_memory_is_refused() {
        let mut encoder = zstd::Encoder::new(Vec::new(), 1).unwrap();
        encoder.window_log(ZSTD_WINDOW_LOG_MAX + 1).unwrap();
        encoder.write_all(b"id\n").unwrap();
        let stored = encoder.finish().unwrap();
        let mut input = Input::of(Cursor::new(stored)).unwrap();
        assert!(input.read_to_end(&mut Vec::new()).is_err());
    }
}
