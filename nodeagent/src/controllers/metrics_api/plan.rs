//! Which objects are to be made, changed and deleted.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use controlplane::metrics_api::Group;

use crate::controllers::machine::{Machine, missing};
use crate::metrics_api::is_wanted;
use crate::plan::{Missing, Plan};
use crate::resources::metrics_api::{MetricsApi, MetricsServer, ServerState};

#[derive(Debug, Clone)]
pub struct Seen {
    pub machine: Result<Machine, Vec<Missing>>,
    /// This control plane's API server answers, and the manifests were applied.
    pub applied: bool,
    pub servers: BTreeMap<String, MetricsServer>,
    /// Control planes; none as long as it is not known who they are.
    pub members: BTreeSet<String>,
    /// Groups for which the config's manifests have an APIService, and the manifest's name.
    pub claimed: BTreeMap<Group, String>,
    /// None where nobody looked.
    pub found: Option<Found>,
    /// What the board says, by the group's name.
    pub told: BTreeMap<String, MetricsApi>,
    /// Whether this machine may say again that it answers: not when others marked it too often of late.
    pub may_return: bool,
}

/// What the cluster has.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Found {
    pub registered: Vec<Registered>,
    /// The Service is there and as it should be.
    pub service: bool,
    /// By the node's name.
    pub slices: BTreeMap<String, Slice>,
}

/// An APIService of one of the groups, of whichever version.
#[derive(Debug, Clone, PartialEq)]
pub struct Registered {
    pub name: String,
    pub group: Group,
    pub by: By,
    pub identity: Identity,
    /// Why it is not available; empty where it is.
    pub message: String,
}

#[derive(Debug, Clone, PartialEq)]
pub enum By {
    /// The agents. Whether it is all as it should be.
    Corten { current: bool },
    /// The name of another Service.
    Other(String),
}

/// Of an object as it was looked at.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Identity {
    pub uid: Option<String>,
    pub resource_version: Option<String>,
}

#[derive(Debug, Clone, PartialEq)]
pub struct Slice {
    pub address: String,
    pub ready: bool,
}

#[derive(Debug, Clone, PartialEq)]
pub enum Action {
    PutService,
    RemoveService,
    PutSlice {
        node: String,
        address: IpAddr,
        ready: bool,
    },
    RemoveSlice {
        node: String,
    },
    /// Over the one that was looked at, or where there was none.
    Register {
        group: Group,
        over: Option<Identity>,
    },
    Unregister {
        name: String,
        identity: Identity,
    },
    /// Puts it on the board.
    Tell(BTreeMap<String, MetricsApi>),
}

/// Whether this machine can see to it.
pub fn is_concerned(machine: &Machine) -> bool {
    machine.is_control_plane() && machine.config.cluster.certificate_authorities.kubernetes.key.is_some()
}

pub fn plan(seen: &Seen) -> Plan<Action> {
    let machine = match &seen.machine {
        Ok(machine) if is_concerned(machine) => machine,
        Ok(_) => return Plan::from_actions(tell(seen, BTreeMap::new()).into_iter().collect()),
        Err(missing) => return Plan::Waiting(missing.clone()),
    };
    let Some(found) = seen.found.as_ref().filter(|_| seen.applied) else {
        return Plan::Waiting(missing([(seen.applied, "manifests"), (seen.found.is_some(), "APIServices")]));
    };
    Plan::from_actions(if is_wanted(machine) { keep(seen, machine, found) } else { end(seen, machine, found) })
}

fn keep(seen: &Seen, machine: &Machine, found: &Found) -> Vec<Action> {
    let own = &machine.facts.node_name;
    let answers = seen.servers.get(own).is_some_and(|server| server.state == ServerState::Answering);
    let mut actions = Vec::new();
    if !found.service {
        actions.push(Action::PutService);
    }
    if let Some(address) = machine.facts.node_ips.first() {
        let wanted = Slice { address: address.to_string(), ready: answers };
        let there = found.slices.get(own);
        // Whom others do not hear again and again is not asked for a while, as long as somebody else is.
        let marked = answers && there.is_some_and(|slice| slice.address == wanted.address && !slice.ready);
        let rests = marked && !seen.may_return && remains(seen, found, own);
        // Nobody has to know of one that has never answered.
        if !rests && there.map_or(answers, |slice| *slice != wanted) {
            actions.push(Action::PutSlice { node: own.clone(), address: *address, ready: answers });
        }
    }
    let others = found.slices.iter().filter(|(name, _)| *name != own);
    actions.extend(others.filter_map(|(name, slice)| of_another(seen, found, own, name, slice)));
    let mut told = BTreeMap::new();
    for group in Group::ALL {
        let (of_group, status) = register(seen, found, group, answers);
        actions.extend(of_group);
        told.insert(group.name().to_owned(), status);
    }
    actions.extend(tell(seen, told));
    actions
}

/// What is due for another control plane's slice.
fn of_another(seen: &Seen, found: &Found, own: &str, name: &str, slice: &Slice) -> Option<Action> {
    if seen.members.contains(own) && !seen.members.contains(name) {
        return Some(Action::RemoveSlice { node: name.to_owned() });
    }
    let silent = seen.servers.get(name).is_some_and(|server| server.state == ServerState::Silent);
    let address = slice.address.parse().ok().filter(|_| silent && slice.ready && remains(seen, found, name))?;
    Some(Action::PutSlice { node: name.to_owned(), address, ready: false })
}

/// Whether somebody else is asked who answers, as far as this machine knows.
fn remains(seen: &Seen, found: &Found, but: &str) -> bool {
    let answers = |state| matches!(state, ServerState::Answering | ServerState::Heard);
    let mut asked = found.slices.iter().filter(|(name, slice)| *name != but && slice.ready);
    asked.any(|(name, _)| seen.servers.get(name).is_some_and(|server| answers(server.state)))
}

/// What is due for an API, and who serves it.
fn register(seen: &Seen, found: &Found, group: Group, answers: bool) -> (Vec<Action>, MetricsApi) {
    let of_group = || found.registered.iter().filter(move |registered| registered.group == group);
    let other = of_group().find_map(|registered| match &registered.by {
        By::Other(service) => Some((service.clone(), registered.message.clone())),
        By::Corten { .. } => None,
    });
    let claimed = seen.claimed.get(&group).map(|manifest| (format!("manifest {manifest}"), String::new()));
    if let Some((served_by, message)) = other.or(claimed) {
        let ours = of_group().filter(|registered| matches!(registered.by, By::Corten { .. }));
        let actions = ours.map(unregister).collect();
        return (actions, MetricsApi { served_by, message });
    }
    let own = of_group().find(|registered| registered.name == group.object_name());
    let current = own.is_some_and(|own| own.by == By::Corten { current: true });
    let message = own.map(|own| own.message.clone()).unwrap_or_default();
    // An API that nobody answers is worse than none: clients find it, and fail.
    let due = answers && !current;
    let action = due.then(|| Action::Register { group, over: own.map(|own| own.identity.clone()) });
    (action.into_iter().collect(), MetricsApi { served_by: "corten".to_owned(), message })
}

/// Switched off: this machine's part goes at once, and what the control planes share with the last of them.
fn end(seen: &Seen, machine: &Machine, found: &Found) -> Vec<Action> {
    let own = &machine.facts.node_name;
    let mut actions = Vec::new();
    if found.slices.contains_key(own) {
        actions.push(Action::RemoveSlice { node: own.clone() });
    }
    if found.slices.keys().all(|name| name == own) {
        let ours = found.registered.iter().filter(|registered| matches!(registered.by, By::Corten { .. }));
        actions.extend(ours.map(unregister));
        if found.service {
            actions.push(Action::RemoveService);
        }
    }
    actions.extend(tell(seen, BTreeMap::new()));
    actions
}

fn unregister(registered: &Registered) -> Action {
    Action::Unregister { name: registered.name.clone(), identity: registered.identity.clone() }
}

fn tell(seen: &Seen, status: BTreeMap<String, MetricsApi>) -> Option<Action> {
    (seen.told != status).then_some(Action::Tell(status))
}

#[cfg(test)]
mod tests;
