//! Several machines in one call: one after the other, control planes first, their pods moved away meanwhile, and no further than the first that falls
//! back.

use std::collections::BTreeSet;

use anyhow::{Context, ensure};
use serde_json::Value;
use tests::cluster::{Cluster, Options};
use tests::images::program;
use tests::{place, sample};

use super::kubernetes::serves;
use super::standing::{Standing, last_record};
use super::swap::Updates;

const HEALTH: &str = "{ machine: { health: { hold: 10s, deadline: 10m, tries: 2 } } }";

#[test]
#[ignore = "boots VMs: make vm-test T=upgrade"]
fn several_machines_in_order() -> anyhow::Result<()> {
    let extra = ["--control-planes", "1", "--workers", "1", "--limit", "90m"].map(str::to_owned).to_vec();
    let cluster = Cluster::create(&Options { name: "rolling".to_owned(), patches: vec![HEALTH.to_owned()], extra, ..Options::default() })?;
    let archive = place::sample_archive();
    let archive = archive.to_str().context("path of the sample archive")?;
    let [control_plane, worker] = machines(&cluster)?;
    cluster.machinectl(&["image", "import", archive, "-n", &format!("{control_plane},{worker}")])?;
    cluster.apply(sample::MANIFEST)?;
    serves(&cluster)?;
    println!("  all machines take a good image, the control plane before the worker that was named first");
    all_take_a_good_one(&cluster)?;
    println!("  a bad image ends with the first machine, which falls back: no other has begun");
    the_first_that_falls_back_ends_it(&cluster)
}

/// Machine APIs of the control plane and the worker.
fn machines(cluster: &Cluster) -> anyhow::Result<[String; 2]> {
    let mut machines = cluster.machines()?;
    machines.sort();
    let addresses: Vec<String> = machines.into_iter().map(|(_, address)| address).collect();
    addresses.try_into().map_err(|addresses| anyhow::anyhow!("expected cp-1 and worker-1, got {addresses:?}"))
}

/// Upgrades both, the worker named first.
fn upgrade(cluster: &Cluster, version: &str, updates: &Updates, bad: bool) -> anyhow::Result<String> {
    let change = |build: tests::images::Build| if bad { build.replace("init", program::exits(1)) } else { build };
    let file = updates.build("controlplane", version, change)?;
    let [control_plane, worker] = machines(cluster)?;
    let nodes = format!("{worker},{control_plane}");
    let file = file.to_str().context("a path in UTF-8")?;
    cluster.machinectl(&["upgrade", file, "--yes", "--wait", "25m", "--timeout", "50m", "-n", &nodes])
}

fn standing(cluster: &Cluster, machine: &str) -> anyhow::Result<Standing> {
    Standing::of(&|arguments| cluster.json(&[arguments, &["-n", machine]].concat()))
}

/// Status of its newest upgrade.
fn record(cluster: &Cluster, machine: &str) -> anyhow::Result<Value> {
    Ok(last_record(&|arguments| cluster.json(&[arguments, &["-n", machine]].concat()))?["status"].clone())
}

/// Names of the sample's pods: one that was evicted comes back by another name, one whose machine only rebooted by its own.
fn pods(cluster: &Cluster) -> anyhow::Result<BTreeSet<String>> {
    let names = cluster.kubectl(&["get", "pods", "-l", "app=hello", "-o", "jsonpath={.items[*].metadata.name}"])?;
    Ok(names.split_whitespace().map(str::to_owned).collect())
}

fn all_take_a_good_one(cluster: &Cluster) -> anyhow::Result<()> {
    let updates = Updates::new()?;
    let pods_before = pods(cluster)?;
    let printed = upgrade(cluster, "0.5.1", &updates, false)?;
    println!("    {}", printed.trim().replace('\n', "\n    "));
    ensure!(printed.matches("runs 0.5.1").count() == 2, "{printed}");
    let machines = machines(cluster)?;
    for machine in &machines {
        let now = standing(cluster, machine)?;
        ensure!(now.version == "0.5.1" && now.slot == "b" && now.blessed, "{machine}: {now:?}");
    }
    let [first, second] = [record(cluster, &machines[0])?, record(cluster, &machines[1])?];
    let time = |record: &Value, field: &str| record[field].as_u64().with_context(|| format!("no {field} in {record}"));
    ensure!(
        time(&first, "endedAt")? <= time(&second, "startedAt")?,
        "the worker began before the control plane had proven good: {first}, {second}"
    );
    serves(cluster)?;
    let pods_after = pods(cluster)?;
    ensure!(pods_after.is_disjoint(&pods_before), "not all pods were moved away: {pods_before:?} became {pods_after:?}");
    schedulable(cluster)
}

fn the_first_that_falls_back_ends_it(cluster: &Cluster) -> anyhow::Result<()> {
    let updates = Updates::new()?;
    let machines = machines(cluster)?;
    let before = [standing(cluster, &machines[0])?, standing(cluster, &machines[1])?];
    let record_before = record(cluster, &machines[1])?;
    match upgrade(cluster, "0.5.2", &updates, true) {
        Ok(printed) => anyhow::bail!("the image was kept: {printed}"),
        Err(error) => {
            let said = format!("{error:#}");
            println!("    {}", said.trim().replace('\n', "\n    "));
            ensure!(said.contains("was not kept"), "{said}");
        }
    }
    let after = [standing(cluster, &machines[0])?, standing(cluster, &machines[1])?];
    ensure!(after == [Standing { other_is_tried: false, ..before[0].clone() }, before[1].clone()], "{before:?} became {after:?}");
    let failed = record(cluster, &machines[0])?;
    ensure!(failed["phase"] == "failed" && failed["toVersion"] == "0.5.2", "{failed}");
    ensure!(record(cluster, &machines[1])? == record_before, "the worker has begun");
    serves(cluster)?;
    schedulable(cluster)
}

/// Every cordon has been lifted.
fn schedulable(cluster: &Cluster) -> anyhow::Result<()> {
    let cordoned = cluster.kubectl(&["get", "nodes", "-o", "jsonpath={.items[?(@.spec.unschedulable==true)].metadata.name}"])?;
    ensure!(cordoned.is_empty(), "still cordoned: {cordoned}");
    Ok(())
}
