//! Which packets get the machine's address.

use std::fmt::Write as _;

use ipnet::IpNet;
use machine::config::{ClusterNetwork, Cni};

use crate::plan::{Missing, Plan};

pub const TABLE: &str = "corten-masquerade";

#[derive(Debug, Clone, PartialEq)]
pub struct Seen {
    pub network: Option<ClusterNetwork>,
    /// This node's part of the pod networks; empty until the controller manager gave it one.
    pub pod_cidrs: Vec<IpNet>,
    /// The rules that the kernel has; none where it has none, or others than were loaded.
    pub in_place: Option<String>,
}

pub fn plan(seen: &Seen) -> Plan<String> {
    match &seen.network {
        None => Plan::Waiting(vec![Missing::new("machine config")]),
        Some(network) if network.cni == Cni::None => Plan::Settled,
        network => match rules(network.as_ref(), &seen.pod_cidrs) {
            None => Plan::Waiting(vec![Missing::new("pod networks of this node (spec.podCIDRs)")]),
            Some(rules) if seen.in_place.as_ref() == Some(&rules) => Plan::Settled,
            Some(rules) => Plan::Act(vec![rules]),
        },
    }
}

/// The commands for nft; none where there is nothing to do, or not enough is known.
///
/// They are one transaction, so that there is no moment without. The first line is for a table that is not there: deleting it would be an
/// error. Ports are taken at random, since the kernel loses packets where two connections race for one port.
pub fn rules(network: Option<&ClusterNetwork>, pod_cidrs: &[IpNet]) -> Option<String> {
    let network = network.filter(|network| network.cni == Cni::Overlay && !pod_cidrs.is_empty())?;
    let mut text = format!(
        "table inet {TABLE}\ndelete table inet {TABLE}\ntable inet {TABLE} {{\n\tchain postrouting {{\n\
         \t\ttype nat hook postrouting priority srcnat; policy accept;\n"
    );
    for pods in pod_cidrs {
        let ipv6 = pods.addr().is_ipv6();
        let (family, groups) = if ipv6 { ("ip6", "ff00::/8") } else { ("ip", "224.0.0.0/4") };
        let cluster = network.pod_cidrs.iter().filter(|cidr| cidr.addr().is_ipv6() == ipv6).map(ToString::to_string);
        let inside: Vec<String> = cluster.chain([groups.to_owned()]).collect();
        // Writing to a String cannot fail.
        let _ = writeln!(text, "\t\t{family} saddr {pods} {family} daddr != {{ {} }} masquerade fully-random", inside.join(", "));
    }
    text.push_str("\t}\n}\n");
    Some(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rules_by_family() {
        let network =
            ClusterNetwork { pod_cidrs: vec!["10.244.0.0/16".parse().unwrap(), "fd00::/48".parse().unwrap()], ..ClusterNetwork::default() };
        let seen = Seen {
            network: Some(network),
            pod_cidrs: vec!["10.244.1.0/24".parse().unwrap(), "fd00:0:0:1::/64".parse().unwrap()],
            in_place: None,
        };
        let Plan::Act(actions) = plan(&seen) else { panic!() };
        crate::golden::check("src/controllers/masquerade/golden/rules.nft", &actions[0]);
        assert_eq!(plan(&Seen { in_place: Some(actions[0].clone()), ..seen.clone() }), Plan::Settled);
        assert!(matches!(plan(&Seen { pod_cidrs: Vec::new(), ..seen.clone() }), Plan::Waiting(_)), "what is there stays");
        let brought = seen.network.clone().map(|network| ClusterNetwork { cni: Cni::None, ..network });
        assert_eq!(plan(&Seen { network: brought, ..seen }), Plan::Settled);
    }
}
