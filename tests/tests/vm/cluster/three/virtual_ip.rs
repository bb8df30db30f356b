//! Who has the cluster's virtual IP: one at a time, and another one where that one is lost.

use anyhow::ensure;
use serde_json::Value;
use tests::cluster::Cluster;
use tests::until::until;

use super::{PATIENCE, node};

/// Of the machines' segment, and no machine's own.
pub const ADDRESS: &str = "10.5.0.50";

/// Waits until one of these has it, and no other of them.
pub fn holder(cluster: &Cluster, names: &[String]) -> anyhow::Result<String> {
    until("one machine with the virtual IP", PATIENCE, || {
        let mut holders = Vec::new();
        for name in names {
            if holds(cluster, name)? {
                holders.push(name.clone());
            }
        }
        ensure!(holders.len() == 1, "of {names:?} these have it: {holders:?}");
        Ok(holders.remove(0))
    })
}

/// Whether it is on a link of this machine, by what the machine says itself.
pub fn holds(cluster: &Cluster, name: &str) -> anyhow::Result<bool> {
    let addresses: Value = cluster.json(&["get", "addresses", "-n", &node(cluster, name)?])?;
    let rows = addresses.as_array().cloned().unwrap_or_else(|| vec![addresses]);
    let address = |row: &Value| row["status"]["address"].as_str().and_then(|address| address.split('/').next()).map(str::to_owned);
    Ok(rows.iter().filter_map(address).any(|address| address == ADDRESS))
}
