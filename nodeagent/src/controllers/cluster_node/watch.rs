//! Follows this machine's Node with the agent's identity and puts what is of interest on the board.

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::Context;
use controlplane::pki::CertificateId;
use futures::TryStreamExt;
use k8s_openapi::api::core::v1::{Node as KubernetesNode, NodeSpec, NodeStatus as KubernetesStatus};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ManagedFieldsEntry;
use kube::Api;
use kube::api::{ListParams, WatchEvent, WatchParams};
use machine::config::{Taint, TaintEffect};
use tokio::time::Instant;

use super::apply::{FIELD_MANAGER, TAINTS_ANNOTATION};
use crate::controllers::api;
use crate::controllers::machine::Machine;
use crate::controllers::pki::Keyring;
use crate::node::Node;
use crate::resources::cluster::{ApiServer, ManifestStatus, NodeStatus};

const RETRY_MIN: Duration = Duration::from_millis(125);
const RETRY_MAX: Duration = Duration::from_secs(10);

/// Runs for as long as the agent lives.
pub async fn follow(node: Node) {
    let mut keyring = Keyring::default();
    let mut retry = RETRY_MIN;
    loop {
        let machine = prepared(&node).await;
        let began = Instant::now();
        if let Err(error) = watch(&node, &machine, &mut keyring).await {
            tracing::debug!("following Node {}: {error:#}", machine.facts.node_name);
        }
        // The server ends each watch after some minutes, and then is asked again at once; one that does not hold is asked less and less.
        retry = if began.elapsed() > RETRY_MAX { RETRY_MIN } else { (retry * 2).min(RETRY_MAX) };
        tokio::time::sleep(retry).await;
    }
}

/// Waits for a machine that can ask. On a control plane the agent's role comes with the manifests.
async fn prepared(node: &Node) -> Machine {
    let mut board = node.store.revision();
    loop {
        board.mark_unchanged();
        if let Ok(machine) = Machine::observe(node) {
            let permitted = !machine.is_control_plane() || node.store.get::<ManifestStatus>(ManifestStatus::NAME).is_some();
            if permitted && ApiServer::any_ready(&node.store) {
                return machine;
            }
        }
        // The board is closed only when the agent ends, and this task with it.
        let _ = board.changed().await;
    }
}

/// Lists, and then watches until the server or the connection ends it.
async fn watch(node: &Node, machine: &Machine, keyring: &mut Keyring) -> anyhow::Result<()> {
    let issued = keyring.get(node, CertificateId::Agent).context("certificate agent is not there yet")?;
    let api: Api<KubernetesNode> = Api::all(api::balanced(&machine.config, &issued)?.kube().clone());
    let name = &machine.facts.node_name;
    let only_ours = format!("metadata.name={name}");
    let listed = api.list(&ListParams::default().fields(&only_ours)).await.context("listing nodes")?;
    node.store.replace(listed.items.iter().map(|listed| (name.clone(), describe(listed))));

    let from = listed.metadata.resource_version.unwrap_or_default();
    let mut events = std::pin::pin!(api.watch(&WatchParams::default().fields(&only_ours), &from).await.context("watching nodes")?);
    while let Some(event) = events.try_next().await.context("watching nodes")? {
        match event {
            WatchEvent::Added(changed) | WatchEvent::Modified(changed) => node.store.put(name, &describe(&changed)),
            WatchEvent::Deleted(_) => node.store.remove::<NodeStatus>(name),
            WatchEvent::Bookmark(_) => {}
            WatchEvent::Error(status) => anyhow::bail!("watching nodes: {}", status.message),
        }
    }
    Ok(())
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
        pod_cidrs: spec.pod_cidrs.iter().flatten().filter_map(|cidr| cidr.parse().ok()).collect(),
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
