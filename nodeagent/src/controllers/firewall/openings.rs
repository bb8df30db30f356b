//! What may come in: what the cluster needs of the machine, and what the config allows besides.

use api::PORT as MACHINE_API_PORT;
use controlplane::ports::{API_SERVER_PORT, ETCD_CLIENT_PORT, ETCD_PEER_PORT, METRICS_API_PORT};
use ipnet::IpNet;
use machine::config::{AllowProtocol, Cni, Config, OverlayBackend, ProxyMode, Role};

use crate::controllers::{kube_proxy, kubelet};
use crate::resources::network::FirewallRule;

/// Where kube-apiserver takes ports of Services from (its flag service-node-port-range).
const NODE_PORTS: (u16, u16) = (30000, 32767);

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Opening {
    pub name: String,
    /// None: whatever there is.
    pub protocol: Option<AllowProtocol>,
    /// From and to, both among them; none: all.
    pub ports: Option<(u16, u16)>,
    pub from: Origin,
    pub purpose: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Origin {
    Anywhere,
    /// The cluster's machines, as the API server has them.
    Nodes,
    Networks(Vec<IpNet>),
}

impl Opening {
    /// As users see it, by its name.
    pub fn told(&self) -> (String, FirewallRule) {
        let from = match &self.from {
            Origin::Anywhere => vec!["anywhere".to_owned()],
            Origin::Nodes => vec!["nodes".to_owned()],
            Origin::Networks(networks) => networks.iter().map(ToString::to_string).collect(),
        };
        let protocol = self.protocol.map_or_else(|| "any".to_owned(), |protocol| protocol.to_string());
        (self.name.clone(), FirewallRule { protocol, ports: range(self.ports), from, purpose: self.purpose.to_owned() })
    }
}

fn range(ports: Option<(u16, u16)>) -> String {
    match ports {
        None => "all".to_owned(),
        Some((first, last)) if first == last => first.to_string(),
        Some((first, last)) => format!("{first}-{last}"),
    }
}

pub fn openings(config: &Config) -> Vec<Opening> {
    let mut all = vec![
        everything("pods", Origin::Networks(config.cluster.network.pod_cidrs.clone()), "pods reach the machine"),
        everything("nodes", Origin::Nodes, "the cluster's machines reach each other, and carry their pods' packets"),
    ];
    let firewall = &config.machine.network.firewall;
    if !firewall.machines.is_empty() {
        let networks = Origin::Networks(firewall.machines.clone());
        all.push(everything("machines", networks, "machine.network.firewall.machines"));
    }
    all.extend(needed(config).into_iter().filter(|(whose, _)| *whose == Whose::All || firewall.machines.is_empty()).map(|(_, one)| one));
    for (index, allow) in firewall.allow.iter().enumerate() {
        let from = if allow.from.is_empty() { Origin::Anywhere } else { Origin::Networks(allow.from.clone()) };
        let name = format!("allow-{index}");
        all.push(Opening { name, protocol: Some(allow.protocol), ports: allow.ports(), from, purpose: "machine.network.firewall.allow" });
    }
    all
}

fn everything(name: &str, from: Origin, purpose: &'static str) -> Opening {
    Opening { name: name.to_owned(), protocol: None, ports: None, from, purpose }
}

/// Who needs a port.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Whose {
    All,
    /// The cluster's machines. Each of these asks for a certificate; a machine that joins needs them before it is a Node that others know.
    Machines,
}

fn needed(config: &Config) -> Vec<(Whose, Opening)> {
    use AllowProtocol::{Sctp, Tcp, Udp};
    let mut ports = vec![
        (Whose::All, "machine-api", Tcp, (MACHINE_API_PORT, MACHINE_API_PORT), "machine API"),
        (Whose::Machines, "kubelet", Tcp, (kubelet::PORT, kubelet::PORT), "API servers ask the kubelet for logs and metrics"),
    ];
    if config.machine.role == Role::ControlPlane {
        ports.extend([
            (Whose::All, "kubernetes-api", Tcp, (API_SERVER_PORT, API_SERVER_PORT), "Kubernetes API"),
            (Whose::Machines, "etcd", Tcp, (ETCD_CLIENT_PORT, ETCD_PEER_PORT), "etcd's clients and members"),
            (Whose::Machines, "metrics-api", Tcp, (METRICS_API_PORT, METRICS_API_PORT), "API servers ask for metrics.k8s.io"),
        ]);
    }
    let network = &config.cluster.network;
    if network.proxy.mode != ProxyMode::None {
        let health = (kube_proxy::HEALTH_PORT, kube_proxy::HEALTH_PORT);
        ports.push((Whose::All, "proxy-health", Tcp, health, "load balancers ask kube-proxy whether it is well"));
        let node_ports = node_ports(config);
        for (name, protocol) in [("node-ports-tcp", Tcp), ("node-ports-udp", Udp), ("node-ports-sctp", Sctp)] {
            ports.push((Whose::All, name, protocol, node_ports, "Services of type NodePort, and their health checks"));
        }
    }
    // VXLAN knows no senders: its packets are taken from nodes alone.
    if network.cni == Cni::Overlay && network.overlay.backend == OverlayBackend::Wireguard {
        // IPv6 has a port of its own, the next one.
        let both = (network.overlay.port, network.overlay.port.saturating_add(1));
        ports.push((Whose::Machines, "wireguard", Udp, both, "pods' packets of other machines"));
    }
    let opening = |(whose, name, protocol, ports, purpose): (Whose, &str, AllowProtocol, (u16, u16), &'static str)| {
        (whose, Opening { name: name.to_owned(), protocol: Some(protocol), ports: Some(ports), from: Origin::Anywhere, purpose })
    };
    ports.into_iter().map(opening).collect()
}

/// `30000-32767`, `30000+2767` or one port, as kube-apiserver reads its flag (apimachinery, net.ParsePortRange).
fn node_ports(config: &Config) -> (u16, u16) {
    let read = |text: &String| {
        let port = |text: &str| text.trim().parse::<u16>().ok();
        if let Some((first, last)) = text.split_once('-') {
            return Some((port(first)?, port(last)?));
        }
        if let Some((first, more)) = text.split_once('+') {
            let first = port(first)?;
            return Some((first, first.saturating_add(port(more)?)));
        }
        port(text).map(|only| (only, only))
    };
    let given = config.cluster.api_server.extra_args.get("service-node-port-range").and_then(read);
    given.filter(|(first, last)| first <= last).unwrap_or(NODE_PORTS)
}
