//! Which modules and sysctls the machine needs.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use machine::config::{Cni, Config, KernelModule, OverlayBackend, ProxyMode};

use crate::plan::{Missing, Plan};

#[derive(Debug, Clone, Default, PartialEq)]
pub struct Seen {
    pub config: Option<Arc<Config>>,
    pub loaded: BTreeSet<String>,
    /// What the kernel says now of each wanted sysctl; none where it has no such.
    pub values: BTreeMap<String, Option<String>>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Action {
    Load(KernelModule),
    Set { name: String, value: String },
}

/// One action with all that is to do, modules first: some sysctls come with them.
pub fn plan(seen: &Seen) -> Plan<Vec<Action>> {
    let Some(config) = &seen.config else { return Plan::Waiting(vec![Missing::new("machine config")]) };
    let unloaded = modules(config).into_iter().filter(|module| !seen.loaded.contains(&module.name));
    let mut actions: Vec<Action> = unloaded.map(Action::Load).collect();
    for (name, value) in sysctls(config) {
        let current = seen.values.get(&name).cloned().flatten();
        if current.as_deref().map(words) != Some(words(&value)) {
            actions.push(Action::Set { name, value });
        }
    }
    if actions.is_empty() { Plan::Settled } else { Plan::Act(vec![actions]) }
}

/// The kernel separates several numbers by tabs, people by spaces.
fn words(value: &str) -> Vec<&str> {
    value.split_whitespace().collect()
}

/// Bridged packets have to pass the rules of Services (br_netfilter), and conntrack has to be there before its limits are set.
const MODULES: [&str; 3] = ["overlay", "br_netfilter", "nf_conntrack"];
const IPVS_MODULES: [&str; 4] = ["ip_vs", "ip_vs_rr", "ip_vs_wrr", "ip_vs_sh"];

/// Ours, and then the config's, whose parameters count where both name one.
pub fn modules(config: &Config) -> Vec<KernelModule> {
    let network = &config.cluster.network;
    let ipvs = network.proxy.mode == ProxyMode::Ipvs;
    let overlay = match network.overlay.backend {
        OverlayBackend::Vxlan | OverlayBackend::HostGateway => "vxlan",
        OverlayBackend::Wireguard => "wireguard",
    };
    let overlay = (network.cni == Cni::Overlay).then_some(overlay);
    let users = &config.machine.kernel.modules;
    let ours = MODULES.into_iter().chain(IPVS_MODULES.into_iter().filter(|_| ipvs)).chain(overlay);
    let ours = ours.filter(|name| !users.iter().any(|module| module.name == *name));
    let ours = ours.map(|name| KernelModule { name: name.to_owned(), parameters: Vec::new() });
    ours.chain(users.iter().cloned()).collect()
}

const SYSCTLS: [(&str, &str); 15] = [
    // What the kubelet demands (protectKernelDefaults); it would set them itself otherwise.
    ("kernel.keys.root_maxbytes", "25000000"),
    ("kernel.keys.root_maxkeys", "1000000"),
    ("kernel.panic", "10"),
    ("kernel.panic_on_oops", "1"),
    ("vm.overcommit_memory", "1"),
    ("vm.panic_on_oom", "0"),
    // Pods watch files, open sockets and fork more than the defaults of one machine allow.
    ("fs.inotify.max_user_instances", "8192"),
    ("fs.inotify.max_user_watches", "524288"),
    ("kernel.pid_max", "4194304"),
    ("net.core.somaxconn", "4096"),
    // The path of packets between pods, and from pods to elsewhere.
    ("net.bridge.bridge-nf-call-iptables", "1"),
    ("net.ipv4.ip_forward", "1"),
    // What kube-proxy would set by its own defaults, but has no right to.
    ("net.netfilter.nf_conntrack_max", "262144"),
    ("net.netfilter.nf_conntrack_tcp_timeout_close_wait", "3600"),
    ("net.netfilter.nf_conntrack_tcp_timeout_established", "86400"),
];

const SYSCTLS_V6: [(&str, &str); 2] = [("net.bridge.bridge-nf-call-ip6tables", "1"), ("net.ipv6.conf.all.forwarding", "1")];

/// Ours, and the config's over them.
pub fn sysctls(config: &Config) -> BTreeMap<String, String> {
    let v6 = config.cluster.network.pod_cidrs.iter().any(|network| network.addr().is_ipv6());
    let ours = SYSCTLS.into_iter().chain(SYSCTLS_V6.into_iter().filter(|_| v6));
    let mut all: BTreeMap<String, String> = ours.map(|(name, value)| (name.to_owned(), value.to_owned())).collect();
    all.extend(config.machine.kernel.sysctls.clone());
    all
}

#[cfg(test)]
mod tests;
