//! What the kernel holds of the overlay, and what it is to hold: devices, and for each peer a route, a neighbour and a forwarding entry.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use ipnet::IpNet;

use crate::hardware_address::HardwareAddress;

/// Marks our routes (RTA protocol) and addresses (IFA_PROTO), beside the network controller's own mark.
pub const PROTOCOL: u8 = 178;
/// Written into the alias of our devices: one without it is somebody else's.
pub const ALIAS: &str = "corten overlay";

/// Devices of the two families, named as flannel names them: people and tools know them so.
pub const DEVICES: [(bool, &str); 2] = [(false, "flannel.1"), (true, "flannel-v6.1")];

/// The device of a family.
pub fn device(ipv6: bool) -> &'static str {
    let [(_, v4), (_, v6)] = DEVICES;
    if ipv6 { v6 } else { v4 }
}

/// A device as it is to be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Device {
    pub vni: u32,
    pub port: u16,
    /// Source of tunnelled packets.
    pub local: IpAddr,
    pub mtu: u32,
    pub hardware_address: HardwareAddress,
    /// The device's own address in the pod networks: the first of this machine's part.
    pub inner: IpAddr,
}

/// A device as the kernel has it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Present {
    /// Whether it carries our mark.
    pub ours: bool,
    /// Not one that can be a tunnel of ours: another kind, or one that learns.
    pub foreign_kind: bool,
    pub vni: u32,
    pub port: u16,
    pub local: Option<IpAddr>,
    pub mtu: u32,
    pub hardware_address: HardwareAddress,
    pub up: bool,
    pub addresses: BTreeSet<IpNet>,
}

/// What leads to the peers, each table by what the kernel tells its entries apart by.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Tables {
    /// Which device packets go to, and by which next hop.
    pub routes: BTreeMap<IpNet, (&'static str, IpAddr)>,
    /// Hardware address of a next hop on a device.
    pub neighbours: BTreeMap<(&'static str, IpAddr), HardwareAddress>,
    /// Where packets for a hardware address are sent to.
    pub forwards: BTreeMap<(&'static str, HardwareAddress), IpAddr>,
}

/// All of it, as the kernel has it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Kernel {
    /// The MTU of the link that holds each address of the machine, loopback and our own devices left out.
    pub underlay: BTreeMap<IpAddr, u32>,
    pub devices: BTreeMap<&'static str, Present>,
    pub tables: Tables,
    /// Destinations of others' routes that would be in the way of ours.
    pub foreign_routes: BTreeSet<IpNet>,
}

/// One entry of a table.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Entry {
    Forward { device: &'static str, hardware_address: HardwareAddress, to: IpAddr },
    Neighbour { device: &'static str, address: IpAddr, hardware_address: HardwareAddress },
    Route { device: &'static str, to: IpNet, via: IpAddr },
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verb {
    /// What was not there.
    Add,
    /// In place of one of ours with the same key.
    Replace,
    Remove,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
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
    let route = |(&to, &(device, via)): (&IpNet, &(&'static str, IpAddr))| Entry::Route { device, to, via };
    put(&present.forwards, &wanted.forwards, forward, &mut operations);
    put(&present.neighbours, &wanted.neighbours, neighbour, &mut operations);
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
