//! flannel's daemon on machines of tests: `components/flannel`. The link to the others is `eth0`.

use std::process::Command;

use serde_json::json;

use crate::components::component;
use crate::controllers::namespace::Namespace;
use crate::controllers::program::Program;

/// Of clusters in tests and benchmarks.
const NETWORK: &str = "10.244.0.0/16";
/// As its machine finds it in a real cluster: an address that the certificate has.
pub const API_SERVER: &str = "https://192.0.2.10:6443";

/// A machine for it, on the link of a real cluster's machine: that is a bridge.
pub fn machine(cluster: &Namespace, address: &str) -> Namespace {
    let machine = Namespace::new();
    cluster.run(&format!("ip link add port0 type veth peer name eth0 netns {}", machine.pid()));
    cluster.run("ip link set port0 master eth0 up");
    for line in ["ip link set lo up", "ip link set eth0 up"] {
        machine.run(line);
    }
    machine.run(&format!("ip address add {address}/24 dev eth0"));
    machine
}

/// As its DaemonSet runs it: leases are in the cluster's Nodes, of which this is one.
pub fn of_a_cluster(host: &Namespace, node: &str, backend: &str, kubeconfig: &str) -> anyhow::Result<Program> {
    let directory = tempfile::tempdir()?;
    let (access, network) = (directory.path().join("kubeconfig"), directory.path().join("net-conf.json"));
    std::fs::write(&access, kubeconfig)?;
    std::fs::write(&network, json!({ "Network": NETWORK, "EnableNFTables": true, "Backend": { "Type": backend } }).to_string())?;
    let mut command = command(host);
    command.arg("-ip-masq").arg("-kubeconfig-file").arg(access).arg("-net-config-path").arg(network);
    Program::start(command.env("NODE_NAME", node), directory)
}

/// What it reads in an etcd.
pub fn network_in_etcd() -> String {
    json!({ "Network": NETWORK, "Backend": { "Type": "vxlan", "VNI": 1, "Port": 8472 } }).to_string()
}

/// Leases are in an etcd; this one's is that of the subnet.
pub fn with_etcd(host: &Namespace, url: &str, subnet: &str) -> anyhow::Result<Program> {
    Program::start(command(host).args(["-etcd-endpoints", url, "-subnet", subnet]), tempfile::tempdir()?)
}

/// It makes rules by nft.
fn command(host: &Namespace) -> Command {
    let mut command = host.command(component("flannel/bin/flanneld"));
    command.env_clear().env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin").args(["-iface", "eth0"]);
    command
}
