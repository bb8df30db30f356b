//! What is made of links, against a model that refuses what the kernel would.

use std::sync::Arc;

use serde_json::{Value, json};

use super::super::tests::{ethernet, settle_or_wait};
use super::super::{Action, Seen, plan};
use super::*;
use crate::controllers::fixtures::{changed, machine};
use crate::plan::Plan;
use crate::resources::network::{Address, AddressState};

/// Does to the snapshot what the kernel would do.
pub fn shape(seen: &mut Seen, change: LinkChange) {
    let kernel = &mut seen.kernel;
    match change {
        LinkChange::Load(module) => assert!(seen.modules.insert(module.name)),
        LinkChange::Add { link, shape, hardware_address } => {
            let (kind, module) = match &shape {
                Shape::Vlan(vlan) => {
                    assert!(kernel.links.contains_key(&vlan.parent), "no parent {vlan:?}");
                    ("vlan", VLAN_MODULE)
                }
                Shape::Bond(_) => ("bond", BOND_MODULE),
                Shape::Bridge(_) => ("bridge", BRIDGE_MODULE),
            };
            assert!(seen.modules.contains(module), "{module} is not loaded");
            let index = kernel.links.values().map(|link| link.index).max().unwrap_or(1) + 1;
            let shape = Some(without_members(&shape));
            let mut made = Link { kind: kind.into(), owned: true, shape, ..ethernet(index, false) };
            made.hardware_address = hardware_address.unwrap_or(made.hardware_address);
            assert!(kernel.links.insert(link, made).is_none());
        }
        LinkChange::Change { link, from, to } => {
            let link = kernel.links.get_mut(&link).unwrap();
            assert!(link.shape.as_ref() == Some(&from) && can_become(&from, &to), "{link:?}");
            link.shape = Some(without_members(&to));
        }
        LinkChange::SetPrimary { bond, member } => {
            let Some(Shape::Bond(shape)) = &mut kernel.links.get_mut(&bond).unwrap().shape else { panic!("{bond}") };
            shape.primary = member;
        }
        LinkChange::SetHardwareAddress { link, hardware_address } => {
            kernel.links.get_mut(&link).unwrap().hardware_address = hardware_address;
        }
        LinkChange::Remove { link } => remove(seen, &link),
        LinkChange::Join { member, master } => {
            assert!(!kernel.addresses.iter().any(|address| address.link == member), "{member} joins with addresses");
            let is_bond = kernel.links[&master].kind == "bond";
            let is_first = !kernel.links.values().any(|link| link.master.as_ref() == Some(&master));
            let own = kernel.links[&member].hardware_address.clone();
            let common = if is_first { own } else { kernel.links[&master].hardware_address.clone() };
            let joining = kernel.links.get_mut(&member).unwrap();
            assert_eq!(joining.master, None);
            joining.master = Some(master.clone());
            joining.up = is_bond;
            if is_bond {
                joining.hardware_address = common.clone();
                kernel.links.get_mut(&master).unwrap().hardware_address = common;
            }
        }
        LinkChange::Leave { member } => {
            let link = kernel.links.get_mut(&member).unwrap();
            assert!(link.master.take().is_some());
            link.up = false;
        }
    }
}

/// With all that is above it; one that went so is gone when its turn comes.
fn remove(seen: &mut Seen, name: &str) {
    let Some(removed) = seen.kernel.links.remove(name) else { return };
    assert!(removed.owned, "{name} is not ours");
    seen.kernel.addresses.retain(|address| address.link != name);
    seen.kernel.routes.retain(|route| route.link != name);
    for link in seen.kernel.links.values_mut().filter(|link| link.master.as_deref() == Some(name)) {
        link.master = None;
        link.up = false;
    }
    let is_above = |link: &Link| matches!(&link.shape, Some(Shape::Vlan(vlan)) if vlan.parent == name);
    let above: Vec<String> = seen.kernel.links.iter().filter(|(_, link)| is_above(link)).map(|(name, _)| name.clone()).collect();
    above.iter().for_each(|name| remove(seen, name));
}

/// Four cards, the pods' bridge, and a machine config with these interfaces.
fn seen(interfaces: &Value) -> Seen {
    let mut seen = Seen { machine_id: "0123456789abcdef0123456789abcdef".into(), ..Seen::default() };
    for index in 0..4 {
        seen.kernel.links.insert(format!("eth{index}"), ethernet(index + 2, false));
    }
    seen.kernel.links.insert("cni0".into(), Link { kind: "bridge".into(), ..ethernet(9, true) });
    configure(&mut seen, interfaces);
    seen
}

fn configure(seen: &mut Seen, interfaces: &Value) {
    let interfaces: Vec<Interface> = serde_json::from_value(interfaces.clone()).unwrap();
    seen.config = Some(changed(&machine("worker"), |config| config.machine.network.interfaces = interfaces).config);
}

/// Every link but the pods' bridge: name, kind, whether it is up, and what it is in.
fn picture(seen: &Seen) -> String {
    let line = |(name, link): (&String, &Link)| {
        let within = link.master.as_ref().map(|master| format!(" in {master}")).unwrap_or_default();
        format!("{name} {}{}{within}", link.kind, if link.up { " up" } else { "" })
    };
    let lines: Vec<String> = seen.kernel.links.iter().filter(|(name, _)| *name != "cni0").map(line).collect();
    lines.join("; ")
}

fn bond(members: &[&str], more: Value) -> Value {
    let mut bond = json!({ "interfaces": members, "mode": "active-backup" });
    bond.as_object_mut().unwrap().extend(more.as_object().cloned().unwrap());
    json!({ "name": "bond0", "bond": bond })
}

#[test]
fn links_become_as_the_config_says_and_nothing_is_left_to_do_then() {
    let vlan = |parent: &str| json!({ "name": "v", "vlan": { "id": 100, "parent": parent }, "addresses": ["192.0.2.1/24"], "mtu": 1500 });
    let table = [
        (json!([{ "name": "eth0" }]), "eth0 ethernet up; eth1 ethernet; eth2 ethernet; eth3 ethernet"),
        // A parent without an item of its own is raised.
        (json!([vlan("eth1")]), "eth0 ethernet; eth1 ethernet up; eth2 ethernet; eth3 ethernet; v vlan up"),
        (
            // Above comes first in the config, and is made last.
            json!([vlan("br0"), { "name": "br0", "bridge": { "interfaces": ["bond0", "eth3"] } }, bond(&["eth0", "eth1"], json!({}))]),
            "bond0 bond up in br0; br0 bridge up; eth0 ethernet up in bond0; eth1 ethernet up in bond0; eth2 ethernet; eth3 ethernet up in br0; v vlan up",
        ),
        (
            json!([bond(&["eth0"], json!({ "primary": "eth0" })), { "name": "eth0" }, { "name": "br0", "bridge": {} }]),
            "bond0 bond up; br0 bridge up; eth0 ethernet up in bond0; eth1 ethernet; eth2 ethernet; eth3 ethernet",
        ),
    ];
    for (interfaces, expected) in &table {
        let mut seen = seen(interfaces);
        assert_eq!(settle_or_wait(&mut seen), Vec::<String>::new());
        assert_eq!(picture(&seen), *expected);
    }
    // From each to each other: what is not wanted goes, and nobody else's link is touched.
    for (from, _) in &table {
        for (to, expected) in &table {
            let mut seen = seen(from);
            settle_or_wait(&mut seen);
            configure(&mut seen, to);
            assert_eq!(settle_or_wait(&mut seen), Vec::<String>::new());
            let up = |picture: &str| picture.replace("ethernet up;", "ethernet;");
            // A card that was used before stays up.
            assert_eq!(up(&picture(&seen)), up(expected));
            assert_eq!(seen.kernel.links["cni0"], Link { kind: "bridge".into(), ..ethernet(9, true) });
        }
    }
}

#[test]
fn a_change_breaks_as_little_as_the_kernel_lets_it() {
    let before = json!([bond(&["eth0", "eth1"], json!({ "primary": "eth0" })), { "name": "br0", "bridge": { "interfaces": ["eth3"] } }]);
    let br0 = json!({ "name": "br0", "bridge": { "interfaces": ["eth3"] } });
    let table = [
        (json!([bond(&["eth0", "eth1"], json!({ "primary": "eth1" })), br0]), "SetPrimary bond0 eth1"),
        (json!([bond(&["eth0", "eth1"], json!({})), br0]), "SetPrimary bond0 none"),
        (json!([bond(&["eth0", "eth1"], json!({ "primary": "eth0", "miiMonitor": "50ms", "upDelay": "100ms" })), br0]), "Change bond0"),
        (json!([bond(&["eth0", "eth1", "eth2"], json!({ "primary": "eth0" })), br0]), "Join eth2 bond0"),
        (json!([bond(&["eth0"], json!({ "primary": "eth0" })), br0]), "Leave eth1"),
        (json!([bond(&["eth0", "eth1"], json!({ "mode": "802.3ad" })), br0]), "Remove bond0"),
        (
            json!([bond(&["eth0", "eth1"], json!({ "primary": "eth0" })), { "name": "br0", "bridge": { "interfaces": ["eth3"], "stp": true } }]),
            "Change br0",
        ),
        (json!([bond(&["eth0", "eth1"], json!({ "primary": "eth0" }))]), "Remove br0"),
        (json!([bond(&["eth0", "eth1"], json!({ "primary": "eth0" })), { "name": "br0", "dhcp": true }]), "Remove br0"),
        (json!([{ "name": "eth0", "dhcp": true }]), "Remove bond0; Remove br0"),
        (before.clone(), ""),
    ];
    for (after, expected) in table {
        let mut seen = seen(&before);
        settle_or_wait(&mut seen);
        configure(&mut seen, &after);
        assert_eq!(changes(&seen), expected, "{after}");
    }
}

/// What the next plan does to links.
fn changes(seen: &Seen) -> String {
    let Plan::Act(actions) = plan(seen) else { return String::new() };
    let changes = actions.into_iter().flat_map(|action| if let Action::ShapeLinks(changes) = action { changes } else { Vec::new() });
    let told = changes.map(|change| match change {
        LinkChange::Load(module) => format!("Load {} {}", module.name, module.parameters.join(" ")),
        LinkChange::Add { link, .. } => format!("Add {link}"),
        LinkChange::Change { link, .. } => format!("Change {link}"),
        LinkChange::SetPrimary { bond, member } => format!("SetPrimary {bond} {}", member.unwrap_or("none".into())),
        LinkChange::SetHardwareAddress { link, hardware_address } => format!("SetHardwareAddress {link} {hardware_address}"),
        LinkChange::Remove { link } => format!("Remove {link}"),
        LinkChange::Join { member, master } => format!("Join {member} {master}"),
        LinkChange::Leave { member } => format!("Leave {member}"),
    });
    told.collect::<Vec<_>>().join("; ")
}

#[test]
fn a_member_that_comes_later_joins_and_what_is_missing_is_told() {
    let mut seen =
        seen(&json!([bond(&["eth0", "eth7"], json!({ "primary": "eth7" })), { "name": "v", "vlan": { "id": 5, "parent": "eth8" } }]));
    assert_eq!(changes(&seen), "Load bonding max_bonds=0; Add bond0");
    assert_eq!(settle_or_wait(&mut seen), ["link eth7, a member of bond0", "link eth8, the parent of v"]);
    for (name, index) in [("eth7", 20), ("eth8", 21)] {
        seen.kernel.links.insert(name.into(), ethernet(index, false));
    }
    assert_eq!(settle_or_wait(&mut seen), Vec::<String>::new());
    assert!(picture(&seen).contains("eth7 ethernet up in bond0; eth8 ethernet up; v vlan up"), "{}", picture(&seen));
    let Some(Shape::Bond(bond)) = &seen.kernel.links["bond0"].shape else { panic!() };
    assert_eq!(bond.primary.as_deref(), Some("eth7"));
    // It is lost: the kernel takes it out, and out of what the bond prefers.
    seen.kernel.links.remove("eth7");
    let Some(Shape::Bond(bond)) = &mut seen.kernel.links.get_mut("bond0").unwrap().shape else { panic!() };
    bond.primary = None;
    assert_eq!(settle_or_wait(&mut seen), ["link eth7, a member of bond0"]);
}

#[test]
fn what_others_made_is_left_alone() {
    let mut seen = seen(&json!([
        { "name": "br0", "bridge": { "interfaces": ["eth0", "eth1"] } },
        { "name": "bond0", "bond": { "interfaces": ["eth2"], "mode": "balance-rr" }, "addresses": ["192.0.2.9/24"] },
    ]));
    // A bond0 that came with the module, and a card that somebody put into the pods' bridge.
    let foreign = Link { kind: "bond".into(), ..ethernet(30, false) };
    seen.kernel.links.insert("bond0".into(), foreign.clone());
    seen.kernel.links.get_mut("eth1").unwrap().master = Some("cni0".into());
    let expected = ["link eth1, a member of br0, which is in cni0", "the name bond0, which a link has that is not the machine config's"];
    assert_eq!(settle_or_wait(&mut seen), expected);
    assert_eq!(seen.kernel.links["bond0"], foreign);
    assert!(seen.kernel.addresses.is_empty());
    // A pod's port stays in our bridge, a card does not, and the bridge keeps the address of its own port.
    let own = seen.kernel.links["br0"].hardware_address.clone();
    assert_eq!(own, seen.kernel.links["eth0"].hardware_address);
    let port = Link { kind: "veth".into(), master: Some("br0".into()), hardware_address: "02:00:00:00:00:01".into(), ..ethernet(31, true) };
    seen.kernel.links.insert("veth1".into(), port.clone());
    seen.kernel.links.get_mut("br0").unwrap().hardware_address = port.hardware_address.clone();
    seen.kernel.links.get_mut("eth3").unwrap().master = Some("br0".into());
    assert_eq!(changes(&seen), format!("Leave eth3; SetHardwareAddress br0 {own}"));
    settle_or_wait(&mut seen);
    assert_eq!((&seen.kernel.links["veth1"], seen.kernel.links["eth3"].master.as_ref()), (&port, None));
}

#[test]
fn a_member_gives_its_addresses_up_first_and_gets_them_back() {
    let single = json!([{ "name": "eth0", "addresses": ["192.0.2.1/24"] }]);
    let mut seen = seen(&single);
    settle_or_wait(&mut seen);
    let on =
        |link: &str| Address { link: link.into(), address: "192.0.2.1/24".parse().unwrap(), owned: true, state: AddressState::default() };
    let mut bonded = bond(&["eth0", "eth1"], json!({}));
    bonded["addresses"] = json!(["192.0.2.1/24"]);
    for (interfaces, link) in [(json!([bonded]), "bond0"), (single, "eth0")] {
        configure(&mut seen, &interfaces);
        assert_eq!(settle_or_wait(&mut seen), Vec::<String>::new());
        assert_eq!(seen.kernel.addresses, BTreeSet::from([on(link)]));
    }
}

#[test]
fn rules_come_and_go_and_others_stay() {
    let mut seen = seen(&json!([{ "name": "eth0" }]));
    let foreign = crate::resources::link::RoutingRule { ipv4: true, priority: 5, table: 254, ..Default::default() };
    let same = crate::resources::link::RoutingRule { priority: 7, from: "192.0.2.0/24".parse().ok(), ..foreign.clone() };
    seen.kernel.rules.extend([foreign.clone(), same.clone()]);
    let mut config = (**seen.config.as_ref().unwrap()).clone();
    config.machine.network.rules = serde_json::from_value(json!([
        { "priority": 7, "from": "192.0.2.0/24", "table": 254 },
        { "priority": 8, "from": "::/0", "to": "2001:db8::/32", "table": 100 },
    ]))
    .unwrap();
    seen.config = Some(Arc::new(config));
    settle_or_wait(&mut seen);
    let ours: Vec<_> = seen.kernel.rules.iter().filter(|rule| rule.owned).collect();
    // The kernel knows no network of all addresses; and the rule that is there already is not put there again.
    assert_eq!(ours.iter().map(|rule| (rule.name(), rule.from, rule.table)).collect::<Vec<_>>(), [("ipv6/8".to_owned(), None, 100)]);
    configure(&mut seen, &json!([{ "name": "eth0" }]));
    settle_or_wait(&mut seen);
    assert_eq!(seen.kernel.rules, BTreeSet::from([foreign, same]));
}
