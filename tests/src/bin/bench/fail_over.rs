//! Three control planes, the one that leads etcd loses power: until the API answers a client outside, and until it takes a write.

use std::time::{Duration, Instant};

use ::tests::cluster::{Cluster, Options};
use ::tests::until::until;
use anyhow::{bail, ensure};
use serde_json::{Value, json};

use crate::figure::{Figure, Goal, Outcome, Unit};
use crate::samples::Samples;
use crate::{node, programs};

const CONTROL_PLANES: usize = 3;
const GOAL_SECONDS: f64 = 10.0;
const PATIENCE: Duration = Duration::from_secs(600);

pub fn measure(rounds: usize) -> anyhow::Result<Outcome> {
    let image = programs::image("controlplane");
    programs::check(&image)?;
    let control_planes = CONTROL_PLANES.to_string();
    let extra = ["--control-planes", &control_planes, "--limit", node::LIMIT].map(str::to_owned).to_vec();
    let cluster = Cluster::create(&Options { name: "bench-fail-over".to_owned(), image: Some(image), extra, ..Options::default() })?;
    let (mut reads, mut writes, mut victims) = (Samples::default(), Samples::default(), Vec::new());
    for round in 0..rounds {
        let victim = until("a leader of etcd", PATIENCE, || leader(&cluster))?;
        cluster.machinectl(&["cluster", "stop", &victim, "--power-cut", "--cluster", cluster.name()])?;
        let began = Instant::now();
        until("an answer", PATIENCE, || cluster.kubectl(&["get", "namespace", "default", "--request-timeout=15s"]))?;
        reads.push(began.elapsed().as_secs_f64());
        let round = format!("bench={round}");
        until("a write", PATIENCE, || cluster.kubectl(&["label", "--overwrite", "namespace", "default", &round, "--request-timeout=15s"]))?;
        writes.push(began.elapsed().as_secs_f64());
        cluster.machinectl(&["cluster", "start", &victim, "--cluster", cluster.name()])?;
        let nodes: Vec<String> = cluster.machines()?.into_iter().map(|(_, address)| address).collect();
        cluster.machinectl(&["health", "--wait", "10m", "--timeout", "12m", "-n", &nodes.join(",")])?;
        victims.push(victim);
    }
    let figures = vec![
        Figure::alone("etcd's leader loses power: the API answers", Unit::Seconds, reads, Goal::AtMost(GOAL_SECONDS)),
        Figure::alone("etcd's leader loses power: the API takes a write", Unit::Seconds, writes, Goal::None),
    ];
    let notes = vec!["three control planes, 2 emulated processors each; kubectl on the host, through a port that leads to whichever API server answers, \
                      anew every half second"
        .to_owned()];
    Ok(Outcome { figures, notes, details: json!({ "victims": victims }) })
}

fn leader(cluster: &Cluster) -> anyhow::Result<String> {
    let machines = cluster.machines()?;
    ensure!(machines.len() == CONTROL_PLANES, "{machines:?}");
    for (name, address) in machines {
        let told: Value = cluster.json(&["etcd", "status", "-n", &address])?;
        let status = told.as_array().and_then(|rows| rows.first()).unwrap_or(&told);
        if status["quorum"] == true && status["leader"] == status["id"] {
            return Ok(name);
        }
    }
    bail!("no member says that it leads")
}
