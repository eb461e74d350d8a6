//! How long a client may take for one piece of its answer over HTTP/2. How fast it takes the bytes of its connection is watched
//! where they are written; here it is its leave to send them that is waited for, which each stream has of its own.

use std::time::Duration;

use bytes::Bytes;
use pingora::proxy::Session;

use crate::config::Limits;

/// A piece has at most the time that so many bytes take: no stream is held for minutes by who takes nothing of a large one.
const PACED_BYTES_MAX: usize = 16 * 1024;

/// Bounds the wait for a piece that is about to be written.
pub(super) fn bound_wait(session: &mut Session, piece: Option<&Bytes>, limits: &Limits) {
    if let Some(piece) = piece
        && session.as_ref().is_http2()
    {
        let time = time_for(piece.len(), limits.write_rate_min.0, limits.rate_slack);
        session.as_mut().set_write_timeout(Some(time));
    }
}

/// The time that a piece of so many bytes has at a rate, in bytes a second.
fn time_for(bytes: usize, rate: u64, slack: Duration) -> Duration {
    let paced = bytes.min(PACED_BYTES_MAX) as u64;
    slack + Duration::from_millis(paced * 1_000 / rate.max(1))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_piece_has_the_slack_and_the_time_of_its_bytes_up_to_a_frame() {
        let slack = Duration::from_secs(10);
        for (bytes, seconds) in [(0, 10), (512, 11), (16 * 1024, 42), (1 << 20, 42)] {
            assert_eq!(
                time_for(bytes, 512, slack),
                Duration::from_secs(seconds),
                "{bytes}"
            );
        }
    }
}
