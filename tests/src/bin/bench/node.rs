//! A local cluster to measure, and what its machine tells of itself through machinectl.

use std::time::Duration;

use ::tests::cluster::{Cluster, Options};
use anyhow::Context;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

use machine::protocol::BootFacts;
use machine::service::ServiceStatus;

use crate::programs;

/// When a machine ends by itself, should this program be killed.
pub const LIMIT: &str = "2h";

/// One control plane with the programs that are measured, healthy.
pub fn cluster(name: &str) -> anyhow::Result<Cluster> {
    let image = programs::image("controlplane");
    programs::check(&image)?;
    let extra = ["--limit", LIMIT].map(str::to_owned).to_vec();
    Cluster::create(&Options { name: name.to_owned(), image: Some(image), extra, ..Options::default() })
}

/// Statuses of all services.
pub fn services(cluster: &Cluster) -> anyhow::Result<Vec<ServiceStatus>> {
    statuses(cluster, "services")
}

/// What init did on the way up.
pub fn boot(cluster: &Cluster) -> anyhow::Result<BootFacts> {
    statuses(cluster, "bootfacts")?.pop().context("the machine tells of no boot")
}

/// A file of the machine.
pub fn file(cluster: &Cluster, path: &str) -> anyhow::Result<String> {
    cluster.machinectl(&["files", "cat", path])
}

/// How long the machine is up.
pub fn uptime(cluster: &Cluster) -> anyhow::Result<Duration> {
    let text = file(cluster, "/proc/uptime")?;
    let seconds = text.split_whitespace().next().and_then(|word| word.parse().ok());
    seconds.map(Duration::from_secs_f64).with_context(|| format!("no time in /proc/uptime: {text:?}"))
}

fn statuses<T: DeserializeOwned>(cluster: &Cluster, kind: &str) -> anyhow::Result<Vec<T>> {
    #[derive(Deserialize)]
    struct Object {
        status: Value,
    }
    let printed = cluster.machinectl(&["get", kind, "-o", "json"])?;
    let objects: Vec<Object> = serde_json::from_str(&printed).with_context(|| format!("machinectl get {kind} -o json: {printed}"))?;
    let status = |object: Object| serde_json::from_value(object.status).with_context(|| format!("a status of {kind}"));
    objects.into_iter().map(status).collect()
}

/// Seconds since the epoch at which the kernel began, from /proc/stat.
pub fn booted(stat: &str) -> Option<i64> {
    stat.lines().find_map(|line| line.strip_prefix("btime "))?.trim().parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_boot_time_is_a_line_of_its_own() {
        assert_eq!(booted("cpu  1 2 3\nbtime 1795140670\nprocesses 5\n"), Some(1_795_140_670));
        assert_eq!(booted("cpu 1\n"), None);
    }
}
