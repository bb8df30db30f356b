//! Which API servers are balanced.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, SocketAddr};

use controlplane::ports::API_SERVER_PORT;
use machine::config::{Config, HostPort};

use crate::controllers::machine::Machine;
use crate::plan::{Missing, Plan};

/// An API server to watch.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Target {
    pub address: SocketAddr,
    /// It runs on this machine.
    pub local: bool,
}

#[derive(Debug)]
pub struct Seen {
    pub machine: Result<Machine, Vec<Missing>>,
    /// The agent's certificate for the Kubernetes API is there.
    pub identity: bool,
    /// Of those that the config names; a name that was not found has none.
    pub addresses: BTreeMap<HostPort, Vec<IpAddr>>,
    /// Those that are members of the cluster, as far as this machine has heard.
    pub members: BTreeSet<SocketAddr>,
    pub listening: bool,
    pub checked: BTreeSet<Target>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Action {
    Listen,
    Check(Target),
    Forget(Target),
}

pub fn plan(seen: &Seen) -> Plan<Action> {
    let machine = match &seen.machine {
        Ok(machine) if seen.identity => machine,
        Ok(_) => return Plan::Waiting(vec![Missing::new("certificate agent")]),
        Err(missing) => return Plan::Waiting(missing.clone()),
    };
    let wanted = targets(machine, &seen.addresses, &seen.members);
    let mut actions: Vec<Action> = seen.checked.difference(&wanted).cloned().map(Action::Forget).collect();
    actions.extend(wanted.difference(&seen.checked).cloned().map(Action::Check));
    if !seen.listening {
        actions.push(Action::Listen);
    }
    if actions.is_empty() && wanted.is_empty() {
        return Plan::Waiting(vec![Missing::new("an address of an API server")]);
    }
    Plan::from_actions(actions)
}

/// What the config names: control planes by their agents' addresses, and the endpoint.
pub fn named(config: &Config) -> BTreeSet<HostPort> {
    let agents = config.cluster.control_planes.iter().filter_map(|agent| agent.parse::<HostPort>().ok());
    let servers = agents.map(|agent| HostPort { port: API_SERVER_PORT, ..agent });
    servers.chain(HostPort::of_https(&config.cluster.endpoint).ok()).collect()
}

/// This machine's own on a control plane, the addresses of those that the config names, and the members of the cluster.
fn targets(machine: &Machine, addresses: &BTreeMap<HostPort, Vec<IpAddr>>, members: &BTreeSet<SocketAddr>) -> BTreeSet<Target> {
    let Machine { config, facts } = machine;
    let is_own = |ip: &IpAddr| facts.node_ips.contains(ip) || ip.is_loopback();
    let servers = named(config).into_iter().flat_map(|server| {
        let ips = addresses.get(&server).cloned().unwrap_or_default();
        ips.into_iter().map(move |ip| SocketAddr::new(ip, server.port))
    });
    let remote =
        servers.chain(members.iter().copied()).filter(|address| !is_own(&address.ip())).map(|address| Target { address, local: false });
    let local = machine.is_control_plane().then(|| Target { address: SocketAddr::from(([127, 0, 0, 1], API_SERVER_PORT)), local: true });
    remote.chain(local).collect()
}

#[cfg(test)]
mod tests;
