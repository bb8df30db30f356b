//! Which pods may be evicted to relieve a node: those that somebody makes again elsewhere, that lose nothing by it, and that nobody relies on.

use k8s_openapi::api::core::v1::{Pod, PodSpec, Volume};

/// A pod with this annotation, of value `ignore`, is left where it is; as it is by the scores.
use extender::OPT_OUT;

/// Other autoscalers' word for the same (kubernetes/autoscaler, cluster-autoscaler FAQ).
const SAFE_TO_EVICT: &str = "cluster-autoscaler.kubernetes.io/safe-to-evict";
/// The kubelet's, on what stands for a static pod (pkg/kubelet/types, ConfigMirrorAnnotationKey).
const MIRROR: &str = "kubernetes.io/config.mirror";
/// system-cluster-critical; system-node-critical is higher (pkg/apis/scheduling, SystemCriticalPriority).
const CRITICAL: i32 = 2_000_000_000;
/// Labels that all nodes of a kind have: a selector of them ties a pod to no node.
const COMMON_LABELS: [&str; 2] = ["kubernetes.io/os", "kubernetes.io/arch"];

/// Why a pod stays; none for one that may be evicted. `least_age` in seconds.
pub fn stays_because(pod: &Pod, now: i64, least_age: i64) -> Option<&'static str> {
    let annotation = |name: &str| pod.metadata.annotations.as_ref().and_then(|all| all.get(name)).map(String::as_str);
    let (spec, status) = (pod.spec.clone().unwrap_or_default(), pod.status.clone().unwrap_or_default());
    let owner = pod.metadata.owner_references.iter().flatten().find(|owner| owner.controller == Some(true));
    let began = status.start_time.as_ref().map(|time| time.0.as_second());
    // The first that holds is told.
    let rules = [
        (annotation(OPT_OUT) == Some("ignore"), "its annotation corten.dev/pressure says so"),
        (annotation(SAFE_TO_EVICT) == Some("false"), "its annotation cluster-autoscaler.kubernetes.io/safe-to-evict says so"),
        (pod.metadata.deletion_timestamp.is_some(), "it ends already"),
        (status.phase.as_deref() != Some("Running"), "it does not run"),
        (annotation(MIRROR).is_some() || owner.is_some_and(|owner| owner.kind == "Node"), "it is a static pod"),
        (owner.is_none(), "nobody would make it again"),
        (owner.is_some_and(|owner| owner.kind == "DaemonSet"), "it is a DaemonSet's"),
        (owner.is_some_and(|owner| owner.kind == "Job"), "it is a Job's, whose work would be lost"),
        (spec.priority.is_some_and(|priority| priority >= CRITICAL), "its priority is critical"),
        (spec.volumes.iter().flatten().any(holds_data), "it has data on the node, or a claim that may hold it there"),
        (is_tied(&spec), "it asks for certain nodes"),
        (began.is_none_or(|began| now - began < least_age), "it is too young"),
    ];
    rules.into_iter().find(|(holds, _)| *holds).map(|(_, why)| why)
}

fn holds_data(volume: &Volume) -> bool {
    let Volume { persistent_volume_claim, empty_dir, host_path, ephemeral, .. } = volume;
    persistent_volume_claim.is_some() || empty_dir.is_some() || host_path.is_some() || ephemeral.is_some()
}

fn is_tied(spec: &PodSpec) -> bool {
    let affinity = spec.affinity.as_ref().and_then(|affinity| affinity.node_affinity.as_ref());
    let required = affinity.is_some_and(|affinity| affinity.required_during_scheduling_ignored_during_execution.is_some());
    required || spec.node_selector.iter().flatten().any(|(label, _)| !COMMON_LABELS.contains(&label.as_str()))
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    /// 1000 seconds after it began.
    const NOW: i64 = 1_767_226_600;

    fn with(path: &str, value: Value) -> Option<&'static str> {
        let mut pod = json!({
            "metadata": {
                "name": "a", "annotations": {},
                "ownerReferences": [{ "apiVersion": "apps/v1", "kind": "ReplicaSet", "name": "a", "uid": "1", "controller": true }],
            },
            "spec": { "containers": [], "nodeSelector": { "kubernetes.io/os": "linux" }, "volumes": [{ "name": "c", "configMap": {} }] },
            "status": { "phase": "Running", "startTime": "2026-01-01T00:00:00Z" },
        });
        let (parent, field) = path.rsplit_once('/').unwrap();
        pod.pointer_mut(parent).unwrap()[field] = value;
        stays_because(&serde_json::from_value(pod).unwrap(), NOW, 300)
    }

    #[test]
    fn what_stays_and_why() {
        let owner = |kind: &str| json!([{ "apiVersion": "x/v1", "kind": kind, "name": "a", "uid": "1", "controller": true }]);
        let affinity = json!({ "nodeAffinity": { "requiredDuringSchedulingIgnoredDuringExecution": { "nodeSelectorTerms": [] } } });
        let soft = json!({ "nodeAffinity": { "preferredDuringSchedulingIgnoredDuringExecution": [] } });
        for (path, value, expected) in [
            ("/metadata/name", json!("b"), None),
            ("/metadata/annotations", json!({ "corten.dev/pressure": "ignore" }), Some("corten.dev/pressure")),
            ("/metadata/annotations", json!({ "corten.dev/pressure": "other" }), None),
            ("/metadata/annotations", json!({ SAFE_TO_EVICT: "false" }), Some("safe-to-evict")),
            ("/metadata/annotations", json!({ MIRROR: "1" }), Some("static")),
            ("/metadata/deletionTimestamp", json!("2026-01-01T00:00:00Z"), Some("ends already")),
            ("/metadata/ownerReferences", json!([]), Some("again")),
            ("/metadata/ownerReferences", owner("Node"), Some("static")),
            ("/metadata/ownerReferences", owner("DaemonSet"), Some("DaemonSet")),
            ("/metadata/ownerReferences", owner("Job"), Some("Job")),
            ("/metadata/ownerReferences", owner("StatefulSet"), None),
            ("/spec/priority", json!(2_000_000_000), Some("critical")),
            ("/spec/priority", json!(1_000_000_000), None),
            ("/spec/volumes", json!([{ "name": "v", "emptyDir": {} }]), Some("data")),
            ("/spec/volumes", json!([{ "name": "v", "hostPath": { "path": "/x" } }]), Some("data")),
            ("/spec/volumes", json!([{ "name": "v", "persistentVolumeClaim": { "claimName": "c" } }]), Some("data")),
            ("/spec/nodeSelector", json!({ "kubernetes.io/hostname": "a" }), Some("certain nodes")),
            ("/spec/affinity", affinity, Some("certain nodes")),
            ("/spec/affinity", soft, None),
            ("/status/phase", json!("Pending"), Some("not run")),
            ("/status/startTime", json!("2026-01-01T00:15:00Z"), Some("young")),
            ("/status/startTime", json!(null), Some("young")),
        ] {
            let got = with(path, value.clone());
            match expected {
                None => assert_eq!(got, None, "{path} {value}"),
                Some(expected) => assert!(got.is_some_and(|why| why.contains(expected)), "{path} {value}: {got:?}"),
            }
        }
    }
}
