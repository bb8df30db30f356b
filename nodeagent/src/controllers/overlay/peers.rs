//! Which Nodes the overlay reaches, and how. A Node says of itself what it likes: one that claims what is another's is refused, and all
//! others go on.
//!
//! A claim on a pod network or a hardware address is the oldest Node's: the API server writes down when a Node was made. An address is
//! that of the Node that lists it as its InternalIP; of several, of the one that is Ready, then of the oldest.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::net::IpAddr;

use ipnet::IpNet;

use super::flannel::{VNI, VXLAN};
use crate::hardware_address::HardwareAddress;
use crate::resources::overlay::{Announcement, ClusterNode, OverlayPeer, PeerState, TunnelEnd};

/// What is this machine's own, and its cluster's.
#[derive(Debug, Clone)]
pub struct Own<'a> {
    pub name: &'a str,
    /// Families that this machine carries: IPv6 or not.
    pub families: BTreeSet<bool>,
    pub pod_cidrs: &'a [IpNet],
    pub addresses: Vec<IpAddr>,
    pub hardware_addresses: Vec<HardwareAddress>,
    pub cluster_pod_cidrs: &'a [IpNet],
    pub cluster_service_cidrs: &'a [IpNet],
}

/// One way to pods of another Node.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Path {
    pub pods: IpNet,
    pub end: TunnelEnd,
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
            self.hardware_addresses.insert(path.end.hardware_address, Owner::Node(name.to_owned()));
            self.addresses.insert(path.end.address, Owner::Node(name.to_owned()));
        }
        let announced = node.announcement.clone().unwrap_or_default();
        let told = OverlayPeer {
            pod_cidrs: node.pod_cidrs.clone(),
            addresses: announced.ends.iter().map(|end| end.address).collect(),
            backend: announced.backend,
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
        if announced.backend != VXLAN {
            return Verdict::Refused(format!("backend {:?}; this machine speaks {VXLAN}", announced.backend));
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

    /// A way for each family that both carry, and what is missing for the others.
    fn paths(&self, name: &str, pod_cidrs: &[IpNet], announced: &Announcement) -> Result<(Vec<Path>, Vec<String>), String> {
        let (mut paths, mut missing) = (Vec::new(), Vec::new());
        for pods in pod_cidrs {
            self.check_pods(pods)?;
            let ipv6 = pods.addr().is_ipv6();
            let family = if ipv6 { "IPv6" } else { "IPv4" };
            match announced.ends.iter().find(|end| end.address.is_ipv6() == ipv6) {
                _ if !self.own.families.contains(&ipv6) => missing.push(format!("this machine carries no {family}")),
                None => missing.push(format!("it tells of no {family} address")),
                Some(end) => {
                    self.check_end(name, end)?;
                    if paths.iter().any(|path: &Path| path.end.address == end.address) {
                        let all: Vec<String> = pod_cidrs.iter().map(ToString::to_string).collect();
                        return Err(format!("pod networks {}; expected at most one of each family", all.join(", ")));
                    }
                    paths.push(Path { pods: *pods, end: *end });
                }
            }
        }
        Ok((paths, missing))
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

    fn check_end(&self, name: &str, end: &TunnelEnd) -> Result<(), String> {
        if end.vni != VNI {
            return Err(format!("VNI {}; expected {VNI}", end.vni));
        }
        if !end.hardware_address.is_one_device() {
            return Err(format!("hardware address {}, which is no device's", end.hardware_address));
        }
        if let Some(owner) = self.hardware_addresses.get(&end.hardware_address) {
            return Err(format!("hardware address {}, which is that of {owner}", end.hardware_address));
        }
        let address = end.address;
        if !is_a_machines(address) {
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
