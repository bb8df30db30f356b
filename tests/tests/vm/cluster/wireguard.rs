//! A control plane and a worker whose pods' packets are encrypted: they reach each other, by keys that only the kernels have.

use std::collections::BTreeSet;

use anyhow::ensure;
use serde_json::Value;
use tests::cluster::Cluster;
use tests::until::until;

use super::{PATIENCE, cluster_with, one_pod_a_node, reach_each_other};
use crate::checks::{self, Check};

const CHECKS: &[Check] = &[
    ("every machine has a key, and tells it", machines_have_keys),
    ("pod to pod, from every node to every node", pod_to_pod),
    ("every machine reaches the other by WireGuard, and hears from it", peers_answer),
];

#[test]
#[ignore = "boots VMs: make vm-test T=cluster"]
fn pods_reach_each_other_by_wireguard() {
    let patch = r#"{"cluster":{"network":{"overlay":{"backend":"wireguard"}}}}"#;
    checks::run(|| cluster_with("wireguard", 1, 1, &["--patch", patch]), CHECKS);
}

/// What all machines have of a kind.
fn listed(cluster: &Cluster, kind: &str) -> anyhow::Result<Vec<Value>> {
    let mut all = Vec::new();
    for (_, address) in cluster.machines()? {
        match cluster.json(&["get", kind, "-n", &address])? {
            Value::Array(several) => all.extend(several),
            one => all.push(one),
        }
    }
    Ok(all)
}

fn machines_have_keys(cluster: &Cluster) -> anyhow::Result<()> {
    until("a key on each machine", PATIENCE, || {
        let overlays = listed(cluster, "overlays")?;
        let keys: BTreeSet<&str> = overlays.iter().filter_map(|overlay| overlay["status"]["publicKey"].as_str()).collect();
        ensure!(keys.len() == 2, "{overlays:?}");
        Ok(())
    })?;
    let data = r"{.items[*].metadata.annotations.flannel\.alpha\.coreos\.com/backend-data}";
    let told = cluster.kubectl(&["get", "nodes", "-o", &format!("jsonpath={data}")])?;
    ensure!(told.matches("PublicKey").count() == 2, "{told}");
    Ok(())
}

fn pod_to_pod(cluster: &Cluster) -> anyhow::Result<()> {
    reach_each_other(cluster, &one_pod_a_node(cluster)?)
}

fn peers_answer(cluster: &Cluster) -> anyhow::Result<()> {
    let peers = listed(cluster, "overlaypeers")?;
    ensure!(peers.len() == 2 && peers.iter().all(|peer| peer["status"]["by"] == "wireguard"), "{peers:?}");
    until("an answer from each", PATIENCE, || {
        let paths = listed(cluster, "overlaypaths")?;
        ensure!(paths.len() == 2 && paths.iter().all(|path| path["status"]["latencyMicros"].is_u64()), "{paths:?}");
        Ok(())
    })
}
