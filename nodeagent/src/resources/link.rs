//! The machine's links, and the rules that choose between its tables of routes.

use ipnet::IpNet;
use machine::config::{BondMode, LacpRate, TransmitHashPolicy};
use serde::{Deserialize, Serialize};

use crate::store::Resource;

/// A network device, named by its name.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Link {
    pub index: u32,
    /// `ethernet` for a device with hardware behind it, `loopback`, else the kernel's kind: `bridge`, `veth`, `vxlan`, ...
    pub kind: String,
    /// Hardware address as `52:54:00:12:34:56`; empty where there is none.
    pub hardware_address: String,
    pub mtu: u32,
    /// What IPv6 sends at most, where a router on the link asks for less than its MTU.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ipv6_mtu: Option<u32>,
    /// Whether a router on the link says that addresses are given by DHCPv6.
    #[serde(default)]
    pub managed: bool,
    /// Administratively up.
    pub up: bool,
    /// A cable is plugged in, as far as the device can tell.
    pub carrier: bool,
    /// How often it has lost its carrier since the kernel knows it.
    #[serde(default)]
    pub carrier_losses: u32,
    /// Whether Corten's network controller made it.
    #[serde(default)]
    pub owned: bool,
    /// The bond or bridge that it is in.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub master: Option<String>,
    /// `vlan`, `bond` or `bridge`; none for all other kinds.
    #[serde(flatten)]
    pub shape: Option<Shape>,
}

/// What a link is made of, as the kernel has it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Shape {
    Vlan(VlanShape),
    Bond(BondShape),
    Bridge(BridgeShape),
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct VlanShape {
    pub id: u16,
    /// Empty where the parent is in another network namespace.
    pub parent: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct BondShape {
    pub mode: BondMode,
    /// How often the members' carrier is looked at, in milliseconds; so are the delays.
    pub mii_monitor: u32,
    pub up_delay: u32,
    pub down_delay: u32,
    pub lacp_rate: LacpRate,
    pub transmit_hash_policy: TransmitHashPolicy,
    pub min_links: u32,
    /// The preferred member, once it is one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub primary: Option<String>,
    /// The member that sends, in modes where only one does; none while no member has a carrier.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub active_member: Option<String>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct BridgeShape {
    pub stp: bool,
    pub vlan_filtering: bool,
}

/// A rule that sends packets to a table of routes, by their networks, mark and link, named `ipv4/<priority>` or `ipv6/<priority>`.
#[derive(Debug, Clone, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct RoutingRule {
    /// Whether it is one of IPv4's; else of IPv6's.
    pub ipv4: bool,
    pub priority: u32,
    pub from: Option<IpNet>,
    pub to: Option<IpNet>,
    /// Link that packets come in by.
    pub interface: Option<String>,
    /// Of the bits of `mask`.
    #[serde(default, skip_serializing_if = "is_none")]
    pub mark: u32,
    /// None of them where any mark fits.
    #[serde(default, skip_serializing_if = "is_none")]
    pub mask: u32,
    pub table: u32,
    /// Whether Corten's network controller put it there.
    pub owned: bool,
}

fn is_none(bits: &u32) -> bool {
    *bits == 0
}

impl Link {
    /// Whether it is in the bond or bridge of this name.
    pub fn is_in(&self, master: &str) -> bool {
        self.master.as_deref() == Some(master)
    }

    /// Whether other machines may be behind it: none of pods' bridges and tunnels, which are not the config's.
    pub fn leads_out(&self) -> bool {
        match self.kind.as_str() {
            "ethernet" | "bond" | "vlan" => true,
            "bridge" => self.owned,
            _ => false,
        }
    }
}

impl RoutingRule {
    pub fn name(&self) -> String {
        format!("{}/{}", if self.ipv4 { "ipv4" } else { "ipv6" }, self.priority)
    }
}

impl Resource for Link {
    const KIND: &'static str = "links";
}
impl Resource for RoutingRule {
    const KIND: &'static str = "rules";
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_shape_is_a_field_of_its_kind() {
        let shape = Some(Shape::Vlan(VlanShape { id: 5, parent: "eth0".to_owned() }));
        for link in [Link { shape, kind: "vlan".to_owned(), ..Link::default() }, Link::default()] {
            let value = serde_json::to_value(&link).unwrap();
            assert_eq!(value.pointer("/vlan/id").is_some(), link.shape.is_some());
            assert_eq!(serde_json::from_value::<Link>(value).unwrap(), link);
        }
    }
}
