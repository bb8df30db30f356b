//! What policies allow, word for word as the API's documentation has it, one connection at a time. It shares nothing with the compiler.

use std::collections::BTreeMap;
use std::net::IpAddr;

use ipnet::IpNet;
use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::api::networking::v1::{NetworkPolicy, NetworkPolicyPeer, NetworkPolicyPort};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;

use super::world::World;
use crate::controllers::policy::compile::Own;
use crate::controllers::policy::table::Flow;

type Labels = BTreeMap<String, String>;

/// Whether the machine lets a connection pass: it answers for the ends that are its own pods.
pub fn allows(world: &World, own: &Own, flow: Flow) -> bool {
    if world.policies.is_empty() {
        return true;
    }
    let here = |pod: &Pod| pod.spec.as_ref().unwrap().node_name.as_deref() == Some(&own.node);
    let (from, to) = (pod_at(world, flow.from), pod_at(world, flow.to));
    for (address, pod) in [(flow.from, from), (flow.to, to)] {
        if pod.is_none() && own.pod_networks.iter().any(|network| network.contains(&address)) {
            return false;
        }
    }
    if flow.from == flow.to && from.is_some_and(here) {
        return true;
    }
    let sends = from.filter(|pod| here(pod)).is_none_or(|pod| may_send(world, pod, flow, to));
    let receives = to.filter(|pod| here(pod)).is_none_or(|pod| may_receive(world, pod, flow, from));
    sends && receives
}

fn pod_at(world: &World, address: IpAddr) -> Option<&Pod> {
    let text = address.to_string();
    world.pods.iter().find(|pod| pod.status.as_ref().unwrap().pod_ips.iter().flatten().any(|ip| ip.ip == text))
}

/// The policies that are about a pod in a direction.
fn about<'a>(world: &'a World, pod: &Pod, direction: &str) -> Vec<&'a NetworkPolicy> {
    let is_about = |policy: &&NetworkPolicy| {
        let spec = policy.spec.as_ref().unwrap();
        let says = match &spec.policy_types {
            Some(types) => types.iter().any(|one| one == direction),
            None => direction == "Ingress" || spec.egress.is_some(),
        };
        says && policy.metadata.namespace == pod.metadata.namespace
            && selects(spec.pod_selector.as_ref().unwrap(), pod.metadata.labels.as_ref())
    };
    world.policies.iter().filter(is_about).collect()
}

fn may_receive(world: &World, pod: &Pod, flow: Flow, from: Option<&Pod>) -> bool {
    let policies = about(world, pod, "Ingress");
    policies.is_empty()
        || policies.iter().any(|policy| {
            policy
                .spec
                .as_ref()
                .unwrap()
                .ingress
                .iter()
                .flatten()
                .any(|rule| peers(world, policy, rule.from.as_deref(), flow.from, from) && ports(rule.ports.as_deref(), flow, Some(pod)))
        })
}

fn may_send(world: &World, pod: &Pod, flow: Flow, to: Option<&Pod>) -> bool {
    let policies = about(world, pod, "Egress");
    policies.is_empty()
        || policies.iter().any(|policy| {
            policy
                .spec
                .as_ref()
                .unwrap()
                .egress
                .iter()
                .flatten()
                .any(|rule| peers(world, policy, rule.to.as_deref(), flow.to, to) && ports(rule.ports.as_deref(), flow, to))
        })
}

/// "If this field is empty or missing, this rule matches all sources."
fn peers(world: &World, policy: &NetworkPolicy, listed: Option<&[NetworkPolicyPeer]>, address: IpAddr, pod: Option<&Pod>) -> bool {
    let listed = listed.unwrap_or_default();
    listed.is_empty()
        || listed.iter().any(|peer| {
            if let Some(block) = &peer.ip_block {
                let is_in = |network: &String| network.parse::<IpNet>().unwrap().contains(&address);
                return is_in(&block.cidr) && !block.except.iter().flatten().any(is_in);
            }
            let Some(pod) = pod else { return false };
            let in_namespace = match &peer.namespace_selector {
                None => pod.metadata.namespace == policy.metadata.namespace,
                Some(selector) => {
                    let mut namespaces = world.namespaces.iter();
                    let namespace = namespaces.find(|namespace| namespace.metadata.name == pod.metadata.namespace);
                    namespace.is_some_and(|namespace| selects(selector, namespace.metadata.labels.as_ref()))
                }
            };
            in_namespace && peer.pod_selector.as_ref().is_none_or(|selector| selects(selector, pod.metadata.labels.as_ref()))
        })
}

/// "If this field is empty or missing, this rule matches all ports."
fn ports(listed: Option<&[NetworkPolicyPort]>, flow: Flow, destination: Option<&Pod>) -> bool {
    let listed = listed.unwrap_or_default();
    listed.is_empty()
        || listed.iter().any(|port| {
            let protocol = port.protocol.clone().unwrap_or_else(|| "TCP".to_owned());
            let number = match protocol.as_str() {
                "TCP" => 6,
                "UDP" => 17,
                _ => 132,
            };
            number == flow.protocol
                && match (&port.port, port.end_port) {
                    (None, _) => true,
                    (Some(IntOrString::Int(from)), to) => (*from..=to.unwrap_or(*from)).contains(&i32::from(flow.port)),
                    (Some(IntOrString::String(name)), _) => {
                        let containers = destination.iter().flat_map(|pod| &pod.spec.as_ref().unwrap().containers);
                        containers.flat_map(|container| container.ports.iter().flatten()).any(|port| {
                            port.name.as_ref() == Some(name)
                                && port.protocol.as_deref().unwrap_or("TCP") == protocol
                                && port.container_port == i32::from(flow.port)
                        })
                    }
                }
        })
}

fn selects(selector: &LabelSelector, labels: Option<&Labels>) -> bool {
    let none = Labels::new();
    let labels = labels.unwrap_or(&none);
    selector.match_labels.iter().flatten().all(|(key, value)| labels.get(key) == Some(value))
        && selector.match_expressions.iter().flatten().all(|expression| {
            let value = labels.get(&expression.key);
            let listed = value.is_some_and(|value| expression.values.iter().flatten().any(|one| one == value));
            match expression.operator.as_str() {
                "In" => listed,
                "NotIn" => !listed,
                "Exists" => value.is_some(),
                _ => value.is_none(),
            }
        })
}
