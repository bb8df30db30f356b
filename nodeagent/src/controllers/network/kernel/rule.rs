//! Routing rules as rtnetlink tells of them, and how it is told of ours.

use ipnet::IpNet;
use netlink_packet_route::AddressFamily;
use netlink_packet_route::route::RouteProtocol;
use netlink_packet_route::rule::{RuleAction, RuleAttribute, RuleFlags, RuleMessage};

use super::super::PROTOCOL;
use crate::resources::link::RoutingRule;

/// `None` for a rule that does something else than to send to a table, or that asks for more than a config can.
pub fn rule(message: &RuleMessage) -> Option<RoutingRule> {
    let header = &message.header;
    let ipv4 = match header.family {
        AddressFamily::Inet => true,
        AddressFamily::Inet6 => false,
        _ => return None,
    };
    if header.action != RuleAction::ToTable || header.tos != 0 || header.flags.contains(RuleFlags::Invert) {
        return None;
    }
    let mut rule = RoutingRule { ipv4, table: u32::from(header.table), ..RoutingRule::default() };
    for attribute in &message.attributes {
        match attribute {
            RuleAttribute::Priority(priority) => rule.priority = *priority,
            RuleAttribute::Source(address) => rule.from = Some(IpNet::new(*address, header.src_len).ok()?),
            RuleAttribute::Destination(address) => rule.to = Some(IpNet::new(*address, header.dst_len).ok()?),
            RuleAttribute::Table(table) => rule.table = *table,
            RuleAttribute::Iifname(name) => rule.interface = Some(name.clone()),
            RuleAttribute::FwMark(mark) => rule.mark = *mark,
            RuleAttribute::FwMask(mask) => rule.mask = *mask,
            RuleAttribute::Protocol(protocol) => rule.owned = *protocol == RouteProtocol::Other(PROTOCOL),
            RuleAttribute::SuppressPrefixLen(u32::MAX) | RuleAttribute::SuppressIfGroup(u32::MAX) => {}
            RuleAttribute::SuppressPrefixLen(_)
            | RuleAttribute::SuppressIfGroup(_)
            | RuleAttribute::Oifname(_)
            | RuleAttribute::UidRange(_)
            | RuleAttribute::IpProtocol(_)
            | RuleAttribute::SourcePortRange(_)
            | RuleAttribute::DestinationPortRange(_)
            | RuleAttribute::TunId(_)
            | RuleAttribute::L3MDev(true) => return None,
            _ => {}
        }
    }
    Some(rule)
}

pub fn message(rule: &RoutingRule) -> RuleMessage {
    let mut message = RuleMessage::default();
    message.header.family = if rule.ipv4 { AddressFamily::Inet } else { AddressFamily::Inet6 };
    message.header.action = RuleAction::ToTable;
    message.attributes.push(RuleAttribute::Table(rule.table));
    message.attributes.push(RuleAttribute::Priority(rule.priority));
    message.attributes.push(RuleAttribute::Protocol(RouteProtocol::Other(PROTOCOL)));
    if let Some(from) = rule.from {
        message.header.src_len = from.prefix_len();
        message.attributes.push(RuleAttribute::Source(from.addr()));
    }
    if let Some(to) = rule.to {
        message.header.dst_len = to.prefix_len();
        message.attributes.push(RuleAttribute::Destination(to.addr()));
    }
    if let Some(interface) = &rule.interface {
        message.attributes.push(RuleAttribute::Iifname(interface.clone()));
    }
    if rule.mask != 0 {
        message.attributes.push(RuleAttribute::FwMark(rule.mark));
        message.attributes.push(RuleAttribute::FwMask(rule.mask));
    }
    message
}

/// A network of all addresses is none to the kernel.
pub fn narrow(network: Option<IpNet>) -> Option<IpNet> {
    network.filter(|network| network.prefix_len() > 0)
}

#[cfg(test)]
mod tests {
    use std::net::IpAddr;

    use super::*;

    #[test]
    fn what_is_told_is_read_back_and_what_is_not_understood_is_not_taken_for_ours() {
        let from: IpAddr = "192.0.2.10".parse().unwrap();
        let by_network =
            RoutingRule { ipv4: true, priority: 10, from: Some(from.into()), table: 100, owned: true, ..RoutingRule::default() };
        let by_mark = RoutingRule { interface: Some("eth0".to_owned()), mark: 0x100, mask: 0xff00, table: 70_000, ..by_network.clone() };
        for told in [by_network, by_mark] {
            assert_eq!(rule(&message(&told)), Some(told.clone()));
            for more in [RuleAttribute::TunId(1), RuleAttribute::Oifname("eth0".to_owned())] {
                let mut message = message(&told);
                message.attributes.push(more);
                assert_eq!(rule(&message), None);
            }
        }
    }
}
