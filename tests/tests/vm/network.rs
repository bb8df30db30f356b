//! The links that a machine config makes, as others on the wire see them: the machine has two cards on one wire, and this test is the only
//! other station on it.

mod wire;

use std::time::Duration;

use anyhow::{Context, ensure};
use serde_json::{Value, json};
use tests::node::{Node, Up};
use tests::until::until;

use wire::Wire;

/// For the agent to make links, and for a bond to change its member.
const PATIENCE: Duration = Duration::from_secs(180);

/// A bond with a VLAN above it, and another VLAN of it that is a port of a bridge.
const LINKS: &str = "{ machine: { network: {
    interfaces: [
      { name: eth0, dhcp: true },
      { name: bond0, bond: { interfaces: [eth1, eth2], mode: active-backup, primary: eth1 } },
      { name: vlan100, vlan: { id: 100, parent: bond0 }, addresses: [198.51.100.1/24],
        routes: [{ to: 0.0.0.0/0, via: 198.51.100.2, table: 100 }] },
      { name: vlan200, vlan: { id: 200, parent: bond0 } },
      { name: br0, bridge: { interfaces: [vlan200] }, addresses: [203.0.113.1/24] } ],
    rules: [{ priority: 1000, from: 198.51.100.1/32, table: 100 }] } } }";

const WITHOUT_LINKS: &str = "{ machine: { network: { interfaces: null, rules: null } } }";

/// VLAN, the machine's address in it, and this test's.
const STATIONS: [(u16, [u8; 4], [u8; 4]); 2] = [(100, [198, 51, 100, 1], [198, 51, 100, 2]), (200, [203, 0, 113, 1], [203, 0, 113, 2])];

#[test]
#[ignore = "boots a VM: make vm-test T=network"]
fn vlans_over_a_bond_answer_while_one_of_its_members_has_no_carrier() -> anyhow::Result<()> {
    let mut node = Node::with("bare", &[LINKS])?;
    let wire = Wire::new(&node.file("wire"))?;
    node.hardware.extra = wire.cards(2);
    let _disk = node.configured()?;

    until("links as the config says", PATIENCE, || as_configured(&node))?;
    until("eth1, the primary, active", PATIENCE, || is_active(&node, "eth1"))?;
    answers(&wire)?;
    let rules = node.resources("rules")?;
    ensure!(rules.len() == 1 && rules[0]["status"]["table"] == 100, "{rules:?}");

    set_carrier(&node, 1, false)?;
    until("eth2 active, the only one with a carrier", PATIENCE, || is_active(&node, "eth2"))?;
    answers(&wire)?;
    set_carrier(&node, 1, true)?;
    until("eth1, the primary, active again", PATIENCE, || is_active(&node, "eth1"))?;
    answers(&wire)?;

    node.ask(&Up::Configured, &["patch", WITHOUT_LINKS])?;
    let gone = || {
        let links = links(&node)?;
        ensure!(!["bond0", "vlan100", "vlan200", "br0"].iter().any(|name| links.get(name).is_some()), "{links}");
        ensure!(links["eth1"]["master"].is_null() && links["eth1"]["up"] == true, "{links}");
        ensure!(node.resources("rules")?.is_empty(), "a rule is left");
        Ok(())
    };
    until("cards alone again", PATIENCE, gone)
}

/// The status of every link, by name.
fn links(node: &Node) -> anyhow::Result<Value> {
    let links = node.resources("links")?;
    let name = |link: &Value| link["name"].as_str().map(str::to_owned).with_context(|| format!("no name in {link}"));
    let by_name = links.iter().map(|link| Ok((name(link)?, link["status"].clone())));
    Ok(Value::Object(by_name.collect::<anyhow::Result<_>>()?))
}

fn as_configured(node: &Node) -> anyhow::Result<()> {
    let links = links(node)?;
    for (pointer, expected) in [
        ("/bond0/bond/mode", json!("active-backup")),
        ("/eth1/master", json!("bond0")),
        ("/eth2/master", json!("bond0")),
        ("/vlan100/vlan", json!({ "id": 100, "parent": "bond0" })),
        ("/vlan200/master", json!("br0")),
        ("/br0/owned", json!(true)),
        ("/br0/up", json!(true)),
    ] {
        let found = links.pointer(pointer);
        ensure!(found == Some(&expected), "{pointer}: {found:?} instead of {expected}, in {links}");
    }
    Ok(())
}

fn is_active(node: &Node, member: &str) -> anyhow::Result<()> {
    let links = links(node)?;
    let active = &links["bond0"]["bond"]["activeMember"];
    ensure!(active == member, "{active} is active, in {links}");
    Ok(())
}

/// Both VLANs answer under their own tag, and nothing answers under another.
fn answers(wire: &Wire) -> anyhow::Result<()> {
    for (vlan, machine, station) in STATIONS {
        until(&format!("an answer in VLAN {vlan}"), PATIENCE, || wire.ping(vlan, machine, station))?;
        ensure!(wire.ping(vlan + 1, machine, station).is_err(), "{machine:?} answers in VLAN {}", vlan + 1);
    }
    Ok(())
}

fn set_carrier(node: &Node, card: usize, up: bool) -> anyhow::Result<()> {
    node.machine()?.qmp()?.execute("set_link", json!({ "name": Wire::card(card), "up": up }))?;
    Ok(())
}
