//! The kernel's side: reads links, addresses, routes and rules by rtnetlink, and keeps the board's view of them fresh.

pub mod link;
pub mod rule;

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::time::Duration;

use anyhow::Context;
use futures::{StreamExt, TryStreamExt};
use ipnet::IpNet;
use machine::config::MAIN_TABLE;
use netlink_packet_route::AddressFamily;
use netlink_packet_route::address::{AddressAttribute, AddressHeaderFlags, AddressMessage, AddressProtocol};
use netlink_packet_route::link::LinkMessage;
use netlink_packet_route::route::{RouteAddress, RouteAttribute, RouteMessage, RouteProtocol, RouteType};
use netlink_packet_route::rule::RuleMessage;
use rtnetlink::{Handle, IpVersion, MulticastGroup, RouteMessageBuilder};

use super::{PROTOCOL, told};
use crate::node::Node;
use crate::resources::link::{Link, RoutingRule};
use crate::resources::network::{Address, AddressState, Route};

/// What the kernel has.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Kernel {
    pub links: BTreeMap<String, Link>,
    pub addresses: BTreeSet<Address>,
    pub routes: BTreeSet<Route>,
    /// Those by networks, marks and the links that packets come in by, whoever put them there.
    pub rules: BTreeSet<RoutingRule>,
}

pub fn connect() -> anyhow::Result<Handle> {
    let (connection, handle, _) = rtnetlink::new_connection().context("opening a netlink socket")?;
    tokio::spawn(connection);
    Ok(handle)
}

async fn links(netlink: &Handle) -> anyhow::Result<BTreeMap<String, Link>> {
    let messages: Vec<LinkMessage> = netlink.link().get().execute().try_collect().await.context("listing links")?;
    let names: BTreeMap<u32, String> = messages.iter().filter_map(link::name).collect();
    let named = messages.iter().filter_map(|message| Some((names.get(&message.header.index)?.clone(), link::link(message, &names))));
    Ok(named.collect())
}

fn names(links: &BTreeMap<String, Link>) -> BTreeMap<u32, String> {
    links.iter().map(|(name, link)| (link.index, name.clone())).collect()
}

/// Names of links by their index.
pub async fn link_names(netlink: &Handle) -> anyhow::Result<BTreeMap<u32, String>> {
    Ok(names(&links(netlink).await?))
}

/// Links, addresses, routes and rules as they are now.
pub async fn read(netlink: &Handle) -> anyhow::Result<Kernel> {
    let links = links(netlink).await?;
    let names = names(&links);

    let messages: Vec<AddressMessage> = netlink.address().get().execute().try_collect().await.context("listing addresses")?;
    let addresses = messages.iter().filter_map(|message| address(message, &names)).collect();

    let mut routes = BTreeSet::new();
    let requests = [RouteMessageBuilder::<std::net::Ipv4Addr>::new().build(), RouteMessageBuilder::<std::net::Ipv6Addr>::new().build()];
    for request in requests {
        let messages: Vec<RouteMessage> = netlink.route().get(request).execute().try_collect().await.context("listing routes")?;
        routes.extend(messages.iter().filter_map(|message| route(message, &names)));
    }
    let mut rules = BTreeSet::new();
    for version in [IpVersion::V4, IpVersion::V6] {
        let messages: Vec<RuleMessage> = netlink.rule().get(version).execute().try_collect().await.context("listing routing rules")?;
        rules.extend(messages.iter().filter_map(rule::rule));
    }
    Ok(Kernel { links, addresses, routes, rules })
}

/// Puts the kernel's view on the board now and whenever the kernel tells of a change, for as long as the agent lives.
pub async fn publish(node: Node) -> anyhow::Result<()> {
    let groups = [
        MulticastGroup::Link,
        MulticastGroup::Ipv4Ifaddr,
        MulticastGroup::Ipv6Ifaddr,
        // What routers say of a link.
        MulticastGroup::Ipv6Ifinfo,
        MulticastGroup::Ipv4Route,
        MulticastGroup::Ipv6Route,
        MulticastGroup::Ipv4Rule,
        MulticastGroup::Ipv6Rule,
    ];
    let (connection, netlink, mut messages) = rtnetlink::new_multicast_connection(&groups).context("listening to netlink")?;
    tokio::spawn(connection);
    let mut before = None;
    loop {
        let kernel = read(&netlink).await?;
        let first = Kernel { links: kernel.links.clone(), ..Kernel::default() };
        for (link, reason, message) in told::between(before.as_ref().unwrap_or(&first), &kernel) {
            node.events.emit(format!("link/{link}"), reason, message);
        }
        before = Some(kernel.clone());
        node.store.replace(kernel.links);
        node.store.replace(kernel.addresses.into_iter().map(|address| (address.name(), address)));
        node.store.replace(kernel.routes.into_iter().map(|route| (route.name(), route)));
        node.store.replace(kernel.rules.into_iter().filter(|rule| rule.owned).map(|rule| (rule.name(), rule)));
        messages.next().await.context("netlink closed")?;
        // Changes come in bursts (each pod is a dozen messages): read once for all that come close together.
        while let Ok(Some(_)) = tokio::time::timeout(Duration::from_millis(20), messages.next()).await {}
    }
}

/// `None` for an address of a link that is gone.
fn address(message: &AddressMessage, names: &BTreeMap<u32, String>) -> Option<Address> {
    let mut local = None;
    let mut remote = None;
    let mut owned = false;
    for attribute in &message.attributes {
        match attribute {
            // On a point-to-point link Address is the peer's; elsewhere, and with IPv6, it is the link's own.
            AddressAttribute::Local(ip) => local = Some(*ip),
            AddressAttribute::Address(ip) => remote = Some(*ip),
            AddressAttribute::Protocol(AddressProtocol::Other(PROTOCOL)) => owned = true,
            _ => {}
        }
    }
    let ip = local.or(remote)?;
    let address = IpNet::new(ip, message.header.prefix_len).ok()?;
    let flags = message.header.flags;
    // One that failed stays tentative.
    let state = if flags.contains(AddressHeaderFlags::Dadfailed) {
        AddressState::Dadfailed
    } else if flags.contains(AddressHeaderFlags::Tentative) {
        AddressState::Tentative
    } else {
        AddressState::Usable
    };
    Some(Address { link: names.get(&message.header.index)?.clone(), address, owned, state })
}

/// `None` for what is not a unicast route on a link, and for others' routes outside of the main table.
fn route(message: &RouteMessage, names: &BTreeMap<u32, String>) -> Option<Route> {
    let header = &message.header;
    let owned = header.protocol == RouteProtocol::Other(PROTOCOL);
    let number = |attribute: &RouteAttribute| if let RouteAttribute::Table(table) = attribute { Some(*table) } else { None };
    // The header has room for 8 bits of it.
    let table = message.attributes.iter().find_map(number).unwrap_or(u32::from(header.table));
    if header.kind != RouteType::Unicast || (table != MAIN_TABLE && !owned) {
        return None;
    }
    let any: IpAddr = match header.address_family {
        AddressFamily::Inet => IpAddr::from([0; 4]),
        _ => IpAddr::from([0; 16]),
    };
    let (mut to, mut via, mut metric, mut link) = (any, None, 0, None);
    for attribute in &message.attributes {
        match attribute {
            RouteAttribute::Destination(address) => to = ip(address)?,
            RouteAttribute::Gateway(address) => via = Some(ip(address)?),
            RouteAttribute::Priority(priority) => metric = *priority,
            RouteAttribute::Oif(index) => link = names.get(index).cloned(),
            _ => {}
        }
    }
    let to = IpNet::new(to, header.destination_prefix_length).ok()?;
    Some(Route { link: link?, to, via, metric, table, owned })
}

fn ip(address: &RouteAddress) -> Option<IpAddr> {
    match address {
        RouteAddress::Inet(ip) => Some((*ip).into()),
        RouteAddress::Inet6(ip) => Some((*ip).into()),
        _ => None,
    }
}
