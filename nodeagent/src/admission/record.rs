//! What the cluster keeps of its machines and tokens: objects in kube-system, which every control plane's agent reads and writes.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Debug;
use std::net::IpAddr;

use anyhow::Context;
use controlplane::client::{Client, FIELD_MANAGER};
use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1::{ConfigMap, Node as KubernetesNode, Secret};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::Api;
use kube::api::{DeleteParams, ListParams, PostParams};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use super::decide::MachineRecord;
use super::token::TokenRecord;

const NAMESPACE: &str = "kube-system";
/// Label of the objects, with what they hold.
const LABEL: &str = "corten.dev/record";
const KEY: &str = "record";
const MACHINE: &str = "machine";
const TOKEN: &str = "token";
const ENDED: &str = "corten-join-tokens-ended";

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
    write(&config_maps(client), before.is_some(), &name, &map, &record.node).await
}

/// `None`: the cluster has none of this id.
pub async fn token(client: &Client, id: &str) -> anyhow::Result<Option<Kept<TokenRecord>>> {
    let name = token_name(id);
    let found = secrets(client).get_opt(&name).await.with_context(|| format!("reading Secret {NAMESPACE}/{name}"))?;
    found.map(read_token).transpose()
}

/// All that were made; not the machine configs' own.
pub async fn tokens(client: &Client) -> anyhow::Result<Vec<Kept<TokenRecord>>> {
    let listed = secrets(client).list(&ListParams::default().labels(&format!("{LABEL}={TOKEN}"))).await;
    listed.with_context(|| format!("listing the tokens' records in {NAMESPACE}"))?.items.into_iter().map(read_token).collect()
}

/// Ids of tokens whose records are gone. One of them may stand in a machine config still, where it would count as the cluster's own.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ended {
    /// Always 1.
    version: u32,
    ids: BTreeSet<String>,
}

pub async fn has_ended(client: &Client, id: &str) -> anyhow::Result<bool> {
    Ok(ended(client).await?.is_some_and(|ended| ended.record.ids.contains(id)))
}

async fn ended(client: &Client) -> anyhow::Result<Option<Kept<Ended>>> {
    let found = config_maps(client).get_opt(ENDED).await.with_context(|| format!("reading ConfigMap {NAMESPACE}/{ENDED}"))?;
    let read = |map: ConfigMap| {
        let text = map.data.and_then(|mut data| data.remove(KEY)).with_context(|| format!("ConfigMap {NAMESPACE}/{ENDED} has no {KEY}"))?;
        Ok(Kept { record: parse(&text, "ConfigMap", ENDED)?, version: map.metadata.resource_version })
    };
    found.map(read).transpose()
}

/// Deletes the records of tokens; their ids are written down before.
pub async fn delete_tokens(client: &Client, ids: &BTreeSet<String>) -> anyhow::Result<()> {
    let before = ended(client).await?;
    let mut record = before.as_ref().map(|before| before.record.clone()).unwrap_or_default();
    record.version = 1;
    record.ids.extend(ids.iter().cloned());
    let data = Some(BTreeMap::from([(KEY.to_owned(), text(&record)?)]));
    let mut map = ConfigMap { metadata: metadata(ENDED, "ended"), data, ..ConfigMap::default() };
    map.metadata.resource_version = before.as_ref().and_then(|before| before.version.clone());
    write(&config_maps(client), before.is_some(), ENDED, &map, ENDED).await?;
    for id in ids {
        let name = token_name(id);
        match secrets(client).delete(&name, &DeleteParams::default()).await {
            Err(kube::Error::Api(status)) if status.code == 404 => {}
            deleted => drop(deleted.with_context(|| format!("deleting Secret {NAMESPACE}/{name}"))?),
        }
    }
    Ok(())
}

fn read_token(secret: Secret) -> anyhow::Result<Kept<TokenRecord>> {
    let name = secret.metadata.name.unwrap_or_default();
    let ByteString(octets) =
        secret.data.and_then(|mut data| data.remove(KEY)).with_context(|| format!("Secret {NAMESPACE}/{name} has no {KEY}"))?;
    Ok(Kept { record: parse(&String::from_utf8_lossy(&octets), "Secret", &name)?, version: secret.metadata.resource_version })
}

/// Writes a token's record over the one that was read, or as a new one.
pub async fn write_token(client: &Client, before: Option<&Kept<TokenRecord>>, record: &TokenRecord) -> anyhow::Result<()> {
    let name = token_name(&record.id);
    let mut secret = Secret {
        metadata: metadata(&name, TOKEN),
        data: Some(BTreeMap::from([(KEY.to_owned(), ByteString(text(record)?.into_bytes()))])),
        ..Secret::default()
    };
    secret.metadata.resource_version = before.and_then(|before| before.version.clone());
    write(&secrets(client), before.is_some(), &name, &secret, &record.id).await
}

async fn write<K>(api: &Api<K>, over: bool, name: &str, object: &K, subject: &str) -> anyhow::Result<()>
where
    K: Clone + DeserializeOwned + Serialize + Debug,
{
    let params = PostParams { field_manager: Some(FIELD_MANAGER.to_owned()), ..PostParams::default() };
    let written = if over { api.replace(name, &params, object).await } else { api.create(&params, object).await };
    match written {
        Ok(_) => Ok(()),
        Err(kube::Error::Api(status)) if status.code == 409 => Err(Conflict(subject.to_owned()).into()),
        Err(error) => Err(error).with_context(|| format!("writing {NAMESPACE}/{name}")),
    }
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

fn token_name(id: &str) -> String {
    format!("corten-join-token-{id}")
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

fn secrets(client: &Client) -> Api<Secret> {
    Api::namespaced(client.kube().clone(), NAMESPACE)
}

fn text(record: &impl Serialize) -> anyhow::Result<String> {
    Ok(serde_json::to_string(record)?)
}

fn parse<T: DeserializeOwned>(text: &str, kind: &str, name: &str) -> anyhow::Result<T> {
    serde_json::from_str(text).with_context(|| format!("{kind} {NAMESPACE}/{name}, {KEY}: it is no record of ours"))
}
