//! Which pods of a node are evicted.

use std::fmt;

use k8s_openapi::api::core::v1::Pod;

/// Of pods that the kubelet runs from its own files.
const MIRROR: &str = "kubernetes.io/config.mirror";

/// A pod that can run elsewhere.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Resident {
    pub namespace: String,
    pub name: String,
    pub uid: String,
    /// It was told to end.
    pub is_ending: bool,
}

impl Resident {
    /// None for pods that stay: those that have ended, those that belong to the node (a DaemonSet's, and the kubelet's own), and those
    /// that nothing would make again elsewhere. The last are stopped by the reboot and started after it.
    pub fn to_evict(pod: &Pod) -> Option<Resident> {
        let metadata = &pod.metadata;
        let phase = pod.status.as_ref().and_then(|status| status.phase.as_deref());
        let is_mirror = metadata.annotations.as_ref().is_some_and(|annotations| annotations.contains_key(MIRROR));
        let controller = metadata.owner_references.iter().flatten().find(|owner| owner.controller == Some(true))?;
        if is_mirror || controller.kind == "DaemonSet" || matches!(phase, Some("Succeeded" | "Failed")) {
            return None;
        }
        Some(Resident {
            namespace: metadata.namespace.clone().unwrap_or_default(),
            name: metadata.name.clone().unwrap_or_default(),
            uid: metadata.uid.clone().unwrap_or_default(),
            is_ending: metadata.deletion_timestamp.is_some(),
        })
    }
}

impl fmt::Display for Resident {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "pod {}/{}", self.namespace, self.name)
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn pod(metadata: Value, phase: &str) -> Pod {
        let mut whole = json!({ "name": "web-1", "namespace": "shop", "uid": "u1" });
        whole.as_object_mut().expect("an object").extend(metadata.as_object().cloned().expect("an object"));
        serde_json::from_value(json!({ "metadata": whole, "status": { "phase": phase } })).expect("a pod")
    }

    fn owned_by(kind: &str) -> Value {
        json!({ "ownerReferences": [{ "apiVersion": "apps/v1", "kind": kind, "name": "x", "uid": "u0", "controller": true }] })
    }

    #[test]
    fn only_pods_that_can_run_elsewhere_are_evicted() {
        let evicted = |pod: &Pod| Resident::to_evict(pod).map(|resident| (resident.to_string(), resident.is_ending));
        let web = Some(("pod shop/web-1".to_owned(), false));
        assert_eq!(evicted(&pod(owned_by("ReplicaSet"), "Running")), web);
        assert_eq!(evicted(&pod(owned_by("StatefulSet"), "Pending")), web);
        assert_eq!(evicted(&pod(owned_by("Job"), "Succeeded")), None);
        assert_eq!(evicted(&pod(owned_by("DaemonSet"), "Running")), None);
        assert_eq!(evicted(&pod(json!({}), "Running")), None);
        let mut ending = owned_by("ReplicaSet");
        ending["deletionTimestamp"] = "2026-01-01T00:00:00Z".into();
        assert_eq!(evicted(&pod(ending, "Running")), Some(("pod shop/web-1".to_owned(), true)));
        let mut mirror = owned_by("Node");
        mirror["annotations"] = json!({ MIRROR: "abc" });
        assert_eq!(evicted(&pod(mirror, "Running")), None);
    }
}
