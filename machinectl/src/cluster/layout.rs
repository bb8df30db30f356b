//! Names and addresses of a local cluster's machines.

use std::net::Ipv4Addr;

use machine::config::Role;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use testbed::HardwareAddress;

/// The segment between the machines. Behind its first network card, which leads to the host, each has the same address.
const SEGMENT: Ipv4Addr = Ipv4Addr::new(10, 5, 0, 0);
const SEGMENT_BITS: u8 = 24;
/// The first control plane's last octet, and the first worker's.
const CONTROL_PLANES: u8 = 10;
const WORKERS: u8 = 100;
/// As many of each have an address.
pub const MOST_CONTROL_PLANES: u8 = 90;
pub const MOST_WORKERS: u8 = 150;

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

    /// On the segment.
    pub fn address(self) -> Ipv4Addr {
        let first = match self.role {
            Role::ControlPlane => CONTROL_PLANES,
            Role::Worker => WORKERS,
        };
        let [a, b, c, _] = SEGMENT.octets();
        Ipv4Addr::new(a, b, c, first.saturating_add(self.number).saturating_sub(1))
    }

    /// 52:54:00 is QEMU's.
    pub fn hardware_address(self) -> HardwareAddress {
        let [_, b, c, d] = self.address().octets();
        HardwareAddress([0x52, 0x54, 0x00, b, c, d])
    }

    /// The next of a role: after the last, so that no machine is taken for one that was removed before it.
    pub fn next(role: Role, taken: impl IntoIterator<Item = Place>) -> Place {
        let last = taken.into_iter().filter(|place| place.role == role).map(|place| place.number).max();
        Place { role, number: last.unwrap_or_default().saturating_add(1) }
    }

    /// What is this machine's alone, for its config.
    pub fn fields(self) -> Value {
        let address = format!("{}/{}", self.address(), SEGMENT_BITS);
        let interfaces = json!([{ "name": "eth0", "dhcp": true }, { "name": "eth1", "addresses": [address] }]);
        json!({ "machine": { "hostname": self.name(), "network": { "interfaces": interfaces } } })
    }
}

/// The segment in the notation of configs.
pub fn segment() -> String {
    format!("{SEGMENT}/{SEGMENT_BITS}")
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
            places.iter().map(|place| format!("{} {} {}", place.name(), place.address(), place.hardware_address())).collect();
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
        assert_eq!(Place { role: Role::Worker, number: MOST_WORKERS }.address(), Ipv4Addr::new(10, 5, 0, 249));
    }

    #[test]
    fn the_next_comes_after_the_last() {
        let (first, third) = (Place::FIRST, Place { number: 3, ..Place::FIRST });
        assert_eq!(Place::next(Role::ControlPlane, [first, third]).name(), "cp-4");
        assert_eq!(Place::next(Role::Worker, [first, third]).name(), "worker-1");
    }
}
