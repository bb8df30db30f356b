//! metrics.k8s.io and custom.metrics.k8s.io, answered by the agents of control planes: `kubectl top` and autoscalers find them where metrics-server
//! would be. The API servers' aggregators ask here (`serve`); what is told was pushed by the nodes' agents (`usage::cluster`), and is joined
//! with the cluster's pods (`pods`). How the aggregators find the way: `controllers::metrics_api`. docs/metrics.md.

mod answer;
mod ask;
mod discovery;
#[cfg(test)]
mod gap;
mod pods;
#[cfg(test)]
mod real;
mod selector;
mod serve;
mod sources;
mod standing;

use crate::controllers::machine::Machine;
use crate::node::Node;
use crate::reviews::Reviews;
use crate::scores::Listeners;
use pods::Pods;
use sources::Sources;

/// A control plane that holds the key of the authority by which it proves the Service's name, unless the config switches it off.
pub fn is_wanted(machine: &Machine) -> bool {
    let cluster = &machine.config.cluster;
    machine.is_control_plane() && cluster.metrics.api && cluster.certificate_authorities.kubernetes.key.is_some()
}

/// Everything of it, for as long as the agent lives.
pub async fn run(node: Node, listeners: Listeners, reviews: Reviews) {
    let pods = Pods::default();
    let sources = Sources::new(node.clone(), listeners.cluster, pods.clone());
    let standing = standing::publish(sources.clone(), listeners.voices);
    tokio::join!(pods::follow(node.clone(), pods), standing, serve::serve(node, sources, reviews));
}
