//! What the machine knows of its cluster: certificates, API servers, its own Node.

use std::collections::BTreeMap;
use std::net::SocketAddr;

use ipnet::IpNet;
use machine::config::Taint;
use serde::{Deserialize, Serialize};

use crate::store::{Resource, Store};

/// A certificate that this machine keeps, named as in controlplane's table.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Certificate {
    pub subject: String,
    pub organizations: Vec<String>,
    /// Common name of who signed it.
    pub authority: String,
    /// SHA-256 of that one's certificate.
    #[serde(default)]
    pub authority_fingerprint: String,
    pub sans: Vec<String>,
    /// RFC 3339, UTC.
    pub not_before: String,
    pub not_after: String,
    /// When it will be renewed.
    pub renewal: String,
    /// SHA-256 of the certificate.
    pub fingerprint: String,
}

/// An API server as the balancer sees it, named by its address.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ApiServer {
    pub address: SocketAddr,
    /// It answered its last /readyz with 200.
    pub ready: bool,
    /// Whether it runs on this machine.
    pub local: bool,
    /// Why it is not ready; empty when it is.
    pub error: String,
}

/// This machine's Node, named by its name.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct NodeStatus {
    /// Condition Ready is True.
    pub ready: bool,
    /// Condition type to status: True, False or Unknown.
    pub conditions: BTreeMap<String, String>,
    /// What the kubelet says about Ready.
    pub message: String,
    #[serde(rename = "podCIDRs")]
    pub pod_cidrs: Vec<IpNet>,
    /// `InternalIP 192.0.2.10` each.
    pub addresses: Vec<String>,
    pub labels: BTreeMap<String, String>,
    /// Those labels that Corten put there.
    pub owned_labels: Vec<String>,
    pub taints: Vec<Taint>,
    /// Those taints that Corten put there, as it wrote them down.
    pub owned_taints: String,
    pub kubelet_version: String,
}

/// A container image archive of the root, named by the image.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ImageStatus {
    /// Whether containerd has it.
    pub imported: bool,
}

impl Resource for Certificate {
    const KIND: &'static str = "certificates";
}
impl Resource for ApiServer {
    const KIND: &'static str = "apiservers";
}
impl Resource for NodeStatus {
    const KIND: &'static str = "nodes";
}
impl Resource for ImageStatus {
    const KIND: &'static str = "imagearchives";
}

impl ApiServer {
    /// Whether any API server can be used.
    pub fn any_ready(store: &Store) -> bool {
        store.all::<ApiServer>().values().any(|server| server.ready)
    }

    /// Whether this machine's own can.
    pub fn local_ready(store: &Store) -> bool {
        store.all::<ApiServer>().values().any(|server| server.local && server.ready)
    }
}
