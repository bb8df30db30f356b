//! The CNI network configuration list (CNI spec 1.0.0): upstream's bridge and portmap plugins.

use ipnet::IpNet;
use machine::Root;
use machine::config::{ClusterNetwork, Mtu};
use serde_json::{Map, Value, json};

/// The bridge that all pods of a node are on.
const BRIDGE: &str = "cni0";

pub fn conflist(root: &Root, network: &ClusterNetwork, pod_cidrs: &[IpNet]) -> Vec<u8> {
    let ranges: Vec<Value> = pod_cidrs.iter().map(|cidr| json!([{ "subnet": cidr }])).collect();
    let routes: Vec<Value> =
        pod_cidrs.iter().map(|cidr| json!({ "dst": if cidr.addr().is_ipv4() { "0.0.0.0/0" } else { "::/0" } })).collect();
    let mut bridge = object(json!({
        "type": "bridge",
        "bridge": BRIDGE,
        "isGateway": true,
        // A pod that reaches itself through a Service.
        "hairpinMode": true,
        // Packets that leave the node have its address.
        "ipMasq": true,
        "ipMasqBackend": "nftables",
        "ipam": { "type": "host-local", "dataDir": root.cni_directory().join("networks"), "ranges": ranges, "routes": routes },
    }));
    if let Mtu::Bytes(mtu) = network.overlay.mtu {
        bridge.insert("mtu".to_owned(), json!(mtu));
    }
    let list = json!({
        "cniVersion": "1.0.0",
        "name": "corten",
        "plugins": [bridge, { "type": "portmap", "backend": "nftables", "capabilities": { "portMappings": true } }],
    });
    let mut text = format!("{list:#}").into_bytes();
    text.push(b'\n');
    text
}

fn object(value: Value) -> Map<String, Value> {
    match value {
        Value::Object(object) => object,
        _ => Map::new(),
    }
}
