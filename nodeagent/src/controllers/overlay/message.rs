//! The netlink messages that change the kernel's side of the overlay.

use std::net::IpAddr;

use ipnet::IpNet;
use netlink_packet_core::{NLM_F_CREATE, NLM_F_EXCL, NLM_F_REPLACE, NLM_F_REQUEST, NetlinkMessage};
use netlink_packet_route::address::{AddressAttribute, AddressHeaderFlags, AddressMessage, AddressProtocol};
use netlink_packet_route::link::{AfSpecInet6, AfSpecUnspec, In6AddrGenMode, LinkAttribute, LinkMessage};
use netlink_packet_route::neighbour::{NeighbourAddress, NeighbourAttribute, NeighbourFlags, NeighbourMessage, NeighbourState};
use netlink_packet_route::route::{RouteAddress, RouteAttribute, RouteFlags, RouteHeader, RouteMessage, RouteProtocol, RouteType};
use netlink_packet_route::{AddressFamily, RouteNetlinkMessage};
use nix::errno::Errno;
use rtnetlink::{LinkMessageBuilder, LinkUnspec, LinkVxlan};

use super::state::{ALIAS, Device, Entry, Operation, PROTOCOL, Verb};

/// One message, and how to speak of it.
#[derive(Debug)]
pub struct Message {
    pub netlink: NetlinkMessage<RouteNetlinkMessage>,
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
    let made = vxlan(name, device).address(device.hardware_address.0.to_vec()).mtu(device.mtu).build();
    let mode = AfSpecUnspec::Inet6(vec![AfSpecInet6::AddrGenMode(In6AddrGenMode::None)]);
    let marked = by_name(name).append_extra_attribute(LinkAttribute::IfAlias(ALIAS.to_owned())).build();
    let addressless = by_name(name).append_extra_attribute(LinkAttribute::AfSpecUnspec(vec![mode])).build();
    let raised = by_name(name).up().build();
    let set = |link: LinkMessage, doing| message(RouteNetlinkMessage::SetLink(link), 0, what(doing), &[]);
    // A kernel without IPv6 (ipv6.disable=1) knows no such mode, and has no such addresses.
    let mode = Message { fine: &[Errno::EAFNOSUPPORT, Errno::EOPNOTSUPP], ..set(addressless, "setting the address mode of") };
    vec![message(RouteNetlinkMessage::NewLink(made), NEW, what("adding"), &[]), set(marked, "marking"), mode, set(raised, "raising")]
}

/// The source of its packets, its MTU, and up.
pub fn change_device(name: &str, device: &Device) -> Vec<Message> {
    let tunnel = local(LinkMessageBuilder::<LinkVxlan>::new(name), device.local).build();
    let rest = by_name(name).mtu(device.mtu).up().build();
    vec![
        message(RouteNetlinkMessage::NewLink(tunnel), 0, format!("changing the source address of link {name}"), &[]),
        message(RouteNetlinkMessage::SetLink(rest), 0, format!("changing link {name}"), &[]),
    ]
}

pub fn remove_device(name: &str) -> Vec<Message> {
    vec![message(RouteNetlinkMessage::DelLink(by_name(name).build()), 0, format!("removing link {name}"), GONE)]
}

fn by_name(name: &str) -> LinkMessageBuilder<LinkUnspec> {
    LinkUnspec::new_with_name(name)
}

fn vxlan(name: &str, device: &Device) -> LinkMessageBuilder<LinkVxlan> {
    local(LinkVxlan::new(name, device.vni).port(device.port).learning(false), device.local)
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

/// An operation on the table of a device.
pub fn operation(operation: Operation, index: u32) -> Message {
    let flags = match operation.verb {
        Verb::Add => NEW,
        Verb::Replace => NLM_F_CREATE | NLM_F_REPLACE,
        Verb::Remove => 0,
    };
    let (doing, fine) = match operation.verb {
        Verb::Add => ("adding", [].as_slice()),
        Verb::Replace => ("changing", [].as_slice()),
        Verb::Remove => ("removing", GONE),
    };
    let removes = operation.verb == Verb::Remove;
    match operation.entry {
        Entry::Route { device, to, via } => {
            let body = route(index, to, via);
            let payload = if removes { RouteNetlinkMessage::DelRoute(body) } else { RouteNetlinkMessage::NewRoute(body) };
            message(payload, flags, format!("{doing} route to {to} on {device}"), fine)
        }
        Entry::Neighbour { device, address, hardware_address } => {
            let body = neighbour(index, family(address), NeighbourFlags::empty(), address, hardware_address.0);
            let payload = if removes { RouteNetlinkMessage::DelNeighbour(body) } else { RouteNetlinkMessage::NewNeighbour(body) };
            message(payload, flags, format!("{doing} neighbour {address} on {device}"), fine)
        }
        Entry::Forward { device, hardware_address, to } => {
            // The device's own table (`self`), not that of a bridge above it.
            let body = neighbour(index, AddressFamily::Bridge, NeighbourFlags::Own, to, hardware_address.0);
            let payload = if removes { RouteNetlinkMessage::DelNeighbour(body) } else { RouteNetlinkMessage::NewNeighbour(body) };
            message(payload, flags, format!("{doing} forwarding of {hardware_address} to {to} on {device}"), fine)
        }
    }
}

fn route(index: u32, to: IpNet, via: IpAddr) -> RouteMessage {
    let address = |address: IpAddr| match address {
        IpAddr::V4(address) => RouteAddress::Inet(address),
        IpAddr::V6(address) => RouteAddress::Inet6(address),
    };
    let mut body = RouteMessage::default();
    body.header.address_family = family(via);
    body.header.destination_prefix_length = to.prefix_len();
    body.header.table = RouteHeader::RT_TABLE_MAIN;
    body.header.protocol = RouteProtocol::Other(PROTOCOL);
    body.header.kind = RouteType::Unicast;
    // The next hop is in no network of the device's: it is on the link by decree.
    body.header.flags = RouteFlags::Onlink;
    body.attributes =
        vec![RouteAttribute::Destination(address(to.addr())), RouteAttribute::Gateway(address(via)), RouteAttribute::Oif(index)];
    body
}

fn neighbour(index: u32, family: AddressFamily, flags: NeighbourFlags, to: IpAddr, hardware_address: [u8; 6]) -> NeighbourMessage {
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
    body.attributes = vec![NeighbourAttribute::Destination(to), NeighbourAttribute::LinkLayerAddress(hardware_address.to_vec())];
    body
}

fn family(address: IpAddr) -> AddressFamily {
    match address {
        IpAddr::V4(_) => AddressFamily::Inet,
        IpAddr::V6(_) => AddressFamily::Inet6,
    }
}
