//! From kernel entry to Node Ready on two emulated processors, and where the time goes.
//!
//! All times are the guest's, since kernel entry. A machine that boots for the first time waits for its config and for bootstrap; machinectl
//! gives both as soon as it is asked, and what that takes is part of the figure and a phase of its own.

mod milestones;

use std::time::SystemTime;

use ::machine::protocol::BootFacts;
use ::tests::cluster::Cluster;
use anyhow::Context;
use serde_json::{Value, json};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use crate::figure::{Figure, Goal, Outcome, Unit};
use crate::node;
use crate::samples::Samples;
use milestones::{Milestone, table};

const GOAL_SECONDS: f64 = 75.0;

pub fn measure(rounds: usize) -> anyhow::Result<Outcome> {
    let mut ready = Samples::default();
    let (mut notes, mut details) = (Vec::new(), Vec::new());
    for round in 1..=rounds {
        let cluster = node::cluster("bench-ready")?;
        let boot = node::boot(&cluster)?;
        let seen = milestones(&cluster, &boot)?;
        let end = seen.iter().find(|milestone| milestone.name == READY).context("the node has no Ready condition")?;
        ready.push(end.at);
        notes.push(format!("round {round}:\n{}", table(&seen)));
        details.push(json!({ "milestones": seen, "boot": boot }));
    }
    let figures = vec![Figure::alone("kernel entry to Node Ready", Unit::Seconds, ready, Goal::AtMost(GOAL_SECONDS))];
    notes.push("one control plane, 2 emulated processors, 3 GiB; Kubernetes' own times are whole seconds".to_owned());
    Ok(Outcome { figures, notes, details: json!(details) })
}

const READY: &str = "node Ready";

/// Everything that happened, in order.
fn milestones(cluster: &Cluster, boot: &BootFacts) -> anyhow::Result<Vec<Milestone>> {
    let entry = SystemTime::now() - node::uptime(cluster)?;
    let mut seen = vec![Milestone::new("kernel", 0.0)];
    if let Some(firmware) = started(cluster)?.and_then(|started| entry.duration_since(started).ok()) {
        seen.push(Milestone::new("QEMU starts", -firmware.as_secs_f64()));
    }
    let steps: Vec<_> = boot.steps.iter().map(|step| (step.name.as_str(), step.began, step.took)).collect();
    seen.extend(milestones::stages(&steps));
    for service in node::services(cluster)? {
        seen.push(Milestone::new(&format!("{} ready", service.id), service.since_boot.as_secs_f64()));
    }
    for (name, at) in kubernetes(cluster)? {
        seen.push(Milestone::new(name, at));
    }
    seen.sort_by(|a, b| a.at.total_cmp(&b.at));
    Ok(seen)
}

/// When QEMU was started.
fn started(cluster: &Cluster) -> anyhow::Result<Option<SystemTime>> {
    let record = cluster.machine_directory("cp-1").join("qemu.pid");
    Ok(std::fs::metadata(record).and_then(|metadata| metadata.modified()).ok())
}

/// When the API server knew of the node, and when it was Ready, by the node's own clock.
fn kubernetes(cluster: &Cluster) -> anyhow::Result<[(&'static str, f64); 2]> {
    let boot = node::booted(&node::file(cluster, "/proc/stat")?).context("no boot time in /proc/stat")?;
    let nodes: Value = serde_json::from_str(&cluster.kubectl(&["get", "nodes", "-o", "json"])?)?;
    let node = &nodes["items"][0];
    let ready = node["status"]["conditions"].as_array().into_iter().flatten().find(|condition| condition["type"] == "Ready");
    let ready = ready.filter(|condition| condition["status"] == "True").context("the node is not Ready")?;
    let since = |time: &Value| {
        let text = time.as_str().context("a time of the node")?;
        let at = OffsetDateTime::parse(text, &Rfc3339).with_context(|| format!("the time {text:?}"))?;
        anyhow::Ok((at.unix_timestamp() - boot) as f64)
    };
    Ok([("node registered", since(&node["metadata"]["creationTimestamp"])?), (READY, since(&ready["lastTransitionTime"])?)])
}
