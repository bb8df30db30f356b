//! Rules that choose between tables of routes, and the tables' numbers.

use std::collections::HashSet;

use ipnet::IpNet;

use super::Check;
use crate::config::RoutingRule;
use crate::config::report::Path;

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
    }
    // Of two rules with one priority the kernel takes the older one: which that is depends on what happened before.
    let mut seen = HashSet::new();
    for (index, rule) in rules.iter().enumerate() {
        let Some(is_ipv4) = rule.is_ipv4() else { continue };
        if !seen.insert((is_ipv4, rule.priority)) {
            let family = if is_ipv4 { "IPv4" } else { "IPv6" };
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
        (None, None) => {
            check.add(path, "neither from nor to", "at least one of them", "write from: 0.0.0.0/0 or ::/0 for all packets of a family")
        }
        (Some(from), Some(to)) if rule.is_ipv4().is_none() => {
            check.add(&path.key("to"), to.to_string(), format!("a network of the family of {from}"), "write two rules");
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
