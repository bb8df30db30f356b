//! What has to be written to Services of type LoadBalancer.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use machine::config::CloudProvider;

use super::allocate::{self, Share};
use super::choose::{self, Nodes};
use super::service::{Key, Service};
use super::view::State;
use crate::controllers::machine::Machine;
use crate::plan::{Missing, Plan};
use crate::resources::overlay::ClusterNode;

#[derive(Debug)]
pub struct Seen {
    pub machine: Result<Machine, Vec<Missing>>,
    pub may_write: bool,
    /// Whether this control plane is the one that sees to it; none: it was not asked.
    pub leads: Option<bool>,
    pub nodes: BTreeMap<String, ClusterNode>,
    pub cluster: State,
    /// The uids of Services that have addresses from here.
    pub assigned: BTreeMap<Key, String>,
    /// What each Service was told last of what it lacks, by its uid.
    pub told: BTreeMap<String, String>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Action {
    /// Puts these into its status, and who announces them.
    Set { service: Key, uid: String, addresses: Vec<IpAddr>, node: Option<String> },
    /// The same where it became one of another type: nothing of it stays.
    Clear { service: Key, uid: String },
    /// Tells whoever looks at it what it lacks; with an empty text, forgets that it lacked something.
    Tell { service: Key, uid: String, problem: String },
    /// Leaves it to another control plane.
    Leave,
}

impl Action {
    /// Whom it is about.
    pub fn service(&self) -> Option<&Key> {
        match self {
            Action::Set { service, .. } | Action::Clear { service, .. } | Action::Tell { service, .. } => Some(service),
            Action::Leave => None,
        }
    }
}

/// Whether this machine has a part in it.
pub fn wanted(machine: &Machine) -> bool {
    machine.is_control_plane() && !machine.config.cluster.network.load_balancer.pools.is_empty()
}

pub fn plan(seen: &Seen) -> Plan<Vec<Action>> {
    let machine = match &seen.machine {
        Ok(machine) => machine,
        Err(missing) => return Plan::Waiting(missing.clone()),
    };
    if !wanted(machine) || !seen.may_write {
        if seen.leads == Some(true) {
            return Plan::Act(vec![vec![Action::Leave]]);
        }
        let lacks = || Plan::Waiting(vec![Missing::new("this machine's API server, and manifests")]);
        return if wanted(machine) { lacks() } else { Plan::Settled };
    }
    if seen.leads != Some(true) {
        return Plan::Settled;
    }
    let Some(services) = &seen.cluster.services else { return Plan::Waiting(vec![Missing::new("Services of the cluster")]) };
    let cluster = &machine.config.cluster;
    let with_cloud = cluster.cloud_provider == CloudProvider::External;
    let taken: BTreeSet<IpAddr> = seen.nodes.values().flat_map(|node| node.addresses.iter().copied()).collect();
    let shares = allocate::allocate(&cluster.network.load_balancer, &taken, services, with_cloud);
    let cleared = seen.assigned.iter().filter(|(key, uid)| services.get(key).is_none_or(|service| service.uid != **uid));
    let cleared = cleared.map(|(key, uid)| Action::Clear { service: key.clone(), uid: uid.clone() });
    let actions = cleared.chain(shares.iter().flat_map(|(key, share)| of_service(seen, key, &services[key], share)));
    let actions: Vec<Action> = actions.collect();
    if actions.is_empty() { Plan::Settled } else { Plan::Act(vec![actions]) }
}

fn of_service(seen: &Seen, key: &Key, service: &Service, share: &Share) -> Vec<Action> {
    let (uid, mut actions) = (&service.uid, Vec::new());
    let told = seen.told.get(uid).map(String::as_str).unwrap_or_default();
    if told != share.problem {
        actions.push(Action::Tell { service: key.clone(), uid: uid.clone(), problem: share.problem.clone() });
    }
    if service.written_by.is_some() {
        return actions;
    }
    let node = match share.addresses.is_empty() {
        true => None,
        false => choose::choose(service, &share.addresses, nodes(seen), seen.cluster.endpoints(key).as_ref()),
    };
    if service.addresses != share.addresses || service.announcer != node || !service.plain {
        let addresses = share.addresses.clone();
        actions.push(Action::Set { service: key.clone(), uid: uid.clone(), addresses, node });
    }
    actions
}

fn nodes(seen: &Seen) -> Nodes<'_> {
    Nodes { all: &seen.nodes, answering: &seen.cluster.answering }
}
