//! The files that name the machine and its name servers.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::path::PathBuf;

use ipnet::IpNet;
use machine::Root;

use crate::resources::network::{LocalResolver, NodeIps, Resolvers};

/// A file that this controller writes, mode 0644.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum File {
    Hostname,
    Hosts,
    ResolvConf,
    /// Of pods that ask as the machine does: those of the cluster's DNS.
    PodsResolvConf,
}

impl File {
    pub const ALL: [File; 4] = [File::Hostname, File::Hosts, File::ResolvConf, File::PodsResolvConf];

    pub fn path(self, root: &Root) -> PathBuf {
        match self {
            File::Hostname => root.hostname(),
            File::Hosts => root.hosts(),
            File::ResolvConf => root.resolv_conf(),
            File::PodsResolvConf => root.pods_resolv_conf(),
        }
    }
}

/// Whom programs and pods ask for names.
#[derive(Debug, Clone, Copy)]
pub struct NameServers<'a> {
    /// In force.
    pub outside: &'a Resolvers,
    /// The machine's own, while it listens.
    pub local: Option<&'a LocalResolver>,
    pub pods: &'a [IpNet],
}

pub fn files(hostname: &str, servers: NameServers<'_>, node_ips: &NodeIps) -> BTreeMap<File, String> {
    BTreeMap::from([
        (File::Hostname, format!("{hostname}\n")),
        (File::Hosts, hosts(hostname, node_ips)),
        (File::ResolvConf, hosts_resolv_conf(servers)),
        (File::PodsResolvConf, pods_resolv_conf(servers)),
    ])
}

fn hosts(hostname: &str, node_ips: &NodeIps) -> String {
    let mut text = String::from("127.0.0.1 localhost\n::1 localhost ip6-localhost ip6-loopback\n");
    for ip in &node_ips.addresses {
        text.push_str(&format!("{ip} {hostname}\n"));
    }
    text
}

/// The machine's own first; those outside are asked where it gives no answer, as while the agent begins anew.
fn hosts_resolv_conf(servers: NameServers<'_>) -> String {
    let local = servers.local.and_then(|local| local.addresses.first());
    resolv_conf(local.into_iter().chain(&servers.outside.nameservers))
}

/// The machine's own alone, as far as pods reach it: what asks several asks them in any order, and only one knows the cluster's machines.
fn pods_resolv_conf(servers: NameServers<'_>) -> String {
    let reached = |address: &&IpAddr| servers.pods.iter().any(|pods| pods.addr().is_ipv4() == address.is_ipv4());
    let local: Vec<&IpAddr> = servers.local.iter().flat_map(|local| &local.addresses).filter(reached).collect();
    if local.is_empty() { hosts_resolv_conf(servers) } else { resolv_conf(local) }
}

/// Three name servers at most: resolv.conf(5) has readers ignore the rest, and the kubelet warns of them.
fn resolv_conf<'a>(servers: impl IntoIterator<Item = &'a IpAddr>) -> String {
    servers.into_iter().take(3).map(|server| format!("nameserver {server}\n")).collect()
}
