//! kube-proxy's config (KubeProxyConfiguration, kubeproxy.config.k8s.io/v1alpha1).

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::Path;

use machine::config::{Config, ProxyMode};
use serde::Deserialize;
use serde_json::{Map, Value, json};

use crate::controllers::machine::Machine;
use crate::controllers::merge::layered;

/// Where metrics are served unless the user says otherwise; loopback only.
const METRICS: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 10249);

/// Where kube-proxy tells load balancers that it is well, on every address (upstream's default).
pub const HEALTH_PORT: u16 = 10256;

/// What users are told of that mode, as kube-proxy itself says when it starts (cmd/kube-proxy/app/server_linux.go).
pub const IPVS_DEPRECATED: &str =
    "proxy mode ipvs is deprecated upstream: off by default from Kubernetes 1.40 on, removed in 1.43; nftables takes its place";

pub const OOM_SCORE_ADJUST: i16 = -998;

pub fn config(machine: &Machine, kubeconfig: &Path) -> Map<String, Value> {
    let mut defaults = json!({
        "metricsBindAddress": METRICS,
        "enableProfiling": false,
        // The kernel controller sets these sysctls: kube-proxy would need root for the size of the hash table.
        "conntrack": {
            "maxPerCore": 0, "min": 0, "tcpEstablishedTimeout": "0s", "tcpCloseWaitTimeout": "0s", "udpTimeout": "0s", "udpStreamTimeout": "0s",
        },
    });
    if machine.facts.node_ips.first().is_some_and(IpAddr::is_ipv6) {
        // By it kube-proxy also knows which family comes first. Upstream's own is IPv4's.
        defaults["bindAddress"] = json!("::");
    }
    let network = &machine.config.cluster.network;
    if network.proxy.mode == ProxyMode::Ipvs && !network.load_balancer.pools.is_empty() {
        // In this mode every node has the addresses of Services: the kernels of all would answer for them.
        defaults["ipvs"] = json!({ "strictARP": true });
    }
    let owned = json!({
        "apiVersion": "kubeproxy.config.k8s.io/v1alpha1",
        "kind": "KubeProxyConfiguration",
        "mode": mode(&machine.config),
        "clientConnection": { "kubeconfig": kubeconfig },
        "clusterCIDR": machine.config.cluster.network.pod_cidrs.iter().map(ToString::to_string).collect::<Vec<_>>().join(","),
        "hostnameOverride": machine.facts.node_name,
        // init has set it already, and kube-proxy may not set any other.
        "oomScoreAdj": OOM_SCORE_ADJUST,
    });
    layered(defaults, &machine.config.cluster.network.proxy.config, owned)
}

/// Where this machine can ask for metrics: with them kube-proxy counts as ready.
pub fn metrics(config: &Map<String, Value>) -> SocketAddr {
    let bound = config.get("metricsBindAddress").and_then(Value::as_str).and_then(|address| address.parse().ok()).unwrap_or(METRICS);
    if bound.ip().is_unspecified() { SocketAddr::new(METRICS.ip(), bound.port()) } else { bound }
}

/// The mode that a config of kube-proxy's names; none where it is no such.
pub fn mode_of(config: &[u8]) -> Option<ProxyMode> {
    #[derive(Deserialize)]
    struct Mode {
        mode: ProxyMode,
    }
    let config = std::str::from_utf8(config).ok()?;
    serde_saphyr::from_str::<Mode>(config).ok().map(|config| config.mode)
}

fn mode(config: &Config) -> &'static str {
    match config.cluster.network.proxy.mode {
        ProxyMode::Nftables => "nftables",
        ProxyMode::Iptables => "iptables",
        ProxyMode::Ipvs => "ipvs",
        ProxyMode::None => "",
    }
}
