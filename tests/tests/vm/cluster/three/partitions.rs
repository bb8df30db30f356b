//! Links between control planes are cut: nobody goes on alone, and all find together again by themselves.

use anyhow::ensure;
use tests::cluster::Cluster;
use tests::until::until;

use super::register::Register;
use super::{PATIENCE, etcd_status, healthy, virtual_ip, voters, without};

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

/// Two members of etcd do not hear each other; both hear the third.
pub fn peer_link(cluster: &Cluster) -> anyhow::Result<()> {
    let mut register = Register::new(cluster)?;
    let before = etcd_status(cluster, "cp-1")?["cluster"].clone();
    cluster.machinectl(&["cluster", "net", "partition", "cp-1", "cp-3", "--port", "2380", "--cluster", cluster.name()])?;
    // Long enough for etcd to notice: as many as are answered, one after the other.
    for _ in 0..10 {
        until("a write", PATIENCE, || register.write(cluster))?;
        until("a read", PATIENCE, || register.read(cluster))?;
    }
    cluster.machinectl(&["cluster", "net", "heal", "--cluster", cluster.name()])?;
    together_again(cluster, &before)?;
    register.read(cluster)
}

fn together_again(cluster: &Cluster, before: &serde_json::Value) -> anyhow::Result<()> {
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
