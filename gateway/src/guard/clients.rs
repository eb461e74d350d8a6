//! How many requests one client may send: a token bucket for each address, in a table that never grows.

use std::hash::{BuildHasher as _, RandomState};
use std::net::IpAddr;
use std::time::{Duration, Instant};

use parking_lot::Mutex;

/// Clients that are told apart at a time, as sets times ways. Where more come at once, the one of a set that has used least of
/// its bucket is forgotten: it starts again with a full one, and who is over the limit stays known.
const SETS: usize = 2_048;
const WAYS: usize = 8;

/// Bits of an IPv6 address that one client has for itself.
const IPV6_PREFIX: u32 = 64;

/// The buckets.
pub struct Clients {
    sets: Box<[Mutex<[Bucket; WAYS]>]>,
    /// Time that one request is worth.
    interval: Duration,
    /// Time that a full bucket is worth.
    depth: Duration,
    began: Instant,
    /// Keeps strangers from choosing who shares a set.
    secret: RandomState,
}

/// A bucket is known by when it will be full again: earlier than now, it is full.
#[derive(Debug, Clone, Copy, Default)]
struct Bucket {
    client: u128,
    full_at: Duration,
}

impl Clients {
    /// Buckets that fill with `rate` requests a second, at least one, and hold `burst`.
    pub fn new(rate: u32, burst: u32, began: Instant, secret: RandomState) -> Self {
        let interval = Duration::from_secs(1) / rate.max(1);
        let sets = (0..SETS).map(|_| Mutex::default()).collect();
        Self {
            sets,
            interval,
            depth: interval * burst.max(1),
            began,
            secret,
        }
    }

    /// Takes one request out of a client's bucket.
    ///
    /// # Errors
    /// How long until there is one in it.
    pub fn take(&self, address: IpAddr, now: Instant) -> Result<(), Duration> {
        let client = client_of(address);
        let now = now.saturating_duration_since(self.began);
        let mut set = self.sets[self.set_of(client)].lock();
        let bucket = match set.iter().position(|bucket| bucket.client == client) {
            Some(at) => &mut set[at],
            None => forget_one(&mut set, client),
        };
        let full_at = bucket.full_at.max(now) + self.interval;
        let ahead = full_at - now;
        if ahead > self.depth {
            return Err(ahead - self.depth);
        }
        bucket.full_at = full_at;
        Ok(())
    }

    fn set_of(&self, client: u128) -> usize {
        usize::try_from(self.secret.hash_one(client) >> 32).unwrap_or_default() % SETS
    }
}

/// Gives the fullest bucket of a set to a client, full.
fn forget_one(set: &mut [Bucket; WAYS], client: u128) -> &mut Bucket {
    let mut fullest = 0;
    for at in 1..WAYS {
        if set[at].full_at < set[fullest].full_at {
            fullest = at;
        }
    }
    set[fullest] = Bucket {
        client,
        full_at: Duration::ZERO,
    };
    &mut set[fullest]
}

/// What stands for a client: its IPv4 address, or its IPv6 network.
fn client_of(address: IpAddr) -> u128 {
    match address.to_canonical() {
        IpAddr::V4(address) => u128::from(address.to_ipv6_mapped()),
        IpAddr::V6(address) => u128::from(address) & (u128::MAX << (128 - IPV6_PREFIX)),
    }
}

#[cfg(test)]
mod tests {
    use std::net::{Ipv4Addr, Ipv6Addr};

    use proptest::prelude::*;

    use super::*;

    fn address(last: u32) -> IpAddr {
        IpAddr::V4(Ipv4Addr::from(0x0a00_0000 + last))
    }

    #[test]
    fn a_burst_passes_then_the_rate_and_others_are_not_touched() {
        let now = Instant::now();
        let clients = Clients::new(10, 5, now, RandomState::new());
        assert_eq!(
            (0..20)
                .filter(|_| clients.take(address(1), now).is_ok())
                .count(),
            5
        );
        assert_eq!(
            clients.take(address(1), now),
            Err(Duration::from_millis(100))
        );
        assert!(clients.take(address(2), now).is_ok());
        let later = now + Duration::from_millis(300);
        assert_eq!(
            (0..20)
                .filter(|_| clients.take(address(1), later).is_ok())
                .count(),
            3
        );
    }

    #[test]
    fn an_ipv6_network_is_one_client_and_a_mapped_address_is_the_address() {
        let now = Instant::now();
        let clients = Clients::new(1, 1, now, RandomState::new());
        let in_network = |host: u16| IpAddr::V6(Ipv6Addr::new(0x2001, 0xdb8, 0, 7, 0, 0, 0, host));
        assert!(clients.take(in_network(1), now).is_ok());
        assert!(clients.take(in_network(2), now).is_err());
        let other = IpAddr::V6(Ipv6Addr::new(0x2001, 0xdb8, 0, 8, 0, 0, 0, 1));
        assert!(clients.take(other, now).is_ok());
        let mapped = Ipv4Addr::new(10, 0, 0, 1).to_ipv6_mapped();
        assert!(clients.take(IpAddr::V6(mapped), now).is_ok());
        assert!(clients.take(address(1), now).is_err());
    }

    #[test]
    fn a_crowd_does_not_make_the_table_forget_who_is_over_the_limit() {
        let now = Instant::now();
        let clients = Clients::new(1, 100, now, RandomState::new());
        while clients.take(address(1), now).is_ok() {}
        for other in 2..200_000 {
            assert!(clients.take(address(other), now).is_ok());
        }
        assert!(clients.take(address(1), now).is_err());
    }

    proptest! {
        #[test]
        fn nobody_gets_more_than_burst_and_rate(
            steps in prop::collection::vec((0_u64..300, 0_u32..3), 0..500),
            rate in 1_u32..50,
            burst in 1_u32..20,
        ) {
            let began = Instant::now();
            let clients = Clients::new(rate, burst, began, RandomState::new());
            let (mut now, mut passed) = (began, [0_u32; 3]);
            for (wait_ms, client) in steps {
                now += Duration::from_millis(wait_ms);
                passed[client as usize] += u32::from(clients.take(address(client), now).is_ok());
                let allowed = f64::from(burst) + (now - began).as_secs_f64() * f64::from(rate) + 0.01;
                prop_assert!(f64::from(passed[client as usize]) <= allowed);
            }
        }
    }
}
