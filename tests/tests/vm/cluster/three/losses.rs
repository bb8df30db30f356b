//! Control planes that do not come back: one is replaced; and where the quorum went with two, one command brings the cluster back.

use anyhow::{bail, ensure};
use tests::cluster::Cluster;
use tests::until::until;

use super::register::Register;
use super::{PATIENCE, etcd_status, healthy, node, voters};

/// The machine is gone with its disks; another one joins.
pub fn replace_one(cluster: &Cluster) -> anyhow::Result<()> {
    let mut register = Register::new(cluster)?;
    register.write(cluster)?;
    cluster.machinectl(&["cluster", "stop", "cp-1", "--power-cut", "--cluster", cluster.name()])?;
    until("a write through the others", PATIENCE, || register.write(cluster))?;
    cluster.machinectl(&["cluster", "remove", "cp-1", "--force", "--yes", "--cluster", cluster.name()])?;
    voters(cluster, 2)?;
    cluster.machinectl(&["cluster", "add", "--control-plane", "--timeout", "20m", "--cluster", cluster.name()])?;
    let names: Vec<String> = cluster.machines()?.into_iter().map(|(name, _)| name).collect();
    ensure!(names == ["cp-2", "cp-3", "cp-4"], "{names:?}");
    healthy(cluster)?;
    voters(cluster, 3)?;
    register.read(cluster)
}

/// Without a majority nothing is written; the survivor goes on with all it has; those that come back later stay out until they join anew.
pub fn recover_from_two(cluster: &Cluster) -> anyhow::Result<()> {
    let mut register = Register::new(cluster)?;
    register.write(cluster)?;
    let machines = cluster.machines()?;
    let [(survivor, address), (first, _), (second, _)] = machines.as_slice() else { bail!("not three machines: {machines:?}") };
    // What both others have is what the survivor may have: without more than it, no acknowledged write can be lost.
    cluster.machinectl(&["cluster", "stop", first, second, "--power-cut", "--cluster", cluster.name()])?;
    until("the survivor has no quorum", PATIENCE, || {
        let status = etcd_status(cluster, survivor)?;
        ensure!(status["quorum"] == false, "{status}");
        Ok(())
    })?;
    ensure!(register.write(cluster).is_err(), "one of three wrote");
    let plan = cluster.machinectl(&["etcd", "recover", "--yes", "-n", address, "--timeout", "10m"])?;
    ensure!(plan.contains(survivor) && plan.contains("recovered"), "{plan}");
    until("a write", PATIENCE, || register.write(cluster))?;
    register.read(cluster)?;

    // Nor are they healthy until they have joined anew.
    cluster.machinectl(&["cluster", "start", first, second, "--no-wait", "--cluster", cluster.name()])?;
    for name in [first, second] {
        until("it finds that it was left out", PATIENCE, || {
            let status = etcd_status(cluster, name)?;
            ensure!(status["running"] == false && status["waitsFor"].as_str().is_some_and(|what| what.contains("removed")), "{status}");
            Ok(())
        })?;
        cluster.machinectl(&["etcd", "rejoin", "--yes", "-n", &node(cluster, name)?, "--timeout", "10m"])?;
    }
    healthy(cluster)?;
    voters(cluster, 3)?;
    register.read(cluster)
}
