//! Which labels and taints the Node should have.
//!
//! Labels are applied server-side under a field manager of our own, so the API server knows which are ours. Taints are one atomic list that
//! others write to as well: ours are written down in an annotation.

use std::collections::{BTreeMap, BTreeSet};

use machine::config::{Config, Role, Taint};

use crate::controllers::kubelet;
use crate::controllers::machine::Machine;
use crate::plan::{Missing, Plan};
use crate::resources::cluster::NodeStatus;

#[derive(Debug)]
pub struct Seen {
    pub machine: Result<Machine, Vec<Missing>>,
    /// None until the kubelet registered the Node.
    pub status: Option<NodeStatus>,
    pub api_server_ready: bool,
}

#[derive(Debug, Clone, PartialEq)]
pub enum Action {
    /// Replaces the list, all of it.
    SetTaints { taints: Vec<Taint> },
    /// Labels that are ours, and the note of our taints.
    Apply { labels: BTreeMap<String, String>, owned_taints: String },
}

pub fn plan(seen: &Seen) -> Plan<Action> {
    let machine = match &seen.machine {
        Ok(machine) => machine,
        Err(missing) => return Plan::Waiting(missing.clone()),
    };
    let config = &machine.config;
    let Some(status) = seen.status.as_ref().filter(|_| seen.api_server_ready) else {
        return Plan::Waiting(vec![Missing::new(format!("Node {}", machine.facts.node_name))]);
    };
    let mut actions = Vec::new();
    let mut missing = Vec::new();
    let labels = labels(config);
    let owned_taints = note(&kubelet::taints(config));
    let taints = wanted_taints(config, status);
    if !same(&taints, &status.taints) {
        if may_set_taints(config) {
            actions.push(Action::SetTaints { taints });
        } else {
            // NodeRestriction lets a node's own identity set taints at registration only.
            missing.push(Missing::new("an administrator to change the Node's taints to those of machine.kubelet.taints"));
        }
    }
    let labelled = labels.iter().all(|(name, value)| status.labels.get(name) == Some(value));
    let owned: BTreeSet<&String> = status.owned_labels.iter().collect();
    let noted = missing.is_empty() && status.owned_taints != owned_taints;
    if !labelled || owned != labels.keys().collect() || noted {
        let owned_taints = if missing.is_empty() { owned_taints } else { status.owned_taints.clone() };
        actions.push(Action::Apply { labels, owned_taints });
    }
    if actions.is_empty() && !missing.is_empty() { Plan::Waiting(missing) } else { Plan::from_actions(actions) }
}

/// A control plane that holds the authority's key acts as the cluster's super-user.
pub fn may_set_taints(config: &Config) -> bool {
    config.machine.role == Role::ControlPlane && config.cluster.certificate_authorities.kubernetes.key.is_some()
}

/// The role's label, which a kubelet may not set itself, and the user's.
fn labels(config: &Config) -> BTreeMap<String, String> {
    let role = (config.machine.role == Role::ControlPlane).then(|| (kubelet::CONTROL_PLANE.to_owned(), String::new()));
    role.into_iter().chain(config.machine.kubelet.labels.clone()).collect()
}

/// What others put there, and ours. The role's taint is ours whether it was written down or not: the kubelet registers with it.
fn wanted_taints(config: &Config, status: &NodeStatus) -> Vec<Taint> {
    let ours = kubelet::taints(config);
    let formerly: BTreeSet<&str> = status.owned_taints.split(',').collect();
    let is_ours = |taint: &Taint| {
        let known = taint.key == kubelet::CONTROL_PLANE || formerly.contains(text(taint).as_str());
        known || ours.iter().any(|own| same_key(own, taint))
    };
    let of_others = status.taints.iter().filter(|taint| !is_ours(taint));
    of_others.cloned().chain(ours.iter().cloned()).collect()
}

/// Kubernetes tells taints apart by key and effect.
fn same_key(one: &Taint, other: &Taint) -> bool {
    one.key == other.key && one.effect == other.effect
}

fn same(some: &[Taint], others: &[Taint]) -> bool {
    some.len() == others.len() && some.iter().all(|taint| others.contains(taint))
}

/// `key=value:effect` each, separated by commas.
fn note(taints: &[Taint]) -> String {
    taints.iter().map(text).collect::<Vec<_>>().join(",")
}

fn text(taint: &Taint) -> String {
    format!("{}={}:{:?}", taint.key, taint.value, taint.effect)
}

#[cfg(test)]
mod tests;
