//! Who a client is behind proxies that are trusted to say so.

use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;

use http::HeaderMap;

const X_FORWARDED_FOR: &str = "x-forwarded-for";

/// A range of addresses, as `10.0.0.0/8`, `2001:db8::/32` or a single address.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Network {
    address: IpAddr,
    bits: u8,
}

impl Network {
    /// Whether an address is in the range. An IPv4 address that is written as IPv6 is the IPv4 address.
    pub fn contains(&self, address: IpAddr) -> bool {
        match (self.address, address.to_canonical()) {
            (IpAddr::V4(own), IpAddr::V4(other)) => {
                let mask = u32::MAX.checked_shl(u32::from(32 - self.bits)).unwrap_or(0);
                (u32::from(own) ^ u32::from(other)) & mask == 0
            }
            (IpAddr::V6(own), IpAddr::V6(other)) => {
                let mask = u128::MAX
                    .checked_shl(u32::from(128 - self.bits))
                    .unwrap_or(0);
                (u128::from(own) ^ u128::from(other)) & mask == 0
            }
            _ => false,
        }
    }
}

impl fmt::Display for Network {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.address, self.bits)
    }
}

impl FromStr for Network {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let bad = || format!("`{text}` is not a network: write \"10.0.0.0/8\" or an address");
        let (address, bits) = text
            .split_once('/')
            .map_or((text, None), |(address, bits)| (address, Some(bits)));
        let address: IpAddr = address.parse().map_err(|_| bad())?;
        let most = if address.is_ipv4() { 32 } else { 128 };
        let bits = match bits {
            None => most,
            Some(bits) => bits
                .parse()
                .ok()
                .filter(|bits| *bits <= most)
                .ok_or_else(bad)?,
        };
        Ok(Self {
            address: address.to_canonical(),
            bits,
        })
    }
}

/// The client's address: the peer's own, unless the peer is a trusted proxy. Then it is the last one of `X-Forwarded-For`
/// that is not a trusted proxy's; what stands before it may be anyone's invention.
pub fn client(peer: IpAddr, headers: &HeaderMap, trusted: &[Network]) -> IpAddr {
    let is_trusted = |address: IpAddr| trusted.iter().any(|network| network.contains(address));
    let mut client = peer.to_canonical();
    if !is_trusted(client) {
        return client;
    }
    let values: Vec<_> = headers.get_all(X_FORWARDED_FOR).iter().collect();
    let hops = values
        .iter()
        .rev()
        .flat_map(|value| value.to_str().unwrap_or_default().rsplit(','));
    for hop in hops {
        let Ok(address) = hop.trim().parse::<IpAddr>() else {
            return client; // what cannot be read ends what can be known
        };
        client = address.to_canonical();
        if !is_trusted(client) {
            return client;
        }
    }
    client
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    fn client_of(peer: &str, fields: &[&str], trusted: &[&str]) -> IpAddr {
        let mut headers = HeaderMap::new();
        for field in fields {
            headers.append(X_FORWARDED_FOR, field.parse().unwrap());
        }
        let trusted: Vec<Network> = trusted.iter().map(|text| text.parse().unwrap()).collect();
        client(address(peer), &headers, &trusted)
    }

    #[test]
    fn a_client_that_is_no_trusted_proxy_is_itself_whatever_it_claims() {
        assert_eq!(
            client_of("192.0.2.1", &["10.0.0.1"], &[]),
            address("192.0.2.1")
        );
        let trusted = ["10.0.0.0/8"];
        assert_eq!(
            client_of("192.0.2.1", &["10.0.0.1"], &trusted),
            address("192.0.2.1")
        );
    }

    #[test]
    fn the_last_address_that_is_no_trusted_proxys_counts() {
        let trusted = ["10.0.0.0/8", "::1"];
        let told = |fields: &[&str]| client_of("10.0.0.1", fields, &trusted);
        assert_eq!(
            told(&["203.0.113.9, 192.0.2.7, 10.1.1.1"]),
            address("192.0.2.7")
        );
        assert_eq!(
            told(&["192.0.2.7", "10.9.9.9,10.1.1.1"]),
            address("192.0.2.7")
        );
        assert_eq!(told(&["::ffff:192.0.2.7"]), address("192.0.2.7"));
        assert_eq!(told(&[]), address("10.0.0.1"));
        assert_eq!(told(&["10.2.2.2"]), address("10.2.2.2"));
        assert_eq!(told(&["192.0.2.7, unknown"]), address("10.0.0.1"));
        assert_eq!(
            client_of("::1", &["2001:db8::5"], &trusted),
            address("2001:db8::5")
        );
    }

    #[test]
    fn networks_hold_what_their_bits_say() {
        let holds = |network: &str, other: &str| {
            network.parse::<Network>().unwrap().contains(address(other))
        };
        assert!(holds("0.0.0.0/0", "203.0.113.9") && !holds("0.0.0.0/0", "::1"));
        assert!(holds("::/0", "2001:db8::1"));
        assert!(holds("10.0.0.0/9", "10.127.255.255") && !holds("10.0.0.0/9", "10.128.0.0"));
        assert!(holds("192.0.2.1", "::ffff:192.0.2.1") && !holds("192.0.2.1", "192.0.2.2"));
        assert!(
            holds("2001:db8::/33", "2001:db8:7fff::1")
                && !holds("2001:db8::/33", "2001:db8:8000::1")
        );
        for bad in [
            "",
            "10.0.0.0/33",
            "10.0.0/8",
            "host",
            "10.0.0.0/",
            "::1/129",
            "1.2.3.4/-1",
        ] {
            assert!(bad.parse::<Network>().is_err(), "{bad}");
        }
    }
}
