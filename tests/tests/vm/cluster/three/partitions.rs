//! Links between control planes are cut: nobody goes on alone, and all find together again by themselves.

use anyhow::{Context, ensure};
use serde_json::Value;
use tests::cluster::Cluster;
use tests::until::until;

use super::register::Register;
use super::{PATIENCE, etcd_status, healthy, leader, virtual_ip, voters, without};

pub fn one_control_plane(cluster: &Cluster) -> anyhow::Result<()> {
    let mut register = Register::new(cluster)?;
    let cut = virtual_ip::holder(cluster, &without(cluster, &[])?)?;
    let others = without(cluster, &[&cut])?;
    let before = etcd_status(cluster, &cut)?["cluster"].clone();
    cluster.machinectl(&["cluster", "net", "partition", &cut, "--cluster", cluster.name()])?;
    until("the one that is cut off has no quorum", PATIENCE, || {
        let status = etcd_status(cluster, &cut)?;
        ensure!(status["quorum"] == false, "{status}");
        Ok(())
    })?;
    let next = virtual_ip::holder(cluster, &others)?;
    ensure!(!virtual_ip::holds(cluster, &cut)?, "{cut} has the virtual IP, as {next} has");
    until("a write through the others", PATIENCE, || register.write(cluster))?;
    until("a read through the others", PATIENCE, || register.read(cluster))?;
    for other in others {
        let status = etcd_status(cluster, &other)?;
        ensure!(status["quorum"] == true, "{other}: {status}");
    }
    cluster.machinectl(&["cluster", "net", "heal", "--cluster", cluster.name()])?;
    together_again(cluster, &before)?;
    virtual_ip::holder(cluster, &without(cluster, &[])?)?;
    register.read(cluster)
}

/// Two members of etcd do not hear each other, one of them the leader; both hear the third.
pub fn peer_link(cluster: &Cluster) -> anyhow::Result<()> {
    let mut register = Register::new(cluster)?;
    let leader = leader(cluster)?;
    let other = without(cluster, &[&leader])?.pop().context("one machine alone")?;
    let before = etcd_status(cluster, &leader)?["cluster"].clone();
    let lost = lost(cluster, &other)?;
    cluster.machinectl(&["cluster", "net", "partition", &leader, &other, "--port", "2380", "--cluster", cluster.name()])?;
    // Long enough for etcd to notice: as many as are answered, one after the other.
    for _ in 0..10 {
        until("a write", PATIENCE, || register.write(cluster))?;
        until("a read", PATIENCE, || register.read(cluster))?;
    }
    until("the link is cut", PATIENCE, || {
        let now = self::lost(cluster, &other)?;
        ensure!(now > lost, "{other} has missed {now} frames, {lost} of them before");
        Ok(())
    })?;
    cluster.machinectl(&["cluster", "net", "heal", "--cluster", cluster.name()])?;
    together_again(cluster, &before)?;
    register.read(cluster)
}

/// Frames for this machine that the segment did not hand over.
fn lost(cluster: &Cluster, name: &str) -> anyhow::Result<u64> {
    let told: Value = cluster.json(&["cluster", "net", "show", "--cluster", cluster.name()])?;
    let ports = told["machines"].as_array().with_context(|| format!("no machines in {told}"))?;
    let port = ports.iter().find(|port| port["name"] == name).with_context(|| format!("no {name} in {told}"))?;
    port["lost"].as_u64().with_context(|| format!("nothing lost in {port}"))
}

fn together_again(cluster: &Cluster, before: &Value) -> anyhow::Result<()> {
    for name in ["cp-1", "cp-2", "cp-3"] {
        until("a member with a quorum", PATIENCE, || {
            let status = etcd_status(cluster, name)?;
            ensure!(status["quorum"] == true && status["cluster"] == *before, "{name}: {status}");
            Ok(())
        })?;
    }
    healthy(cluster)?;
    voters(cluster, 3)
}
