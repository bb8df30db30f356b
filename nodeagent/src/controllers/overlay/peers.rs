//! Which Nodes the overlay reaches, and how. A Node says of itself what it likes: one that claims what is another's is refused, and all
//! others go on.
//!
//! A claim on a pod network or a hardware address is the oldest Node's: the API server writes down when a Node was made. An address is
//! that of the Node that lists it as its InternalIP; of several, of the one that is Ready, then of the oldest.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::net::IpAddr;

use ipnet::IpNet;
use machine::HardwareAddress;
use machine::config::OverlayBackend;

use super::flannel::{HOST_GATEWAY, VNI, VXLAN, WIREGUARD};
use super::state::Underlay;
use crate::resources::overlay::{Announcement, ClusterNode, OverlayPeer, PeerState, Tunnel, TunnelEnd, VxlanEnd, WireguardEnd};
use crate::resources::public_key::PublicKey;

/// What is this machine's own, and its cluster's.
#[derive(Debug, Clone)]
pub struct Own<'a> {
    pub name: &'a str,
    pub backend: OverlayBackend,
    /// Families that this machine carries (IPv6 or not), and the UDP port of its end.
    pub families: BTreeMap<bool, u16>,
    /// The links with its addresses.
    pub links: Vec<Underlay>,
    pub pod_cidrs: &'a [IpNet],
    pub addresses: Vec<IpAddr>,
    pub hardware_addresses: Vec<HardwareAddress>,
    pub public_keys: Vec<PublicKey>,
    pub cluster_pod_cidrs: &'a [IpNet],
    pub cluster_service_cidrs: &'a [IpNet],
}

/// One way to pods of another Node.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Path {
    pub pods: IpNet,
    /// The other machine's.
    pub address: IpAddr,
    pub by: By,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum By {
    /// The index of the link that both are on.
    Direct {
        link: u32,
    },
    Vxlan(HardwareAddress),
    Wireguard {
        public_key: PublicKey,
        port: u16,
    },
}

impl By {
    fn name(self) -> &'static str {
        match self {
            By::Direct { .. } => "direct",
            By::Vxlan(_) => VXLAN,
            By::Wireguard { .. } => WIREGUARD,
        }
    }
}

/// What this machine says that it speaks.
pub fn spoken(backend: OverlayBackend) -> &'static str {
    match backend {
        OverlayBackend::Vxlan => VXLAN,
        OverlayBackend::Wireguard => WIREGUARD,
        OverlayBackend::HostGateway => HOST_GATEWAY,
    }
}

/// A Node as it is told of, and the ways to its pods.
#[derive(Debug, Clone, PartialEq)]
pub struct Peer {
    pub told: OverlayPeer,
    pub paths: Vec<Path>,
}

/// All Nodes but this machine's own, by name.
pub fn judge(own: &Own<'_>, nodes: &BTreeMap<String, ClusterNode>) -> BTreeMap<String, Peer> {
    let mut oldest_first: Vec<(&String, &ClusterNode)> = nodes.iter().filter(|(name, _)| *name != own.name).collect();
    oldest_first.sort_by_key(|(name, node)| (&node.created_at, *name));
    let mut taken = Taken::new(own, &oldest_first);
    let judged = oldest_first.into_iter().map(|(name, node)| (name.clone(), taken.judge(name, node)));
    judged.collect()
}

enum Verdict {
    Connected(Vec<Path>, String),
    Waiting(String),
    Refused(String),
}

/// What is somebody's already.
struct Taken<'a> {
    own: &'a Own<'a>,
    /// By their first address: they do not overlap.
    pods: BTreeMap<IpAddr, (IpNet, Owner)>,
    hardware_addresses: BTreeMap<HardwareAddress, Owner>,
    public_keys: BTreeMap<PublicKey, Owner>,
    addresses: BTreeMap<IpAddr, Owner>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Owner {
    ThisMachine,
    Node(String),
}

impl fmt::Display for Owner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Owner::ThisMachine => f.write_str("this machine"),
            Owner::Node(name) => write!(f, "Node {name}"),
        }
    }
}

impl<'a> Taken<'a> {
    fn new(own: &'a Own<'a>, oldest_first: &[(&String, &ClusterNode)]) -> Taken<'a> {
        let mut addresses = BTreeMap::new();
        let (ready, others): (Vec<_>, Vec<_>) = oldest_first.iter().partition(|(_, node)| node.ready);
        for (name, node) in ready.into_iter().chain(others) {
            for address in &node.addresses {
                addresses.entry(*address).or_insert_with(|| Owner::Node((*name).clone()));
            }
        }
        addresses.extend(own.addresses.iter().map(|address| (*address, Owner::ThisMachine)));
        Taken {
            own,
            pods: own.pod_cidrs.iter().map(|pods| (pods.network(), (*pods, Owner::ThisMachine))).collect(),
            hardware_addresses: own.hardware_addresses.iter().map(|address| (*address, Owner::ThisMachine)).collect(),
            public_keys: own.public_keys.iter().map(|key| (*key, Owner::ThisMachine)).collect(),
            addresses,
        }
    }

    fn judge(&mut self, name: &str, node: &ClusterNode) -> Peer {
        let (state, paths, message) = match self.verdict(name, node) {
            Verdict::Connected(paths, message) => (PeerState::Connected, paths, message),
            Verdict::Waiting(message) => (PeerState::Waiting, Vec::new(), message),
            Verdict::Refused(message) => (PeerState::Refused, Vec::new(), message),
        };
        for path in &paths {
            self.pods.insert(path.pods.network(), (path.pods, Owner::Node(name.to_owned())));
            self.addresses.insert(path.address, Owner::Node(name.to_owned()));
        }
        // Also those of tunnels that are not used, while there is a shared link.
        for end in node.announcement.iter().filter(|_| !paths.is_empty()).flat_map(|announced| &announced.ends) {
            match end.tunnel {
                Some(Tunnel::Vxlan(end)) => drop(self.hardware_addresses.insert(end.hardware_address, Owner::Node(name.to_owned()))),
                Some(Tunnel::Wireguard(end)) => drop(self.public_keys.insert(end.public_key, Owner::Node(name.to_owned()))),
                None => {}
            }
        }
        let announced = node.announcement.clone().unwrap_or_default();
        let told = OverlayPeer {
            pod_cidrs: node.pod_cidrs.clone(),
            addresses: announced.ends.iter().map(|end| end.address).collect(),
            backend: announced.backend,
            by: BTreeSet::from_iter(paths.iter().map(|path| path.by.name())).into_iter().collect::<Vec<_>>().join(", "),
            state,
            message,
        };
        Peer { told, paths }
    }

    fn verdict(&self, name: &str, node: &ClusterNode) -> Verdict {
        if !node.problem.is_empty() {
            return Verdict::Refused(node.problem.clone());
        }
        let Some(announced) = &node.announcement else { return Verdict::Waiting("it tells of no overlay yet".to_owned()) };
        if !self.is_spoken(announced) {
            let backend: String = announced.backend.chars().take(48).collect();
            return Verdict::Refused(format!("backend {backend:?}; this machine speaks {}", spoken(self.own.backend)));
        }
        if node.pod_cidrs.is_empty() {
            return Verdict::Waiting("it has no pod networks yet (spec.podCIDRs)".to_owned());
        }
        match self.paths(name, &node.pod_cidrs, announced) {
            Err(message) => Verdict::Refused(message),
            Ok((paths, missing)) if paths.is_empty() => Verdict::Waiting(missing.join("; ")),
            Ok((paths, missing)) => Verdict::Connected(paths, missing.join("; ")),
        }
    }

    /// A machine that speaks WireGuard sends nothing in the clear, whatever another one tells. Between VXLAN and direct routes a cluster can
    /// change machine by machine.
    fn is_spoken(&self, announced: &Announcement) -> bool {
        let tunnels = || announced.ends.iter().any(|end| end.tunnel.is_some());
        match (self.own.backend, announced.backend.as_str()) {
            (OverlayBackend::Wireguard, WIREGUARD) => true,
            (OverlayBackend::Vxlan | OverlayBackend::HostGateway, VXLAN) => true,
            (OverlayBackend::HostGateway, HOST_GATEWAY) => true,
            (OverlayBackend::Vxlan, HOST_GATEWAY) => tunnels(),
            _ => false,
        }
    }

    /// A way for each family that both carry, and what is missing for the others.
    fn paths(&self, name: &str, pod_cidrs: &[IpNet], announced: &Announcement) -> Result<(Vec<Path>, Vec<String>), String> {
        let (mut paths, mut missing) = (Vec::new(), Vec::new());
        for pods in pod_cidrs {
            self.check_pods(pods)?;
            let ipv6 = pods.addr().is_ipv6();
            let family = if ipv6 { "IPv6" } else { "IPv4" };
            let end = announced.ends.iter().find(|end| end.address.is_ipv6() == ipv6);
            match (self.own.families.get(&ipv6), end) {
                (None, _) => missing.push(format!("this machine carries no {family}")),
                (_, None) => missing.push(format!("it tells of no {family} address")),
                (Some(port), Some(end)) => {
                    self.check_address(name, end.address)?;
                    if paths.iter().any(|path: &Path| path.address == end.address) {
                        let all: Vec<String> = pod_cidrs.iter().take(8).map(ToString::to_string).collect();
                        return Err(format!("pod networks {}; expected at most one of each family", all.join(", ")));
                    }
                    paths.push(Path { pods: *pods, address: end.address, by: self.by(announced, end, *port)? });
                }
            }
        }
        Ok((paths, missing))
    }

    /// How packets go to an end. Both machines find the same: each looks whether the other's address is in the network of its own.
    fn by(&self, announced: &Announcement, end: &TunnelEnd, port: u16) -> Result<By, String> {
        let tunnel = match end.tunnel {
            None => None,
            Some(Tunnel::Vxlan(end)) => Some(self.check_vxlan(end)?),
            Some(Tunnel::Wireguard(end)) => Some(self.check_wireguard(end, port)?),
        };
        let shared = self.own.links.iter().find(|link| link.network.contains(&end.address));
        match (self.own.backend, announced.backend.as_str(), shared, tunnel) {
            (OverlayBackend::HostGateway, HOST_GATEWAY, Some(link), _) => Ok(By::Direct { link: link.link }),
            (.., Some(tunnel)) => Ok(tunnel),
            (OverlayBackend::HostGateway, ..) => {
                Err(format!("address {}, which is on no link of this machine's, and it tells of no tunnel", end.address))
            }
            (.., None) => Err("it tells of no tunnel".to_owned()),
        }
    }

    fn check_pods(&self, pods: &IpNet) -> Result<(), String> {
        let within = |cluster: &IpNet| cluster.contains(pods);
        if *pods != pods.trunc() || !self.own.cluster_pod_cidrs.iter().any(within) {
            return Err(format!("pod network {pods}; expected one within cluster.network.podCIDRs"));
        }
        // Of those that begin no later than it ends only the last can reach into it, since they do not overlap.
        match self.pods.range(..=pods.broadcast()).next_back() {
            Some((_, (other, owner))) if other.broadcast() >= pods.network() => {
                Err(format!("pod network {pods}, which overlaps {other} of {owner}"))
            }
            _ => Ok(()),
        }
    }

    fn check_vxlan(&self, end: VxlanEnd) -> Result<By, String> {
        if end.vni != VNI {
            return Err(format!("VNI {}; expected {VNI}", end.vni));
        }
        if !end.hardware_address.is_one_device() {
            return Err(format!("hardware address {}, which is no device's", end.hardware_address));
        }
        match self.hardware_addresses.get(&end.hardware_address) {
            Some(owner) => Err(format!("hardware address {}, which is that of {owner}", end.hardware_address)),
            None => Ok(By::Vxlan(end.hardware_address)),
        }
    }

    /// `port` is this machine's, which one means that tells none.
    fn check_wireguard(&self, end: WireguardEnd, port: u16) -> Result<By, String> {
        if end.port == Some(0) {
            return Err("port 0; expected a UDP port from 1 to 65535".to_owned());
        }
        if !end.public_key.is_one_device() {
            return Err(format!("public key {}, which is no device's", end.public_key));
        }
        match self.public_keys.get(&end.public_key) {
            Some(owner) => Err(format!("public key {}, which is that of {owner}", end.public_key)),
            None => Ok(By::Wireguard { public_key: end.public_key, port: end.port.unwrap_or(port) }),
        }
    }

    fn check_address(&self, name: &str, address: IpAddr) -> Result<(), String> {
        if !is_a_machines(address) || self.own.links.iter().any(|link| is_all_of(link.network, address)) {
            return Err(format!("address {address}; expected one that other machines reach"));
        }
        let own = self.own;
        if let Some(network) = own.cluster_pod_cidrs.iter().chain(own.cluster_service_cidrs).find(|network| network.contains(&address)) {
            return Err(format!("address {address}, which is in {network} of pods and Services"));
        }
        match self.addresses.get(&address) {
            Some(Owner::ThisMachine) => Err(format!("address {address}, which is this machine's")),
            Some(Owner::Node(owner)) if owner != name => {
                Err(format!("address {address}, which is that of Node {owner}; if that machine is gone, delete its Node"))
            }
            Some(Owner::Node(_)) | None => Ok(()),
        }
    }
}

/// Whether it stands for all machines of a network: its first address and its last (RFC 919, and what was before it).
fn is_all_of(network: IpNet, address: IpAddr) -> bool {
    address.is_ipv4() && network.prefix_len() < 31 && (address == network.network() || address == network.broadcast())
}

/// Whether packets to it reach one other machine.
fn is_a_machines(address: IpAddr) -> bool {
    let special = address.is_unspecified() || address.is_loopback() || address.is_multicast();
    !special
        && match address {
            IpAddr::V4(v4) => !v4.is_link_local() && !v4.is_broadcast() && v4.octets()[0] != 0,
            IpAddr::V6(v6) => !v6.is_unicast_link_local() && v6.to_ipv4_mapped().is_none(),
        }
}

#[cfg(test)]
mod tests;
