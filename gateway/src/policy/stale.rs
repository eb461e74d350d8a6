//! How long a stale response covers for an origin that fails (RFC 9111 4.2.4, RFC 5861 4).

use std::time::Duration;

/// How an origin failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Failure {
    /// It answered, with a server error.
    Answered,
    /// No answer was to be had: no connection, or one that broke, a timeout, or no origin that takes one more request.
    Unreachable,
}

/// How long past its lifetime a response may be served.
///
/// After an answer that is an error, only as long as `stale_if_error` grants. While disconnected a cache may serve what is stale
/// unless that is forbidden (`must_revalidate`); `unreachable` bounds it where the origin named no bound.
pub fn window(
    failure: Failure,
    must_revalidate: bool,
    stale_if_error: Duration,
    unreachable: Duration,
) -> Duration {
    match failure {
        _ if must_revalidate => Duration::ZERO,
        Failure::Unreachable if stale_if_error.is_zero() => unreachable,
        Failure::Answered | Failure::Unreachable => stale_if_error,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_is_covered_as_granted_and_silence_unless_forbidden() {
        let seconds = Duration::from_secs;
        let cases = [
            (Failure::Answered, false, 0, 0),
            (Failure::Answered, false, 60, 60),
            (Failure::Answered, true, 60, 0),
            (Failure::Unreachable, false, 0, 900),
            (Failure::Unreachable, false, 60, 60),
            (Failure::Unreachable, true, 0, 0),
            (Failure::Unreachable, true, 60, 0),
        ];
        for (failure, must_revalidate, granted, expected) in cases {
            let window = window(failure, must_revalidate, seconds(granted), seconds(900));
            assert_eq!(
                window,
                seconds(expected),
                "{failure:?} {must_revalidate} {granted}"
            );
        }
    }
}
