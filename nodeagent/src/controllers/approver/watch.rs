//! Follows requests for kubelets' certificates, and puts on the board those that nobody has decided yet.

use std::time::Duration;

use anyhow::Context;
use controlplane::client::Client;
use futures::TryStreamExt;
use k8s_openapi::api::certificates::v1::CertificateSigningRequest;
use kube::Api;
use kube::api::{ListParams, WatchParams};

use crate::controllers::api;
use crate::controllers::machine::Machine;
use crate::controllers::watch::{self, Change, Watch};
use crate::node::Node;
use crate::resources::cluster::ApiServer;
use crate::resources::manifests::ManifestSet;
use crate::resources::signing_requests::{CLIENT_SIGNER, PendingRequest, SERVING_SIGNER};

/// The super-user's certificate is short-lived: each watch ends before it.
const WATCH_SECONDS: u32 = 280;

pub async fn follow(node: Node) {
    watch::follow(SigningRequests, node).await;
}

#[derive(Debug)]
struct SigningRequests;

impl Watch for SigningRequests {
    const WHAT: &'static str = "signing requests";
    const SHORTEST_PAUSE: Duration = Duration::from_millis(250);
    const LONGEST_PAUSE: Duration = Duration::from_secs(10);

    /// A control plane whose API server is ready.
    fn permitted(node: &Node, machine: &Machine) -> bool {
        machine.is_control_plane() && ApiServer::local_ready(&node.store) && ManifestSet::is_applied(&node.store)
    }

    async fn watch(&mut self, node: &Node, machine: &Machine) -> anyhow::Result<()> {
        let client: Client = api::super_user(&machine.config)?;
        let api: Api<CertificateSigningRequest> = Api::all(client.kube().clone());
        let listed = api.list(&ListParams::default()).await.context("listing signing requests")?;
        let from = listed.metadata.resource_version.unwrap_or_default();
        node.store.replace(listed.items.iter().filter_map(pending));
        let params = WatchParams::default().timeout(WATCH_SECONDS);
        let mut changes = watch::changes(&api, params, &from).await?;
        while let Some(change) = changes.try_next().await? {
            match change {
                Change::Added(request) | Change::Modified(request) => match pending(&request) {
                    Some((name, pending)) => node.store.put(&name, &pending),
                    None => node.store.remove::<PendingRequest>(&request.metadata.name.unwrap_or_default()),
                },
                Change::Deleted(request) => node.store.remove::<PendingRequest>(&request.metadata.name.unwrap_or_default()),
            }
        }
        Ok(())
    }
}

/// One for a kubelet that nobody has decided.
fn pending(request: &CertificateSigningRequest) -> Option<(String, PendingRequest)> {
    let spec = &request.spec;
    let decided = request.status.as_ref().is_some_and(|status| status.conditions.as_ref().is_some_and(|all| !all.is_empty()));
    if decided || ![CLIENT_SIGNER, SERVING_SIGNER].contains(&spec.signer_name.as_str()) {
        return None;
    }
    let pending = PendingRequest {
        signer: spec.signer_name.clone(),
        user: spec.username.clone().unwrap_or_default(),
        groups: spec.groups.clone().unwrap_or_default(),
        usages: spec.usages.clone().unwrap_or_default(),
        request: String::from_utf8_lossy(&spec.request.0).into_owned(),
    };
    Some((request.metadata.name.clone()?, pending))
}
