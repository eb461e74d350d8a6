//! How many descriptors there are: some are kept back, so that those who are connected are served when there are no more.

use nix::sys::resource::{Resource, getrlimit, rlim_t, setrlimit};
use pingora::protocols::UniqueIDType;

/// Descriptors kept back for origins, files and operators: this part of all, within the bounds below.
const RESERVE_PART: rlim_t = 4;
const RESERVE_MIN: rlim_t = 16;
const RESERVE_MAX: rlim_t = 512;

/// Raises the limit of this process as far as it may. Returns it, if it is known.
pub fn raise_limit() -> Option<u64> {
    let (soft, hard) = getrlimit(Resource::RLIMIT_NOFILE).ok()?;
    if soft < hard && setrlimit(Resource::RLIMIT_NOFILE, hard, hard).is_ok() {
        return Some(hard);
    }
    Some(soft)
}

/// Whether a new connection with this descriptor takes one that is kept back. The system gives the lowest free number, so
/// all below it are in use.
pub(super) fn is_kept_back(descriptor: UniqueIDType) -> bool {
    let Ok((soft, _)) = getrlimit(Resource::RLIMIT_NOFILE) else {
        return false;
    };
    rlim_t::try_from(descriptor).is_ok_and(|descriptor| descriptor >= first_kept_back(soft))
}

/// Whether a new connection of an operator takes one that is kept back for origins and files.
pub(crate) fn is_kept_from_operators(descriptor: UniqueIDType) -> bool {
    let Ok((soft, _)) = getrlimit(Resource::RLIMIT_NOFILE) else {
        return false;
    };
    rlim_t::try_from(descriptor)
        .is_ok_and(|descriptor| descriptor >= first_kept_from_operators(soft))
}

/// Half of what is kept back is for them.
fn first_kept_from_operators(limit: rlim_t) -> rlim_t {
    limit - (limit - first_kept_back(limit)) / 2
}

fn first_kept_back(limit: rlim_t) -> rlim_t {
    let reserve = (limit / RESERVE_PART).clamp(RESERVE_MIN, RESERVE_MAX);
    limit.saturating_sub(reserve)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_quarter_is_kept_back_of_a_few_and_a_bounded_number_of_many() {
        assert_eq!(first_kept_back(256), 192);
        assert_eq!(first_kept_back(1_024), 768);
        assert_eq!(first_kept_back(1_048_576), 1_048_576 - 512);
        assert_eq!(first_kept_back(10), 0);
        assert_eq!(first_kept_from_operators(1_024), 896);
        assert_eq!(first_kept_from_operators(1_048_576), 1_048_576 - 256);
    }
}
