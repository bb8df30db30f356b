//! The cluster's name, its endpoint and virtual IP, and whom a machine joins through.

use std::net::IpAddr;

use super::Check;
use crate::config::Config;
use crate::config::address::{Host, HostPort};
use crate::config::names;
use crate::config::report::Path;
use crate::config::structure::quoted;

pub fn check(config: &Config, check: &mut Check<'_>) {
    let cluster = &config.cluster;
    if !names::is_dns_label(&cluster.name) {
        let expected = "a DNS label: at most 63 lower-case letters, digits and dashes";
        check.add(&Path::of("cluster.name"), quoted(&cluster.name), expected, "");
    }
    if let Err(error) = HostPort::of_https(&cluster.endpoint) {
        check.add(&Path::of("cluster.endpoint"), quoted(&cluster.endpoint), error.0, "");
    }
    virtual_ip(config, check);
    let path = Path::of("cluster.controlPlanes");
    for (index, address) in cluster.control_planes.iter().enumerate() {
        if let Err(error) = address.parse::<HostPort>() {
            check.add(&path.item(index), quoted(address), error.0, "");
        }
    }
    check.refuse_repeats(&path, cluster.control_planes.iter().map(|address| (address.clone(), address)));

    let path = Path::of("cluster.apiServer.certificateSANs");
    let names = &cluster.api_server.certificate_sans;
    for (index, name) in names.iter().enumerate() {
        if name.strip_prefix("*.").unwrap_or(name).parse::<Host>().is_err() {
            check.add(&path.item(index), quoted(name), "a DNS name or an address", "");
        }
    }
    check.refuse_repeats(&path, names.iter().map(|name| (name.clone(), name)));
}

/// An address that a link may have, and that no machine has by itself. That it is none of pods or Services is checked with the networks.
fn virtual_ip(config: &Config, check: &mut Check<'_>) {
    let Some(address) = config.cluster.virtual_ip else { return };
    let path = Path::of("cluster.virtualIP");
    let local = match address {
        IpAddr::V4(address) => address.is_link_local() || address.is_broadcast(),
        IpAddr::V6(address) => address.is_unicast_link_local(),
    };
    if address.is_loopback() || address.is_unspecified() || address.is_multicast() || local {
        check.add(&path, address.to_string(), "an address that other machines can reach", "");
    }
    let interfaces = &config.machine.network.interfaces;
    if interfaces.iter().flat_map(|interface| &interface.addresses).any(|own| own.addr() == address) {
        check.add(&path, format!("{address}, which machine.network gives to a link"), "an address that no machine has by itself", "");
    }
}
