//! Deletes what no control plane's config has any more, unless it is somebody else's by now.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::Context;
use controlplane::client::{Applier, Client, FIELD_MANAGER};
use controlplane::manifests::Reference;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ManagedFieldsEntry;
use kube::Api;
use kube::api::{DeleteParams, DynamicObject, Patch, PatchParams, Preconditions};
use serde_json::json;

use super::inventory::{self, Inventory};
use crate::node::Node;
use crate::resources::etcd::{EtcdMember, EtcdRole};
use crate::resources::manifests::{ManifestState, ManifestStatus};

/// What became of it.
#[derive(Debug, Default)]
pub struct Pruned {
    /// What is worth telling of objects that are not wanted.
    pub told: BTreeMap<String, ManifestStatus>,
    /// Nothing is left to do.
    pub complete: bool,
}

pub async fn prune(client: &Client, own: &str, wanted: &[Reference], node: &Node) -> anyhow::Result<Pruned> {
    let inventory = inventory::load(client).await?;
    let wanted: BTreeSet<Reference> = wanted.iter().cloned().collect();
    let departed = departed(&inventory, own, node);
    let mut applier = Applier::new(client);
    let mut pruned = Pruned { complete: true, ..Pruned::default() };
    let mut kept = wanted.clone();
    for reference in surplus(&inventory, own, &departed, &wanted) {
        let (state, message) = if reference.holds_others() {
            (ManifestState::Left, "no manifest has it any more; it is left, since what others keep in it would go with it".to_owned())
        } else {
            match end(&mut applier, &reference).await? {
                End::Gone => continue,
                End::Released => (ManifestState::Left, "no manifest has it any more; it is left to those who apply it as well".to_owned()),
                End::Foreign => {
                    (ManifestState::Left, "no manifest has it any more; it is left, since somebody else made it anew".to_owned())
                }
                End::Refused(why) => (ManifestState::Undeleted, why),
            }
        };
        if state == ManifestState::Undeleted {
            pruned.complete = false;
            kept.insert(reference.clone());
        }
        let status = ManifestStatus { manifest: String::new(), state, message, digest: String::new(), tries: 1 };
        pruned.told.insert(reference.to_string(), status);
    }
    let mut changes: BTreeMap<String, Option<BTreeSet<Reference>>> = departed.into_iter().map(|member| (member, None)).collect();
    if inventory.get(own) != Some(&kept) {
        changes.insert(own.to_owned(), Some(kept));
    }
    if !changes.is_empty() {
        inventory::save(client, &changes).await?;
    }
    Ok(pruned)
}

/// Control planes that have left the cluster. As long as it is not known who is in it, nobody has.
fn departed(inventory: &Inventory, own: &str, node: &Node) -> BTreeSet<String> {
    let members = node.store.all::<EtcdMember>();
    let is_member = |name: &str| members.get(name).is_some_and(|member| member.role != EtcdRole::Removed);
    if !is_member(own) {
        return BTreeSet::new();
    }
    inventory.keys().filter(|name| *name != own && !is_member(name)).cloned().collect()
}

/// What this control plane, or one that has left, applied, and what nobody wants any more.
fn surplus(inventory: &Inventory, own: &str, departed: &BTreeSet<String>, wanted: &BTreeSet<Reference>) -> Vec<Reference> {
    let ours = |member: &str| member == own || departed.contains(member);
    let of = |whose: bool| inventory.iter().filter(move |(member, _)| ours(member) == whose).flat_map(|(_, references)| references);
    let others: BTreeSet<&Reference> = of(false).collect();
    let unwanted: BTreeSet<&Reference> = of(true).filter(|reference| !wanted.contains(reference) && !others.contains(reference)).collect();
    unwanted.into_iter().cloned().collect()
}

enum End {
    Gone,
    Released,
    Foreign,
    /// What the API server says.
    Refused(String),
}

async fn end(applier: &mut Applier<'_>, reference: &Reference) -> anyhow::Result<End> {
    // One whose kind is gone is gone with it.
    let Some(api) = applier.api(reference).await? else { return Ok(End::Gone) };
    let found = match api.get_opt(&reference.name).await {
        Ok(Some(found)) => found,
        Ok(None) => return Ok(End::Gone),
        Err(kube::Error::Api(status)) => return Ok(End::Refused(status.message.clone())),
        Err(error) => return Err(error).with_context(|| format!("reading {reference}")),
    };
    let (done, ended) = match owner(found.metadata.managed_fields.as_deref().unwrap_or_default()) {
        Owner::Others => return Ok(End::Foreign),
        Owner::Shared => (release(&api, reference).await, End::Released),
        Owner::Ours => (delete(&api, reference, found.metadata.uid).await, End::Gone),
    };
    match done {
        Ok(()) => Ok(ended),
        Err(kube::Error::Api(status)) if status.code == 404 => Ok(End::Gone),
        Err(kube::Error::Api(status)) => Ok(End::Refused(status.message.clone())),
        Err(error) => Err(error).with_context(|| format!("deleting {reference}, which no manifest has any more")),
    }
}

/// The object that was looked at, and none that was made in its place since.
async fn delete(api: &Api<DynamicObject>, reference: &Reference, uid: Option<String>) -> Result<(), kube::Error> {
    let preconditions = Some(Preconditions { uid, resource_version: None });
    api.delete(&reference.name, &DeleteParams { preconditions, ..DeleteParams::background() }).await.map(drop)
}

/// Applying nothing of it gives up what nobody else applies of it.
async fn release(api: &Api<DynamicObject>, reference: &Reference) -> Result<(), kube::Error> {
    let nothing = json!({ "apiVersion": reference.api_version, "kind": reference.kind, "metadata": { "name": reference.name } });
    api.patch(&reference.name, &PatchParams::apply(FIELD_MANAGER), &Patch::Apply(nothing)).await.map(drop)
}

#[derive(Debug, PartialEq, Eq)]
enum Owner {
    Ours,
    /// Somebody else applies it too.
    Shared,
    /// We applied nothing of what it is now: somebody made it anew.
    Others,
}

/// `kubectl apply` of old writes as an update, by the name below. Who writes single fields or the status owns no object.
fn owner(entries: &[ManagedFieldsEntry]) -> Owner {
    let applies = |entry: &&ManagedFieldsEntry| {
        let operation = entry.operation.as_deref() == Some("Apply") && entry.subresource.as_deref().unwrap_or_default().is_empty();
        operation || entry.manager.as_deref() == Some("kubectl-client-side-apply")
    };
    let ours = |entry: &ManagedFieldsEntry| entry.manager.as_deref() == Some(FIELD_MANAGER);
    let of_corten = |entry: &ManagedFieldsEntry| entry.manager.as_deref().is_some_and(|manager| manager.starts_with("corten-"));
    if !entries.iter().filter(applies).any(ours) {
        return Owner::Others;
    }
    let shared = entries.iter().filter(applies).any(|entry| !ours(entry) && !of_corten(entry));
    if shared { Owner::Shared } else { Owner::Ours }
}

#[cfg(test)]
mod tests;
