//! Images that come up, and whose Kubernetes does not: each ends on the image before, and pods are back.

use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use tests::cluster::{Cluster, Options};
use tests::images::program;
use tests::sample;
use tests::until::until;

use super::standing::{Standing, last_record, reason_is};
use super::swap::Updates;
use crate::kubernetes::in_sample;

const HEALTH: &str = "{ machine: { health: { hold: 10s, tries: 2 } } }";
/// The machine ends by itself, whatever becomes of the test.
const LIMIT: &str = "90m";
/// From the old image's boot to pods that answer.
const BACK: Duration = Duration::from_secs(15 * 60);

struct Row {
    name: &'static str,
    version: &'static str,
    /// In the image, and what stands there.
    place: &'static str,
    stand_in: fn() -> Vec<u8>,
    /// Time enough for all that is sound to come up under emulation.
    deadline: &'static str,
    /// What the record says.
    check: &'static str,
    says: &'static str,
}

const ROWS: &[Row] = &[
    Row {
        name: "broken CNI",
        version: "0.4.1",
        place: "/usr/libexec/cni/bridge",
        stand_in: || program::exits(1),
        deadline: "5m",
        check: "pods",
        says: "plugin type=\"bridge\" failed",
    },
    Row {
        name: "kubelet that is never Ready",
        version: "0.4.2",
        place: "/usr/bin/kubelet",
        stand_in: program::hangs,
        deadline: "4m",
        check: "services",
        says: "kubelet is starting",
    },
    Row {
        name: "etcd that cannot start",
        version: "0.4.3",
        place: "/usr/bin/etcd",
        stand_in: || program::exits(1),
        deadline: "4m",
        check: "services",
        says: "etcd ended with exit code 1",
    },
];

/// A control plane with the sample in it. With CORTEN_TEST_CLUSTER, the folder of a running one, nothing is booted.
pub fn cluster(health: &str) -> anyhow::Result<Cluster> {
    if let Some(running) = std::env::var_os("CORTEN_TEST_CLUSTER") {
        return Cluster::attach(Path::new(&running));
    }
    let extra = vec!["--limit".to_owned(), LIMIT.to_owned()];
    let cluster = Cluster::create(&Options { name: "swap".to_owned(), patches: vec![health.to_owned()], extra, ..Options::default() })?;
    sample::deploy(&cluster)?;
    Ok(cluster)
}

fn falls_back(cluster: &Cluster, updates: &Updates, row: &Row) -> anyhow::Result<()> {
    println!("  {}", row.name);
    let began = Instant::now();
    let ask = |arguments: &[&str]| cluster.json(arguments);
    let config = cluster.config("cp-1");
    let deadline = format!("{{ machine: {{ health: {{ deadline: {} }} }} }}", row.deadline);
    cluster.machinectl(&["apply", "-f", &config, "--patch", &deadline])?;
    let before = Standing::of(&ask)?;
    ensure!(before.blessed, "{before:?}");
    let file = updates.build("controlplane", row.version, |build| build.stand_in(row.place, (row.stand_in)()))?;
    let path = file.to_str().context("a path in UTF-8")?;
    println!("    built after {} s", began.elapsed().as_secs());
    match cluster.machinectl(&["upgrade", path, "--yes", "--no-drain", "--wait", "25m"]) {
        Ok(printed) => anyhow::bail!("the image was kept: {printed}"),
        Err(error) => ensure!(format!("{error:#}").contains("was not kept"), "{error:#}"),
    }
    println!("    back after {} s", began.elapsed().as_secs());
    let record = until("the end of the upgrade's record", BACK, || {
        let record = last_record(&ask)?["status"].clone();
        ensure!(record["endedAt"].as_u64().is_some_and(|at| at > 0), "{record}");
        Ok(record)
    })?;
    ensure!(record["phase"] == "failed" && record["toVersion"] == row.version, "the upgrade's record: {record}");
    reason_is(&record, row.check, row.says)?;
    let now = Standing::of(&ask)?;
    ensure!(now == Standing { other_is_tried: false, ..before.clone() }, "{before:?} became {now:?}");
    serves(cluster)?;
    let again = cluster.machinectl(&["upgrade", path, "--yes", "--no-drain", "--wait", "25m"]).map_err(|error| format!("{error:#}"));
    ensure!(again.as_ref().is_err_and(|text| text.contains("failed on this machine before")), "offered once more: {again:?}");
    println!("    {} s", began.elapsed().as_secs());
    Ok(())
}

/// Waits until the node is Ready and pods answer through their Service.
pub fn serves(cluster: &Cluster) -> anyhow::Result<()> {
    until("the sample through its Service", BACK, || {
        cluster.machinectl(&["health", "--timeout", "20s"])?;
        cluster.kubectl(&["wait", "node", "--all", "--for=condition=Ready", "--timeout=5s"])?;
        cluster.kubectl(&["rollout", "status", "deployment/hello", "--timeout=20s"])?;
        let address = cluster.kubectl(&["get", "service", "hello", "-o", "jsonpath={.spec.clusterIP}"])?;
        let answer = in_sample(cluster, &["/hello", "get", &format!("http://{address}:80/")])?;
        ensure!(answer.starts_with("hello from hello-"), "answered {answer:?}");
        Ok(())
    })
}

#[test]
#[ignore = "boots a VM, for half an hour: make vm-test T=upgrade"]
fn parts_of_kubernetes_that_do_not_work() -> anyhow::Result<()> {
    let (cluster, updates) = (cluster(HEALTH)?, Updates::new()?);
    ROWS.iter().try_for_each(|row| falls_back(&cluster, &updates, row).with_context(|| row.name))
}
