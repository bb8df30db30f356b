//! A control plane and two workers: pods reach each other, Services and names from every node.

use std::time::Duration;

use anyhow::ensure;
use tests::cluster::Cluster;
use tests::until::until;

use super::{cluster, one_pod_a_node};
use crate::checks::{self, Check};

/// What was just made may take a moment until it is known everywhere.
const PATIENCE: Duration = Duration::from_secs(90);

const CHECKS: &[Check] = &[
    ("all machines are Ready nodes, the workers by certificates that were issued to them", nodes_are_ready),
    ("pod to pod, from every node to every node", pod_to_pod),
    ("a Service by its name, from every node", service_by_name),
    ("a NodePort of every node, from every node", node_port),
];

#[test]
#[ignore = "boots VMs: make vm-test T=cluster"]
fn pods_reach_each_other_across_nodes() {
    checks::run(|| cluster("workers", 1, 2), CHECKS);
}

fn nodes_are_ready(cluster: &Cluster) -> anyhow::Result<()> {
    let ready = "jsonpath={range .items[*]}{.metadata.name}={.status.conditions[?(@.type=='Ready')].status} {end}";
    let nodes = cluster.kubectl(&["get", "nodes", "-o", ready])?;
    ensure!(nodes.split_whitespace().collect::<Vec<_>>() == ["cp-1=True", "worker-1=True", "worker-2=True"], "{nodes}");
    let approved = cluster.kubectl(&["get", "csr", "-o", "jsonpath={range .items[*]}{.spec.signerName} {.spec.username}\n{end}"])?;
    for (signer, user) in [
        ("kubernetes.io/kube-apiserver-client-kubelet", "corten:agent:worker-1"),
        ("kubernetes.io/kubelet-serving", "system:node:worker-2"),
    ] {
        ensure!(approved.lines().any(|line| line.trim() == format!("{signer} {user}")), "no {signer} of {user} in {approved}");
    }
    Ok(())
}

fn pod_to_pod(cluster: &Cluster) -> anyhow::Result<()> {
    let pods = one_pod_a_node(cluster)?;
    for (from, to) in pods.iter().flat_map(|from| pods.iter().map(move |to| (from, to))) {
        let answer = until("an answer", PATIENCE, || from.get(cluster, &format!("http://{}:8080/", to.address)))?;
        ensure!(answer.contains(&to.name), "{} asking {}: {answer}", from.node, to.node);
    }
    Ok(())
}

fn service_by_name(cluster: &Cluster) -> anyhow::Result<()> {
    for pod in one_pod_a_node(cluster)? {
        let answer = until("an answer", PATIENCE, || pod.get(cluster, "http://everywhere.default.svc.cluster.local:80/"))?;
        ensure!(answer.contains("everywhere-"), "{}: {answer}", pod.node);
    }
    Ok(())
}

fn node_port(cluster: &Cluster) -> anyhow::Result<()> {
    let pods = one_pod_a_node(cluster)?;
    for (from, to) in pods.iter().flat_map(|from| pods.iter().map(move |to| (from, to))) {
        let answer = until("an answer", PATIENCE, || from.get(cluster, &format!("http://{}:30080/", to.node_address)))?;
        ensure!(answer.contains("everywhere-"), "{} asking {}: {answer}", from.node, to.node);
    }
    Ok(())
}
