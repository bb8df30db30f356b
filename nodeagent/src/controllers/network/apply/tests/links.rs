//! Bridges, rules and tables of routes as the kernel of the machine that tests makes them. VLANs and bonds it may not have: those are tried in
//! a VM, and here where it has them.

use std::collections::{BTreeMap, BTreeSet};
use std::process::Command;
use std::sync::Arc;

use machine::config::Interface;
use rtnetlink::{LinkBridge, LinkVeth};
use serde_json::{Value, json};

use super::*;
use crate::controllers::fixtures::{changed, machine};
use crate::controllers::network::plan::{Seen, links, plan};
use crate::plan::Plan;
use crate::resources::link::{RoutingRule, Shape};

async fn observe(netlink: &Handle, config: &Arc<machine::config::Config>) -> Seen {
    // Where modules come from is no matter of these tests: the host has them, or the kernel loads them itself.
    let modules: BTreeSet<String> = links::MODULES.map(str::to_owned).into();
    Seen { config: Some(config.clone()), kernel: kernel::read(netlink).await.unwrap(), modules, ..Seen::default() }
}

/// What has to do with links; the name and the files of this machine are not a test's.
fn of_links(plan: Plan<Action>) -> Vec<Action> {
    let Plan::Act(actions) = plan else { return Vec::new() };
    let is_other = |action: &Action| {
        matches!(
            action,
            Action::SetHostname(_)
                | Action::WriteFile(..)
                | Action::TellResolvers(_)
                | Action::TellHostname(_)
                | Action::TellNodeIps(_)
                | Action::StartDhcp { .. }
                | Action::StopDhcp(_)
                | Action::TellDuplicate(_)
        )
    };
    actions.into_iter().filter(|action| !is_other(action)).collect()
}

/// Plans and does until nothing is left; what there is then.
async fn settle(netlink: &Handle, config: &Arc<machine::config::Config>) -> kernel::Kernel {
    for _ in 0..10 {
        let seen = observe(netlink, config).await;
        let actions = of_links(plan(&seen));
        if actions.is_empty() {
            return seen.kernel;
        }
        do_all(actions, netlink).await;
    }
    panic!("not settled: {:?}", of_links(plan(&observe(netlink, config).await)));
}

fn configured(interfaces: &Value, rules: &Value) -> Arc<machine::config::Config> {
    let interfaces: Vec<Interface> = serde_json::from_value(interfaces.clone()).unwrap();
    let rules = serde_json::from_value(rules.clone()).unwrap();
    let change = |config: &mut machine::config::Config| {
        config.machine.network.interfaces = interfaces;
        config.machine.network.rules = rules;
    };
    changed(&machine("worker"), change).config
}

/// Cards are not to be had in a namespace: links of two ends stand for them.
async fn two_cards(netlink: &Handle) {
    for (name, peer) in [("eth0", "peer0"), ("eth1", "peer1")] {
        netlink.link().add(LinkVeth::new(name, peer).build()).execute().await.unwrap();
    }
}

#[test]
fn a_bridge_comes_changes_and_goes_with_its_ports_and_a_foreign_one_stays() {
    in_namespace(|| async {
        let netlink = kernel::connect().unwrap();
        two_cards(&netlink).await;
        netlink.link().add(LinkBridge::new("foreign").build()).execute().await.unwrap();
        let bridge = |ports: &[&str], stp: bool| json!([{ "name": "br0", "mtu": 1400, "addresses": ["192.0.2.10/24"], "bridge": { "interfaces": ports, "stp": stp } }]);
        let seen = settle(&netlink, &configured(&bridge(&["eth0", "eth1"], false), &json!([]))).await;
        let br0 = &seen.links["br0"];
        assert!(br0.up && br0.owned && br0.mtu == 1400, "{br0:?}");
        assert_eq!(br0.hardware_address, seen.links["eth0"].hardware_address);
        for port in ["eth0", "eth1"] {
            assert!(seen.links[port].up && seen.links[port].master.as_deref() == Some("br0"), "{:?}", seen.links[port]);
        }
        assert!(seen.addresses.iter().any(|address| address.link == "br0" && address.owned));
        // Another agent sees the same and does nothing: it has only the kernel to know by.
        assert_eq!(of_links(plan(&observe(&netlink, &configured(&bridge(&["eth0", "eth1"], false), &json!([]))).await)), Vec::new());

        let index = br0.index;
        let seen = settle(&netlink, &configured(&bridge(&["eth0", "eth1"], true), &json!([]))).await;
        assert!(matches!(&seen.links["br0"].shape, Some(Shape::Bridge(bridge)) if bridge.stp), "{:?}", seen.links["br0"]);
        assert_eq!(seen.links["br0"].index, index, "it was changed, not made anew");

        let seen = settle(&netlink, &configured(&json!([{ "name": "eth0", "addresses": ["192.0.2.10/24"] }]), &json!([]))).await;
        assert!(!seen.links.contains_key("br0"));
        assert_eq!((seen.links["eth0"].master.as_deref(), seen.links["eth0"].up), (None, true));
        assert!(seen.addresses.iter().any(|address| address.link == "eth0" && address.owned));
        assert!(seen.links.contains_key("foreign"));
    });
}

#[test]
fn rules_and_their_tables_come_and_go() {
    in_namespace(|| async {
        let netlink = kernel::connect().unwrap();
        two_cards(&netlink).await;
        let route = |table: u32| json!({ "to": "0.0.0.0/0", "via": "192.0.2.1", "table": table });
        let interfaces = json!([
            { "name": "eth0", "addresses": ["192.0.2.10/24", "2001:db8::10/64"], "routes": [route(100), route(70_000), route(254),
                { "to": "::/0", "via": "2001:db8::1", "table": 100 }] },
            { "name": "peer0" },
        ]);
        let rules = json!([
            { "priority": 100, "from": "192.0.2.10/32", "table": 100 },
            { "priority": 101, "from": "0.0.0.0/0", "to": "198.51.100.0/24", "table": 70_000 },
            { "priority": 100, "from": "2001:db8::10/128", "table": 100 },
            { "priority": 102, "mark": 0x100, "mask": 0xff00, "table": 100 },
            { "priority": 103, "interface": "lo", "mark": 7, "table": 70_000 },
        ]);
        let seen = settle(&netlink, &configured(&interfaces, &rules)).await;
        let mut tables: Vec<u32> = seen.routes.iter().filter(|route| route.owned).map(|route| route.table).collect();
        tables.sort_unstable();
        assert_eq!(tables, [100, 100, 254, 70_000]);
        let ours: BTreeMap<String, u32> = seen.rules.iter().filter(|rule| rule.owned).map(|rule| (rule.name(), rule.table)).collect();
        let both = |priority: u32, table| [(format!("ipv4/{priority}"), table), (format!("ipv6/{priority}"), table)];
        let by_network = [("ipv4/100".into(), 100), ("ipv4/101".into(), 70_000), ("ipv6/100".into(), 100)];
        assert_eq!(ours, BTreeMap::from_iter([&by_network[..], &both(102, 100), &both(103, 70_000)].concat()));
        // Which way packets with a mark go, the kernel says.
        for (mark, table) in [("0x1ff", "table 100 "), ("7", "table 70000 "), ("0x207", "")] {
            let answer = Command::new("ip").args(["route", "get", "203.0.113.1", "mark", mark]).output().unwrap();
            let answer = String::from_utf8(answer.stdout).unwrap();
            assert!(
                answer.contains("via 192.0.2.1") && answer.contains(table) && (table.is_empty() != answer.contains("table")),
                "{mark}: {answer}"
            );
        }
        let seen = settle(&netlink, &configured(&json!([{ "name": "eth0", "addresses": ["192.0.2.10/24"] }]), &json!([]))).await;
        assert!(!seen.rules.iter().any(|rule| rule.owned), "{:?}", seen.rules);
        assert!(!seen.routes.iter().any(|route| route.owned), "{:?}", seen.routes);
        // The kernel's own are there as ever.
        let main = RoutingRule { ipv4: true, priority: 32766, table: 254, ..RoutingRule::default() };
        assert!(seen.rules.contains(&main), "{:?}", seen.rules);
    });
}

/// A bond of two cards with a VLAN above it, and what a bond's modes let be changed.
#[test]
#[ignore = "needs a kernel with bonding and 8021q: the VM test of group `network` has one"]
fn a_vlan_over_a_bond_comes_changes_and_goes() {
    in_namespace(|| async {
        let netlink = kernel::connect().unwrap();
        two_cards(&netlink).await;
        let config = |bond: Value| {
            let mut interfaces = json!([
                { "name": "vlan100", "mtu": 1400, "addresses": ["192.0.2.10/24"], "vlan": { "id": 100, "parent": "bond0" } },
                { "name": "bond0", "mtu": 1450, "bond": { "interfaces": ["eth0", "eth1"], "mode": "active-backup" } },
                { "name": "peer0" },
                { "name": "peer1" },
            ]);
            interfaces[1]["bond"].as_object_mut().unwrap().extend(bond.as_object().cloned().unwrap());
            configured(&interfaces, &json!([]))
        };
        let bond_of = |seen: &kernel::Kernel| match &seen.links["bond0"].shape {
            Some(Shape::Bond(bond)) => bond.clone(),
            other => panic!("{other:?}"),
        };
        let seen = settle(&netlink, &config(json!({ "primary": "eth1" }))).await;
        let (bond, vlan) = (&seen.links["bond0"], &seen.links["vlan100"]);
        assert!(bond.up && bond.owned && bond.mtu == 1450, "{bond:?}");
        assert!(vlan.up && vlan.owned && vlan.mtu == 1400, "{vlan:?}");
        assert!(matches!(&vlan.shape, Some(Shape::Vlan(shape)) if shape.id == 100 && shape.parent == "bond0"), "{vlan:?}");
        assert_eq!((bond_of(&seen).primary.as_deref(), bond_of(&seen).mii_monitor), (Some("eth1"), 100));
        for member in ["eth0", "eth1"] {
            let link = &seen.links[member];
            assert!(link.up && link.master.as_deref() == Some("bond0") && link.hardware_address == bond.hardware_address, "{link:?}");
        }
        let index = bond.index;

        let change = json!({ "miiMonitor": "50ms", "upDelay": "200ms", "downDelay": "100ms" });
        let seen = settle(&netlink, &config(change)).await;
        let shape = bond_of(&seen);
        assert_eq!((shape.mii_monitor, shape.up_delay, shape.down_delay, shape.primary), (50, 200, 100, None));
        assert_eq!(seen.links["bond0"].index, index, "it was changed, not made anew");

        let lacp = json!({ "mode": "802.3ad", "lacpRate": "fast", "transmitHashPolicy": "layer3+4", "minLinks": 1 });
        let seen = settle(&netlink, &config(lacp)).await;
        assert_ne!(seen.links["bond0"].index, index, "a mode is changed only by making it anew");
        assert!(seen.links["vlan100"].up && seen.links["eth0"].master.is_some());

        let modes = ["balance-rr", "balance-xor", "broadcast", "balance-tlb", "balance-alb"];
        for mode in modes {
            let seen = settle(&netlink, &config(json!({ "mode": mode }))).await;
            assert_eq!(bond_of(&seen).mode.name(), mode);
        }
        let seen = settle(&netlink, &configured(&json!([{ "name": "eth0", "addresses": ["192.0.2.10/24"] }]), &json!([]))).await;
        assert!(!seen.links.contains_key("bond0") && !seen.links.contains_key("vlan100"));
        assert_eq!((seen.links["eth0"].master.as_deref(), seen.links["eth0"].up), (None, true));
    });
}
