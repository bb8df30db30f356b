//! What the cluster keeps of its machines and tokens: objects in kube-system, which every control plane's agent reads and writes.

use std::collections::BTreeMap;
use std::net::IpAddr;

use anyhow::Context;
use controlplane::client::{Client, FIELD_MANAGER};
use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1::{ConfigMap, Node as KubernetesNode, Secret};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::Api;
use kube::api::{ListParams, PostParams};
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::decide::MachineRecord;
use super::token::TokenRecord;

const NAMESPACE: &str = "kube-system";
/// Label of the objects, with what they hold.
const LABEL: &str = "corten.dev/record";
const KEY: &str = "record";
const MACHINE: &str = "machine";

/// A record and the version of the object that it was read from.
#[derive(Debug, Clone)]
pub struct Kept<T> {
    pub record: T,
    version: Option<String>,
}

/// Somebody else wrote in between: look again.
#[derive(Debug, thiserror::Error)]
#[error("the record of {0} was changed by somebody else at the same time")]
pub struct Conflict(String);

pub async fn machines(client: &Client) -> anyhow::Result<Vec<Kept<MachineRecord>>> {
    let listed = config_maps(client).list(&ListParams::default().labels(&format!("{LABEL}={MACHINE}"))).await;
    let read = |map: ConfigMap| {
        let name = map.metadata.name.unwrap_or_default();
        let text = map.data.and_then(|mut data| data.remove(KEY)).with_context(|| format!("ConfigMap {NAMESPACE}/{name} has no {KEY}"))?;
        let record = parse(&text, "ConfigMap", &name)?;
        Ok(Kept { record, version: map.metadata.resource_version })
    };
    listed.with_context(|| format!("listing the machines' records in {NAMESPACE}"))?.items.into_iter().map(read).collect()
}

/// `None`: the machine has not joined.
pub async fn machine(client: &Client, node: &str) -> anyhow::Result<Option<Kept<MachineRecord>>> {
    let name = machine_name(node);
    let found = config_maps(client).get_opt(&name).await.with_context(|| format!("reading ConfigMap {NAMESPACE}/{name}"))?;
    let Some(map) = found else { return Ok(None) };
    let text = map.data.and_then(|mut data| data.remove(KEY)).with_context(|| format!("ConfigMap {NAMESPACE}/{name} has no {KEY}"))?;
    Ok(Some(Kept { record: parse(&text, "ConfigMap", &name)?, version: map.metadata.resource_version }))
}

/// Writes a machine's record over the one that was read, or as a new one.
pub async fn write_machine(client: &Client, before: Option<&Kept<MachineRecord>>, record: &MachineRecord) -> anyhow::Result<()> {
    let name = machine_name(&record.node);
    let mut map = ConfigMap {
        metadata: metadata(&name, MACHINE),
        data: Some(BTreeMap::from([(KEY.to_owned(), text(record)?)])),
        ..ConfigMap::default()
    };
    map.metadata.resource_version = before.and_then(|before| before.version.clone());
    let api = config_maps(client);
    let params = PostParams { field_manager: Some(FIELD_MANAGER.to_owned()), ..PostParams::default() };
    let written = match before {
        Some(_) => api.replace(&name, &params, &map).await,
        None => api.create(&params, &map).await,
    };
    match written {
        Ok(_) => Ok(()),
        Err(kube::Error::Api(status)) if status.code == 409 => Err(Conflict(record.node.clone()).into()),
        Err(error) => Err(error).with_context(|| format!("writing ConfigMap {NAMESPACE}/{name}")),
    }
}

/// `None`: the cluster has none of this id.
pub async fn token(client: &Client, id: &str) -> anyhow::Result<Option<TokenRecord>> {
    let name = format!("corten-join-token-{id}");
    let api: Api<Secret> = Api::namespaced(client.kube().clone(), NAMESPACE);
    let found = api.get_opt(&name).await.with_context(|| format!("reading Secret {NAMESPACE}/{name}"))?;
    let Some(secret) = found else { return Ok(None) };
    let ByteString(octets) =
        secret.data.and_then(|mut data| data.remove(KEY)).with_context(|| format!("Secret {NAMESPACE}/{name} has no {KEY}"))?;
    Ok(Some(parse(&String::from_utf8_lossy(&octets), "Secret", &name)?))
}

/// Names and addresses of all Nodes.
pub async fn nodes(client: &Client) -> anyhow::Result<Vec<(String, Vec<IpAddr>)>> {
    let listed = Api::<KubernetesNode>::all(client.kube().clone()).list(&ListParams::default()).await.context("listing nodes")?;
    let describe = |node: KubernetesNode| {
        let addresses = node.status.and_then(|status| status.addresses).unwrap_or_default();
        let internal = addresses.iter().filter(|address| address.type_ == "InternalIP").filter_map(|address| address.address.parse().ok());
        (node.metadata.name.unwrap_or_default(), internal.collect())
    };
    Ok(listed.items.into_iter().map(describe).collect())
}

fn machine_name(node: &str) -> String {
    format!("corten-machine-{node}")
}

fn metadata(name: &str, holds: &str) -> ObjectMeta {
    let labels = [("app.kubernetes.io/managed-by", "corten"), (LABEL, holds)];
    ObjectMeta {
        name: Some(name.to_owned()),
        namespace: Some(NAMESPACE.to_owned()),
        labels: Some(labels.map(|(name, value)| (name.to_owned(), value.to_owned())).into()),
        ..ObjectMeta::default()
    }
}

fn config_maps(client: &Client) -> Api<ConfigMap> {
    Api::namespaced(client.kube().clone(), NAMESPACE)
}

fn text(record: &impl Serialize) -> anyhow::Result<String> {
    Ok(serde_json::to_string(record)?)
}

fn parse<T: DeserializeOwned>(text: &str, kind: &str, name: &str) -> anyhow::Result<T> {
    serde_json::from_str(text).with_context(|| format!("{kind} {NAMESPACE}/{name}, {KEY}: it is no record of ours"))
}
