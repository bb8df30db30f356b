//! Tells Kubernetes of this machine's pressure, in conditions of its Node under a name of Corten's own: what the kubelet writes there, its own
//! conditions of pressure among it, is left alone. They are applied server-side under a field manager of their own, as the kubelet, which may
//! write the status of its own Node and of no other.
//!
//! reads: machine config, hostname, certificates, API servers, nodes, pressures   writes: conditions corten.dev/*Pressure of the Node

mod plan;

use std::time::Duration;

use anyhow::Context;
use controlplane::pki::CertificateId;
use k8s_openapi::api::core::v1::Node as KubernetesNode;
use kube::Api;
use kube::api::{Patch, PatchParams};
use metrics::trigger::Resource;
use serde_json::json;
use tokio::time::Instant;

use super::machine::Machine;
use super::pki::Keyring;
use super::{api, cluster_node};
use crate::clock;
use crate::controller::{Controller, Wake};
use crate::node::Node;
use crate::plan::Plan;
use crate::resources::cluster::{ApiServer, NodeStatus};
use crate::resources::pressure::Pressure;
use plan::{Action, Condition, Seen};

/// Owner of the conditions.
const FIELD_MANAGER: &str = "corten-pressure";
/// How often a Node under pressure says again that it is. Control planes take what is much older for forgotten.
pub const HEARTBEAT: Duration = Duration::from_secs(300);

/// What the Node's condition is called.
pub fn condition_type(resource: Resource) -> &'static str {
    match resource {
        Resource::Cpu => "corten.dev/CPUPressure",
        Resource::Memory => "corten.dev/MemoryPressure",
        Resource::Io => "corten.dev/IOPressure",
    }
}

#[derive(Debug, Default)]
pub struct NodeConditions {
    keyring: Keyring,
    /// When the conditions were written last.
    written: Option<Instant>,
}

impl Controller for NodeConditions {
    type Seen = Seen;
    type Action = Action;
    const NAME: &'static str = "nodeconditions";
    const WAKE: Wake = Wake::WhatItReads;

    async fn observe(&mut self, node: &Node) -> anyhow::Result<Seen> {
        let machine = Machine::observe(node);
        let status = machine.as_ref().ok().and_then(|machine| node.store.get::<NodeStatus>(&machine.facts.node_name));
        Ok(Seen {
            machine,
            conditions: status.map(|status| status.conditions),
            pressures: node.store.all::<Pressure>(),
            api_server_ready: ApiServer::any_ready(&node.store),
            heartbeat_due: self.written.is_none_or(|written| written.elapsed() >= HEARTBEAT),
        })
    }

    fn plan(&self, seen: &Seen) -> Plan<Action> {
        plan::plan(seen)
    }

    async fn apply(&mut self, action: Action, node: &Node) -> anyhow::Result<()> {
        let Action::Apply(conditions) = action;
        let kubelet = self.keyring.get(node, CertificateId::KubeletClient).context("certificate kubelet-client is not there yet")?;
        let machine = Machine::observe(node).map_err(|missing| anyhow::anyhow!("{missing:?} went missing"))?;
        let name = &machine.facts.node_name;
        let nodes: Api<KubernetesNode> = Api::all(api::balanced(&machine.config, &kubelet)?.kube().clone());
        let now = clock::date(std::time::SystemTime::now());
        let written = |condition: &Condition| {
            json!({
                "type": condition.kind,
                "status": condition.status,
                "reason": condition.reason,
                "message": condition.message,
                "lastTransitionTime": condition.since,
                "lastHeartbeatTime": now,
            })
        };
        let object = json!({
            "apiVersion": "v1",
            "kind": "Node",
            "metadata": { "name": name },
            "status": { "conditions": conditions.iter().map(written).collect::<Vec<_>>() },
        });
        let applied = nodes.patch_status(name, &PatchParams::apply(FIELD_MANAGER).force(), &Patch::Apply(object)).await;
        let applied = applied.with_context(|| format!("writing the conditions of pressure to Node {name}"))?;
        self.written = Some(Instant::now());
        // The watch will tell the same in a moment; told now, it is not done twice.
        node.store.put(name, &cluster_node::describe(&applied));
        Ok(())
    }
}

#[cfg(test)]
mod real;
