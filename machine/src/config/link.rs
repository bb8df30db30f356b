//! The machine's links: what the machine makes them of, their addresses and routes, and the rules that choose between tables of routes.

use std::collections::{BTreeMap, VecDeque};
use std::net::IpAddr;

use ipnet::IpNet;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::Duration;
use super::value::{Address, Cidr};

/// The kernel's number of the table that packets go by where no rule says otherwise (RT_TABLE_MAIN).
pub const MAIN_TABLE: u32 = 254;

#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Interface {
    /// The link's name, such as `eth0`; with vlan, bond or bridge, what the new link is called. No default.
    pub name: String,
    /// Whether addresses, routes, resolvers and time servers come from DHCP. Default: false.
    #[serde(default)]
    pub dhcp: bool,
    /// Whether an IPv6 address, resolvers and time servers come from DHCPv6. Default: with dhcp, where a router on the link says so.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub dhcp6: Option<bool>,
    /// Addresses with prefix length, such as 192.0.2.10/24. Default: none.
    #[serde(default)]
    #[schemars(with = "Vec<Cidr>")]
    pub addresses: Vec<IpNet>,
    /// Routes over this link. Default: none.
    #[serde(default)]
    pub routes: Vec<Route>,
    /// Largest packet in bytes. Default: the link's own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mtu: Option<u16>,
    /// Makes the link: what goes by a VLAN of another link. Default: the link is there by itself.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub vlan: Option<Vlan>,
    /// Makes the link: several links that act as one. Default: the link is there by itself.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bond: Option<Bond>,
    /// Makes the link: a switch whose ports are other links. Default: the link is there by itself.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bridge: Option<Bridge>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Vlan {
    /// Number of the VLAN (802.1Q), 1 to 4094. No default.
    pub id: u16,
    /// The link that carries it, by name. No default.
    pub parent: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Bond {
    /// Its members, by name; they have no addresses of their own. No default.
    pub interfaces: Vec<String>,
    /// How it spreads packets over its members. No default.
    pub mode: BondMode,
    /// How often the members' carrier is looked at, 10ms to 1m. Default: 100ms.
    #[serde(default = "default_mii_monitor")]
    pub mii_monitor: Duration,
    /// How long a carrier must last before its member is used; a multiple of miiMonitor. Default: 0s.
    #[serde(default = "no_delay")]
    pub up_delay: Duration,
    /// How long a carrier must be gone before its member is not used any more; a multiple of miiMonitor. Default: 0s.
    #[serde(default = "no_delay")]
    pub down_delay: Duration,
    /// The member to use whenever it has a carrier; in the modes active-backup, balance-tlb and balance-alb. Default: none is preferred.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub primary: Option<String>,
    /// How often the other side is asked to speak: slow is every 30 seconds, fast every second; in the mode 802.3ad. Default: slow.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lacp_rate: Option<LacpRate>,
    /// By what a packet's member is chosen; in the modes balance-xor, 802.3ad and balance-tlb. Default: layer2.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub transmit_hash_policy: Option<TransmitHashPolicy>,
    /// How many members must have a carrier for the bond to have one; in the mode 802.3ad. Default: 0, which is the same as 1.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub min_links: Option<u16>,
}

/// As the kernel calls them (Documentation/networking/bonding.rst).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum BondMode {
    /// One member after another, packet by packet.
    BalanceRr,
    /// One member; another one when its carrier is gone. Asks nothing of the switch.
    ActiveBackup,
    /// A member by the packet's addresses.
    BalanceXor,
    /// All members.
    Broadcast,
    /// A member by the packet's addresses, among those that the switch agreed on (LACP).
    #[serde(rename = "802.3ad")]
    Lacp,
    /// A member by its load. Asks nothing of the switch.
    BalanceTlb,
    /// The same, and what comes in is spread too.
    BalanceAlb,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub enum LacpRate {
    Slow,
    Fast,
}

/// As the kernel calls them (Documentation/networking/bonding.rst, xmit_hash_policy).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum TransmitHashPolicy {
    /// Hardware addresses.
    #[serde(rename = "layer2")]
    Layer2,
    /// Hardware and IP addresses.
    #[serde(rename = "layer2+3")]
    Layer23,
    /// IP addresses and ports.
    #[serde(rename = "layer3+4")]
    Layer34,
    /// As layer2+3, of the packet within a tunnel's.
    #[serde(rename = "encap2+3")]
    Encap23,
    /// As layer3+4, of the packet within a tunnel's.
    #[serde(rename = "encap3+4")]
    Encap34,
    /// VLAN and the source's hardware address.
    #[serde(rename = "vlan+srcmac")]
    VlanSource,
}

#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct Bridge {
    /// Its ports, by name; they have no addresses of their own. Default: none, for others to add some.
    pub interfaces: Vec<String>,
    /// Whether it speaks the spanning tree protocol, so that a loop of switches is no storm. Default: false.
    pub stp: bool,
    /// Whether ports have VLANs of their own. Default: false, which passes all of them on.
    pub vlan_filtering: bool,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Route {
    /// Destination; 0.0.0.0/0 or ::/0 is the default route. No default.
    #[schemars(with = "Cidr")]
    pub to: IpNet,
    /// Next hop. Default: the destination is on the link.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<Address>")]
    pub via: Option<IpAddr>,
    /// The lower one of two routes to a destination is taken. Default: 1024.
    #[serde(default = "default_metric")]
    pub metric: u32,
    /// Number of the table that it is in; one other than 254 counts for what a rule sends there. Default: 254, the main one.
    #[serde(default = "main_table", skip_serializing_if = "is_main_table")]
    pub table: u32,
}

/// Sends packets to a table of routes.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct RoutingRule {
    /// The rule with the lowest one that fits comes first, 1 to 32765: before the main table (32766). No default.
    pub priority: u32,
    /// Network of the sender. Default: any.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<Cidr>")]
    pub from: Option<IpNet>,
    /// Network of the destination. Default: any.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<Cidr>")]
    pub to: Option<IpNet>,
    /// Link that packets come in by; `lo` stands for those of the machine itself. Default: any.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub interface: Option<String>,
    /// The packet's mark, as a firewall sets it. Default: any.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mark: Option<u32>,
    /// Bits of the mark that count, such as 0xff00. Default: all.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mask: Option<u32>,
    /// Number of the table. No default.
    pub table: u32,
}

fn default_metric() -> u32 {
    1024
}

fn main_table() -> u32 {
    MAIN_TABLE
}

fn is_main_table(table: &u32) -> bool {
    *table == MAIN_TABLE
}

fn default_mii_monitor() -> Duration {
    Duration(std::time::Duration::from_millis(100))
}

fn no_delay() -> Duration {
    Duration(std::time::Duration::ZERO)
}

/// What the machine makes a link of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LinkKind<'a> {
    Vlan(&'a Vlan),
    Bond(&'a Bond),
    Bridge(&'a Bridge),
}

impl Interface {
    /// None for a link that is there by itself.
    pub fn kind(&self) -> Option<LinkKind<'_>> {
        let vlan = self.vlan.as_ref().map(LinkKind::Vlan);
        vlan.or(self.bond.as_ref().map(LinkKind::Bond)).or(self.bridge.as_ref().map(LinkKind::Bridge))
    }

    /// The members of a bond or the ports of a bridge.
    pub fn members(&self) -> &[String] {
        match self.kind() {
            Some(LinkKind::Bond(bond)) => &bond.interfaces,
            Some(LinkKind::Bridge(bridge)) => &bridge.interfaces,
            Some(LinkKind::Vlan(_)) | None => &[],
        }
    }

    /// The links that it needs: its members, or its parent.
    pub fn below(&self) -> impl Iterator<Item = &str> {
        let parent = self.vlan.iter().map(|vlan| vlan.parent.as_str());
        self.members().iter().map(String::as_str).chain(parent)
    }
}

impl BondMode {
    /// As the kernel and the config call it.
    pub fn name(self) -> &'static str {
        match self {
            BondMode::BalanceRr => "balance-rr",
            BondMode::ActiveBackup => "active-backup",
            BondMode::BalanceXor => "balance-xor",
            BondMode::Broadcast => "broadcast",
            BondMode::Lacp => "802.3ad",
            BondMode::BalanceTlb => "balance-tlb",
            BondMode::BalanceAlb => "balance-alb",
        }
    }
}

impl RoutingRule {
    /// Whether it is one of IPv4's, of IPv6's, or of both, by its networks: both where it has none, and neither where it has one of each.
    pub fn families(&self) -> impl Iterator<Item = bool> {
        let networks = self.from.into_iter().chain(self.to);
        [true, false].into_iter().filter(move |is_ipv4| networks.clone().all(|network| network.addr().is_ipv4() == *is_ipv4))
    }
}

/// Each link after those that it is made of, and otherwise in the order of the config; those that are made of themselves are left out.
pub fn bottom_up(interfaces: &[Interface]) -> Vec<&Interface> {
    let by_name: BTreeMap<&str, usize> = interfaces.iter().enumerate().rev().map(|(index, one)| (one.name.as_str(), index)).collect();
    let mut lacks = vec![0_usize; interfaces.len()];
    let mut above = vec![Vec::new(); interfaces.len()];
    for (index, interface) in interfaces.iter().enumerate() {
        for below in interface.below().filter_map(|name| by_name.get(name)) {
            lacks[index] += 1;
            above[*below].push(index);
        }
    }
    let mut ready: VecDeque<usize> = (0..interfaces.len()).filter(|index| lacks[*index] == 0).collect();
    let mut sorted = Vec::with_capacity(interfaces.len());
    while let Some(index) = ready.pop_front() {
        sorted.push(&interfaces[index]);
        for above in &above[index] {
            lacks[*above] -= 1;
            if lacks[*above] == 0 {
                ready.push_back(*above);
            }
        }
    }
    sorted
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bridge(name: &str, members: &[&str]) -> Interface {
        let interfaces = members.iter().map(|member| (*member).to_owned()).collect();
        Interface { name: name.to_owned(), bridge: Some(Bridge { interfaces, ..Bridge::default() }), ..Interface::default() }
    }

    #[test]
    fn what_a_link_is_made_of_comes_first_and_a_circle_never() {
        let names = |interfaces: &[Interface]| bottom_up(interfaces).iter().map(|one| one.name.clone()).collect::<Vec<_>>();
        let vlan = |name: &str, parent: &str| Interface {
            name: name.to_owned(),
            vlan: Some(Vlan { id: 5, parent: parent.to_owned() }),
            ..Interface::default()
        };
        let plain = |name: &str| Interface { name: name.to_owned(), ..Interface::default() };
        let config = [vlan("a", "b"), bridge("b", &["c", "elsewhere"]), plain("d"), plain("c")];
        assert_eq!(names(&config), ["d", "c", "b", "a"]);
        let circle = [bridge("x", &["y"]), bridge("y", &["z"]), bridge("z", &["x"]), plain("d"), vlan("above", "x"), vlan("self", "self")];
        assert_eq!(names(&circle), ["d"]);
        // A long list in the worst order takes no long time.
        let long: Vec<Interface> = (0..20_000).map(|index| vlan(&index.to_string(), &(index + 1).to_string())).collect();
        assert_eq!(bottom_up(&long).len(), long.len());
    }

    #[test]
    fn a_rule_is_of_the_families_of_its_networks() {
        let families = |from: &str, to: &str| -> Vec<bool> {
            RoutingRule { from: from.parse().ok(), to: to.parse().ok(), ..RoutingRule::default() }.families().collect()
        };
        assert_eq!(families("10.0.0.0/8", ""), [true]);
        assert_eq!(families("", "fd00::/8"), [false]);
        assert_eq!(families("", ""), [true, false]);
        assert!(families("10.0.0.0/8", "fd00::/8").is_empty());
    }

    #[test]
    fn modes_are_called_as_the_config_has_them() {
        use BondMode::*;
        for mode in [BalanceRr, ActiveBackup, BalanceXor, Broadcast, Lacp, BalanceTlb, BalanceAlb] {
            assert_eq!(serde_json::to_value(mode).unwrap(), mode.name());
        }
    }
}
