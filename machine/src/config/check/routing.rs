//! Rules that choose between tables of routes, and the tables' numbers.

use std::collections::HashSet;

use ipnet::IpNet;

use super::Check;
use crate::config::report::Path;
use crate::config::structure::quoted;
use crate::config::{RoutingRule, names};

/// Tables that the kernel keeps for itself (rt_names): what `default` and `local` hold is no matter of a config.
const RESERVED: [(u32, &str); 3] = [(0, "unspecified"), (253, "default"), (255, "local")];

/// The kernel's own rules: 0 is that of the table `local`, 32766 that of the main one.
const PRIORITIES: std::ops::RangeInclusive<u32> = 1..=32765;

pub fn check(rules: &[RoutingRule], check: &mut Check<'_>) {
    let path = Path::of("machine.network.rules");
    for (index, rule) in rules.iter().enumerate() {
        let path = path.item(index);
        if !PRIORITIES.contains(&rule.priority) {
            check.add(&path.key("priority"), rule.priority.to_string(), "1 to 32765", "the kernel's own rules have the others");
        }
        table(&path.key("table"), rule.table, check);
        networks(&path, rule, check);
        mark(&path, rule, check);
        if let Some(name) = rule.interface.as_deref().filter(|name| !names::is_link_name(name)) {
            check.add(&path.key("interface"), quoted(name), "a link's name, such as eth0", "");
        }
    }
    // Of two rules with one priority the kernel takes the older one: which that is depends on what happened before.
    let mut seen = HashSet::new();
    for (index, rule) in rules.iter().enumerate() {
        // Of both families it is told once.
        let known: Vec<bool> = rule.families().filter(|is_ipv4| !seen.insert((*is_ipv4, rule.priority))).collect();
        if let Some(is_ipv4) = known.first() {
            let family = if *is_ipv4 { "IPv4" } else { "IPv6" };
            let found = format!("{} a second time among the rules of {family}", rule.priority);
            check.add(&path.item(index).key("priority"), found, "", "give each rule a priority of its own: it is their order");
        }
    }
}

pub fn table(path: &Path, table: u32, check: &mut Check<'_>) {
    if let Some((_, name)) = RESERVED.iter().find(|(reserved, _)| *reserved == table) {
        let expected = "1 to 4294967295 without 253 and 255; 254 is the main one";
        check.add(path, format!("{table}, which is the kernel's table {name}"), expected, "");
    }
}

fn networks(path: &Path, rule: &RoutingRule, check: &mut Check<'_>) {
    let given = [("from", rule.from), ("to", rule.to)];
    for (name, network) in given.iter().filter_map(|(name, network)| Some((name, (*network)?))) {
        whole(&path.key(name), &network, check);
    }
    match (rule.from, rule.to) {
        (None, None) if rule.interface.is_none() && rule.mark.is_none() => {
            let found = "neither from nor to, interface or mark";
            check.add(path, found, "at least one of them", "write from: 0.0.0.0/0 or ::/0 for all packets of a family")
        }
        (Some(from), Some(to)) if rule.families().next().is_none() => {
            check.add(&path.key("to"), to.to_string(), format!("a network of the family of {from}"), "write two rules");
        }
        _ => {}
    }
}

fn mark(path: &Path, rule: &RoutingRule, check: &mut Check<'_>) {
    match (rule.mark, rule.mask) {
        (None, Some(mask)) => check.add(&path.key("mask"), format!("{mask:#x} without mark"), "a mark of which it tells the bits", ""),
        (Some(_), Some(0)) => check.add(&path.key("mask"), "0", "at least one bit", "leave it out for all bits of the mark"),
        (Some(mark), Some(mask)) if mark & !mask != 0 => {
            let remedy = format!("no packet would fit: write mark: {:#x}", mark & mask);
            check.add(&path.key("mark"), format!("{mark:#x}"), format!("bits of the mask {mask:#x} alone"), remedy);
        }
        _ => {}
    }
}

fn whole(path: &Path, network: &IpNet, check: &mut Check<'_>) {
    if *network != network.trunc() {
        let remedy = format!("write {}, or {}/{} for the address alone", network.trunc(), network.addr(), network.max_prefix_len());
        check.add(path, format!("{network}, an address within a network"), "a network", remedy);
    }
}
