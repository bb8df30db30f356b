//! Follows what every node's agent tells of its load and its pods: on a control plane, one stream to each machine of the cluster. It calls them as a reader,
//! with a certificate that it makes itself: control planes hold the machine authority. Other control planes it asks for heartbeats besides.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::time::Duration;

use anyhow::Context;
use api::v1::metrics_client::MetricsClient;
use api::v1::{NodeUsage, StreamMetricsRequest, StreamMetricsResponse};
use controlplane::pki::MachineRole;
use machine::config::{Host, HostPort};
use metrics::score::Load;
use tokio::task::JoinSet;
use tokio::time::{Instant, timeout};
use tonic::Streaming;

use super::Scores;
use crate::agents::{self, Trouble};
use crate::controllers::machine::Machine;
use crate::node::Node;
use crate::resources::etcd::EtcdMember;
use crate::resources::overlay::ClusterNode;
use crate::usage::cluster::ClusterUsage;
use crate::usage::voices::{Voices, is_heartbeat};
use crate::usage::{Telling, Usage};

/// Between two tries to reach a machine; it doubles.
const FIRST_PAUSE: Duration = Duration::from_secs(1);
const LAST_PAUSE: Duration = Duration::from_secs(30);
/// The same for control planes, which are few: one that is back has to be heard before it says that it answers.
const LAST_PAUSE_AMONG_CONTROL_PLANES: Duration = FIRST_PAUSE;
/// An agent sweeps once in 30 s at the least.
const SILENCE: Duration = Duration::from_secs(60);
/// Of a machine that sends heartbeats. It may have lost its power, and be back: the connection from before tells nothing of either.
const SILENCE_BETWEEN_HEARTBEATS: Duration = Duration::from_secs(5);
/// The board changes often, and its Nodes seldom.
const LOOK: Duration = Duration::from_secs(2);

/// Who wants to know.
#[derive(Debug, Clone, Default)]
pub struct Listeners {
    pub scores: Scores,
    pub cluster: ClusterUsage,
    pub voices: Voices,
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

/// A machine that is followed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Followed {
    address: IpAddr,
    rank: Rank,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Rank {
    ControlPlane,
    Worker,
}

impl Rank {
    fn asks(self) -> StreamMetricsRequest {
        match self {
            Rank::ControlPlane => Telling::among_control_planes(),
            Rank::Worker => Telling::to_control_planes(),
        }
    }

    /// How long to wait before the next stream, by how long the last one lasted and what was waited before it. One that worked is opened again at once:
    /// whether it can be is the soonest sign that the other has died.
    fn pause(self, lasted: Duration, before: Duration) -> Duration {
        let longest = match self {
            Rank::ControlPlane => LAST_PAUSE_AMONG_CONTROL_PLANES,
            Rank::Worker => LAST_PAUSE,
        };
        if lasted >= FIRST_PAUSE { Duration::ZERO } else { (before * 2).clamp(FIRST_PAUSE, longest) }
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
        followed.retain(|name: &String, (machine, stream): &mut (Followed, tokio::task::AbortHandle)| {
            let now = there.get(name);
            if now == Some(machine) {
                return true;
            }
            stream.abort();
            // What it told holds where only its rank is another.
            if now.is_none_or(|now| now.address != machine.address) {
                listeners.remove(name);
            }
            listeners.voices.remove(name);
            false
        });
        let own = Machine::observe(&node).map(|machine| machine.facts.node_name).unwrap_or_default();
        for (name, machine) in there {
            followed.entry(name.clone()).or_insert_with(|| {
                let (node, listeners) = (node.clone(), listeners.clone());
                let stream = match name == own {
                    true => streams.spawn(of_this(usage.clone(), name, listeners)),
                    false => streams.spawn(of_another(node, name, machine, listeners)),
                };
                (machine, stream)
            });
        }
        while streams.try_join_next().is_some() {}
        let _ = board.changed().await;
        tokio::time::sleep(LOOK).await;
    }
}

/// The cluster's nodes and where their agents are.
fn machines(node: &Node) -> BTreeMap<String, Followed> {
    let control_planes = EtcdMember::control_planes(&node.store);
    let nodes = node.store.all::<ClusterNode>().into_iter();
    let followed = nodes.filter_map(|(name, node)| {
        let rank = if control_planes.contains(&name) { Rank::ControlPlane } else { Rank::Worker };
        Some((name, Followed { address: *node.addresses.first()?, rank }))
    });
    followed.collect()
}

async fn of_this(mut usage: Usage, name: String, listeners: Listeners) {
    let (mut telling, mut first) = (Telling::new(&Telling::to_control_planes()), true);
    while usage.changed().await {
        let (snapshot, names) = usage.newest();
        listeners.add(&name, &telling.next(&snapshot, &names), first);
        first = false;
    }
}

async fn of_another(node: Node, name: String, machine: Followed, listeners: Listeners) {
    let mut pause = FIRST_PAUSE;
    loop {
        let lasted = match open(&node, machine).await {
            Ok(answers) => {
                let began = Instant::now();
                let ended = stream(answers, &name, machine.rank, &listeners).await;
                tracing::debug!(
                    "following the load of {name}: {}",
                    ended.map_or_else(|error| format!("{error:#}"), |()| "it ended".to_owned())
                );
                began.elapsed()
            }
            Err(error) => {
                // One that was heard, and cannot be called any more, has died.
                if matches!(error.downcast_ref::<Trouble>(), Some(Trouble::Unreachable { .. })) {
                    listeners.voices.gone(&name);
                }
                tracing::debug!("following the load of {name}: {error:#}");
                Duration::ZERO
            }
        };
        pause = machine.rank.pause(lasted, pause);
        tokio::time::sleep(pause).await;
    }
}

/// Until the machine or the connection ends it.
async fn stream(mut answers: Streaming<StreamMetricsResponse>, name: &str, rank: Rank, listeners: &Listeners) -> anyhow::Result<()> {
    let (mut first, mut silence) = (true, SILENCE);
    while let Some(answer) = timeout(silence, answers.message()).await.context("it fell silent")?? {
        if rank == Rank::ControlPlane {
            listeners.voices.heard(name, &answer, Instant::now());
        }
        if is_heartbeat(&answer) {
            silence = SILENCE_BETWEEN_HEARTBEATS;
            continue;
        }
        listeners.add(name, &answer, first);
        first = false;
    }
    Ok(())
}

async fn open(node: &Node, followed: Followed) -> anyhow::Result<Streaming<StreamMetricsResponse>> {
    let machine = Machine::observe(node).ok().context("this machine has no config")?;
    let server = HostPort { host: Host::Address(followed.address), port: api::PORT };
    let mut client = MetricsClient::new(agents::connect_as(node, &machine, &server, MachineRole::Reader).await?);
    Ok(timeout(SILENCE, client.stream(followed.rank.asks())).await.context("no answer")??.into_inner())
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stream_that_worked_is_opened_again_at_once_and_control_planes_call_each_other_more_often() {
        let seconds = Duration::from_secs;
        let pauses = |rank: Rank| {
            let next = |before: &Duration| Some(rank.pause(Duration::ZERO, *before));
            std::iter::successors(Some(rank.pause(seconds(60), FIRST_PAUSE)), next).take(8).collect::<Vec<_>>()
        };
        assert_eq!(pauses(Rank::ControlPlane), [0, 1, 1, 1, 1, 1, 1, 1].map(seconds));
        assert_eq!(pauses(Rank::Worker), [0, 1, 2, 4, 8, 16, 30, 30].map(seconds));
    }
}
