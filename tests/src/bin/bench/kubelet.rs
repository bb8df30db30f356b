//! What the kubelet itself takes of a processor while nothing happens, by where it has the figures of pods and containers from: its own cAdvisor, or
//! the container runtime (feature gate PodAndContainerStatsFromCRI). One boot; the two take turns.

use std::thread;
use std::time::Duration;

use ::tests::cluster::Cluster;
use ::tests::sample;
use anyhow::Context;
use serde_json::json;

use crate::figure::{Figure, Goal, Outcome, Unit};
use crate::node;
use crate::samples::Samples;

const PODS: usize = 20;
/// Several of the kubelet's own rounds, of 10 s each.
const WINDOW: Duration = Duration::from_secs(60);
/// After its start the kubelet lists all that there is.
const SETTLE: Duration = Duration::from_secs(30);

pub fn measure(rounds: usize) -> anyhow::Result<Outcome> {
    let cluster = node::cluster("bench-kubelet")?;
    sample::import(&cluster)?;
    cluster.apply(sample::MANIFEST)?;
    cluster.kubectl(&["scale", "deployment/hello", &format!("--replicas={PODS}")])?;
    cluster.kubectl(&["rollout", "status", "deployment/hello", "--timeout=900s"])?;
    let (mut runtime, mut own, mut details) = (Samples::default(), Samples::default(), Vec::new());
    for _ in 0..rounds {
        for (from_runtime, samples) in [(false, &mut own), (true, &mut runtime)] {
            let percent = of_one(&cluster, from_runtime)?;
            samples.push(percent);
            details.push(json!({ "fromRuntime": from_runtime, "percent": percent }));
        }
    }
    let figures =
        vec![Figure::beside("kubelet with figures of the runtime, beside its own cAdvisor's", Unit::Percent, runtime, own, Goal::None)];
    let notes = vec![format!(
        "user and system time of the kubelet's cgroup over {} s of the guest's, in percent of one emulated processor; {PODS} pods of one container \
         each, nobody scrapes",
        WINDOW.as_secs()
    )];
    Ok(Outcome { figures, notes, details: json!(details) })
}

/// Restarts the kubelet with the gate, and gives what it then takes, in percent of a processor.
fn of_one(cluster: &Cluster, from_runtime: bool) -> anyhow::Result<f64> {
    let gate = json!({ "machine": { "kubelet": { "config": { "featureGates": { "PodAndContainerStatsFromCRI": from_runtime } } } } });
    cluster.machinectl(&["apply", "-f", &cluster.config("cp-1"), "--patch", &gate.to_string()])?;
    cluster.machinectl(&["health", "--wait", "10m", "--timeout", "12m"])?;
    thread::sleep(SETTLE);
    let before = (node::uptime(cluster)?, used(cluster)?);
    thread::sleep(WINDOW);
    let after = (node::uptime(cluster)?, used(cluster)?);
    Ok((after.1 - before.1).as_secs_f64() / (after.0 - before.0).as_secs_f64() * 100.0)
}

/// Processor time of the kubelet since its cgroup was made. The cgroup stays when the kubelet is started anew.
fn used(cluster: &Cluster) -> anyhow::Result<Duration> {
    let stat = node::file(cluster, "/sys/fs/cgroup/podruntime/kubelet/cpu.stat")?;
    let micros = stat.lines().find_map(|line| line.strip_prefix("usage_usec ")?.trim().parse().ok());
    micros.map(Duration::from_micros).with_context(|| format!("no usage_usec in {stat}"))
}
