//! Links, addresses, routes, resolvers and time servers of the machine.

use std::net::IpAddr;

use ipnet::IpNet;

use super::network::is_ipv4;
use super::{Check, routing};
use crate::config::address::Host;
use crate::config::names;
use crate::config::report::Path;
use crate::config::structure::quoted;
use crate::config::{HostNetwork, Interface, Route};

pub fn check(network: &HostNetwork, check: &mut Check<'_>) {
    let path = Path::of("machine.network.interfaces");
    for (index, interface) in network.interfaces.iter().enumerate() {
        each_interface(&path.item(index), interface, check);
    }
    check.refuse_repeats(&path, network.interfaces.iter().map(|interface| (interface.name.clone(), interface.name.clone())));
    let mut seen = Vec::new();
    for (index, interface) in network.interfaces.iter().enumerate() {
        for (position, address) in interface.addresses.iter().enumerate() {
            if seen.contains(&address.addr()) {
                let path = path.item(index).key("addresses").item(position);
                check.add(&path, format!("{} a second time", address.addr()), "", "an address is on one link only");
            }
            seen.push(address.addr());
        }
    }
    servers(network, check);
}

fn each_interface(path: &Path, interface: &Interface, check: &mut Check<'_>) {
    if !names::is_link_name(&interface.name) || interface.name == "lo" {
        let expected = "a link's name of at most 15 characters, such as eth0";
        check.add(&path.key("name"), quoted(&interface.name), expected, "");
    }
    for (index, address) in interface.addresses.iter().enumerate() {
        let path = path.key("addresses").item(index);
        if !is_host(address) {
            check.add(&path, address.to_string(), "an address that a machine can have, with its prefix length", "");
        }
    }
    if let Some(mtu) = interface.mtu {
        let least = if interface.addresses.iter().all(is_ipv4) { 576 } else { 1280 };
        if mtu < least {
            check.add(&path.key("mtu"), mtu.to_string(), format!("{least} to 65535"), "");
        }
    }
    for (index, route) in interface.routes.iter().enumerate() {
        each_route(&path.key("routes").item(index), route, interface, check);
    }
    let routes = interface.routes.iter().map(|route| (route.to.to_string(), (route.to, route.metric, route.table)));
    check.refuse_repeats(&path.key("routes"), routes);
}

fn each_route(path: &Path, route: &Route, interface: &Interface, check: &mut Check<'_>) {
    if route.to != route.to.trunc() {
        let remedy = format!("write {}", route.to.trunc());
        check.add(&path.key("to"), format!("{}, an address within a network", route.to), "a network", remedy);
    }
    routing::table(&path.key("table"), route.table, check);
    let Some(via) = route.via else { return };
    let path = path.key("via");
    if via.is_ipv4() != is_ipv4(&route.to) {
        check.add(&path, via.to_string(), format!("an address of the family of {}", route.to), "");
    } else if via.is_unspecified() || via.is_multicast() || via.is_loopback() {
        check.add(&path, via.to_string(), "the address of a neighbour", "");
    } else if !interface.dhcp
        && interface.dhcp6 != Some(true)
        && !is_link_local(&via)
        && !interface.addresses.iter().any(|address| address.contains(&via))
    {
        check.add(
            &path,
            via.to_string(),
            "an address within a network of this link",
            "a next hop must be a neighbour: add an address to the link",
        );
    }
}

fn servers(network: &HostNetwork, check: &mut Check<'_>) {
    let path = Path::of("machine.network.nameservers");
    for (index, address) in network.nameservers.iter().enumerate() {
        if address.is_unspecified() || address.is_multicast() {
            check.add(&path.item(index), address.to_string(), "the address of a resolver", "");
        }
    }
    check.refuse_repeats(&path, network.nameservers.iter().map(|address| (address.to_string(), address)));
    // resolv.conf(5): MAXNS; the kubelet complains about more on every pod.
    if network.nameservers.len() > 3 {
        check.add(&path, format!("{} resolvers", network.nameservers.len()), "at most 3", "");
    }
    let path = Path::of("machine.network.timeServers");
    for (index, server) in network.time_servers.iter().enumerate() {
        if server.parse::<Host>().is_err() {
            check.add(&path.item(index), quoted(server), "a DNS name or an address", "");
        }
    }
    check.refuse_repeats(&path, network.time_servers.iter().map(|server| (server.clone(), server)));
}

/// Whether a machine can have the address: not the network's own or its broadcast address, no loopback, no multicast.
fn is_host(network: &IpNet) -> bool {
    let address = network.addr();
    let special = address.is_unspecified() || address.is_loopback() || address.is_multicast();
    let ends = is_ipv4(network) && network.prefix_len() < 31 && (address == network.network() || address == network.broadcast());
    !special && !ends
}

fn is_link_local(address: &IpAddr) -> bool {
    match address {
        IpAddr::V4(address) => address.is_link_local(),
        IpAddr::V6(address) => address.is_unicast_link_local(),
    }
}
