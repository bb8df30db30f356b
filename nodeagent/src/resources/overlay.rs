//! What the machine knows of the other Nodes of its cluster, and how the overlay reaches them.

use std::collections::BTreeMap;
use std::net::IpAddr;

use ipnet::IpNet;
use serde::{Deserialize, Serialize};

use super::public_key::PublicKey;
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
    /// New pods may come: it is not cordoned, and has no taint that keeps those off that do not tolerate it.
    #[serde(default)]
    pub schedulable: bool,
    /// It has the soft taint of nodes under pressure.
    #[serde(default)]
    pub pressure_taint: bool,
    /// Pressure that its agent tells of, in the Node's conditions.
    #[serde(default)]
    pub pressures: Vec<ToldPressure>,
    /// What it tells of its end of the overlay; none before it told any.
    pub announcement: Option<Announcement>,
    /// Why that cannot be used; empty when it can.
    pub problem: String,
}

/// A condition of pressure that is True.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ToldPressure {
    /// `cpu`, `memory` or `io`.
    pub resource: String,
    /// Seconds since 1970, by the Node's clock: when it began, and when its agent told of it last.
    pub since: i64,
    pub heard: i64,
}

/// How a Node wants to be sent the packets of its pods.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Announcement {
    /// `vxlan`, `wireguard`, `host-gw`, or what another implementation speaks.
    pub backend: String,
    /// At most one a family, IPv4 first.
    pub ends: Vec<TunnelEnd>,
}

/// Where a Node takes packets for its pods, in one family.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct TunnelEnd {
    pub address: IpAddr,
    /// How packets are wrapped; none where it takes them as they are, from machines on its link.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tunnel: Option<Tunnel>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Tunnel {
    Vxlan(VxlanEnd),
    Wireguard(WireguardEnd),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct VxlanEnd {
    /// Hardware address of the device that packets come out of.
    pub hardware_address: HardwareAddress,
    pub vni: u32,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct WireguardEnd {
    pub public_key: PublicKey,
    /// UDP; none where it tells none, and means that of whoever reads it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub port: Option<u16>,
}

/// This machine's own end for one family, named by its device.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct OverlayStatus {
    pub backend: String,
    pub address: IpAddr,
    /// Of a VXLAN device.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hardware_address: Option<HardwareAddress>,
    /// Of a WireGuard device, once it has one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub public_key: Option<PublicKey>,
    pub port: u16,
    /// Of pods.
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
    /// How packets go to it, where they do: `vxlan`, `wireguard`, or `direct` over a shared link.
    #[serde(default)]
    pub by: String,
    pub state: PeerState,
    /// What is missing or wrong; empty when nothing is.
    pub message: String,
}

/// How packets fare on the way to another Node and back, named by its name: of the last tries, sixteen at most.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct OverlayPath {
    pub tries: u32,
    /// Of the tries that had no answer within a second, in percent.
    pub loss_percent: u32,
    /// There and back, the middle one of those that had an answer, to two digits; none where none had.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub latency_micros: Option<u64>,
    /// The worst of them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub worst_micros: Option<u64>,
    /// What the last try without an answer met; empty when the last one had one.
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
impl Resource for OverlayPath {
    const KIND: &'static str = "overlaypaths";
}
