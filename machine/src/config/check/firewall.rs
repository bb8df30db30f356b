//! What may come in from outside.

use ipnet::IpNet;

use super::Check;
use crate::config::Config;
use crate::config::address::{Host, HostPort};
use crate::config::firewall::{Allow, Firewall, FirewallDefault};
use crate::config::report::Path;

/// Of the machine API, as `api::PORT` has it.
const MACHINE_API: u16 = 50000;

pub fn check(config: &Config, check: &mut Check<'_>) {
    let firewall = &config.machine.network.firewall;
    let path = Path::of("machine.network.firewall");
    let denies = firewall.default_for(&config.cluster.network) == FirewallDefault::Deny;
    for (name, given) in [("allow", firewall.allow.is_empty()), ("machines", firewall.machines.is_empty())] {
        if !denies && !given {
            let remedy = "set machine.network.firewall.default: deny, or remove it";
            check.add(&path.key(name), "networks or ports to be let in", "none: everything is accepted", remedy);
        }
    }
    for (index, allow) in firewall.allow.iter().enumerate() {
        each_allow(&path.key("allow").item(index), allow, check);
    }
    check.refuse_repeats(&path.key("allow"), firewall.allow.iter().map(|allow| (shown(allow), allow)));
    networks(&path.key("machines"), &firewall.machines, check);
    let others = &config.cluster.control_planes;
    control_planes(&path.key("machines"), firewall, others, check);
}

fn shown(allow: &Allow) -> String {
    let ports = match allow.ports() {
        None => "every port".to_owned(),
        Some((first, last)) if first == last => format!("port {first}"),
        Some((first, last)) => format!("ports {first} to {last}"),
    };
    format!("{ports} of {}", allow.protocol)
}

fn each_allow(path: &Path, allow: &Allow, check: &mut Check<'_>) {
    if allow.port == Some(0) {
        check.add(&path.key("port"), "0", "1 to 65535", "leave the field out for every port");
    }
    match (allow.port, allow.end_port) {
        (None, Some(end)) => check.add(&path.key("endPort"), format!("{end} without port"), "the first port of the range in port", ""),
        (Some(port), Some(end)) if end < port => check.add(&path.key("endPort"), end.to_string(), format!("{port} or more"), ""),
        _ => {}
    }
    // It would look as if others were kept out.
    if allow.ports() == Some((MACHINE_API, MACHINE_API)) {
        let expected = "another port: the machine API is open to all, so that nobody is locked out";
        check.add(&path.key("port"), MACHINE_API.to_string(), expected, "remove the entry");
    }
    networks(&path.key("from"), &allow.from, check);
}

fn networks(path: &Path, networks: &[IpNet], check: &mut Check<'_>) {
    for (index, network) in networks.iter().enumerate() {
        if *network != network.trunc() {
            let remedy = format!("write {}, or {}/{} for the address alone", network.trunc(), network.addr(), network.max_prefix_len());
            check.add(&path.item(index), format!("{network}, an address within a network"), "a network", remedy);
        }
    }
    check.refuse_repeats(path, networks.iter().map(|network| (network.to_string(), network)));
}

/// A machine that shuts out the control planes that its own config names would be cut off from its cluster.
fn control_planes(path: &Path, firewall: &Firewall, names: &[String], check: &mut Check<'_>) {
    if firewall.machines.is_empty() {
        return;
    }
    for name in names {
        if let Ok(HostPort { host: Host::Address(address), .. }) = name.parse()
            && !firewall.machines.iter().any(|network| network.contains(&address))
        {
            let found = format!("networks without {address}, which cluster.controlPlanes names");
            check.add(path, found, "networks with all machines of the cluster", "add its network");
        }
    }
}
