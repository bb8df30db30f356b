//! The netlink messages that change the kernel's side of the overlay.

use std::net::IpAddr;

use ipnet::IpNet;
use netlink_packet_core::{NLM_F_CREATE, NLM_F_EXCL, NLM_F_REPLACE, NLM_F_REQUEST, NetlinkMessage};
use netlink_packet_route::address::{AddressAttribute, AddressHeaderFlags, AddressMessage, AddressProtocol};
use netlink_packet_route::link::{AfSpecInet6, AfSpecUnspec, In6AddrGenMode, LinkAttribute, LinkMessage};
use netlink_packet_route::neighbour::{NeighbourAddress, NeighbourAttribute, NeighbourFlags, NeighbourMessage, NeighbourState};
use netlink_packet_route::route::{
    RouteAddress, RouteAttribute, RouteFlags, RouteHeader, RouteMessage, RouteProtocol, RouteScope, RouteType,
};
use netlink_packet_route::{AddressFamily, RouteNetlinkMessage};
use nix::errno::Errno;
use rtnetlink::{LinkMessageBuilder, LinkUnspec, LinkVxlan, LinkWireguard};

use super::state::{ALIAS, Device, Entry, Hop, PROTOCOL, Verb, Wraps};
use machine::HardwareAddress;

/// One message, and how to speak of it.
#[derive(Debug)]
pub struct Message<P = RouteNetlinkMessage> {
    pub netlink: NetlinkMessage<P>,
    pub what: String,
    /// Answers that mean that it is done already.
    pub fine: &'static [Errno],
}

const GONE: &[Errno] = &[Errno::ESRCH, Errno::ENOENT, Errno::EADDRNOTAVAIL, Errno::ENODEV];

const NEW: u16 = NLM_F_CREATE | NLM_F_EXCL;

fn message(payload: RouteNetlinkMessage, flags: u16, what: String, fine: &'static [Errno]) -> Message {
    let mut netlink = NetlinkMessage::from(payload);
    netlink.header.flags = NLM_F_REQUEST | flags;
    Message { netlink, what, fine }
}

/// Makes, marks and raises a device: sent together, so that there is none of ours without its mark. Sources and next hops in the pod
/// networks are all that it needs, so it gets no link-local address.
pub fn add_device(name: &str, device: &Device) -> Vec<Message> {
    let what = |doing: &str| format!("{doing} link {name}");
    let made = match device.wraps {
        Wraps::Vxlan { vni, hardware_address } => {
            let tunnel = local(LinkVxlan::new(name, vni).port(device.port).learning(false), device.local);
            tunnel.address(hardware_address.0.to_vec()).mtu(device.mtu).build()
        }
        Wraps::Wireguard => LinkWireguard::new(name).mtu(device.mtu).build(),
    };
    let mode = AfSpecUnspec::Inet6(vec![AfSpecInet6::AddrGenMode(In6AddrGenMode::None)]);
    let marked = by_name(name).append_extra_attribute(LinkAttribute::IfAlias(ALIAS.to_owned())).build();
    let addressless = by_name(name).append_extra_attribute(LinkAttribute::AfSpecUnspec(vec![mode])).build();
    let raised = by_name(name).up().build();
    let set = |link: LinkMessage, doing| message(RouteNetlinkMessage::SetLink(link), 0, what(doing), &[]);
    // A kernel without IPv6 (ipv6.disable=1) knows no such mode, and has no such addresses.
    let mode = Message { fine: &[Errno::EAFNOSUPPORT, Errno::EOPNOTSUPP], ..set(addressless, "setting the address mode of") };
    vec![message(RouteNetlinkMessage::NewLink(made), NEW, what("adding"), &[]), set(marked, "marking"), mode, set(raised, "raising")]
}

/// The source of its packets where it has one, its MTU, and up.
pub fn change_device(name: &str, device: &Device) -> Vec<Message> {
    let rest = by_name(name).mtu(device.mtu).up().build();
    let rest = message(RouteNetlinkMessage::SetLink(rest), 0, format!("changing link {name}"), &[]);
    match device.wraps {
        Wraps::Vxlan { .. } => {
            let tunnel = local(LinkMessageBuilder::<LinkVxlan>::new(name), device.local).build();
            let source = format!("changing the source address of link {name}");
            vec![message(RouteNetlinkMessage::NewLink(tunnel), 0, source, &[]), rest]
        }
        Wraps::Wireguard => vec![rest],
    }
}

pub fn remove_device(name: &str) -> Vec<Message> {
    vec![message(RouteNetlinkMessage::DelLink(by_name(name).build()), 0, format!("removing link {name}"), GONE)]
}

fn by_name(name: &str) -> LinkMessageBuilder<LinkUnspec> {
    LinkUnspec::new_with_name(name)
}

fn local(builder: LinkMessageBuilder<LinkVxlan>, address: IpAddr) -> LinkMessageBuilder<LinkVxlan> {
    match address {
        IpAddr::V4(address) => builder.local(address),
        IpAddr::V6(address) => builder.local6(address),
    }
}

pub fn add_address(name: &str, index: u32, address: IpAddr) -> Message {
    let mut body = address_message(index, IpNet::from(address));
    body.attributes.push(AddressAttribute::Protocol(AddressProtocol::Other(PROTOCOL)));
    message(RouteNetlinkMessage::NewAddress(body), NEW, format!("adding address {address} to link {name}"), &[Errno::EEXIST])
}

pub fn remove_address(name: &str, index: u32, address: IpNet) -> Message {
    let body = address_message(index, address);
    message(RouteNetlinkMessage::DelAddress(body), 0, format!("removing address {address} from link {name}"), GONE)
}

fn address_message(index: u32, address: IpNet) -> AddressMessage {
    let mut body = AddressMessage::default();
    body.header.family = family(address.addr());
    body.header.prefix_len = address.prefix_len();
    body.header.index = index;
    // The address is this machine's by the Node's spec: nobody is asked whether it is in use.
    body.header.flags = AddressHeaderFlags::Nodad;
    body.attributes = vec![AddressAttribute::Local(address.addr()), AddressAttribute::Address(address.addr())];
    body
}

impl Verb {
    pub fn doing(self) -> &'static str {
        match self {
            Verb::Add => "adding",
            Verb::Replace => "changing",
            Verb::Remove => "removing",
        }
    }

    fn flags(self) -> u16 {
        match self {
            Verb::Add => NEW,
            Verb::Replace => NLM_F_CREATE | NLM_F_REPLACE,
            Verb::Remove => 0,
        }
    }

    fn fine(self) -> &'static [Errno] {
        if self == Verb::Remove { GONE } else { &[] }
    }
}

/// An operation on a table; `index` is that of the link that the entry is on. None for what is no matter of rtnetlink's.
pub fn operation(verb: Verb, entry: &Entry, index: u32) -> Option<Message> {
    match entry {
        Entry::Route { to, hop } => Some(change_route(verb, *to, *hop, index)),
        Entry::Neighbour { device, address, hardware_address } => {
            let body = neighbour(index, family(*address), NeighbourFlags::empty(), *address, *hardware_address);
            Some(change_neighbour(verb, body, format!("neighbour {address} on {device}")))
        }
        Entry::Forward { device, hardware_address, to } => {
            // The device's own table (`self`), not that of a bridge above it.
            let body = neighbour(index, AddressFamily::Bridge, NeighbourFlags::Own, *to, *hardware_address);
            Some(change_neighbour(verb, body, format!("forwarding of {hardware_address} to {to} on {device}")))
        }
        Entry::Secure { .. } => None,
    }
}

fn change_route(verb: Verb, to: IpNet, hop: Hop, index: u32) -> Message {
    let body = route(index, to, hop);
    let payload = if verb == Verb::Remove { RouteNetlinkMessage::DelRoute(body) } else { RouteNetlinkMessage::NewRoute(body) };
    let by = match hop {
        Hop::Neighbour { device, .. } | Hop::Device { device } => format!("on {device}"),
        Hop::Machine { via, .. } => format!("by {via}"),
    };
    message(payload, verb.flags(), format!("{} route to {to} {by}", verb.doing()), verb.fine())
}

fn route(index: u32, to: IpNet, hop: Hop) -> RouteMessage {
    let address = |address: IpAddr| match address {
        IpAddr::V4(address) => RouteAddress::Inet(address),
        IpAddr::V6(address) => RouteAddress::Inet6(address),
    };
    let mut body = RouteMessage::default();
    body.header.address_family = family(to.addr());
    body.header.destination_prefix_length = to.prefix_len();
    body.header.table = RouteHeader::RT_TABLE_MAIN;
    body.header.protocol = RouteProtocol::Other(PROTOCOL);
    body.header.kind = RouteType::Unicast;
    body.attributes = vec![RouteAttribute::Destination(address(to.addr()))];
    match hop {
        Hop::Neighbour { via, .. } => {
            // The next hop is in no network of the device's: it is on the link by decree.
            body.header.flags = RouteFlags::Onlink;
            body.attributes.push(RouteAttribute::Gateway(address(via)));
        }
        Hop::Machine { via, .. } => body.attributes.push(RouteAttribute::Gateway(address(via))),
        Hop::Device { .. } => body.header.scope = RouteScope::Link,
    }
    body.attributes.push(RouteAttribute::Oif(index));
    body
}

fn change_neighbour(verb: Verb, body: NeighbourMessage, what: String) -> Message {
    let payload = if verb == Verb::Remove { RouteNetlinkMessage::DelNeighbour(body) } else { RouteNetlinkMessage::NewNeighbour(body) };
    message(payload, verb.flags(), format!("{} {what}", verb.doing()), verb.fine())
}

fn neighbour(index: u32, family: AddressFamily, flags: NeighbourFlags, to: IpAddr, hardware_address: HardwareAddress) -> NeighbourMessage {
    let mut body = NeighbourMessage::default();
    body.header.family = family;
    body.header.ifindex = index;
    body.header.state = NeighbourState::Permanent;
    body.header.kind = RouteType::Unspec;
    body.header.flags = flags;
    let to = match to {
        IpAddr::V4(to) => NeighbourAddress::Inet(to),
        IpAddr::V6(to) => NeighbourAddress::Inet6(to),
    };
    body.attributes = vec![NeighbourAttribute::Destination(to), NeighbourAttribute::LinkLayerAddress(hardware_address.0.to_vec())];
    body
}

fn family(address: IpAddr) -> AddressFamily {
    match address {
        IpAddr::V4(_) => AddressFamily::Inet,
        IpAddr::V6(_) => AddressFamily::Inet6,
    }
}
