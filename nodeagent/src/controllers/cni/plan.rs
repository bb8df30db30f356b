//! Whether the CNI configuration has to change.

use ipnet::IpNet;
use machine::Root;
use machine::config::{ClusterNetwork, Cni};
use machine::file::File;

use super::{file, render};
use crate::plan::{Missing, Plan};

#[derive(Debug, Clone, PartialEq)]
pub struct Seen {
    pub root: Root,
    pub network: Option<ClusterNetwork>,
    /// This node's part of the pod networks; empty until the controller manager gave it one.
    pub pod_cidrs: Vec<IpNet>,
    /// What the overlay carries; none before there is one.
    pub overlay_mtu: Option<u32>,
    /// What the file says now.
    pub present: Option<Vec<u8>>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Action {
    Write(File),
    /// The user brings another network.
    Remove,
}

pub fn plan(seen: &Seen) -> Plan<Action> {
    let Some(network) = &seen.network else { return Plan::Waiting(vec![Missing::new("machine config")]) };
    match network.cni {
        Cni::None if seen.present.is_some() => Plan::Act(vec![Action::Remove]),
        Cni::None => Plan::Settled,
        Cni::Overlay => match (seen.pod_cidrs.as_slice(), seen.overlay_mtu) {
            ([], _) => Plan::Waiting(vec![Missing::new("pod networks of this node (spec.podCIDRs)")]),
            (_, None) => Plan::Waiting(vec![Missing::new("overlay, whose MTU pods get")]),
            (pod_cidrs, Some(mtu)) => write(seen, render::conflist(&seen.root, pod_cidrs, mtu)),
        },
    }
}

fn write(seen: &Seen, contents: Vec<u8>) -> Plan<Action> {
    if seen.present.as_ref() == Some(&contents) {
        return Plan::Settled;
    }
    Plan::Act(vec![Action::Write(file(&seen.root, contents))])
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn seen(cni: Cni, pod_cidrs: &[&str], present: Option<Vec<u8>>) -> Seen {
        Seen {
            root: Root::new("/"),
            network: Some(ClusterNetwork { cni, ..ClusterNetwork::default() }),
            pod_cidrs: pod_cidrs.iter().map(|cidr| cidr.parse().unwrap()).collect(),
            overlay_mtu: Some(1450),
            present,
        }
    }

    proptest! {
        #[test]
        fn applied_is_settled(none: bool, two: bool, present in proptest::option::of(proptest::collection::vec(any::<u8>(), 0..4))) {
            let cidrs: &[&str] = if two { &["10.244.1.0/24", "fd00:1::/64"] } else { &["10.244.1.0/24"] };
            let mut seen = seen(if none { Cni::None } else { Cni::Overlay }, cidrs, present);
            if let Plan::Act(actions) = plan(&seen) {
                for action in actions {
                    seen.present = match action {
                        Action::Write(file) => Some(file.contents),
                        Action::Remove => None,
                    };
                }
            }
            prop_assert_eq!(plan(&seen), Plan::Settled);
        }
    }

    #[test]
    fn the_file_stays_while_the_networks_are_not_known() {
        let waiting = plan(&seen(Cni::Overlay, &[], Some(b"{}".to_vec())));
        assert!(matches!(waiting, Plan::Waiting(_)), "an agent that starts anew must not take the network from its pods");
        let early = Seen { overlay_mtu: None, ..seen(Cni::Overlay, &["10.244.1.0/24"], Some(b"{}".to_vec())) };
        assert!(matches!(plan(&early), Plan::Waiting(_)), "pods with an MTU that the overlay does not carry would lose packets");
    }

    #[test]
    fn conflist() {
        let Plan::Act(actions) = plan(&seen(Cni::Overlay, &["10.244.1.0/24", "fd00:1::/64"], None)) else { panic!() };
        let [Action::Write(file)] = actions.as_slice() else { panic!() };
        crate::golden::check("src/controllers/cni/golden/10-corten.conflist", std::str::from_utf8(&file.contents).unwrap());
    }
}
