//! What the machine has of a network beside its links: addresses, routes, leases, resolvers, its name and its node IPs.

use std::net::IpAddr;

use ipnet::IpNet;
use machine::config::MAIN_TABLE;
use serde::{Deserialize, Serialize};

use crate::store::Resource;

/// An address of a link, named `<link>/<address>`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Address {
    pub link: String,
    pub address: IpNet,
    /// Whether Corten's network controller put it there.
    pub owned: bool,
    #[serde(default)]
    pub state: AddressState,
}

/// Whether the kernel uses an address, in its own words. Of IPv4 it uses all.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum AddressState {
    #[default]
    Usable,
    /// The kernel looks whether another machine has it (RFC 4862, 5.4), or waits for a carrier to do so.
    Tentative,
    /// Another machine has it.
    Dadfailed,
}

/// An address of a link that another machine has too, named `<link>/<address>`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Duplicate {
    pub link: String,
    pub address: IpAddr,
    /// The other machine's; empty where the kernel found it, which does not say whose it is.
    pub hardware_address: String,
    /// Whether this machine uses it all the same.
    pub used: bool,
}

/// A route of the main table, or one of Corten's in another, named `<link>/<destination>/<next hop>`, with `@<table>` behind that.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Route {
    pub link: String,
    pub to: IpNet,
    pub via: Option<IpAddr>,
    pub metric: u32,
    /// The kernel's number; 254 is the main one.
    pub table: u32,
    pub owned: bool,
}

/// What a DHCP server gave to a link, named by the link.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Lease {
    pub address: IpNet,
    pub routes: Vec<LeaseRoute>,
    pub nameservers: Vec<IpAddr>,
    pub time_servers: Vec<IpAddr>,
    pub hostname: Option<String>,
    pub mtu: Option<u16>,
    pub server: IpAddr,
    pub seconds: u32,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct LeaseRoute {
    pub to: IpNet,
    pub via: Option<IpAddr>,
}

/// Name servers that routers on a link tell of, named by the link.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct AdvertisedResolvers {
    pub nameservers: Vec<IpAddr>,
}

/// The name servers in force; one object, `resolvers`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Resolvers {
    pub nameservers: Vec<IpAddr>,
}

/// The machine's own name server, while it listens; one object, `local`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct LocalResolver {
    pub addresses: Vec<IpAddr>,
}

/// The machine's name; one object, `hostname`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Hostname {
    pub hostname: String,
    /// `config`, `dhcp` or `machineId`.
    pub source: String,
}

/// The addresses under which Kubernetes knows the machine, at most one a family; one object, `node`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct NodeIps {
    pub addresses: Vec<IpAddr>,
}

/// What may come in from outside, named by what it is for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct FirewallRule {
    /// `tcp`, `udp`, `sctp` or `any`.
    pub protocol: String,
    /// A port, `<first>-<last>` or `all`.
    pub ports: String,
    /// Networks, `nodes` or `anywhere`.
    pub from: Vec<String>,
    /// Why it is open: what needs it, or the field of the machine config.
    pub purpose: String,
}

/// A socket that waits for others to speak, named `<protocol>/<address>:<port>`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Socket {
    /// `tcp` or `udp`.
    pub protocol: String,
    pub address: IpAddr,
    pub port: u16,
    /// Who has it open; none where it is the kernel's own.
    pub pid: Option<u32>,
    pub program: String,
    /// A service, or `pod <uid>`; empty for others.
    pub owner: String,
}

/// A machine on a link, named `<link>/<address>`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Neighbour {
    pub link: String,
    pub address: IpAddr,
    /// Empty while it is not known.
    pub hardware_address: String,
    /// The kernel's word: `reachable`, `stale`, `failed`, `permanent`, ...
    pub state: String,
}

/// As `52:54:00:12:34:56`.
pub fn hardware_address(bytes: &[u8]) -> String {
    let octets: Vec<String> = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
    octets.join(":")
}

impl Resource for Socket {
    const KIND: &'static str = "sockets";
}
impl Resource for Neighbour {
    const KIND: &'static str = "neighbours";
}
impl Resource for FirewallRule {
    const KIND: &'static str = "firewallrules";
}
impl Resource for Address {
    const KIND: &'static str = "addresses";
}
impl Resource for AdvertisedResolvers {
    const KIND: &'static str = "advertisedresolvers";
}
impl Resource for Duplicate {
    const KIND: &'static str = "duplicates";
}
impl Resource for Route {
    const KIND: &'static str = "routes";
}
impl Resource for Lease {
    const KIND: &'static str = "leases";
}
impl Resource for Resolvers {
    const KIND: &'static str = "resolvers";
}
impl Resource for LocalResolver {
    const KIND: &'static str = "localresolvers";
}
impl Resource for Hostname {
    const KIND: &'static str = "hostnames";
}
impl Resource for NodeIps {
    const KIND: &'static str = "nodeips";
}

impl Resolvers {
    pub const NAME: &'static str = "resolvers";
}
impl LocalResolver {
    pub const NAME: &'static str = "local";
}
impl Hostname {
    pub const NAME: &'static str = "hostname";
}
impl NodeIps {
    pub const NAME: &'static str = "node";
}

impl Address {
    pub fn name(&self) -> String {
        format!("{}/{}", self.link, self.address)
    }

    /// The link and the address, whatever its network is.
    pub fn key(&self) -> (String, IpAddr) {
        (self.link.clone(), self.address.addr())
    }

    /// As it is asked for.
    pub fn without_state(&self) -> Address {
        Address { state: AddressState::default(), ..self.clone() }
    }
}

impl Duplicate {
    pub fn name(&self) -> String {
        format!("{}/{}", self.link, self.address)
    }

    /// As [`Address::key`].
    pub fn key(&self) -> (String, IpAddr) {
        (self.link.clone(), self.address)
    }
}

impl Route {
    pub fn name(&self) -> String {
        let via = self.via.map(|via| format!("/{via}")).unwrap_or_default();
        let table = if self.table == MAIN_TABLE { String::new() } else { format!("@{}", self.table) };
        format!("{}/{}{via}{table}", self.link, self.to)
    }
}
