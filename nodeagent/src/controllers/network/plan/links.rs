//! Decides which VLANs, bonds and bridges to make, to change and to take away, and which links go in and out of them. Links that others made
//! are never changed, and what others put into a bridge of ours stays there.

use std::collections::{BTreeMap, BTreeSet};

use machine::config::{Bond, Bridge, Interface, KernelModule, LacpRate, LinkKind, TransmitHashPolicy, bottom_up};

use super::super::kernel::Kernel;
use crate::plan::Missing;
use crate::resources::link::{BondShape, BridgeShape, Link, Shape, VlanShape};

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum LinkChange {
    Load(KernelModule),
    /// `hardware_address` as text; none for the kernel's choice.
    Add {
        link: String,
        shape: Shape,
        hardware_address: Option<String>,
    },
    /// What can be changed while the link is in use.
    Change {
        link: String,
        from: Shape,
        to: Shape,
    },
    SetPrimary {
        bond: String,
        member: Option<String>,
    },
    SetHardwareAddress {
        link: String,
        hardware_address: String,
    },
    Remove {
        link: String,
    },
    Join {
        member: String,
        master: String,
    },
    Leave {
        member: String,
    },
}

/// The module of each kind. By itself that of bonds makes a `bond0` when it is loaded.
const VLAN_MODULE: &str = "8021q";
const BOND_MODULE: &str = "bonding";
const BRIDGE_MODULE: &str = "bridge";
pub const MODULES: [&str; 3] = [VLAN_MODULE, BOND_MODULE, BRIDGE_MODULE];

/// What to change, and what the config names and the machine does not have.
#[derive(Debug, Default, PartialEq)]
pub struct Decision {
    pub changes: Vec<LinkChange>,
    pub missing: Vec<Missing>,
}

/// `modules` are those that are loaded. What is not like the config and cannot be changed goes first, alone: what is to come in its place is
/// planned once the kernel has taken it away with all that was above it.
pub fn decide(interfaces: &[Interface], kernel: &Kernel, modules: &BTreeSet<String>) -> Decision {
    let made: Vec<(&Interface, LinkKind<'_>)> =
        bottom_up(interfaces).into_iter().filter_map(|interface| Some((interface, interface.kind()?))).collect();
    let surplus = surplus(&made, kernel);
    if !surplus.is_empty() {
        return Decision { changes: surplus, missing: Vec::new() };
    }
    let mut decision = Decision { changes: leaving(&made, kernel), missing: Vec::new() };
    for (interface, kind) in &made {
        match kernel.links.get(&interface.name) {
            None => add(interface, *kind, kernel, modules, &mut decision),
            Some(link) if link.owned => keep(interface, *kind, link, kernel, &mut decision),
            Some(_) => decision
                .missing
                .push(Missing::new(format!("the name {}, which a link has that is not the machine config's", interface.name))),
        }
    }
    decision
}

/// Ours that the config has no more, or wants of other parts.
fn surplus(made: &[(&Interface, LinkKind<'_>)], kernel: &Kernel) -> Vec<LinkChange> {
    let wanted: BTreeMap<&str, LinkKind<'_>> = made.iter().map(|(interface, kind)| (interface.name.as_str(), *kind)).collect();
    let ours = kernel.links.iter().filter(|(_, link)| link.owned);
    let stays = |name: &str, link: &Link| match (wanted.get(name), &link.shape) {
        (Some(kind), Some(shape)) => can_become(shape, &want(*kind)),
        _ => false,
    };
    ours.filter(|(name, link)| !stays(name, link)).map(|(name, _)| LinkChange::Remove { link: name.clone() }).collect()
}

/// A bond's mode and LACP rate can be changed only while it is down and empty.
fn can_become(seen: &Shape, wanted: &Shape) -> bool {
    match (seen, wanted) {
        (Shape::Vlan(seen), Shape::Vlan(wanted)) => seen == wanted,
        (Shape::Bond(seen), Shape::Bond(wanted)) => seen.mode == wanted.mode && seen.lacp_rate == wanted.lacp_rate,
        (Shape::Bridge(_), Shape::Bridge(_)) => true,
        _ => false,
    }
}

/// Links in bonds and bridges of ours where the config does not have them. Others' virtual ones, such as those of pods, are not ours to move.
fn leaving(made: &[(&Interface, LinkKind<'_>)], kernel: &Kernel) -> Vec<LinkChange> {
    let is_member = |link: &str, master: &str| made.iter().any(|(one, _)| one.name == master && one.members().iter().any(|it| it == link));
    let ours = |master: &String| kernel.links.get(master).is_some_and(|master| master.owned);
    let leaves = |name: &String, link: &Link| {
        let movable = link.owned || link.kind == "ethernet";
        movable && link.master.as_ref().is_some_and(|master| ours(master) && !is_member(name, master))
    };
    kernel.links.iter().filter(|(name, link)| leaves(name, link)).map(|(name, _)| LinkChange::Leave { member: name.clone() }).collect()
}

fn add(interface: &Interface, kind: LinkKind<'_>, kernel: &Kernel, modules: &BTreeSet<String>, decision: &mut Decision) {
    if let LinkKind::Vlan(vlan) = kind
        && !kernel.links.contains_key(&vlan.parent)
    {
        decision.missing.push(Missing::new(format!("link {}, the parent of {}", vlan.parent, interface.name)));
        return;
    }
    let module = module(kind);
    let load = LinkChange::Load(module.clone());
    if !modules.contains(&module.name) && !decision.changes.contains(&load) {
        decision.changes.push(load);
    }
    let hardware_address = match kind {
        LinkKind::Bridge(bridge) => members_addresses(bridge, kernel).next(),
        // A bond has its first member's, a VLAN its parent's.
        LinkKind::Bond(_) | LinkKind::Vlan(_) => None,
    };
    decision.changes.push(LinkChange::Add { link: interface.name.clone(), shape: want(kind), hardware_address });
}

fn module(kind: LinkKind<'_>) -> KernelModule {
    let (name, parameters) = match kind {
        LinkKind::Vlan(_) => (VLAN_MODULE, Vec::new()),
        LinkKind::Bond(_) => (BOND_MODULE, vec!["max_bonds=0".to_owned()]),
        LinkKind::Bridge(_) => (BRIDGE_MODULE, Vec::new()),
    };
    KernelModule { name: name.to_owned(), parameters }
}

/// Brings one that is there to what the config says, its members included.
fn keep(interface: &Interface, kind: LinkKind<'_>, link: &Link, kernel: &Kernel, decision: &mut Decision) {
    let name = &interface.name;
    let wanted = want(kind);
    if let Some(seen) = &link.shape
        && without_members(seen) != without_members(&wanted)
    {
        decision.changes.push(LinkChange::Change { link: name.clone(), from: seen.clone(), to: wanted });
    }
    for member in interface.members() {
        match kernel.links.get(member) {
            None => decision.missing.push(Missing::new(format!("link {member}, a member of {name}"))),
            Some(Link { master: None, .. }) => decision.changes.push(LinkChange::Join { member: member.clone(), master: name.clone() }),
            Some(link) if link.is_in(name) => {}
            Some(Link { master: Some(master), .. }) => {
                // One of ours lets it go at the same time: see `leaving`.
                if !kernel.links.get(master).is_some_and(|master| master.owned) {
                    decision.missing.push(Missing::new(format!("link {member}, a member of {name}, which is in {master}")));
                }
            }
        }
    }
    match (kind, &link.shape) {
        (LinkKind::Bond(bond), Some(Shape::Bond(seen))) => {
            let joined = |member: &String| kernel.links.get(member).is_some_and(|link| link.is_in(name));
            // The kernel tells of one once it is a member.
            if seen.primary != bond.primary && bond.primary.as_ref().is_none_or(joined) {
                decision.changes.push(LinkChange::SetPrimary { bond: name.clone(), member: bond.primary.clone() });
            }
        }
        (LinkKind::Bridge(bridge), _) => {
            // Left to itself, a bridge takes the lowest address of all its ports: that of a pod's, and another one when that is gone. DHCP servers
            // would take it for another machine.
            let first = members_addresses(bridge, kernel).next();
            if let Some(first) = first
                && !members_addresses(bridge, kernel).any(|address| address == link.hardware_address)
            {
                decision.changes.push(LinkChange::SetHardwareAddress { link: name.clone(), hardware_address: first });
            }
        }
        _ => {}
    }
}

fn members_addresses(bridge: &Bridge, kernel: &Kernel) -> impl Iterator<Item = String> {
    let there = bridge.interfaces.iter().filter_map(|member| kernel.links.get(member));
    there.map(|link| link.hardware_address.clone()).filter(|address| !address.is_empty())
}

fn without_members(shape: &Shape) -> Shape {
    match shape {
        Shape::Bond(bond) => Shape::Bond(BondShape { primary: None, active_member: None, ..bond.clone() }),
        other => other.clone(),
    }
}

fn want(kind: LinkKind<'_>) -> Shape {
    match kind {
        LinkKind::Vlan(vlan) => Shape::Vlan(VlanShape { id: vlan.id, parent: vlan.parent.clone() }),
        LinkKind::Bond(bond) => Shape::Bond(want_bond(bond)),
        LinkKind::Bridge(bridge) => Shape::Bridge(BridgeShape { stp: bridge.stp, vlan_filtering: bridge.vlan_filtering }),
    }
}

fn want_bond(bond: &Bond) -> BondShape {
    let milliseconds = |duration: machine::config::Duration| u32::try_from(duration.0.as_millis()).unwrap_or(u32::MAX);
    BondShape {
        mode: bond.mode,
        mii_monitor: milliseconds(bond.mii_monitor),
        up_delay: milliseconds(bond.up_delay),
        down_delay: milliseconds(bond.down_delay),
        lacp_rate: bond.lacp_rate.unwrap_or(LacpRate::Slow),
        transmit_hash_policy: bond.transmit_hash_policy.unwrap_or(TransmitHashPolicy::Layer2),
        min_links: bond.min_links.unwrap_or(0).into(),
        primary: bond.primary.clone(),
        active_member: None,
    }
}

#[cfg(test)]
pub mod tests;
