//! Follows the cluster's Nodes with the agent's identity, by one watch for all who have to know of them, and puts what is of interest on the
//! board: of this machine's own more than of the others, who are of interest where Corten connects pods, and to control planes, which score them
//! and scale the cluster's DNS by them.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use anyhow::Context;
use controlplane::pki::CertificateId;
use futures::TryStreamExt;
use ipnet::IpNet;
use k8s_openapi::api::core::v1::{Node as KubernetesNode, NodeCondition, NodeSpec, NodeStatus as KubernetesStatus};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ManagedFieldsEntry, Time};
use kube::Api;
use machine::config::{Cni, Taint, TaintEffect};
use metrics::trigger::Resource;

use super::apply::{FIELD_MANAGER, TAINTS_ANNOTATION};
use crate::controllers::api;
use crate::controllers::machine::Machine;
use crate::controllers::node_conditions::condition_type;
use crate::controllers::overlay::flannel;
use crate::controllers::pki::Keyring;
use crate::controllers::pressure_taints;
use crate::controllers::watch::{self, Change, Watch};
use crate::node::Node;
use crate::resources::cluster::{ApiServer, NodeStatus};
use crate::resources::manifests::ManifestSet;
use crate::resources::overlay::{ClusterNode, ToldPressure};

pub async fn follow(node: Node) {
    watch::follow(Nodes::default(), node).await;
}

/// Whether the agent can watch things of the cluster: on a control plane its role comes with the manifests.
pub fn may_watch(node: &Node, machine: &Machine) -> bool {
    let has_role = !machine.is_control_plane() || ManifestSet::is_applied(&node.store);
    has_role && ApiServer::any_ready(&node.store)
}

#[derive(Debug, Default)]
struct Nodes {
    keyring: Keyring,
}

impl Watch for Nodes {
    const WHAT: &'static str = "Nodes";
    const SHORTEST_PAUSE: Duration = Duration::from_millis(125);
    const LONGEST_PAUSE: Duration = Duration::from_secs(10);

    fn permitted(node: &Node, machine: &Machine) -> bool {
        may_watch(node, machine)
    }

    async fn watch(&mut self, node: &Node, machine: &Machine) -> anyhow::Result<()> {
        let issued = self.keyring.get(node, CertificateId::Agent).context("certificate agent is not there yet")?;
        let api: Api<KubernetesNode> = Api::all(api::balanced(&machine.config, &issued)?.kube().clone());
        let others = machine.config.cluster.network.cni == Cni::Overlay || machine.is_control_plane();
        let view = View { node, own: &machine.facts.node_name, others };
        let only_ours = format!("metadata.name={}", view.own);
        // Whoever connects pods has all Nodes whole with each of their heartbeats: in a cluster of hundreds, nothing else that agents read is as much.
        let fields = if view.others { "" } else { only_ours.as_str() };
        let (listed, mut changes) = watch::all_and_changes(&api, fields).await?;
        view.listed(&listed);

        while let Some(change) = changes.try_next().await? {
            match change {
                Change::Added(changed) | Change::Modified(changed) => view.put(&changed),
                Change::Deleted(gone) => view.remove(&gone),
            }
        }
        Ok(())
    }
}

/// The board's view of the Nodes.
struct View<'a> {
    node: &'a Node,
    own: &'a str,
    /// Whether the others are of interest.
    others: bool,
}

impl View<'_> {
    /// Makes these the only ones. This machine's own comes last: with it on the board, all others are.
    fn listed(&self, nodes: &[KubernetesNode]) {
        let (own, others): (Vec<_>, Vec<_>) = nodes.iter().partition(|listed| self.is_own(listed));
        let present: BTreeSet<String> = nodes.iter().filter_map(|listed| listed.metadata.name.clone()).collect();
        for name in self.node.store.all::<ClusterNode>().into_keys().filter(|name| !self.others || !present.contains(name)) {
            self.node.store.remove::<ClusterNode>(&name);
        }
        if own.is_empty() {
            self.node.store.replace::<NodeStatus>([]);
        }
        others.into_iter().chain(own).for_each(|listed| self.put(listed));
    }

    fn put(&self, changed: &KubernetesNode) {
        let Some(name) = &changed.metadata.name else { return };
        if self.others {
            self.node.store.put(name, &of_the_cluster(changed));
        }
        if self.is_own(changed) {
            self.node.store.put(name, &describe(changed));
        }
    }

    fn remove(&self, gone: &KubernetesNode) {
        let Some(name) = &gone.metadata.name else { return };
        self.node.store.remove::<ClusterNode>(name);
        if self.is_own(gone) {
            self.node.store.remove::<NodeStatus>(name);
        }
    }

    fn is_own(&self, node: &KubernetesNode) -> bool {
        node.metadata.name.as_deref() == Some(self.own)
    }
}

/// What other machines have to know of a Node.
pub fn of_the_cluster(node: &KubernetesNode) -> ClusterNode {
    let status = node.status.clone().unwrap_or_default();
    let is = |condition: &NodeCondition| condition.type_ == "Ready" && condition.status == "True";
    let internal = status.addresses.iter().flatten().filter(|address| address.type_ == "InternalIP");
    let (announcement, problem) = match flannel::read(node.metadata.annotations.as_ref().unwrap_or(&BTreeMap::new())) {
        Ok(announcement) => (announcement, String::new()),
        Err(problem) => (None, problem),
    };
    ClusterNode {
        created_at: node.metadata.creation_timestamp.as_ref().map(|time| time.0.to_string()).unwrap_or_default(),
        ready: status.conditions.iter().flatten().any(is),
        pod_cidrs: pod_cidrs(node.spec.as_ref()),
        addresses: internal.filter_map(|address| address.address.parse().ok()).collect(),
        labels: node.metadata.labels.clone().unwrap_or_default(),
        cpu_millis: status
            .capacity
            .iter()
            .flatten()
            .find(|(resource, _)| *resource == "cpu")
            .and_then(|(_, cpu)| millis(&cpu.0))
            .unwrap_or_default(),
        schedulable: schedulable(node.spec.as_ref()),
        pressure_taint: node.spec.iter().flat_map(|spec| spec.taints.iter().flatten()).any(pressure_taints::is_ours),
        pressures: pressures(&status),
        announcement,
        problem,
    }
}

fn schedulable(spec: Option<&NodeSpec>) -> bool {
    let Some(spec) = spec else { return true };
    let soft = |taint: &k8s_openapi::api::core::v1::Taint| taint.effect == "PreferNoSchedule";
    !spec.unschedulable.unwrap_or_default() && spec.taints.iter().flatten().all(soft)
}

/// Pressure that the Node's agent tells of.
fn pressures(status: &KubernetesStatus) -> Vec<ToldPressure> {
    let told = |resource: Resource| {
        let condition = status.conditions.iter().flatten().find(|condition| condition.type_ == condition_type(resource))?;
        let seconds = |time: &Option<Time>| time.as_ref().map_or(0, |time| time.0.as_second());
        let (since, heard) = (seconds(&condition.last_transition_time), seconds(&condition.last_heartbeat_time));
        (condition.status == "True").then(|| ToldPressure { resource: resource.name().to_owned(), since, heard })
    };
    Resource::ALL.into_iter().filter_map(told).collect()
}

/// Of a quantity of processors, as kubelets write it: `4` or `3920m`.
fn millis(quantity: &str) -> Option<u64> {
    match quantity.strip_suffix('m') {
        Some(millis) => millis.parse().ok(),
        None => quantity.parse::<u64>().ok()?.checked_mul(1000),
    }
}

fn pod_cidrs(spec: Option<&NodeSpec>) -> Vec<IpNet> {
    let listed = spec.and_then(|spec| spec.pod_cidrs.as_ref());
    listed.into_iter().flatten().filter_map(|cidr| cidr.parse().ok()).collect()
}

/// What is of interest of a Node.
pub fn describe(node: &KubernetesNode) -> NodeStatus {
    let status = node.status.clone().unwrap_or_default();
    let spec = node.spec.clone().unwrap_or_default();
    let metadata = &node.metadata;
    let conditions: BTreeMap<String, String> =
        status.conditions.iter().flatten().map(|condition| (condition.type_.clone(), condition.status.clone())).collect();
    let ready = status.conditions.iter().flatten().find(|condition| condition.type_ == "Ready");
    NodeStatus {
        ready: ready.is_some_and(|condition| condition.status == "True"),
        message: ready.and_then(|condition| condition.message.clone()).unwrap_or_default(),
        conditions,
        pod_cidrs: pod_cidrs(Some(&spec)),
        addresses: addresses(&status),
        labels: metadata.labels.clone().unwrap_or_default(),
        owned_labels: owned_labels(metadata.managed_fields.as_deref().unwrap_or_default()),
        taints: taints(&spec),
        owned_taints: metadata.annotations.as_ref().and_then(|all| all.get(TAINTS_ANNOTATION)).cloned().unwrap_or_default(),
        kubelet_version: status.node_info.map(|info| info.kubelet_version).unwrap_or_default(),
    }
}

fn addresses(status: &KubernetesStatus) -> Vec<String> {
    status.addresses.iter().flatten().map(|address| format!("{} {}", address.type_, address.address)).collect()
}

fn taints(spec: &NodeSpec) -> Vec<Taint> {
    let taint = |taint: &k8s_openapi::api::core::v1::Taint| {
        let effect = match taint.effect.as_str() {
            "NoSchedule" => TaintEffect::NoSchedule,
            "PreferNoSchedule" => TaintEffect::PreferNoSchedule,
            _ => TaintEffect::NoExecute,
        };
        Taint { key: taint.key.clone(), value: taint.value.clone().unwrap_or_default(), effect }
    };
    spec.taints.iter().flatten().map(taint).collect()
}

/// Labels that the API server has down as ours: `{"f:metadata":{"f:labels":{"f:<label>":{}}}}`.
fn owned_labels(entries: &[ManagedFieldsEntry]) -> Vec<String> {
    let ours = entries.iter().filter(|entry| entry.manager.as_deref() == Some(FIELD_MANAGER));
    let fields = ours.filter_map(|entry| entry.fields_v1.as_ref());
    let labels = fields.filter_map(|fields| fields.0.get("f:metadata")?.get("f:labels")?.as_object());
    labels.flat_map(|labels| labels.keys()).filter_map(|field| field.strip_prefix("f:")).map(str::to_owned).collect()
}

#[cfg(test)]
mod tests;
