//! Three control planes: what happens to any one of them, or to all at once, costs no write that was acknowledged.

mod losses;
mod partitions;
mod register;
mod virtual_ip;

use std::time::{Duration, Instant};

use anyhow::{Context, bail, ensure};
use serde_json::Value;
use tests::cluster::Cluster;
use tests::until::until;

use super::{cluster_with, nodes};
use crate::checks::{self, Check};
use register::Register;

/// One of three API servers is found dead and left out.
const FAIL_OVER: Duration = Duration::from_secs(10);
/// For a machine to be back and healthy, others beside it.
const PATIENCE: Duration = Duration::from_secs(600);

const CHECKS: &[Check] = &[
    ("all three are members of etcd with a vote", |cluster| voters(cluster, 3)),
    ("etcd's leader loses power: the API answers within 10 s, what was written is there, another one has the virtual IP", leader_is_killed),
    ("one of its followers loses power: the same", follower_is_killed),
    ("all lose power at once: they come back with all that was written", cold_start),
    ("a rolling reboot under a client that writes and reads all the time", rolling_reboot),
    ("the one with the virtual IP is cut off: the others go on, it does not, and it comes back by itself", partitions::one_control_plane),
    ("only etcd's link between two is cut: all go on", partitions::peer_link),
];

const LOSSES: &[Check] = &[
    ("one is lost for good: a new machine takes its place", losses::replace_one),
    ("two are lost: one command brings the cluster back on the third", losses::recover_from_two),
];

#[test]
#[ignore = "boots VMs: make vm-test T=cluster"]
fn no_acknowledged_write_is_lost() {
    checks::run(|| three("three"), CHECKS);
}

#[test]
#[ignore = "boots VMs: make vm-test T=cluster"]
fn machines_are_lost_for_good() {
    checks::run(|| three("losses"), LOSSES);
}

/// Three control planes with a virtual IP.
fn three(name: &str) -> anyhow::Result<Cluster> {
    let patch = format!("{{ cluster: {{ virtualIP: {} }} }}", virtual_ip::ADDRESS);
    cluster_with(name, 3, 0, &["--patch-control-plane", &patch])
}

/// Those of the machines whose names are not among these.
fn without(cluster: &Cluster, names: &[&str]) -> anyhow::Result<Vec<String>> {
    Ok(cluster.machines()?.into_iter().map(|(name, _)| name).filter(|name| !names.contains(&name.as_str())).collect())
}

/// So many members, each with a vote. A machine looks at them every few seconds.
fn voters(cluster: &Cluster, count: usize) -> anyhow::Result<()> {
    until("members of etcd", PATIENCE, || {
        let members: Value = cluster.json(&["get", "etcdmembers", "-n", &cluster.machines()?[0].1])?;
        let members = members.as_array().cloned().unwrap_or_else(|| vec![members]);
        let voters = members.iter().filter(|member| member["status"]["role"] != "learner").count();
        ensure!(voters == count && members.len() == count, "{members:?}");
        Ok(())
    })
}

fn healthy(cluster: &Cluster) -> anyhow::Result<()> {
    cluster.machinectl(&["health", "--wait", "10m", "--timeout", "12m", "-n", &nodes(cluster)?]).map(drop)
}

/// The machine API of one.
fn node(cluster: &Cluster, name: &str) -> anyhow::Result<String> {
    let (_, address) = cluster.machines()?.into_iter().find(|(other, _)| other == name).with_context(|| format!("no machine {name}"))?;
    Ok(address)
}

/// What a machine says of its own member of etcd.
fn etcd_status(cluster: &Cluster, name: &str) -> anyhow::Result<Value> {
    let status = cluster.json(&["etcd", "status", "-n", &node(cluster, name)?])?;
    Ok(status.as_array().and_then(|rows| rows.first().cloned()).unwrap_or(status))
}

/// Which machine's member leads etcd.
fn leader(cluster: &Cluster) -> anyhow::Result<String> {
    until("a leader of etcd", PATIENCE, || {
        for (name, _) in cluster.machines()? {
            let status = etcd_status(cluster, &name)?;
            if status["quorum"] == true && status["leader"] == status["id"] {
                return Ok(name);
            }
        }
        bail!("no member says that it leads")
    })
}

fn leader_is_killed(cluster: &Cluster) -> anyhow::Result<()> {
    let victim = leader(cluster)?;
    is_killed(cluster, &victim)
}

fn follower_is_killed(cluster: &Cluster) -> anyhow::Result<()> {
    let leader = leader(cluster)?;
    let victim = without(cluster, &[&leader])?.pop().context("one machine alone")?;
    is_killed(cluster, &victim)
}

fn is_killed(cluster: &Cluster, victim: &str) -> anyhow::Result<()> {
    let mut register = Register::new(cluster)?;
    register.write(cluster)?;
    cluster.machinectl(&["cluster", "stop", victim, "--power-cut", "--cluster", cluster.name()])?;
    let began = Instant::now();
    until("an API server that answers", PATIENCE, || register.read(cluster))?;
    let took = began.elapsed();
    println!("    the API answered {:.1} s after the power of {victim} went", took.as_secs_f32());
    until("a write", PATIENCE, || register.write(cluster))?;
    println!("    and took a write after {:.1} s", began.elapsed().as_secs_f32());
    register.read(cluster)?;
    virtual_ip::holder(cluster, &without(cluster, &[victim])?)?;
    cluster.machinectl(&["cluster", "start", victim, "--cluster", cluster.name()])?;
    healthy(cluster)?;
    virtual_ip::holder(cluster, &without(cluster, &[])?)?;
    voters(cluster, 3)?;
    register.read(cluster)?;
    // Last, so that the cluster is whole for the next claim.
    ensure!(took <= FAIL_OVER, "the API answered only {took:?} after the power of {victim} went; {FAIL_OVER:?} at most");
    Ok(())
}

fn cold_start(cluster: &Cluster) -> anyhow::Result<()> {
    let mut register = Register::new(cluster)?;
    register.write(cluster)?;
    cluster.machinectl(&["cluster", "stop", "--power-cut", "--cluster", cluster.name()])?;
    cluster.machinectl(&["cluster", "start", "--cluster", cluster.name()])?;
    healthy(cluster)?;
    voters(cluster, 3)?;
    until("a read", PATIENCE, || register.read(cluster))
}

fn rolling_reboot(cluster: &Cluster) -> anyhow::Result<()> {
    let nodes = nodes(cluster)?;
    let mut register = Register::new(cluster)?;
    let (done, answer) = std::thread::scope(|scope| -> anyhow::Result<_> {
        let reboots = scope.spawn(|| {
            cluster.machinectl(&["reboot", "--rolling", "--yes", "--no-drain", "-n", &nodes, "--wait", "12m", "--timeout", "45m"])
        });
        let mut done = (0, 0);
        while !reboots.is_finished() {
            match register.write(cluster).and_then(|()| register.read(cluster)) {
                Ok(()) => done.0 += 1,
                Err(error) if error.to_string().contains("history") => return Err(error),
                Err(_) => done.1 += 1,
            }
        }
        Ok((done, reboots.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))?))
    })?;
    ensure!(answer.matches("has rebooted and is healthy").count() == 3, "{answer}");
    println!("    {} writes and reads while all three rebooted, {} that were not answered", done.0, done.1);
    register.read(cluster)?;
    ensure!(done.0 > 0, "nothing could be written while they rebooted");
    Ok(())
}
