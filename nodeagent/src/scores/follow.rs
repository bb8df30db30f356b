//! Follows what every node's agent tells of its load and its pods: on a control plane, one stream to each machine of the cluster. It calls them as a reader,
//! with a certificate that it makes itself: control planes hold the machine authority.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::time::Duration;

use anyhow::Context;
use api::v1::metrics_client::MetricsClient;
use api::v1::{NodeUsage, StreamMetricsResponse};
use controlplane::pki::MachineRole;
use machine::config::{Host, HostPort};
use metrics::score::Load;
use tokio::task::JoinSet;
use tokio::time::{Instant, timeout};

use super::Scores;
use crate::agents;
use crate::controllers::machine::Machine;
use crate::node::Node;
use crate::resources::overlay::ClusterNode;
use crate::usage::cluster::ClusterUsage;
use crate::usage::{Telling, Usage};

/// Between two tries to reach a machine; it doubles.
const FIRST_PAUSE: Duration = Duration::from_secs(1);
const LAST_PAUSE: Duration = Duration::from_secs(30);
/// An agent sweeps once in 30 s at the least.
const SILENCE: Duration = Duration::from_secs(60);
/// The board changes often, and its Nodes seldom.
const LOOK: Duration = Duration::from_secs(2);

/// Who wants to know.
#[derive(Debug, Clone, Default)]
pub struct Listeners {
    pub scores: Scores,
    pub cluster: ClusterUsage,
}

impl Listeners {
    fn add(&self, node: &str, answer: &StreamMetricsResponse, first: bool) {
        let now = Instant::now();
        self.cluster.add(node, answer, first, now);
        if let Some(load) = answer.node.as_ref().and_then(load) {
            self.scores.add(node, load, now);
        }
    }

    fn remove(&self, node: &str) {
        self.cluster.remove(node);
        self.scores.remove(node);
    }
}

/// Waits until this machine is a control plane; for ever on a worker.
pub async fn until_control_plane(node: &Node) {
    let mut board = node.store.revision();
    loop {
        board.mark_unchanged();
        if Machine::observe(node).is_ok_and(|machine| machine.is_control_plane()) {
            return;
        }
        // Closed only when the agent ends.
        let _ = board.changed().await;
        tokio::time::sleep(LOOK).await;
    }
}

/// Follows all nodes for as long as the agent lives.
pub async fn follow(node: Node, usage: Usage, listeners: Listeners) {
    until_control_plane(&node).await;
    let mut board = node.store.revision();
    let mut streams = JoinSet::new();
    let mut followed = BTreeMap::new();
    loop {
        board.mark_unchanged();
        let there = machines(&node);
        followed.retain(|name: &String, (address, stream): &mut (IpAddr, tokio::task::AbortHandle)| {
            let stays = there.get(name) == Some(address);
            if !stays {
                stream.abort();
                listeners.remove(name);
            }
            stays
        });
        let own = Machine::observe(&node).map(|machine| machine.facts.node_name).unwrap_or_default();
        for (name, address) in there {
            followed.entry(name.clone()).or_insert_with(|| {
                let (node, listeners) = (node.clone(), listeners.clone());
                let stream = match name == own {
                    true => streams.spawn(of_this(usage.clone(), name, listeners)),
                    false => streams.spawn(of_another(node, name, address, listeners)),
                };
                (address, stream)
            });
        }
        while streams.try_join_next().is_some() {}
        let _ = board.changed().await;
        tokio::time::sleep(LOOK).await;
    }
}

/// The cluster's nodes and where their agents are.
fn machines(node: &Node) -> BTreeMap<String, IpAddr> {
    let nodes = node.store.all::<ClusterNode>();
    nodes.into_iter().filter_map(|(name, node)| Some((name, *node.addresses.first()?))).collect()
}

async fn of_this(mut usage: Usage, name: String, listeners: Listeners) {
    let (mut telling, mut first) = (Telling::new(&Telling::to_control_planes()), true);
    while usage.changed().await {
        let (snapshot, names) = usage.newest();
        listeners.add(&name, &telling.next(&snapshot, &names), first);
        first = false;
    }
}

async fn of_another(node: Node, name: String, address: IpAddr, listeners: Listeners) {
    let mut pause = FIRST_PAUSE;
    loop {
        let began = Instant::now();
        if let Err(error) = stream(&node, &name, address, &listeners).await {
            tracing::debug!("following the load of {name}: {error:#}");
        }
        pause = if began.elapsed() > LAST_PAUSE { FIRST_PAUSE } else { (pause * 2).min(LAST_PAUSE) };
        tokio::time::sleep(pause).await;
    }
}

/// Until the machine or the connection ends it.
async fn stream(node: &Node, name: &str, address: IpAddr, listeners: &Listeners) -> anyhow::Result<()> {
    let machine = Machine::observe(node).ok().context("this machine has no config")?;
    let server = HostPort { host: Host::Address(address), port: api::PORT };
    let mut client = MetricsClient::new(agents::connect_as(node, &machine, &server, MachineRole::Reader).await?);
    let mut answers = timeout(SILENCE, client.stream(Telling::to_control_planes())).await.context("no answer")??.into_inner();
    let mut first = true;
    while let Some(answer) = timeout(SILENCE, answers.message()).await.context("it fell silent")?? {
        listeners.add(name, &answer, first);
        first = false;
    }
    Ok(())
}

/// What a node tells before its second sweep is no load yet.
fn load(usage: &NodeUsage) -> Option<Load> {
    let pressure = usage.pressure.unwrap_or_default();
    Some(Load {
        cpus: f64::from(usage.cpus),
        cpus_used: usage.cpus_used?,
        memory_bytes: usage.memory_total_bytes? as f64,
        memory_used_bytes: usage.memory_used_bytes? as f64,
        cpu_some: pressure.cpu_some.unwrap_or(0.0),
        memory_full: pressure.memory_full.unwrap_or(0.0),
        io_full: pressure.io_full.unwrap_or(0.0),
    })
}
