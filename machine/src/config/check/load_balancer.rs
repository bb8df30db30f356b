//! The pools of addresses for Services: each address once, and nobody else's.

use std::net::IpAddr;

use ipnet::IpNet;

use super::{Check, network};
use crate::config::report::Path;
use crate::config::{AddressRange, Config};

pub fn check(config: &Config, check: &mut Check<'_>) {
    let pools = Path::of("cluster.network.loadBalancer.pools");
    let mut earlier: Vec<(Path, AddressRange)> = Vec::new();
    for (index, pool) in config.cluster.network.load_balancer.pools.iter().enumerate() {
        let path = pools.item(index).key("addresses");
        if pool.addresses.is_empty() {
            check.add(&path, "an empty list", "addresses, such as 192.0.2.10-192.0.2.20", "remove the pool if it is to have none");
        }
        for (index, range) in pool.addresses.iter().enumerate() {
            let path = path.item(index);
            form(&path, range, check);
            for (other, theirs) in earlier.iter().filter(|(_, theirs)| theirs.overlaps(range.first(), range.last())) {
                check.add(&path, format!("{range}, which overlaps {other} {theirs}"), "each address once", "");
            }
            others(&path, range, config, check);
            earlier.push((path, *range));
        }
    }
}

fn form(path: &Path, range: &AddressRange, check: &mut Check<'_>) {
    if let AddressRange::Network(network) = range
        && *network != network.trunc()
    {
        check.add(path, format!("{network}, an address within a network"), "a network", format!("write {}", network.trunc()));
    }
    if let Some((reserved, what)) = network::reserved(|reserved| meets(range, reserved)) {
        check.add(path, format!("{range}, which overlaps {reserved} ({what})"), "addresses that other machines can reach", "");
    }
}

/// Addresses of pods, of Services within the cluster, and of machines.
fn others(path: &Path, range: &AddressRange, config: &Config, check: &mut Check<'_>) {
    let network = &config.cluster.network;
    for (name, networks) in [("podCIDRs", &network.pod_cidrs), ("serviceCIDRs", &network.service_cidrs)] {
        for (index, taken) in networks.iter().enumerate().filter(|(_, taken)| meets(range, taken)) {
            let other = Path::of("cluster.network").key(name).item(index);
            let expected = "addresses outside of the networks of pods and Services";
            check.add(path, format!("{range}, which overlaps {other} {taken}"), expected, "take addresses of the machines' own network");
        }
    }
    for (other, address) in machine_addresses(config).into_iter().filter(|(_, address)| range.contains(*address)) {
        check.add(
            path,
            format!("{range}, which has {other} {address} in it"),
            "addresses that no machine has",
            "leave it out of the range",
        );
    }
}

fn machine_addresses(config: &Config) -> Vec<(Path, IpAddr)> {
    let mut found = network::addresses(config);
    let interfaces = Path::of("machine.network.interfaces");
    for (index, interface) in config.machine.network.interfaces.iter().enumerate() {
        let path = interfaces.item(index);
        let own = interface.addresses.iter().enumerate();
        found.extend(own.map(|(index, address)| (path.key("addresses").item(index), address.addr())));
        let routes = interface.routes.iter().enumerate();
        found.extend(routes.filter_map(|(index, route)| Some((path.key("routes").item(index).key("via"), route.via?))));
    }
    found
}

fn meets(range: &AddressRange, network: &IpNet) -> bool {
    range.overlaps(network.network(), network.broadcast())
}
