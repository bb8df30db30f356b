//! What the machine knows of the other Nodes of its cluster, and how the overlay reaches them.

use std::collections::BTreeMap;
use std::net::IpAddr;

use ipnet::IpNet;
use serde::{Deserialize, Serialize};

use crate::store::Resource;
use machine::HardwareAddress;

/// A Node of the cluster, as far as other machines have to know it; named by its name. This machine's own is among them, and comes last
/// when all are listed: with it on the board, all others are.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ClusterNode {
    /// When the Node was made, RFC 3339, UTC.
    pub created_at: String,
    /// Condition Ready is True.
    pub ready: bool,
    #[serde(rename = "podCIDRs")]
    pub pod_cidrs: Vec<IpNet>,
    /// Its InternalIP addresses.
    pub addresses: Vec<IpAddr>,
    #[serde(default)]
    pub labels: BTreeMap<String, String>,
    /// Its processors, in thousandths of a core.
    #[serde(default)]
    pub cpu_millis: u64,
    /// What it tells of its end of the overlay; none before it told any.
    pub announcement: Option<Announcement>,
    /// Why that cannot be used; empty when it can.
    pub problem: String,
}

/// How a Node wants to be sent the packets of its pods.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Announcement {
    /// `vxlan`, or what another implementation speaks.
    pub backend: String,
    /// At most one a family, IPv4 first.
    pub ends: Vec<TunnelEnd>,
}

/// One end of a VXLAN tunnel.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct TunnelEnd {
    /// Where tunnelled packets are sent to.
    pub address: IpAddr,
    /// Hardware address of the device that packets come out of.
    pub hardware_address: HardwareAddress,
    pub vni: u32,
}

/// This machine's own end for one family, named by its device.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct OverlayStatus {
    pub backend: String,
    pub address: IpAddr,
    pub hardware_address: HardwareAddress,
    pub port: u16,
    pub mtu: u32,
}

/// Another Node and how its pods are reached, named by its name.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct OverlayPeer {
    #[serde(rename = "podCIDRs")]
    pub pod_cidrs: Vec<IpNet>,
    /// Where its packets are sent to.
    pub addresses: Vec<IpAddr>,
    pub backend: String,
    pub state: PeerState,
    /// What is missing or wrong; empty when nothing is.
    pub message: String,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum PeerState {
    /// The kernel knows how to reach its pods.
    Connected,
    /// It has not told yet how to reach it.
    Waiting,
    /// What it tells must not be followed.
    Refused,
}

impl Resource for ClusterNode {
    const KIND: &'static str = "clusternodes";
}
impl Resource for OverlayStatus {
    const KIND: &'static str = "overlays";
}
impl Resource for OverlayPeer {
    const KIND: &'static str = "overlaypeers";
}
