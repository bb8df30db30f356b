//! kubeconfig files: rendering one, and merging one into the user's.

use std::path::{Path, PathBuf};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use machine::config::{Config, Secret};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::credentials::Credentials;
use crate::pki::{AuthorityId, CertificateId};
use crate::ports::API_SERVER_PORT;
use crate::render::{Files, Read, RenderError};

/// How the user of a kubeconfig proves who it is.
#[derive(Debug, Clone, Copy)]
pub enum Auth<'a> {
    /// Written into the file: for people.
    Embedded { certificate: &'a str, key: &'a Secret },
    /// Read again when they change: for services.
    Files { certificate: &'a Path, key: &'a Path },
}

/// A whole file with one cluster, one user and one context.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Kubeconfig {
    api_version: String,
    kind: String,
    #[serde(default, deserialize_with = "list_or_null")]
    clusters: Vec<Value>,
    #[serde(default, deserialize_with = "list_or_null")]
    users: Vec<Value>,
    #[serde(default, deserialize_with = "list_or_null")]
    contexts: Vec<Value>,
    #[serde(rename = "current-context", default)]
    current_context: String,
    /// What we do not know stays as it is.
    #[serde(flatten)]
    rest: serde_json::Map<String, Value>,
}

/// kubectl writes an empty list as null.
fn list_or_null<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<Vec<Value>, D::Error> {
    Ok(Option::<Vec<Value>>::deserialize(deserializer)?.unwrap_or_default())
}

#[derive(Debug, thiserror::Error)]
pub enum KubeconfigError {
    #[error("reading the kubeconfig")]
    Parse(#[source] Box<serde_saphyr::Error>),
    #[error("kubeconfig: kind {0:?}; expected Config")]
    Kind(String),
    #[error("writing the kubeconfig")]
    Write(#[source] Box<serde_saphyr::SerializeError>),
}

/// `user` names the user; the context is `<user>@<cluster>`.
pub fn render(cluster: &str, server: &str, authority_pem: &str, user: &str, auth: Auth<'_>) -> Result<String, KubeconfigError> {
    write(&build(cluster, server, authority_pem, user, auth))
}

fn build(cluster: &str, server: &str, authority_pem: &str, user: &str, auth: Auth<'_>) -> Kubeconfig {
    let context = format!("{user}@{cluster}");
    // A name of its own in merged files, where `admin` of two clusters would be one entry.
    let user = context.as_str();
    let proof = match auth {
        Auth::Embedded { certificate, key } => {
            json!({ "client-certificate-data": STANDARD.encode(certificate), "client-key-data": STANDARD.encode(key.reveal()) })
        }
        Auth::Files { certificate, key } => json!({ "client-certificate": certificate, "client-key": key }),
    };
    let reach = json!({ "server": server, "certificate-authority-data": STANDARD.encode(authority_pem) });
    Kubeconfig {
        api_version: "v1".to_owned(),
        kind: "Config".to_owned(),
        clusters: vec![json!({ "name": cluster, "cluster": reach })],
        users: vec![json!({ "name": user, "user": proof })],
        contexts: vec![json!({ "name": context, "context": { "cluster": cluster, "user": user } })],
        current_context: context,
        rest: serde_json::Map::new(),
    }
}

/// Puts the entries of `new` into `existing` and makes its context the current one. Entries of the same name are replaced in place, others
/// stay as and where they are.
pub fn merge(existing: &str, new: &str) -> Result<String, KubeconfigError> {
    let new = parse(new)?;
    if existing.trim().is_empty() {
        return write(&new);
    }
    let mut merged = parse(existing)?;
    put_all(&mut merged.clusters, new.clusters);
    put_all(&mut merged.users, new.users);
    put_all(&mut merged.contexts, new.contexts);
    merged.current_context = new.current_context;
    write(&merged)
}

fn put_all(entries: &mut Vec<Value>, new: Vec<Value>) {
    for entry in new {
        match entries.iter_mut().find(|old| old["name"] == entry["name"]) {
            Some(old) => *old = entry,
            None => entries.push(entry),
        }
    }
}

fn parse(text: &str) -> Result<Kubeconfig, KubeconfigError> {
    let config: Kubeconfig = crate::yaml::from_str(text).map_err(|error| KubeconfigError::Parse(error.into()))?;
    if config.kind == "Config" { Ok(config) } else { Err(KubeconfigError::Kind(config.kind)) }
}

fn write(config: &Kubeconfig) -> Result<String, KubeconfigError> {
    crate::yaml::to_string(config).map_err(|error| KubeconfigError::Write(error.into()))
}

/// A control-plane service's kubeconfig for the API server on the same machine, with its certificate beside it.
pub(crate) fn add_local(files: &mut Files, config: &Config, credentials: &Credentials, id: CertificateId) -> Result<PathBuf, RenderError> {
    let (certificate, key) = files.add_issued("client", credentials.certificate(id)?);
    let authority = &AuthorityId::Kubernetes.of(&config.cluster.certificate_authorities).certificate;
    let auth = Auth::Files { certificate: &certificate, key: &key };
    let kubeconfig = build(&config.cluster.name, &local_server(), authority, id.name(), auth);
    let yaml = crate::yaml::to_string(&kubeconfig).map_err(|source| RenderError::Yaml { what: "a kubeconfig", source: source.into() })?;
    Ok(files.add("kubeconfig", yaml, Read::AtStart))
}

/// The API server of this machine, for services on it.
pub fn local_server() -> String {
    format!("https://127.0.0.1:{API_SERVER_PORT}")
}

#[cfg(test)]
mod tests;
