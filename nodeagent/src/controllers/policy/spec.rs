//! A network policy as the API has it (networking.k8s.io/v1), checked once: what cannot be understood allows nothing, and is told of.

use ipnet::IpNet;
use k8s_openapi::api::networking::v1::{NetworkPolicy, NetworkPolicyPeer, NetworkPolicyPort};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;

use super::cluster::Protocol;
use super::networks;
use super::selector::Selector;

/// Networks of one policy, once those that are excepted are taken out of the others: more would be a way to fill the kernel's memory.
const MOST_NETWORKS: usize = 16384;
/// What is told of one policy's faults, and of each at most: what users wrote may be long.
const MOST_PROBLEMS: usize = 8;
const MOST_CHARACTERS: usize = 200;

#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Policy {
    /// The pods of its namespace that it is about.
    pub selector: Selector,
    /// What may come in; none where the policy says nothing of that.
    pub ingress: Option<Vec<Rule>>,
    /// What may go out.
    pub egress: Option<Vec<Rule>>,
    /// What could not be understood, field by field.
    pub problems: Vec<String>,
}

/// Any of the peers, on any of the ports; none: on all.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rule {
    pub peers: Option<Peers>,
    pub ports: Option<Vec<Port>>,
}

#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Peers {
    pub pods: Vec<PodPeer>,
    /// Apart from each other.
    pub networks: Vec<IpNet>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PodPeer {
    pub namespaces: Namespaces,
    pub pods: Selector,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Namespaces {
    /// The policy's own.
    Named(String),
    Matching(Selector),
}

#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Port {
    pub protocol: Protocol,
    pub number: Number,
}

#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Number {
    Any,
    /// Both among them.
    FromTo(u16, u16),
    /// Of the container that is the connection's destination.
    Named(String),
}

/// A rule as the API has it, whichever way it is for: the others' end, and the ports.
type Stated = (Option<Vec<NetworkPolicyPeer>>, Option<Vec<NetworkPolicyPort>>);

impl Policy {
    pub fn read(policy: &NetworkPolicy) -> Policy {
        let spec = policy.spec.clone().unwrap_or_default();
        let mut problems = Vec::new();
        let namespace = policy.metadata.namespace.as_deref().unwrap_or_default();
        let types = spec.policy_types.unwrap_or_default();
        // As the API server fills it in (pkg/apis/networking/v1/defaults.go).
        let is_about = |direction: &str, default: bool| if types.is_empty() { default } else { types.iter().any(|one| one == direction) };
        let (about_ingress, about_egress) = (is_about("Ingress", true), is_about("Egress", spec.egress.is_some()));
        let mut rules = |name: &str, rules: Vec<Stated>| {
            let mut room = MOST_NETWORKS;
            let mut read = Vec::new();
            for (index, (from, on)) in rules.into_iter().enumerate() {
                match rule(namespace, from, on, &mut room) {
                    Ok(rule) => read.push(rule),
                    Err(problem) => problems.push(format!("spec.{name}[{index}].{problem}")),
                }
            }
            read
        };
        let ingress = spec.ingress.unwrap_or_default().into_iter().map(|rule| (rule.from, rule.ports)).collect();
        let egress = spec.egress.unwrap_or_default().into_iter().map(|rule| (rule.to, rule.ports)).collect();
        let ingress = about_ingress.then(|| rules("ingress", ingress));
        let egress = about_egress.then(|| rules("egress", egress));
        let selector = Selector::read(&spec.pod_selector.unwrap_or_default()).unwrap_or_else(|problem| {
            problems.push(format!("spec.podSelector.{problem}: all pods of the namespace are taken to be meant"));
            Selector::default()
        });
        problems.truncate(MOST_PROBLEMS);
        for problem in &mut problems {
            *problem = problem.chars().take(MOST_CHARACTERS).collect();
        }
        Policy { selector, ingress, egress, problems }
    }
}

fn rule(
    namespace: &str,
    from: Option<Vec<NetworkPolicyPeer>>,
    on: Option<Vec<NetworkPolicyPort>>,
    room: &mut usize,
) -> Result<Rule, String> {
    let listed = from.filter(|peers| !peers.is_empty());
    let peers = listed.map(|listed| peers(namespace, &listed, room)).transpose()?;
    let listed = on.filter(|ports| !ports.is_empty());
    let ports = listed.map(|listed| {
        let read = listed.iter().enumerate().map(|(index, listed)| port(listed).map_err(|problem| format!("ports[{index}].{problem}")));
        read.collect::<Result<Vec<Port>, String>>()
    });
    Ok(Rule { peers, ports: ports.transpose()? })
}

fn peers(namespace: &str, listed: &[NetworkPolicyPeer], room: &mut usize) -> Result<Peers, String> {
    let mut peers = Peers::default();
    for (index, peer) in listed.iter().enumerate() {
        let at = |problem: String| format!("peers[{index}].{problem}");
        if let Some(block) = &peer.ip_block {
            let net =
                |text: &String| text.parse::<IpNet>().map_err(|_| at(format!("ipBlock: {text:?}; expected a network, as 192.0.2.0/24")));
            let excepts = block.except.iter().flatten().map(net).collect::<Result<Vec<_>, _>>()?;
            let kept = networks::without(net(&block.cidr)?, &excepts, *room);
            let kept = kept.ok_or_else(|| at(format!("ipBlock: more than {MOST_NETWORKS} networks with what is excepted taken out")))?;
            *room -= kept.len();
            peers.networks.extend(kept);
            continue;
        }
        let read = |selector| Selector::read(selector).map_err(at);
        let namespaces = match &peer.namespace_selector {
            None => Namespaces::Named(namespace.to_owned()),
            Some(selector) => Namespaces::Matching(read(selector)?),
        };
        let pods = peer.pod_selector.as_ref().map(read).transpose()?.unwrap_or_default();
        if peer.namespace_selector.is_none() && peer.pod_selector.is_none() {
            return Err(at("expected one of podSelector, namespaceSelector and ipBlock".to_owned()));
        }
        peers.pods.push(PodPeer { namespaces, pods });
    }
    // Blocks may overlap each other.
    peers.networks = IpNet::aggregate(&peers.networks);
    Ok(peers)
}

fn port(listed: &NetworkPolicyPort) -> Result<Port, String> {
    let protocol = Protocol::read(listed.protocol.as_deref());
    let protocol = protocol.ok_or_else(|| format!("protocol: {:?}; expected TCP, UDP or SCTP", listed.protocol))?;
    let number = |number: i32| u16::try_from(number).ok().filter(|number| *number > 0);
    let expected = "expected a number from 1 to 65535, or the name of a port";
    let number = match (&listed.port, listed.end_port) {
        (None, None) => Number::Any,
        (Some(IntOrString::String(name)), None) => Number::Named(name.clone()),
        (Some(IntOrString::Int(from)), to) => {
            let first = number(*from).ok_or_else(|| format!("port: {from}; {expected}"))?;
            let last = to.map_or(Some(first), number).filter(|last| *last >= first);
            Number::FromTo(first, last.ok_or_else(|| format!("endPort: {to:?}; expected a number from port to 65535"))?)
        }
        (None | Some(IntOrString::String(_)), Some(_)) => return Err("endPort: expected with a number in port only".to_owned()),
    };
    Ok(Port { protocol, number })
}
