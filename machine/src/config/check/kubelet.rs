//! The Node that the machine becomes: labels, taints, addresses.

use super::Check;
use super::owned;
use crate::config::names;
use crate::config::report::Path;
use crate::config::structure::quoted;
use crate::config::{Config, Kubelet, Taint};

/// Labels under Kubernetes' own prefixes that a kubelet may give its Node (kubelet/pkg/apis/well_known_labels.go). The API server's
/// NodeRestriction refuses all others.
const ALLOWED: [&str; 6] = [
    "node.kubernetes.io/instance-type",
    "topology.kubernetes.io/region",
    "topology.kubernetes.io/zone",
    "beta.kubernetes.io/instance-type",
    "failure-domain.beta.kubernetes.io/region",
    "failure-domain.beta.kubernetes.io/zone",
];
/// The kubelet fills these in itself.
const FILLED: [&str; 5] =
    ["kubernetes.io/hostname", "kubernetes.io/os", "kubernetes.io/arch", "beta.kubernetes.io/os", "beta.kubernetes.io/arch"];

pub fn check(config: &Config, check: &mut Check<'_>) {
    let kubelet = &config.machine.kubelet;
    labels(kubelet, check);
    taints(&kubelet.taints, check);
    let path = Path::of("machine.kubelet.nodeIP.subnets");
    for (index, subnet) in kubelet.node_ip.subnets.iter().enumerate() {
        if *subnet != subnet.trunc() {
            let remedy = format!("write {}", subnet.trunc());
            check.add(&path.item(index), format!("{subnet}, an address within a network"), "a network", remedy);
        }
    }
    check.refuse_repeats(&path, kubelet.node_ip.subnets.iter().map(|subnet| (subnet.to_string(), subnet)));
}

fn labels(kubelet: &Kubelet, check: &mut Check<'_>) {
    let path = Path::of("machine.kubelet.labels");
    for (name, value) in &kubelet.labels {
        let here = path.key(name);
        if !names::is_qualified_name(name) {
            check.add(&here, format!("label {}", quoted(name)), "a label, such as example.com/rack", "");
        } else if FILLED.contains(&name.as_str()) {
            owned::refuse(&here, "the kubelet fills it in", check);
        } else if is_restricted(name) {
            owned::refuse(&here, "the API server lets no kubelet set it (NodeRestriction); label the node with kubectl", check);
        }
        if !names::is_label_value(value) {
            let expected = "at most 63 letters, digits, dashes, underscores and dots, a letter or digit at both ends";
            check.add(&here, quoted(value), expected, "");
        }
    }
}

fn is_restricted(name: &str) -> bool {
    let Some((prefix, _)) = name.split_once('/') else { return false };
    let within = |domain: &str| prefix == domain || prefix.strip_suffix(domain).is_some_and(|rest| rest.ends_with('.'));
    let kubernetes = within("kubernetes.io") || within("k8s.io");
    let free = within("kubelet.kubernetes.io") || within("node.kubernetes.io");
    kubernetes && !free && !ALLOWED.contains(&name)
}

fn taints(taints: &[Taint], check: &mut Check<'_>) {
    let path = Path::of("machine.kubelet.taints");
    for (index, taint) in taints.iter().enumerate() {
        let path = path.item(index);
        if !names::is_qualified_name(&taint.key) {
            check.add(&path.key("key"), quoted(&taint.key), "a taint's key, such as example.com/dedicated", "");
        } else if taint.key == "node-role.kubernetes.io/control-plane" {
            owned::refuse(&path.key("key"), "set cluster.allowSchedulingOnControlPlanes", check);
        } else if taint.key == "corten.dev/pressure" {
            owned::refuse(&path.key("key"), "set cluster.pressure.taint", check);
        } else if taint.key.starts_with("node.kubernetes.io/") {
            owned::refuse(&path.key("key"), "Kubernetes sets and removes it by the node's state", check);
        }
        if !names::is_label_value(&taint.value) {
            let expected = "at most 63 letters, digits, dashes, underscores and dots";
            check.add(&path.key("value"), quoted(&taint.value), expected, "");
        }
    }
    let shown = |taint: &Taint| (format!("{}:{:?}", taint.key, taint.effect), (taint.key.clone(), format!("{:?}", taint.effect)));
    check.refuse_repeats(&path, taints.iter().map(shown));
}
