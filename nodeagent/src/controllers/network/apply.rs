//! Carries the network's actions out: netlink, DHCP clients, the hostname, files and the board.

mod links;

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::path::Path;

use anyhow::Context;
use ipnet::IpNet;
use machine::Root;
use netlink_packet_route::address::{AddressAttribute, AddressHeaderFlags, AddressProtocol};
use netlink_packet_route::route::{RouteMessage, RouteProtocol};
use nix::errno::Errno;
use rtnetlink::{Error, Handle, LinkUnspec, RouteMessageBuilder};
use tokio::task::JoinHandle;

use super::plan::Action;
use super::{PROTOCOL, dhcp, duplicates};
use crate::node::Node;
use crate::resources::network::{Address, Hostname, Lease, NodeIps, Resolvers, Route};

/// What the kernel says to an addition of what is there.
const PRESENT: [Errno; 1] = [Errno::EEXIST];

/// What the kernel says to a removal of what is gone.
const GONE: [Errno; 4] = [Errno::ESRCH, Errno::EADDRNOTAVAIL, Errno::ENODEV, Errno::ENOENT];

pub async fn apply(action: Action, node: &Node, netlink: &Handle, clients: &mut BTreeMap<dhcp::Of, JoinHandle<()>>) -> anyhow::Result<()> {
    match action {
        Action::SetLink { link, up, mtu } => set_link(netlink, &link, up, mtu).await,
        Action::AddAddress(address) => {
            let is_leased = node.store.all::<Lease>().values().any(|lease| lease.address == address.address);
            // What a server gives may be another machine's still: it can give another one (RFC 8415, 18.2.10.1).
            let use_it = if is_leased { Use::Afterwards } else { Use::AtOnce };
            add_address(netlink, &node.root, &address, use_it).await
        }
        Action::RemoveAddress(address) => remove_address(netlink, &address).await,
        Action::TryAddressAgain(address) => {
            remove_address(netlink, &address).await?;
            add_address(netlink, &node.root, &address, Use::Afterwards).await
        }
        Action::TellDuplicate(told) => {
            duplicates::tell(node, told);
            Ok(())
        }
        Action::AddRoute(route) => {
            let message = message(netlink, &route).await?;
            tolerate(netlink.route().add(message).replace().execute().await, &PRESENT, || format!("adding route {}", route.name()))
        }
        Action::RemoveRoute(route) => {
            let message = message(netlink, &route).await?;
            tolerate(netlink.route().del(message).execute().await, &GONE, || format!("removing route {}", route.name()))
        }
        Action::AddRule(rule) => {
            let mut request = netlink.rule().add();
            *request.message_mut() = super::kernel::rule::message(&rule);
            tolerate(request.execute().await, &PRESENT, || format!("adding routing rule {}", rule.name()))
        }
        Action::RemoveRule(rule) => {
            let message = super::kernel::rule::message(&rule);
            tolerate(netlink.rule().del(message).execute().await, &GONE, || format!("removing routing rule {}", rule.name()))
        }
        Action::ShapeLinks(changes) => links::apply(netlink, &node.root, changes).await,
        Action::StartDhcp { of, index, hardware_address } => {
            let hardware_address = hardware_address.parse().with_context(|| format!("asking for a lease for link {}", of.link))?;
            let client = tokio::spawn(dhcp::run(node.clone(), of.clone(), index, hardware_address));
            clients.insert(of, client);
            Ok(())
        }
        Action::StopDhcp(of) => {
            if let Some(client) = clients.remove(&of) {
                client.abort();
            }
            node.store.remove::<Lease>(&of.to_string());
            dhcp::forget(&node.root, &of)
        }
        Action::SetHostname(hostname) => nix::unistd::sethostname(&hostname).with_context(|| format!("setting the hostname to {hostname}")),
        Action::WriteFile(file, contents) => crate::files::write(&file.path(&node.root), contents.as_bytes(), 0o644),
        Action::TellResolvers(resolvers) => {
            node.store.put(Resolvers::NAME, &resolvers);
            Ok(())
        }
        Action::TellHostname(hostname) => {
            node.store.put(Hostname::NAME, &hostname);
            Ok(())
        }
        Action::TellNodeIps(node_ips) => {
            node.store.put(NodeIps::NAME, &node_ips);
            Ok(())
        }
    }
}

async fn set_link(netlink: &Handle, link: &str, up: bool, mtu: Option<u32>) -> anyhow::Result<()> {
    let mut message = LinkUnspec::new_with_index(index(netlink, link).await?);
    if up {
        message = message.up();
    }
    if let Some(mtu) = mtu {
        message = message.mtu(mtu);
    }
    netlink.link().set(message.build()).execute().await.with_context(|| format!("setting up link {link}"))
}

/// When an IPv6 address may be used: the kernel looks for a second or two whether another machine has it (RFC 4862, 5.4).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Use {
    /// Etcd could not listen on it otherwise (RFC 4429). What others know of the address it does not change until the kernel has looked.
    AtOnce,
    Afterwards,
}

async fn add_address(netlink: &Handle, root: &Root, address: &Address, use_it: Use) -> anyhow::Result<()> {
    let index = index(netlink, &address.link).await?;
    let mut request = netlink.address().add(index, address.address.addr(), address.address.prefix_len()).replace();
    request.message_mut().attributes.push(AddressAttribute::Protocol(AddressProtocol::Other(PROTOCOL)));
    if address.address.addr().is_ipv6() && use_it == Use::AtOnce {
        allow_use_at_once(root, &address.link);
        request.message_mut().header.flags |= AddressHeaderFlags::Optimistic;
    }
    tolerate(request.execute().await, &PRESENT, || format!("adding address {}", address.name()))
}

/// Without it the kernel takes no notice of the flag, and the address is of use a little later.
fn allow_use_at_once(root: &Root, link: &str) {
    let path = root.path("/proc/sys/net/ipv6/conf").join(link).join("optimistic_dad");
    if let Err(error) = std::fs::write(&path, "1") {
        tracing::warn!(link, "letting addresses be used while the kernel looks whose they are: {}: {error}", path.display());
    }
}

async fn remove_address(netlink: &Handle, address: &Address) -> anyhow::Result<()> {
    let index = index(netlink, &address.link).await?;
    // The message of an addition names the address just as a removal has to.
    let mut request = netlink.address().add(index, address.address.addr(), address.address.prefix_len());
    let message = request.message_mut().clone();
    tolerate(netlink.address().del(message).execute().await, &GONE, || format!("removing address {}", address.name()))
}

async fn message(netlink: &Handle, route: &Route) -> anyhow::Result<RouteMessage> {
    let index = index(netlink, &route.link).await?;
    let protocol = RouteProtocol::Other(PROTOCOL);
    Ok(match (route.to, route.via) {
        (IpNet::V4(to), via) => {
            let builder = RouteMessageBuilder::<std::net::Ipv4Addr>::new().destination_prefix(to.addr(), to.prefix_len());
            let builder = builder.output_interface(index).priority(route.metric).protocol(protocol).table_id(route.table);
            match via {
                // A next hop outside the link's networks (as some clouds give to a /32 address) is on the link all the same.
                Some(IpAddr::V4(via)) => builder.gateway(via).onlink().build(),
                Some(IpAddr::V6(via)) => builder.via(via).build(),
                None => builder.scope(netlink_packet_route::route::RouteScope::Link).build(),
            }
        }
        (IpNet::V6(to), via) => {
            let builder = RouteMessageBuilder::<std::net::Ipv6Addr>::new().destination_prefix(to.addr(), to.prefix_len());
            let builder = builder.output_interface(index).priority(route.metric).protocol(protocol).table_id(route.table);
            match via {
                Some(IpAddr::V6(via)) => builder.gateway(via).build(),
                Some(IpAddr::V4(via)) => anyhow::bail!("route {}: an IPv6 destination has no IPv4 next hop {via}", route.name()),
                None => builder.build(),
            }
        }
    })
}

async fn index(netlink: &Handle, link: &str) -> anyhow::Result<u32> {
    let kernel = super::kernel::read(netlink).await?;
    kernel.links.get(link).map(|link| link.index).with_context(|| format!("link {link} is gone"))
}

/// An addition that finds it there, and a removal that finds it gone, are done.
fn tolerate(result: Result<(), Error>, fine: &[Errno], what: impl FnOnce() -> String) -> anyhow::Result<()> {
    match result {
        Err(Error::NetlinkError(message)) if message.code.is_some_and(|code| fine.contains(&Errno::from_raw(-code.get()))) => Ok(()),
        other => other.with_context(what),
    }
}

/// A file's text; empty when there is none.
pub fn read_text(path: &Path) -> String {
    std::fs::read_to_string(path).unwrap_or_default()
}

/// The name that uname(2) tells.
pub fn kernel_hostname() -> String {
    nix::unistd::gethostname().ok().and_then(|name| name.into_string().ok()).unwrap_or_default()
}

#[cfg(test)]
mod tests;
