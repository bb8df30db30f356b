//! VLANs, bonds and bridges: what they are made of, and which options go with which mode.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::time::Duration;

use super::Check;
use crate::config::names;
use crate::config::report::Path;
use crate::config::structure::quoted;
use crate::config::{Bond, BondMode, HostNetwork, Interface, LinkKind, Machine, Vlan, bottom_up};

/// Links that are made by others: the CNI plugins' bridge, and the overlay's devices.
const TAKEN: [&str; 5] = ["cni0", "flannel.1", "flannel-v6.1", "flannel-wg", "flannel-wg-v6"];

const MII_LEAST: Duration = Duration::from_millis(10);
const MII_MOST: Duration = Duration::from_secs(60);

/// An option, whether a bond has it, and the modes that know it.
type OfSomeModes = (&'static str, fn(&Bond) -> bool, &'static [BondMode]);

/// The options that only some modes have (bond_opts in the kernel's drivers/net/bonding/bond_options.c).
const OF_SOME_MODES: [OfSomeModes; 4] = [
    ("primary", |bond| bond.primary.is_some(), &[BondMode::ActiveBackup, BondMode::BalanceTlb, BondMode::BalanceAlb]),
    ("lacpRate", |bond| bond.lacp_rate.is_some(), &[BondMode::Lacp]),
    ("transmitHashPolicy", |bond| bond.transmit_hash_policy.is_some(), &[BondMode::BalanceXor, BondMode::Lacp, BondMode::BalanceTlb]),
    ("minLinks", |bond| bond.min_links.is_some(), &[BondMode::Lacp]),
];

pub fn check(machine: &Machine, check: &mut Check<'_>) {
    let network = &machine.network;
    let links = Links::of(network);
    let path = Path::of("machine.network.interfaces");
    let mut vlans = HashMap::new();
    for (index, interface) in network.interfaces.iter().enumerate() {
        let path = path.item(index);
        one_kind(&path, interface, check);
        members(&path, interface, &links, check);
        if let Some(vlan) = &interface.vlan {
            each_vlan(&path, interface, vlan, &links, check);
            if let Some(other) = vlans.insert((vlan.parent.as_str(), vlan.id), interface.name.as_str()) {
                let found = format!("{} of {}, which {other} is already", vlan.id, vlan.parent);
                check.add(&path.key("vlan").key("id"), found, "", "remove one of them");
            }
        }
        if let Some(bond) = &interface.bond {
            each_bond(&path.key("bond"), bond, check);
        }
    }
    circle(&path, &network.interfaces, check);
    module(machine, check);
}

/// What the config says of links, by their names.
struct Links<'a> {
    entries: HashMap<&'a str, &'a Interface>,
    /// Which bond or bridge has a link first.
    masters: HashMap<&'a str, &'a Interface>,
}

impl Links<'_> {
    fn of(network: &HostNetwork) -> Links<'_> {
        let entries = network.interfaces.iter().rev().map(|interface| (interface.name.as_str(), interface)).collect();
        let mut masters = HashMap::new();
        for interface in &network.interfaces {
            for member in interface.members() {
                masters.entry(member.as_str()).or_insert(interface);
            }
        }
        Links { entries, masters }
    }
}

fn one_kind(path: &Path, interface: &Interface, check: &mut Check<'_>) {
    let given = [("vlan", interface.vlan.is_some()), ("bond", interface.bond.is_some()), ("bridge", interface.bridge.is_some())];
    let given: Vec<&str> = given.into_iter().filter(|(_, given)| *given).map(|(name, _)| name).collect();
    if given.len() > 1 {
        check.add(path, given.join(" and "), "one of vlan, bond and bridge", "give each link an item of its own");
    }
    if !given.is_empty() && TAKEN.contains(&interface.name.as_str()) {
        check.add(&path.key("name"), quoted(&interface.name), "a name that the cluster's network has no use for", "take another name");
    }
}

fn members(path: &Path, interface: &Interface, links: &Links<'_>, check: &mut Check<'_>) {
    let (kind, is_bond) = match interface.kind() {
        Some(LinkKind::Bond(_)) => ("bond", true),
        Some(LinkKind::Bridge(_)) => ("bridge", false),
        Some(LinkKind::Vlan(_)) | None => return,
    };
    let path = path.key(kind).key("interfaces");
    if is_bond && interface.members().is_empty() {
        check.add(&path, "no link", "at least one link", "");
    }
    check.refuse_repeats(&path, interface.members().iter().map(|member| (member.clone(), member)));
    for (index, member) in interface.members().iter().enumerate() {
        let path = path.item(index);
        if !names::is_link_name(member) || member == "lo" {
            check.add(&path, quoted(member), "a link's name, such as eth0", "");
            continue;
        }
        if let Some(master) = links.masters.get(member.as_str()).filter(|master| !std::ptr::eq(**master, interface)) {
            check.add(&path, format!("{member}, which {} has already", master.name), "a link of one bond or bridge only", "");
        }
        let Some(entry) = links.entries.get(member.as_str()) else { continue };
        let unfit = match entry.kind() {
            Some(LinkKind::Bond(_)) => is_bond.then_some("bond"),
            Some(LinkKind::Bridge(_)) => Some("bridge"),
            Some(LinkKind::Vlan(_)) | None => None,
        };
        if let Some(unfit) = unfit {
            check.add(&path, format!("{member}, a {unfit}"), format!("a link that may be in a {kind}"), "");
        }
        let own = [
            ("dhcp", entry.dhcp),
            ("dhcp6", entry.dhcp6 == Some(true)),
            ("addresses", !entry.addresses.is_empty()),
            ("routes", !entry.routes.is_empty()),
        ];
        for (field, _) in own.into_iter().filter(|(_, given)| *given) {
            let remedy = format!("move {field} to {}", interface.name);
            check.add(&path, format!("{member}, whose entry has {field}"), "a link without addresses of its own", remedy);
        }
        if is_bond && entry.mtu.is_some() {
            let remedy = format!("move mtu to {}", interface.name);
            check.add(&path, format!("{member}, whose entry has mtu"), "a link that takes the bond's mtu", remedy);
        }
    }
}

fn each_vlan(path: &Path, interface: &Interface, vlan: &Vlan, links: &Links<'_>, check: &mut Check<'_>) {
    let here = path.key("vlan");
    if !(1..=4094).contains(&vlan.id) {
        check.add(&here.key("id"), vlan.id.to_string(), "1 to 4094", "");
    }
    let parent = &vlan.parent;
    if !names::is_link_name(parent) || parent == "lo" {
        check.add(&here.key("parent"), quoted(parent), "a link's name, such as eth0", "");
        return;
    }
    if let Some(master) = links.masters.get(parent.as_str()).filter(|master| master.bond.is_some()) {
        let found = format!("{parent}, a member of {}", master.name);
        check.add(&here.key("parent"), found, "a link that is in no bond", format!("write {}", master.name));
    }
    let most = links.entries.get(parent.as_str()).and_then(|parent| parent.mtu);
    if let (Some(mtu), Some(most)) = (interface.mtu, most)
        && mtu > most
    {
        check.add(&path.key("mtu"), mtu.to_string(), format!("at most {most}, the mtu of {parent}"), "");
    }
}

fn each_bond(path: &Path, bond: &Bond, check: &mut Check<'_>) {
    for (field, is_given, modes) in OF_SOME_MODES {
        if is_given(bond) && !modes.contains(&bond.mode) {
            let known: Vec<&str> = modes.iter().map(|mode| mode.name()).collect();
            let found = format!("a value, in the mode {}", bond.mode.name());
            check.add(&path.key(field), found, format!("mode {}", known.join(", ")), "remove it, or take another mode");
        }
    }
    if let Some(primary) = bond.primary.as_ref().filter(|primary| !bond.interfaces.contains(primary)) {
        check.add(&path.key("primary"), quoted(primary), "one of the bond's interfaces", "add it to them");
    }
    let mii = bond.mii_monitor.0;
    if !(MII_LEAST..=MII_MOST).contains(&mii) {
        let remedy = "a bond that looked less often would go on sending by a dead member";
        check.add(&path.key("miiMonitor"), bond.mii_monitor.to_string(), "10ms to 1m", remedy);
        return;
    }
    for (field, delay) in [("upDelay", bond.up_delay), ("downDelay", bond.down_delay)] {
        if delay.0.as_millis() % mii.as_millis() != 0 || delay.0 > Duration::from_secs(600) {
            let expected = format!("at most 10m, and a multiple of miiMonitor ({})", bond.mii_monitor);
            check.add(&path.key(field), delay.to_string(), expected, "the kernel counts by it");
        }
    }
}

/// Tells of one circle: what is above it cannot be made either, and says nothing new.
fn circle(path: &Path, interfaces: &[Interface], check: &mut Check<'_>) {
    let sound: BTreeSet<&str> = bottom_up(interfaces).iter().map(|interface| interface.name.as_str()).collect();
    let left = interfaces.iter().enumerate().filter(|(_, interface)| !sound.contains(interface.name.as_str()));
    let left: BTreeMap<&str, (usize, &Interface)> = left.map(|(index, interface)| (interface.name.as_str(), (index, interface))).collect();
    let Some(mut here) = left.keys().next().copied() else { return };
    let mut way: Vec<&str> = Vec::new();
    while !way.contains(&here) {
        way.push(here);
        let below = left.get(here).and_then(|(_, interface)| interface.below().find(|name| left.contains_key(name)));
        let Some(below) = below else { return };
        here = below;
    }
    let start = way.iter().position(|name| *name == here).unwrap_or_default();
    let round: Vec<&str> = way[start..].iter().chain([&here]).copied().collect();
    let Some((index, _)) = left.get(here) else { return };
    check.add(&path.item(*index), format!("made of itself: {}", round.join(" of ")), "links that end at those of the machine", "");
}

/// The module by itself makes a bond0 when it is loaded (max_bonds), which would not be ours.
fn module(machine: &Machine, check: &mut Check<'_>) {
    let makes_bond0 = machine.network.interfaces.iter().any(|interface| interface.bond.is_some() && interface.name == "bond0");
    for (index, module) in machine.kernel.modules.iter().enumerate().filter(|(_, module)| makes_bond0 && module.name == "bonding") {
        if !module.parameters.iter().any(|parameter| parameter == "max_bonds=0") {
            let path = Path::of("machine.kernel.modules").item(index);
            let found = "bonding without max_bonds=0, which makes a bond0 of its own";
            check.add(&path, found, "", "leave it out: a bond in machine.network loads the module");
        }
    }
}
