//! Names and addresses of a local cluster's machines.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use clap::ValueEnum;
use machine::HardwareAddress;
use machine::config::Role;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

/// The segment between the machines. Behind its first network card, which leads to the host, each has the same address.
const SEGMENT: Ipv4Addr = Ipv4Addr::new(10, 5, 0, 0);
const SEGMENT_BITS: u8 = 24;
/// The same over IPv6, and what pods and Services have then.
const SEGMENT_V6: Ipv6Addr = Ipv6Addr::new(0xfd05, 0, 0, 0, 0, 0, 0, 0);
const SEGMENT_V6_BITS: u8 = 64;
const PODS_V6: &str = "fd05:0:1::/56";
const SERVICES_V6: &str = "fd05:0:2::/112";
/// The first control plane's last octet, and the first worker's.
const CONTROL_PLANES: u8 = 10;
const WORKERS: u8 = 100;
/// As many of each have an address.
pub const MOST_CONTROL_PLANES: u8 = 90;
pub const MOST_WORKERS: u8 = 150;

/// The one kind of addresses that machines, pods and Services of a cluster have. The way from the host to a machine is IPv4's always.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, ValueEnum, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum IpFamily {
    #[default]
    Ipv4,
    Ipv6,
}

impl IpFamily {
    /// The segment in the notation of configs.
    pub fn segment(self) -> String {
        match self {
            IpFamily::Ipv4 => format!("{SEGMENT}/{SEGMENT_BITS}"),
            IpFamily::Ipv6 => format!("{SEGMENT_V6}/{SEGMENT_V6_BITS}"),
        }
    }

    /// `cluster.network` of the machine config, where it is not what it is anyway.
    pub fn cluster_network(self) -> Value {
        match self {
            IpFamily::Ipv4 => json!({}),
            IpFamily::Ipv6 => json!({ "podCIDRs": [PODS_V6], "serviceCIDRs": [SERVICES_V6] }),
        }
    }
}

/// One machine of a cluster.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Place {
    pub role: Role,
    /// From 1.
    pub number: u8,
}

impl Place {
    pub const FIRST: Place = Place { role: Role::ControlPlane, number: 1 };

    /// The machine's name, its host name and its Node's.
    pub fn name(self) -> String {
        match self.role {
            Role::ControlPlane => format!("cp-{}", self.number),
            Role::Worker => format!("worker-{}", self.number),
        }
    }

    /// On the segment. Of an IPv6 address the last digits read like the IPv4 address's: `fd05::100` is worker-1.
    pub fn address(self, family: IpFamily) -> IpAddr {
        let v4 = self.address_v4();
        match family {
            IpFamily::Ipv4 => v4.into(),
            IpFamily::Ipv6 => {
                let last = u16::from(v4.octets()[3]);
                let digits = (last / 100) << 8 | (last / 10 % 10) << 4 | (last % 10);
                Ipv6Addr::from_bits(SEGMENT_V6.to_bits() | u128::from(digits)).into()
            }
        }
    }

    fn address_v4(self) -> Ipv4Addr {
        let first = match self.role {
            Role::ControlPlane => CONTROL_PLANES,
            Role::Worker => WORKERS,
        };
        let [a, b, c, _] = SEGMENT.octets();
        Ipv4Addr::new(a, b, c, first.saturating_add(self.number).saturating_sub(1))
    }

    /// 52:54:00 is QEMU's.
    pub fn hardware_address(self) -> HardwareAddress {
        let [_, b, c, d] = self.address_v4().octets();
        HardwareAddress([0x52, 0x54, 0x00, b, c, d])
    }

    /// The next of a role: after the last, so that no machine is taken for one that was removed before it.
    pub fn next(role: Role, taken: impl IntoIterator<Item = Place>) -> Place {
        let last = taken.into_iter().filter(|place| place.role == role).map(|place| place.number).max();
        Place { role, number: last.unwrap_or_default().saturating_add(1) }
    }

    /// What is this machine's alone, for its config.
    pub fn fields(self, family: IpFamily) -> Value {
        let bits = if family == IpFamily::Ipv4 { SEGMENT_BITS } else { SEGMENT_V6_BITS };
        let address = format!("{}/{bits}", self.address(family));
        let interfaces = json!([{ "name": "eth0", "dhcp": true }, { "name": "eth1", "addresses": [address] }]);
        json!({ "machine": { "hostname": self.name(), "network": { "interfaces": interfaces } } })
    }
}

/// The first machines of a cluster, in the order in which they are started.
pub fn places(control_planes: u8, workers: u8) -> Vec<Place> {
    let of = |role, count| (1..=count).map(move |number| Place { role, number });
    of(Role::ControlPlane, control_planes).chain(of(Role::Worker, workers)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_machine_has_a_name_and_an_address_of_its_own() {
        let places = places(3, 2);
        let shown: Vec<_> =
            places.iter().map(|place| format!("{} {} {}", place.name(), place.address(IpFamily::Ipv4), place.hardware_address())).collect();
        assert_eq!(
            shown,
            [
                "cp-1 10.5.0.10 52:54:00:05:00:0a",
                "cp-2 10.5.0.11 52:54:00:05:00:0b",
                "cp-3 10.5.0.12 52:54:00:05:00:0c",
                "worker-1 10.5.0.100 52:54:00:05:00:64",
                "worker-2 10.5.0.101 52:54:00:05:00:65",
            ]
        );
        let last = Place { role: Role::Worker, number: MOST_WORKERS };
        assert_eq!(last.address(IpFamily::Ipv4), IpAddr::from([10, 5, 0, 249]));
        let of_v6 = [Place::FIRST, Place { role: Role::Worker, number: 1 }, last].map(|place| place.address(IpFamily::Ipv6).to_string());
        assert_eq!(of_v6, ["fd05::10", "fd05::100", "fd05::249"]);
    }

    #[test]
    fn the_next_comes_after_the_last() {
        let (first, third) = (Place::FIRST, Place { number: 3, ..Place::FIRST });
        assert_eq!(Place::next(Role::ControlPlane, [first, third]).name(), "cp-4");
        assert_eq!(Place::next(Role::Worker, [first, third]).name(), "worker-1");
    }
}
