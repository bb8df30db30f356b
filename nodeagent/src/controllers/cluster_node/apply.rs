//! Writes labels and taints to the Node: as the super-user where this machine holds the key, else as the kubelet, which may label itself
//! within the limits of NodeRestriction.

use anyhow::Context;
use controlplane::client::Client;
use controlplane::pki::Issued;
use k8s_openapi::api::core::v1::Node as KubernetesNode;
use kube::Api;
use kube::api::{Patch, PatchParams};
use machine::config::Config;
use serde_json::json;

use super::plan::{Action, may_set_taints};
use super::watch::describe;
use crate::controllers::api;
use crate::controllers::machine::Machine;
use crate::node::Node;

/// Owner of the Node's labels that come from the machine config.
pub const FIELD_MANAGER: &str = "corten-node";
/// Where our taints are written down.
pub const TAINTS_ANNOTATION: &str = "corten.dev/taints";

pub async fn apply(action: Action, node: &Node, kubelet: Option<&Issued>) -> anyhow::Result<()> {
    let machine = Machine::observe(node).map_err(|missing| anyhow::anyhow!("{missing:?} went missing"))?;
    let name = &machine.facts.node_name;
    let nodes: Api<KubernetesNode> = Api::all(client(&machine.config, kubelet)?.kube().clone());
    let changed = match action {
        Action::SetTaints { taints } => {
            let patch = json!({ "spec": { "taints": taints } });
            let patched = nodes.patch(name, &PatchParams::default(), &Patch::Merge(patch)).await;
            patched.with_context(|| format!("setting the taints of Node {name}"))?
        }
        Action::Apply { labels, owned_taints } => {
            let object = json!({
                "apiVersion": "v1",
                "kind": "Node",
                "metadata": { "name": name, "labels": labels, "annotations": { TAINTS_ANNOTATION: owned_taints } },
            });
            let params = PatchParams::apply(FIELD_MANAGER).force();
            let applied = nodes.patch(name, &params, &Patch::Apply(object)).await;
            applied.with_context(|| format!("machine.kubelet.labels: labelling Node {name}"))?
        }
    };
    // The watch will tell the same in a moment; told now, it is not done twice.
    node.store.put(name, &describe(&changed));
    Ok(())
}

fn client(config: &Config, kubelet: Option<&Issued>) -> anyhow::Result<Client> {
    if may_set_taints(config) {
        return api::super_user(config);
    }
    api::balanced(config, kubelet.context("certificate kubelet-client is not there yet")?)
}
