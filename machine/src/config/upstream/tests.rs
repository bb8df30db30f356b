use serde_json::json;

use super::*;

fn messages(kind: &str, fields: Value) -> Vec<String> {
    let schema = Schema::root(table()).definition(kind).unwrap();
    structure::check(&Node::from(&fields), schema, &Path::of("x"))
        .iter()
        .map(|problem| format!("{}: {}", problem.path, problem.message()))
        .collect()
}

#[test]
fn upstreams_fields_pass() {
    let kubelet = json!({
        "maxPods": 250, "readOnlyPort": 10255, "evictionHard": { "memory.available": "200Mi" }, "cpuManagerReconcilePeriod": "1m30s",
        "memoryThrottlingFactor": 0.9, "featureGates": { "X": true }, "logging": { "format": "json", "flushFrequency": "5s" },
        "authentication": { "webhook": { "cacheTTL": "2m" } }, "allowedUnsafeSysctls": ["net.*"], "reservedMemory": [{ "numaNode": 0, "limits": { "memory": "1Gi" } }],
    });
    assert_eq!(messages("KubeletConfiguration", kubelet), Vec::<String>::new());
    let proxy = json!({ "conntrack": { "maxPerCore": 1 }, "nftables": { "syncPeriod": "30s" }, "clientConnection": { "qps": 5.0 } });
    assert_eq!(messages("KubeProxyConfiguration", proxy), Vec::<String>::new());
    let scheduler = json!({
        "profiles": [{ "plugins": { "score": { "enabled": [{ "name": "NodeResourcesFit", "weight": 2 }] } }, "pluginConfig": [{ "name": "x", "args": { "any": 1 } }] }],
        "enableProfiling": false,
    });
    assert_eq!(messages("KubeSchedulerConfiguration", scheduler), Vec::<String>::new());
    let policy = json!({ "apiVersion": "audit.k8s.io/v1", "kind": "Policy", "rules": [{ "level": "Metadata", "resources": [{ "group": "", "resources": ["secrets"] }] }], "omitStages": ["RequestReceived"] });
    assert_eq!(messages("Policy", policy), Vec::<String>::new());
}

#[test]
fn other_fields_and_types_are_named() {
    assert_eq!(messages("KubeletConfiguration", json!({ "maxPod": 1 })), ["x.maxPod: unknown field; did you mean \"maxPods\"?"]);
    assert_eq!(
        messages("KubeletConfiguration", json!({ "maxPods": "250" })),
        ["x.maxPods: \"250\"; expected a whole number; remove the quotes"]
    );
    assert_eq!(
        messages("KubeProxyConfiguration", json!({ "iptables": { "syncPeriod": "30" } })),
        ["x.iptables.syncPeriod: \"30\"; expected a duration as Kubernetes writes it, such as 10s, 1m30s or 500ms"]
    );
}

#[test]
fn every_place_has_its_type() {
    for (path, kind) in PLACES {
        assert!(Schema::root(table()).definition(kind).is_some(), "{kind}");
        assert!(crate::config::explain(path).is_ok(), "{path}");
    }
}
