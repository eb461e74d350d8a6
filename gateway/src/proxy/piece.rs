//! How long a client may take for one piece of its answer over HTTP/2. How fast it takes the bytes of its connection is watched
//! where they are written; here it is its leave to send them that is waited for, which each stream has of its own.

use std::time::Duration;

use bytes::Bytes;
use pingora::proxy::Session;

use crate::config::Limits;

/// What a client is given the time for, however large a piece is: no stream is held for minutes by who takes nothing of it. However
/// small, too: several pieces may be written as one.
const PACED_BYTES: u64 = 16 * 1024;

/// Bounds the wait for a piece that is about to be written.
pub(super) fn bound_wait(session: &mut Session, piece: Option<&Bytes>, limits: &Limits) {
    if piece.is_some() && session.as_ref().is_http2() {
        let time = time_at(limits.write_rate_min.0, limits.rate_slack);
        session.as_mut().set_write_timeout(Some(time));
    }
}

/// The time of a piece at a rate in bytes a second.
fn time_at(rate: u64, slack: Duration) -> Duration {
    slack + Duration::from_millis(PACED_BYTES * 1_000 / rate.max(1))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_piece_has_the_slack_and_the_time_of_a_frame() {
        let slack = Duration::from_secs(10);
        for (rate, seconds) in [(512, 42), (16 * 1024, 11), (0, 10 + 16 * 1024)] {
            assert_eq!(time_at(rate, slack), Duration::from_secs(seconds), "{rate}");
        }
    }
}
