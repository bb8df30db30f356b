//! What is applied to the cluster once its API answers, and again at each boot of a control plane: RBAC, DNS, the user's manifests.

pub mod coredns;
mod rbac;
mod user;

use std::collections::BTreeMap;
use std::fmt;

use machine::config::Config;
use serde::Serialize;
use serde_json::Value;

pub use coredns::{IMAGE as COREDNS_IMAGE, dns_address};

/// Group that is bound to cluster-admin; administrators' certificates are in it.
pub const CLUSTER_ADMINS: &str = "corten:cluster-admins";
/// Group of the API servers as clients of kubelets.
pub const API_SERVERS: &str = "corten:api-servers";
/// Group of the nodes' agents.
pub const AGENTS: &str = "corten:agents";

/// One Kubernetes object to apply.
#[derive(Debug, Clone, PartialEq)]
pub struct Manifest {
    pub api_version: String,
    pub kind: String,
    pub namespace: Option<String>,
    pub name: String,
    pub object: Value,
}

#[derive(Debug, thiserror::Error)]
pub enum ManifestError {
    #[error("manifest {name:?}: reading its YAML")]
    Parse {
        name: String,
        #[source]
        source: Box<serde_saphyr::Error>,
    },
    #[error("manifest {name:?}, object {index}: {field} is missing; expected a Kubernetes object with apiVersion, kind and metadata.name")]
    Missing { name: String, index: usize, field: &'static str },
    #[error("serialising {what}")]
    Serialise {
        what: String,
        #[source]
        source: serde_json::Error,
    },
    #[error("cluster.network.serviceCIDRs: {network} has no tenth address for DNS; expected a network of at least 16 addresses")]
    SmallNetwork { network: String },
    #[error("cluster.network.serviceCIDRs is empty; expected one network per family")]
    NoServiceNetwork,
}

/// All of them, in the order in which to apply them.
pub fn manifests(config: &Config) -> Result<Vec<Manifest>, ManifestError> {
    let mut all = rbac::manifests()?;
    all.extend(coredns::manifests(config)?);
    for manifest in &config.cluster.manifests {
        all.extend(user::parse(&manifest.name, &manifest.contents)?);
    }
    Ok(all)
}

/// On every object of ours.
fn labels() -> BTreeMap<String, String> {
    BTreeMap::from([("app.kubernetes.io/managed-by".to_owned(), "corten".to_owned())])
}

impl Manifest {
    /// From an object whose type knows its kind.
    fn of<T: k8s_openapi::Resource + Serialize>(object: &T) -> Result<Manifest, ManifestError> {
        let serialise = |source| ManifestError::Serialise { what: T::KIND.to_owned(), source };
        let object = serde_json::to_value(object).map_err(serialise)?;
        Manifest::from_value(object, T::KIND, 0)
    }

    fn from_value(object: Value, name: &str, index: usize) -> Result<Manifest, ManifestError> {
        let missing = |field| ManifestError::Missing { name: name.to_owned(), index, field };
        let text = |value: &Value| value.as_str().filter(|text| !text.is_empty()).map(str::to_owned);
        Ok(Manifest {
            api_version: text(&object["apiVersion"]).ok_or_else(|| missing("apiVersion"))?,
            kind: text(&object["kind"]).ok_or_else(|| missing("kind"))?,
            namespace: text(&object["metadata"]["namespace"]),
            name: text(&object["metadata"]["name"]).ok_or_else(|| missing("metadata.name"))?,
            object,
        })
    }

    /// Empty for the core group.
    pub fn group(&self) -> &str {
        self.api_version.split_once('/').map_or("", |(group, _)| group)
    }

    pub fn version(&self) -> &str {
        self.api_version.split_once('/').map_or(self.api_version.as_str(), |(_, version)| version)
    }
}

impl fmt::Display for Manifest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.namespace {
            Some(namespace) => write!(f, "{} {namespace}/{}", self.kind, self.name),
            None => write!(f, "{} {}", self.kind, self.name),
        }
    }
}
