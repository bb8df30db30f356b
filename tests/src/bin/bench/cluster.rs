//! A cluster of one control plane and two workers: from nothing until all are Ready, how long a worker takes, and what the control plane's memory
//! comes to.

use std::time::Instant;

use ::tests::cluster::{Cluster, Options};
use anyhow::{Context, ensure};
use serde_json::{Value, json};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use crate::figure::{Figure, Goal, Outcome, Unit};
use crate::samples::Samples;
use crate::{node, programs};

const WORKERS: usize = 2;
const GOAL_UP_SECONDS: f64 = 240.0;
const GOAL_MEMORY_MIB: f64 = 700.0;

pub fn measure(rounds: usize) -> anyhow::Result<Outcome> {
    let image = programs::image("controlplane");
    programs::check(&image)?;
    let (mut up, mut joins, mut memory) = (Samples::default(), Samples::default(), Samples::default());
    let mut details = Vec::new();
    for _ in 0..rounds {
        let workers = WORKERS.to_string();
        let extra = ["--workers", &workers, "--limit", node::LIMIT].map(str::to_owned).to_vec();
        let options = Options { name: "bench-cluster".to_owned(), image: Some(image.clone()), extra, ..Options::default() };
        let began = Instant::now();
        let cluster = Cluster::create(&options)?;
        up.push(began.elapsed().as_secs_f64());
        let joined = joined(&cluster)?;
        ensure!(joined.len() == WORKERS, "{} workers are Ready", joined.len());
        joined.iter().for_each(|seconds| joins.push(*seconds));
        let meminfo = node::file(&cluster, "/proc/meminfo")?;
        memory.push(used_mebibytes(&meminfo).with_context(|| format!("no MemTotal or MemAvailable in {meminfo}"))?);
        details.push(json!({ "joined": joined, "meminfo": meminfo }));
    }
    let figures = vec![
        Figure::alone("from nothing to all Ready", Unit::Seconds, up, Goal::AtMost(GOAL_UP_SECONDS)),
        Figure::alone("a worker, kernel entry to Node Ready", Unit::Seconds, joins, Goal::None),
        Figure::alone("memory of the control plane, all in", Unit::Mebibytes, memory, Goal::AtMost(GOAL_MEMORY_MIB)),
    ];
    let notes = vec![
        "one control plane and two workers, 2 emulated processors and 3 GiB each; firmware included; Kubernetes' own times are whole seconds".to_owned(),
        "memory: MemTotal - MemAvailable of the whole machine once all are Ready, the kernel among it".to_owned(),
    ];
    Ok(Outcome { figures, notes, details: json!(details) })
}

/// Guest seconds from kernel entry to Ready, of each worker.
fn joined(cluster: &Cluster) -> anyhow::Result<Vec<f64>> {
    let nodes: Value = serde_json::from_str(&cluster.kubectl(&["get", "nodes", "-o", "json"])?)?;
    let mut joined = Vec::new();
    for (name, address) in cluster.machines()?.into_iter().filter(|(name, _)| name != "cp-1") {
        let node = nodes["items"].as_array().into_iter().flatten().find(|node| node["metadata"]["name"] == name);
        let conditions = node.and_then(|node| node["status"]["conditions"].as_array()).with_context(|| format!("no Node {name}"))?;
        let ready = conditions.iter().find(|condition| condition["type"] == "Ready" && condition["status"] == "True");
        let at = ready.and_then(|ready| ready["lastTransitionTime"].as_str()).with_context(|| format!("{name} is not Ready"))?;
        let at = OffsetDateTime::parse(at, &Rfc3339)?;
        let stat = cluster.machinectl(&["files", "cat", "/proc/stat", "-n", &address])?;
        let booted = node::booted(&stat).context("no boot time in /proc/stat")?;
        joined.push((at.unix_timestamp() - booted) as f64);
    }
    Ok(joined)
}

fn used_mebibytes(meminfo: &str) -> Option<f64> {
    let kib = |name: &str| -> Option<f64> {
        let line = meminfo.lines().find_map(|line| line.strip_prefix(name))?;
        line.trim().strip_suffix("kB")?.trim().parse().ok()
    };
    Some((kib("MemTotal:")? - kib("MemAvailable:")?) / 1024.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_available_is_used() {
        let meminfo = "MemTotal:        3072000 kB\nMemFree:          100000 kB\nMemAvailable:    2048000 kB\n";
        assert_eq!(used_mebibytes(meminfo), Some(1000.0));
        assert_eq!(used_mebibytes("MemTotal: 1 kB\n"), None);
    }
}
