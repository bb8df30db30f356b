//! This machine's Node in Kubernetes: follows it and the others, and keeps the labels and taints that the machine config gives it.
//!
//! reads: machine config, hostname, node IPs, certificates, API servers, nodes   writes: nodes, clusternodes; labels, taints of the Node

mod apply;
mod plan;
mod watch;

use controlplane::pki::CertificateId;

use super::machine::Machine;
use super::pki::Keyring;
use crate::controller::{Controller, Wake};
use crate::node::Node;
use crate::plan::Plan;
use crate::resources::cluster::{ApiServer, NodeStatus};
pub use plan::may_set_taints;
use plan::{Action, Seen};
pub use watch::{describe, follow, may_watch, of_the_cluster};

#[derive(Debug, Default)]
pub struct ClusterNode {
    keyring: Keyring,
}

impl Controller for ClusterNode {
    type Seen = Seen;
    type Action = Action;
    const NAME: &'static str = "node";
    const WAKE: Wake = Wake::WhatItReads;

    async fn observe(&mut self, node: &Node) -> anyhow::Result<Seen> {
        let machine = Machine::observe(node);
        let status = machine.as_ref().ok().and_then(|machine| node.store.get::<NodeStatus>(&machine.facts.node_name));
        Ok(Seen { machine, status, api_server_ready: ApiServer::any_ready(&node.store) })
    }

    fn plan(&self, seen: &Seen) -> Plan<Action> {
        plan::plan(seen)
    }

    async fn apply(&mut self, action: Action, node: &Node) -> anyhow::Result<()> {
        let kubelet = self.keyring.get(node, CertificateId::KubeletClient);
        apply::apply(action, node, kubelet.as_ref()).await
    }
}
