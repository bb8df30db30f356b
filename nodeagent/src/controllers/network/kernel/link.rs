//! A link as rtnetlink tells of it.

use std::collections::BTreeMap;

use machine::config::{BondMode, LacpRate, TransmitHashPolicy};
use netlink_packet_route::link::{
    AfSpecInet6, AfSpecUnspec, BondLacpRate, BondMode as KernelMode, BondXmitHashPolicy, BridgeStpState, Inet6IfaceFlags, InfoBond,
    InfoBridge, InfoData, InfoKind, InfoVlan, LinkAttribute, LinkFlags, LinkInfo, LinkLayerType, LinkMessage,
};

use super::super::PROTOCOL;
use crate::resources::link::{BondShape, BridgeShape, Link, Shape, VlanShape};
use crate::resources::network::hardware_address;

type Names = BTreeMap<u32, String>;

pub fn name(message: &LinkMessage) -> Option<(u32, String)> {
    message.attributes.iter().find_map(|attribute| match attribute {
        LinkAttribute::IfName(name) => Some((message.header.index, name.clone())),
        _ => None,
    })
}

pub fn link(message: &LinkMessage, names: &Names) -> Link {
    let mut link = Link {
        index: message.header.index,
        kind: match message.header.link_layer_type {
            LinkLayerType::Ether => "ethernet".to_owned(),
            LinkLayerType::Loopback => "loopback".to_owned(),
            other => format!("{other:?}").to_lowercase(),
        },
        up: message.header.flags.contains(LinkFlags::Up),
        carrier: message.header.flags.contains(LinkFlags::LowerUp),
        ..Link::default()
    };
    let (mut parent, mut data) = (String::new(), None);
    for attribute in &message.attributes {
        match attribute {
            LinkAttribute::Mtu(mtu) => link.mtu = *mtu,
            LinkAttribute::CarrierDownCount(losses) => link.carrier_losses = *losses,
            LinkAttribute::Address(bytes) if bytes.iter().any(|byte| *byte != 0) => link.hardware_address = hardware_address(bytes),
            LinkAttribute::Group(group) => link.owned = *group == u32::from(PROTOCOL),
            LinkAttribute::Controller(index) => link.master = names.get(index).cloned(),
            LinkAttribute::Link(index) => parent = names.get(index).cloned().unwrap_or_default(),
            LinkAttribute::LinkInfo(infos) => {
                for info in infos {
                    match info {
                        LinkInfo::Kind(kind) => link.kind = kind_name(kind),
                        LinkInfo::Data(given) => data = Some(given),
                        _ => {}
                    }
                }
            }
            _ => {}
        }
    }
    link.ipv6_mtu = ipv6_mtu(message);
    let flags =
        ipv6(message).and_then(|parts| parts.iter().find_map(|part| if let AfSpecInet6::Flags(flags) = part { Some(flags) } else { None }));
    link.managed = flags.is_some_and(|flags| flags.contains(Inet6IfaceFlags::RaManaged));
    link.shape = data.and_then(|data| shape(data, parent, names));
    link
}

/// What IPv6 sends at most on a link: less than its MTU where a router asks for that (RFC 4861, 4.6.4).
pub fn ipv6_mtu(message: &LinkMessage) -> Option<u32> {
    let of_link =
        message.attributes.iter().find_map(|attribute| if let LinkAttribute::Mtu(mtu) = attribute { Some(*mtu) } else { None })?;
    let parts = ipv6(message)?;
    let settings = parts.iter().find_map(|part| if let AfSpecInet6::DevConf(settings) = part { Some(settings) } else { None })?;
    // A link that is down has none.
    u32::try_from(settings.mtu6).ok().filter(|mtu| *mtu > 0 && *mtu < of_link)
}

/// What IPv6 knows of a link.
fn ipv6(message: &LinkMessage) -> Option<&[AfSpecInet6]> {
    let families = message.attributes.iter().find_map(|attribute| match attribute {
        LinkAttribute::AfSpecUnspec(families) => Some(families),
        _ => None,
    })?;
    families.iter().find_map(|family| if let AfSpecUnspec::Inet6(parts) = family { Some(parts.as_slice()) } else { None })
}

fn kind_name(kind: &InfoKind) -> String {
    match kind {
        InfoKind::Other(name) => name.clone(),
        known => format!("{known:?}").to_lowercase(),
    }
}

fn shape(data: &InfoData, parent: String, names: &Names) -> Option<Shape> {
    match data {
        InfoData::Vlan(infos) => {
            let id = infos.iter().find_map(|info| if let InfoVlan::Id(id) = info { Some(*id) } else { None })?;
            Some(Shape::Vlan(VlanShape { id, parent }))
        }
        InfoData::Bond(infos) => bond(infos, names).map(Shape::Bond),
        InfoData::Bridge(infos) => {
            let mut bridge = BridgeShape { stp: false, vlan_filtering: false };
            for info in infos {
                match info {
                    InfoBridge::StpState(state) => bridge.stp = *state != BridgeStpState::Disabled,
                    InfoBridge::VlanFiltering(filtering) => bridge.vlan_filtering = *filtering,
                    _ => {}
                }
            }
            Some(Shape::Bridge(bridge))
        }
        _ => None,
    }
}

/// `None` for one in a mode or with a policy that is younger than this program.
fn bond(infos: &[InfoBond], names: &Names) -> Option<BondShape> {
    let mut bond = BondShape {
        mode: BondMode::BalanceRr,
        mii_monitor: 0,
        up_delay: 0,
        down_delay: 0,
        lacp_rate: LacpRate::Slow,
        transmit_hash_policy: TransmitHashPolicy::Layer2,
        min_links: 0,
        primary: None,
        active_member: None,
    };
    for info in infos {
        match info {
            InfoBond::Mode(mode) => bond.mode = MODES.iter().find(|(_, kernel)| kernel == mode)?.0,
            InfoBond::MiiMon(milliseconds) => bond.mii_monitor = *milliseconds,
            InfoBond::UpDelay(milliseconds) => bond.up_delay = *milliseconds,
            InfoBond::DownDelay(milliseconds) => bond.down_delay = *milliseconds,
            InfoBond::AdLacpRate(rate) => bond.lacp_rate = RATES.iter().find(|(_, kernel)| kernel == rate)?.0,
            InfoBond::XmitHashPolicy(policy) => bond.transmit_hash_policy = POLICIES.iter().find(|(_, kernel)| kernel == policy)?.0,
            InfoBond::MinLinks(links) => bond.min_links = *links,
            InfoBond::Primary(index) => bond.primary = names.get(index).cloned(),
            InfoBond::ActivePort(index) => bond.active_member = names.get(index).cloned(),
            _ => {}
        }
    }
    Some(bond)
}

/// The config's words and the kernel's.
pub const MODES: [(BondMode, KernelMode); 7] = [
    (BondMode::BalanceRr, KernelMode::BalanceRr),
    (BondMode::ActiveBackup, KernelMode::ActiveBackup),
    (BondMode::BalanceXor, KernelMode::BalanceXor),
    (BondMode::Broadcast, KernelMode::Broadcast),
    (BondMode::Lacp, KernelMode::Ieee8023Ad),
    (BondMode::BalanceTlb, KernelMode::BalanceTlb),
    (BondMode::BalanceAlb, KernelMode::BalanceAlb),
];

pub const RATES: [(LacpRate, BondLacpRate); 2] = [(LacpRate::Slow, BondLacpRate::Slow), (LacpRate::Fast, BondLacpRate::Fast)];

pub const POLICIES: [(TransmitHashPolicy, BondXmitHashPolicy); 6] = [
    (TransmitHashPolicy::Layer2, BondXmitHashPolicy::Layer2),
    (TransmitHashPolicy::Layer23, BondXmitHashPolicy::Layer23),
    (TransmitHashPolicy::Layer34, BondXmitHashPolicy::Layer34),
    (TransmitHashPolicy::Encap23, BondXmitHashPolicy::Encap23),
    (TransmitHashPolicy::Encap34, BondXmitHashPolicy::Encap34),
    (TransmitHashPolicy::VlanSource, BondXmitHashPolicy::VlanSrcMac),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bond_is_read_with_the_names_of_its_members() {
        let names = BTreeMap::from([(2, "eth0".to_owned()), (3, "eth1".to_owned()), (9, "bond0".to_owned())]);
        let infos = vec![
            InfoBond::Mode(KernelMode::ActiveBackup),
            InfoBond::MiiMon(100),
            InfoBond::UpDelay(200),
            InfoBond::Primary(2),
            InfoBond::ActivePort(3),
            InfoBond::XmitHashPolicy(BondXmitHashPolicy::Layer34),
            InfoBond::AdLacpRate(BondLacpRate::Slow),
        ];
        let mut message = LinkMessage::default();
        message.header.index = 9;
        message.header.link_layer_type = LinkLayerType::Ether;
        message.attributes = vec![
            LinkAttribute::IfName("bond0".to_owned()),
            LinkAttribute::Group(u32::from(PROTOCOL)),
            LinkAttribute::LinkInfo(vec![LinkInfo::Kind(InfoKind::Bond), LinkInfo::Data(InfoData::Bond(infos))]),
        ];
        let link = link(&message, &names);
        let Some(Shape::Bond(bond)) = &link.shape else { panic!("{link:?}") };
        assert_eq!((link.kind.as_str(), link.owned, bond.mode, bond.up_delay), ("bond", true, BondMode::ActiveBackup, 200));
        assert_eq!((bond.primary.as_deref(), bond.active_member.as_deref()), (Some("eth0"), Some("eth1")));
        assert_eq!(bond.transmit_hash_policy, TransmitHashPolicy::Layer34);
    }
}
