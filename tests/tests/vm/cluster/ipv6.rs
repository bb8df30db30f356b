//! A control plane and a worker that have IPv6 addresses alone: pods run, and reach each other and a Service.

use std::net::Ipv6Addr;

use anyhow::{Context, ensure};
use tests::cluster::Cluster;
use tests::until::until;

use super::{PATIENCE, cluster_with, one_pod_a_node, reach_each_other};
use crate::checks::{self, Check};

const CHECKS: &[Check] = &[
    ("both machines are Ready nodes, with an IPv6 address and an IPv6 pod network each", nodes_have_ipv6_alone),
    ("pod to pod, from every node to every node", pod_to_pod),
    ("a Service by its address and by its name, from every node", service),
];

#[test]
#[ignore = "boots VMs: make vm-test T=cluster"]
fn a_cluster_has_ipv6_alone() {
    checks::run(|| cluster_with("ipv6", 1, 1, &["--ip-family", "ipv6"]), CHECKS);
}

fn nodes_have_ipv6_alone(cluster: &Cluster) -> anyhow::Result<()> {
    let fields = "{.metadata.name} {.status.conditions[?(@.type=='Ready')].status} {.status.addresses[?(@.type=='InternalIP')].address} {.spec.podCIDRs}";
    let nodes = cluster.kubectl(&["get", "nodes", "-o", &format!("jsonpath={{range .items[*]}}{fields}{{\"\\n\"}}{{end}}")])?;
    let lines: Vec<&str> = nodes.lines().collect();
    for (line, expected) in lines.iter().zip(["cp-1 True fd05::10 [\"fd05:0:1:", "worker-1 True fd05::100 [\"fd05:0:1:"]) {
        ensure!(line.starts_with(expected) && line.ends_with("::/64\"]"), "{nodes}");
    }
    ensure!(lines.len() == 2, "{nodes}");
    Ok(())
}

fn pod_to_pod(cluster: &Cluster) -> anyhow::Result<()> {
    let pods = one_pod_a_node(cluster)?;
    for pod in &pods {
        pod.address.parse::<Ipv6Addr>().with_context(|| format!("address of {pod:?}"))?;
    }
    reach_each_other(cluster, &pods)
}

fn service(cluster: &Cluster) -> anyhow::Result<()> {
    let pods = one_pod_a_node(cluster)?;
    let address: Ipv6Addr = cluster.kubectl(&["get", "service", "everywhere", "-o", "jsonpath={.spec.clusterIP}"])?.parse()?;
    for pod in pods {
        for url in [format!("http://[{address}]:80/"), "http://everywhere.default.svc.cluster.local:80/".to_owned()] {
            let answer = until("an answer", PATIENCE, || pod.get(cluster, &url))?;
            ensure!(answer.contains("everywhere-"), "{} asking {url}: {answer}", pod.node);
        }
    }
    Ok(())
}
