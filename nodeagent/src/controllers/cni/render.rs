//! The CNI network configuration list (CNI spec 1.0.0): upstream's bridge and portmap plugins.

use ipnet::IpNet;
use machine::Root;
use serde_json::{Value, json};

/// The bridge that all pods of a node are on.
pub const BRIDGE: &str = "cni0";

/// Names the network, and the folder in which host-local writes down who has which address.
pub const NETWORK: &str = "corten";

/// Packets that leave the cluster get the node's address from controllers/masquerade: the plugin would give it to those for pods of other
/// nodes as well.
pub fn conflist(root: &Root, pod_cidrs: &[IpNet], mtu: u32) -> Vec<u8> {
    let ranges: Vec<Value> = pod_cidrs.iter().map(|cidr| json!([{ "subnet": cidr }])).collect();
    let routes: Vec<Value> =
        pod_cidrs.iter().map(|cidr| json!({ "dst": if cidr.addr().is_ipv4() { "0.0.0.0/0" } else { "::/0" } })).collect();
    let bridge = json!({
        "type": "bridge",
        "bridge": BRIDGE,
        "isGateway": true,
        // A pod that reaches itself through a Service.
        "hairpinMode": true,
        "ipMasq": false,
        "mtu": mtu,
        "ipam": { "type": "host-local", "dataDir": root.cni_directory().join("networks"), "ranges": ranges, "routes": routes },
    });
    let list = json!({
        "cniVersion": "1.0.0",
        "name": NETWORK,
        "plugins": [bridge, { "type": "portmap", "backend": "nftables", "capabilities": { "portMappings": true } }],
    });
    let mut text = format!("{list:#}").into_bytes();
    text.push(b'\n');
    text
}
