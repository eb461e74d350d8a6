//! The worker that encodes bodies for entries that are asked for: off the request path, one body at a time.
//!
//! No hit waits for it. Its queue is bounded, and what finds no place is asked for again by a later hit. It holds no entry
//! alive: one that is gone when its turn comes is skipped.

use std::io::{self, Write};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Arc, Weak};
use std::thread;

use bytes::Bytes;
use flate2::Compression;
use flate2::write::GzEncoder;

use crate::policy::vary::Coding;
use crate::store::{Body, Object, Store};

/// Bodies waiting to be encoded.
const QUEUE_MAX: usize = 256;
/// An encoded body is kept if it is at most this share of the plain one, in hundredths.
const WORTH_PERCENT_MAX: usize = 90;
/// Made once and read often, on a processor that serves requests meanwhile: each within a few percent of its best, at a
/// tenth of its price.
const GZIP_LEVEL: u32 = 6;
const BROTLI_LEVEL: u32 = 5;
const ZSTD_LEVEL: i32 = 6;
/// Brotli looks back 2^18 bytes: more costs megabytes of memory while it works.
const BROTLI_WINDOW: u32 = 18;
const BROTLI_BUFFER_BYTES: usize = 4_096;

struct Job {
    object: Weak<Object>,
    coding: Coding,
}

/// Hands bodies to the worker. The worker ends when this and its clones are dropped.
#[derive(Clone)]
pub struct Encoder {
    jobs: SyncSender<Job>,
}

impl Encoder {
    /// Starts the worker.
    ///
    /// # Errors
    /// The system gives no thread.
    pub fn start(store: Arc<Store>) -> io::Result<Self> {
        let (jobs, work) = sync_channel(QUEUE_MAX);
        thread::Builder::new()
            .name("encoder".to_owned())
            .spawn(move || run(&store, &work))?;
        Ok(Self { jobs })
    }

    /// Notes that a hit would have liked this coding; it is made when the body has `bytes_min` bytes, there
    /// is reason enough, and room in the queue.
    pub fn ask(&self, object: &Arc<Object>, coding: Coding, bytes_min: usize) {
        if object.body.len() < bytes_min || !object.wants(coding) {
            return;
        }
        let job = Job {
            object: Arc::downgrade(object),
            coding,
        };
        if self.jobs.try_send(job).is_err() {
            object.wants_later(coding);
        }
    }
}

fn run(store: &Store, work: &Receiver<Job>) {
    for Job { object, coding } in work {
        let Some(object) = object.upgrade() else {
            continue;
        };
        let Body::Complete(pieces) = &object.body else {
            continue;
        };
        match encode(pieces, coding) {
            Ok(encoded) if encoded.len() * 100 <= object.body.len() * WORTH_PERCENT_MAX => {
                if !store.keep_encoded(&object, coding, encoded.into()) {
                    object.wants_later(coding);
                }
            }
            Ok(_) => {} // not worth its memory, and never will be
            Err(error) => tracing::warn!(%error, coding = coding.as_str(), "encoding a body"),
        }
    }
}

/// A body in a coding, as one piece without room to spare.
///
/// # Errors
/// The encoder refuses: it has no memory.
pub fn encode(pieces: &[Bytes], coding: Coding) -> io::Result<Vec<u8>> {
    let length: usize = pieces.iter().map(Bytes::len).sum();
    let out = Vec::with_capacity(length / 2);
    let mut encoded = match coding {
        Coding::Identity => pieces.concat(),
        Coding::Gzip => {
            let mut encoder = GzEncoder::new(out, Compression::new(GZIP_LEVEL));
            write_all(&mut encoder, pieces)?;
            encoder.finish()?
        }
        Coding::Brotli => {
            let mut encoder = brotli::CompressorWriter::new(
                out,
                BROTLI_BUFFER_BYTES,
                BROTLI_LEVEL,
                BROTLI_WINDOW,
            );
            write_all(&mut encoder, pieces)?;
            encoder.into_inner()
        }
        Coding::Zstd => {
            let mut encoder = zstd::Encoder::new(out, ZSTD_LEVEL)?;
            // Lets the encoder take a window of the body's size, and its reader too.
            encoder.set_pledged_src_size(Some(length as u64))?;
            write_all(&mut encoder, pieces)?;
            encoder.finish()?
        }
    };
    encoded.shrink_to_fit();
    Ok(encoded)
}

fn write_all(encoder: &mut impl Write, pieces: &[Bytes]) -> io::Result<()> {
    pieces.iter().try_for_each(|piece| encoder.write_all(piece))
}

#[cfg(test)]
mod tests {
    use std::io::Read;

    use super::*;

    fn decode(encoded: &[u8], coding: Coding) -> Vec<u8> {
        let mut plain = Vec::new();
        match coding {
            Coding::Identity => plain.extend_from_slice(encoded),
            Coding::Gzip => {
                flate2::read::GzDecoder::new(encoded)
                    .read_to_end(&mut plain)
                    .unwrap();
            }
            Coding::Brotli => {
                brotli::Decompressor::new(encoded, 4_096)
                    .read_to_end(&mut plain)
                    .unwrap();
            }
            Coding::Zstd => plain = zstd::decode_all(encoded).unwrap(),
        }
        plain
    }

    #[test]
    fn every_coding_gives_the_body_back_and_is_smaller() {
        let text: String = (0..3_000).map(|line| format!("line {line}\n")).collect();
        let body = Bytes::from(text);
        let pieces = [body.slice(..1_000), body.slice(1_000..)];
        for coding in Coding::ALL {
            let encoded = encode(&pieces, coding).unwrap();
            assert!(
                coding == Coding::Identity || encoded.len() < body.len() / 2,
                "{coding:?}: {} of {}",
                encoded.len(),
                body.len()
            );
            assert_eq!(decode(&encoded, coding), body, "{coding:?}");
            assert_eq!(encoded.capacity(), encoded.len());
        }
    }
}
