//! What a machine tells of its own use, beside what the kubelet tells of the same.

use std::time::Duration;

use anyhow::{Context, ensure};
use serde_json::Value;
use tests::cluster::{Cluster, Options};
use tests::until::until;

use crate::checks::{self, Check};

const PATIENCE: Duration = Duration::from_secs(120);

const CHECKS: &[Check] = &[
    ("the machine's own use, with pressure", the_node),
    ("services, each with its memory", services),
    ("pods by name", pods),
    ("working sets of pods as the kubelet counts them", as_the_kubelet_counts),
];

#[test]
#[ignore = "boots VMs: make vm-test T=metrics"]
fn figures_of_a_machine() {
    checks::run(|| Cluster::create(&Options { name: "metrics".to_owned(), ..Options::default() }), CHECKS);
}

fn rows(cluster: &Cluster, what: &str) -> anyhow::Result<Vec<Value>> {
    let rows = cluster.json(&["top", what])?;
    rows.as_array().cloned().with_context(|| format!("top {what} printed {rows}"))
}

fn the_node(cluster: &Cluster) -> anyhow::Result<()> {
    let nodes = rows(cluster, "nodes")?;
    let [node] = nodes.as_slice() else { anyhow::bail!("not one node: {nodes:?}") };
    ensure!(node["cpus"].as_f64().is_some_and(|cpus| cpus > 0.0), "no CPU in use: {node}");
    ensure!(node["memoryBytes"].as_u64().is_some_and(|bytes| bytes > 100 << 20), "too little memory: {node}");
    for resource in ["cpu", "memory", "io"] {
        ensure!(node["pressure"][resource]["some"].is_number(), "the kernel tells of no {resource} pressure: {node}");
    }
    Ok(())
}

fn services(cluster: &Cluster) -> anyhow::Result<()> {
    let services = rows(cluster, "services")?;
    for name in ["nodeagent", "containerd", "kubelet", "etcd", "kube-apiserver"] {
        let service = services.iter().find(|service| service["service"] == name).with_context(|| format!("no {name} in {services:?}"))?;
        ensure!(service["memoryBytes"].as_u64().is_some_and(|bytes| bytes > 1 << 20), "no memory: {service}");
        ensure!(service["tasks"].as_u64().is_some_and(|tasks| tasks > 0), "no tasks: {service}");
    }
    Ok(())
}

fn pods(cluster: &Cluster) -> anyhow::Result<()> {
    until("CoreDNS among the pods", PATIENCE, || {
        let pods = rows(cluster, "pods")?;
        let coredns = pods
            .iter()
            .find(|pod| pod["namespace"] == "kube-system" && pod["pod"].as_str().is_some_and(|name| name.starts_with("coredns")));
        coredns.with_context(|| format!("not in {pods:?}")).map(drop)
    })
}

/// Both read the same file of the kernel's, at other moments.
fn as_the_kubelet_counts(cluster: &Cluster) -> anyhow::Result<()> {
    const TOLERANCE: f64 = 0.1;
    let compare = || {
        let node = cluster.kubectl(&["get", "nodes", "-o", "jsonpath={.items[0].metadata.name}"])?;
        let summary: Value =
            serde_json::from_str(&cluster.kubectl(&["get", "--raw", &format!("/api/v1/nodes/{node}/proxy/stats/summary")])?)?;
        let ours = rows(cluster, "pods")?;
        let pods = summary["pods"].as_array().context("the kubelet's summary has no pods")?;
        ensure!(!pods.is_empty(), "the kubelet knows no pods");
        for pod in pods {
            let (name, theirs) = (&pod["podRef"]["name"], pod["memory"]["workingSetBytes"].as_f64().context("no working set")?);
            let row = ours.iter().find(|row| row["pod"] == *name).with_context(|| format!("{name} is not in {ours:?}"))?;
            let bytes = row["memoryBytes"].as_f64().with_context(|| format!("no memory: {row}"))?;
            ensure!((bytes - theirs).abs() <= TOLERANCE * theirs, "{name}: {bytes}, and the kubelet says {theirs}");
        }
        Ok(())
    };
    until("both agree", PATIENCE, compare)
}
