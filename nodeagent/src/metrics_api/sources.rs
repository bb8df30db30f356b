//! Where answers come from, and whether they are all there yet.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use tokio::time::Instant;

use super::pods::Pods;
use crate::node::Node;
use crate::resources::overlay::ClusterNode;
use crate::usage::cluster::ClusterUsage;

/// How long an agent that starts waits for nodes that tell nothing: those that are down must not keep the others' figures from whoever asks.
const PATIENCE: Duration = Duration::from_secs(10);

#[derive(Debug, Clone)]
pub struct Sources {
    pub node: Node,
    pub cluster: ClusterUsage,
    pub pods: Pods,
    /// Whether the port is bound.
    pub listening: Arc<AtomicBool>,
    began: Instant,
}

impl Sources {
    pub fn new(node: Node, cluster: ClusterUsage, pods: Pods) -> Sources {
        Sources { node, cluster, pods, listening: Arc::default(), began: Instant::now() }
    }

    /// Whether whoever asks gets an answer.
    pub fn answer(&self, now: Instant) -> bool {
        self.listening.load(Ordering::Acquire) && self.are_complete(now)
    }

    /// Whether agents have had the time to tell something.
    pub fn waited(&self, now: Instant) -> bool {
        now - self.began > PATIENCE
    }

    /// Whether what is not known is not there. Before that, an answer would be full of holes.
    pub fn are_complete(&self, now: Instant) -> bool {
        // Never while looking: whoever answers takes the two the other way round.
        if !self.pods.is_listed() {
            return false;
        }
        let nodes = self.node.store.all::<ClusterNode>();
        let look = self.cluster.look(now);
        let told = nodes.keys().filter(|name| look.node(name).is_some()).count();
        told > 0 && (told == nodes.len() || self.waited(now))
    }
}
