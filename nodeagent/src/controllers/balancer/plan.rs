//! Which API servers are balanced.

use std::collections::BTreeSet;
use std::net::SocketAddr;

use controlplane::Facts;
use controlplane::ports::API_SERVER_PORT;
use machine::config::{Config, Host, HostPort, Role};

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
    let wanted = targets(&machine.config, &machine.facts);
    let mut actions: Vec<Action> = seen.checked.difference(&wanted).cloned().map(Action::Forget).collect();
    actions.extend(wanted.difference(&seen.checked).cloned().map(Action::Check));
    if !seen.listening {
        actions.push(Action::Listen);
    }
    Plan::from_actions(actions)
}

/// This machine's own on a control plane, and those that the config names: control planes by their agents' addresses, and the endpoint. Names
/// are left out: they may lead to a load balancer that leads back here, and the addresses behind them come with the cluster itself.
fn targets(config: &Config, facts: &Facts) -> BTreeSet<Target> {
    let agents = config.cluster.control_planes.iter().filter_map(|agent| agent.parse::<HostPort>().ok());
    let servers = agents.map(|agent| HostPort { port: API_SERVER_PORT, ..agent });
    let endpoint = HostPort::of_https(&config.cluster.endpoint).ok();
    let addresses = servers.chain(endpoint).filter_map(|server| match server.host {
        Host::Address(ip) => Some(SocketAddr::new(ip, server.port)),
        Host::Name(_) => None,
    });
    let is_own = |address: &SocketAddr| facts.node_ips.contains(&address.ip()) || address.ip().is_loopback();
    let mut targets: BTreeSet<Target> =
        addresses.filter(|address| !is_own(address)).map(|address| Target { address, local: false }).collect();
    if config.machine.role == Role::ControlPlane {
        targets.insert(Target { address: SocketAddr::from(([127, 0, 0, 1], API_SERVER_PORT)), local: true });
    }
    targets
}

#[cfg(test)]
mod tests;
