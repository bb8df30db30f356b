//! What a machine tells of its own use, beside what the kubelet tells of the same.

mod agreement;
mod exposition;
mod scraper;

use std::time::Duration;

use anyhow::{Context, ensure};
use serde_json::{Value, json};
use tests::cluster::{Cluster, Options};
use tests::sample;
use tests::until::until;

use crate::checks::{self, Check};

const PATIENCE: Duration = Duration::from_secs(120);

const CHECKS: &[Check] = &[
    ("the machine's own use, with pressure", the_node),
    ("services, each with its memory", services),
    ("pods by name", pods),
    ("working sets of pods as the kubelet counts them", as_the_kubelet_counts),
    ("names, types, labels and values as in the kubelet's /metrics/cadvisor, under load", as_cadvisor_tells),
    ("the same of /metrics/resource", as_the_kubelet_tells),
    ("a container that lives two seconds is seen", short_lives),
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

/// Uses all that is counted, within limits that leave the machine to others.
const STRESS: &str = r#"
apiVersion: apps/v1
kind: Deployment
metadata: { name: stress, namespace: default }
spec:
  selector: { matchLabels: { app: stress } }
  template:
    metadata: { labels: { app: stress } }
    spec:
      containers:
        - name: stress
          image: corten.dev/hello:v1
          imagePullPolicy: Never
          args: [stress, "1000000"]
          resources: { limits: { cpu: 200m, memory: 64Mi } }
          securityContext: { runAsUser: 0 }
"#;

fn as_cadvisor_tells(cluster: &Cluster) -> anyhow::Result<()> {
    sample::import(cluster)?;
    cluster.apply(STRESS)?;
    cluster.kubectl(&["rollout", "status", "deployment/stress", "--timeout=240s"])?;
    agrees(cluster, "cadvisor")
}

fn as_the_kubelet_tells(cluster: &Cluster) -> anyhow::Result<()> {
    agrees(cluster, "resource")
}

/// They are read one after the other, and a container may come or go in between.
fn agrees(cluster: &Cluster, path: &str) -> anyhow::Result<()> {
    let compare = || {
        let theirs = cluster.kubectl(&["get", "--raw", &format!("/api/v1/nodes/cp-1/proxy/metrics/{path}")])?;
        let ours = scraper::scrape(cluster)?;
        agreement::compare(&exposition::parse(&ours)?, &exposition::parse(&theirs)?)
    };
    let compared = until("both agree", PATIENCE, compare)?;
    println!("    {compared} values");
    ensure!(compared > 0, "nothing was compared");
    Ok(())
}

/// One that came and went between two scrapes is followed by another.
fn short_lives(cluster: &Cluster) -> anyhow::Result<()> {
    let mut number = 0;
    until("a short life in a scrape", PATIENCE, || {
        number += 1;
        let pod = format!("short-{number}");
        let spec = json!({ "restartPolicy": "Never", "containers": [{
            "name": "short", "image": "corten.dev/hello:v1", "imagePullPolicy": "Never", "args": ["stress", "2"],
            "securityContext": { "runAsUser": 0 },
        }]});
        let manifest = json!({ "apiVersion": "v1", "kind": "Pod", "metadata": { "name": pod, "namespace": "default" }, "spec": spec });
        cluster.apply(&manifest.to_string())?;
        loop {
            for _ in 0..5 {
                let families = exposition::parse(&scraper::scrape(cluster)?)?;
                let cpu = families.get("container_cpu_usage_seconds_total").context("no CPU times")?;
                let is = |labels: &exposition::Labels, name: &str, value: &str| labels.get(name).is_some_and(|label| label == value);
                if cpu.series.iter().any(|(labels, _)| is(labels, "pod", &pod) && is(labels, "container", "short")) {
                    return Ok(());
                }
            }
            let phase = cluster.kubectl(&["get", "pod", &pod, "-o", "jsonpath={.status.phase}"])?;
            ensure!(!["Succeeded", "Failed"].contains(&&*phase), "{pod} {phase} unseen");
        }
    })
}
