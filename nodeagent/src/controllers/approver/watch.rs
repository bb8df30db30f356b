//! Follows requests for kubelets' certificates, and puts on the board those that nobody has decided yet.

use std::time::Duration;

use anyhow::Context;
use controlplane::client::Client;
use futures::TryStreamExt;
use k8s_openapi::api::certificates::v1::CertificateSigningRequest;
use kube::Api;
use kube::api::{ListParams, WatchEvent, WatchParams};
use tokio::time::Instant;

use super::plan::{CLIENT_SIGNER, SERVING_SIGNER};
use crate::controllers::api;
use crate::controllers::machine::Machine;
use crate::node::Node;
use crate::resources::cluster::{ApiServer, ManifestStatus};
use crate::resources::signing_requests::PendingRequest;

const RETRY_MIN: Duration = Duration::from_millis(250);
const RETRY_MAX: Duration = Duration::from_secs(10);
/// The super-user's certificate is short-lived: each watch ends before it.
const WATCH_SECONDS: u32 = 280;

/// Runs for as long as the agent lives.
pub async fn follow(node: Node) {
    let mut retry = RETRY_MIN;
    loop {
        let machine = prepared(&node).await;
        let began = Instant::now();
        if let Err(error) = watch(&node, &machine).await {
            tracing::debug!("following signing requests: {error:#}");
        }
        retry = if began.elapsed() > RETRY_MAX { RETRY_MIN } else { (retry * 2).min(RETRY_MAX) };
        tokio::time::sleep(retry).await;
    }
}

/// Waits for a control plane whose API server is ready.
async fn prepared(node: &Node) -> Machine {
    let mut board = node.store.revision();
    loop {
        board.mark_unchanged();
        let permitted = ApiServer::local_ready(&node.store) && node.store.get::<ManifestStatus>(ManifestStatus::NAME).is_some();
        match Machine::observe(node) {
            Ok(machine) if machine.is_control_plane() && permitted => return machine,
            // The board is closed only when the agent ends, and this task with it.
            _ => drop(board.changed().await),
        }
    }
}

async fn watch(node: &Node, machine: &Machine) -> anyhow::Result<()> {
    let client: Client = api::super_user(&machine.config)?;
    let api: Api<CertificateSigningRequest> = Api::all(client.kube().clone());
    let listed = api.list(&ListParams::default()).await.context("listing signing requests")?;
    let from = listed.metadata.resource_version.unwrap_or_default();
    node.store.replace(listed.items.iter().filter_map(pending));
    let params = WatchParams::default().timeout(WATCH_SECONDS);
    let mut events = std::pin::pin!(api.watch(&params, &from).await.context("watching signing requests")?);
    while let Some(event) = events.try_next().await.context("watching signing requests")? {
        match event {
            WatchEvent::Added(request) | WatchEvent::Modified(request) => match pending(&request) {
                Some((name, pending)) => node.store.put(&name, &pending),
                None => node.store.remove::<PendingRequest>(&request.metadata.name.unwrap_or_default()),
            },
            WatchEvent::Deleted(request) => node.store.remove::<PendingRequest>(&request.metadata.name.unwrap_or_default()),
            WatchEvent::Bookmark(_) => {}
            WatchEvent::Error(status) => anyhow::bail!("watching signing requests: {}", status.message),
        }
    }
    Ok(())
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
