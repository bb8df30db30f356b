//! Applies manifests as a short-lived super-user (before they are there, nobody has a role), and deletes what is no longer among them.

use std::collections::BTreeSet;

use anyhow::Context;
use controlplane::client::Client;
use controlplane::manifests::Manifest;
use kube::Api;
use kube::api::{DeleteParams, DynamicObject, GroupVersionKind};
use kube::discovery::{Scope, pinned_kind};

use super::plan::Action;
use super::record::{self, Reference};
use crate::controllers::api::super_user;
use crate::node::Node;
use crate::resources::bootstrap;
use crate::resources::cluster::ManifestStatus;

pub async fn apply(action: Action, node: &Node) -> anyhow::Result<()> {
    match action {
        Action::Apply { manifests, status } => {
            let config = node.joined_config().context("the machine has no config any more")?;
            bring_about(&super_user(&config)?, &manifests).await.context("applying the cluster's manifests")?;
            node.store.put(ManifestStatus::NAME, &status);
            Ok(())
        }
        Action::Complete(record) => bootstrap::save(node, &record),
    }
}

/// An object is written down before it is made, and until it is deleted: a power cut in between leaves nothing behind that nobody knows of.
async fn bring_about(client: &Client, manifests: &[Manifest]) -> anyhow::Result<()> {
    let wanted: BTreeSet<Reference> = manifests.iter().map(Reference::of).collect();
    let recorded = record::load(client).await?;
    if !wanted.is_subset(&recorded) {
        record::save(client, &recorded.union(&wanted).cloned().collect()).await?;
    }
    client.apply(manifests).await?;
    let (unwanted, left) = record::surplus(&recorded, &wanted);
    for reference in &unwanted {
        delete(client, reference).await.with_context(|| format!("deleting {reference}, which no manifest holds any more"))?;
    }
    for reference in &left {
        tracing::warn!("{reference} is in no manifest any more; it is left alone, for others may keep things in it");
    }
    if recorded != wanted {
        record::save(client, &wanted).await?;
    }
    Ok(())
}

/// One that is gone is deleted; one whose kind is gone is gone with it.
async fn delete(client: &Client, reference: &Reference) -> anyhow::Result<()> {
    let (group, version) = reference.api_version.rsplit_once('/').unwrap_or(("", &reference.api_version));
    let kind = GroupVersionKind::gvk(group, version, &reference.kind);
    let (resource, capabilities) = match pinned_kind(client.kube(), &kind).await {
        Err(error) if is_gone(&error) => return Ok(()),
        other => other?,
    };
    let api: Api<DynamicObject> = match capabilities.scope {
        Scope::Cluster => Api::all_with(client.kube().clone(), &resource),
        Scope::Namespaced => Api::namespaced_with(client.kube().clone(), reference.namespace.as_deref().unwrap_or("default"), &resource),
    };
    match api.delete(&reference.name, &DeleteParams::background()).await {
        Err(error) if !is_gone(&error) => Err(error.into()),
        _ => Ok(()),
    }
}

fn is_gone(error: &kube::Error) -> bool {
    match error {
        kube::Error::Api(status) => status.code == 404,
        kube::Error::Discovery(_) => true,
        _ => false,
    }
}
