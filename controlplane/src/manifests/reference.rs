//! Names of objects, whatever version of their API they are written in.

use std::fmt;

use serde::{Deserialize, Serialize};

/// Names one object. Two are equal if they name the same object.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Reference {
    /// Under which it was applied last.
    pub api_version: String,
    pub kind: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub namespace: Option<String>,
    pub name: String,
}

impl Reference {
    /// Empty for the core group.
    pub fn group(&self) -> &str {
        self.api_version.split_once('/').map_or("", |(group, _)| group)
    }

    pub fn version(&self) -> &str {
        self.api_version.split_once('/').map_or(self.api_version.as_str(), |(_, version)| version)
    }

    fn identity(&self) -> (&str, &str, Option<&str>, &str) {
        (self.group(), &self.kind, self.namespace.as_deref(), &self.name)
    }

    /// Whether its end would be the end of what others keep in it.
    pub fn holds_others(&self) -> bool {
        match self.group() {
            "" => matches!(self.kind.as_str(), "Namespace" | "PersistentVolume" | "PersistentVolumeClaim"),
            "apiextensions.k8s.io" => self.kind == "CustomResourceDefinition",
            _ => false,
        }
    }
}

/// As kubectl takes it: `ConfigMap/kube-system/coredns`, `ClusterRole.rbac.authorization.k8s.io/corten:agent`.
impl fmt::Display for Reference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.kind)?;
        if !self.group().is_empty() {
            write!(f, ".{}", self.group())?;
        }
        if let Some(namespace) = &self.namespace {
            write!(f, "/{namespace}")?;
        }
        write!(f, "/{}", self.name)
    }
}

impl PartialEq for Reference {
    fn eq(&self, other: &Reference) -> bool {
        self.identity() == other.identity()
    }
}

impl Eq for Reference {}

impl PartialOrd for Reference {
    fn partial_cmp(&self, other: &Reference) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Reference {
    fn cmp(&self, other: &Reference) -> std::cmp::Ordering {
        self.identity().cmp(&other.identity())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_new_version_is_the_same_object() {
        let reference = |api_version: &str, kind: &str| Reference {
            api_version: api_version.to_owned(),
            kind: kind.to_owned(),
            namespace: None,
            name: "a".to_owned(),
        };
        let old = reference("flowcontrol.apiserver.k8s.io/v1beta3", "FlowSchema");
        assert_eq!(old, reference("flowcontrol.apiserver.k8s.io/v1", "FlowSchema"));
        assert_ne!(old, reference("v1", "FlowSchema"));
        assert_eq!(old.to_string(), "FlowSchema.flowcontrol.apiserver.k8s.io/a");
        assert_eq!(Reference { namespace: Some("b".to_owned()), ..reference("v1", "Secret") }.to_string(), "Secret/b/a");
        assert!(reference("v1", "Namespace").holds_others());
        assert!(!reference("example.com/v1", "Namespace").holds_others());
        let text = serde_json::to_string(&old).expect("written");
        assert_eq!(serde_json::from_str::<Reference>(&text).expect("read").api_version, old.api_version);
    }
}
