//! Reads the kernel's side of the overlay.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use anyhow::Context;
use futures::TryStreamExt;
use ipnet::IpNet;
use netlink_packet_route::AddressFamily;
use netlink_packet_route::address::{AddressAttribute, AddressMessage};
use netlink_packet_route::link::{InfoData, InfoKind, InfoVxlan, LinkAttribute, LinkFlags, LinkInfo, LinkMessage};
use netlink_packet_route::neighbour::{NeighbourAddress, NeighbourAttribute, NeighbourMessage, NeighbourState};
use netlink_packet_route::route::{RouteAddress, RouteAttribute, RouteHeader, RouteMessage, RouteProtocol, RouteType};
use rtnetlink::{Handle, RouteMessageBuilder};

use super::state::{ALIAS, DEVICES, Hop, Is, Kernel, Kind, PROTOCOL, Present, Tables, Underlay};
use super::wireguard;
use crate::controllers::network::ipv6_mtu;
use machine::HardwareAddress;

/// Metric of a route that was added without one, by family.
const METRIC: [u32; 2] = [0, 1024];

pub async fn read(netlink: &Handle) -> anyhow::Result<Kernel> {
    let links: Vec<LinkMessage> = netlink.link().get().execute().try_collect().await.context("listing links")?;
    let addresses: Vec<AddressMessage> = netlink.address().get().execute().try_collect().await.context("listing addresses")?;
    let mut kernel = Kernel::default();
    // Our devices by their index.
    let mut ours: BTreeMap<u32, (Kind, &'static str)> = BTreeMap::new();
    // What each other link carries of IPv4, and of IPv6.
    let mut mtus: BTreeMap<u32, (u32, u32)> = BTreeMap::new();
    for link in &links {
        let name = text(link, |attribute| match attribute {
            LinkAttribute::IfName(name) => Some(name),
            _ => None,
        });
        match DEVICES.iter().find(|(.., device)| *device == name) {
            Some((kind, _, device)) => {
                let mut present = present(link);
                if present.ours {
                    ours.insert(link.header.index, (*kind, device));
                    if let Is::Wireguard { .. } = present.is {
                        wireguard::read(device, &mut present, &mut kernel.tables).await?;
                    }
                }
                kernel.devices.insert(device, present);
            }
            None if link.header.flags.contains(LinkFlags::Loopback) => {}
            None => {
                mtus.insert(link.header.index, (mtu(link), ipv6_mtu(link).unwrap_or_else(|| mtu(link))));
            }
        }
    }
    for (index, address) in addresses.iter().filter_map(address) {
        if let Some(device) = ours.get(&index).and_then(|(_, device)| kernel.devices.get_mut(device)) {
            device.addresses.insert(address);
        } else if let Some((ipv4, ipv6)) = mtus.get(&index) {
            let mtu = if address.addr().is_ipv6() { *ipv6 } else { *ipv4 };
            kernel.underlay.insert(address.addr(), Underlay { link: index, mtu, network: address.trunc() });
        }
    }
    read_routes(netlink, &ours, &mut kernel).await?;
    if !ours.is_empty() {
        read_neighbours(netlink, &ours, &mut kernel.tables).await?;
    }
    Ok(kernel)
}

/// A link's index.
pub async fn index(netlink: &Handle, name: &str) -> anyhow::Result<u32> {
    let looking = || format!("looking for link {name}");
    let mut found = std::pin::pin!(netlink.link().get().match_name(name.to_owned()).execute());
    Ok(found.try_next().await.with_context(looking)?.with_context(looking)?.header.index)
}

fn text<'a>(link: &'a LinkMessage, pick: impl Fn(&'a LinkAttribute) -> Option<&'a String>) -> &'a str {
    link.attributes.iter().find_map(pick).map(String::as_str).unwrap_or_default()
}

fn mtu(link: &LinkMessage) -> u32 {
    let mtu = |attribute: &LinkAttribute| match attribute {
        LinkAttribute::Mtu(mtu) => Some(*mtu),
        _ => None,
    };
    link.attributes.iter().find_map(mtu).unwrap_or_default()
}

fn present(link: &LinkMessage) -> Present {
    let alias = text(link, |attribute| match attribute {
        LinkAttribute::IfAlias(alias) => Some(alias),
        _ => None,
    });
    let mut present = Present {
        ours: alias == ALIAS,
        is: Is::Foreign,
        port: 0,
        mtu: mtu(link),
        up: link.header.flags.contains(LinkFlags::Up),
        addresses: BTreeSet::new(),
    };
    let bytes = link.attributes.iter().find_map(|attribute| match attribute {
        LinkAttribute::Address(bytes) => Some(bytes.as_slice()),
        _ => None,
    });
    let hardware_address = HardwareAddress(bytes.and_then(|bytes| bytes.try_into().ok()).unwrap_or_default());
    let infos = link.attributes.iter().filter_map(|attribute| match attribute {
        LinkAttribute::LinkInfo(infos) => Some(infos),
        _ => None,
    });
    for info in infos.flatten() {
        match info {
            LinkInfo::Kind(InfoKind::Wireguard) => present.is = Is::Wireguard { public_key: None },
            LinkInfo::Data(InfoData::Vxlan(tunnel)) => read_tunnel(tunnel, hardware_address, &mut present),
            _ => {}
        }
    }
    present
}

fn read_tunnel(tunnel: &[InfoVxlan], hardware_address: HardwareAddress, present: &mut Present) {
    let (mut vni, mut local, mut foreign) = (0, None, false);
    for attribute in tunnel {
        match attribute {
            InfoVxlan::Id(id) => vni = *id,
            InfoVxlan::Port(port) => present.port = *port,
            InfoVxlan::Local(address) => local = Some(IpAddr::V4(*address)),
            InfoVxlan::Local6(address) => local = Some(IpAddr::V6(*address)),
            InfoVxlan::Learning(true) | InfoVxlan::CollectMetadata(true) => foreign = true,
            _ => {}
        }
    }
    present.is = if foreign { Is::Foreign } else { Is::Vxlan { vni, hardware_address, local } };
}

fn address(message: &AddressMessage) -> Option<(u32, IpNet)> {
    let (mut local, mut remote) = (None, None);
    for attribute in &message.attributes {
        match attribute {
            // On a point-to-point link Address is the peer's; elsewhere, and with IPv6, it is the link's own.
            AddressAttribute::Local(ip) => local = Some(*ip),
            AddressAttribute::Address(ip) => remote = Some(*ip),
            _ => {}
        }
    }
    Some((message.header.index, IpNet::new(local.or(remote)?, message.header.prefix_len).ok()?))
}

/// Ours, and those of others that ours would meet: the kernel tells routes apart by destination and metric.
async fn read_routes(netlink: &Handle, ours: &BTreeMap<u32, (Kind, &'static str)>, kernel: &mut Kernel) -> anyhow::Result<()> {
    let requests = [RouteMessageBuilder::<std::net::Ipv4Addr>::new().build(), RouteMessageBuilder::<std::net::Ipv6Addr>::new().build()];
    for (metric, request) in METRIC.into_iter().zip(requests) {
        let messages: Vec<RouteMessage> = netlink.route().get(request).execute().try_collect().await.context("listing routes")?;
        for found in messages.iter().filter_map(|message| route(message, metric)) {
            match hop(&found, ours.get(&found.link)) {
                Some(hop) => drop(kernel.tables.routes.insert(found.to, hop)),
                None => drop(kernel.foreign_routes.insert(found.to)),
            }
        }
    }
    Ok(())
}

/// Where a route of ours leads to; none for another's.
fn hop(found: &Found, device: Option<&(Kind, &'static str)>) -> Option<Hop> {
    match (found.ours, device, found.via) {
        (true, Some((Kind::Vxlan, device)), Some(via)) => Some(Hop::Neighbour { device, via }),
        (true, Some((Kind::Wireguard, device)), None) => Some(Hop::Device { device }),
        (true, None, Some(via)) => Some(Hop::Machine { link: found.link, via }),
        _ => None,
    }
}

struct Found {
    to: IpNet,
    via: Option<IpAddr>,
    link: u32,
    ours: bool,
}

/// A route of the main table with this metric that has a destination.
fn route(message: &RouteMessage, metric: u32) -> Option<Found> {
    let header = &message.header;
    if header.table != RouteHeader::RT_TABLE_MAIN || header.kind != RouteType::Unicast {
        return None;
    }
    let ours = header.protocol == RouteProtocol::Other(PROTOCOL);
    let (mut to, mut via, mut link, mut priority) = (None, None, 0, 0);
    for attribute in &message.attributes {
        match attribute {
            RouteAttribute::Destination(destination) => to = ip(destination),
            RouteAttribute::Gateway(gateway) => via = ip(gateway),
            RouteAttribute::Priority(found) => priority = *found,
            RouteAttribute::Oif(index) => link = *index,
            _ => {}
        }
    }
    let to = IpNet::new(to?, header.destination_prefix_length).ok()?;
    (priority == metric).then_some(Found { to, via, link, ours })
}

fn ip(address: &RouteAddress) -> Option<IpAddr> {
    match address {
        RouteAddress::Inet(ip) => Some((*ip).into()),
        RouteAddress::Inet6(ip) => Some((*ip).into()),
        _ => None,
    }
}

/// Permanent entries on our devices; what the kernel keeps for itself (of groups) is not permanent.
async fn read_neighbours(netlink: &Handle, ours: &BTreeMap<u32, (Kind, &'static str)>, tables: &mut Tables) -> anyhow::Result<()> {
    for family in [AddressFamily::Inet, AddressFamily::Inet6, AddressFamily::Bridge] {
        let request = netlink.neighbours().get().set_address_family(family);
        let messages: Vec<NeighbourMessage> = request.execute().try_collect().await.context("listing neighbours")?;
        for message in &messages {
            let Some(&(_, device)) = ours.get(&message.header.ifindex).filter(|_| message.header.state == NeighbourState::Permanent) else {
                continue;
            };
            let Some((address, hardware_address)) = neighbour(message) else { continue };
            if message.header.family == AddressFamily::Bridge {
                tables.forwards.insert((device, hardware_address), address);
            } else {
                tables.neighbours.insert((device, address), hardware_address);
            }
        }
    }
    Ok(())
}

fn neighbour(message: &NeighbourMessage) -> Option<(IpAddr, HardwareAddress)> {
    let (mut address, mut hardware_address) = (None, None);
    for attribute in &message.attributes {
        match attribute {
            NeighbourAttribute::Destination(destination) => address = destination_ip(destination),
            NeighbourAttribute::LinkLayerAddress(bytes) => hardware_address = bytes.as_slice().try_into().ok().map(HardwareAddress),
            _ => {}
        }
    }
    Some((address?, hardware_address?))
}

/// Of a forwarding entry the crate knows the bytes only.
fn destination_ip(destination: &NeighbourAddress) -> Option<IpAddr> {
    match destination {
        NeighbourAddress::Inet(ip) => Some((*ip).into()),
        NeighbourAddress::Inet6(ip) => Some((*ip).into()),
        NeighbourAddress::Other(bytes) => match bytes.len() {
            4 => <[u8; 4]>::try_from(bytes.as_slice()).ok().map(IpAddr::from),
            16 => <[u8; 16]>::try_from(bytes.as_slice()).ok().map(IpAddr::from),
            _ => None,
        },
        _ => None,
    }
}
