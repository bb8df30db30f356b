//! The table in nft's words: all of it, for a kernel without one or with another, or what makes one of another, touching only what differs.
//! Either is one transaction.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::net::IpAddr;

use super::table::{Chain, Elements, Match, Name, Ports, Set, Table};
use crate::controllers::cni::BRIDGE;

pub const TABLE: &str = "corten-policy";

/// Elements in one command: nft wants no line without end.
const IN_ONE_COMMAND: usize = 512;

/// A set or a map that is always there, and what of a table is in it: each address, and how the element is written.
struct Fixed {
    name: &'static str,
    kind: &'static str,
    declaration: &'static str,
    ipv6: bool,
    elements: fn(&Table) -> BTreeMap<IpAddr, String>,
}

const fn fixed(
    name: &'static str,
    kind: &'static str,
    declaration: &'static str,
    ipv6: bool,
    elements: fn(&Table) -> BTreeMap<IpAddr, String>,
) -> Fixed {
    Fixed { name, kind, declaration, ipv6, elements }
}

const FIXED: [Fixed; 10] = [
    fixed("known4", "set", "type ipv4_addr", false, known),
    fixed("known6", "set", "type ipv6_addr", true, known),
    fixed("self4", "set", "type ipv4_addr . ipv4_addr", false, itself),
    fixed("self6", "set", "type ipv6_addr . ipv6_addr", true, itself),
    fixed("isolated4", "set", "type ipv4_addr", false, isolated),
    fixed("isolated6", "set", "type ipv6_addr", true, isolated),
    fixed("egress4", "map", "type ipv4_addr : verdict", false, egress),
    fixed("egress6", "map", "type ipv6_addr : verdict", true, egress),
    fixed("ingress4", "map", "type ipv4_addr : verdict", false, ingress),
    fixed("ingress6", "map", "type ipv6_addr : verdict", true, ingress),
];

fn known(table: &Table) -> BTreeMap<IpAddr, String> {
    table.known.iter().map(|address| (*address, address.to_string())).collect()
}

fn itself(table: &Table) -> BTreeMap<IpAddr, String> {
    table.known.iter().map(|address| (*address, format!("{address} . {address}"))).collect()
}

fn isolated(table: &Table) -> BTreeMap<IpAddr, String> {
    table.isolated().into_iter().map(|address| (address, address.to_string())).collect()
}

fn egress(table: &Table) -> BTreeMap<IpAddr, String> {
    table.egress.iter().map(|(address, chain)| (*address, format!("{address} : jump {chain}"))).collect()
}

fn ingress(table: &Table) -> BTreeMap<IpAddr, String> {
    table.ingress.iter().map(|(address, chain)| (*address, format!("{address} : jump {chain}"))).collect()
}

impl Fixed {
    fn of(&self, table: &Table) -> BTreeMap<IpAddr, String> {
        let mut elements = (self.elements)(table);
        elements.retain(|address, _| address.is_ipv6() == self.ipv6);
        elements
    }
}

/// All of the table, in place of one that may be there: there is no moment without.
pub fn whole(table: &Table) -> String {
    let mut text = format!("table inet {TABLE}\ndelete table inet {TABLE}\n");
    let mut commands = Commands(&mut text);
    commands.line(format_args!("add table inet {TABLE}"));
    for fixed in &FIXED {
        commands.line(format_args!("add {} inet {TABLE} {} {{ {}; }}", fixed.kind, fixed.name, fixed.declaration));
    }
    add_new(&mut commands, &Table::default(), table);
    commands.chain("strict", &STRICT.map(str::to_owned));
    commands.line(format_args!("add chain inet {TABLE} forward {{ type filter hook forward priority filter; policy accept; }}"));
    commands.rules("forward", &forward(table));
    for fixed in &FIXED {
        commands.add_elements(fixed.name, fixed.of(table).into_values());
    }
    text
}

/// What makes `after` of `before`; none where that takes a new table.
pub fn change(before: &Table, after: &Table) -> Option<String> {
    if before.pod_networks != after.pod_networks {
        return None;
    }
    let mut text = String::new();
    let mut commands = Commands(&mut text);
    add_new(&mut commands, before, after);
    for fixed in &FIXED {
        let (was, is) = (fixed.of(before), fixed.of(after));
        let stays = |(address, element): &(&IpAddr, &String), other: &BTreeMap<IpAddr, String>| other.get(*address) == Some(*element);
        // An element of a map is named by its key.
        let key = |address: &IpAddr, element: &String| if fixed.kind == "map" { address.to_string() } else { element.clone() };
        let gone = was.iter().filter(|pair| !stays(pair, &is)).map(|(address, element)| key(address, element));
        commands.delete_elements(fixed.name, gone);
        commands.add_elements(fixed.name, is.iter().filter(|pair| !stays(pair, &was)).map(|(_, element)| element.clone()));
    }
    for name in before.chains.keys().filter(|name| !after.chains.contains_key(*name)) {
        commands.line(format_args!("delete chain inet {TABLE} {name}"));
    }
    for name in before.sets.keys().filter(|name| !after.sets.contains_key(*name)) {
        commands.line(format_args!("delete set inet {TABLE} {name}"));
    }
    Some(text)
}

/// Sets, what is in them, and chains that speak of them.
fn add_new(commands: &mut Commands<'_>, before: &Table, after: &Table) {
    for (name, set) in &after.sets {
        let Some(was) = before.sets.get(name) else {
            commands.line(format_args!("add set inet {TABLE} {name} {{ {} }}", declaration(set)));
            commands.add_elements(name, elements(&set.elements));
            continue;
        };
        match (&was.elements, &set.elements) {
            (Elements::Addresses(was), Elements::Addresses(is)) => commands.difference(name, was, is, IpAddr::to_string),
            (Elements::Ports(was), Elements::Ports(is)) => commands.difference(name, was, is, port),
            // A set of networks is named by them.
            _ => {}
        }
    }
    for (name, chain) in after.chains.iter().filter(|(name, _)| !before.chains.contains_key(*name)) {
        commands.chain(name, &rules(name, chain, after));
    }
}

fn declaration(set: &Set) -> String {
    let address = if set.ipv6 { "ipv6_addr" } else { "ipv4_addr" };
    match &set.elements {
        Elements::Addresses(_) => format!("type {address};"),
        Elements::Networks(_) => format!("type {address}; flags interval;"),
        Elements::Ports(_) => format!("type {address} . inet_proto . inet_service;"),
    }
}

fn elements(elements: &Elements) -> Vec<String> {
    match elements {
        Elements::Addresses(addresses) => addresses.iter().map(IpAddr::to_string).collect(),
        Elements::Networks(networks) => networks.iter().map(ToString::to_string).collect(),
        Elements::Ports(ports) => ports.iter().map(port).collect(),
    }
}

fn port((address, protocol, number): &(IpAddr, super::cluster::Protocol, u16)) -> String {
    format!("{address} . {} . {number}", protocol.nft())
}

/// For pods that policies are about. Nothing goes on in the middle of a connection whose beginning was not allowed: one that a change of
/// policies forbids is forgotten by the kernel, and would begin anew from whichever end speaks first.
const STRICT: [&str; 2] =
    ["ct state invalid drop", "ct state new tcp flags & (fin | syn | rst | ack) != syn meta l4proto tcp reject with tcp reset"];

/// Only what is forwarded comes here: the machine itself always reaches its pods, as the kubelet's probes do.
fn forward(table: &Table) -> Vec<String> {
    let mut rules = vec!["ct state established,related accept".to_owned()];
    // The kernel tracks no neighbour discovery.
    rules.push("icmpv6 type { nd-router-solicit, nd-router-advert, nd-neighbor-solicit, nd-neighbor-advert } accept".to_owned());
    // By link-local addresses, which are nobody's, pods would talk past their policies.
    rules.push(format!("iifname \"{BRIDGE}\" oifname \"{BRIDGE}\" ip6 saddr fe80::/10 drop"));
    for (family, digit) in [("ip", '4'), ("ip6", '6')] {
        rules.push(format!("{family} saddr . {family} daddr @self{digit} accept"));
    }
    for network in &table.pod_networks {
        let (family, digit) = if network.addr().is_ipv6() { ("ip6", '6') } else { ("ip", '4') };
        for end in ["saddr", "daddr"] {
            rules.push(format!("{family} {end} {network} {family} {end} != @known{digit} drop"));
        }
    }
    for (family, digit) in [("ip", '4'), ("ip6", '6')] {
        for end in ["saddr", "daddr"] {
            rules.push(format!("{family} {end} @isolated{digit} jump strict"));
        }
        rules.push(format!("{family} saddr vmap @egress{digit}"));
        rules.push(format!("{family} daddr vmap @ingress{digit}"));
    }
    rules
}

/// What matches goes back to where the pod's other direction is asked for.
fn rules(name: &str, chain: &Chain, table: &Table) -> Vec<String> {
    // compile names chains so.
    let end = if name.starts_with("in-") { "saddr" } else { "daddr" };
    let mut rules: Vec<String> = chain.iter().filter_map(|one| rule(one, end, table)).collect();
    rules.push("drop".to_owned());
    rules
}

fn rule(one: &Match, end: &str, table: &Table) -> Option<String> {
    let family = |set: &Name| Some(if table.sets.get(set)?.ipv6 { "ip6" } else { "ip" });
    let mut words = String::new();
    if let Some(set) = &one.peers {
        let _ = write!(words, "{} {end} @{set} ", family(set)?);
    }
    let _ = match &one.ports {
        Ports::Any => Ok(()),
        Ports::All(protocol) => write!(words, "meta l4proto {} ", protocol.nft()),
        Ports::Ranges(protocol, ranges) => {
            let range = |(from, to): &(u16, u16)| if from == to { from.to_string() } else { format!("{from}-{to}") };
            let ranges: Vec<String> = ranges.iter().map(range).collect();
            write!(words, "{} dport {{ {} }} ", protocol.nft(), ranges.join(", "))
        }
        Ports::At(set) => write!(words, "{} daddr . meta l4proto . th dport @{set} ", family(set)?),
    };
    words.push_str("return");
    Some(words)
}

/// A list of commands as it grows. Writing to a String cannot fail.
struct Commands<'a>(&'a mut String);

impl Commands<'_> {
    fn line(&mut self, line: std::fmt::Arguments<'_>) {
        let _ = writeln!(self.0, "{line}");
    }

    fn chain(&mut self, name: &str, rules: &[String]) {
        self.line(format_args!("add chain inet {TABLE} {name}"));
        self.rules(name, rules);
    }

    fn rules(&mut self, chain: &str, rules: &[String]) {
        for rule in rules {
            self.line(format_args!("add rule inet {TABLE} {chain} {rule}"));
        }
    }

    fn difference<T: Ord>(&mut self, set: &str, was: &BTreeSet<T>, is: &BTreeSet<T>, write: impl Fn(&T) -> String) {
        self.delete_elements(set, was.difference(is).map(&write));
        self.add_elements(set, is.difference(was).map(&write));
    }

    fn add_elements(&mut self, set: &str, elements: impl IntoIterator<Item = String>) {
        self.elements("add", set, elements);
    }

    fn delete_elements(&mut self, set: &str, elements: impl IntoIterator<Item = String>) {
        self.elements("delete", set, elements);
    }

    fn elements(&mut self, verb: &str, set: &str, elements: impl IntoIterator<Item = String>) {
        let elements: Vec<String> = elements.into_iter().collect();
        for some in elements.chunks(IN_ONE_COMMAND) {
            self.line(format_args!("{verb} element inet {TABLE} {set} {{ {} }}", some.join(", ")));
        }
    }
}
