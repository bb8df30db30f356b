//! What PID 1 and the agent hold of a node's memory, each page shared in proportion, after the node has idled.

use std::time::Duration;

use ::tests::cluster::Cluster;
use anyhow::Context;
use serde_json::json;

use crate::figure::{Figure, Goal, Outcome, Unit};
use crate::samples::Samples;
use crate::{node, programs};

const GOAL_MIB: f64 = 16.0;
/// How often what an idle machine is asked shows that it still is there: without questions a crash would be measured as rest.
const LOOK: Duration = Duration::from_secs(60);

pub fn measure(idle: Duration) -> anyhow::Result<Outcome> {
    let cluster = node::cluster("bench-memory")?;
    let began = node::uptime(&cluster)?;
    eprintln!("bench: the node idles for {} s", idle.as_secs());
    let mut left = idle;
    while !left.is_zero() {
        std::thread::sleep(left.min(LOOK));
        left = idle.saturating_sub(node::uptime(&cluster)?.saturating_sub(began));
    }
    let agent = node::services(&cluster)?.into_iter().find(|service| service.id.as_str() == programs::AGENT);
    let agent = agent.context("the machine has no agent")?;
    let pid = agent.pid.context("the agent does not run")?;
    let parts = [(programs::INIT, share(&cluster, 1)?), (programs::AGENT, share(&cluster, pid)?)];
    let sum = parts.iter().map(|(_, mebibytes)| mebibytes).sum();
    let mut figures =
        vec![Figure::alone("memory of init and nodeagent (PSS)", Unit::Mebibytes, Samples::exact(sum), Goal::AtMost(GOAL_MIB))];
    for (name, mebibytes) in parts {
        figures.push(Figure::alone(format!("  of it {name}"), Unit::Mebibytes, Samples::exact(mebibytes), Goal::None));
    }
    let notes = vec![format!(
        "one control plane with its workload, 2 emulated processors, 3 GiB; idle for {} s after it was healthy; agent started {} times",
        idle.as_secs(),
        agent.restarts + 1
    )];
    let details = json!({ "idleSeconds": idle.as_secs(), "memory": node::file(&cluster, "/proc/meminfo")? });
    Ok(Outcome { figures, notes, details })
}

/// Proportional set size in MiB.
fn share(cluster: &Cluster, pid: u32) -> anyhow::Result<f64> {
    let text = node::file(cluster, &format!("/proc/{pid}/smaps_rollup"))?;
    proportional_kib(&text).map(|kib| kib / 1024.0).with_context(|| format!("no Pss in /proc/{pid}/smaps_rollup:\n{text}"))
}

fn proportional_kib(rollup: &str) -> Option<f64> {
    let line = rollup.lines().find_map(|line| line.strip_prefix("Pss:"))?;
    line.trim().strip_suffix("kB")?.trim().parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_share_is_read_from_the_rollup() {
        let rollup = "00400000-7ffc00000000 ---p 00000000 00:00 0  [rollup]\nRss:   12000 kB\nPss:            9876 kB\nPss_Dirty:  1 kB\n";
        assert_eq!(proportional_kib(rollup), Some(9876.0));
        assert_eq!(proportional_kib("Rss: 1 kB\n"), None);
    }
}
