//! What was applied to the cluster, written down in the cluster itself: ConfigMap `kube-system/corten-manifests`, with one key for each control
//! plane. So what no config has any more can be told from what somebody else made, and from what another control plane's config still has.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::Context;
use controlplane::client::{Client, FIELD_MANAGER};
use controlplane::manifests::Reference;
use k8s_openapi::api::core::v1::ConfigMap;
use kube::Api;
use kube::api::{Patch, PatchParams, PostParams};
use serde_json::{Value, json};

const NAMESPACE: &str = "kube-system";
const NAME: &str = "corten-manifests";

/// Objects by the control plane that applied them.
pub type Inventory = BTreeMap<String, BTreeSet<Reference>>;

/// Adds objects to those of a control plane.
pub async fn add(client: &Client, own: &str, references: &[Reference]) -> anyhow::Result<()> {
    let mut recorded = load(client).await?.remove(own).unwrap_or_default();
    let before = recorded.len();
    recorded.extend(references.iter().cloned());
    if recorded.len() == before { Ok(()) } else { save(client, &BTreeMap::from([(own.to_owned(), Some(recorded))])).await }
}

/// Nothing written down yet: nothing was applied.
pub async fn load(client: &Client) -> anyhow::Result<Inventory> {
    let found = config_maps(client).get_opt(NAME).await.with_context(|| format!("reading ConfigMap {NAMESPACE}/{NAME}"))?;
    let data = found.and_then(|map| map.data).unwrap_or_default();
    let parse = |(member, text): (String, String)| {
        let problem =
            || format!("ConfigMap {NAMESPACE}/{NAME}, {member}: expected a list of objects; remove the key to have it written anew");
        let references = serde_json::from_str(&text).with_context(problem)?;
        Ok((member, references))
    };
    data.into_iter().map(parse).collect()
}

/// Writes the objects of these control planes, and of no other; `None` takes one out. Others write theirs at the same time.
pub async fn save(client: &Client, of: &BTreeMap<String, Option<BTreeSet<Reference>>>) -> anyhow::Result<()> {
    let mut data = serde_json::Map::new();
    for (member, references) in of {
        let text = references.as_ref().map(serde_json::to_string).transpose()?;
        data.insert(member.clone(), text.map_or(Value::Null, Value::String));
    }
    let patch = Patch::Merge(json!({ "data": data }));
    let params = PatchParams { field_manager: Some(FIELD_MANAGER.to_owned()), ..PatchParams::default() };
    match config_maps(client).patch(NAME, &params, &patch).await {
        Err(kube::Error::Api(status)) if status.code == 404 => create(client, data).await,
        other => other.map(drop).with_context(|| format!("writing ConfigMap {NAMESPACE}/{NAME}")),
    }
}

/// One that another control plane made in the same moment is an error: it is tried again, and then there.
async fn create(client: &Client, data: serde_json::Map<String, Value>) -> anyhow::Result<()> {
    let data: BTreeMap<String, String> = data.into_iter().filter_map(|(member, text)| Some((member, text.as_str()?.to_owned()))).collect();
    let map = json!({ "metadata": { "name": NAME, "namespace": NAMESPACE }, "data": data });
    let params = PostParams { field_manager: Some(FIELD_MANAGER.to_owned()), ..PostParams::default() };
    let created = config_maps(client).create(&params, &serde_json::from_value(map)?).await;
    created.map(drop).with_context(|| format!("making ConfigMap {NAMESPACE}/{NAME}"))
}

fn config_maps(client: &Client) -> Api<ConfigMap> {
    Api::namespaced(client.kube().clone(), NAMESPACE)
}
