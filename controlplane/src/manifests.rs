//! What is applied to the cluster once its API answers, and again at each boot of a control plane: RBAC, DNS, the user's manifests.

pub mod coredns;
mod order;
mod rbac;
mod reference;
mod user;

use std::collections::BTreeMap;
use std::fmt;

use machine::config::Config;
use serde::Serialize;
use serde_json::Value;

pub use coredns::{IMAGE as COREDNS_IMAGE, dns_address};
pub use reference::Reference;

/// Group that is bound to cluster-admin; administrators' certificates are in it.
pub const CLUSTER_ADMINS: &str = "corten:cluster-admins";
/// Group of the API servers as clients of kubelets.
pub const API_SERVERS: &str = "corten:api-servers";
/// Agents of control planes, when they relieve nodes under pressure.
pub const RELIEVERS: &str = "corten:relievers";
/// Agents of control planes, when they give Services of type LoadBalancer their addresses.
pub const LOAD_BALANCERS: &str = "corten:load-balancers";
/// Group of the nodes' agents.
pub const AGENTS: &str = "corten:agents";

/// On each object of a user's manifest: the manifest's name.
const MANIFEST_ANNOTATION: &str = "corten.dev/manifest";

/// One Kubernetes object to apply.
#[derive(Debug, Clone, PartialEq)]
pub struct Manifest {
    pub reference: Reference,
    pub object: Value,
    pub origin: Origin,
    pub conflicts: Conflicts,
}

/// Who wants an object.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Origin {
    Corten,
    /// The manifest of this name in `cluster.manifests`.
    User(String),
}

/// What is done where somebody else has written a field of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Conflicts {
    /// It is written over: what the field says keeps the cluster safe.
    Force,
    /// The field is left to them, and the rest applied.
    Yield,
    /// Nothing is applied.
    Refuse,
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
    let mut all = rbac::manifests(config)?;
    all.extend(coredns::manifests(config)?.into_iter().map(|manifest| Manifest { conflicts: Conflicts::Yield, ..manifest }));
    for manifest in &config.cluster.manifests {
        all.extend(user::parse(&manifest.name, &manifest.contents)?);
    }
    Ok(order::in_order(all))
}

/// On every object of ours.
pub(crate) fn labels() -> BTreeMap<String, String> {
    BTreeMap::from([("app.kubernetes.io/managed-by".to_owned(), "corten".to_owned())])
}

impl Manifest {
    /// Of Corten's own, from an object whose type knows its kind.
    fn of<T: k8s_openapi::Resource + Serialize>(object: &T) -> Result<Manifest, ManifestError> {
        let serialise = |source| ManifestError::Serialise { what: T::KIND.to_owned(), source };
        let object = serde_json::to_value(object).map_err(serialise)?;
        let reference = reference_of(&object, T::KIND, 0)?;
        Ok(Manifest { reference, object, origin: Origin::Corten, conflicts: Conflicts::Force })
    }

    /// Of the user's manifest with this name. Its annotation tells people where the object comes from, and is what the API server keeps of
    /// who applied it where nothing else stands in it: of an object without any field it would know no owner.
    fn of_user(mut object: Value, name: &str, index: usize) -> Result<Manifest, ManifestError> {
        let reference = reference_of(&object, name, index)?;
        let annotations = &mut object["metadata"]["annotations"];
        // What is no map is refused by the API server, with the reason.
        if annotations.is_null() || annotations.is_object() {
            annotations[MANIFEST_ANNOTATION] = name.into();
        }
        Ok(Manifest { reference, object, origin: Origin::User(name.to_owned()), conflicts: Conflicts::Refuse })
    }
}

fn reference_of(object: &Value, name: &str, index: usize) -> Result<Reference, ManifestError> {
    let missing = |field| ManifestError::Missing { name: name.to_owned(), index, field };
    let text = |value: &Value| value.as_str().filter(|text| !text.is_empty()).map(str::to_owned);
    Ok(Reference {
        api_version: text(&object["apiVersion"]).ok_or_else(|| missing("apiVersion"))?,
        kind: text(&object["kind"]).ok_or_else(|| missing("kind"))?,
        namespace: text(&object["metadata"]["namespace"]),
        name: text(&object["metadata"]["name"]).ok_or_else(|| missing("metadata.name"))?,
    })
}

impl fmt::Display for Manifest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.reference.fmt(f)
    }
}

#[cfg(test)]
mod tests;
