//! Applies objects one by one, by server-side apply, and says what came of each: an API server that refuses one object has answered.

use std::collections::{BTreeSet, HashMap};

use kube::api::{Api, ApiResource, DynamicObject, GroupVersionKind, Patch, PatchParams};
use kube::core::Status;
use kube::discovery::{ApiCapabilities, Scope};
use serde_json::Value;

use super::{Client, ClientError, FIELD_MANAGER, field};
use crate::manifests::{Conflicts, Manifest, Reference};

/// What came of applying an object.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    Applied,
    /// All but these fields, which others have written: `.data.Corefile (kubectl-edit)` each.
    Yielded(Vec<String>),
    /// Nothing, because others have written these fields.
    Conflict(Vec<String>),
    /// Nothing: what the API server says.
    Refused(String),
    /// Nothing: there is no such kind, or not yet.
    UnknownKind,
}

/// What the server calls a kind, and whether it is in namespaces; asked once each.
#[derive(Debug)]
pub struct Applier<'a> {
    client: &'a Client,
    kinds: HashMap<GroupVersionKind, (ApiResource, ApiCapabilities)>,
}

impl Applier<'_> {
    pub fn new(client: &Client) -> Applier<'_> {
        Applier { client, kinds: HashMap::new() }
    }

    /// The error of one that could not be reached.
    pub async fn apply(&mut self, manifest: &Manifest) -> Result<Outcome, ClientError> {
        let Some(api) = self.api(&manifest.reference).await? else { return Ok(Outcome::UnknownKind) };
        let force = manifest.conflicts == Conflicts::Force;
        let conflict = match attempt(&api, manifest, &manifest.object, force).await? {
            Attempt::Done(outcome) => return Ok(outcome),
            Attempt::Conflict(conflict) => conflict,
        };
        let shown = conflict.iter().map(|(field, manager)| format!("{field} ({manager})")).collect();
        if manifest.conflicts == Conflicts::Refuse {
            return Ok(Outcome::Conflict(shown));
        }
        let mut rest = manifest.object.clone();
        let fields: BTreeSet<&String> = conflict.iter().map(|(field, _)| field).collect();
        if !fields.into_iter().all(|path| field::remove(&mut rest, path)) {
            return Ok(Outcome::Conflict(shown));
        }
        match attempt(&api, manifest, &rest, false).await? {
            Attempt::Done(Outcome::Applied) => Ok(Outcome::Yielded(shown)),
            Attempt::Done(other) => Ok(other),
            Attempt::Conflict(_) => Ok(Outcome::Conflict(shown)),
        }
    }

    /// Where objects of this kind are; none where the API server does not know the kind.
    pub async fn api(&mut self, reference: &Reference) -> Result<Option<Api<DynamicObject>>, ClientError> {
        let Some((resource, capabilities)) = self.resolve(reference).await? else { return Ok(None) };
        let client = self.client.kube().clone();
        Ok(Some(match capabilities.scope {
            Scope::Cluster => Api::all_with(client, &resource),
            Scope::Namespaced => Api::namespaced_with(client, reference.namespace.as_deref().unwrap_or("default"), &resource),
        }))
    }

    async fn resolve(&mut self, reference: &Reference) -> Result<Option<(ApiResource, ApiCapabilities)>, ClientError> {
        let kind = GroupVersionKind::gvk(reference.group(), reference.version(), &reference.kind);
        if let Some(known) = self.kinds.get(&kind) {
            return Ok(Some(known.clone()));
        }
        match kube::discovery::pinned_kind(self.client.kube(), &kind).await {
            Ok(found) => {
                self.kinds.insert(kind, found.clone());
                Ok(Some(found))
            }
            Err(kube::Error::Discovery(_)) => Ok(None),
            Err(kube::Error::Api(status)) if status.code == 404 => Ok(None),
            Err(source) => Err(ClientError::Discover { kind: kind.kind, source: Box::new(source) }),
        }
    }
}

enum Attempt {
    Done(Outcome),
    /// Fields, and the managers who wrote them.
    Conflict(Vec<(String, String)>),
}

async fn attempt(api: &Api<DynamicObject>, manifest: &Manifest, object: &Value, force: bool) -> Result<Attempt, ClientError> {
    let params = PatchParams { force, ..PatchParams::apply(FIELD_MANAGER) };
    match api.patch(&manifest.reference.name, &params, &Patch::Apply(object)).await {
        Ok(_) => Ok(Attempt::Done(Outcome::Applied)),
        Err(kube::Error::Api(status)) => {
            let conflicts = conflicts(&status);
            Ok(if conflicts.is_empty() { Attempt::Done(Outcome::Refused(status.message.clone())) } else { Attempt::Conflict(conflicts) })
        }
        Err(source) => Err(ClientError::Apply { manifest: manifest.to_string(), source: Box::new(source) }),
    }
}

/// The API server's words for each are `conflict with "kubectl-edit" using v1` (managedfields in k8s.io/apimachinery).
fn conflicts(status: &Status) -> Vec<(String, String)> {
    let causes = status.details.iter().flat_map(|details| &details.causes).filter(|cause| cause.reason == "FieldManagerConflict");
    causes
        .map(|cause| {
            let manager = cause.message.split('"').nth(1).unwrap_or(&cause.message);
            (cause.field.clone(), manager.to_owned())
        })
        .collect()
}
