//! Decides what the overlay lacks: devices, entries for peers, what this machine tells others, and what users are told.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use ipnet::IpNet;
use machine::config::{ClusterNetwork, Cni, Mtu, OverlayBackend};
use sha2::{Digest, Sha256};

use super::flannel::{VNI, VXLAN};
use super::peers::{self, Own, Peer};
use super::state::{DEVICES, Device, Kernel, Operation, Present, Tables, device, difference};
use crate::controllers::machine::{Machine, missing};
use crate::hardware_address::HardwareAddress;
use crate::plan::{Missing, Plan};
use crate::resources::overlay::{Announcement, ClusterNode, OverlayPeer, OverlayStatus, PeerState, TunnelEnd};

/// Headers that a tunnelled packet has more, by the family that carries it: Ethernet, IP, UDP, VXLAN (RFC 7348, 5).
const OVERHEAD: [u32; 2] = [50, 70];

/// A snapshot of all that the overlay depends on.
#[derive(Debug)]
pub struct Seen {
    pub machine: Result<Machine, Vec<Missing>>,
    pub machine_id: String,
    /// All Nodes, once they are all known: then this machine's own is among them.
    pub nodes: BTreeMap<String, ClusterNode>,
    pub kernel: Kernel,
    /// What the board says.
    pub overlays: BTreeMap<String, OverlayStatus>,
    pub peers: BTreeMap<String, OverlayPeer>,
}

#[derive(Debug, Clone, PartialEq)]
pub enum Action {
    RemoveDevice(&'static str),
    AddDevice(&'static str, Device),
    /// To a device that is there already: what differs, and up.
    ChangeDevice(&'static str, Device),
    AddAddress(&'static str, IpAddr),
    RemoveAddress(&'static str, IpNet),
    /// In this order, and together.
    Program(Vec<Operation>),
    TellOverlays(BTreeMap<String, OverlayStatus>),
    TellPeers(BTreeMap<String, OverlayPeer>),
    /// Writes it to this machine's Node.
    Announce(Announcement),
}

pub fn plan(seen: &Seen) -> Plan<Action> {
    let machine = match &seen.machine {
        Ok(machine) => machine,
        Err(missing) => return Plan::Waiting(missing.clone()),
    };
    let network = &machine.config.cluster.network;
    // A change of either acts at the next boot only, with nothing in the kernel.
    match (network.cni, network.overlay.backend) {
        (Cni::None, _) => return Plan::Settled,
        (Cni::Overlay, OverlayBackend::Vxlan) => {}
        (Cni::Overlay, other) => {
            let words = "a release that has backend";
            let words = format!("{words} {other:?}: cluster.network.overlay.backend can be vxlan so far").to_lowercase();
            return Plan::Waiting(vec![Missing::new(words)]);
        }
    }
    // Before all Nodes are known nothing is touched: the kernel may know ways to peers from an agent before this one.
    let own = seen.nodes.get(&machine.facts.node_name).filter(|own| !own.pod_cidrs.is_empty());
    let Some(own) = own else { return Plan::Waiting(missing([(false, "pod networks of this node (spec.podCIDRs)")])) };
    match devices(seen, machine, own) {
        Ok(devices) => act(seen, machine, own, &devices),
        Err(missing) => Plan::Waiting(missing),
    }
}

/// A device for each family in which this machine has both pods and an address.
fn devices(seen: &Seen, machine: &Machine, own: &ClusterNode) -> Result<BTreeMap<&'static str, Device>, Vec<Missing>> {
    let network = &machine.config.cluster.network;
    let (mut devices, mut missing) = (BTreeMap::new(), Vec::new());
    for pods in &own.pod_cidrs {
        let ipv6 = pods.addr().is_ipv6();
        let name = device(ipv6);
        let address = machine.facts.node_ips.iter().find(|address| address.is_ipv6() == ipv6);
        let present = seen.kernel.devices.get(name);
        if present.is_some_and(|present| !present.ours) {
            missing.push(Missing::new(format!("link {name}, which somebody else made, to go")));
            continue;
        }
        let underlay = address.and_then(|address| Some((*address, *seen.kernel.underlay.get(address)?)));
        // While a lease is lost for a moment, all stays as it is.
        let before = || present.and_then(|present| Some((present.local?, present.mtu + OVERHEAD[usize::from(ipv6)])));
        let Some((local, underlay_mtu)) = underlay.or_else(before) else {
            missing.push(Missing::new(format!("a node IP of the family of pod network {pods} on a link")));
            continue;
        };
        let made = hardware_address(&seen.machine_id, ipv6);
        devices.insert(
            name,
            Device {
                vni: VNI,
                port: network.overlay.port,
                local,
                mtu: mtu(network, underlay_mtu, ipv6),
                hardware_address: present.map_or(made, |present| present.hardware_address),
                inner: pods.network(),
            },
        );
    }
    // One family that works is better than none.
    if devices.is_empty() { Err(missing) } else { Ok(devices) }
}

/// What one packet of a pod may be as large as.
fn mtu(network: &ClusterNetwork, underlay: u32, ipv6: bool) -> u32 {
    match network.overlay.mtu {
        Mtu::Bytes(bytes) => bytes.into(),
        Mtu::Auto(_) => underlay.saturating_sub(OVERHEAD[usize::from(ipv6)]),
    }
}

/// The same for the life of a machine, so that others need not learn another after each of its boots; local (its second bit) and one
/// device's (its first).
fn hardware_address(machine_id: &str, ipv6: bool) -> HardwareAddress {
    let digest = Sha256::digest(format!("{} {}", device(ipv6), machine_id.trim()));
    let mut bytes = [0; 6];
    bytes.copy_from_slice(&digest[..6]);
    bytes[0] = bytes[0] & 0xfc | 0x02;
    HardwareAddress(bytes)
}

fn act(seen: &Seen, machine: &Machine, own: &ClusterNode, devices: &BTreeMap<&'static str, Device>) -> Plan<Action> {
    let network = &machine.config.cluster.network;
    let judged = peers::judge(
        &Own {
            name: &machine.facts.node_name,
            families: devices.values().map(|device| device.local.is_ipv6()).collect(),
            pod_cidrs: &own.pod_cidrs,
            addresses: machine.facts.node_ips.iter().chain(&own.addresses).copied().collect(),
            hardware_addresses: devices.values().map(|device| device.hardware_address).collect(),
            cluster_pod_cidrs: &network.pod_cidrs,
            cluster_service_cidrs: &network.service_cidrs,
        },
        &seen.nodes,
    );
    let judged = keep_clear(judged, &seen.kernel.foreign_routes);
    let mut present = seen.kernel.tables.clone();
    let mut actions = device_actions(devices, &seen.kernel, &mut present);
    let operations = difference(&present, &tables(&judged));
    if !operations.is_empty() {
        actions.push(Action::Program(operations));
    }
    let overlays = devices.iter().map(|(name, device)| ((*name).to_owned(), status(device))).collect();
    if seen.overlays != overlays {
        actions.push(Action::TellOverlays(overlays));
    }
    let told = judged.into_iter().map(|(name, peer)| (name, peer.told)).collect();
    if seen.peers != told {
        actions.push(Action::TellPeers(told));
    }
    let announcement = announcement(devices);
    if own.announcement.as_ref() != Some(&announcement) || !own.problem.is_empty() {
        actions.push(Action::Announce(announcement));
    }
    Plan::from_actions(actions)
}

/// A peer whose route would be another's is not reached: others' routes are not touched.
fn keep_clear(mut judged: BTreeMap<String, Peer>, foreign: &BTreeSet<IpNet>) -> BTreeMap<String, Peer> {
    for peer in judged.values_mut() {
        let in_the_way = peer.paths.iter().find(|path| foreign.contains(&path.pods)).map(|path| path.pods);
        if let Some(pods) = in_the_way {
            peer.paths.clear();
            peer.told.state = PeerState::Refused;
            peer.told.message = format!("this machine has a route to {pods} already that is not the overlay's");
        }
    }
    judged
}

/// Makes the devices what they should be. What goes with a device that is made anew is taken out of `present`.
fn device_actions(devices: &BTreeMap<&'static str, Device>, kernel: &Kernel, present: &mut Tables) -> Vec<Action> {
    let mut actions = Vec::new();
    let surplus = DEVICES.into_iter().filter(|(_, name)| !devices.contains_key(name));
    for (_, name) in surplus.filter(|(_, name)| kernel.devices.get(name).is_some_and(|device| device.ours)) {
        forget(present, name);
        actions.push(Action::RemoveDevice(name));
    }
    for (&name, wanted) in devices {
        let inner = IpNet::from(wanted.inner);
        let found = kernel.devices.get(name);
        let kept = found.filter(|found| !found.foreign_kind && (found.vni, found.port) == (wanted.vni, wanted.port));
        let Some(kept) = kept else {
            if found.is_some() {
                actions.push(Action::RemoveDevice(name));
            }
            forget(present, name);
            actions.extend([Action::AddDevice(name, wanted.clone()), Action::AddAddress(name, wanted.inner)]);
            continue;
        };
        if differs(kept, wanted) {
            actions.push(Action::ChangeDevice(name, wanted.clone()));
        }
        actions.extend(kept.addresses.iter().filter(|address| **address != inner).map(|address| Action::RemoveAddress(name, *address)));
        if !kept.addresses.contains(&inner) {
            actions.push(Action::AddAddress(name, wanted.inner));
        }
    }
    actions
}

fn differs(present: &Present, wanted: &Device) -> bool {
    !present.up || present.mtu != wanted.mtu || present.local != Some(wanted.local)
}

/// A device takes along what is on it.
fn forget(tables: &mut Tables, device: &str) {
    tables.routes.retain(|_, (on, _)| *on != device);
    tables.neighbours.retain(|(on, _), _| *on != device);
    tables.forwards.retain(|(on, _), _| *on != device);
}

/// A route to a peer's pods by the peer's own address in its part, which is on the link by decree.
fn tables(judged: &BTreeMap<String, Peer>) -> Tables {
    let mut tables = Tables::default();
    for path in judged.values().flat_map(|peer| &peer.paths) {
        let (device, via) = (device(path.pods.addr().is_ipv6()), path.pods.network());
        tables.routes.insert(path.pods, (device, via));
        tables.neighbours.insert((device, via), path.end.hardware_address);
        tables.forwards.insert((device, path.end.hardware_address), path.end.address);
    }
    tables
}

fn status(device: &Device) -> OverlayStatus {
    OverlayStatus {
        backend: VXLAN.to_owned(),
        address: device.local,
        hardware_address: device.hardware_address,
        port: device.port,
        mtu: device.mtu,
    }
}

fn announcement(devices: &BTreeMap<&'static str, Device>) -> Announcement {
    let ends = DEVICES.iter().filter_map(|(_, name)| devices.get(name));
    let end = |device: &Device| TunnelEnd { address: device.local, hardware_address: device.hardware_address, vni: device.vni };
    Announcement { backend: VXLAN.to_owned(), ends: ends.map(end).collect() }
}

#[cfg(test)]
mod tests;
