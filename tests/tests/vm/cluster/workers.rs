//! A control plane and two workers: pods reach each other, Services and names from every node.

use std::time::Duration;

use anyhow::{Context, ensure};
use tests::cluster::Cluster;
use tests::until::until;

use super::load_balancer;
use super::{PATIENCE, cluster, node_port, one_pod_a_node, reach_each_other, service_by_name};
use crate::checks::{self, Check};

/// For the cluster to notice that a node is gone or back: the controller manager waits 50 s of the guest's time.
const NOTICED: Duration = Duration::from_secs(300);

const CHECKS: &[Check] = &[
    ("all machines are Ready nodes, the workers by certificates that were issued to them", nodes_are_ready),
    ("pod to pod, from every node to every node", pod_to_pod),
    ("a Service by its name, from every node", service_by_name),
    ("a NodePort of every node, from every node", node_port),
    ("a worker is cut off: the others go on, and it comes back by itself", worker_cut_off),
    ("a Service of type LoadBalancer answers a station of the link, and goes on when its node loses power", load_balancer::fails_over),
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
    reach_each_other(cluster, &one_pod_a_node(cluster)?)
}

fn worker_cut_off(cluster: &Cluster) -> anyhow::Result<()> {
    let pods = one_pod_a_node(cluster)?;
    let of = |node: &str| pods.iter().find(|pod| pod.node == node).with_context(|| format!("no pod on {node}"));
    let (here, cut) = (of("worker-1")?, of("worker-2")?);
    let ready = |status: &str| {
        until("the Node's condition", NOTICED, || {
            let told = "jsonpath={.status.conditions[?(@.type=='Ready')].status}";
            let told = cluster.kubectl(&["get", "node", "worker-2", "-o", told])?;
            ensure!(told == status, "worker-2 is Ready: {told}");
            Ok(())
        })
    };
    cluster.machinectl(&["cluster", "net", "partition", "worker-2", "--cluster", cluster.name()])?;
    ready("Unknown")?;
    // Its pod is no endpoint of the Service any more, and answers nobody.
    for _ in 0..3 {
        let answer = until("an answer", PATIENCE, || here.get(cluster, "http://everywhere.default.svc.cluster.local:80/"))?;
        ensure!(!answer.contains(&cut.name), "{answer}");
    }
    cluster.machinectl(&["cluster", "net", "heal", "--cluster", cluster.name()])?;
    ready("True")?;
    let answer = until("an answer", PATIENCE, || here.get(cluster, &cut.url()?))?;
    ensure!(answer.contains(&cut.name), "{answer}");
    Ok(())
}
