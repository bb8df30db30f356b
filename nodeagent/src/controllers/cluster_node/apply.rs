//! Writes labels and taints to the Node: as the super-user where this machine holds the key, else as the kubelet, which may label itself
//! within the limits of NodeRestriction.

use anyhow::Context;
use controlplane::client::Client;
use controlplane::pki::Issued;
use k8s_openapi::api::core::v1::Node;
use kube::Api;
use kube::api::{Patch, PatchParams};
use machine::config::Config;
use serde_json::json;

use super::plan::{Action, may_set_taints};
use crate::controllers::api;

/// Owner of the Node's labels that come from the machine config.
pub const FIELD_MANAGER: &str = "corten-node";
/// Where our taints are written down.
pub const TAINTS_ANNOTATION: &str = "corten.dev/taints";

pub async fn apply(action: Action, kubelet: Option<&Issued>) -> anyhow::Result<()> {
    match action {
        Action::SetTaints { config, node, taints } => {
            let patch = json!({ "spec": { "taints": taints } });
            let patched = nodes(&config, kubelet)?.patch(&node, &PatchParams::default(), &Patch::Merge(patch)).await;
            patched.map(drop).with_context(|| format!("setting the taints of Node {node}"))
        }
        Action::Apply { config, node, labels, owned_taints } => {
            let object = json!({
                "apiVersion": "v1",
                "kind": "Node",
                "metadata": { "name": node, "labels": labels, "annotations": { TAINTS_ANNOTATION: owned_taints } },
            });
            let params = PatchParams::apply(FIELD_MANAGER).force();
            let applied = nodes(&config, kubelet)?.patch(&node, &params, &Patch::Apply(object)).await;
            applied.map(drop).with_context(|| format!("machine.kubelet.labels: labelling Node {node}"))
        }
    }
}

fn nodes(config: &Config, kubelet: Option<&Issued>) -> anyhow::Result<Api<Node>> {
    Ok(Api::all(client(config, kubelet)?.kube().clone()))
}

fn client(config: &Config, kubelet: Option<&Issued>) -> anyhow::Result<Client> {
    if may_set_taints(config) {
        return api::super_user(config);
    }
    api::balanced(config, kubelet.context("certificate kubelet-client is not there yet")?)
}
