use serde_json::json;

use super::*;

#[test]
fn a_node_is_described() {
    let node: KubernetesNode = serde_json::from_value(json!({
        "metadata": {
            "name": "cp-1",
            "labels": { "a": "1", "kubernetes.io/hostname": "cp-1" },
            "annotations": { TAINTS_ANNOTATION: "k=v:NoExecute" },
            "managedFields": [
                { "manager": "kubelet", "fieldsV1": { "f:metadata": { "f:labels": { "f:kubernetes.io/hostname": {} } } } },
                { "manager": FIELD_MANAGER, "fieldsV1": { "f:metadata": { "f:labels": { "f:a": {} }, "f:annotations": {} } } },
            ],
        },
        "spec": { "podCIDR": "10.244.0.0/24", "podCIDRs": ["10.244.0.0/24"], "taints": [{ "key": "k", "value": "v", "effect": "NoExecute" }] },
        "status": {
            "addresses": [{ "type": "InternalIP", "address": "192.0.2.10" }],
            "conditions": [
                { "type": "MemoryPressure", "status": "False" },
                { "type": "Ready", "status": "True", "message": "kubelet is posting ready status" },
            ],
            "nodeInfo": {
                "kubeletVersion": "v1.37.1", "architecture": "", "bootID": "", "containerRuntimeVersion": "", "kernelVersion": "",
                "kubeProxyVersion": "", "machineID": "", "operatingSystem": "", "osImage": "", "systemUUID": "",
            },
        },
    }))
    .unwrap();
    let described = describe(&node);
    assert!(described.ready);
    assert_eq!(described.message, "kubelet is posting ready status");
    assert_eq!(described.conditions["MemoryPressure"], "False");
    assert_eq!(described.pod_cidrs, ["10.244.0.0/24".parse().unwrap()]);
    assert_eq!(described.addresses, ["InternalIP 192.0.2.10"]);
    assert_eq!(described.owned_labels, ["a"]);
    assert_eq!(described.taints, [Taint { key: "k".to_owned(), value: "v".to_owned(), effect: TaintEffect::NoExecute }]);
    assert_eq!(described.owned_taints, "k=v:NoExecute");
    assert_eq!(described.kubelet_version, "v1.37.1");
}

#[test]
fn an_empty_node_is_not_ready() {
    assert_eq!(describe(&KubernetesNode::default()), NodeStatus::default());
}

#[test]
fn processors_are_read_as_kubelets_write_them() {
    for (quantity, expected) in
        [("4", Some(4000)), ("3920m", Some(3920)), ("0", Some(0)), ("", None), ("2.5", None), ("99999999999999999999", None)]
    {
        assert_eq!(millis(quantity), expected, "{quantity}");
    }
}
