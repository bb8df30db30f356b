//! The config of a running cluster changes: what it says comes true, and only what must restart restarts.

use std::time::Duration;

use anyhow::ensure;
use tests::cluster::Cluster;
use tests::until::until;

use crate::checks::Check;
use crate::services;

/// For a service to restart and be ready again.
const PATIENCE: Duration = Duration::from_secs(240);

pub const CHECKS: &[Check] = &[
    ("another label: nothing restarts but what the kubelet is told by flags", label),
    ("another registry mirror: nothing restarts", mirror),
    ("another kubelet option: the kubelet restarts, and nothing else", kubelet_option),
    ("another flag of the API server: the API server restarts, and nothing else", api_server_flag),
];

/// Applies the patch and waits until it is true. The services that have another process then, all of them ready.
fn restarted(cluster: &Cluster, patch: &str, is_true: impl Fn() -> anyhow::Result<()>) -> anyhow::Result<Vec<&'static str>> {
    let before = services::processes(cluster)?;
    cluster.machinectl(&["patch", patch])?;
    until("what the config says", PATIENCE, is_true)?;
    cluster.machinectl(&["health", "--wait", "4m", "--timeout", "5m"])?;
    let after = services::processes(cluster)?;
    Ok(after.into_iter().filter(|(name, process)| before.get(name) != Some(process)).map(|(name, _)| name).collect())
}

fn label(cluster: &Cluster) -> anyhow::Result<()> {
    let has_it = || {
        let value = cluster.kubectl(&["get", "node", "cp-1", "-o", "jsonpath={.metadata.labels.example\\.org/shelf}"])?;
        ensure!(value == "s7", "the label is {value:?}");
        Ok(())
    };
    let restarted = restarted(cluster, "machine: { kubelet: { labels: { example.org/shelf: s7 } } }", has_it)?;
    // The kubelet registers its Node with labels that stand in its flags.
    ensure!(restarted.is_empty() || restarted == ["kubelet"], "{restarted:?}");
    Ok(())
}

fn mirror(cluster: &Cluster) -> anyhow::Result<()> {
    let patch = "machine: { registries: { mirrors: { registry.example.com: { endpoints: [\"https://mirror.example.com:5000\"] } } } }";
    let is_written = || {
        let text = cluster.machinectl(&["files", "cat", "/etc/containerd/certs.d/registry.example.com/hosts.toml"])?;
        ensure!(text.contains("mirror.example.com:5000"), "{text}");
        Ok(())
    };
    let restarted = restarted(cluster, patch, is_written)?;
    ensure!(restarted.is_empty(), "{restarted:?}");
    Ok(())
}

fn kubelet_option(cluster: &Cluster) -> anyhow::Result<()> {
    let has_it = || {
        let pods = cluster.kubectl(&["get", "node", "cp-1", "-o", "jsonpath={.status.capacity.pods}"])?;
        ensure!(pods == "60", "the node takes {pods} pods");
        Ok(())
    };
    let restarted = restarted(cluster, "machine: { kubelet: { config: { maxPods: 60 } } }", has_it)?;
    ensure!(restarted == ["kubelet"], "{restarted:?}");
    Ok(())
}

fn api_server_flag(cluster: &Cluster) -> anyhow::Result<()> {
    let old = services::status(cluster, "kube-apiserver")?["pid"].clone();
    let is_another = || {
        let now = services::status(cluster, "kube-apiserver")?;
        ensure!(now["pid"] != old && now["state"] == "ready", "{now}");
        cluster.kubectl(&["get", "--raw", "/readyz"]).map(drop)
    };
    let restarted = restarted(cluster, "cluster: { apiServer: { extraArgs: { max-requests-inflight: \"500\" } } }", is_another)?;
    ensure!(restarted.contains(&"kube-apiserver"), "{restarted:?}");
    // With one API server, which starts for longer than a lease lasts where processors are emulated, those that hold one end by themselves
    // (upstream: "leaderelection lost"): nobody has told them to.
    for other in restarted.iter().filter(|name| **name != "kube-apiserver") {
        let status = services::status(cluster, other)?;
        let leads = ["kube-controller-manager", "kube-scheduler"].contains(other);
        ensure!(leads && status["lastExit"] == serde_json::json!({ "code": 1 }), "{restarted:?}; {status}");
    }
    Ok(())
}
