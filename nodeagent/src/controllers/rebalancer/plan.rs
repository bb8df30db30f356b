//! Which pod is evicted, if any: one that may be, of the least priority, and of those the one that uses most of what the others wait for.

use std::collections::BTreeMap;

use machine::config::{Rebalance, RebalanceMode};

use super::history::History;
use super::source::{Cluster, Source, choose};
use crate::controllers::leader::Seat;
use crate::controllers::machine::Machine;
use crate::plan::{Missing, Plan};
use crate::resources::overlay::ClusterNode;
use crate::resources::pressure::Rebalancing;
use crate::resources::scores::NodeScore;

/// Of what all pods of the node use, the least share that makes it worth while to move one.
const LEAST_SHARE: f64 = 0.05;

#[derive(Debug)]
pub struct Seen {
    pub machine: Result<Machine, Vec<Missing>>,
    pub may_write: bool,
    /// None where it was not asked for.
    pub seat: Option<Seat>,
    pub nodes: BTreeMap<String, ClusterNode>,
    pub scores: BTreeMap<String, NodeScore>,
    pub history: History,
    /// Seconds since 1970.
    pub now: i64,
    /// Of the node that would be relieved; none where there is none, else what its agent or the API server said instead.
    pub pods: Option<Result<Vec<Candidate>, String>>,
    pub done: Done,
    pub told: Option<Rebalancing>,
}

/// What this agent did before.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Done {
    pub evicted: u64,
    pub last: String,
}

/// A pod of a node under pressure.
#[derive(Debug, Clone, PartialEq)]
pub struct Candidate {
    pub namespace: String,
    pub name: String,
    pub uid: String,
    /// Uid of what made it; empty where nothing did.
    pub owner: String,
    pub priority: i32,
    pub stays_because: Option<&'static str>,
    /// Of the resource: CPUs, bytes, bytes a second; none where its agent does not tell.
    pub uses: Option<f64>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Action {
    Evict(Box<Eviction>),
    /// Puts it on the board.
    Tell(Option<Rebalancing>),
    /// Gives the seat up.
    Leave,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Eviction {
    pub namespace: String,
    pub pod: String,
    pub uid: String,
    pub owner: String,
    pub node: String,
    pub dry_run: bool,
    pub why: String,
}

/// The node that would be relieved: its pods have to be looked at before anything is decided.
pub fn source(seen: &Seen) -> Option<Source> {
    let wanted = wanted(seen).filter(|_| seen.may_write && seen.seat == Some(Seat::Ours))?;
    choose(wanted, cluster(seen)).ok()
}

fn cluster(seen: &Seen) -> Cluster<'_> {
    Cluster { nodes: &seen.nodes, scores: &seen.scores, history: &seen.history, now: seen.now }
}

/// What is wanted on a control plane, if anything.
pub fn wanted(seen: &Seen) -> Option<&Rebalance> {
    let machine = seen.machine.as_ref().ok().filter(|machine| machine.is_control_plane())?;
    Some(&machine.config.cluster.pressure.rebalance).filter(|rebalance| rebalance.mode != RebalanceMode::Off)
}

pub fn plan(seen: &Seen) -> Plan<Action> {
    if let Err(missing) = &seen.machine {
        return Plan::Waiting(missing.clone());
    }
    let Some(wanted) = wanted(seen) else {
        let leave = (seen.seat == Some(Seat::Ours)).then_some(Action::Leave);
        return Plan::from_actions(leave.into_iter().chain(tell(seen, None)).collect());
    };
    if !seen.may_write {
        return Plan::Waiting(vec![Missing::new("this machine's API server, and manifests")]);
    }
    let (leader, doing) = match (&seen.seat, &seen.machine) {
        (None, _) | (_, Err(_)) => return Plan::Waiting(vec![Missing::new("etcd")]),
        (Some(Seat::Others(name)), _) => (name.clone(), "another control plane decides".to_owned()),
        (Some(Seat::Ours), Ok(machine)) => {
            let doing = match choose(wanted, cluster(seen)) {
                Err(why) => why.to_owned(),
                Ok(source) => match victim(seen, &source) {
                    Ok(pod) => return Plan::Act(vec![Action::Evict(Box::new(eviction(pod, &source, wanted.mode)))]),
                    Err(why) => why,
                },
            };
            (machine.facts.node_name.clone(), doing)
        }
    };
    let mode = if wanted.mode == RebalanceMode::DryRun { "dryRun" } else { "on" };
    let Done { evicted, last } = seen.done.clone();
    Plan::from_actions(tell(seen, Some(Rebalancing { mode: mode.to_owned(), leader, doing, last, evicted })))
}

fn tell(seen: &Seen, status: Option<Rebalancing>) -> Vec<Action> {
    if seen.told == status { Vec::new() } else { vec![Action::Tell(status)] }
}

/// The pod, or why none of the node's is.
fn victim<'a>(seen: &'a Seen, source: &Source) -> Result<&'a Candidate, String> {
    let pods = match &seen.pods {
        Some(Ok(pods)) => pods,
        Some(Err(error)) => return Err(error.clone()),
        None => return Err(format!("the pods of {} are not known", source.node)),
    };
    let all: f64 = pods.iter().filter_map(|pod| pod.uses).sum();
    let worth = |pod: &&Candidate| pod.uses.is_some_and(|uses| uses > 0.0 && uses >= all * LEAST_SHARE);
    let free = pods.iter().filter(|pod| pod.stays_because.is_none() && seen.history.may_touch(&pod.owner, seen.now));
    let by_use = |one: &&Candidate, other: &&Candidate| {
        let uses = |pod: &Candidate| pod.uses.unwrap_or(0.0);
        one.priority.cmp(&other.priority).then(uses(other).total_cmp(&uses(one))).then(one.uid.cmp(&other.uid))
    };
    free.filter(worth).min_by(by_use).ok_or_else(|| {
        let stay = pods.iter().filter(|pod| pod.stays_because.is_some()).count();
        format!("none of the {} pods of {} can be evicted and would relieve it; {stay} have to stay", pods.len(), source.node)
    })
}

fn eviction(pod: &Candidate, source: &Source, mode: RebalanceMode) -> Eviction {
    let Source { node, resource, lasted, better } = source;
    Eviction {
        namespace: pod.namespace.clone(),
        pod: pod.name.clone(),
        uid: pod.uid.clone(),
        owner: pod.owner.clone(),
        node: node.clone(),
        dry_run: mode != RebalanceMode::On,
        why: format!("{node} has been under {resource} pressure for {lasted} s, and {better} is better off"),
    }
}

#[cfg(test)]
mod tests;
