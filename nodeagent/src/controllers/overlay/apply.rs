//! Carries the overlay's actions out: netlink, the board, and the annotations of this machine's Node.

use std::collections::BTreeMap;

use anyhow::Context;
use controlplane::pki::Issued;
use k8s_openapi::api::core::v1::Node as KubernetesNode;
use kube::Api;
use kube::api::{Patch, PatchParams};
use rtnetlink::Handle;
use serde_json::json;

use super::plan::Action;
use super::state::{Entry, Operation};
use super::{batch, flannel, kernel, message};
use crate::controllers::api;
use crate::controllers::cluster_node;
use crate::controllers::machine::Machine;
use crate::node::Node;
use crate::resources::overlay::Announcement;

pub async fn apply(action: Action, node: &Node, netlink: &Handle, kubelet: impl FnOnce() -> Option<Issued>) -> anyhow::Result<()> {
    match action {
        Action::RemoveDevice(name) => batch::send(message::remove_device(name)).await,
        Action::AddDevice(name, device) => batch::send(message::add_device(name, &device)).await,
        Action::ChangeDevice(name, device) => batch::send(message::change_device(name, &device)).await,
        Action::AddAddress(name, address) => {
            batch::send(vec![message::add_address(name, kernel::index(netlink, name).await?, address)]).await
        }
        Action::RemoveAddress(name, address) => {
            batch::send(vec![message::remove_address(name, kernel::index(netlink, name).await?, address)]).await
        }
        Action::Program(operations) => program(netlink, operations).await,
        Action::TellOverlays(overlays) => {
            node.store.replace(overlays);
            Ok(())
        }
        Action::TellPeers(peers) => {
            node.store.replace(peers);
            Ok(())
        }
        Action::Announce(announcement) => {
            announce(node, &announcement, kubelet().context("certificate kubelet-client is not there yet")?).await
        }
    }
}

async fn program(netlink: &Handle, operations: Vec<Operation>) -> anyhow::Result<()> {
    let mut indices = BTreeMap::new();
    let mut messages = Vec::with_capacity(operations.len());
    for operation in operations {
        let (Entry::Forward { device, .. } | Entry::Neighbour { device, .. } | Entry::Route { device, .. }) = operation.entry;
        let index = match indices.get(device) {
            Some(index) => *index,
            None => *indices.entry(device).or_insert(kernel::index(netlink, device).await?),
        };
        messages.push(message::operation(operation, index));
    }
    batch::send(messages).await
}

/// As the kubelet, which may write its own Node. A Node that is gone is not made: that is the kubelet's to do.
async fn announce(node: &Node, announcement: &Announcement, kubelet: Issued) -> anyhow::Result<()> {
    let machine = Machine::observe(node).map_err(|missing| anyhow::anyhow!("{missing:?} went missing"))?;
    let name = &machine.facts.node_name;
    let nodes: Api<KubernetesNode> = Api::all(api::balanced(&machine.config, &kubelet)?.kube().clone());
    let patch = Patch::Merge(json!({ "metadata": { "annotations": flannel::write(announcement) } }));
    let patched = nodes.patch(name, &PatchParams::default(), &patch).await;
    let patched = patched.with_context(|| format!("writing the overlay's annotations to Node {name}"))?;
    // The watch will tell the same in a moment; told now, it is not done twice.
    node.store.put(name, &cluster_node::of_the_cluster(&patched));
    Ok(())
}
