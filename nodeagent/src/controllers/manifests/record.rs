//! What was applied to the cluster, written down in the cluster itself: what is no longer wanted can be told from what somebody else made.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::Context;
use controlplane::client::{Client, FIELD_MANAGER};
use controlplane::manifests::Manifest;
use k8s_openapi::api::core::v1::ConfigMap;
use kube::Api;
use kube::api::{Patch, PatchParams};
use serde::{Deserialize, Serialize};
use serde_json::json;

const NAMESPACE: &str = "kube-system";
const NAME: &str = "corten-manifests";
const KEY: &str = "objects";

/// Names one object.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Reference {
    pub api_version: String,
    pub kind: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub namespace: Option<String>,
    pub name: String,
}

impl Reference {
    pub fn of(manifest: &Manifest) -> Reference {
        Reference {
            api_version: manifest.api_version.clone(),
            kind: manifest.kind.clone(),
            namespace: manifest.namespace.clone(),
            name: manifest.name.clone(),
        }
    }

    /// Whether two name the same object, under whatever version of its group.
    fn same_object(&self, other: &Reference) -> bool {
        let group = |reference: &Reference| reference.api_version.rsplit_once('/').map(|(group, _)| group.to_owned());
        (group(self), &self.kind, &self.namespace, &self.name) == (group(other), &other.kind, &other.namespace, &other.name)
    }

    /// Whether its end would be the end of what others keep in it.
    fn holds_others(&self) -> bool {
        matches!(self.kind.as_str(), "Namespace" | "CustomResourceDefinition" | "PersistentVolume" | "PersistentVolumeClaim")
    }
}

impl std::fmt::Display for Reference {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match &self.namespace {
            Some(namespace) => write!(f, "{} {namespace}/{}", self.kind, self.name),
            None => write!(f, "{} {}", self.kind, self.name),
        }
    }
}

/// What to delete, and what is left to people because more than itself would go with it.
pub fn surplus(recorded: &BTreeSet<Reference>, wanted: &BTreeSet<Reference>) -> (Vec<Reference>, Vec<Reference>) {
    let unwanted = recorded.iter().filter(|reference| !wanted.iter().any(|wanted| wanted.same_object(reference)));
    unwanted.cloned().partition(|reference| !reference.holds_others())
}

/// Nothing recorded yet: nothing was applied.
pub async fn load(client: &Client) -> anyhow::Result<BTreeSet<Reference>> {
    let found = config_maps(client).get_opt(NAME).await.with_context(|| format!("reading ConfigMap {NAMESPACE}/{NAME}"))?;
    let text = found.and_then(|map| map.data).and_then(|mut data: BTreeMap<String, String>| data.remove(KEY));
    let Some(text) = text else { return Ok(BTreeSet::new()) };
    serde_json::from_str(&text)
        .with_context(|| format!("ConfigMap {NAMESPACE}/{NAME}, {KEY}: expected a list of objects; delete it to begin anew"))
}

pub async fn save(client: &Client, references: &BTreeSet<Reference>) -> anyhow::Result<()> {
    let map = json!({
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": { "name": NAME, "namespace": NAMESPACE },
        "data": { KEY: serde_json::to_string(references)? },
    });
    let params = PatchParams::apply(FIELD_MANAGER).force();
    let saved = config_maps(client).patch(NAME, &params, &Patch::Apply(map)).await;
    saved.map(drop).with_context(|| format!("writing ConfigMap {NAMESPACE}/{NAME}"))
}

fn config_maps(client: &Client) -> Api<ConfigMap> {
    Api::namespaced(client.kube().clone(), NAMESPACE)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reference(api_version: &str, kind: &str, name: &str) -> Reference {
        Reference { api_version: api_version.to_owned(), kind: kind.to_owned(), namespace: None, name: name.to_owned() }
    }

    #[test]
    fn what_is_not_wanted_goes_but_not_what_holds_others() {
        let kept = reference("rbac.authorization.k8s.io/v1", "ClusterRole", "kept");
        let gone = reference("rbac.authorization.k8s.io/v1", "ClusterRole", "gone");
        let namespace = reference("v1", "Namespace", "storage");
        let recorded = BTreeSet::from([kept.clone(), gone.clone(), namespace.clone()]);
        let wanted = BTreeSet::from([kept, reference("v1", "ConfigMap", "gone")]);
        assert_eq!(surplus(&recorded, &wanted), (vec![gone], vec![namespace]));
    }

    #[test]
    fn a_new_version_is_the_same_object() {
        let old = BTreeSet::from([reference("flowcontrol.apiserver.k8s.io/v1beta3", "FlowSchema", "a")]);
        let new = BTreeSet::from([reference("flowcontrol.apiserver.k8s.io/v1", "FlowSchema", "a")]);
        assert_eq!(surplus(&old, &new), (vec![], vec![]));
    }

    #[test]
    fn references_are_read_back() {
        let references = BTreeSet::from([
            reference("v1", "Namespace", "a"),
            Reference { namespace: Some("b".to_owned()), ..reference("apps/v1", "Deployment", "c") },
        ]);
        let text = serde_json::to_string(&references).unwrap();
        assert_eq!(serde_json::from_str::<BTreeSet<Reference>>(&text).unwrap(), references);
    }
}
