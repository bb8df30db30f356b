//! Each authority of a cluster is replaced while it runs: afterwards every machine issues from the new one and accepts no other, nodes are Ready, and
//! pods answer.

use anyhow::{Context, ensure};
use serde_json::Value;
use tests::cluster::Cluster;

use super::{cluster, nodes, one_pod_a_node, reach_each_other};
use crate::checks::{self, Check};

const CHECKS: &[Check] = &[
    ("the machine API's authority, the caller's own among it", |cluster| replaced(cluster, "machine")),
    ("the authority of the kubelets' servers", |cluster| replaced(cluster, "kubelet")),
    ("the aggregator's authority", |cluster| replaced(cluster, "frontProxy")),
    ("the authority of Kubernetes", |cluster| replaced(cluster, "kubernetes")),
    ("the authority of etcd's clients", |cluster| replaced(cluster, "etcdClient")),
    ("the authority of etcd's peers", |cluster| replaced(cluster, "etcdPeer")),
];

#[test]
#[ignore = "boots VMs: make vm-test T=cluster"]
fn authorities_are_replaced() {
    checks::run(|| cluster("rotation", 1, 1), CHECKS);
}

fn replaced(cluster: &Cluster, authority: &str) -> anyhow::Result<()> {
    let pods = one_pod_a_node(cluster)?;
    let before = fingerprints(cluster, authority)?;
    ensure!(before.iter().all(|accepted| accepted.len() == 1), "before: {before:?}");
    let secrets = cluster.directory().join("secrets.yaml");
    let secrets = secrets.to_str().context("a path in UTF-8")?;
    cluster.machinectl(&["rotate", "ca", authority, "--with-secrets", secrets, "--yes", "--wait", "6m", "--timeout", "20m"])?;
    let after = fingerprints(cluster, authority)?;
    ensure!(after.iter().all(|accepted| accepted.len() == 1 && *accepted != before[0]), "after: {after:?}, before: {before:?}");
    ensure!(after.iter().all(|accepted| *accepted == after[0]), "they differ: {after:?}");
    cluster.machinectl(&["health", "--wait", "5m", "--timeout", "6m", "-n", &nodes(cluster)?])?;
    // By the kubelets, which exec in the pods, and by the overlay.
    reach_each_other(cluster, &pods)
}

/// SHA-256 of what each machine accepts.
fn fingerprints(cluster: &Cluster, authority: &str) -> anyhow::Result<Vec<Vec<String>>> {
    let of = |(name, address): (String, String)| {
        let told: Value = cluster.json(&["get", "authorities", authority, "-n", &address])?;
        let status = told.pointer("/0/status/fingerprints").or_else(|| told.pointer("/status/fingerprints"));
        let status = status.and_then(Value::as_array).with_context(|| format!("{name}: {told}"))?;
        Ok(status.iter().filter_map(Value::as_str).map(str::to_owned).collect())
    };
    cluster.machines()?.into_iter().map(of).collect()
}
