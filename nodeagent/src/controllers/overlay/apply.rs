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
use super::state::{Entry, Hop, Operation};
use super::{batch, flannel, kernel, message, wireguard};
use crate::controllers::api;
use crate::controllers::cluster_node;
use crate::controllers::machine::Machine;
use crate::node::Node;
use crate::resources::overlay::{Announcement, OverlayStatus};

pub async fn apply(action: Action, node: &Node, netlink: &Handle, kubelet: impl FnOnce() -> Option<Issued>) -> anyhow::Result<()> {
    match action {
        Action::RemoveDevice(name) => batch::send(message::remove_device(name)).await,
        Action::AddDevice(name, device) => batch::send(message::add_device(name, &device)).await,
        Action::ChangeDevice(name, device) => batch::send(message::change_device(name, &device)).await,
        Action::SetTunnel(name, tunnel) => wireguard::set(name, tunnel).await,
        Action::AddAddress(name, address) => {
            batch::send(vec![message::add_address(name, kernel::index(netlink, name).await?, address)]).await
        }
        Action::RemoveAddress(name, address) => {
            batch::send(vec![message::remove_address(name, kernel::index(netlink, name).await?, address)]).await
        }
        Action::Program(operations) => program(netlink, operations).await,
        Action::TellOverlays(overlays) => {
            let before = node.store.all::<OverlayStatus>();
            for (name, overlay) in &overlays {
                if let Some(was) = before.get(name).map(|before| before.mtu).filter(|was| *was != overlay.mtu) {
                    node.events.emit(
                        format!("overlay/{name}"),
                        "MtuChanged",
                        format!("of pods made from now on: {was} -> {}", overlay.mtu),
                    );
                }
            }
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

/// Neighbours of one part of the kernel in one send; the order between them stays.
async fn program(netlink: &Handle, operations: Vec<Operation>) -> anyhow::Result<()> {
    let mut indices = BTreeMap::new();
    let mut rest = operations.as_slice();
    while let [first, ..] = rest {
        let is_secure = |operation: &Operation| matches!(operation.entry, Entry::Secure { .. });
        let secure = is_secure(first);
        let (run, others) = rest.split_at(rest.iter().position(|operation| is_secure(operation) != secure).unwrap_or(rest.len()));
        if secure {
            wireguard::program(run).await?;
        } else {
            batch::send(messages(netlink, run, &mut indices).await?).await?;
        }
        rest = others;
    }
    Ok(())
}

async fn messages(
    netlink: &Handle,
    operations: &[Operation],
    indices: &mut BTreeMap<&'static str, u32>,
) -> anyhow::Result<Vec<message::Message>> {
    let mut messages = Vec::with_capacity(operations.len());
    for Operation { verb, entry } in operations {
        let index = match (entry, entry.device()) {
            (Entry::Route { hop: Hop::Machine { link, .. }, .. }, _) => *link,
            (_, Some(device)) => match indices.get(device) {
                Some(index) => *index,
                None => *indices.entry(device).or_insert(kernel::index(netlink, device).await?),
            },
            (_, None) => continue,
        };
        messages.extend(message::operation(*verb, entry, index));
    }
    Ok(messages)
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
