//! Keeps a soft taint on nodes under pressure, where the machine config of the control planes wants one: for schedulers that do not ask for
//! Corten's scores. A node may not taint itself (NodeRestriction), so control planes do it for all, by what the Nodes' conditions say. They come
//! to the same end from the same Nodes; of two that write at once, one is refused and reads it again.
//!
//! reads: machine config, hostname, node IPs, API servers, manifestsets, clusternodes   writes: taint corten.dev/pressure of Nodes, events

mod plan;

use std::time::Duration;

use anyhow::Context;
use k8s_openapi::api::core::v1::{Node as KubernetesNode, Taint};
use kube::Api;
use kube::api::{Patch, PatchParams};
use serde_json::json;

use super::machine::Machine;
use super::{api, cluster_node, node_conditions};
use crate::clock;
use crate::controller::{Controller, Wake};
use crate::node::Node;
use crate::plan::Plan;
use crate::resources::cluster::ApiServer;
use crate::resources::manifests::ManifestSet;
use crate::resources::overlay::{ClusterNode, ToldPressure};
use plan::{Action, Seen};

pub const TAINT: &str = "corten.dev/pressure";
pub const EFFECT: &str = "PreferNoSchedule";

/// What was not said again for so long is forgotten: its agent has stopped.
const FORGOTTEN: i64 = 3 * node_conditions::HEARTBEAT.as_secs() as i64;

/// How often a Node is read anew that others write at the same time: kubelets and controllers write it every few seconds.
const TRIES: usize = 5;

/// Whether its agent still says so.
pub fn is_told(pressure: &ToldPressure, now: i64) -> bool {
    now - pressure.heard < FORGOTTEN
}

/// A control plane that holds the key of the authority, by which it writes, and whose API server answers.
pub fn may_write(node: &Node, machine: &Machine) -> bool {
    cluster_node::may_set_taints(&machine.config) && ManifestSet::is_applied(&node.store) && ApiServer::local_ready(&node.store)
}

#[derive(Debug, Default)]
pub struct PressureTaints {
    /// Whether a node's time runs.
    waits: bool,
}

impl Controller for PressureTaints {
    type Seen = Seen;
    type Action = Action;
    const NAME: &'static str = "pressuretaints";
    const WAKE: Wake = Wake::WhatItReads;

    fn look_again(&self) -> Duration {
        if self.waits { Duration::from_secs(5) } else { Self::LOOK_AGAIN }
    }

    async fn observe(&mut self, node: &Node) -> anyhow::Result<Seen> {
        let machine = Machine::observe(node);
        let may_write = machine.as_ref().is_ok_and(|machine| may_write(node, machine));
        let nodes = node.store.all::<ClusterNode>();
        self.waits = nodes.values().any(|node| !node.pressures.is_empty());
        Ok(Seen { machine, may_write, nodes, now: i64::try_from(clock::wall_seconds()).unwrap_or(i64::MAX) })
    }

    fn plan(&self, seen: &Seen) -> Plan<Action> {
        plan::plan(seen)
    }

    async fn apply(&mut self, action: Action, node: &Node) -> anyhow::Result<()> {
        let machine = Machine::observe(node).map_err(|missing| anyhow::anyhow!("{missing:?} went missing"))?;
        let nodes: Api<KubernetesNode> = Api::all(api::reliever(&machine.config, &machine.facts.node_name)?.kube().clone());
        let (name, tainted) = match &action {
            Action::Taint { node } => (node, true),
            Action::Untaint { node } => (node, false),
        };
        if let Some(changed) = set(&nodes, name, tainted).await.with_context(|| format!("taint {TAINT} of Node {name}"))? {
            let reason = if tainted { "Tainted" } else { "Untainted" };
            node.events.emit(format!("node/{name}"), reason, format!("{TAINT}:{EFFECT}"));
            // The watch will tell the same in a moment; told now, it is not done twice.
            node.store.put(name, &cluster_node::of_the_cluster(&changed));
        }
        Ok(())
    }
}

/// The Node after it; none where it is gone.
async fn set(nodes: &Api<KubernetesNode>, name: &str, tainted: bool) -> anyhow::Result<Option<KubernetesNode>> {
    for _ in 0..TRIES {
        let Some(found) = nodes.get_opt(name).await? else { return Ok(None) };
        let taints = found.spec.unwrap_or_default().taints.unwrap_or_default();
        let others = taints.into_iter().filter(|taint| !is_ours(taint));
        let ours = tainted.then(|| Taint { key: TAINT.to_owned(), effect: EFFECT.to_owned(), ..Taint::default() });
        let taints: Vec<Taint> = others.chain(ours).collect();
        // Taints are one list that others write to as well: only the one that was read may be replaced.
        let patch = json!({ "metadata": { "resourceVersion": found.metadata.resource_version }, "spec": { "taints": taints } });
        match nodes.patch(name, &PatchParams::default(), &Patch::Merge(patch)).await {
            Ok(changed) => return Ok(Some(changed)),
            Err(kube::Error::Api(status)) if status.code == 404 => return Ok(None),
            // Somebody else wrote it in the same moment.
            Err(kube::Error::Api(status)) if status.code == 409 => {}
            Err(error) => return Err(error.into()),
        }
    }
    anyhow::bail!("others wrote it each of the {TRIES} times that it was tried")
}

/// The same key with another effect is somebody else's.
pub fn is_ours(taint: &Taint) -> bool {
    taint.key == TAINT && taint.effect == EFFECT
}

#[cfg(test)]
mod real;
