//! The networks of pods and Services: their sizes, and that they meet neither each other nor the machine's own.

use std::net::IpAddr;

use ipnet::IpNet;

use super::Check;
use crate::config::address::{Host, HostPort};
use crate::config::report::Path;
use crate::config::structure::quoted;
use crate::config::{ClusterNetwork, Config, Mtu, NodeCidrMaskSizes, OverlayBackend, ProxyMode, names};

/// kube-apiserver refuses larger networks of Services (options/validation.go: maxCIDRBits).
const MOST_SERVICE_BITS: u8 = 20;
/// kube-apiserver needs eight addresses.
const LEAST_SERVICE_BITS: u8 = 3;
/// kube-controller-manager refuses more nodes' parts than 2^16 in one network (cidrset: clusterSubnetMaxDiff).
const MOST_NODE_BITS: u8 = 16;

pub fn check(config: &Config, check: &mut Check<'_>) {
    let network = &config.cluster.network;
    let pods = Path::of("cluster.network.podCIDRs");
    let services = Path::of("cluster.network.serviceCIDRs");
    networks(&pods, &network.pod_cidrs, check);
    networks(&services, &network.service_cidrs, check);
    pod_sizes(&pods, network, check);
    service_sizes(&services, network, check);
    overlaps(config, check);
    if !names::is_dns_subdomain(&network.dns_domain) {
        check.add(&Path::of("cluster.network.dnsDomain"), quoted(&network.dns_domain), "a DNS domain, such as cluster.local", "");
    }
    overlay_and_proxy(network, check);
}

/// One network a family at most, at least one, each named by its first address.
fn networks(path: &Path, networks: &[IpNet], check: &mut Check<'_>) {
    if networks.is_empty() {
        check.add(path, "an empty list", "one network, or one of each family", "remove the field for the default");
    }
    for (index, network) in networks.iter().enumerate() {
        let path = path.item(index);
        if *network != network.trunc() {
            let remedy = format!("write {}", network.trunc());
            check.add(&path, format!("{network}, an address within a network"), "a network", remedy);
        }
        if let Some((reserved, what)) = reserved(|reserved| overlap(reserved, network)) {
            check.add(&path, format!("{network}, which overlaps {reserved} ({what})"), "a network for unicast", "");
        }
        if networks[..index].iter().any(|earlier| is_ipv4(earlier) == is_ipv4(network)) {
            let family = if is_ipv4(network) { "IPv4" } else { "IPv6" };
            check.add(&path, format!("{network}, a second {family} network"), "at most one of each family", "");
        }
    }
}

/// The first network of those that are nobody's that is met, and what it is for.
pub fn reserved(meets: impl Fn(&IpNet) -> bool) -> Option<(IpNet, &'static str)> {
    let ranges: [(IpAddr, u8, &str); 7] = [
        (IpAddr::from([0, 0, 0, 0]), 8, "this host"),
        (IpAddr::from([127, 0, 0, 0]), 8, "loopback"),
        (IpAddr::from([169, 254, 0, 0]), 16, "link-local"),
        (IpAddr::from([224, 0, 0, 0]), 3, "multicast and reserved"),
        (IpAddr::from([0u16, 0, 0, 0, 0, 0, 0, 0]), 64, "loopback and mapped addresses"),
        (IpAddr::from([0xfe80u16, 0, 0, 0, 0, 0, 0, 0]), 10, "link-local"),
        (IpAddr::from([0xff00u16, 0, 0, 0, 0, 0, 0, 0]), 8, "multicast"),
    ];
    let ranges = ranges.into_iter().map(|(address, length, what)| (IpNet::new_assert(address, length), what));
    ranges.into_iter().find(|(range, _)| meets(range))
}

fn pod_sizes(path: &Path, network: &ClusterNetwork, check: &mut Check<'_>) {
    let NodeCidrMaskSizes { ipv4, ipv6 } = network.node_cidr_mask_sizes;
    let sizes = Path::of("cluster.network.nodeCIDRMaskSizes");
    for (index, pods) in network.pod_cidrs.iter().enumerate() {
        let (key, node, most) = if is_ipv4(pods) { ("ipv4", ipv4, 30) } else { ("ipv6", ipv6, 126) };
        let whole = pods.prefix_len();
        if node > most {
            check.add(&sizes.key(key), node.to_string(), format!("a prefix length up to {most}"), "");
        } else if node < whole {
            let found = format!("{node}, while podCIDRs[{index}] {pods} is smaller");
            check.add(&sizes.key(key), found, format!("a prefix length from {whole} to {most}"), "");
        } else if node - whole > MOST_NODE_BITS {
            let found = format!("{pods}, which makes 2^{} parts of /{node}", node - whole);
            let remedy = format!("take a smaller network or a nodeCIDRMaskSizes.{key} of at most {}", whole + MOST_NODE_BITS);
            check.add(&path.item(index), found, format!("at most 2^{MOST_NODE_BITS} parts"), remedy);
        }
    }
}

fn service_sizes(path: &Path, network: &ClusterNetwork, check: &mut Check<'_>) {
    for (index, services) in network.service_cidrs.iter().enumerate() {
        let bits = services.max_prefix_len() - services.prefix_len();
        let (least, most) = (services.max_prefix_len() - MOST_SERVICE_BITS, services.max_prefix_len() - LEAST_SERVICE_BITS);
        if !(LEAST_SERVICE_BITS..=MOST_SERVICE_BITS).contains(&bits) {
            let expected = format!("a prefix length from {least} to {most}");
            check.add(&path.item(index), services.to_string(), expected, "kube-apiserver takes no other");
        }
        if !network.pod_cidrs.is_empty() && !network.pod_cidrs.iter().any(|pods| is_ipv4(pods) == is_ipv4(services)) {
            let expected = "a family that pods have as well";
            check.add(&path.item(index), services.to_string(), expected, "add a network of that family to podCIDRs");
        }
    }
}

/// Networks of the cluster must keep clear of each other and of everything the machine itself talks to.
fn overlaps(config: &Config, check: &mut Check<'_>) {
    let network = &config.cluster.network;
    let items = |name: &str, networks: &[IpNet]| -> Vec<(Path, IpNet)> {
        let path = Path::of("cluster.network").key(name);
        networks.iter().enumerate().map(|(index, network)| (path.item(index), network.trunc())).collect()
    };
    let pods = items("podCIDRs", &network.pod_cidrs);
    let services = items("serviceCIDRs", &network.service_cidrs);
    for (path, service) in &services {
        for (other, pod) in pods.iter().filter(|(_, pod)| overlap(pod, service)) {
            check.add(path, format!("{service}, which overlaps {other} {pod}"), "networks apart from each other", "");
        }
    }
    for (path, used) in machine_networks(config) {
        for (other, taken) in pods.iter().chain(&services).filter(|(_, taken)| overlap(taken, &used)) {
            let found = format!("{}, which overlaps {other} {taken}", shown(&used));
            check.add(&path, found, "addresses outside of the networks of pods and Services", "change one of them");
        }
    }
}

/// Every network and address that the machine uses outside of the cluster's own. Routes are not among them: a wide one (10.0.0.0/8 to a
/// gateway) and a narrow one to pods live well together.
fn machine_networks(config: &Config) -> Vec<(Path, IpNet)> {
    let mut found: Vec<_> = addresses(config).into_iter().map(|(path, address)| (path, IpNet::from(address))).collect();
    let interfaces = Path::of("machine.network.interfaces");
    for (index, interface) in config.machine.network.interfaces.iter().enumerate() {
        let path = interfaces.item(index);
        let addresses = interface.addresses.iter().enumerate();
        found.extend(addresses.map(|(index, address)| (path.key("addresses").item(index), address.trunc())));
    }
    let subnets = config.machine.kubelet.node_ip.subnets.iter().enumerate();
    found.extend(subnets.map(|(index, subnet)| (Path::of("machine.kubelet.nodeIP.subnets").item(index), subnet.trunc())));
    found
}

/// The single ones among them, but for those of the machine's own links.
pub fn addresses(config: &Config) -> Vec<(Path, IpAddr)> {
    let mut found = Vec::new();
    let host = |host: &Host| match host {
        Host::Address(address) => Some(*address),
        Host::Name(_) => None,
    };
    if let Ok(HostPort { host: name, .. }) = HostPort::of_https(&config.cluster.endpoint) {
        found.extend(host(&name).map(|address| (Path::of("cluster.endpoint"), address)));
    }
    found.extend(config.cluster.virtual_ip.map(|address| (Path::of("cluster.virtualIP"), address)));
    for (index, text) in config.cluster.control_planes.iter().enumerate() {
        let address = text.parse::<HostPort>().ok().and_then(|address| host(&address.host));
        found.extend(address.map(|address| (Path::of("cluster.controlPlanes").item(index), address)));
    }
    let servers = config.machine.network.nameservers.iter().enumerate();
    found.extend(servers.map(|(index, address)| (Path::of("machine.network.nameservers").item(index), *address)));
    found
}

fn overlay_and_proxy(network: &ClusterNetwork, check: &mut Check<'_>) {
    let overlay = Path::of("cluster.network.overlay");
    if network.overlay.port == 0 {
        check.add(&overlay.key("port"), "0", "a UDP port from 1 to 65535", "");
    }
    let ipv6 = || network.pod_cidrs.iter().any(|pods| !is_ipv4(pods));
    if network.overlay.backend == OverlayBackend::Wireguard && network.overlay.port == u16::MAX && ipv6() {
        check.add(&overlay.key("port"), "65535", "a UDP port from 1 to 65534", "wireguard has the next one for IPv6");
    }
    let least = if network.pod_cidrs.iter().all(is_ipv4) { 576 } else { 1280 };
    if let Mtu::Bytes(bytes) = network.overlay.mtu
        && bytes < least
    {
        check.add(&overlay.key("mtu"), bytes.to_string(), format!("auto, or {least} to 65535"), "");
    }
    let proxy = &network.proxy;
    if proxy.mode == ProxyMode::None {
        for (field, used) in [("config", !proxy.config.is_empty()), ("extraArgs", !proxy.extra_args.is_empty())] {
            if used {
                check.add(&Path::of("cluster.network.proxy").key(field), "a value", "", "remove it: with mode none there is no kube-proxy");
            }
        }
    }
}

fn shown(network: &IpNet) -> String {
    if network.prefix_len() == network.max_prefix_len() { network.addr().to_string() } else { network.to_string() }
}

pub fn is_ipv4(network: &IpNet) -> bool {
    matches!(network, IpNet::V4(_))
}

fn overlap(a: &IpNet, b: &IpNet) -> bool {
    a.contains(&b.network()) || b.contains(&a.network())
}
