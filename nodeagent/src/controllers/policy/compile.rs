//! From policies, namespaces and pods to the table of one machine. Only its own pods get chains; sets have whom those speak of, on any
//! machine.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fmt::Debug;
use std::net::IpAddr;
use std::sync::Arc;

use ipnet::IpNet;
use sha2::{Digest, Sha256};

use super::cluster::{Cluster, Pod, Protocol, Word};
use super::spec::{Namespaces, Number, Peers, PodPeer, Policy, Port, Rule};
use super::table::{Chain, Elements, Match, Name, Ports, Set, Table};
use crate::resources::policy::{NetworkPolicyStatus, PolicyState};

/// Digits of a digest that a name has: 128 bits, so that nobody finds two things of one name.
const NAME_DIGITS: usize = 32;

/// This machine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Own {
    pub node: String,
    /// Its part of the pod networks.
    pub pod_networks: Vec<IpNet>,
}

/// A table and what users are told of each policy, by namespace and name.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Compiled {
    pub table: Table,
    pub told: BTreeMap<String, NetworkPolicyStatus>,
}

/// What a machine has to program; a table without known pods where there are no policies.
pub fn compile(cluster: &Cluster, own: &Own) -> Compiled {
    let mut compiler = Compiler { cluster, own, table: Table::default(), chains: HashMap::new() };
    let mut told = BTreeMap::new();
    let nobody = BTreeMap::new();
    for (namespace, policies) in &cluster.policies {
        let pods = compiler.local(cluster.pods.get(namespace).unwrap_or(&nobody));
        for (name, policy) in policies {
            let selected = pods.iter().filter(|(_, pod)| policy.selector.matches(&pod.labels));
            told.insert(format!("{namespace}/{name}"), status(policy, selected.map(|(name, _)| name.to_string()).collect()));
        }
        for (_, pod) in &pods {
            let about: Vec<&Policy> = policies.values().map(Arc::as_ref).filter(|policy| policy.selector.matches(&pod.labels)).collect();
            compiler.isolate(namespace, pod, &about);
        }
    }
    if !cluster.policies.is_empty() {
        compiler.table.pod_networks.clone_from(&own.pod_networks);
        let pods = cluster.pods.values().flat_map(|pods| compiler.local(pods));
        compiler.table.known = pods.flat_map(|(_, pod)| pod.addresses.iter().copied()).collect();
    }
    Compiled { table: compiler.table, told }
}

fn status(policy: &Policy, pods: Vec<String>) -> NetworkPolicyStatus {
    let state = if policy.problems.is_empty() { PolicyState::Enforced } else { PolicyState::Refused };
    NetworkPolicyStatus {
        state,
        ingress: policy.ingress.is_some(),
        egress: policy.egress.is_some(),
        pods,
        message: match policy.problems.as_slice() {
            [] => String::new(),
            problems => format!("these rules allow nothing: {}", problems.join("; ")),
        },
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Direction {
    Ingress,
    Egress,
}

struct Compiler<'a> {
    cluster: &'a Cluster,
    own: &'a Own,
    table: Table,
    /// Chains by who made them: pods of one Deployment have the same.
    chains: HashMap<(Direction, Vec<*const Policy>), Name>,
}

impl Compiler<'_> {
    /// This machine's pods among some, with what they have of addresses in its networks.
    fn local<'b>(&self, pods: &'b BTreeMap<Word, Arc<Pod>>) -> Vec<(&'b Word, &'b Pod)> {
        let is_ours = |pod: &Pod| *pod.node == *self.own.node && pod.addresses.iter().any(|address| self.is_ours(*address));
        pods.iter().map(|(name, pod)| (name, pod.as_ref())).filter(|(_, pod)| is_ours(pod)).collect()
    }

    fn is_ours(&self, address: IpAddr) -> bool {
        self.own.pod_networks.iter().any(|network| network.contains(&address))
    }

    fn families(&self) -> Vec<bool> {
        let families = [false, true].into_iter();
        families.filter(|ipv6| self.own.pod_networks.iter().any(|network| network.addr().is_ipv6() == *ipv6)).collect()
    }

    /// Gives a pod of this machine its chains; all policies that are about it count together.
    fn isolate(&mut self, namespace: &str, pod: &Pod, about: &[&Policy]) {
        for direction in [Direction::Ingress, Direction::Egress] {
            let rules = |policy: &&Policy| match direction {
                Direction::Ingress => policy.ingress.is_some(),
                Direction::Egress => policy.egress.is_some(),
            };
            let about: Vec<&Policy> = about.iter().copied().filter(rules).collect();
            if about.is_empty() {
                continue;
            }
            let name = self.chain(namespace, direction, &about);
            let addresses: Vec<IpAddr> = pod.addresses.iter().copied().filter(|address| self.is_ours(*address)).collect();
            let pods = match direction {
                Direction::Ingress => &mut self.table.ingress,
                Direction::Egress => &mut self.table.egress,
            };
            pods.extend(addresses.into_iter().map(|address| (address, name.clone())));
        }
    }

    fn chain(&mut self, namespace: &str, direction: Direction, about: &[&Policy]) -> Name {
        let key = (direction, about.iter().map(|policy| std::ptr::from_ref(*policy)).collect());
        if let Some(name) = self.chains.get(&key) {
            return name.clone();
        }
        let mut chain = Chain::new();
        for policy in about {
            let rules = match direction {
                Direction::Ingress => &policy.ingress,
                Direction::Egress => &policy.egress,
            };
            for rule in rules.iter().flatten() {
                self.add_rule(&mut chain, namespace, direction, rule);
            }
        }
        let name = match direction {
            Direction::Ingress => named("in", &chain),
            Direction::Egress => named("out", &chain),
        };
        self.table.chains.insert(name.clone(), chain);
        self.chains.insert(key, name.clone());
        name
    }

    fn add_rule(&mut self, chain: &mut Chain, namespace: &str, direction: Direction, rule: &Rule) {
        let (numbered, named_ports) = ports(rule.ports.as_deref());
        let peers = match &rule.peers {
            None => vec![None],
            // All its ports are named, and the sets of those have the peers in them.
            Some(_) if numbered.is_empty() && direction == Direction::Egress => Vec::new(),
            Some(peers) => self.peer_sets(peers).into_iter().map(Some).collect(),
        };
        for peers in &peers {
            chain.extend(numbered.iter().map(|ports| Match { peers: peers.clone(), ports: ports.clone() }));
        }
        for (protocol, port) in named_ports {
            for ipv6 in self.families() {
                match direction {
                    // Of this machine's pods: the chain is only asked of those.
                    Direction::Ingress => {
                        let set = self.own_ports(namespace, protocol, port, ipv6);
                        let matched = peers.iter().filter(|peers| peers.as_ref().is_none_or(|name| self.table.sets[name].ipv6 == ipv6));
                        chain.extend(matched.map(|peers| Match { peers: peers.clone(), ports: Ports::At(set.clone()) }));
                    }
                    Direction::Egress => {
                        let set = self.peers_ports(rule.peers.as_ref(), protocol, port, ipv6);
                        chain.insert(Match { peers: None, ports: Ports::At(set) });
                    }
                }
            }
        }
    }

    /// Sets that together have a rule's peers.
    fn peer_sets(&mut self, peers: &Peers) -> Vec<Name> {
        let mut names = Vec::new();
        for ipv6 in self.families() {
            let networks: Vec<IpNet> = peers.networks.iter().filter(|network| network.addr().is_ipv6() == ipv6).copied().collect();
            if !networks.is_empty() {
                let name = named(if ipv6 { "networks6" } else { "networks4" }, &networks);
                self.table.sets.entry(name.clone()).or_insert_with(|| Set { ipv6, elements: Elements::Networks(networks) });
                names.push(name);
            }
            if !peers.pods.is_empty() {
                let name = named(if ipv6 { "pods6" } else { "pods4" }, &peers.pods);
                if !self.table.sets.contains_key(&name) {
                    let addresses = matching(self.cluster, &peers.pods).flat_map(|pod| addresses(pod, ipv6)).collect();
                    self.table.sets.insert(name.clone(), Set { ipv6, elements: Elements::Addresses(addresses) });
                }
                names.push(name);
            }
        }
        names
    }

    /// Where this machine's pods of a namespace have a port of this name.
    fn own_ports(&mut self, namespace: &str, protocol: Protocol, port: &str, ipv6: bool) -> Name {
        let name = named(if ipv6 { "own6" } else { "own4" }, &(namespace, protocol, port));
        if !self.table.sets.contains_key(&name) {
            let pods = self.cluster.pods.get(namespace).map(|pods| self.local(pods)).unwrap_or_default();
            let elements = pods.into_iter().flat_map(|(_, pod)| ports_at(pod, protocol, port, ipv6)).collect();
            self.table.sets.insert(name.clone(), Set { ipv6, elements: Elements::Ports(elements) });
        }
        name
    }

    /// Where a rule's peers, wherever they are, have a port of this name. An ipBlock is of pods too, as far as names of ports go.
    fn peers_ports(&mut self, peers: Option<&Peers>, protocol: Protocol, port: &str, ipv6: bool) -> Name {
        let name = named(if ipv6 { "ports6" } else { "ports4" }, &(peers, protocol, port));
        if self.table.sets.contains_key(&name) {
            return name;
        }
        let all = || self.cluster.pods.values().flat_map(BTreeMap::values).map(Arc::as_ref);
        let at = |pod| ports_at(pod, protocol, port, ipv6);
        let elements = match peers {
            None => all().flat_map(at).collect(),
            Some(peers) => {
                let listed = |(address, ..): &(IpAddr, Protocol, u16)| peers.networks.iter().any(|network| network.contains(address));
                let in_networks = all().filter(|_| !peers.networks.is_empty()).flat_map(at).filter(listed);
                matching(self.cluster, &peers.pods).flat_map(at).chain(in_networks).collect()
            }
        };
        self.table.sets.insert(name.clone(), Set { ipv6, elements: Elements::Ports(elements) });
        name
    }
}

/// Ports by number, and those that are named.
fn ports(listed: Option<&[Port]>) -> (Vec<Ports>, BTreeSet<(Protocol, &str)>) {
    let Some(listed) = listed else { return (vec![Ports::Any], BTreeSet::new()) };
    let mut numbered = Vec::new();
    for protocol in Protocol::ALL {
        let of = || listed.iter().filter(|port| port.protocol == protocol);
        if of().any(|port| port.number == Number::Any) {
            numbered.push(Ports::All(protocol));
            continue;
        }
        let ranges = of().filter_map(|port| match port.number {
            Number::FromTo(from, to) => Some((from, to)),
            Number::Any | Number::Named(_) => None,
        });
        let ranges = merged(ranges.collect());
        if !ranges.is_empty() {
            numbered.push(Ports::Ranges(protocol, ranges));
        }
    }
    let named = listed.iter().filter_map(|port| match &port.number {
        Number::Named(name) => Some((port.protocol, name.as_str())),
        Number::Any | Number::FromTo(..) => None,
    });
    (numbered, named.collect())
}

/// Ranges that neither overlap nor touch: the kernel takes no others in one set.
fn merged(mut ranges: Vec<(u16, u16)>) -> Vec<(u16, u16)> {
    ranges.sort_unstable();
    let mut apart: Vec<(u16, u16)> = Vec::new();
    for (from, to) in ranges {
        match apart.last_mut() {
            Some(last) if u32::from(from) <= u32::from(last.1) + 1 => last.1 = last.1.max(to),
            _ => apart.push((from, to)),
        }
    }
    apart
}

/// Pods that any of the peers speaks of; one may come more than once.
fn matching<'a>(cluster: &'a Cluster, peers: &'a [PodPeer]) -> impl Iterator<Item = &'a Pod> {
    peers.iter().flat_map(move |peer| {
        let namespaces: Vec<&BTreeMap<Word, Arc<Pod>>> = match &peer.namespaces {
            Namespaces::Named(name) => cluster.pods.get(name.as_str()).into_iter().collect(),
            Namespaces::Matching(selector) => {
                let matches = |name: &Word| cluster.namespaces.get(name).is_some_and(|labels| selector.matches(labels));
                cluster.pods.iter().filter(|(name, _)| matches(name)).map(|(_, pods)| pods).collect()
            }
        };
        let pods = namespaces.into_iter().flat_map(BTreeMap::values).map(Arc::as_ref);
        pods.filter(|pod| peer.pods.matches(&pod.labels))
    })
}

fn addresses(pod: &Pod, ipv6: bool) -> impl Iterator<Item = IpAddr> {
    pod.addresses.iter().copied().filter(move |address| address.is_ipv6() == ipv6)
}

fn ports_at<'a>(pod: &'a Pod, protocol: Protocol, name: &'a str, ipv6: bool) -> impl Iterator<Item = (IpAddr, Protocol, u16)> + 'a {
    let numbers = pod.ports.iter().filter(move |port| port.protocol == protocol && *port.name == *name).map(|port| port.number);
    numbers.flat_map(move |number| addresses(pod, ipv6).map(move |address| (address, protocol, number)))
}

/// A name of a thing by what it is.
fn named(kind: &str, what: &impl Debug) -> Name {
    // Debug quotes what users wrote, so that no two things are written the same.
    let digest = hex::encode(Sha256::digest(format!("{what:?}")));
    Name::from(format!("{kind}-{}", &digest[..NAME_DIGITS]))
}
