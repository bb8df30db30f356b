//! A control plane and a worker whose kube-proxy changes its mode while they run: a Service answers in each. Mode ipvs needs the image's own kernel.

use std::time::Duration;

use anyhow::ensure;
use serde_json::Value;
use tests::cluster::Cluster;
use tests::until::until;

use super::{cluster_with, node_port, nodes, service_by_name};
use crate::checks::{self, Check};

/// For kube-proxy to be ended, cleaned up after, and ready in another mode.
const SWITCHED: Duration = Duration::from_secs(240);

const CHECKS: &[Check] = &[
    ("made with mode ipvs: a Service answers by its name and at every node's port, and the mode's end is told", |cluster| {
        answers(cluster, "ipvs")?;
        is_deprecated(cluster)
    }),
    ("switched to mode nftables: the same", |cluster| switched(cluster, "nftables")),
    ("switched to mode ipvs again: the same", |cluster| switched(cluster, "ipvs")),
    ("switched to mode iptables: the same", |cluster| switched(cluster, "iptables")),
];

#[test]
#[ignore = "boots VMs: make vm-test T=cluster"]
fn a_service_answers_in_each_mode() {
    checks::run(|| cluster_with("proxy", 1, 1, &["--patch", &patch("ipvs")]), CHECKS);
}

fn patch(mode: &str) -> String {
    format!("{{ cluster: {{ network: {{ proxy: {{ mode: {mode} }} }} }} }}")
}

/// In this mode and no other: the kernel has mode ipvs' own device, or nothing of it is left.
fn answers(cluster: &Cluster, mode: &str) -> anyhow::Result<()> {
    service_by_name(cluster)?;
    node_port(cluster)?;
    for (name, address) in cluster.machines()? {
        let links = cluster.machinectl(&["get", "links", "-n", &address])?;
        ensure!(links.contains("kube-ipvs0") == (mode == "ipvs"), "{name} in mode {mode}: {links}");
    }
    Ok(())
}

fn is_deprecated(cluster: &Cluster) -> anyhow::Result<()> {
    for (name, address) in cluster.machines()? {
        let events = cluster.machinectl(&["events", "-n", &address])?;
        ensure!(events.lines().any(|line| line.contains("Deprecated") && line.contains("ipvs")), "{name}: {events}");
    }
    Ok(())
}

fn switched(cluster: &Cluster, mode: &str) -> anyhow::Result<()> {
    let process = |address: &str| -> anyhow::Result<Value> {
        let told = cluster.json(&["get", "services", "kube-proxy", "-n", address])?;
        let status = &told.as_array().and_then(|rows| rows.first()).unwrap_or(&told)["status"];
        ensure!(status["state"] == "ready", "{status}");
        Ok(status["pid"].clone())
    };
    for (_, address) in cluster.machines()? {
        let before = until("a kube-proxy that is ready", SWITCHED, || process(&address))?;
        cluster.machinectl(&["patch", &patch(mode), "-n", &address])?;
        until("another kube-proxy", SWITCHED, || {
            let now = process(&address)?;
            ensure!(now != before, "it is {now} still");
            Ok(())
        })?;
    }
    cluster.machinectl(&["health", "--wait", "4m", "--timeout", "5m", "-n", &nodes(cluster)?])?;
    answers(cluster, mode)
}
