//! What the kernel holds of the overlay, and what it is to hold: devices, and for each peer a route and what the route needs.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, SocketAddr};

use ipnet::IpNet;

use crate::resources::public_key::PublicKey;
use machine::HardwareAddress;

/// Marks our routes (RTA protocol) and addresses (IFA_PROTO), beside the network controller's own mark.
pub const PROTOCOL: u8 = 178;
/// Written into the alias of our devices: one without it is somebody else's.
pub const ALIAS: &str = "corten overlay";

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    Vxlan,
    Wireguard,
}

/// Devices of both kinds and families (IPv6 or not), named as flannel names them: people and tools know them so.
pub const DEVICES: [(Kind, bool, &str); 4] = [
    (Kind::Vxlan, false, "flannel.1"),
    (Kind::Vxlan, true, "flannel-v6.1"),
    (Kind::Wireguard, false, "flannel-wg"),
    (Kind::Wireguard, true, "flannel-wg-v6"),
];

/// The device of a kind and family.
pub fn device(kind: Kind, ipv6: bool) -> &'static str {
    let [(.., v4), (.., v6), (.., wireguard_v4), (.., wireguard_v6)] = DEVICES;
    match (kind, ipv6) {
        (Kind::Vxlan, false) => v4,
        (Kind::Vxlan, true) => v6,
        (Kind::Wireguard, false) => wireguard_v4,
        (Kind::Wireguard, true) => wireguard_v6,
    }
}

/// A device as it is to be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Device {
    pub wraps: Wraps,
    /// UDP.
    pub port: u16,
    /// The machine's address in the network below.
    pub local: IpAddr,
    pub mtu: u32,
    /// The device's own address in the pod networks: the first of this machine's part.
    pub inner: IpAddr,
}

/// How it wraps packets. A WireGuard device's key is in the kernel alone: it is made there, and goes with the device.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Wraps {
    Vxlan { vni: u32, hardware_address: HardwareAddress },
    Wireguard,
}

/// A device as the kernel has it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Present {
    /// Whether it carries our mark.
    pub ours: bool,
    pub is: Is,
    pub port: u16,
    pub mtu: u32,
    pub up: bool,
    pub addresses: BTreeSet<IpNet>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Is {
    /// `local` is the source of its packets.
    Vxlan { vni: u32, hardware_address: HardwareAddress, local: Option<IpAddr> },
    /// None before it has a key.
    Wireguard { public_key: Option<PublicKey> },
    /// Not one that can be ours: of another kind, or one that learns.
    Foreign,
}

/// Where a route leads to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Hop {
    /// A neighbour on a VXLAN device.
    Neighbour { device: &'static str, via: IpAddr },
    /// A WireGuard device, which finds the peer by its pod networks.
    Device { device: &'static str },
    /// Another machine on the link with this index.
    Machine { link: u32, via: IpAddr },
}

impl Hop {
    /// Which of our devices it leads to.
    pub fn device(&self) -> Option<&'static str> {
        match self {
            Hop::Neighbour { device, .. } | Hop::Device { device } => Some(device),
            Hop::Machine { .. } => None,
        }
    }
}

/// A peer of a WireGuard device.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Secure {
    pub endpoint: Option<SocketAddr>,
    pub pods: BTreeSet<IpNet>,
}

/// What leads to the peers, each table by what the kernel tells its entries apart by.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Tables {
    pub routes: BTreeMap<IpNet, Hop>,
    /// Hardware address of a next hop on a device.
    pub neighbours: BTreeMap<(&'static str, IpAddr), HardwareAddress>,
    /// Where packets for a hardware address are sent to.
    pub forwards: BTreeMap<(&'static str, HardwareAddress), IpAddr>,
    pub secures: BTreeMap<(&'static str, PublicKey), Secure>,
}

impl Tables {
    /// A device takes along what is on it.
    pub fn forget(&mut self, device: &str) {
        self.routes.retain(|_, hop| hop.device() != Some(device));
        self.neighbours.retain(|(on, _), _| *on != device);
        self.forwards.retain(|(on, _), _| *on != device);
        self.secures.retain(|(on, _), _| *on != device);
    }
}

/// The link that holds an address of the machine.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Underlay {
    pub link: u32,
    pub mtu: u32,
    pub network: IpNet,
}

/// All of it, as the kernel has it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Kernel {
    /// By the machine's addresses, loopback and our own devices left out.
    pub underlay: BTreeMap<IpAddr, Underlay>,
    pub devices: BTreeMap<&'static str, Present>,
    pub tables: Tables,
    /// Destinations of others' routes that would be in the way of ours.
    pub foreign_routes: BTreeSet<IpNet>,
}

/// One entry of a table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Entry {
    Forward { device: &'static str, hardware_address: HardwareAddress, to: IpAddr },
    Neighbour { device: &'static str, address: IpAddr, hardware_address: HardwareAddress },
    Secure { device: &'static str, public_key: PublicKey, peer: Secure },
    Route { to: IpNet, hop: Hop },
}

impl Entry {
    /// The device of ours that it is on.
    pub fn device(&self) -> Option<&'static str> {
        match self {
            Entry::Forward { device, .. } | Entry::Neighbour { device, .. } | Entry::Secure { device, .. } => Some(device),
            Entry::Route { hop, .. } => hop.device(),
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verb {
    /// What was not there.
    Add,
    /// In place of one of ours with the same key.
    Replace,
    Remove,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Operation {
    pub verb: Verb,
    pub entry: Entry,
}

/// From what is there to what is wanted. A route comes after what it needs and goes before it; nothing that stays is touched.
pub fn difference(present: &Tables, wanted: &Tables) -> Vec<Operation> {
    let mut operations = Vec::new();
    let forward =
        |(&(device, hardware_address), &to): (&(&'static str, HardwareAddress), &IpAddr)| Entry::Forward { device, hardware_address, to };
    let neighbour = |(&(device, address), &hardware_address): (&(&'static str, IpAddr), &HardwareAddress)| Entry::Neighbour {
        device,
        address,
        hardware_address,
    };
    let secure =
        |(&(device, public_key), peer): (&(&'static str, PublicKey), &Secure)| Entry::Secure { device, public_key, peer: peer.clone() };
    let route = |(&to, &hop): (&IpNet, &Hop)| Entry::Route { to, hop };
    put(&present.forwards, &wanted.forwards, forward, &mut operations);
    put(&present.neighbours, &wanted.neighbours, neighbour, &mut operations);
    // The kernel gives a pod network to one peer, and takes it from another without a word: who loses it goes first.
    remove(&present.secures, &wanted.secures, secure, &mut operations);
    put(&present.secures, &wanted.secures, secure, &mut operations);
    put(&present.routes, &wanted.routes, route, &mut operations);
    remove(&present.routes, &wanted.routes, route, &mut operations);
    remove(&present.neighbours, &wanted.neighbours, neighbour, &mut operations);
    remove(&present.forwards, &wanted.forwards, forward, &mut operations);
    operations
}

fn put<K: Ord, V: PartialEq>(
    present: &BTreeMap<K, V>,
    wanted: &BTreeMap<K, V>,
    entry: impl Fn((&K, &V)) -> Entry,
    operations: &mut Vec<Operation>,
) {
    for (key, value) in wanted {
        let verb = match present.get(key) {
            Some(same) if same == value => continue,
            Some(_) => Verb::Replace,
            None => Verb::Add,
        };
        operations.push(Operation { verb, entry: entry((key, value)) });
    }
}

fn remove<K: Ord, V>(
    present: &BTreeMap<K, V>,
    wanted: &BTreeMap<K, V>,
    entry: impl Fn((&K, &V)) -> Entry,
    operations: &mut Vec<Operation>,
) {
    let surplus = present.iter().filter(|(key, _)| !wanted.contains_key(key));
    operations.extend(surplus.map(|pair| Operation { verb: Verb::Remove, entry: entry(pair) }));
}
