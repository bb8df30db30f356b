//! What a machine says of its services.

use std::collections::BTreeMap;

use anyhow::{Context, ensure};
use serde_json::Value;
use tests::cluster::Cluster;

/// All of a control plane's.
const NAMES: [&str; 8] =
    ["nodeagent", "containerd", "etcd", "kube-apiserver", "kube-controller-manager", "kube-scheduler", "kubelet", "kube-proxy"];

pub fn status(cluster: &Cluster, name: &str) -> anyhow::Result<Value> {
    let text = cluster.machinectl(&["get", "services", name, "-o", "json"])?;
    let object: Value = serde_json::from_str(&text).with_context(|| format!("machinectl printed {text:?}"))?;
    ensure!(object["status"].is_object(), "no status in {object}");
    Ok(object["status"].clone())
}

/// Process ids of the services, by name.
pub fn processes(cluster: &Cluster) -> anyhow::Result<BTreeMap<&'static str, Value>> {
    NAMES.iter().map(|name| Ok((*name, status(cluster, name)?["pid"].clone()))).collect()
}
