//! A range of addresses of one family, as pools of addresses name it: `192.0.2.10-192.0.2.20`, `2001:db8::/124`, `192.0.2.7`.

use std::borrow::Cow;
use std::collections::BTreeSet;
use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::str::FromStr;

use ipnet::IpNet;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::value::as_text;

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum AddressRange {
    One(IpAddr),
    /// Of one family, and the first is not after the last.
    Between(IpAddr, IpAddr),
    /// Without what has a meaning of its own there: its first address, and the last one of IPv4.
    Network(IpNet),
}

impl FromStr for AddressRange {
    type Err = String;
    fn from_str(text: &str) -> Result<AddressRange, String> {
        let read = || {
            if let Some((first, last)) = text.split_once('-') {
                let (first, last): (IpAddr, IpAddr) = (first.trim().parse().ok()?, last.trim().parse().ok()?);
                return (first.is_ipv4() == last.is_ipv4() && first <= last).then_some(AddressRange::Between(first, last));
            }
            text.parse().map(AddressRange::One).or_else(|_| text.parse().map(AddressRange::Network)).ok()
        };
        read().ok_or_else(|| format!("{text:?} is no range of addresses"))
    }
}

impl fmt::Display for AddressRange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            AddressRange::One(address) => address.fmt(f),
            AddressRange::Between(first, last) => write!(f, "{first}-{last}"),
            AddressRange::Network(network) => network.fmt(f),
        }
    }
}

as_text!(
    AddressRange,
    "addressrange",
    "^[0-9a-fA-F.:]+(-[0-9a-fA-F.:]+|/[0-9]+)?$",
    "Addresses of one family: first and last, a network, or one address."
);

/// Networks with fewer bits for hosts have no address with a meaning of its own (RFC 3021, RFC 6164).
const LEAST_BITS: u8 = 2;

impl AddressRange {
    pub fn is_ipv4(&self) -> bool {
        self.first().is_ipv4()
    }

    pub fn first(&self) -> IpAddr {
        match self {
            AddressRange::One(first) | AddressRange::Between(first, _) => *first,
            AddressRange::Network(network) if bits(network) >= LEAST_BITS => {
                of_number(number(network.network()) + 1, network.addr().is_ipv4())
            }
            AddressRange::Network(network) => network.network(),
        }
    }

    pub fn last(&self) -> IpAddr {
        match self {
            AddressRange::One(last) | AddressRange::Between(_, last) => *last,
            AddressRange::Network(IpNet::V4(network)) if bits(&IpNet::V4(*network)) >= LEAST_BITS => {
                of_number(number(network.broadcast().into()) - 1, true)
            }
            AddressRange::Network(network) => network.broadcast(),
        }
    }

    pub fn contains(&self, address: IpAddr) -> bool {
        address.is_ipv4() == self.is_ipv4() && (self.first()..=self.last()).contains(&address)
    }

    /// Whether they have an address in common.
    pub fn overlaps(&self, first: IpAddr, last: IpAddr) -> bool {
        first.is_ipv4() == self.is_ipv4() && first <= self.last() && self.first() <= last
    }

    /// The lowest address that is not taken. It looks at one more than are taken, however large the range is.
    pub fn lowest_free(&self, taken: &BTreeSet<IpAddr>) -> Option<IpAddr> {
        let (first, last) = (self.first(), self.last());
        let mut free = number(first);
        for address in taken.range(first..=last) {
            if number(*address) != free {
                break;
            }
            free = free.checked_add(1)?;
        }
        (free <= number(last)).then(|| of_number(free, first.is_ipv4()))
    }
}

fn bits(network: &IpNet) -> u8 {
    network.max_prefix_len() - network.prefix_len()
}

fn number(address: IpAddr) -> u128 {
    match address {
        IpAddr::V4(address) => u128::from(address.to_bits()),
        IpAddr::V6(address) => address.to_bits(),
    }
}

/// The opposite; a number of IPv4 has 32 bits.
fn of_number(number: u128, ipv4: bool) -> IpAddr {
    match ipv4 {
        true => Ipv4Addr::from_bits(u32::try_from(number).unwrap_or(u32::MAX)).into(),
        false => Ipv6Addr::from_bits(number).into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ip(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    #[test]
    fn reads_and_prints_what_a_person_writes() {
        for (text, first, last) in [
            ("192.0.2.10-192.0.2.20", "192.0.2.10", "192.0.2.20"),
            ("192.0.2.7", "192.0.2.7", "192.0.2.7"),
            ("192.0.2.0/28", "192.0.2.1", "192.0.2.14"),
            ("192.0.2.6/31", "192.0.2.6", "192.0.2.7"),
            ("192.0.2.6/32", "192.0.2.6", "192.0.2.6"),
            ("2001:db8::/124", "2001:db8::1", "2001:db8::f"),
            ("2001:db8::a-2001:db8::a", "2001:db8::a", "2001:db8::a"),
            ("::/0", "::1", "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff"),
        ] {
            let range: AddressRange = text.parse().unwrap();
            assert_eq!((range.first(), range.last()), (ip(first), ip(last)), "{text}");
            assert_eq!(range.to_string(), text);
        }
        for text in [
            "",
            "-",
            "192.0.2.20-192.0.2.10",
            "192.0.2.1-2001:db8::1",
            "192.0.2.1-",
            "192.0.2.0/33",
            "a-b",
            "192.0.2.1-2-3",
            "192.0.2.1-20",
        ] {
            assert!(text.parse::<AddressRange>().is_err(), "{text}");
        }
    }

    #[test]
    fn the_lowest_free_address_comes_first_in_ranges_of_any_size() {
        let taken = |addresses: &[&str]| addresses.iter().map(|address| ip(address)).collect::<BTreeSet<_>>();
        for (range, taken, free) in [
            ("192.0.2.10-192.0.2.12", taken(&[]), Some("192.0.2.10")),
            ("192.0.2.10-192.0.2.12", taken(&["192.0.2.10", "192.0.2.12", "10.0.0.1"]), Some("192.0.2.11")),
            ("192.0.2.10-192.0.2.11", taken(&["192.0.2.10", "192.0.2.11"]), None),
            ("2001:db8::/64", taken(&["2001:db8::1", "2001:db8::2", "192.0.2.1"]), Some("2001:db8::3")),
            ("255.255.255.255", taken(&["255.255.255.255"]), None),
            ("ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff", taken(&["ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff"]), None),
        ] {
            assert_eq!(range.parse::<AddressRange>().unwrap().lowest_free(&taken), free.map(ip), "{range} {taken:?}");
        }
    }

    #[test]
    fn knows_what_it_has_in_common() {
        let range: AddressRange = "192.0.2.10-192.0.2.20".parse().unwrap();
        assert!(range.contains(ip("192.0.2.20")) && !range.contains(ip("192.0.2.21")) && !range.contains(ip("::ffff:192.0.2.15")));
        assert!(range.overlaps(ip("192.0.2.20"), ip("192.0.2.30")) && range.overlaps(ip("192.0.2.0"), ip("192.0.2.255")));
        assert!(!range.overlaps(ip("192.0.2.0"), ip("192.0.2.9")) && !range.overlaps(ip("::"), ip("ffff::")));
    }
}
