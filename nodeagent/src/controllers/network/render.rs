//! The files that name the machine and its name servers.

use std::collections::BTreeMap;
use std::path::PathBuf;

use machine::Root;

use crate::resources::network::{NodeIps, Resolvers};

/// A file that this controller writes, mode 0644.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum File {
    Hostname,
    Hosts,
    ResolvConf,
}

impl File {
    pub const ALL: [File; 3] = [File::Hostname, File::Hosts, File::ResolvConf];

    pub fn path(self, root: &Root) -> PathBuf {
        match self {
            File::Hostname => root.hostname(),
            File::Hosts => root.hosts(),
            File::ResolvConf => root.resolv_conf(),
        }
    }
}

pub fn files(hostname: &str, resolvers: &Resolvers, node_ips: &NodeIps) -> BTreeMap<File, String> {
    BTreeMap::from([
        (File::Hostname, format!("{hostname}\n")),
        (File::Hosts, hosts(hostname, node_ips)),
        (File::ResolvConf, resolv_conf(resolvers)),
    ])
}

fn hosts(hostname: &str, node_ips: &NodeIps) -> String {
    let mut text = String::from("127.0.0.1 localhost\n::1 localhost ip6-localhost ip6-loopback\n");
    for ip in &node_ips.addresses {
        text.push_str(&format!("{ip} {hostname}\n"));
    }
    text
}

/// Three name servers at most: resolv.conf(5) has readers ignore the rest, and the kubelet warns of them.
fn resolv_conf(resolvers: &Resolvers) -> String {
    resolvers.nameservers.iter().take(3).map(|server| format!("nameserver {server}\n")).collect()
}
