//! Which packets the machine takes from outside (`machine.network.firewall`).

use std::fmt;

use ipnet::IpNet;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::cluster::{ClusterNetwork, Cni, ProxyMode};
use super::value::Cidr;

/// What the machine takes from outside. What pods send, and what is for them, is not its business.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct Firewall {
    /// What becomes of connections that neither the cluster needs nor `allow` names. Default: deny; accept where `cluster.network.cni` is none or
    /// kube-proxy is in mode ipvs, whose ports only you know.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub default: Option<FirewallDefault>,
    /// What may come in besides what the cluster needs. Default: nothing.
    pub allow: Vec<Allow>,
    /// Networks that the cluster's machines are in. Given, ports that only they need (etcd, kubelet, WireGuard, metrics API) are open to these
    /// networks and the cluster's Nodes alone, which may connect to every port. Default: those ports are open to all.
    #[schemars(with = "Vec<Cidr>")]
    pub machines: Vec<IpNet>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub enum FirewallDefault {
    /// They are refused.
    Deny,
    /// They are taken: there is no firewall.
    Accept,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Allow {
    /// Default: tcp.
    #[serde(default)]
    pub protocol: AllowProtocol,
    /// The port, or the first one of a range. Default: every port.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub port: Option<u16>,
    /// The last port of a range. Default: the same as `port`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub end_port: Option<u16>,
    /// Networks that it may come from. Default: anywhere.
    #[serde(default)]
    #[schemars(with = "Vec<Cidr>")]
    pub from: Vec<IpNet>,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub enum AllowProtocol {
    #[default]
    Tcp,
    Udp,
    Sctp,
}

impl fmt::Display for AllowProtocol {
    /// As nftables calls it, and everybody else.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            AllowProtocol::Tcp => "tcp",
            AllowProtocol::Udp => "udp",
            AllowProtocol::Sctp => "sctp",
        })
    }
}

impl Firewall {
    /// What is in force. With a network of somebody else's, pods' packets may have any address, and come over any link; kube-proxy's mode ipvs
    /// gives the machine the addresses of Services.
    pub fn default_for(&self, network: &ClusterNetwork) -> FirewallDefault {
        let foreign = network.cni == Cni::None || network.proxy.mode == ProxyMode::Ipvs;
        self.default.unwrap_or(if foreign { FirewallDefault::Accept } else { FirewallDefault::Deny })
    }
}

impl Allow {
    /// From and to, both among them; none: every port.
    pub fn ports(&self) -> Option<(u16, u16)> {
        self.port.map(|port| (port, self.end_port.unwrap_or(port)))
    }
}
