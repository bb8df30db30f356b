//! Decides what the overlay lacks: devices, entries for peers, what this machine tells others, and what users are told.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use ipnet::IpNet;
use machine::config::{ClusterNetwork, Cni, Mtu, OverlayBackend};
use sha2::{Digest, Sha256};

use super::flannel::VNI;
use super::peers::{self, By, Own, Peer, spoken};
use super::state::{DEVICES, Device, Hop, Is, Kernel, Kind, Operation, Present, Secure, Tables, Underlay, Wraps, device, difference};
use super::wireguard::{Key, Tunnel as SecureTunnel};
use crate::controllers::machine::{Machine, missing};
use crate::plan::{Missing, Plan};
use crate::resources::overlay::{
    Announcement, ClusterNode, OverlayPeer, OverlayStatus, PeerState, Tunnel, TunnelEnd, VxlanEnd, WireguardEnd,
};
use crate::resources::public_key::PublicKey;
use machine::HardwareAddress;

/// What a tunnelled packet has more, by the family that carries it. VXLAN: Ethernet, IP, UDP, VXLAN (RFC 7348, 5). WireGuard: IP, UDP, and 32
/// bytes of message (its white paper, 5.4.6).
fn overhead(kind: Kind, ipv6: bool) -> u32 {
    match (kind, ipv6) {
        (Kind::Vxlan, false) => 50,
        (Kind::Vxlan, true) => 70,
        (Kind::Wireguard, false) => 60,
        (Kind::Wireguard, true) => 80,
    }
}

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
    /// Port and key of a WireGuard device.
    SetTunnel(&'static str, SecureTunnel),
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
    if network.cni == Cni::None {
        return Plan::Settled;
    }
    // Before all Nodes are known nothing is touched: the kernel may know ways to peers from an agent before this one.
    let own = seen.nodes.get(&machine.facts.node_name).filter(|own| !own.pod_cidrs.is_empty());
    let Some(own) = own else { return Plan::Waiting(missing([(false, "pod networks of this node (spec.podCIDRs)")])) };
    match ends(seen, machine, own) {
        Ok(ends) => act(seen, machine, own, &ends),
        Err(missing) => Plan::Waiting(missing),
    }
}

/// This machine's end for one family.
struct End {
    device: Device,
    /// What one packet of a pod may be as large as.
    pod_mtu: u32,
    /// The link with the machine's address; none while that is lost for a moment.
    underlay: Option<Underlay>,
    public_key: Option<PublicKey>,
}

type Ends = BTreeMap<&'static str, End>;

/// An end for each family in which this machine has both pods and an address.
fn ends(seen: &Seen, machine: &Machine, own: &ClusterNode) -> Result<Ends, Vec<Missing>> {
    let network = &machine.config.cluster.network;
    let kind = match network.overlay.backend {
        OverlayBackend::Vxlan | OverlayBackend::HostGateway => Kind::Vxlan,
        OverlayBackend::Wireguard => Kind::Wireguard,
    };
    let (mut ends, mut missing) = (Ends::new(), Vec::new());
    for pods in &own.pod_cidrs {
        let ipv6 = pods.addr().is_ipv6();
        let name = device(kind, ipv6);
        let address = machine.facts.node_ips.iter().find(|address| address.is_ipv6() == ipv6).copied();
        let present = seen.kernel.devices.get(name);
        if present.is_some_and(|present| !present.ours) {
            missing.push(Missing::new(format!("link {name}, which somebody else made, to go")));
            continue;
        }
        let underlay = address.and_then(|address| seen.kernel.underlay.get(&address).copied());
        // While a lease is lost for a moment, all stays as it is.
        let before = || present.and_then(|present| Some((source(present).or(address)?, present.mtu + overhead(kind, ipv6))));
        let Some((local, below)) = address.zip(underlay.map(|underlay| underlay.mtu)).or_else(before) else {
            missing.push(Missing::new(format!("a node IP of the family of pod network {pods} on a link")));
            continue;
        };
        let (mtu, pod_mtu) = mtus(network, kind, below, ipv6);
        let device = Device {
            wraps: wraps(kind, present, &seen.machine_id, ipv6),
            port: port(network, kind, ipv6),
            local,
            mtu,
            inner: pods.network(),
        };
        let public_key = match present.map(|present| present.is) {
            Some(Is::Wireguard { public_key }) => public_key,
            _ => None,
        };
        ends.insert(name, End { device, pod_mtu, underlay, public_key });
    }
    // One family that works is better than none.
    if ends.is_empty() { Err(missing) } else { Ok(ends) }
}

fn source(present: &Present) -> Option<IpAddr> {
    match present.is {
        Is::Vxlan { local, .. } => local,
        Is::Wireguard { .. } | Is::Foreign => None,
    }
}

/// A device that is there keeps its hardware address.
fn wraps(kind: Kind, present: Option<&Present>, machine_id: &str, ipv6: bool) -> Wraps {
    match (kind, present.map(|present| present.is)) {
        (Kind::Wireguard, _) => Wraps::Wireguard,
        (Kind::Vxlan, Some(Is::Vxlan { hardware_address, .. })) => Wraps::Vxlan { vni: VNI, hardware_address },
        (Kind::Vxlan, _) => Wraps::Vxlan { vni: VNI, hardware_address: hardware_address(machine_id, ipv6) },
    }
}

/// Each WireGuard device has a port of its own in both families.
fn port(network: &ClusterNetwork, kind: Kind, ipv6: bool) -> u16 {
    let port = network.overlay.port;
    if kind == Kind::Wireguard && ipv6 { port.saturating_add(1) } else { port }
}

/// Of the device, and of pods. With direct routes pods send what the link below carries; for peers that are reached by the tunnel all the same,
/// this machine itself tells them how much less it is.
fn mtus(network: &ClusterNetwork, kind: Kind, below: u32, ipv6: bool) -> (u32, u32) {
    let tunnelled = below.saturating_sub(overhead(kind, ipv6));
    match (network.overlay.mtu, network.overlay.backend) {
        (Mtu::Bytes(bytes), OverlayBackend::HostGateway) => (tunnelled.min(bytes.into()), bytes.into()),
        (Mtu::Bytes(bytes), _) => (bytes.into(), bytes.into()),
        (Mtu::Auto(_), OverlayBackend::HostGateway) => (tunnelled, below),
        (Mtu::Auto(_), _) => (tunnelled, tunnelled),
    }
}

/// The same for the life of a machine, so that others need not learn another after each of its boots; local (its second bit) and one
/// device's (its first).
fn hardware_address(machine_id: &str, ipv6: bool) -> HardwareAddress {
    let digest = Sha256::digest(format!("{} {}", device(Kind::Vxlan, ipv6), machine_id.trim()));
    let mut bytes = [0; 6];
    bytes.copy_from_slice(&digest[..6]);
    bytes[0] = bytes[0] & 0xfc | 0x02;
    HardwareAddress(bytes)
}

fn act(seen: &Seen, machine: &Machine, own: &ClusterNode, ends: &Ends) -> Plan<Action> {
    let network = &machine.config.cluster.network;
    let backend = network.overlay.backend;
    let hardware_address = |end: &End| match end.device.wraps {
        Wraps::Vxlan { hardware_address, .. } => Some(hardware_address),
        Wraps::Wireguard => None,
    };
    let judged = peers::judge(
        &Own {
            name: &machine.facts.node_name,
            backend,
            families: ends.values().map(|end| (end.device.local.is_ipv6(), end.device.port)).collect(),
            links: ends.values().filter_map(|end| end.underlay).collect(),
            pod_cidrs: &own.pod_cidrs,
            addresses: machine.facts.node_ips.iter().chain(&own.addresses).copied().collect(),
            hardware_addresses: ends.values().filter_map(hardware_address).collect(),
            public_keys: ends.values().filter_map(|end| end.public_key).collect(),
            cluster_pod_cidrs: &network.pod_cidrs,
            cluster_service_cidrs: &network.service_cidrs,
        },
        &seen.nodes,
    );
    let judged = keep_clear(judged, &seen.kernel.foreign_routes);
    let mut present = seen.kernel.tables.clone();
    let mut actions = device_actions(ends, &seen.kernel, &mut present);
    let mut wanted = tables(&judged);
    let same = |name: &String, told: &OverlayPeer| seen.peers.get(name).is_some_and(|before| before.addresses == told.addresses);
    let unchanged = judged.iter().filter(|(name, peer)| same(name, &peer.told)).flat_map(|(_, peer)| &peer.paths);
    follow_roaming(unchanged, &present, &mut wanted);
    let operations = difference(&present, &wanted);
    if !operations.is_empty() {
        actions.push(Action::Program(operations));
    }
    let overlays = ends.iter().map(|(name, end)| ((*name).to_owned(), status(backend, end))).collect();
    if seen.overlays != overlays {
        actions.push(Action::TellOverlays(overlays));
    }
    let told = judged.into_iter().map(|(name, peer)| (name, peer.told)).collect();
    if seen.peers != told {
        actions.push(Action::TellPeers(told));
    }
    // A key is known only once the kernel has it.
    if let Some(announcement) = announcement(backend, ends)
        && (own.announcement.as_ref() != Some(&announcement) || !own.problem.is_empty())
    {
        actions.push(Action::Announce(announcement));
    }
    Plan::from_actions(actions)
}

/// WireGuard follows a peer to the address that its packets come from, having checked whose they are. What the kernel has found so is left,
/// until the peer itself tells another.
fn follow_roaming<'a>(unchanged: impl Iterator<Item = &'a peers::Path>, present: &Tables, wanted: &mut Tables) {
    for path in unchanged {
        let By::Wireguard { public_key, port } = path.by else { continue };
        let key = (device(Kind::Wireguard, path.pods.addr().is_ipv6()), public_key);
        let found = present.secures.get(&key).and_then(|present| present.endpoint);
        // Another port with the same address is one that was told.
        let moved = found.filter(|found| found.ip() != path.address || found.port() == port);
        if let (Some(endpoint), Some(wanted)) = (moved, wanted.secures.get_mut(&key)) {
            wanted.endpoint = Some(endpoint);
        }
    }
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
fn device_actions(ends: &Ends, kernel: &Kernel, present: &mut Tables) -> Vec<Action> {
    let mut actions = Vec::new();
    let surplus = DEVICES.into_iter().filter(|(.., name)| !ends.contains_key(name));
    for (.., name) in surplus.filter(|(.., name)| kernel.devices.get(name).is_some_and(|device| device.ours)) {
        present.forget(name);
        actions.push(Action::RemoveDevice(name));
    }
    for (&name, End { device: wanted, .. }) in ends {
        let inner = IpNet::from(wanted.inner);
        let found = kernel.devices.get(name);
        let Some(kept) = found.filter(|found| can_be(found, wanted)) else {
            if found.is_some() {
                actions.push(Action::RemoveDevice(name));
            }
            present.forget(name);
            actions.push(Action::AddDevice(name, wanted.clone()));
            actions.extend((wanted.wraps == Wraps::Wireguard).then(|| set_tunnel(name, wanted.port, Key::Make)));
            actions.push(Action::AddAddress(name, wanted.inner));
            continue;
        };
        if differs(kept, wanted) {
            actions.push(Action::ChangeDevice(name, wanted.clone()));
        }
        match kept.is {
            Is::Wireguard { public_key: None } => actions.push(set_tunnel(name, wanted.port, Key::Make)),
            Is::Wireguard { .. } if kept.port != wanted.port => actions.push(set_tunnel(name, wanted.port, Key::Keep)),
            _ => {}
        }
        actions.extend(kept.addresses.iter().filter(|address| **address != inner).map(|address| Action::RemoveAddress(name, *address)));
        if !kept.addresses.contains(&inner) {
            actions.push(Action::AddAddress(name, wanted.inner));
        }
    }
    actions
}

fn set_tunnel(name: &'static str, port: u16, key: Key) -> Action {
    Action::SetTunnel(name, SecureTunnel { port, key })
}

/// Whether a device can become the wanted one: the kernel changes no port and no network of a VXLAN device.
fn can_be(present: &Present, wanted: &Device) -> bool {
    match (present.is, wanted.wraps) {
        (Is::Vxlan { vni: present_vni, .. }, Wraps::Vxlan { vni, .. }) => (present_vni, present.port) == (vni, wanted.port),
        (Is::Wireguard { .. }, Wraps::Wireguard) => true,
        _ => false,
    }
}

fn differs(present: &Present, wanted: &Device) -> bool {
    let source = source(present).is_some_and(|source| source == wanted.local) || wanted.wraps == Wraps::Wireguard;
    !present.up || present.mtu != wanted.mtu || !source
}

/// Over VXLAN a route to a peer's pods leads to the peer's own address in its part, which is on the link by decree.
fn tables(judged: &BTreeMap<String, Peer>) -> Tables {
    let mut tables = Tables::default();
    for path in judged.values().flat_map(|peer| &peer.paths) {
        let (ipv6, via) = (path.pods.addr().is_ipv6(), path.pods.network());
        let hop = match path.by {
            By::Direct { link } => Hop::Machine { link, via: path.address },
            By::Vxlan(hardware_address) => {
                let device = device(Kind::Vxlan, ipv6);
                tables.neighbours.insert((device, via), hardware_address);
                tables.forwards.insert((device, hardware_address), path.address);
                Hop::Neighbour { device, via }
            }
            By::Wireguard { public_key, port } => {
                let device = device(Kind::Wireguard, ipv6);
                let secure = Secure { endpoint: Some((path.address, port).into()), pods: BTreeSet::from([path.pods]) };
                tables.secures.insert((device, public_key), secure);
                Hop::Device { device }
            }
        };
        tables.routes.insert(path.pods, hop);
    }
    tables
}

fn status(backend: OverlayBackend, end: &End) -> OverlayStatus {
    let device = &end.device;
    let hardware_address = match device.wraps {
        Wraps::Vxlan { hardware_address, .. } => Some(hardware_address),
        Wraps::Wireguard => None,
    };
    OverlayStatus {
        backend: spoken(backend).to_owned(),
        address: device.local,
        hardware_address,
        public_key: end.public_key,
        port: device.port,
        mtu: end.pod_mtu,
    }
}

/// None before all keys are known.
fn announcement(backend: OverlayBackend, ends: &Ends) -> Option<Announcement> {
    let ordered = DEVICES.iter().filter_map(|(.., name)| ends.get(name));
    let end = |end: &End| {
        let tunnel = match end.device.wraps {
            Wraps::Vxlan { vni, hardware_address } => Tunnel::Vxlan(VxlanEnd { hardware_address, vni }),
            Wraps::Wireguard => Tunnel::Wireguard(WireguardEnd { public_key: end.public_key?, port: Some(end.device.port) }),
        };
        Some(TunnelEnd { address: end.device.local, tunnel: Some(tunnel) })
    };
    let ends = ordered.map(end).collect::<Option<_>>()?;
    Some(Announcement { backend: spoken(backend).to_owned(), ends })
}

#[cfg(test)]
mod tests;
