//! The table in nft's words, and what it says of nodes.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::net::IpAddr;

use ipnet::IpNet;

use super::openings::{Opening, Origin};
use crate::controllers::cni::BRIDGE;

pub const TABLE: &str = "corten-firewall";

/// In one transaction, so that there is no moment without. The first line is for a table that is not there: deleting it would be an error.
pub fn rules(openings: &[Opening], nodes: &BTreeSet<IpAddr>) -> String {
    let mut text = format!("table inet {TABLE}\ndelete table inet {TABLE}\ntable inet {TABLE} {{\n");
    for (name, kind, ipv6) in [("nodes4", "ipv4_addr", false), ("nodes6", "ipv6_addr", true)] {
        let elements: Vec<String> = nodes.iter().filter(|node| node.is_ipv6() == ipv6).map(ToString::to_string).collect();
        let _ = writeln!(text, "\tset {name} {{\n\t\ttype {kind}");
        if !elements.is_empty() {
            let _ = writeln!(text, "\t\telements = {{ {} }}", elements.join(", "));
        }
        text.push_str("\t}\n");
    }
    text.push_str("\tchain input {\n\t\ttype filter hook input priority filter; policy drop;\n");
    for rule in always().into_iter().chain(openings.iter().flat_map(opened)) {
        let _ = writeln!(text, "\t\t{rule}");
    }
    // Told at once: who asked for the wrong port need not wait.
    text.push_str("\t\treject with icmpx admin-prohibited\n\t}\n}\n");
    text
}

/// What a machine in a network cannot do without.
fn always() -> Vec<String> {
    vec![
        "ct state established,related accept".to_owned(),
        // Of a connection that was there before the kernel followed connections, which it does from this table on: at boot, the agent's own to the
        // API server. Without SYN nothing can be opened.
        "ct state new tcp flags & (fin | syn | rst | ack) != syn accept".to_owned(),
        format!("iifname {{ \"lo\", \"{BRIDGE}\" }} accept"),
        // Services' packets: kube-proxy decided about them before.
        "ct status dnat accept".to_owned(),
        // Path MTU, neighbours and routers among them; the kernel limits what it answers. 2 is IGMP, whose name nft would look up in a file.
        "meta l4proto { icmp, icmpv6, 2 } accept".to_owned(),
        "udp sport 67 udp dport 68 accept".to_owned(),
        "ip6 saddr fe80::/10 udp sport 547 udp dport 546 accept".to_owned(),
    ]
}

fn opened(opening: &Opening) -> Vec<String> {
    let what = match (opening.protocol, opening.ports) {
        (None, _) => "accept".to_owned(),
        (Some(protocol), None) => format!("meta l4proto {protocol} accept"),
        (Some(protocol), Some((first, last))) if first == last => format!("{protocol} dport {first} accept"),
        (Some(protocol), Some((first, last))) => format!("{protocol} dport {first}-{last} accept"),
    };
    let families = [("ip", '4', false), ("ip6", '6', true)];
    match &opening.from {
        Origin::Anywhere => vec![what],
        Origin::Nodes => families.map(|(family, digit, _)| format!("{family} saddr @nodes{digit} {what}")).to_vec(),
        Origin::Networks(networks) => {
            // nft refuses networks within each other.
            let apart = IpNet::aggregate(networks);
            let of = |ipv6| apart.iter().filter(|network| network.addr().is_ipv6() == ipv6).map(ToString::to_string).collect::<Vec<_>>();
            let rule = |(family, _, ipv6)| {
                let networks = of(ipv6);
                (!networks.is_empty()).then(|| format!("{family} saddr {{ {} }} {what}", networks.join(", ")))
            };
            families.into_iter().filter_map(rule).collect()
        }
    }
}

/// The nodes of a table as the kernel shows it: an agent that cannot ask for them yet goes on with those that the one before it knew.
pub fn nodes(shown: &str) -> BTreeSet<IpAddr> {
    let sets = shown.split("chain ").next().unwrap_or_default();
    sets.split(|c: char| c.is_whitespace() || c == ',').filter_map(|word| word.parse().ok()).collect()
}
